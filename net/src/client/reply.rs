//! An origin's answer: its head, and its body as it comes. Called by engines.
//!
//! Invariants
//! 1. A body that ends early is an error, never a shorter body.
//! 2. A connection goes back to the pool only after the last byte of a body whose end both sides know, and not with bytes behind it.

use super::pool::{Host, Link};
use super::url::Url;
use super::{Client, ClientError};
use crate::http1::{ChunkedDecoder, ReplyHead, ReplyLength};
use runtime::buffer::Buffer;
use runtime::io::{Hangup, Io};
use std::io;

/// Received pieces of a body move the deadline: slower than this in 30 s is dead, unless it is passed on as it comes.
const STEP_BYTES: usize = 64 << 10;

enum Body {
    /// Bytes left.
    Length(u64),
    Chunked(Box<ChunkedDecoder>),
    UntilClose,
    Ended,
}

/// An answer under way.
pub struct Reply<I: Io> {
    /// Status and fields.
    pub head: ReplyHead,
    /// Where it came from: the last of the redirects.
    pub url: Url,
    client: Client<I>,
    host: Host,
    link: Option<Link<I>>,
    /// Received and not yet used.
    ahead: Vec<u8>,
    used: usize,
    body: Body,
}

impl<I: Io> Reply<I> {
    pub(super) fn new(
        client: &Client<I>,
        url: Url,
        link: Link<I>,
        (head, is_head): (ReplyHead, bool),
        ahead: Vec<u8>,
    ) -> Self {
        let host = Host::of(&url);
        let body = match head.length {
            // RFC 9112 §6.3 item 1: whatever its fields say.
            _ if is_head => Body::Ended,
            ReplyLength::Length(0) => Body::Ended,
            ReplyLength::Length(length) => Body::Length(length),
            ReplyLength::Chunked => Body::Chunked(Box::default()),
            ReplyLength::UntilClose => Body::UntilClose,
        };
        let mut reply =
            Reply { head, url, client: client.clone(), host, link: Some(link), ahead, used: 0, body };
        reply.maybe_give_back();
        reply
    }

    /// Length of the body, if its head says it.
    pub fn length(&self) -> Option<u64> {
        match self.head.length {
            ReplyLength::Length(length) => Some(length),
            _ => None,
        }
    }

    /// The body is over.
    pub fn has_ended(&self) -> bool {
        matches!(self.body, Body::Ended)
    }

    /// Fills `buf[from..to]` with the next bytes of the body; fewer mean that it has ended. The buffer comes back filled up
    /// to the count that is told even with an error.
    pub async fn read(
        &mut self,
        mut buf: Buffer,
        from: usize,
        to: usize,
    ) -> (usize, Result<(), ClientError>, Buffer) {
        let mut at = from;
        while at < to && !self.has_ended() {
            let (read, back) = self.read_step(buf, at, to.min(at + STEP_BYTES)).await;
            buf = back;
            match read {
                Ok(n) => at += n,
                Err(e) => {
                    let late = self.link.take().is_some_and(|link| link.guard.is_late());
                    let e = if late { ClientError::Timeout("its body") } else { e };
                    return (at - from, Err(e), buf);
                }
            }
            self.maybe_give_back();
        }
        (at - from, Ok(()), buf)
    }

    /// Whether more was received than was read: the next read need not wait.
    pub fn has_received(&self) -> bool {
        self.used < self.ahead.len()
    }

    /// As [`Reply::read`], but gives what has come as soon as anything has, at most `most` bytes. None: the body has ended. A stream
    /// may be as slow as it likes: the deadline is for silence, and a caller who keeps others waiting has one of his own.
    pub async fn read_some(
        &mut self,
        mut buf: Buffer,
        most: usize,
    ) -> (usize, Result<(), ClientError>, Buffer) {
        let read = self.some_into(&mut buf[..most]).await;
        self.maybe_give_back();
        match read {
            Ok(count) => (count, Ok(()), buf),
            Err(e) => {
                let late = self.link.take().is_some_and(|link| link.guard.is_late());
                (0, Err(if late { ClientError::Timeout("its body") } else { e }), buf)
            }
        }
    }

    async fn some_into(&mut self, to: &mut [u8]) -> Result<usize, ClientError> {
        while !self.has_ended() {
            if self.used == self.ahead.len() {
                let link = self.link.as_mut().ok_or(ClientError::Short)?;
                let wait_ns = self.client.inner.limits.body_wait_ns;
                link.guard.set(self.client.now_ns() + wait_ns, Hangup::Both, false);
                if !link.stream.more(&mut self.ahead).await? {
                    // Hung up on is not ended.
                    if !matches!(self.body, Body::UntilClose) || link.guard.is_late() {
                        return Err(ClientError::Short);
                    }
                    self.body = Body::Ended;
                    return Ok(0);
                }
            }
            let count = self.take_ahead(to)?;
            if count > 0 {
                return Ok(count);
            }
        }
        Ok(0)
    }

