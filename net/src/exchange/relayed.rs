//! An answer that comes from somebody else: any status, a Date of its own, a body whose length need not be known. Called by services
//! that stand in front of an origin.
//!
//! Invariant: a body of unknown length that ends early is told from one that ends: its last chunk is missing, its stream is reset.

use super::Exchange;
use super::Wire;
use crate::http1::{HttpDate, ResponseHead};
use runtime::io::Io;
use std::io;

/// How long the body of an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// There is none, and nothing is said of it: 204, 304, or HEAD of something whose length nobody knows.
    None,
    /// This long; for HEAD, what GET would have got.
    Known(u64),
    /// Until it ends.
    Unknown,
}

impl<I: Io> Exchange<'_, I> {
    /// The Date of answers that have none of their own.
    pub fn date(&self) -> &HttpDate {
        self.date
    }

    /// As [`Exchange::head`], without a Date but what `fields` adds. The body follows through [`Exchange::send`], or, where its length
    /// is unknown, through [`Exchange::send_piece`] and [`Exchange::end_pieces`].
    pub fn relay_head(
        &mut self,
        code: u16,
        length: Length,
        fields: impl FnOnce(ResponseHead<'_>) -> ResponseHead<'_>,
    ) {
        self.close_if_much_is_unread();
        let is_whole = matches!(self.wire, Wire::Whole { .. });
        let is_open = length == Length::Unknown && !self.framing.is_head;
        self.is_chunked = is_open && is_whole && !self.framing.is_old;
        if is_open && self.framing.is_old {
            // Its end is the connection's.
            self.framing.keep_alive = false;
        }
        self.status = code;
        self.out.clear();
        let head = fields(ResponseHead::of_code(self.out, code));
        let head = match length {
            Length::Known(length) => head.content_length(length),
            Length::Unknown if self.is_chunked => head.fields(b"transfer-encoding: chunked\r\n"),
            Length::None | Length::Unknown => head,
        };
        let head = if self.framing.keep_alive { head } else { head.connection_close() };
        head.finish();
    }

    /// Sends the next piece of a body of unknown length.
    pub async fn send_piece(&mut self, piece: &[u8]) -> io::Result<()> {
        if piece.is_empty() {
            return Ok(());
        }
        if self.is_chunked {
            self.out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        }
        self.send(piece).await?;
        if self.is_chunked {
            // It goes out with what comes next.
            self.out.extend_from_slice(b"\r\n");
        }
        Ok(())
    }

    /// Such a body is whole.
    pub async fn end_pieces(&mut self) -> io::Result<()> {
        if self.is_chunked {
            self.out.extend_from_slice(b"0\r\n\r\n");
        }
        if self.out.is_empty() {
            return Ok(());
        }
        self.send(&[]).await
    }
}
