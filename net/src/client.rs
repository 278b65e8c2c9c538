//! The HTTP/1.1 client: requests to origins, over connections that are kept. Called by engines; knows none.
//!
//! | file | holds |
//! |---|---|
//! | `url` | a URL taken apart |
//! | `stream`, `tls` | a connection, plain or TLS; whom we trust |
//! | `pool` | connections that wait for their next request |
//! | `reply` | an answer: head, then body as it comes |
//! | `ask` | requests in the caller's own words: any method and fields, a body, no redirects followed |
//!
//! Invariants
//! 1. Every wait has a deadline: connecting with TLS, the head, each 64 KiB of a body, each byte of one that is passed on as it comes.
//! 2. At most five redirects, only to http(s), never from https to http.
//! 3. Retrying is the caller's, who knows what a retry may cost; one exception: a kept connection that turns out to be closed
//!    before a byte of the answer came is replaced by a new one, once.
//! 4. Bytes behind an answer are not the next one: `pool` says how that is seen.

mod ask;
mod pool;
mod reply;
mod stream;
mod tls;
mod url;

pub use ask::{Ask, Sending};
pub use pool::{IDLE_MAX, IDLE_PER_HOST_MAX, IDLE_WAIT_NS};
pub use reply::Reply;
pub use tls::Trust;
pub use url::{Url, UrlError};

use crate::deadline::{Deadlines, SWEEP_NS};
use crate::http1::{ParsedReply, ReplyHead, parse_reply};
use pool::{Host, Link, Pool};
use runtime::io::{Conn as _, Hangup, Io};
use runtime::patience::within;
use std::cell::Cell;
use std::io;
use std::rc::Rc;
use stream::Stream;

/// For the addresses of a host, a connection and its TLS.
pub const CONNECT_WAIT_NS: u64 = 30_000_000_000;
/// From a request to the end of its answer's head.
pub const HEAD_WAIT_NS: u64 = 30_000_000_000;
/// For each 64 KiB of a body; for anything of one that is passed on as it comes.
pub const BODY_WAIT_NS: u64 = 30_000_000_000;
/// Redirects followed.
pub const REDIRECTS_MAX: usize = 5;
/// Interim answers (1xx) before the one that counts.
const INTERIM_MAX: usize = 8;

/// Why there is no answer, or not all of it: the origin's fault or the network's.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection: resolving, connecting or TLS failed.
    #[error("cannot connect to {0}: {1}")]
    Connect(String, io::Error),
    /// It took too long over this.
    #[error("the origin took too long over {0}")]
    Timeout(&'static str),
    /// The connection broke.
    #[error("the connection to the origin broke: {0}")]
    Lost(io::Error),
    /// The body ended before its end.
    #[error("the origin's body is cut short")]
    Short,
    /// The answer is not HTTP as we accept it.
    #[error("the origin's answer is malformed: {0}")]
    Malformed(String),
    /// A redirect that is not followed.
    #[error("the origin's redirect is not followed: {0}")]
    Redirect(String),
}

/// How long a client waits and what it keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// See [`CONNECT_WAIT_NS`].
    pub connect_wait_ns: u64,
    /// See [`HEAD_WAIT_NS`].
    pub head_wait_ns: u64,
    /// See [`BODY_WAIT_NS`].
    pub body_wait_ns: u64,
    /// See [`IDLE_WAIT_NS`].
    pub idle_wait_ns: u64,
    /// See [`IDLE_PER_HOST_MAX`].
    pub idle_per_host_max: usize,
    /// See [`IDLE_MAX`].
    pub idle_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connect_wait_ns: CONNECT_WAIT_NS,
            head_wait_ns: HEAD_WAIT_NS,
            body_wait_ns: BODY_WAIT_NS,
            idle_wait_ns: IDLE_WAIT_NS,
            idle_per_host_max: IDLE_PER_HOST_MAX,
            idle_max: IDLE_MAX,
        }
    }
}

/// A client on one column. Clones share its connections.
pub struct Client<I: Io> {
    inner: Rc<Inner<I>>,
}

struct Inner<I: Io> {
    io: I,
    trust: Trust,
    limits: Limits,
    pool: Pool<I>,
    deadlines: Deadlines,
    sweeping: Cell<bool>,
    connected: Cell<u64>,
}

impl<I: Io> Clone for Client<I> {
    fn clone(&self) -> Self {
        Client { inner: self.inner.clone() }
    }
}

impl<I: Io> Client<I> {
    /// A client that trusts `trust`.
    pub fn new(io: &I, trust: Trust) -> Client<I> {
        Client::with_limits(io, trust, Limits::default())
    }

    /// As [`Client::new`], with other limits.
    pub fn with_limits(io: &I, trust: Trust, limits: Limits) -> Client<I> {
        let inner = Inner {
            io: io.clone(),
            trust,
            limits,
            pool: Pool::new(limits),
            deadlines: Deadlines::default(),
            sweeping: Cell::new(false),
            connected: Cell::new(0),
        };
        Client { inner: Rc::new(inner) }
    }

    /// Connections made so far, those that are open, and those of them that wait for their next request.
    pub fn connections(&self) -> (u64, usize, usize) {
        (self.inner.connected.get(), self.inner.deadlines.len(), self.inner.pool.len())
    }