    /// Takes what was received, as far as it is body; it may all be framing.
    fn take_ahead(&mut self, to: &mut [u8]) -> Result<usize, ClientError> {
        let there = &self.ahead[self.used..];
        let there = &there[..there.len().min(to.len())];
        let (data, consumed, has_ended) = match &mut self.body {
            Body::Chunked(decoder) => {
                let step = decoder.decode(there).map_err(|e| ClientError::Malformed(e.to_string()))?;
                (&there[step.data], step.consumed, step.done)
            }
            Body::Length(left) => {
                let data = &there[..there.len().min(usize::try_from(*left).unwrap_or(usize::MAX))];
                *left -= data.len() as u64;
                (data, data.len(), *left == 0)
            }
            Body::UntilClose => (there, there.len(), false),
            Body::Ended => (&there[..0], 0, true),
        };
        let count = data.len();
        to[..count].copy_from_slice(data);
        self.consume(consumed);
        if has_ended {
            self.body = Body::Ended;
        }
        Ok(count)
    }

    async fn read_step(
        &mut self,
        buf: Buffer,
        from: usize,
        to: usize,
    ) -> (Result<usize, ClientError>, Buffer) {
        match &self.link {
            Some(link) => link.guard.set(
                self.client.now_ns() + self.client.inner.limits.body_wait_ns,
                Hangup::Both,
                false,
            ),
            None => return (Err(ClientError::Short), buf),
        }
        match self.body {
            Body::Chunked(_) => self.read_chunked(buf, from, to).await,
            _ => self.read_plain(buf, from, to).await,
        }
    }

    async fn read_plain(
        &mut self,
        mut buf: Buffer,
        from: usize,
        to: usize,
    ) -> (Result<usize, ClientError>, Buffer) {
        let left = if let Body::Length(left) = self.body { left } else { u64::MAX };
        let to = to.min(from.saturating_add(usize::try_from(left).unwrap_or(usize::MAX)));
        let there = self.ahead.len() - self.used;
        let read = if there > 0 {
            let n = there.min(to - from);
            buf[from..from + n].copy_from_slice(&self.ahead[self.used..self.used + n]);
            self.consume(n);
            n
        } else {
            let link = self.link.as_mut().expect("checked by the caller");
            let (read, back) = link.stream.fill(buf, from, to).await;
            buf = back;
            match read {
                Ok(n) if n < to - from && !matches!(self.body, Body::UntilClose) => {
                    return (Err(ClientError::Short), buf);
                }
                Ok(n) => {
                    if n < to - from {
                        // Hung up on is not ended.
                        if link.guard.is_late() {
                            return (Err(ClientError::Short), buf);
                        }
                        self.body = Body::Ended;
                    }
                    n
                }
                Err(e) => return (Err(ClientError::Lost(e)), buf),
            }
        };
        if let Body::Length(left) = &mut self.body {
            *left -= read as u64;
            if *left == 0 {
                self.body = Body::Ended;
            }
        }
        (Ok(read), buf)
    }

    async fn read_chunked(
        &mut self,
        mut buf: Buffer,
        from: usize,
        to: usize,
    ) -> (Result<usize, ClientError>, Buffer) {
        let mut at = from;
        while at < to {
            if self.used == self.ahead.len() {
                let link = self.link.as_mut().expect("checked by the caller");
                match link.stream.more(&mut self.ahead).await {
                    Ok(true) => {}
                    Ok(false) => return (Err(ClientError::Short), buf),
                    Err(e) => return (Err(ClientError::Lost(e)), buf),
                }
            }
            let Body::Chunked(decoder) = &mut self.body else { unreachable!("checked by the caller") };
            // Not more input than there is room for its data: framing only makes it shorter.
            let bytes = &self.ahead[self.used..];
            let bytes = &bytes[..bytes.len().min(to - at)];
            let step = match decoder.decode(bytes) {
                Ok(step) => step,
                Err(e) => return (Err(ClientError::Malformed(e.to_string())), buf),
            };
            let data = &bytes[step.data.clone()];
            buf[at..at + data.len()].copy_from_slice(data);
            at += data.len();
            let (consumed, done) = (step.consumed, step.done);
            self.consume(consumed);
            if done {
                self.body = Body::Ended;
                break;
            }
        }
        (Ok(at - from), buf)
    }

    fn consume(&mut self, count: usize) {
        self.used += count;
        if self.used == self.ahead.len() {
            self.ahead.clear();
            self.used = 0;
        }
    }

    /// The last byte was read: the connection may serve the next request, unless bytes follow that nobody asked for. Those that were
    /// received with the answer are seen here, others by the pool when it looks at the connection.
    fn maybe_give_back(&mut self) {
        if !self.has_ended() {
            return;
        }
        let Some(link) = self.link.take() else { return };
        if self.head.keep_alive && self.used == self.ahead.len() && !link.guard.is_late() {
            self.client.give_back(self.host.clone(), link);
        }
    }
}

impl From<io::Error> for ClientError {
    fn from(e: io::Error) -> ClientError {
        ClientError::Lost(e)
    }
}
