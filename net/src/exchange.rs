//! One request and its answer, as a service sees them: the body comes in through here, the answer goes out.
//!
//! Called by services (an engine's `serve`). Reading the body for the first time sends `100 Continue` if the client waits
//! for it, so a service that refuses early never makes the client send (RFC 9110 §10.1.1).
//!
//! Invariants
//! 1. A body is bounded by what the service reads; what it leaves is discarded up to [`DISCARD_BYTES_MAX`], beyond that the
//!    connection closes.
//! 2. Every wait has a deadline that moves only with progress.
//! 3. After a failed send or a body that ended early nothing more is sent on the connection.

mod relayed;
mod streamed;

pub use relayed::Length;

use crate::deadline::Guard;
use crate::http1::{CONTINUE, ChunkedDecoder, HttpDate, ResponseHead, Status};
use crate::http2::Stream;
use crate::input::Input;
use crate::server::Limits;
use crate::transport::Transport;
use runtime::buffer::Buffer;
use runtime::io::{Conn, Hangup, Io};
use runtime::resident::Resident;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::task::Poll;

/// Unread body bytes that are read and thrown away to keep a connection.
pub const DISCARD_BYTES_MAX: u64 = 256 << 10;
/// Pieces whose sending moves the deadline.
const SEND_STEP_BYTES: usize = 1 << 20;
/// Pieces whose receiving moves the deadline.
const RECEIVE_STEP_BYTES: usize = 256 << 10;
/// The same, from a client whose last step was quick. Each is one receive that waits for all of it: small ones empty the
/// socket and wake its sender four times as often (1,240 against 996 us of CPU per MiB of an upload).
const QUICK_STEP_BYTES: usize = 1 << 20;
/// A quick step takes less than this part of what it may.
const QUICK_PART: u64 = 64;

/// The longest wait for a service: a backstop, each such wait has closer bounds of its own.
const SERVICE_WAIT_NS: u64 = 24 * 3600 * 1_000_000_000;

pub(crate) enum Body {
    None,
    /// Bytes left.
    Length(u64),
    Chunked(Box<ChunkedDecoder>),
    /// As long as frames of HTTP/2 say.
    Open,
}

/// What the server keeps of a head while the service works.
pub(crate) struct Framing {
    pub(crate) body: Body,
    pub(crate) keep_alive: bool,
    pub(crate) expects_continue: bool,
    pub(crate) is_head: bool,
    /// HTTP/1.0: it knows no chunks.
    pub(crate) is_old: bool,
}

/// What a request is received from and answered on.
pub(crate) enum Wire<'c, I: Io> {
    /// A connection of HTTP/1.1, which is this request's until it is answered.
    Whole { conn: &'c mut Transport<I::Conn>, input: &'c mut Input<Transport<I::Conn>> },
    /// A stream among others of HTTP/2.
    Stream(&'c mut Stream),
}

/// A request under way.
pub struct Exchange<'c, I: Io> {
    pub(crate) io: &'c I,
    pub(crate) wire: Wire<'c, I>,
    pub(crate) guard: &'c Guard,
    pub(crate) limits: &'c Limits,
    pub(crate) out: &'c mut Vec<u8>,
    pub(crate) date: &'c HttpDate,
    pub(crate) peer: Option<IpAddr>,
    pub(crate) framing: Framing,
    pub(crate) status: u16,
    pub(crate) sent_bytes: u64,
    pub(crate) received_bytes: u64,
    /// The last step of the body was quick.
    pub(crate) is_quick: bool,
    /// A byte of the answer may have been sent.
    pub(crate) answering: bool,
    /// When the first bytes of the answer were given to the network.
    pub(crate) begun_ns: Option<u64>,
    /// The answer's body goes out in chunks.
    pub(crate) is_chunked: bool,
}

