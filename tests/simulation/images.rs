//! Crash images: a power cut at every change of the disk in every short workload, the start and the stop included; of the unsynced
//! sectors and names none, all, or any. Each image is started and held against what was acknowledged by then.

use crate::boot;
use crate::model::{Asked, Blob, Model};
use crate::random::number;
use crate::script::{OPS, Op, begun, blobs, copy_of, look_at, machine, perform, shared, while_running};
use crate::workload::Worker;
use runtime::io::Io;
use runtime::twin::{Cut, Image, Twin};
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::rc::Rc;

/// Images of one moment with chosen losses.
const RANDOM_CUTS: u64 = 6;
/// Workloads of three steps take a soak.
const STEPS_MAX: u32 = 2;
const STEPS_MAX_SOAK: u32 = 3;

/// Blobs that fill more than a pack.
const SET: usize = 40;

/// Every workload of up to `steps` steps.
fn workloads(steps: u32) -> Vec<Vec<Op>> {
    let longer = |short: &Vec<Op>| OPS.map(|op| [short.clone(), vec![op]].concat());
    let mut all: Vec<Vec<Op>> = vec![Vec::new()];
    let mut last = all.clone();
    for _ in 0..steps {
        last = last.iter().flat_map(longer).collect();
        all.extend(last.clone());
    }
    all
}

/// A disk and what was acknowledged by then, at each change of the disk from the start of the node to its stop.
fn moments(ops: &[Op], begin: &(Image, Model)) -> Vec<(Image, Model)> {
    let blobs = blobs();
    let mut twin = Twin::resume(2, &begin.0);
    let shared = shared(&twin, &blobs, begin.1.clone(), true);
    let (mut found, mut changes) = (Vec::new(), twin.disk_changes());
    let model = shared.model.clone();
    let mut look = |twin: &Twin| {
        if std::mem::replace(&mut changes, twin.disk_changes()) != twin.disk_changes() {
            found.push((twin.image(), copy_of(&model)));
        }
    };
    let mut node = boot::start_seen(&mut twin, machine(1), &mut look).expect("starts");
    let work = perform(twin.outside(), shared.clone(), ops.to_vec());
    while_running(&twin, &mut node, work, &mut look);
    look(&twin);
    boot::stop_seen(&twin, node, &mut look);
    found.push((twin.image(), copy_of(&shared.model)));
    assert_eq!(shared.model.borrow().violation, None, "{ops:?}");
    found
}

#[test]
fn every_crash_image_of_every_short_workload_holds() {
    let soak = number("BASALT_SEEDS").is_some();
    let begin = begun(&blobs());
    let (mut seen, mut at, mut count) = (HashSet::new(), 0, 0);
    let all = workloads(if soak { STEPS_MAX_SOAK } else { STEPS_MAX });
    for ops in &all {
        for (moment, (image, model)) in moments(ops, &begin).into_iter().enumerate() {
            at += 1;
            let chosen = (1..=RANDOM_CUTS).map(|seed| (Cut::Random, seed * 1000 + at));
            for (how, seed) in [(Cut::KeepNone, 0), (Cut::KeepAll, 0)].into_iter().chain(chosen) {
                let cut = image.cut(how, seed);
                if !seen.insert((cut.fingerprint(), model.demands())) {
                    continue;
                }
                count += 1;
                if let Err(broken) = look_at(&cut, &blobs(), &model, machine(1)) {
                    panic!("images, {ops:?}, moment {moment}, {how:?} {seed}: {broken}");
                }
            }
        }
    }
    println!("{count} crash images of {} moments of {} workloads", at, all.len());
    assert!(count > 1000, "only {count} images");
}

/// Large packed blobs of one client: two sets that fill packs.
fn packed_blobs() -> Rc<Vec<Vec<Blob>>> {
    let size = |n: usize| if n < 2 * SET { 60_000 } else { 70_000 };
    Rc::new(vec![(0..=2 * SET).map(|n| Blob::new(8, n as u64 + 1, size(n))).collect()])
}

