//! Bugs planted on purpose: the simulation that lets one of them live proves nothing.

use crate::images::broken_reuse;
use crate::random::outcome;
use crate::run::Plan;
use runtime::planted::{BUGS, Bug, plant};

/// Runs within which each bug must be caught.
const SEEDS_MAX: u64 = 400;
const OPERATIONS: u64 = 250;

/// Checksums are missed only where bytes change, retries only where syncs fail.
fn severity(bug: Bug, seed: u64) -> u64 {
    match bug {
        Bug::FailedSyncRetried => 5,
        Bug::PackedUnverified | Bug::ObjectUnverified => 7,
        _ => seed % 3,
    }
}

fn caught(bug: Bug) -> Option<(u64, String)> {
    if bug == Bug::IncarnationUnchecked {
        // Seen only when the power goes in the moment in which a segment is about to be written over.
        plant(Some(bug));
        let broken = broken_reuse();
        plant(None);
        return broken.map(|why| (0, why));
    }
    (1..=SEEDS_MAX).find_map(|seed| {
        let plan = Plan { seed, operations: OPERATIONS, severity: Some(severity(bug, seed)) };
        plant(Some(bug));
        let outcome = outcome(plan);
        plant(None);
        outcome.err().map(|why| (seed, why))
    })
}

#[test]
fn every_planted_bug_is_caught() {
    // Panics of the runs are findings here, not noise.
    std::panic::set_hook(Box::new(|_| ()));
    let only = std::env::var("BASALT_PLANTED").ok();
    let chosen = |bug: &Bug| only.as_ref().is_none_or(|name| *name == format!("{bug:?}"));
    let mut alive = Vec::new();
    for bug in BUGS.into_iter().filter(chosen) {
        match caught(bug) {
            Some((seed, why)) => println!("{:<24} seed {seed:>3}: {why:.150}", format!("{bug:?}")),
            None => alive.push(bug),
        }
    }
    let _ = std::panic::take_hook();
    assert!(alive.is_empty(), "survived {SEEDS_MAX} seeds each: {alive:?}");
}
