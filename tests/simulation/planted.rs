//! Bugs planted on purpose: the simulation that lets one of them live proves nothing. A bug counts as caught by a run that breaks
//! the promise which that bug breaks, and breaks nothing without it.

use crate::flips::broken_index;
use crate::images::broken_reuse;
use crate::random::outcome;
use crate::run::Plan;
use runtime::planted::{BUGS, Bug, plant};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Runs within which each bug must be caught.
const SEEDS_MAX: u64 = 400;
const OPERATIONS: u64 = 250;

/// What was stored is not there.
const LOST: &[&str] = &["is not there: ", "is not listed: ", "404 for a blob stored for good"];
/// What was deleted is.
const BACK: &[&str] = &["is there: it was", "is listed: it was", "deleted what was not there"];
/// It is there and is not what it was.
const DAMAGED: &[&str] = &["cannot be read at rest", ": 500: "];
/// A journal or a checkpoint has a hole where it may have none.
const CORRUPT: &[&str] = &["is corrupt at offset"];

/// How a run says that the promise was broken which the bug breaks: one of these.
fn said_of(bug: Bug) -> Vec<&'static str> {
    match bug {
        Bug::PackUnsynced | Bug::IndexUnsynced | Bug::CheckpointNameUnsynced => {
            [LOST, BACK, CORRUPT].concat()
        }
        Bug::AckBeforeSync | Bug::SegmentNameUnsynced | Bug::SpareNameUnsynced => [LOST, BACK].concat(),
        Bug::FailedSyncRetried | Bug::RecoveredUnsynced => [LOST, BACK, DAMAGED, CORRUPT].concat(),
        Bug::ObjectUnsynced => [LOST, DAMAGED].concat(),
        Bug::SumsUnsynced | Bug::TornTailAccepted => DAMAGED.to_vec(),
        Bug::ObjectNameUnsynced | Bug::ShardDirsUnsynced | Bug::RootNameUnsynced => LOST.to_vec(),
        Bug::CheckpointUnsynced => CORRUPT.to_vec(),
        Bug::FormatUnsynced => vec!["does not start: data directory /data1: FORMAT is damaged"],
        Bug::DisksUnsynced => vec!["/DISKS: is damaged"],
        Bug::PackedUnverified | Bug::ObjectUnverified => vec!["a wrong byte served"],
        Bug::DeletionUnrecorded => BACK.to_vec(),
        Bug::StaleRecordWins => [LOST, BACK].concat(),
        Bug::IncarnationUnchecked => [LOST, BACK].concat(),
        Bug::ExpiredServed => vec!["is there: its time is over", "is listed: its time is over"],
        Bug::KeepNotBettered | Bug::PinnedEvicted | Bug::ClaimIgnored => LOST.to_vec(),
        Bug::ListUnsorted => vec!["is not listed: ", "the listing is not in digest order"],
        Bug::LivePackRetired => vec!["panicked: an entry names a segment that exists"],
    }
}

/// Whether it is this bug that shows: what a run says stands before what had happened.
fn shows(bug: Bug, why: &str) -> bool {
    let verdict = why.lines().next().unwrap_or(why);
    said_of(bug).iter().any(|said| verdict.contains(said))
}

/// Where one bug is looked for.
#[derive(Clone, Copy)]
enum Scene {
    Seed(Plan),
    /// The power goes around the moment in which a segment is written over.
    Reuse,
    /// A byte of an index changes.
    Flips,
}

impl Scene {
    /// All scenes in which a bug may show, in turn.
    fn all(bug: Bug) -> Box<dyn Iterator<Item = Scene>> {
        let seeds = |severity: fn(u64) -> u64| {
            let plan = move |seed| Plan { seed, operations: OPERATIONS, severity: Some(severity(seed)) };
            Box::new((1..=SEEDS_MAX).map(move |seed| Scene::Seed(plan(seed))))
        };
        match bug {
            Bug::IncarnationUnchecked => Box::new(std::iter::once(Scene::Reuse)),
            Bug::ClaimIgnored => Box::new(std::iter::once(Scene::Flips)),
            // Checksums are missed only where bytes change, retries only where syncs fail.
            Bug::PackedUnverified | Bug::ObjectUnverified => seeds(|_| 7),
            Bug::FailedSyncRetried => seeds(|_| 5),
            _ => seeds(|seed| seed % 3),
        }
    }

    /// What is broken, with a bug or without.
    fn broken(self, bug: Option<Bug>) -> Option<String> {
        plant(bug);
        let broken = match self {
            Scene::Seed(plan) => outcome(plan).err(),
            Scene::Reuse => broken_reuse(),
            Scene::Flips => broken_index(),
        };
        plant(None);
        broken
    }

    fn name(self) -> String {
        match self {
            Scene::Seed(plan) => format!("seed {:>3}", plan.seed),
            Scene::Reuse => "reuse".to_owned(),
            Scene::Flips => "flips".to_owned(),
        }
    }
}

fn caught(bug: Bug) -> Option<(Scene, String)> {
    Scene::all(bug).find_map(|scene| {
        let broken = scene.broken(Some(bug)).filter(|why| shows(bug, why))?;
        scene.broken(None).is_none().then_some((scene, broken))
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
                Some((scene, why)) => println!("{:<24} {}: {why:.150}", format!("{bug:?}"), scene.name()),
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
