//! Received bytes that have not been used yet: usually one chunk of the runtime's memory, copied only when a head is spread
//! over several. Called by `server` (heads) and `exchange` (bodies).

use runtime::io::Conn;
use std::io;

/// The unread bytes of a connection.
pub(crate) struct Input<C: Conn> {
    chunk: Option<C::Chunk>,
    /// Bytes of a head that came in pieces; used before the chunk is.
    gathered: Vec<u8>,
    used: usize,
    ended: bool,
}

impl<C: Conn> Input<C> {
    pub(crate) fn new() -> Input<C> {
        Input { chunk: None, gathered: Vec::new(), used: 0, ended: false }
    }

    /// What is there.
    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.chunk {
            Some(chunk) => &chunk.as_ref()[self.used..],
            None => &self.gathered[self.used..],
        }
    }

    /// The peer sends no more (bytes may still be unread).
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Marks the next `count` bytes as used; memory that is used up is given back at once.
    pub(crate) fn consume(&mut self, count: usize) {
        assert!(count <= self.bytes().len(), "used {count} of {} bytes", self.bytes().len());
        self.used += count;
        if self.bytes().is_empty() {
            self.chunk = None;
            self.gathered = Vec::new();
            self.used = 0;
        }
    }

    /// Waits for more bytes behind those that are there. False: there are none to come.
    pub(crate) async fn more(&mut self, conn: &mut C) -> io::Result<bool> {
        if self.ended {
            return Ok(false);
        }
        let next = conn.recv().await?;
        if next.as_ref().is_empty() {
            self.ended = true;
            return Ok(false);
        }
        if self.bytes().is_empty() {
            self.chunk = Some(next);
            self.gathered = Vec::new();
            self.used = 0;
            return Ok(true);
        }
        let mut gathered = self.bytes().to_vec();
        gathered.extend_from_slice(next.as_ref());
        self.gathered = gathered;
        self.chunk = None;
        self.used = 0;
        Ok(true)
    }
}
