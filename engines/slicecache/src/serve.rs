//! The caching proxy on HTTP: heads become [`route::Routed`] values, each kind of request has its file.
//!
//! | request | answer |
//! |---|---|
//! | `GET`, `HEAD` of what may be cached | `answer`: 200, 206, 304, 412, 416 from slices |
//! | `PURGE` | `purge`: 200 once it holds everywhere |
//! | all others, and what cannot be sliced | `pass`: the origin's own |
//!
//! A path that no origin has is 404, one that cannot be a key 400.

mod answer;
mod pass;
mod purge;
mod route;

use crate::columns::Columns;
use crate::config::Config;
use net::http1::Head;
use net::{Exchange, Refusal, Service};
use route::{Routed, Want};
use runtime::io::Io;
use std::io;
use std::rc::Rc;

/// The caching proxy of one column.
pub struct SliceService<I: Io> {
    columns: Rc<Columns<I>>,
    config: Config,
    /// Whether everybody who gets in may purge.
    may_purge: bool,
}

impl<I: Io> SliceService<I> {
    /// The service of a column.
    pub fn new(columns: Rc<Columns<I>>, may_purge: bool) -> SliceService<I> {
        let config = columns.local().config.clone();
        SliceService { columns, config, may_purge }
    }
}

impl<I: Io> Service<I> for SliceService<I> {
    type Request = Box<Routed>;

    fn route(&self, head: &Head<'_>) -> Result<Box<Routed>, Refusal> {
        route::route(head, &self.config, self.may_purge).map(Box::new)
    }

    /// What is public is the origin's to say; what is stored is ours.
    fn needs_token(&self, head: &Head<'_>) -> bool {
        head.method == net::http1::Method::Purge
    }

    async fn respond(&self, routed: Box<Routed>, exchange: &mut Exchange<'_, I>) -> io::Result<()> {
        match &routed.want {
            Want::Slices(ask) => self.answer(&routed, ask, exchange).await,
            Want::Pass(why) => Box::pin(self.pass(&routed, *why, exchange)).await,
            Want::Purge(purges) => Box::pin(self.purge(purges, exchange)).await,
        }
    }

    fn on_answered(&self, status: u16, sent_bytes: u64, _received_bytes: u64, took_ns: u64) {
        self.columns.local().metrics.on_answered(status, sent_bytes, took_ns);
    }

    fn on_connection(&self, change: i64) {
        self.columns.local().metrics.connections.add(change);
    }
}
