//! One connection with one request under way: sends it, reads the response, keeps its times.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Instant;

use super::plan::{Plan, Request};
use super::response::Head;
use crate::Result;
use crate::net::{Moved, connect, discard, moved, receive};

/// Bytes read at once when bodies are copied out.
const READ_BYTES: usize = 256 << 10;
/// Bytes read at once while the head is awaited; what is left of a body can then be discarded in the kernel.
const HEAD_READ_BYTES: usize = 4 << 10;
/// Bytes discarded by one call.
const DISCARD_BYTES: usize = 16 << 20;

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The response is whole and right.
    Done,
    /// Wait until the socket can be read.
    WantRead,
    /// Wait until the socket can be written.
    WantWrite,
    /// The answer was wrong or the connection broke; it must be opened again.
    Failed,
}

/// A connection and what is under way on it.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    request: Request,
    sent: usize,
    head: Vec<u8>,
    body_left: Option<u64>,
    /// When the request began to be sent.
    pub started: Instant,
    /// When the first byte of the response was there.
    pub first_byte: Option<Instant>,
    /// What the caller last asked epoll for.
    pub watching: i32,
}

/// Memory that all connections of the thread use in turn.
#[derive(Debug)]
pub struct Scratch {
    read: Vec<u8>,
    discard: bool,
    /// Body bytes received since it was last reset.
    pub body_bytes: u64,
    /// The first thing that went wrong, for the report.
    pub first_failure: Option<String>,
}

impl Scratch {
    /// `discard` drops bodies in the kernel.
    #[must_use]
    pub fn new(discard: bool) -> Self {
        Self { read: vec![0; READ_BYTES], discard, body_bytes: 0, first_failure: None }
    }

    fn fail(&mut self, why: impl FnOnce() -> String) -> Step {
        if self.first_failure.is_none() {
            self.first_failure = Some(why());
        }
        Step::Failed
    }
}

impl Connection {
    /// Connects to the server.
    pub fn open(address: SocketAddr) -> Result<Self> {
        Ok(Self {
            stream: connect(address)?,
            request: Request::default(),
            sent: 0,
            head: Vec::with_capacity(HEAD_READ_BYTES),
            body_left: None,
            started: Instant::now(),
            first_byte: None,
            watching: 0,
        })
    }

    /// The descriptor to poll.
    #[must_use]
    pub fn fd(&self) -> i32 {
        self.stream.as_raw_fd()
    }

    /// Begins the next request of `plan`.
    pub fn begin(&mut self, plan: &mut Plan) {
        plan.next(&mut self.request);
        self.sent = 0;
        self.head.clear();
        self.body_left = None;
        self.first_byte = None;
        self.started = Instant::now();
    }

    /// Moves the request and the response as far as they go.
    pub fn step(&mut self, plan: &Plan, scratch: &mut Scratch) -> Result<Step> {
        let total = self.request.head.len() + self.request.rest;
        if self.sent == 0 {
            // Not when it was begun: others may have been served, or connected, since.
            self.started = Instant::now();
        }
        while self.sent < total {
            match self.send(plan.block())? {
                Moved::Bytes(n) => self.sent += n,
                // An early answer (507, 413) is read below; sending goes on when the socket takes more.
                Moved::Later => return Ok(Step::WantWrite),
                Moved::Closed => {
                    return Ok(scratch.fail(|| "closed while the request was sent".to_owned()));
                }
            }
        }
        loop {
            let step = if self.body_left.is_none() {
                self.read_head(plan, scratch)?
            } else {
                self.read_body(scratch)?
            };
            if let Some(step) = step {
                return Ok(step);
            }
        }
    }

    fn send(&self, block: &[u8]) -> Result<Moved> {
        let head = &self.request.head[self.sent.min(self.request.head.len())..];
        let body_sent = self.sent.saturating_sub(self.request.head.len());
        let left = self.request.rest - body_sent;
        let body = if left == 0 {
            &block[..0]
        } else {
            let from = body_sent % block.len();
            &block[from..block.len().min(from + left)]
        };
        let parts =
            [head, body].map(|p| libc::iovec { iov_base: p.as_ptr().cast_mut().cast(), iov_len: p.len() });
        // SAFETY: a zeroed msghdr is valid; the parts point into slices that outlive the call.
        let returned = unsafe {
            let mut message: libc::msghdr = std::mem::zeroed();
            message.msg_iov = parts.as_ptr().cast_mut();
            message.msg_iovlen = parts.len();
            libc::sendmsg(self.fd(), &raw const message, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT)
        };
        moved("sendmsg", returned)
    }

    /// Reads until the head is whole; `None` means go on with the body.
    fn read_head(&mut self, plan: &Plan, scratch: &mut Scratch) -> Result<Option<Step>> {
        let len = if scratch.discard { HEAD_READ_BYTES } else { READ_BYTES };
        let n = match receive(self.fd(), &mut scratch.read[..len])? {
            Moved::Bytes(n) => n,
            Moved::Later => return Ok(Some(Step::WantRead)),
            Moved::Closed => {
                return Ok(Some(scratch.fail(|| "closed before the response".to_owned())));
            }
        };
        self.first_byte.get_or_insert_with(Instant::now);
        let before = self.head.len();
        // The usual case: the whole head in one read, parsed where it lies.
        let parsed = if before == 0 {
            Head::parse(&scratch.read[..n])
        } else {
            self.head.extend_from_slice(&scratch.read[..n]);
            Head::parse(&self.head)
        };
        let head = match parsed {
            Ok(Some(head)) => head,
            Ok(None) if before == 0 => {
                self.head.extend_from_slice(&scratch.read[..n]);
                return Ok(None);
            }
            Ok(None) => return Ok(None),
            Err(error) => return Ok(Some(scratch.fail(|| error.to_string()))),
        };
        let Some(length) = head.content_length else {
            return Ok(Some(scratch.fail(|| format!("status {} without Content-Length", head.status))));
        };
        if head.status != plan.status || plan.response_bytes.is_some_and(|want| want != length) {
            return Ok(Some(scratch.fail(|| format!("status {} with {length} bytes", head.status))));
        }
        let of_body = (before + n - head.bytes) as u64;
        scratch.body_bytes += of_body;
        match length.checked_sub(of_body) {
            None => Ok(Some(scratch.fail(|| "more bytes than Content-Length".to_owned()))),
            Some(0) if head.close => Ok(Some(scratch.fail(|| "the server closes the connection".to_owned()))),
            Some(0) => Ok(Some(Step::Done)),
            Some(left) => {
                self.body_left = Some(left);
                Ok(None)
            }
        }
    }

    fn read_body(&mut self, scratch: &mut Scratch) -> Result<Option<Step>> {
        let left = self.body_left.unwrap_or(0);
        let moved = if scratch.discard {
            discard(self.fd(), left.min(DISCARD_BYTES as u64) as usize)?
        } else {
            let len = left.min(READ_BYTES as u64) as usize;
            receive(self.fd(), &mut scratch.read[..len])?
        };
        match moved {
            Moved::Later => Ok(Some(Step::WantRead)),
            Moved::Closed => Ok(Some(scratch.fail(|| format!("closed with {left} bytes of body to come")))),
            Moved::Bytes(n) => {
                scratch.body_bytes += n as u64;
                self.body_left = Some(left - n as u64);
                if left == n as u64 { Ok(Some(Step::Done)) } else { Ok(None) }
            }
        }
    }
}
