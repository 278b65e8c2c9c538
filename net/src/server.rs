//! A connection's life: read a head, route it, let the service answer, again. One task per connection.
//!
//! Called by the node, which hands over accepted connections. Generic over the seam, so the twin serves the same way.
//!
//! Invariants
//! 1. A head is at most 16 KiB; a connection that waits holds no buffer.
//! 2. After a refusal of a malformed head nothing of that connection is interpreted any more (RFC 9112 §11.2).
//! 3. At most `connections_max` connections per column; one more is told 503 and closed, under TLS just closed.

use crate::deadline::{Deadlines, Guard, SWEEP_NS};
use crate::door::{Door, DoorView};
use crate::exchange::{Body, DISCARD_BYTES_MAX, Exchange, Framing, Wire, error_json};
use crate::http1::{
    BodyLength, Head, HttpDate, Method, Parsed, ResponseHead, Status, head_may_end, is_foreign, parse_head,
};
use crate::http2;
use crate::input::Input;
use crate::stop::{Listening, Stop};
use crate::tls::Identity;
use crate::transport::{NoTls, Transport};
use runtime::io::{Conn, Hangup, Io};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;

const SECOND_NS: u64 = 1_000_000_000;
/// Room for the head of a usual answer, which a connection keeps: growing to it anew costs six allocations a request.
const HEAD_BYTES: usize = 512;

/// Bounds of a listener on one column.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at a time.
    pub connections_max: usize,
    /// Requests under way over HTTP/2 at a time: each holds at most 128 KiB of a body that is not read yet and 192 KiB of an
    /// answer that its client does not read.
    pub streams_max: usize,
    /// Wait for the next request.
    pub idle_wait_ns: u64,
    /// From the first byte of a head to its last; for a TLS handshake, its first byte awaited too.
    pub head_wait_ns: u64,
    /// For each 256 KiB of a body.
    pub body_wait_ns: u64,
    /// For each 1 MiB of an answer.
    pub send_wait_ns: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections_max: 16_384,
            streams_max: 2_048,
            idle_wait_ns: 75 * SECOND_NS,
            head_wait_ns: 10 * SECOND_NS,
            body_wait_ns: 30 * SECOND_NS,
            send_wait_ns: 30 * SECOND_NS,
        }
    }
}

/// A request that is not taken, and why.
#[derive(Debug)]
pub struct Refusal {
    /// Status of the answer.
    pub status: Status,
    /// What is wrong, for a person.
    pub message: &'static str,
    /// Methods that would be taken (405 only).
    pub allow: Option<&'static str>,
}

impl Refusal {
    /// A refusal with a status and a reason.
    pub fn new(status: Status, message: &'static str) -> Refusal {
        Refusal { status, message, allow: None }
    }

    /// 405 with the methods that exist.
    pub fn method(allow: &'static str) -> Refusal {
        Refusal { status: Status::MethodNotAllowed, message: "method not allowed here", allow: Some(allow) }
    }
}

/// What a listener serves.
pub trait Service<I: Io>: 'static {
    /// A request in the service's own words, free of the connection's memory.
    type Request;
    /// Understands a head.
    fn route(&self, head: &Head<'_>) -> Result<Self::Request, Refusal>;
    /// Whether a path is answered without a token.
    fn is_public(&self, _path: &str) -> bool {
        false
    }
    /// Whether a request is taken only with a token, where the listener knows tokens.
    fn needs_token(&self, head: &Head<'_>) -> bool {
        !self.is_public(head.path)
    }
    /// Hears of a request that is refused before it is routed: it may be answered by the service instead.
    fn refused(&self, _head: &Head<'_>, refusal: Refusal) -> Result<Self::Request, Refusal> {
        Err(refusal)
    }
    /// Whether [`Exchange::peer`] is asked for.
    fn wants_peer(&self) -> bool {
        false
    }
    /// Hears of a connection whose head is no request, or whose request is one too many, and what it was told.
    fn on_turned_away(&self, _peer: Option<IpAddr>, _status: Status, _sent_bytes: u64) {}
    /// Answers. An error ends the connection.
    fn respond(
        &self,
        request: Self::Request,
        exchange: &mut Exchange<'_, I>,
    ) -> impl Future<Output = io::Result<()>>;
    /// Hears of each request that was answered: status, body bytes sent and received, nanoseconds since its head was read.
    fn on_answered(&self, _status: u16, _sent_bytes: u64, _received_bytes: u64, _took_ns: u64) {}
    /// Hears of connections opened (+1) and closed (-1).
    fn on_connection(&self, _change: i64) {}
}

