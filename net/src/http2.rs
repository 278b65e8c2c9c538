//! HTTP/2 (RFC 9113) by hyper, on the ports and for the services of HTTP/1.1: a connection's life. Called by `server`, which has
//! seen the preface or agreed on `h2`.
//!
//! | file | holds |
//! |---|---|
//! | `wire` | the bytes between hyper and the connection |
//! | `head` | requests and answers as HTTP/1.1 writes them, and back |
//! | `stream` | one request and its answer, between hyper and an `Exchange` |
//! | `service` | what hyper calls for each request: a task that answers it |
//!
//! hyper decides about frames, flow control and header compression; it runs in the connection's task, over memory. The task
//! moves that memory over the connection. Each request is a task of its own and an `Exchange` like any other: when its client
//! resets it or goes away, that task is told at its next step and ends by itself, so that nothing is dropped half done.
//!
//! Invariants
//! 1. A connection that waits holds no buffer of ours; what it holds while it works is bounded by the constants below.
//! 2. Every stream has a deadline of its own, as a request of HTTP/1.1 has; a connection without streams is idle whatever else
//!    it sends, and what is to be sent moves within the time for sending. One that was idle for too long is told by GOAWAY.
//! 3. A peer that resets streams faster than they are accepted, sends header blocks without end or provokes errors is told
//!    ENHANCE_YOUR_CALM and closed (hyper's own bounds: 20 resets, 5 CONTINUATION frames of a full list, 1,024 errors).

mod head;
mod service;
mod stream;
mod wire;

pub(crate) use stream::{PIECE_BYTES, Stream};

use crate::deadline::Guard;
use crate::input::Input;
use crate::server::{Server, Service};
use crate::stop::Stop;
use crate::transport::Transport;
use hyper::server::conn::http2::Builder;
use runtime::io::{Conn, Hangup, Io};
use service::{OnColumn, Streams};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use wire::Wire;

/// How a client that knows we speak HTTP/2 begins, as far as no other version of HTTP does (RFC 9113 §3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";

/// Requests of one connection at a time. The least that RFC 9113 §6.5.2 recommends is 100.
const CONCURRENT_MAX: u32 = 128;
/// Names and values of a request's fields, each with 32 bytes of its own (RFC 9113 §6.5.2): as a head of HTTP/1.1.
const FIELDS_BYTES_MAX: u32 = 16 << 10;
/// Body bytes of one stream that may come before they are read.
const STREAM_WINDOW_BYTES: u32 = 128 << 10;
/// The same of a connection: all its streams together, or those that wait for their turn would keep the others' bodies out.
const WINDOW_BYTES: u32 = CONCURRENT_MAX * STREAM_WINDOW_BYTES;
/// Body bytes of one stream that hyper takes before it can send them, beside the piece it is given.
const SEND_BYTES_MAX: usize = 64 << 10;
/// How long a connection without streams that takes no more waits for its peer to acknowledge that.
const LEAVE_WAIT_NS: u64 = 1_000_000_000;
/// For what is under way when nothing else bounds it.
const NEVER_NS: u64 = u64::MAX;

/// A connection and its streams: who may wait for what.
struct Life<I> {
    io: I,
    /// Who is at the other end, if the service wants to know.
    peer: Option<IpAddr>,
    guard: Guard,
    idle_wait_ns: Cell<u64>,
    send_wait_ns: u64,
    /// Requests under way.
    streams: Cell<usize>,
    /// When it has been idle for too long, if it is.
    idle_due_ns: Cell<u64>,
    /// When what is being sent has taken too long.
    send_due_ns: Cell<Option<u64>>,
    /// It takes no more requests.
    is_leaving: Cell<bool>,
    /// Nothing more is said: what is left of its streams moves no deadline.
    is_over: Cell<bool>,
}

impl<I: Io> Life<I> {
    fn begin_stream(&self) {
        self.streams.set(self.streams.get() + 1);
        self.settle();
    }

    fn end_stream(&self) {
        self.streams.set(self.streams.get() - 1);
        self.idle_due_ns.set(self.io.now_ns() + self.idle_wait_ns.get());
        self.settle();
    }

    /// It takes no more requests: a peer that does not even acknowledge that keeps nobody.
    fn leave(&self) {
        self.is_leaving.set(true);
        self.idle_wait_ns.set(self.idle_wait_ns.get().min(LEAVE_WAIT_NS));
        self.idle_due_ns.set(self.io.now_ns() + self.idle_wait_ns.get());
        self.settle();
    }

    /// Ends it: hyper holds what a stream's client does not let it send, and cannot be told to reset that stream.
    fn cut(&self) {
        self.is_over.set(true);
        self.guard.set(0, Hangup::Both, false);
    }