    /// GETs `url` with further fields, following redirects.
    ///
    /// # Errors
    /// There is no answer; an answer with any status is one.
    pub async fn get(&self, url: &Url, fields: &[(&str, &str)]) -> Result<Reply<I>, ClientError> {
        let mut url = url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let reply = self.get_once(&url, fields).await?;
            if !matches!(reply.head.status, 301 | 302 | 303 | 307 | 308) {
                return Ok(reply);
            }
            let refused = |why: String| ClientError::Redirect(why);
            let location = reply.head.header("location").and_then(|v| std::str::from_utf8(v).ok());
            let location = location.ok_or_else(|| refused("it has no Location".to_owned()))?;
            let next = url.join(location).map_err(|e| refused(e.to_string()))?;
            if url.is_https && !next.is_https {
                return Err(refused("it leads from https to http".to_owned()));
            }
            url = next;
        }
        Err(ClientError::Redirect(format!("there are more than {REDIRECTS_MAX}")))
    }

    async fn get_once(&self, url: &Url, fields: &[(&str, &str)]) -> Result<Reply<I>, ClientError> {
        self.exchange(url, &request(url, fields), false).await
    }

    /// Sends a request without a body and reads the head of its answer.
    async fn exchange(&self, url: &Url, request: &[u8], is_head: bool) -> Result<Reply<I>, ClientError> {
        let host = Host::of(url);
        if let Some(mut link) = self.inner.pool.take(&host) {
            let mut input = Vec::new();
            match self.converse(&mut link, request, &mut input).await {
                Ok(head) => return Ok(Reply::new(self, url.clone(), link, (head, is_head), input)),
                // It was closed while it waited.
                Err(ClientError::Lost(_) | ClientError::Short) if input.is_empty() => {}
                Err(e) => return Err(e),
            }
        }
        let mut link = self.connect(&host).await?;
        let mut input = Vec::new();
        let head = self.converse(&mut link, request, &mut input).await?;
        Ok(Reply::new(self, url.clone(), link, (head, is_head), input))
    }

    /// Sends a request and reads the head of its answer; what follows the head stays in `input`.
    async fn converse(
        &self,
        link: &mut Link<I>,
        request: &[u8],
        input: &mut Vec<u8>,
    ) -> Result<ReplyHead, ClientError> {
        link.guard.set(self.now_ns() + self.inner.limits.head_wait_ns, Hangup::Both, false);
        let asked = self.converse_in_time(link, request, input).await;
        match asked {
            Err(_) if link.guard.is_late() => Err(ClientError::Timeout("its answer")),
            asked => asked,
        }
    }

    async fn converse_in_time(
        &self,
        link: &mut Link<I>,
        request: &[u8],
        input: &mut Vec<u8>,
    ) -> Result<ReplyHead, ClientError> {
        if !request.is_empty() {
            link.stream.send(request).await?;
        }
        let mut interim = 0;
        loop {
            match parse_reply(input).map_err(|e| ClientError::Malformed(e.to_string()))? {
                ParsedReply::Complete(head) => {
                    input.drain(..head.len_bytes);
                    if head.status >= 200 {
                        return Ok(head);
                    }
                    interim += 1;
                    if interim > INTERIM_MAX || head.status == 101 {
                        return Err(ClientError::Malformed("an interim answer nobody asked for".to_owned()));
                    }
                }
                ParsedReply::Partial => {
                    if !link.stream.more(input).await? {
                        return Err(ClientError::Short);
                    }
                }
            }
        }
    }

    async fn connect(&self, host: &Host) -> Result<Link<I>, ClientError> {
        let connecting = async {
            let name = host.name.as_str();
            let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
            for addr in self.inner.io.resolve(name, host.port).await? {
                match self.inner.io.connect(addr).await {
                    Ok(conn) => return Ok(conn),
                    Err(e) => last = e,
                }
            }
            Err(last)
        };
        let failed = |e| ClientError::Connect(format!("{}:{}", host.name, host.port), e);
        let conn = within(&self.inner.io, self.inner.limits.connect_wait_ns, connecting).await;
        let conn = conn.ok_or(ClientError::Timeout("connecting"))?.map_err(failed)?;
        self.inner.connected.set(self.inner.connected.get() + 1);
        let guard = self.watch(conn.hangup());
        let stream = match host.is_https {
            false => Stream::Plain(conn),
            true => match Stream::shake_hands(conn, &self.inner.trust, &host.name).await {
                Err(_) if guard.is_late() => return Err(ClientError::Timeout("TLS")),
                stream => stream.map_err(failed)?,
            },
        };
        Ok(Link { stream, guard })
    }

    /// The sweeper runs while there are connections.
    fn watch(&self, hangup: Box<dyn Fn(Hangup)>) -> crate::deadline::Guard {
        let guard = self.inner.deadlines.watch(self.now_ns() + self.inner.limits.connect_wait_ns, hangup);
        if !self.inner.sweeping.replace(true) {
            let me = self.clone();
            self.inner.io.spawn("origin-deadlines", async move {
                while !me.inner.deadlines.is_empty() {
                    me.inner.io.sleep(SWEEP_NS).await;
                    me.inner.deadlines.sweep(me.now_ns());
                    me.inner.pool.close_spoilt();
                }
                me.inner.sweeping.set(false);
            });
        }
        guard
    }

    fn give_back(&self, host: Host, link: Link<I>) {
        self.inner.pool.put(host, link, self.now_ns());
    }

    fn now_ns(&self) -> u64 {
        self.inner.io.now_ns()
    }
}

/// The head of a GET. `identity`: what is stored are the bytes themselves.
fn request(url: &Url, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut text = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: basalt/{}\r\nAccept: */*\r\nAccept-Encoding: identity\r\n",
        url.target,
        url.authority(),
        env!("CARGO_PKG_VERSION")
    );
    for (name, value) in fields {
        assert!(!value.contains(['\r', '\n']), "a field value with a line end");
        text.extend([name, ": ", value, "\r\n"]);
    }
    text.push_str("\r\n");
    text.into_bytes()
}
