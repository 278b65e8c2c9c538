//! A node on the twin, started as the binary starts one: recovery on a column of its own, then all columns together.

use basalt::node::columns::{NodePlan, wire};
use basalt::node::slice::SlicePlan;
use basalt::node::{self, DirPlan, OpenError, Opened};
use net::client::Trust;
use runtime::budget::Budget;
use runtime::column::Body;
use runtime::mesh::Doorbell;
use runtime::shards::ShardMap;
use runtime::tier::Guard;
use runtime::twin::{Node, Twin, TwinIo};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};

/// Memory of a column.
const COLUMN_BYTES: usize = 64 << 20;
/// Nothing is fetched over TLS here: the machine's authorities are read once, which takes longer than a start on the twin.
static TRUST: LazyLock<Trust> = LazyLock::new(|| Trust::load(None).expect("no file of ours is named"));
/// Simulated time that a start or a stop may take.
const LIMIT_NS: u64 = 600_000_000_000;

/// Where blobs are served.
pub fn blob_addr() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9000))
}

/// Where metrics are.
pub fn ops_addr() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 2381))
}

/// Reads the data directory as the binary does before its columns start.
fn recover(
    twin: &mut Twin,
    columns: usize,
    dirs: Vec<DirPlan>,
    look: &mut dyn FnMut(&Twin),
) -> Result<Opened, OpenError> {
    let outcome: Rc<RefCell<Option<Result<Opened, OpenError>>>> = Rc::default();
    let (give, dirs, map) = (outcome.clone(), dirs, ShardMap::new(columns));
    let set_up = move |column: runtime::column::Column<TwinIo>| {
        let (give, dirs) = (give.clone(), dirs.clone());
        async move {
            let opened = node::open(&column.io, &dirs, Guard::Alone, map).await;
            *give.borrow_mut() = Some(opened);
            Ok(Box::pin(async {}) as Body)
        }
    };
    let mut one = twin.start(1, COLUMN_BYTES, set_up);
    twin.run_until(LIMIT_NS, || {
        look(twin);
        one.watch();
        one.has_ended()
    });
    one.kill();
    let opened = outcome.take();
    opened.expect("recovery ends with an outcome")
}

/// What a node is started on.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    pub columns: usize,
    /// Data directories, all on the one simulated disk.
    pub dirs: usize,
    /// Of each.
    pub quota_bytes: u64,
}

/// Starts a node; the reason when it does not.
pub fn start(twin: &mut Twin, machine: Machine) -> Result<Node, String> {
    start_seen(twin, machine, &mut |_| ())
}

/// As [`start`]; `look` looks at the world before each of its steps.
pub fn start_seen(twin: &mut Twin, machine: Machine, look: &mut dyn FnMut(&Twin)) -> Result<Node, String> {
    let budgets: Vec<Budget> = (0..machine.dirs).map(|_| Budget::new(machine.quota_bytes)).collect();
    start_on(twin, machine.columns, &budgets, look)
}

/// The same, on budgets that the test looks at, one for each data directory.
pub fn start_on(
    twin: &mut Twin,
    columns: usize,
    budgets: &[Budget],
    look: &mut dyn FnMut(&Twin),
) -> Result<Node, String> {
    start_with(twin, columns, None, budgets, look)
}

/// The same, with a caching proxy.
pub fn start_with(
    twin: &mut Twin,
    columns: usize,
    slice: Option<SlicePlan>,
    budgets: &[Budget],
    look: &mut dyn FnMut(&Twin),
) -> Result<Node, String> {
    let dir = |(n, budget): (u32, &Budget)| DirPlan {
        path: PathBuf::from(format!("/data{n}")),
        budget: budget.clone(),
        weight: n,
        floor_bytes: 0,
    };
    let dirs = (1..).zip(budgets).map(dir).collect();
    let (disks, recovered) = recover(twin, columns, dirs, look).map_err(|e| e.to_string())?;
    let plan = NodePlan {
        blob_listen: blob_addr(),
        slice,
        ops_listen: ops_addr(),
        object_ttl_ms: None,
        prefetch: true,
        // Often enough to meet everything else.
        scrub_bytes_per_s: NonZeroU64::new(4 << 20),
        scrub_rest_ms: 2_000,
        shared_pages: true,
        verify_at_start: false,
        unverified: Arc::default(),
        disks,
        memory_bytes: (COLUMN_BYTES * columns) as u64,
        map: ShardMap::new(columns),
        trust: TRUST.clone(),
        doors: Default::default(),
        drained: Arc::default(),
    };
    let bells: Vec<Arc<Doorbell>> =
        (0..columns).map(|_| Arc::new(Doorbell::new().expect("an eventfd"))).collect();
    let mut node = twin.start(
        columns,
        COLUMN_BYTES,
        wire::<TwinIo>(plan, &bells, recovered, |_, _| Ok(Default::default())),
    );
    twin.run_until(LIMIT_NS, || {
        look(twin);
        node.watch();
        node.is_running() || node.failure().is_some()
    });
    match node.failure().map(str::to_owned) {
        Some(reason) => {
            node.kill();
            Err(reason)
        }
        None => Ok(node),
    }
}

/// An orderly stop.
pub fn stop(twin: &Twin, node: Node) {
    stop_seen(twin, node, &mut |_| ());
}

/// As [`stop`]; `look` looks at the world before each of its steps.
pub fn stop_seen(twin: &Twin, mut node: Node, look: &mut dyn FnMut(&Twin)) {
    node.stop();
    twin.run_until(LIMIT_NS, || {
        look(twin);
        node.watch();
        node.has_ended()
    });
    node.kill();
}