    fn begin_sending(&self) {
        self.send_due_ns.set(Some(self.io.now_ns() + self.send_wait_ns));
        self.settle();
    }

    fn end_sending(&self) {
        self.send_due_ns.set(None);
        self.settle();
    }

    /// Sets the connection's deadline to what it waits for.
    fn settle(&self) {
        if self.is_over.get() {
            return;
        }
        let (due_ns, how) = match self.send_due_ns.get() {
            Some(due_ns) => (due_ns, Hangup::Both),
            None if self.streams.get() > 0 => (NEVER_NS, Hangup::Both),
            None if self.is_leaving.get() => (self.idle_due_ns.get(), Hangup::Both),
            // It can still say that it ends.
            None => (self.idle_due_ns.get(), Hangup::Receive),
        };
        self.guard.set(due_ns, how, false);
    }
}

/// Serves a connection whose first bytes, if any were read, are `first`.
pub(crate) async fn serve<I: Io, S: Service<I>>(
    server: &Server<I, S>,
    mut conn: Transport<I::Conn>,
    first: &[u8],
    guard: Guard,
) {
    let (io, limits) = (server.io(), server.limits());
    let life = Rc::new(Life {
        io: io.clone(),
        peer: server.peer_of(&conn),
        guard,
        idle_wait_ns: Cell::new(limits.idle_wait_ns),
        send_wait_ns: limits.send_wait_ns,
        streams: Cell::new(0),
        idle_due_ns: Cell::new(io.now_ns() + limits.idle_wait_ns),
        send_due_ns: Cell::new(None),
        is_leaving: Cell::new(false),
        is_over: Cell::new(false),
    });
    life.settle();
    let wire = Wire::new(first);
    let sent = talk(server, &mut conn, &wire, &life).await;
    life.is_over.set(true);
    if sent.is_ok() {
        server.linger(&mut conn, &mut Input::new(), &life.guard).await;
    }
}

/// Until hyper has nothing more to say and all of it is sent.
async fn talk<I: Io, S: Service<I>>(
    server: &Server<I, S>,
    conn: &mut Transport<I::Conn>,
    wire: &Wire,
    life: &Rc<Life<I>>,
) -> io::Result<()> {
    let service = Streams::new(server.clone(), life.clone());
    let mut talk = pin!(builder(server.io()).serve_connection(wire.clone(), service));
    let mut pump = pin!(pump(conn, wire, life));
    let mut has_ended = false;
    let idle = Rc::new(Stop::default());
    let says = idle.clone();
    life.guard.say_first(Box::new(move || says.say()));
    let (stop, idle) = (server.stop(), idle.listen());
    poll_fn(|cx| {
        if !life.is_leaving.get() && (stop.poll(cx).is_ready() || idle.poll(cx).is_ready()) {
            life.leave();
            talk.as_mut().graceful_shutdown();
        }
        if !has_ended && talk.as_mut().poll(cx).is_ready() {
            has_ended = true;
            wire.close();
        }
        pump.as_mut().poll(cx)
    })
    .await
}

fn builder<I: Io>(io: &I) -> Builder<OnColumn<I>> {
    let mut builder = Builder::new(OnColumn(io.clone()));
    builder
        .max_concurrent_streams(CONCURRENT_MAX)
        .max_header_list_size(FIELDS_BYTES_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_send_buf_size(SEND_BYTES_MAX)
        .auto_date_header(false);
    builder
}

/// Moves bytes both ways, one way at a time: a peer that does not read is not read from until it does.
async fn pump<I: Io>(conn: &mut Transport<I::Conn>, wire: &Wire, life: &Life<I>) -> io::Result<()> {
    loop {
        let outgoing = wire.take_outgoing();
        if !outgoing.is_empty() {
            life.begin_sending();
            conn.send(&outgoing, &[]).await?;
            life.end_sending();
            continue;
        }
        if wire.is_closed() {
            return Ok(());
        }
        if let Some(received) = receive(conn, wire).await {
            wire.arrived(received?.as_ref());
        }
    }
}

/// The next bytes if hyper wants some; `None` when it has something to send or to end. What is dropped has received nothing.
async fn receive<C: Conn>(conn: &mut C, wire: &Wire) -> Option<io::Result<C::Chunk>> {
    let mut received = pin!(async {
        poll_fn(|cx| wire.poll_wanted(cx)).await;
        conn.recv().await
    });
    poll_fn(|cx| match wire.poll_outgoing(cx) {
        Poll::Ready(()) => Poll::Ready(None),
        Poll::Pending => received.as_mut().poll(cx).map(Some),
    })
    .await
}
