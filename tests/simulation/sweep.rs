//! The N-th operation of the disk fails, once, for every N of a fixed workload and each of two errors: whatever the node makes of
//! it, what was acknowledged is there afterwards.

use crate::boot;
use crate::model::Model;
use crate::script::{Op, begun, blobs, copy_of, look_at, machine, perform, shared, while_running};
use runtime::twin::{Cut, FaultPlan, Image, Twin};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

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

/// What became of a node.
struct Swept {
    operations: u64,
    started: bool,
    failed: bool,
}

/// Runs the workload with one operation failing; then the power goes, and a healthy node looks at everything.
fn sweep(begin: &(Image, Model), nth: Option<(u64, i32)>) -> Result<Swept, String> {
    let blobs = blobs();
    let mut twin = Twin::resume(2, &begin.0);
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
        node.crash(Cut::KeepNone);
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
    let healthy = sweep(&begin, None).expect("nothing fails");
    assert!(
        healthy.started && !healthy.failed && healthy.operations > 600,
        "{} operations",
        healthy.operations
    );
    for (errno, name) in [(EIO, "EIO"), (ENOSPC, "ENOSPC")] {
        let (mut refused, mut stopped, mut went_on) = (0, 0, 0);
        for nth in 1..=healthy.operations {
            match sweep(&begin, Some((nth, errno))) {
                Ok(Swept { started: false, .. }) => refused += 1,
                Ok(Swept { failed: true, .. }) => stopped += 1,
                Ok(_) => went_on += 1,
                Err(broken) => panic!("sweep, {name} at disk operation {nth}: {broken}"),
            }
        }
        println!(
            "{name} at each of {} disk operations: {refused} starts refused, {stopped} nodes stopped, {went_on} went on",
            healthy.operations
        );
        assert!(refused > 0 && stopped > 0 && went_on > 0);
    }
}
