//! One column of the node: its tier, engine, listeners; how it drains.

use super::access::Doors;
use super::devices::DeviceLimits;
use super::doorbells;
use super::mount::{self, Attached, Connection};
use super::ops::OpsService;
use super::slice::{self, SlicePlan, Slices};
use crate::config::size::Bytes;
use blobcache::api::{Reply, Request};
use blobcache::fetch::Fetches;
use blobcache::metrics::Metrics;
use blobcache::{BlobService, Limits, Owner, Seen};
use net::client::{Client, Trust};
use net::{Server, Service};
use runtime::call::{Letter, letters};
use runtime::column::{Body, Column, Columns, Plan, start};
use runtime::io::{Io, Listener as _};
use runtime::mesh::{Doorbell, Port};
use runtime::shards::ShardMap;
use runtime::tier::{DiskPlan, Recovered, ScrubCounts, Shard};
use std::future::Future;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::pin::Pin;
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
    /// Where blobs are served.
    pub blob_listen: SocketAddr,
    /// The caching proxy, if it runs.
    pub slice: Option<SlicePlan>,
    /// Where metrics and health are.
    pub ops_listen: SocketAddr,
    /// How long a blob stays whose put does not say.
    pub object_ttl_ms: Option<u64>,
    /// Whether large blobs are read into RAM ahead of sequential readers.
    pub prefetch: bool,
    /// The most that looking for damage may read in a second, of all columns together; `None`: nothing looks for it.
    pub scrub_bytes_per_s: Option<NonZeroU64>,
    /// How long it rests when it has read everything.
    pub scrub_rest_ms: u64,
    /// Whether what is in RAM may be in pages of the page cache.
    pub shared_pages: bool,
    /// Whether everything stored is verified at the start.
    pub verify_at_start: bool,
    /// Columns that have yet to do so: until it is none the node is not ready.
    pub unverified: Arc<AtomicUsize>,
    /// The data directories, held.
    pub disks: Vec<DiskPlan>,
    /// Memory of all columns together.
    pub memory_bytes: u64,
    /// Who owns what.
    pub map: ShardMap,
    /// Whom origins are checked against.
    pub trust: Trust,
    /// What the listeners ask of those who come.
    pub doors: Doors,
    /// Columns whose requests are all answered: until it is every one, the others may still ask this column.
    pub drained: Arc<AtomicUsize>,
}

type Letters = Port<Letter<Request, Reply>>;
/// A column's set-up under way.
pub type SetUp = Pin<Box<dyn Future<Output = Result<Body, String>>>>;

/// What every column of a node runs first, on either machine. `bells[k]` wakes column `k`; `attach` adds what one machine only
/// has: mounts.
pub fn wire<I: Io>(
    node: NodePlan,
    bells: &[Arc<Doorbell>],
    recovered: Vec<Recovered>,
    attach: impl Fn(&Column<I>, &Rc<blobcache::Columns<I>>) -> Result<Attached, String> + Clone + Send + 'static,
) -> impl Fn(Column<I>) -> SetUp + Clone + Send + 'static {
    let ports: Vec<Letters> = letters(bells);
    // Each column takes its own part once.
    let ports = ports.into_iter().zip(slice::ports(bells));
    let parts: Vec<_> = ports.zip(recovered).map(Some).collect();
    let parts = Arc::new(Mutex::new(parts));
    move |column| {
        let part = parts.lock().expect("columns only take from it")[column.index].take();
        let (node, attach) = (Rc::new(node.clone()), attach.clone());
        Box::pin(async move {
            let (port, recovered) = part.expect("a column is set up once");
            set_up(column, node, port, recovered, attach).await
        })
    }
}

