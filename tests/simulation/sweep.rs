//! The N-th operation of the disk fails, once, for every N of a fixed workload and each of two errors: whatever the node makes of
//! it, what was acknowledged is there afterwards, and what is there can be read. Then the power goes at once, or the node goes on
//! for a while and is killed: what it wrote without knowing whether it was written is there or not. Started again it has it on the
//! disk before it builds on it. With two data directories it goes on without one of them, and everything is tried again, until it
//! is stopped.

use crate::boot::{self, Machine};
use crate::model::Model;
use crate::script::{
    DISK_BYTES, Op, begun, blobs, copy_of, look_at, machine, perform, shared, while_running,
};
use runtime::twin::{Cut, FaultPlan, Image, Rng, Twin};

/// An error, and the runs in which it is met.
#[derive(Clone, Copy)]
struct Failing {
    errno: i32,
    name: &'static str,
    /// Of each operation that end so: a failed write is there or not, and the node is killed here or there.
    kills: u64,
    /// Of these, those that go on.
    restarts: u64,
    /// Of each operation of two disks.
    stops: u64,
}

const ERRORS: [Failing; 2] = [
    Failing { errno: libc::EIO, name: "EIO", kills: 2, restarts: 1, stops: 4 },
    Failing { errno: libc::ENOSPC, name: "ENOSPC", kills: 1, restarts: 0, stops: 2 },
];

/// Steps of the world that a node lives on for at most, before it is killed.
const STEPS_MAX: u64 = 60;

/// Everything twice: a client tries again what was refused.
const OPS_TWICE: [Op; 8] = [
    Op::PutSmall,
    Op::PutSmall,
    Op::PutLarge,
    Op::PutLarge,
    Op::DeleteSmall,
    Op::DeleteSmall,
    Op::DeleteLarge,
    Op::DeleteLarge,
];

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
    /// The same, and started again where the disk works: everything is tried again, then the power goes. What the kernel has
    /// given up to write is read until then.
    Restarted(u64),
    /// Orderly, when the workload is done; the seed decides what a failed write has written.
    Stopped(u64),
}

/// What became of a node.
struct Swept {
    operations: u64,
    started: bool,
    failed: bool,
}

/// What is run.
struct Plan<'p> {
    machine: Machine,
    begin: &'p (Image, Model),
    ops: &'p [Op],
}

/// Runs the workload with one operation failing; then the node ends, and a healthy one looks at everything.
fn sweep(plan: &Plan<'_>, nth: Option<(u64, i32)>, end: End) -> Result<Swept, String> {
    let blobs = blobs();
    let seed = if let End::Killed(seed) | End::Restarted(seed) | End::Stopped(seed) = end { seed } else { 2 };
    let mut twin = Twin::resume(seed, &plan.begin.0);
    let mut faults = FaultPlan::none();
    faults.nth = nth;
    twin.set_faults(faults);
    let shared = shared(&twin, &blobs, plan.begin.1.clone(), nth.is_none());
    let mut swept = Swept { operations: 0, started: false, failed: false };
    if let Ok(mut node) = boot::start(&mut twin, plan.machine) {
        swept.started = true;
        let work = perform(twin.outside(), shared.clone(), plan.ops.to_vec());
        while_running(&twin, &mut node, work, &mut |_| ());
        swept.failed = node.failure().is_some();
        swept.operations = twin.disk_operations();
        match end {
            End::PowerCut => node.crash(Cut::KeepNone),
            End::Killed(seed) | End::Restarted(seed) => {
                let steps = Rng::new(seed ^ swept.operations << 8).below(STEPS_MAX);
                for _ in 0..steps {
                    twin.step();
                }
                node.kill();
            }
            End::Stopped(_) => boot::stop(&twin, node),
        }
    }
    if matches!(end, End::Restarted(_)) {
        twin.set_faults(FaultPlan::none());
        shared.boot.set(1);
        let mut node = boot::start(&mut twin, plan.machine)?;
        let work = perform(twin.outside(), shared.clone(), plan.ops.to_vec());
        while_running(&twin, &mut node, work, &mut |_| ());
        node.crash(Cut::KeepNone);
    }
    let model = copy_of(&shared.model);
    if let Some(violation) = model.violation {
        return Err(violation);
    }
    look_at(&twin.image(), &blobs, &model, plan.machine).map(|()| swept)
}

#[test]
fn any_one_operation_of_the_disk_may_fail() {
    let plan = Plan { machine: machine(1), begin: &begun(&blobs()), ops: &OPS };
    let healthy = sweep(&plan, None, End::PowerCut).expect("nothing fails");
    assert!(
        healthy.started && !healthy.failed && healthy.operations > 600,
        "{} operations",
        healthy.operations
    );
    let ends = |of: Failing| {
        let kills = (1..=of.kills).map(End::Killed).chain((1..=of.restarts).map(End::Restarted));
        [End::PowerCut].into_iter().chain(kills)
    };
    for (Failing { errno, name, .. }, end) in
        ERRORS.into_iter().flat_map(|of| ends(of).map(move |end| (of, end)))
    {
        let (mut refused, mut stopped, mut went_on) = (0, 0, 0);
        for nth in 1..=healthy.operations {
            match sweep(&plan, Some((nth, errno)), end) {
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

#[test]
fn any_one_operation_of_either_of_two_disks_may_fail() {
    let machine = Machine { dirs: 2, ..machine(1) };
    let plan = Plan { machine, begin: &(begun_on(machine), Model::default()), ops: &OPS_TWICE };
    let healthy = sweep(&plan, None, End::Stopped(2)).expect("nothing fails");
    assert!(healthy.started && !healthy.failed, "{} operations", healthy.operations);
    let runs = ERRORS.into_iter().flat_map(|of| (1..=of.stops).map(move |seed| (of, seed)));
    for (Failing { errno, name, .. }, seed) in runs {
        let mut went_on = 0;
        for nth in 1..=healthy.operations {
            let swept = sweep(&plan, Some((nth, errno)), End::Stopped(seed));
            let swept = swept.unwrap_or_else(|broken| {
                panic!("sweep of two disks, {name} at disk operation {nth}, seed {seed}: {broken}")
            });
            went_on += u64::from(swept.started && !swept.failed);
        }
        println!(
            "{name} at each of {} operations of two disks, seed {seed}: {went_on} went on",
            healthy.operations
        );
        assert!(went_on > 0);
    }
}

/// Empty disks that a node has used.
fn begun_on(machine: Machine) -> Image {
    let mut twin = Twin::new(1, DISK_BYTES, FaultPlan::none());
    let node = boot::start(&mut twin, machine).expect("starts on empty disks");
    boot::stop(&twin, node);
    twin.image()
}
