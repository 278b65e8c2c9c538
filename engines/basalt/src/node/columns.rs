//! One column of the node: its tier, engine, listeners; how it drains.

use super::ops::OpsService;
use super::{Shared, doorbells};
use crate::config::Settings;
use blobcache::api::{Reply, Request};
use blobcache::fetch::Fetches;
use blobcache::metrics::Metrics;
use blobcache::{BlobService, Limits, Owner};
use net::client::{Client, Trust};
use net::{Server, Service};
use runtime::budget::Budget;
use runtime::call::{Letter, letters};
use runtime::column::{Body, Column, Columns, Plan, start};
use runtime::io::{Io, Listener as _};
use runtime::mesh::Port;
use runtime::ring::{Listener, RingIo};
use runtime::shards::ShardMap;
use runtime::tier::{DataDir, Recovered, Shard};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// How long requests under way may take once the node stops.
const DRAIN_NS: u64 = 30_000_000_000;
const DRAIN_LOOK_NS: u64 = 20_000_000;
/// After an accept error (descriptors or memory used up) others must finish first.
const ACCEPT_RETRY_NS: u64 = 100_000_000;
/// Expired blobs are not served; this is when their space comes back.
const EXPIRY_NS: u64 = 10_000_000_000;
const RUN_DELAY_SAMPLE_NS: u64 = 1_000_000_000;

/// What every column is told.
#[derive(Clone)]
pub struct NodePlan {
    pub settings: Arc<Settings>,
    pub dir: Arc<DataDir>,
    pub budget: Budget,
    pub memory_each: u64,
    pub map: ShardMap,
    /// Whom origins are checked against.
    pub trust: Trust,
    /// Columns whose requests are all answered: until it is every one, the others may still ask this column.
    pub drained: Arc<AtomicUsize>,
}

type Letters = Port<Letter<Request, Reply>>;

/// Starts all columns; none is left running if one fails.
pub fn start_all(plan: &Plan, node: NodePlan, recovered: Vec<Recovered>) -> Result<Columns, String> {
    let bells = doorbells(plan.cpus.len()).map_err(|e| e.to_string())?;
    let ports: Vec<Letters> = letters(&bells);
    // Each column takes its own part once.
    let parts: Vec<_> = ports.into_iter().zip(recovered).map(Some).collect();
    let parts = Arc::new(Mutex::new(parts));
    start(plan, bells, move |column| {
        let part = parts.lock().expect("columns only take from it")[column.index].take();
        let node = node.clone();
        async move {
            let (port, recovered) = part.expect("a column is set up once");
            set_up(column, Rc::new(node), port, recovered).await
        }
    })
}

/// Buffers for I/O come out of the same memory as blobs held in RAM: this much is left to them.
fn io_bytes(memory: u64) -> u64 {
    (memory / 4).clamp(32 << 20, 512 << 20)
}

async fn set_up(column: Column, node: Shared, port: Letters, recovered: Recovered) -> Result<Body, String> {
    let io_bytes = io_bytes(node.memory_each);
    let failing = column.clone();
    let arena = column.io.arena();
    let tier_plan = runtime::tier::Plan {
        column: column.index,
        columns: node.map.columns(),
        held_bytes: node.memory_each - io_bytes,
        budget: node.budget.clone(),
        hold: Box::new(move |data| {
            let mut buffer = arena.alloc(data.len())?;
            buffer[..data.len()].copy_from_slice(data);
            Some(buffer.into_shared(data.len()))
        }),
        on_stop: Rc::new(move |reason| failing.fail(reason)),
    };
    let tier = Shard::new(column.io.clone(), &node.dir, tier_plan, recovered);
    tier.prepare().await.map_err(|e| e.to_string())?;
    spawn_expiry(&column, tier.clone());
    let stalls = column.io.stalls().clone();
    let metrics = Metrics::new(column.index);
    let limits = Limits::new(io_bytes);
    let fetches = Fetches::new(Client::new(&column.io, node.trust.clone()), &limits);
    let owner = Owner::new(column.io.clone(), tier, metrics, fetches, Box::new(move || stalls.total()));
    let (columns, inbox) = blobcache::Columns::connect(column.index, node.map, owner, port);
    column.add_inbox(inbox);
    let blobs = BlobService::new(columns.clone(), &limits);
    let blobs = Server::new(&column.io, blobs, net::Limits::default());
    let addr = node.settings.blob_listen;
    let blob_listener = column.io.listen(addr).map_err(|e| format!("cannot listen on {addr}: {e}"))?;
    let ops = match column.index {
        0 => {
            let addr = node.settings.ops_listen;
            let listener = column.io.listen(addr).map_err(|e| format!("cannot listen on {addr}: {e}"))?;
            let service = OpsService::new(columns.clone(), column.clone());
            Some((Server::new(&column.io, service, net::Limits::default()), listener))
        }
        _ => None,
    };
    Ok(Box::pin(run(column, node, blobs, blob_listener, ops)))
}