/// What becomes of a connection.
enum Then {
    /// It may carry another request.
    Next,
    /// It is to be closed.
    Close,
    /// Its client speaks HTTP/2.
    Http2,
}

/// A service on one column.
pub struct Server<I: Io, S> {
    inner: Rc<Inner<I, S>>,
}

impl<I: Io, S> Clone for Server<I, S> {
    fn clone(&self) -> Self {
        Server { inner: self.inner.clone() }
    }
}

struct Inner<I, S> {
    io: I,
    service: S,
    limits: Limits,
    door: DoorView,
    deadlines: Deadlines,
    /// Those of requests over HTTP/2.
    streams: Deadlines,
    is_sweeping: Cell<bool>,
    stop: Stop,
    date: RefCell<(u64, HttpDate)>,
    /// Monotonic time at which `date` must be looked at again.
    date_due_ns: Cell<u64>,
}

impl<I: Io, S: Service<I>> Server<I, S> {
    /// Serves `service` to everybody.
    pub fn new(io: &I, service: S, limits: Limits) -> Server<I, S> {
        Server::behind(io, service, limits, &Door::default())
    }

    /// Serves `service` to those whom `door` admits.
    pub fn behind(io: &I, service: S, limits: Limits, door: &Door) -> Server<I, S> {
        let inner = Rc::new(Inner {
            io: io.clone(),
            service,
            limits,
            door: DoorView::new(door),
            deadlines: Deadlines::default(),
            streams: Deadlines::default(),
            is_sweeping: Cell::new(false),
            stop: Stop::default(),
            date: RefCell::new((0, HttpDate::at(0))),
            date_due_ns: Cell::new(0),
        });
        Server { inner }
    }

    /// Connections open now, and requests over HTTP/2 whose connection may have gone before they are done.
    pub fn connections(&self) -> usize {
        self.inner.deadlines.len() + self.inner.streams.len()
    }

    /// Takes a connection and serves it in a task of its own.
    pub fn serve(&self, conn: I::Conn) {
        let me = self.clone();
        let due_ns = self.inner.io.now_ns() + self.inner.limits.idle_wait_ns;
        let guard = self.inner.deadlines.watch(due_ns, conn.hangup());
        if !self.inner.is_sweeping.replace(true) {
            let sweeper = self.clone();
            self.inner.io.spawn("deadlines", async move { sweeper.sweep().await });
        }
        self.inner.io.spawn("connection", async move {
            me.inner.service.on_connection(1);
            me.serve_connection(conn, guard).await;
            me.inner.service.on_connection(-1);
        });
    }

    /// Stops taking requests: idle connections close now, the others after their answer.
    pub fn drain(&self) {
        self.inner.stop.say();
        self.inner.deadlines.close_idle();
    }

    pub(crate) fn io(&self) -> &I {
        &self.inner.io
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    pub(crate) fn service(&self) -> &S {
        &self.inner.service
    }

    /// Who is at the other end, if the service wants to know.
    pub(crate) fn peer_of(&self, conn: &Transport<I::Conn>) -> Option<IpAddr> {
        let peer = if self.inner.service.wants_peer() { conn.peer() } else { None };
        peer.map(|peer| peer.ip().to_canonical())
    }

    /// Hears when no more requests are taken.
    pub(crate) fn stop(&self) -> Listening<'_> {
        self.inner.stop.listen()
    }

