//! Short fixed workloads of one client, and a look at what a disk holds after them. Called by `images`, `sweep`, `flips`.

use crate::boot::{self, Machine};
use crate::model::{Asked, Blob, Model, SharedModel};
use crate::workload::{Shared, Worker, check_all};
use runtime::io::Io;
use runtime::twin::{Image, Node, Twin, TwinIo};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

const LIMIT_NS: u64 = 600_000_000_000;
/// Of the disk of these workloads.
pub const DISK_BYTES: u64 = 1 << 30;
/// Longer than a round of upkeep: the first one after a restart writes a checkpoint.
const UPKEEP_NS: u64 = 2_500_000_000;
/// Longer than a blob with an end lives, and than it takes to sweep what is expired.
const EXPIRY_NS: u64 = 12_000_000_000;

/// One step of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    PutSmall,
    PutLarge,
    /// With an end.
    PutBrief,
    /// For good, what may have been stored with an end.
    PutBriefForGood,
    DeleteSmall,
    DeleteLarge,
    /// Time for upkeep.
    Upkeep,
    /// Time for what has an end to end.
    Expire,
}

/// All of them.
pub const OPS: [Op; 8] = [
    Op::PutSmall,
    Op::PutLarge,
    Op::PutBrief,
    Op::PutBriefForGood,
    Op::DeleteSmall,
    Op::DeleteLarge,
    Op::Upkeep,
    Op::Expire,
];

const SMALL: usize = 0;
const LARGE: usize = 1;
const BRIEF: usize = 2;
const OLD_SMALL: usize = 3;
const OLD_LARGE: usize = 4;

/// The machine of these workloads.
pub fn machine(columns: usize) -> Machine {
    Machine { columns, dirs: 1, quota_bytes: 64 << 20 }
}

/// The blobs of these workloads: of one client.
pub fn blobs() -> Rc<Vec<Vec<Blob>>> {
    let sizes = [700, 70_000, 3_000, 5_000, 140_001];
    let number = |n: usize| n as u64 + 1;
    Rc::new(vec![sizes.iter().enumerate().map(|(n, &size)| Blob::new(9, number(n), size)).collect()])
}

/// A client's side of a world.
pub fn shared(twin: &Twin, blobs: &Rc<Vec<Vec<Blob>>>, model: Model, strict: bool) -> Rc<Shared> {
    Rc::new(Shared {
        model: Rc::new(RefCell::new(model)),
        blobs: blobs.clone(),
        stop: Cell::new(false),
        running: Cell::new(0),
        strict: Cell::new(strict),
        think_ns: 0,
        deletions: 0,
        boot: Cell::new(0),
        watch: twin.watch(),
    })
}

/// Does the steps, one after the other.
pub async fn perform(io: TwinIo, shared: Rc<Shared>, ops: Vec<Op>) {
    let mut worker = Worker::new(&io, &shared, 0, 5);
    let brief = Asked { ttl_ms: Some(5000), ..Asked::default() };
    let boot = shared.boot.get();
    for op in ops {
        // With another one on the next boot it would undo what that one is promised.
        if shared.boot.get() != boot {
            return;
        }
        match op {
            Op::PutSmall => worker.put_as(SMALL, Asked::default()).await,
            Op::PutLarge => worker.put_as(LARGE, Asked::default()).await,
            Op::PutBrief => worker.put_as(BRIEF, brief).await,
            Op::PutBriefForGood => worker.put_as(BRIEF, Asked::default()).await,
            Op::DeleteSmall => worker.delete(SMALL).await,
            Op::DeleteLarge => worker.delete(LARGE).await,
            Op::Upkeep => io.sleep(UPKEEP_NS).await,
            Op::Expire => io.sleep(EXPIRY_NS).await,
        }
    }
}

/// Lets `work` happen while the node runs, or until it fails.
pub fn while_running(
    twin: &Twin,
    node: &mut Node,
    work: impl Future<Output = ()> + 'static,
    look: &mut dyn FnMut(&Twin),
) {
    let done = Rc::new(Cell::new(false));
    let (io, give) = (twin.outside(), done.clone());
    io.spawn("script", async move {
        work.await;
        give.set(true);
    });
    twin.run_until(LIMIT_NS, || {
        look(twin);
        node.watch();
        done.get() || node.failure().is_some()
    });
}

/// A disk on which a small and a large blob were stored by a node that was killed; what the model says of it.
pub fn begun(blobs: &Rc<Vec<Vec<Blob>>>) -> (Image, Model) {
    let mut twin = Twin::new(1, DISK_BYTES, runtime::twin::FaultPlan::none());
    let shared = shared(&twin, blobs, Model::default(), true);
    let mut node = boot::start(&mut twin, machine(1)).expect("starts on an empty disk");
    let (io, clients) = (twin.outside(), shared.clone());
    let work = async move {
        let mut worker = Worker::new(&io, &clients, 0, 5);
        worker.put_as(OLD_SMALL, Asked::default()).await;
        worker.put_as(OLD_LARGE, Asked::default()).await;
    };
    while_running(&twin, &mut node, work, &mut |_| ());
    node.kill();
    let model = shared.model.borrow().clone();
    assert_eq!(model.violation, None);
    (twin.image(), model)
}

/// Starts a node on a disk and looks at every blob; what is not as the model says. `strict`: it must start, and answer.
pub fn look_at(
    image: &Image,
    blobs: &Rc<Vec<Vec<Blob>>>,
    model: &Model,
    machine: Machine,
) -> Result<(), String> {
    let mut twin = Twin::resume(3, image);
    let may_lose = model.may_lose;
    let shared = shared(&twin, blobs, model.clone(), !may_lose);
    let node = match boot::start(&mut twin, machine) {
        Ok(node) => node,
        // It says what is wrong and where: that is all it can do.
        Err(why) if may_lose && why.contains("/data1") => return Ok(()),
        Err(why) => return Err(format!("does not start: {why}")),
    };
    let failed = look_at_all(&twin, node, &shared);
    let violation = shared.model.borrow().violation.clone();
    match (violation, failed) {
        (Some(violation), _) => Err(violation),
        (None, Some(why)) if !may_lose => Err(format!("fails: {why}")),
        _ => Ok(()),
    }
}

/// Looks at every blob; why the node has stopped, if it has.
pub fn look_at_all(twin: &Twin, mut node: Node, shared: &Rc<Shared>) -> Option<String> {
    while_running(twin, &mut node, check_all(twin.outside(), shared.clone()), &mut |_| ());
    let failed = node.failure().map(str::to_owned);
    node.kill();
    failed
}

/// A copy of what a model says now.
pub fn copy_of(model: &SharedModel) -> Model {
    model.borrow().clone()
}
