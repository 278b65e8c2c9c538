//! The N-th operation of the disk fails, once, for every N of a fixed workload and each of two errors: whatever the node makes of
//! it, what was acknowledged is there afterwards, and what is there can be read. Then the power goes at once, or the node goes on
//! for a while and is killed: what it wrote without knowing whether it was written is there or not.

use crate::boot;
use crate::model::Model;
use crate::script::{Op, begun, blobs, copy_of, look_at, machine, perform, shared, while_running};
use runtime::twin::{Cut, FaultPlan, Image, Rng, Twin};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
/// Steps of the world that a node lives on for at most, before it is killed.
const STEPS_MAX: u64 = 60;
/// Runs of each operation that end so: a failed write is there or not, and the node is killed here or there.
const KILLS: u64 = 2;

const OPS: [Op; 9] = [
    Op::PutSmall,
    Op::PutLarge,
    Op::PutBrief,
    Op::Upkeep,
    Op::DeleteLarge,
    Op::PutBriefForGood,
    Op::DeleteSmall,
    Op::PutLarge,
    Op::Expire,
];

/// How a node ends whose disk has failed.
#[derive(Clone, Copy, Debug)]
enum End {
    PowerCut,
    /// A few steps later; the seed says how many.
    Killed(u64),
}

/// What became of a node.
struct Swept {
    operations: u64,
    started: bool,
    failed: bool,
}

/// Runs the workload with one operation failing; then the node ends, and a healthy one looks at everything.
fn sweep(begin: &(Image, Model), nth: Option<(u64, i32)>, end: End) -> Result<Swept, String> {
    let blobs = blobs();
    let seed = if let End::Killed(seed) = end { seed } else { 2 };
    let mut twin = Twin::resume(seed, &begin.0);
    let mut plan = FaultPlan::none();
    plan.nth = nth;
    twin.set_faults(plan);
    let shared = shared(&twin, &blobs, begin.1.clone(), nth.is_none());
    let mut swept = Swept { operations: 0, started: false, failed: false };
    if let Ok(mut node) = boot::start(&mut twin, machine(1)) {
        swept.started = true;
        let work = perform(twin.outside(), shared.clone(), OPS.to_vec());
        while_running(&twin, &mut node, work, &mut |_| ());
        swept.failed = node.failure().is_some();
        swept.operations = twin.disk_operations();
        match end {
            End::PowerCut => node.crash(Cut::KeepNone),
            End::Killed(seed) => {
                let steps = Rng::new(seed ^ swept.operations << 8).below(STEPS_MAX);
                for _ in 0..steps {
                    twin.step();
                }
                node.kill();
            }
        }
    }
    let model = copy_of(&shared.model);
    if let Some(violation) = model.violation {
        return Err(violation);
    }
    look_at(&twin.image(), &blobs, &model, 1).map(|()| swept)
}

#[test]
fn any_one_operation_of_the_disk_may_fail() {
    let begin = begun(&blobs());
    let healthy = sweep(&begin, None, End::PowerCut).expect("nothing fails");
    assert!(
        healthy.started && !healthy.failed && healthy.operations > 600,
        "{} operations",
        healthy.operations
    );
    let kills = (1..=KILLS).map(|seed| (EIO, "EIO", End::Killed(seed)));
    let cuts = [(EIO, "EIO", End::PowerCut), (ENOSPC, "ENOSPC", End::PowerCut)];
    for (errno, name, end) in cuts.into_iter().chain(kills) {
        let (mut refused, mut stopped, mut went_on) = (0, 0, 0);
        for nth in 1..=healthy.operations {
            match sweep(&begin, Some((nth, errno)), end) {
                Ok(Swept { started: false, .. }) => refused += 1,
                Ok(Swept { failed: true, .. }) => stopped += 1,
                Ok(_) => went_on += 1,
                Err(broken) => panic!("sweep, {name} at disk operation {nth}, {end:?}: {broken}"),
            }
        }
        println!(
            "{name} at each of {} disk operations, {end:?}: {refused} starts refused, {stopped} nodes stopped, {went_on} went on",
            healthy.operations
        );
        assert!(refused > 0 && stopped > 0 && went_on > 0);
    }
}