/// A pack of the first set dies and becomes a spare, a checkpoint forgets its deletions, and the second set is written over
/// it: the moments at which there is a spare, or was one just before.
fn reuse_moments() -> Vec<(Image, Model)> {
    let blobs = packed_blobs();
    let begin = begun(&crate::script::blobs());
    let mut twin = Twin::resume(2, &begin.0);
    let shared = shared(&twin, &blobs, Model::default(), true);
    let mut node = boot::start(&mut twin, machine(1)).expect("starts");
    let (io, clients) = (twin.outside(), shared.clone());
    let work = async move {
        let mut worker = Worker::new(&io, &clients, 0, 5);
        for own in 0..SET {
            worker.put_as(own, Asked::default()).await;
        }
        for own in 0..SET {
            worker.delete(own).await;
        }
        // Records enough in the index for another checkpoint, and none in the packs.
        for more in 0..300 {
            let asked = Asked { ttl_ms: Some(3_600_000 + more * 1000), ..Asked::default() };
            worker.put_as(2 * SET, asked).await;
        }
        io.sleep(2_500_000_000).await;
        for own in SET..2 * SET {
            worker.put_as(own, Asked::default()).await;
        }
    };
    let (mut found, mut changes, mut left) = (Vec::new(), twin.disk_changes(), 0);
    let model = shared.model.clone();
    let mut look = |twin: &Twin| {
        if std::mem::replace(&mut changes, twin.disk_changes()) == twin.disk_changes() {
            return;
        }
        let image = twin.image();
        let is_spare = |path: &Path| path.to_string_lossy().contains("spare-pack");
        left = if image.files().iter().any(|(path, ..)| is_spare(path)) { 12 } else { left.max(1) - 1 };
        if left > 0 {
            found.push((image, copy_of(&model)));
        }
    };
    while_running(&twin, &mut node, work, &mut look);
    node.kill();
    assert_eq!(shared.model.borrow().violation, None);
    assert!(left == 0 && found.len() > 20, "no segment was written over: {} moments", found.len());
    found
}

/// The first image of a segment that is written over that is not as it should be.
pub fn broken_reuse() -> Option<String> {
    let blobs = packed_blobs();
    let moments = reuse_moments();
    // Nothing happens to the spare until it is taken.
    let last = moments.len().saturating_sub(60);
    moments[last..].iter().enumerate().find_map(|(at, (image, model))| {
        [(Cut::KeepNone, 0), (Cut::KeepAll, 0), (Cut::Random, at as u64)].into_iter().find_map(
            |(how, seed)| {
                let looked = catch_unwind(AssertUnwindSafe(|| {
                    look_at(&image.cut(how, seed), &blobs, model, machine(1))
                }));
                let why = looked.unwrap_or_else(|_| Err("panicked".to_owned())).err()?;
                Some(format!("moment {at} {how:?}: {why}"))
            },
        )
    })
}

#[test]
fn a_segment_that_is_written_over_holds_at_every_moment() {
    assert_eq!(broken_reuse(), None);
}

#[test]
fn what_two_columns_wrote_is_read_by_one_and_by_three() {
    let blobs = blobs();
    let begin = begun(&blobs);
    let mut twin = Twin::resume(2, &begin.0);
    let shared = shared(&twin, &blobs, begin.1, true);
    let mut node = boot::start(&mut twin, machine(2)).expect("starts");
    let ops = vec![Op::PutSmall, Op::PutLarge, Op::Upkeep, Op::DeleteLarge, Op::PutBriefForGood];
    while_running(&twin, &mut node, perform(twin.outside(), shared.clone(), ops), &mut |_| ());
    node.kill();
    let (image, model) = (twin.image(), copy_of(&shared.model));
    for columns in [1, 3, 2] {
        look_at(&image, &blobs, &model, machine(columns))
            .unwrap_or_else(|broken| panic!("{columns} columns: {broken}"));
    }
}