impl<I: Io> Exchange<'_, I> {
    /// The machine.
    pub fn io(&self) -> &I {
        self.io
    }

    /// Who asks, if the service wants to know and it is known.
    pub fn peer(&self) -> Option<IpAddr> {
        self.peer
    }

    /// What is spoken, as access logs call it.
    pub fn protocol(&self) -> &'static str {
        match &self.wire {
            Wire::Stream(_) => "HTTP/2.0",
            Wire::Whole { .. } if self.framing.is_old => "HTTP/1.0",
            Wire::Whole { .. } => "HTTP/1.1",
        }
    }

    /// Length of the body, if it is known before it is read.
    pub fn body_length(&self) -> Option<u64> {
        match &self.framing.body {
            Body::None => Some(0),
            Body::Length(left) => Some(*left),
            Body::Chunked(_) | Body::Open => None,
        }
    }

    fn due(&self, wait_ns: u64, how: Hangup) {
        self.guard.set(self.io.now_ns() + wait_ns, how, false);
    }

    /// Fills `buf[from..to]` with the next bytes of the body; fewer mean that the body has ended.
    pub async fn read_body(
        &mut self,
        mut buf: Buffer,
        from: usize,
        to: usize,
    ) -> (io::Result<usize>, Buffer) {
        let mut at = from;
        while at < to {
            if matches!(self.framing.body, Body::None) {
                break;
            }
            if let Err(e) = self.send_continue().await {
                return (Err(e), buf);
            }
            let step = if self.is_quick { QUICK_STEP_BYTES } else { RECEIVE_STEP_BYTES };
            let step_end = to.min(at + self.left_of_body(step));
            let begin_ns = self.io.now_ns();
            let wait_ns = self.limits.body_wait_ns * (step_end - at).div_ceil(RECEIVE_STEP_BYTES) as u64;
            self.due(wait_ns, Hangup::Receive);
            let (read, back) = match (&self.wire, &self.framing.body) {
                (Wire::Stream(_), _) => Box::pin(self.read_stream(buf, at, step_end)).await,
                (_, Body::Chunked(_)) => self.read_chunked(buf, at, step_end).await,
                _ => self.read_length(buf, at, step_end).await,
            };
            let was_quick = self.io.now_ns() - begin_ns < wait_ns / QUICK_PART;
            buf = back;
            match read {
                Ok(n) => {
                    // What came along with the head says nothing of the client's pace.
                    self.is_quick = was_quick && (self.is_quick || n >= RECEIVE_STEP_BYTES);
                    at += n;
                }
                Err(e) => {
                    self.framing.keep_alive = false;
                    return (Err(e), buf);
                }
            }
        }
        self.received_bytes += (at - from) as u64;
        (Ok(at - from), buf)
    }

    /// What is left of the body, at most `most`. Chunks come in pieces anyhow: of them a small step.
    fn left_of_body(&self, most: usize) -> usize {
        match self.framing.body {
            Body::Length(left) => usize::try_from(left).map_or(most, |left| left.min(most)),
            Body::None | Body::Chunked(_) | Body::Open => RECEIVE_STEP_BYTES,
        }
    }

    async fn send_continue(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.framing.expects_continue) {
            return Ok(());
        }
        self.due(self.limits.send_wait_ns, Hangup::Both);
        match &mut self.wire {
            Wire::Whole { conn, input } if input.bytes().is_empty() => conn.send(CONTINUE, &[]).await,
            _ => Ok(()),
        }
    }

    async fn read_length(&mut self, mut buf: Buffer, from: usize, to: usize) -> (io::Result<usize>, Buffer) {
        let Body::Length(left) = &mut self.framing.body else { unreachable!("checked by the caller") };
        let Wire::Whole { conn, input } = &mut self.wire else { unreachable!("checked by the caller") };
        let to = to.min(from + usize::try_from(*left).unwrap_or(usize::MAX - from));
        let there = input.bytes();
        let read = if there.is_empty() {
            let (read, back) = conn.recv_into(buf, from, to).await;
            buf = back;
            match read {
                Ok(n) if n == to - from => n,
                Ok(_) => return (Err(io::ErrorKind::UnexpectedEof.into()), buf),
                Err(e) => return (Err(e), buf),
            }
        } else {
            let n = there.len().min(to - from);
            buf[from..from + n].copy_from_slice(&there[..n]);
            input.consume(n);
            n
        };
        *left -= read as u64;
        if *left == 0 {
            self.framing.body = Body::None;
        }
        (Ok(read), buf)
    }

    async fn read_chunked(&mut self, mut buf: Buffer, from: usize, to: usize) -> (io::Result<usize>, Buffer) {
        let Wire::Whole { conn, input } = &mut self.wire else { unreachable!("checked by the caller") };
        let mut at = from;
        while at < to {
            if input.bytes().is_empty() {
                match input.more(*conn).await {
                    Ok(true) => {}
                    Ok(false) => return (Err(io::ErrorKind::UnexpectedEof.into()), buf),
                    Err(e) => return (Err(e), buf),
                }
            }
            let Body::Chunked(decoder) = &mut self.framing.body else {
                unreachable!("checked by the caller")
            };
            // Not more input than there is room for its data: framing only makes it shorter.
            let bytes = input.bytes();
            let bytes = &bytes[..bytes.len().min(to - at)];
            let step = match decoder.decode(bytes) {
                Ok(step) => step,
                Err(e) => return (Err(io::Error::new(io::ErrorKind::InvalidData, e.to_string())), buf),
            };
            let data = &bytes[step.data.clone()];
            buf[at..at + data.len()].copy_from_slice(data);
            at += data.len();
            input.consume(step.consumed);
            if step.done {
                self.framing.body = Body::None;
                break;
            }
        }
        (Ok(at - from), buf)
    }

    /// Writes the head of the answer; `fields` adds what the service has to say. A body may follow through the send methods.
    pub fn head(&mut self, status: Status, fields: impl FnOnce(ResponseHead<'_>) -> ResponseHead<'_>) {
        self.close_if_much_is_unread();
        self.status = status.code();
        self.out.clear();
        let head = ResponseHead::new(self.out, status).date(self.date);
        let head = fields(head);
        let head = if self.framing.keep_alive { head } else { head.connection_close() };
        head.finish();
    }

    fn close_if_much_is_unread(&mut self) {
        let much = match self.framing.body {
            Body::None => false,
            Body::Length(left) => left > DISCARD_BYTES_MAX || self.framing.expects_continue,
            Body::Chunked(_) | Body::Open => true,
        };
        if much {
            self.framing.keep_alive = false;
        }
    }

    fn begin(&mut self) {
        if !std::mem::replace(&mut self.answering, true) {
            self.begun_ns = Some(self.io.now_ns());
        }
    }

    /// Sends what is left of the head and all of `body`. For HEAD requests the body is left out.
    pub async fn send(&mut self, body: &[u8]) -> io::Result<()> {
        let body = if self.framing.is_head { &[] } else { body };
        self.begin();
        self.due(self.limits.send_wait_ns, Hangup::Both);
        let Wire::Whole { conn, .. } = &mut self.wire else { return Box::pin(self.give(body)).await };
        let mut parts = body.chunks(SEND_STEP_BYTES);
        let first = parts.next().unwrap_or_default();
        conn.send(self.out, first).await?;
        self.out.clear();
        for part in parts {
            self.guard.set(self.io.now_ns() + self.limits.send_wait_ns, Hangup::Both, false);
            conn.send(&[], part).await?;
        }
        self.sent_bytes += body.len() as u64;
        Ok(())
    }

    /// Sends what is left of the head and a stretch of pinned pages.
    pub async fn send_resident(&mut self, pages: &Resident, from: usize, len: usize) -> io::Result<()> {
        if self.framing.is_head {
            return self.send(&[]).await;
        }
        if matches!(self.wire, Wire::Stream(_)) {
            return self.send(&pages[from..from + len]).await;
        }
        self.begin();
        let mut done = 0;
        while done < len {
            let step = (len - done).min(SEND_STEP_BYTES);
            self.due(self.limits.send_wait_ns, Hangup::Both);
            let Wire::Whole { conn, .. } = &mut self.wire else { unreachable!("just checked") };
            conn.send_resident(self.out, pages, from + done, step).await?;
            self.out.clear();
            done += step;
        }
        self.sent_bytes += len as u64;
        Ok(())
    }

    /// A whole answer with a small body.
    pub async fn answer(&mut self, status: Status, content_type: &str, body: &[u8]) -> io::Result<()> {
        self.head(status, |head| {
            let head =
                if body.is_empty() { head } else { head.header("Content-Type", content_type.as_bytes()) };
            if status.is_bodiless() { head } else { head.content_length(body.len() as u64) }
        });
        self.send(body).await
    }

    /// A refusal or failure: `{"error":"…"}`.
    pub async fn refuse(&mut self, status: Status, message: &str) -> io::Result<()> {
        let body = error_json(message);
        let busy = matches!(status, Status::TooManyRequests | Status::ServiceUnavailable);
        self.head(status, |head| {
            let head = if busy { head.header("Retry-After", b"1") } else { head };
            head.header("Content-Type", b"application/json").content_length(body.len() as u64)
        });
        self.send(&body).await
    }

    /// The service waits for something of its own: up to `wait_ns` is not the client's fault.
    pub fn may_wait(&self, wait_ns: u64) {
        self.due(wait_ns, Hangup::Both);
    }

    /// Waits for something of the service's own that bounds itself. An error: the client went away meanwhile.
    pub async fn wait_for<T>(&mut self, work: impl Future<Output = T>) -> io::Result<T> {
        self.due(SERVICE_WAIT_NS, Hangup::Both);
        let mut work = std::pin::pin!(work);
        // What follows the body tells whether the client is still there; a next request that came early does too.
        let has_all = matches!(self.framing.body, Body::None);
        let look = async {
            match &mut self.wire {
                Wire::Stream(stream) => return Err(stream.gone().await),
                Wire::Whole { conn, input } => {
                    if !has_all || !input.bytes().is_empty() || input.more(*conn).await? {
                        std::future::pending::<()>().await;
                    }
                }
            }
            Err(io::ErrorKind::ConnectionAborted.into())
        };
        let mut look = std::pin::pin!(look);
        std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => look.as_mut().poll(cx),
        })
        .await
    }

    /// The request is HEAD: the answer has no body.
    pub fn is_head(&self) -> bool {
        self.framing.is_head
    }

    /// The status of the answer; 0 before there is one.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Bytes of the answer's body that were sent.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    /// When the first bytes of the answer were given to the network, if they were.
    pub fn begun_ns(&self) -> Option<u64> {
        self.begun_ns
    }

    /// No byte of an answer has been sent: another one can still be given.
    pub fn nothing_sent(&self) -> bool {
        !self.answering
    }

    /// The connection was hung up on for taking too long.
    pub fn is_late(&self) -> bool {
        self.guard.is_late()
    }

    /// This connection serves no further request.
    pub fn close_after(&mut self) {
        self.framing.keep_alive = false;
    }
}

/// `{"error":"…"}` and a line end.
pub(crate) fn error_json(message: &str) -> Vec<u8> {
    let mut body = b"{\"error\":\"".to_vec();
    for c in message.chars() {
        match c {
            '"' | '\\' => body.extend([b'\\', c as u8]),
            c if c.is_control() => body.push(b' '),
            c => body.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    body.extend_from_slice(b"\"}\n");
    body
}
