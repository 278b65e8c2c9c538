//! Bugs planted in the slice cache: the simulation that lets one of them live proves nothing. A bug counts as caught by a seed
//! that breaks the promise which that bug breaks, and breaks nothing without it.

use super::run::Plan;
use super::seeds::outcome;
use slicecache::planted::{BUGS, Bug, plant};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Runs within which each bug must be caught.
const SEEDS_MAX: u64 = 400;
/// In a run of them.
fn operations(bug: Bug) -> u64 {
    match bug {
        // A lie of one kind must meet a revalidation, and the object must be asked for once more.
        Bug::ForeignNotModified => 160,
        _ => 40,
    }
}

/// Where nothing else goes wrong, if that is where it shows.
fn severity(bug: Bug, seed: u64) -> u64 {
    match bug {
        Bug::SingleFlightBroken => 0,
        Bug::ValidatorUncompared
        | Bug::ForeignNotModified
        | Bug::ContentRangeUnchecked
        | Bug::ShortBodyAccepted
        | Bug::RetryByteLate => 3 + seed % 3,
        _ => 1 + seed % 3,
    }
}

/// How the judge says that the promise was broken which the bug breaks: one of these.
fn said_of(bug: Bug) -> &'static [&'static str] {
    match bug {
        Bug::ValidatorUncompared
        | Bug::ContentRangeUnchecked
        | Bug::ShortBodyAccepted
        | Bug::RetryByteLate
        | Bug::VersionNumberReused => &["are not those of version"],
        // It makes this version fresh, or gives its bytes the fields of another one.
        Bug::ForeignNotModified => &["stale: vouched for", "are not those of version"],
        Bug::PartialForWhole => &["in sizes", "416 with a size of"],
        Bug::FreshnessIgnored | Bug::NoStoreIgnored => &["stale: vouched for"],
        Bug::VaryIgnored => &["variant ", "the origin never said that this holds"],
        Bug::SingleFlightBroken => &["was fetched twice"],
        Bug::FreedEarly => &["panicked: no entry found for key"],
        Bug::PurgeUnwritten | Bug::PurgeOnOneColumn | Bug::PurgesUnlearned | Bug::GenerationLate => {
            &["it was purged", "and never brought again"]
        }
        Bug::SoftPurgeIgnored | Bug::InvalidationSkipped => &["it was purged"],
        Bug::IfRangeIgnored => &["in sizes"],
    }
}

/// Whether it is this bug that shows: what the judge says stands before what was asked and what had happened.
fn shows(bug: Bug, why: &str) -> bool {
    let verdict = why.lines().next().and_then(|line| line.split(": Ask {").next()).unwrap_or(why);
    said_of(bug).iter().any(|said| verdict.contains(said))
}

fn caught(bug: Bug) -> Option<(u64, String)> {
    (1..=SEEDS_MAX).find_map(|seed| {
        let plan = Plan { seed, operations: operations(bug), severity: Some(severity(bug, seed)) };
        plant(Some(bug));
        let broken = outcome(plan);
        plant(None);
        let why = broken.err().filter(|why| shows(bug, why))?;
        outcome(plan).is_ok().then_some((seed, why))
    })
}

#[test]
fn every_planted_bug_is_caught() {
    // Panics of the runs are findings here, not noise.
    std::panic::set_hook(Box::new(|_| ()));
    let only = std::env::var("BASALT_PLANTED").ok();
    let chosen = |bug: &Bug| only.as_ref().is_none_or(|name| *name == format!("{bug:?}"));
    let bugs: Vec<Bug> = BUGS.into_iter().filter(chosen).collect();
    let (next, alive) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(bug) = bugs.get(next.fetch_add(1, Ordering::Relaxed)) {
            match caught(*bug) {
                Some((seed, why)) => println!("{:<24} seed {seed:>3}: {why:.150}", format!("{bug:?}")),
                None => alive.lock().expect("nobody panics with it").push(*bug),
            }
        }
    };
    thread::scope(|scope| {
        let count = thread::available_parallelism().map_or(1, usize::from);
        (0..count).for_each(|_| drop(scope.spawn(work)));
    });
    let _ = std::panic::take_hook();
    let alive = alive.into_inner().expect("nobody panicked with it");
    assert!(alive.is_empty(), "survived {SEEDS_MAX} seeds each: {alive:?}");
}