    /// The deadline of a request over HTTP/2.
    pub(crate) fn watch_stream(&self, due_ns: u64, hangup: Box<dyn Fn(Hangup)>) -> Guard {
        self.inner.streams.watch(due_ns, hangup)
    }

    /// Whether as many requests are under way over HTTP/2 as may be.
    pub(crate) fn is_full_of_streams(&self) -> bool {
        self.inner.streams.len() >= self.inner.limits.streams_max
    }

    /// Runs while there are connections.
    async fn sweep(&self) {
        while self.connections() > 0 {
            self.inner.io.sleep(SWEEP_NS).await;
            self.inner.deadlines.sweep(self.inner.io.now_ns());
            self.inner.streams.sweep(self.inner.io.now_ns());
        }
        self.inner.is_sweeping.set(false);
    }

    async fn serve_connection(&self, conn: I::Conn, guard: Guard) {
        let inner = &*self.inner;
        let is_full = inner.deadlines.len() > inner.limits.connections_max;
        let mut conn = match inner.door.identity() {
            None => Transport::Plain(conn),
            // Who cannot be served is not worth a handshake.
            Some(_) if is_full => return,
            Some(identity) => match Box::pin(self.shake_hands(conn, &identity, &guard)).await {
                Some(conn) => conn,
                None => return,
            },
        };
        if is_full {
            self.turn_away(&mut conn, Status::ServiceUnavailable, "too many connections").await;
            return;
        }
        if conn.is_http2() {
            return Box::pin(http2::serve(self, conn, &[], guard)).await;
        }
        let mut input = Input::new();
        let mut out = Vec::with_capacity(HEAD_BYTES);
        let mut idle_from_ns = inner.io.now_ns();
        let (mut is_first, peer) = (true, self.peer_of(&conn));
        loop {
            match self.serve_one(&mut conn, &mut input, &mut out, (&guard, peer, &mut idle_from_ns)).await {
                Ok(Then::Next) => is_first = false,
                Ok(Then::Http2) if is_first => {
                    // A receive buffer is the column's: no connection keeps one for its life.
                    let first = input.bytes().to_vec();
                    drop(input);
                    return Box::pin(http2::serve(self, conn, &first, guard)).await;
                }
                Ok(Then::Http2) => {
                    let what = "HTTP/2 is spoken from the first byte on or not at all";
                    self.turn_away(&mut conn, Status::BadRequest, what).await;
                    return self.linger(&mut conn, &mut input, &guard).await;
                }
                Ok(Then::Close) => return self.linger(&mut conn, &mut input, &guard).await,
                // The peer is gone or was hung up on.
                Err(_) => return,
            }
            // An idle connection holds no more than room for a usual head.
            if input.bytes().is_empty() && out.capacity() > HEAD_BYTES {
                out = Vec::with_capacity(HEAD_BYTES);
            }
        }
    }

    /// Agrees on TLS. Who speaks HTTP without it is told in its own words.
    async fn shake_hands(
        &self,
        conn: I::Conn,
        identity: &Identity,
        guard: &Guard,
    ) -> Option<Transport<I::Conn>> {
        guard.set(self.inner.io.now_ns() + self.inner.limits.head_wait_ns, Hangup::Both, false);
        match Transport::shake_hands(conn, identity).await {
            Ok(conn) => Some(conn),
            Err(NoTls::Failed) => None,
            Err(NoTls::Other(conn)) => {
                let mut conn = Transport::Plain(conn);
                self.turn_away(&mut conn, Status::BadRequest, "this port speaks TLS: use https").await;
                self.linger(&mut conn, &mut Input::new(), guard).await;
                None
            }
        }
    }

