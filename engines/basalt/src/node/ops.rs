//! The ops listener: `/metrics`, `/healthz`, `/livez`, `/readyz`. One column serves it and asks the others.

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
    column: Column<I>,
    /// What `--memory` says.
    memory_bytes: u64,
}

impl<I: Io> OpsService<I> {
    /// Serves what `columns` know.
    pub fn new(columns: Rc<Columns<I>>, column: Column<I>, memory_bytes: u64) -> OpsService<I> {
        OpsService { columns, column, memory_bytes }
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
        ok: bool,
        verbose: bool,
        exchange: &mut Exchange<'_, I>,
    ) -> io::Result<()> {
        let status = if ok { Status::Ok } else { Status::ServiceUnavailable };
        let text = match (verbose, ok) {
            (false, true) => "ok".to_owned(),
            (false, false) => "stopping".to_owned(),
            (true, _) => {
                let mark = if ok { "[+]" } else { "[-]" };
                let verdict = if ok { "passed" } else { "failed" };
                format!("{mark}columns {}\n{mark}blob ok\n{name} check {verdict}\n", self.columns.count())
            }
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

    async fn respond(&self, asked: Asked, exchange: &mut Exchange<'_, I>) -> io::Result<()> {
        match asked {
            Asked::Metrics => self.metrics(exchange).await,
            Asked::Live { verbose } => self.health("livez", true, verbose, exchange).await,
            Asked::Ready { verbose } => {
                self.health("readyz", !self.column.is_stopping(), verbose, exchange).await
            }
        }
    }
}
