//! What hyper calls for each request: reads its head, starts the task that answers it. Called by `http2`.
//!
//! Invariant: at most [`crate::Limits::streams_max`] requests of a column are under way over HTTP/2; one more is told 503.

use super::Life;
use super::head::request_head;
use super::stream::{Answering, Stream, pair};
use crate::deadline::Guard;
use crate::exchange::{Body, Exchange, Framing, Wire};
use crate::http1::{BodyLength, Parsed, Status, parse_head};
use crate::server::{Refusal, Routed, Server, Service, refuse};
use http::Request;
use http_body::Body as _;
use hyper::body::Incoming;
use runtime::io::{Hangup, Io};
use std::io;
use std::net::IpAddr;
use std::rc::Rc;

/// Starts what hyper wants done beside the connection: after the tasks that are ready, so that all requests that came together
/// are answered in one send.
#[derive(Clone)]
pub(super) struct OnColumn<I>(pub(super) I);

impl<I: Io, F: Future + 'static> hyper::rt::Executor<F> for OnColumn<I> {
    fn execute(&self, work: F) {
        let io = self.0.clone();
        self.0.spawn("http2-stream", async move {
            io.yield_now().await;
            work.await;
        });
    }
}

/// The requests of a connection.
pub(super) struct Streams<I: Io, S> {
    server: Server<I, S>,
    life: Rc<Life<I>>,
}

impl<I: Io, S: Service<I>> Streams<I, S> {
    pub(super) fn new(server: Server<I, S>, life: Rc<Life<I>>) -> Self {
        Streams { server, life }
    }
}

impl<I: Io, S: Service<I>> hyper::service::Service<Request<Incoming>> for Streams<I, S> {
    type Response = http::Response<super::stream::Answer>;
    type Error = io::Error;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        let (parts, body) = request.into_parts();
        let routed = read(&self.server, &request_head(&parts), &body);
        let (stream, answering) = pair(body);
        let (server, life) = (self.server.clone(), self.life.clone());
        let start_ns = life.io.now_ns();
        let guard = server.watch_stream(start_ns + life.send_wait_ns, stream.hangup());
        life.begin_stream();
        life.io.clone().spawn("http2-request", async move {
            life.io.yield_now().await;
            if !answer(&server, routed, stream, (guard, life.peer, start_ns)).await {
                life.cut();
            }
            life.end_stream();
        });
        answering
    }
}

/// A head in HTTP/1.1's words, routed; how the body is framed, frames say.
fn read<I: Io, S: Service<I>>(server: &Server<I, S>, text: &[u8], body: &Incoming) -> Routed<S::Request> {
    // The same twice: for who routes by the head, and for who reads the body.
    let (framed, of_head) = match (body.is_end_stream(), body.size_hint().exact()) {
        (true, _) => (Body::None, BodyLength::None),
        (false, Some(length)) => (Body::Length(length), BodyLength::Length(length)),
        (false, None) => (Body::Open, BodyLength::Chunked),
    };
    let is_head = text.starts_with(b"HEAD ");
    let refused = |status, message| {
        let framing =
            Framing { body: Body::None, keep_alive: true, expects_continue: false, is_head, is_old: false };
        (Err(Refusal::new(status, message)), framing)
    };
    let (routed, mut framing) = match parse_head(text) {
        Ok(Parsed::Complete(mut head)) => {
            head.body = of_head;
            server.route(&head)
        }
        Ok(Parsed::Partial) => refused(Status::HeaderFieldsTooLarge, "the request head is too large"),
        Err(e) => refused(e.status(), "the request head is malformed or too large"),
    };
    if server.is_full_of_streams() {
        framing.body = Body::None;
        return (Err(Refusal::new(Status::ServiceUnavailable, "too many requests under way")), framing);
    }
    // Who may not ask is not listened to.
    let is_stranger = routed.as_ref().is_err_and(|refusal| refusal.status == Status::Unauthorized);
    framing.body = if is_stranger { Body::None } else { framed };
    (routed, framing)
}

/// Answers as on a connection of HTTP/1.1. What goes wrong resets the stream; false if what was given of the answer is not sent
/// within its time.
async fn answer<I: Io, S: Service<I>>(
    server: &Server<I, S>,
    (request, framing): Routed<S::Request>,
    mut stream: Stream,
    (guard, peer, start_ns): (Guard, Option<IpAddr>, u64),
) -> bool {
    let (io, mut out) = (server.io(), Vec::new());
    let date = server.date(start_ns);
    let mut exchange = Exchange {
        io,
        wire: Wire::Stream(&mut stream),
        guard: &guard,
        limits: server.limits(),
        out: &mut out,
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
    let outcome = match request {
        Ok(request) => server.service().respond(request, &mut exchange).await,
        Err(refusal) => refuse(&mut exchange, &refusal).await,
    };
    let (status, sent, received) = (exchange.status, exchange.sent_bytes, exchange.received_bytes);
    match outcome {
        Ok(()) => {
            server.service().on_answered(status, sent, received, io.now_ns() - start_ns);
            guard.set(io.now_ns() + server.limits().send_wait_ns, Hangup::Both, false);
        }
        Err(_) => stream.cut(),
    }
    // It counts until hyper has nothing of it any more.
    stream.sent().await
}