    async fn serve_one(
        &self,
        conn: &mut Transport<I::Conn>,
        input: &mut Input<Transport<I::Conn>>,
        out: &mut Vec<u8>,
        (guard, peer, idle_from_ns): (&Guard, Option<IpAddr>, &mut u64),
    ) -> io::Result<Then> {
        let inner = &*self.inner;
        let (start_ns, (request, framing)) = match self.read_head(conn, input, guard, *idle_from_ns).await? {
            Ok(read) => read,
            Err(then) => return Ok(then),
        };
        let date = self.date(start_ns);
        let mut exchange = Exchange {
            io: &inner.io,
            wire: Wire::Whole { conn: &mut *conn, input: &mut *input },
            guard,
            limits: &inner.limits,
            out,
            date: &date,
            peer,
            framing,
            status: 0,
            sent_bytes: 0,
            received_bytes: 0,
            is_quick: false,
            answering: false,
            begun_ns: None,
            is_chunked: false,
        };
        if inner.stop.is_said() {
            exchange.framing.keep_alive = false;
        }
        let outcome = match request {
            Ok(request) => inner.service.respond(request, &mut exchange).await,
            Err(refusal) => refuse(&mut exchange, &refusal).await,
        };
        let (status, sent, received) = (exchange.status, exchange.sent_bytes, exchange.received_bytes);
        outcome?;
        *idle_from_ns = inner.io.now_ns();
        inner.service.on_answered(status, sent, received, *idle_from_ns - start_ns);
        let framing = exchange.framing;
        if !framing.keep_alive || inner.stop.is_said() || !discard(&framing.body, conn, input).await {
            return Ok(Then::Close);
        }
        Ok(Then::Next)
    }

    /// The next head, routed, and when it was there; or what becomes of the connection instead (one to be closed was told why).
    async fn read_head(
        &self,
        conn: &mut Transport<I::Conn>,
        input: &mut Input<Transport<I::Conn>>,
        guard: &Guard,
        idle_from_ns: u64,
    ) -> io::Result<Result<(u64, Routed<S::Request>), Then>> {
        let inner = &*self.inner;
        let mut scanned = 0;
        if input.bytes().is_empty() {
            guard.set(idle_from_ns + inner.limits.idle_wait_ns, Hangup::Receive, true);
            if inner.stop.is_said() || !input.more(conn).await? {
                return Ok(Err(Then::Close));
            }
        }
        let mut now_ns = inner.io.now_ns();
        guard.set(now_ns + inner.limits.head_wait_ns, Hangup::Receive, false);
        loop {
            if head_may_end(input.bytes(), scanned) || scanned == 0 {
                match parse_head(input.bytes()) {
                    Ok(Parsed::Complete(head)) => {
                        let (routed, used) = (self.route(&head), head.len_bytes);
                        input.consume(used);
                        return Ok(Ok((now_ns, routed)));
                    }
                    Ok(Parsed::Partial) => {}
                    Err(_) if input.bytes().starts_with(http2::PREFACE) => return Ok(Err(Then::Http2)),
                    Err(e) if is_foreign(input.bytes()) => {
                        inner.service.on_turned_away(self.peer_of(conn), e.status(), 0);
                        return Ok(Err(Then::Close));
                    }
                    Err(e) => {
                        self.turn_away(conn, e.status(), &e.to_string()).await;
                        return Ok(Err(Then::Close));
                    }
                }
            }
            scanned = input.bytes().len();
            if !input.more(conn).await? {
                if guard.is_late() {
                    self.turn_away(conn, Status::RequestTimeout, "the request head took too long").await;
                // Once we stop it may be us who cut it: hung up on as idle while it was on its way. Who is told nothing
                // asks again (RFC 9112 §9.3.1).
                } else if !inner.stop.is_said() && !input.bytes().iter().all(|b| b"\r\n".contains(b)) {
                    self.turn_away(conn, Status::BadRequest, "the request head is cut short").await;
                }
                return Ok(Err(Then::Close));
            }
            now_ns = inner.io.now_ns();
        }
    }

