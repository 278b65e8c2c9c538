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
use runtime::call::{Letter, letters};
use runtime::column::{Body, Column, Columns, Plan, start};
use runtime::io::{Io, Listener as _};
use runtime::mesh::Port;
use runtime::ring::{Listener, RingIo};
use runtime::shards::ShardMap;
use runtime::tier::{DiskPlan, Recovered, Shard};
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
/// Dead packs, reclaim, checkpoints.
const UPKEEP_NS: u64 = 1_000_000_000;

/// What every column is told.
#[derive(Clone)]
pub struct NodePlan {
    pub settings: Arc<Settings>,
    pub disks: Vec<DiskPlan>,
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
        map: node.map,
        held_bytes: node.memory_each - io_bytes,
        disks: node.disks.clone(),
        hold: Box::new(move |data| {
            let mut buffer = arena.alloc(data.len())?;
            buffer[..data.len()].copy_from_slice(data);
            Some(buffer.into_shared(data.len()))
        }),
        on_stop: Rc::new(move |reason| failing.fail(reason)),
    };
    let tier = Shard::new(column.io.clone(), tier_plan, recovered);
    tier.prepare().await.map_err(|e| e.to_string())?;
    spawn_upkeep(&column, tier.clone());
    let stalls = column.stalls().clone();
    let metrics = Metrics::new(column.index);
    let limits = Limits::new(io_bytes);
    let fetches = Fetches::new(Client::new(&column.io, node.trust.clone()), &limits);
    let stalls = Box::new(move || stalls.total());
    let owner = Owner::new(column.io.clone(), tier.clone(), metrics, fetches, stalls);
    let (columns, inbox) = blobcache::Columns::connect(column.index, node.map, owner, port);
    column.add_inbox(inbox);
    let blobs = BlobService::new(columns.clone(), &limits).with_ttl_ms(node.settings.object_ttl_ms);
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
    Ok(Box::pin(run(column, node, tier, blobs, blob_listener, ops)))
}

type Ops = (Server<RingIo, OpsService>, Listener);

async fn run(
    column: Column,
    node: Shared,
    tier: Shard<RingIo>,
    blobs: Server<RingIo, BlobService<RingIo>>,
    listener: Listener,
    ops: Option<Ops>,
) {
    if column.index == 0 {
        announce(&node);
    }
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
    // Nobody stores anything any more.
    tier.close().await;
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
        disk = %crate::config::size::Bytes(node.disks.iter().map(|d| d.budget.limit()).sum()),
        data = %node.settings.data_dirs.iter().map(|d| d.path.display().to_string()).collect::<Vec<_>>().join(" "),
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

/// Reads what recovery left; then deletes blobs whose time is over and keeps the disks tidy.
fn spawn_upkeep(column: &Column, tier: Shard<RingIo>) {
    let (me, io) = (column.clone(), column.io.clone());
    column.io.spawn("upkeep", async move {
        // A failure has stopped the node already.
        if tier.load_all().await.is_err() {
            return;
        }
        tier.ready().await;
        let mut expiry_due_ns = 0;
        while !me.is_stopping() {
            if io.now_ns() >= expiry_due_ns {
                expiry_due_ns = io.now_ns() + EXPIRY_NS;
                if let Err(e) = tier.sweep_expired().await {
                    tracing::warn!(error = %e, "expired blobs stay until the next sweep");
                }
            }
            tier.upkeep().await;
            io.sleep(UPKEEP_NS).await;
        }
    });
}
