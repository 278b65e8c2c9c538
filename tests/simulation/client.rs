//! A client of the blob interface over simulated connections: strict about what it gets, patient about what it does not.

use crate::boot::blob_addr;
use runtime::io::{Conn, Io};
use runtime::twin::{TwinConn, TwinIo};
use std::collections::BTreeMap;

/// A whole answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

/// The connection ended, or never was, before the answer was whole; what of a body came before that.
#[derive(Debug)]
pub struct Cut {
    pub status: Option<u16>,
    pub body: Vec<u8>,
}

/// One client; connects when it has to.
pub struct Client {
    io: TwinIo,
    conn: Option<TwinConn>,
    unread: Vec<u8>,
}

fn cut() -> Cut {
    Cut { status: None, body: Vec::new() }
}

impl Client {
    pub fn new(io: TwinIo) -> Client {
        Client { io, conn: None, unread: Vec::new() }
    }

    /// Sends a request whose head is `line` and `fields`, and reads the answer.
    pub async fn call(&mut self, line: &str, fields: &str, body: &[u8]) -> Result<Reply, Cut> {
        let reply = self.try_call(line, fields, body).await;
        let last = reply.as_ref().map_or(true, |r| r.headers.get("connection").is_some_and(|v| v == "close"));
        if last {
            self.conn = None;
            self.unread.clear();
        }
        reply
    }

    async fn try_call(&mut self, line: &str, fields: &str, body: &[u8]) -> Result<Reply, Cut> {
        if self.conn.is_none() {
            self.unread.clear();
            self.conn = Some(self.io.connect(blob_addr()).await.map_err(|_| cut())?);
        }
        let conn = self.conn.as_mut().expect("just connected");
        let head = format!("{line} HTTP/1.1\r\nHost: twin\r\n{fields}\r\n");
        conn.send(head.as_bytes(), body).await.map_err(|_| cut())?;
        let (status, headers) = loop {
            if let Some(end) = self.unread.windows(4).position(|w| w == b"\r\n\r\n") {
                let head: Vec<u8> = self.unread.drain(..end + 4).collect();
                break parse_head(&head);
            }
            self.more().await.ok_or_else(cut)?;
        };
        let length = headers.get("content-length").map_or(0, |v| v.parse().expect("a length"));
        let length: usize = if line.starts_with("HEAD") || status == 304 { 0 } else { length };
        while self.unread.len() < length {
            if self.more().await.is_none() {
                return Err(Cut { status: Some(status), body: std::mem::take(&mut self.unread) });
            }
        }
        let body = self.unread.drain(..length).collect();
        assert!(self.unread.is_empty(), "bytes behind an answer that nobody asked for");
        Ok(Reply { status, headers, body })
    }

    async fn more(&mut self) -> Option<()> {
        let chunk = self.conn.as_mut()?.recv().await.ok()?;
        self.unread.extend_from_slice(&chunk);
        (!chunk.is_empty()).then_some(())
    }
}

fn parse_head(head: &[u8]) -> (u16, BTreeMap<String, String>) {
    let text = std::str::from_utf8(head).expect("a head is text");
    let mut lines = text.split("\r\n");
    let line = lines.next().expect("a status line");
    let status = line.strip_prefix("HTTP/1.1 ").and_then(|l| l.get(..3)).expect("a status");
    let fields = lines.filter(|l| !l.is_empty()).map(|l| {
        let (name, value) = l.split_once(':').expect("a field");
        (name.to_ascii_lowercase(), value.trim().to_owned())
    });
    (status.parse().expect("a number"), fields.collect())
}