    pub(crate) fn route(&self, head: &Head<'_>) -> Routed<S::Request> {
        let body = match head.body {
            BodyLength::None | BodyLength::Length(0) => Body::None,
            BodyLength::Length(length) => Body::Length(length),
            BodyLength::Chunked => Body::Chunked(Box::default()),
        };
        let framing = Framing {
            body,
            keep_alive: head.keep_alive,
            expects_continue: head.expect_continue,
            is_head: head.method == Method::Head,
            is_old: head.minor_version == 0,
        };
        let (service, door) = (&self.inner.service, &self.inner.door);
        if !door.admits(head) && service.needs_token(head) {
            let what = "a bearer token of this listener is needed";
            return (service.refused(head, Refusal::new(Status::Unauthorized, what)), framing);
        }
        (service.route(head), framing)
    }

    /// Says why, and that it is over.
    async fn turn_away(&self, conn: &mut Transport<I::Conn>, status: Status, message: &str) {
        let body = error_json(message);
        let mut out = Vec::new();
        let date = self.date(self.inner.io.now_ns());
        let head =
            ResponseHead::new(&mut out, status).date(&date).header("Content-Type", b"application/json");
        head.content_length(body.len() as u64).connection_close().finish();
        let sent_bytes = body.len() as u64;
        self.inner.service.on_answered(status.code(), sent_bytes, 0, 0);
        self.inner.service.on_turned_away(self.peer_of(conn), status, sent_bytes);
        // The peer may be gone; then there is nobody to tell.
        let _ = conn.send(&out, &body).await;
    }

    /// Lets the peer read the answer before the reset that unread bytes would cause (RFC 9112 §9.6).
    pub(crate) async fn linger(
        &self,
        conn: &mut Transport<I::Conn>,
        input: &mut Input<Transport<I::Conn>>,
        guard: &Guard,
    ) {
        guard.set(self.inner.io.now_ns() + 2 * SECOND_NS, Hangup::Both, false);
        conn.finish().await;
        let mut left = 4 * DISCARD_BYTES_MAX;
        while left > 0 && !input.has_ended() && !guard.is_late() {
            let there = input.bytes().len();
            input.consume(there);
            left = left.saturating_sub(there as u64 + 1);
            if !input.more(conn).await.unwrap_or(false) {
                return;
            }
        }
    }

    /// The Date of answers, made anew once a second.
    pub(crate) fn date(&self, now_ns: u64) -> HttpDate {
        if now_ns >= self.inner.date_due_ns.get() {
            let unix_ms = self.inner.io.unix_ms();
            let second = unix_ms / 1000;
            let mut date = self.inner.date.borrow_mut();
            if date.0 != second {
                *date = (second, HttpDate::at(second));
            }
            self.inner.date_due_ns.set(now_ns + (1000 - unix_ms % 1000) * 1_000_000);
        }
        self.inner.date.borrow().1
    }
}

pub(crate) type Routed<R> = (Result<R, Refusal>, Framing);

/// Answers with a refusal.
///
/// # Errors
/// The client is gone.
pub async fn refuse<I: Io>(exchange: &mut Exchange<'_, I>, refusal: &Refusal) -> io::Result<()> {
    let (name, value) = match (refusal.status, refusal.allow) {
        (Status::Unauthorized, _) => ("WWW-Authenticate", "Bearer"),
        (_, Some(allow)) => ("Allow", allow),
        _ => return exchange.refuse(refusal.status, refusal.message).await,
    };
    let body = error_json(refusal.message);
    exchange.head(refusal.status, |head| {
        let head = head.header(name, value.as_bytes()).header("Content-Type", b"application/json");
        head.content_length(body.len() as u64)
    });
    exchange.send(&body).await
}

/// Reads what the service left of the body. True: the next request follows.
async fn discard<C: Conn>(body: &Body, conn: &mut C, input: &mut Input<C>) -> bool {
    let Body::Length(mut left) = *body else { return matches!(body, Body::None) };
    assert!(left <= DISCARD_BYTES_MAX, "a connection with {left} unread bytes was kept");
    loop {
        let there = input.bytes().len().min(usize::try_from(left).unwrap_or(usize::MAX));
        input.consume(there);
        left -= there as u64;
        if left == 0 {
            return true;
        }
        if !input.more(conn).await.unwrap_or(false) {
            return false;
        }
    }
}