/// Starts all columns; none is left running if one fails.
pub(super) fn start_all(
    plan: &Plan,
    node: NodePlan,
    devices: Vec<DeviceLimits>,
    recovered: Vec<Recovered>,
    connections: Vec<Connection>,
) -> Result<Columns, String> {
    let bells = doorbells(plan.cpus.len()).map_err(|e| e.to_string())?;
    let attach = move |column: &Column, columns: &_| mount::attach(&connections, column, columns);
    let set_up = wire(node, &bells, recovered, attach);
    start(plan, bells, move |column| {
        devices.iter().for_each(|device| column.io.limit_device(&device.dirs, device.limits));
        set_up(column)
    })
}

/// Buffers for I/O come out of the same memory as blobs held in RAM: this much is left to them.
fn io_bytes(memory: u64) -> u64 {
    (memory / 4).clamp(32 << 20, 512 << 20)
}

async fn set_up<I: Io>(
    column: Column<I>,
    node: Rc<NodePlan>,
    (port, slice_port): (Letters, slice::Letters),
    recovered: Recovered,
    attach: impl Fn(&Column<I>, &Rc<blobcache::Columns<I>>) -> Result<Attached, String>,
) -> Result<Body, String> {
    let memory_each = node.memory_bytes / node.map.columns() as u64;
    let io_bytes = io_bytes(memory_each);
    let failing = column.clone();
    let memory = column.io.clone();
    let tier_plan = runtime::tier::Plan {
        column: column.index,
        map: node.map,
        held_bytes: memory_each - io_bytes,
        prefetch: node.prefetch,
        shared_pages: node.shared_pages,
        disks: node.disks.clone(),
        hold: Box::new(move |data| {
            let mut buffer = memory.buffer_fitting(data.len())?;
            buffer[..data.len()].copy_from_slice(data);
            Some(buffer.into_shared(data.len()))
        }),
        on_stop: Rc::new(move |reason| failing.fail(reason)),
    };
    let tier = Shard::new(column.io.clone(), tier_plan, recovered);
    tier.prepare().await.map_err(|e| e.to_string())?;
    spawn_upkeep(&column, tier.clone());
    spawn_scrub(&column, tier.clone(), node.clone());
    let (stalls, disk) = (column.stalls().clone(), column.io.clone());
    let seen = Seen { stalls: Box::new(move || stalls.total()), more: Box::new(move || disk.samples()) };
    let metrics = Metrics::new(column.index);
    // Each of two engines has its half of the buffers.
    let io_bytes = if node.slice.is_some() { io_bytes / 2 } else { io_bytes };
    let limits = Limits::new(io_bytes);
    let fetches = Fetches::new(Client::new(&column.io, node.trust.clone()), &limits);
    let owner = Owner::new(column.io.clone(), tier.clone(), metrics, fetches, seen);
    let (columns, inbox) = blobcache::Columns::connect(column.index, node.map, owner, port);
    column.add_inbox(inbox);
    let blobs = BlobService::new(columns.clone(), &limits).with_ttl_ms(node.object_ttl_ms);
    let blobs = Server::behind(&column.io, blobs, net::Limits::default(), &node.doors.blob);
    let addr = node.blob_listen;
    let blob_listener = column.io.listen(addr).map_err(|e| format!("cannot listen on {addr}: {e}"))?;
    let slices = slice::set_up(&column, &node, (tier.clone(), io_bytes), slice_port, &columns)?;
    let ops = match column.index {
        0 => {
            let addr = node.ops_listen;
            let listener = column.io.listen(addr).map_err(|e| format!("cannot listen on {addr}: {e}"))?;
            let service = OpsService::new(
                columns.clone(),
                slices.as_ref().map(|s| s.columns.clone()),
                column.clone(),
                &node,
            );
            let limits = net::Limits::default();
            Some((Server::behind(&column.io, service, limits, &node.doors.ops), listener))
        }
        _ => None,
    };
    let attached = attach(&column, &columns)?;
    Ok(Box::pin(run(column, node, tier, (blobs, slices, attached), blob_listener, ops)))
}

type Ops<I> = (Server<I, OpsService<I>>, <I as Io>::Listener);