type Ops = (Server<RingIo, OpsService>, Listener);

async fn run(
    column: Column,
    node: Shared,
    blobs: Server<RingIo, BlobService<RingIo>>,
    listener: Listener,
    ops: Option<Ops>,
) {
    if column.index == 0 {
        announce(&node);
    }
    spawn_run_delay_sampler(&column);
    spawn_accept(&column, "accept-blob", listener, blobs.clone());
    let ops = ops.map(|(server, listener)| {
        spawn_accept(&column, "accept-ops", listener, server.clone());
        server
    });
    column.stopped().await;
    blobs.drain();
    let due_ns = column.io.now_ns() + DRAIN_NS;
    while blobs.connections() > 0 && column.io.now_ns() < due_ns {
        column.io.sleep(DRAIN_LOOK_NS).await;
        blobs.drain();
    }
    node.drained.fetch_add(1, Ordering::AcqRel);
    while node.drained.load(Ordering::Acquire) < node.map.columns() && column.io.now_ns() < due_ns {
        column.io.sleep(DRAIN_LOOK_NS).await;
    }
    if let Some(ops) = ops {
        ops.drain();
    }
    if blobs.connections() > 0 {
        tracing::warn!(
            column = column.index,
            connections = blobs.connections(),
            "cut off: they did not finish in time"
        );
    }
}

fn announce(node: &NodePlan) {
    tracing::info!(
        blob = %node.settings.blob_listen,
        ops = %node.settings.ops_listen,
        columns = node.map.columns(),
        memory = %crate::config::size::Bytes(node.settings.memory_bytes),
        disk = %crate::config::size::Bytes(node.budget.limit()),
        data = %node.settings.data_dir.display(),
        "serving"
    );
}

/// Takes connections until the node stops.
fn spawn_accept<S: Service<RingIo>>(
    column: &Column,
    name: &'static str,
    mut listener: Listener,
    server: Server<RingIo, S>,
) {
    let (me, io) = (column.clone(), column.io.clone());
    column.io.spawn(name, async move {
        loop {
            let stopped = async {
                me.stopped().await;
                None
            };
            let accepted = async { Some(listener.accept().await) };
            match futures_lite::future::or(stopped, accepted).await {
                None => return,
                Some(Ok(conn)) => server.serve(conn),
                Some(Err(e)) => {
                    tracing::warn!(error = %e, "a connection could not be accepted");
                    io.sleep(ACCEPT_RETRY_NS).await;
                }
            }
        }
    });
}

/// Deletes blobs whose time is over.
fn spawn_expiry(column: &Column, tier: Shard<RingIo>) {
    let (me, io) = (column.clone(), column.io.clone());
    column.io.spawn("expiry", async move {
        while !me.is_stopping() {
            io.sleep(EXPIRY_NS).await;
            if let Err(e) = tier.sweep_expired().await {
                tracing::warn!(error = %e, "expired blobs stay until the next sweep");
            }
        }
    });
}

/// Keeps what the stall detector subtracts for a waiting thread recent.
fn spawn_run_delay_sampler(column: &Column) {
    let (me, io) = (column.clone(), column.io.clone());
    column.io.spawn("run-delay", async move {
        while !me.is_stopping() {
            io.stalls().sample_run_delay();
            io.sleep(RUN_DELAY_SAMPLE_NS).await;
        }
    });
}
