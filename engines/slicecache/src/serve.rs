//! The caching proxy on HTTP: heads become [`route::Routed`] values, each kind of request has its file.
//!
//! | request | answer |
//! |---|---|
//! | `GET`, `HEAD` of what may be cached | `answer`: 200, 206, 304, 412, 416 from slices; `kept`: small answers kept whole; `hot`: what is at hand |
//! | `OPTIONS` that goes no further | 200 and what can be done here |
//! | `PURGE` | `purge`: 200 once it holds everywhere |
//! | all others, and what cannot be sliced | `pass`: the origin's own |
//!
//! A path that no origin has is 404, one that cannot be a key 400.

mod answer;
mod hot;
mod kept;
mod pass;
mod purge;
mod route;

use crate::access::{AccessLog, Line};
use crate::columns::Columns;
use crate::config::Config;
use crate::shard::HotAnswer;
use crate::state::fields::Fields;
use net::exchange::Length;
use net::http1::{Head, Status};
use net::{Exchange, Refusal, Service, refuse};
use route::{Routed, Want};
use runtime::io::Io;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;

/// What nginx writes of a client that left before there was an answer.
const CLIENT_LEFT: u16 = 499;

/// The caching proxy of one column.
pub struct SliceService<I: Io> {
    columns: Rc<Columns<I>>,
    config: Config,
    /// Whether everybody who gets in may purge.
    may_purge: bool,
    access: Option<Rc<AccessLog<I>>>,
}

impl<I: Io> SliceService<I> {
    /// The service of a column.
    pub fn new(
        columns: Rc<Columns<I>>,
        may_purge: bool,
        access: Option<Rc<AccessLog<I>>>,
    ) -> SliceService<I> {
        let config = columns.local().config.clone();
        SliceService { columns, config, may_purge, access }
    }

    /// The long way.
    async fn go(&self, routed: Box<Routed>, begin_ns: u64, exchange: &mut Exchange<'_, I>) -> io::Result<()> {
        let done = match &routed.want {
            Want::Slices(ask) => self.answer(&routed, ask, exchange).await,
            Want::Pass(why) => Box::pin(self.pass(&routed, *why, exchange)).await,
            Want::Options => self.options(exchange).await,
            Want::Purge(purges) => Box::pin(self.purge(purges, exchange)).await,
            Want::Refuse(refusal) => refuse(exchange, refusal).await,
        };
        self.note(&routed, begin_ns, exchange);
        done
    }

    /// RFC 9110 §9.3.7: what is answered here; other methods are the origin's.
    async fn options(&self, exchange: &mut Exchange<'_, I>) -> io::Result<()> {
        let date = exchange.date().as_bytes().to_vec();
        exchange.relay_head(Status::Ok.code(), Length::Known(0), |out| {
            out.header("date", &date).header("allow", b"GET, HEAD, OPTIONS, PURGE")
        });
        exchange.send(&[]).await
    }

    /// A line for a request that is over.
    fn note(&self, routed: &Routed, begin_ns: u64, exchange: &Exchange<'_, I>) {
        let Some(access) = &self.access else { return };
        let (io, fields) = (exchange.io(), Fields::of_pairs(routed.lines()));
        access.note(&Line {
            peer: exchange.peer(),
            unix_ms: io.unix_ms(),
            method: &routed.method_name,
            target: &routed.target,
            protocol: exchange.protocol(),
            status: if exchange.status() == 0 { CLIENT_LEFT } else { exchange.status() },
            sent_bytes: exchange.sent_bytes(),
            took_ns: io.now_ns() - begin_ns,
            referer: fields.all("referer").next().unwrap_or_default(),
            agent: fields.all("user-agent").next().unwrap_or_default(),
            told: routed.told.get(),
        });
    }
}

/// A request, and what is decided of it.
pub enum Requested {
    /// It is answered with this.
    Hot(HotAnswer),
    /// It goes the long way.
    Routed(Box<Routed>),
}

impl<I: Io> Service<I> for SliceService<I> {
    type Request = Requested;

    fn route(&self, head: &Head<'_>) -> Result<Requested, Refusal> {
        if let Some(answer) = self.hot(head) {
            return Ok(Requested::Hot(answer));
        }
        match route::route(head, &self.config, self.may_purge) {
            Ok(routed) => Ok(Requested::Routed(Box::new(routed))),
            Err(refusal) => self.refused(head, refusal),
        }
    }

    /// With an access log it is answered here, where that is written.
    fn refused(&self, head: &Head<'_>, refusal: Refusal) -> Result<Requested, Refusal> {
        match &self.access {
            Some(_) => Ok(Requested::Routed(Box::new(Routed::refused(head, refusal)))),
            None => Err(refusal),
        }
    }

    fn wants_peer(&self) -> bool {
        self.access.is_some()
    }

    fn on_turned_away(&self, peer: Option<IpAddr>, status: Status, sent_bytes: u64) {
        let Some(access) = &self.access else { return };
        access.note(&Line {
            peer,
            unix_ms: self.columns.local().io.unix_ms(),
            method: "",
            target: "",
            protocol: "",
            status: status.code(),
            sent_bytes,
            took_ns: 0,
            referer: b"",
            agent: b"",
            told: None,
        });
    }

    /// What is public is the origin's to say; what is stored is ours.
    fn needs_token(&self, head: &Head<'_>) -> bool {
        head.method == net::http1::Method::Purge
    }

    async fn respond(&self, requested: Requested, exchange: &mut Exchange<'_, I>) -> io::Result<()> {
        let begin_ns = exchange.io().now_ns();
        let done = match requested {
            Requested::Hot(answer) => self.send_hot(answer, exchange).await,
            // Boxed: a request moves its whole future several times, and the short way needs little of it.
            Requested::Routed(routed) => Box::pin(self.go(routed, begin_ns, exchange)).await,
        };
        if let Some(begun_ns) = exchange.begun_ns() {
            self.columns.local().metrics.first_byte_seconds.record(begun_ns - begin_ns);
        }
        done
    }

    fn on_answered(&self, status: u16, sent_bytes: u64, _received_bytes: u64, took_ns: u64) {
        self.columns.local().metrics.on_answered(status, sent_bytes, took_ns);
    }

    fn on_connection(&self, change: i64) {
        self.columns.local().metrics.connections.add(change);
    }
}