async fn run<I: Io>(
    column: Column<I>,
    node: Rc<NodePlan>,
    tier: Shard<I>,
    (blobs, slices, attached): (Server<I, BlobService<I>>, Option<Slices<I>>, Attached),
    listener: I::Listener,
    ops: Option<Ops<I>>,
) {
    if column.index == 0 {
        announce(&node);
    }
    spawn_accept(&column, "accept-blob", listener, blobs.clone());
    let ops = ops.map(|(server, listener)| {
        spawn_accept(&column, "accept-ops", listener, server.clone());
        server
    });
    let (slices, access) = match slices {
        Some(Slices { server, listener, access, .. }) => {
            spawn_accept(&column, "accept-slice", listener, server.clone());
            (Some(server), access)
        }
        None => (None, None),
    };
    attached.start();
    column.stopped().await;
    let connections = || blobs.connections() + slices.as_ref().map_or(0, Server::connections);
    let drain = || {
        blobs.drain();
        slices.iter().for_each(Server::drain);
    };
    drain();
    let due_ns = column.io.now_ns() + DRAIN_NS;
    while connections() > 0 && column.io.now_ns() < due_ns {
        column.io.sleep(DRAIN_LOOK_NS).await;
        drain();
    }
    if let Some(access) = access {
        access.flush();
    }
    attached.drain().await;
    node.drained.fetch_add(1, Ordering::AcqRel);
    while node.drained.load(Ordering::Acquire) < node.map.columns() && column.io.now_ns() < due_ns {
        column.io.sleep(DRAIN_LOOK_NS).await;
    }
    // Nobody stores anything any more.
    tier.close().await;
    if let Some(ops) = ops {
        ops.drain();
    }
    if connections() > 0 {
        tracing::warn!(
            column = column.index,
            connections = connections(),
            "cut off: they did not finish in time"
        );
    }
}

fn announce(node: &NodePlan) {
    tracing::info!(
        blob = %node.blob_listen,
        slice = %node.slice.as_ref().map_or("none: no --slice-origin".to_owned(), |plan| plan.listen.to_string()),
        ops = %node.ops_listen,
        columns = node.map.columns(),
        memory = %Bytes(node.memory_bytes),
        disk = %Bytes(node.disks.iter().map(|d| d.budget.limit()).sum()),
        data = %node.disks.iter().map(|d| d.dir.names().root().display().to_string()).collect::<Vec<_>>().join(" "),
        "serving"
    );
}

/// Takes connections until the node stops.
fn spawn_accept<I: Io, S: Service<I>>(
    column: &Column<I>,
    name: &'static str,
    mut listener: I::Listener,
    server: Server<I, S>,
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

/// Looks for damage, first in everything if that is asked for; until the node stops.
fn spawn_scrub<I: Io>(column: &Column<I>, tier: Shard<I>, node: Rc<NodePlan>) {
    let me = column.clone();
    column.io.spawn("scrub", async move {
        let work = async {
            if tier.ready().await.is_err() {
                return;
            }
            if node.verify_at_start {
                let ScrubCounts { objects, bytes, damaged, pass_ns, .. } = tier.verify().await;
                node.unverified.fetch_sub(1, Ordering::AcqRel);
                tracing::info!(objects, bytes = %Bytes(bytes), damaged, ms = pass_ns / 1_000_000, "verified");
            }
            if let Some(rate) = node.scrub_bytes_per_s {
                let share = rate.get() / node.map.columns() as u64;
                let share = NonZeroU64::new(share).unwrap_or(NonZeroU64::MIN);
                tier.scrub(share, node.scrub_rest_ms.saturating_mul(1_000_000)).await;
            }
        };
        futures_lite::future::or(me.stopped(), work).await;
    });
}

/// Reads what recovery left; then deletes blobs whose time is over and keeps the disks tidy.
fn spawn_upkeep<I: Io>(column: &Column<I>, tier: Shard<I>) {
    let (me, io) = (column.clone(), column.io.clone());
    column.io.spawn("upkeep", async move {
        // A failure has stopped the node already.
        if tier.load_all().await.is_err() || tier.ready().await.is_err() {
            return;
        }
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
