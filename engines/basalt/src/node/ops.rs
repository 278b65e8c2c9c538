//! The ops listener: `/metrics`, `/healthz`, `/livez`, `/readyz`. One column serves it and asks the others.

use super::columns::NodePlan;
use blobcache::Columns;
use blobcache::api::{Reply, Request};
use net::http1::{Head, Method, Status};
use net::{Exchange, Refusal, Service};
use runtime::column::Column;
use runtime::io::Io;
use runtime::metrics::process::ProcessStats;
use runtime::metrics::{CONTENT_TYPE, render};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What can be asked.
#[derive(Clone, Copy, Debug)]
pub enum Asked {
    /// All counts.
    Metrics,
    /// The process lives; `verbose` lists what was looked at.
    Live { verbose: bool },
    /// Requests are taken.
    Ready { verbose: bool },
}

/// The ops service.
pub struct OpsService<I: Io> {
    columns: Rc<Columns<I>>,
    slices: Option<Rc<slicecache::Columns<I>>>,
    column: Column<I>,
    /// What `--memory` says.
    memory_bytes: u64,
    /// Columns that verify what they have.
    unverified: Arc<AtomicUsize>,
}

impl<I: Io> OpsService<I> {
    /// Serves what `columns` know.
    pub fn new(
        columns: Rc<Columns<I>>,
        slices: Option<Rc<slicecache::Columns<I>>>,
        column: Column<I>,
        node: &NodePlan,
    ) -> OpsService<I> {
        let (memory_bytes, unverified) = (node.memory_bytes, node.unverified.clone());
        OpsService { columns, slices, column, memory_bytes, unverified }
    }

    async fn metrics(&self, exchange: &mut Exchange<'_, I>) -> io::Result<()> {
        let mut snapshots = Vec::new();
        for column in 0..self.columns.count() {
            match self.columns.ask_column(column, Request::Scrape).await {
                Ok(Reply::Snapshot(snapshot)) => snapshots.push(*snapshot),
                Ok(_) => unreachable!("a scrape has its own reply"),
                Err(busy) => return exchange.refuse(Status::ServiceUnavailable, &busy.to_string()).await,
            }
        }
        let disk = self.columns.local().tier.disk_usage();
        snapshots.push(blobcache::metrics::computed(&snapshots, self.memory_bytes, disk));
        if let Some(slices) = &self.slices {
            snapshots.extend(slices.scrape().await);
        }
        let mut text = render(&snapshots);
        match ProcessStats::read() {
            Ok(stats) => stats.render(&mut text),
            Err(e) => tracing::warn!(error = %e, "process figures are missing from /metrics"),
        }
        exchange.answer(Status::Ok, CONTENT_TYPE, text.as_bytes()).await
    }

    /// Kubernetes' form: `ok`, or a line per check and a verdict.
    async fn health(
        &self,
        name: &str,
        fault: Option<&str>,
        verbose: bool,
        exchange: &mut Exchange<'_, I>,
    ) -> io::Result<()> {
        let ok = fault.is_none();
        let status = if ok { Status::Ok } else { Status::ServiceUnavailable };
        let text = if verbose {
            let mark = if ok { "[+]" } else { "[-]" };
            let (blob, verdict) = (fault.unwrap_or("ok"), if ok { "passed" } else { "failed" });
            format!("{mark}columns {}\n{mark}blob {blob}\n{name} check {verdict}\n", self.columns.count())
        } else {
            fault.unwrap_or("ok").to_owned()
        };
        exchange.answer(status, "text/plain; charset=utf-8", text.as_bytes()).await
    }
}

impl<I: Io> Service<I> for OpsService<I> {
    type Request = Asked;

    fn route(&self, head: &Head<'_>) -> Result<Asked, Refusal> {
        if !matches!(head.method, Method::Get | Method::Head) {
            return Err(Refusal::method("GET, HEAD"));
        }
        let verbose =
            head.query.is_some_and(|q| q.split('&').any(|p| p == "verbose" || p.starts_with("verbose=")));
        match head.path {
            "/metrics" => Ok(Asked::Metrics),
            "/healthz" | "/livez" => Ok(Asked::Live { verbose }),
            "/readyz" => Ok(Asked::Ready { verbose }),
            _ => Err(Refusal::new(Status::NotFound, "here are /metrics, /healthz, /livez and /readyz")),
        }
    }

    /// Whoever watches the node must not need a secret for it.
    fn is_public(&self, path: &str) -> bool {
        matches!(path, "/healthz" | "/livez" | "/readyz")
    }

    async fn respond(&self, asked: Asked, exchange: &mut Exchange<'_, I>) -> io::Result<()> {
        match asked {
            Asked::Metrics => self.metrics(exchange).await,
            Asked::Live { verbose } => self.health("livez", None, verbose, exchange).await,
            Asked::Ready { verbose } => {
                let fault = if self.column.is_stopping() {
                    Some("stopping")
                } else {
                    (self.unverified.load(Ordering::Acquire) > 0).then_some("verifying")
                };
                self.health("readyz", fault, verbose, exchange).await
            }
        }
    }
}
