//! Many seeds, on all cores. A failure prints the seed, the commit and the command that replays it.

use super::run::{Outcome, Plan, run};
use crate::random::number;
use runtime::twin::FAULTS;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Seeds that every run of the tests takes; the others begin at [`FIRST`] or where they are told to.
const FIXED: u64 = 100;
const FIRST: u64 = 1_000_000;
const SEEDS: u64 = 1000;
const OPERATIONS: u64 = 40;
/// Seeds that fail before it is enough.
const FAILED_MAX: usize = 5;
/// Of a soak: each of its many seeds is shorter than one of blobs, whose operations cost less.
const OPERATIONS_MAX: u64 = 200;

/// A run whose panics are failures like any other.
pub fn outcome(plan: Plan) -> Result<Outcome, String> {
    catch_unwind(AssertUnwindSafe(|| run(plan))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        Err(format!("panicked: {}", text.unwrap_or_default()))
    })
}

fn operations() -> u64 {
    tests::scale::count("BASALT_OPS", OPERATIONS).min(OPERATIONS_MAX)
}

fn must_hold(seed: u64) -> Result<Outcome, String> {
    let plan = Plan { seed, operations: operations(), severity: None };
    outcome(plan).map_err(|broken| {
        let commit = Command::new("git").args(["rev-parse", "HEAD"]).output();
        let commit = commit.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default();
        format!(
            "simulation of the slice cache, seed {seed}, commit {commit}: {broken}\n  replay: BASALT_SEED={seed} \
             BASALT_OPS={} cargo test --profile proof -p simulation slice::seeds::every",
            plan.operations
        )
    })
}

fn add(total: &mut Outcome, one: &Outcome) {
    total.operations += one.operations;
    total.crashes += one.crashes;
    total.simulated_ns += one.simulated_ns;
    total.seen.add(&one.seen);
    total.faults.resize(FAULTS.len(), 0);
    total.faults.iter_mut().zip(&one.faults).for_each(|(sum, n)| *sum += n);
}

fn print(seeds: u64, total: &Outcome, took: Duration) {
    println!(
        "{seeds} seeds, {} operations, {} kills and power cuts, {} s simulated in {:.1} s",
        total.operations,
        total.crashes,
        total.simulated_ns / 1_000_000_000,
        took.as_secs_f64(),
    );
    for (name, count) in total.seen.counts() {
        println!("  {name:<20} {count:>9}");
    }
    for (fault, count) in FAULTS.iter().zip(&total.faults) {
        println!("  {:<20} {count:>9}", format!("{fault:?}"));
    }
}

/// Takes the seeds one after the other, on as many threads as there are cores, until some have failed.
fn all(seeds: &[u64]) -> Outcome {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let may_go_on = || failed.lock().expect("nobody panics with it").len() < FAILED_MAX;
    let work = || {
        let mut total = Outcome::default();
        while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)).filter(|_| may_go_on()) {
            match must_hold(*seed) {
                Ok(one) => add(&mut total, &one),
                Err(why) => failed.lock().expect("nobody panics with it").push(why),
            }
        }
        total
    };
    let mut total = Outcome::default();
    thread::scope(|scope| {
        let count = thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(work)).collect();
        threads.into_iter().for_each(|thread| add(&mut total, &thread.join().expect("panics are caught")));
    });
    let failed = failed.into_inner().expect("nobody panicked with it");
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    total
}

#[test]
fn every_answer_is_right() {
    let begin = Instant::now();
    if let Some(seed) = number("BASALT_SEED") {
        // A replay is looked at: with what the node says.
        let debug = tracing_subscriber::filter::LevelFilter::DEBUG;
        let _ = tracing_subscriber::fmt().with_max_level(debug).try_init();
        let one = must_hold(seed).unwrap_or_else(|why| panic!("{why}"));
        print(1, &one, begin.elapsed());
        return;
    }
    let wanted = number("BASALT_SEEDS").unwrap_or(SEEDS);
    let round = number("BASALT_TEST_SEED").map(|round| round.wrapping_mul(1_000_003) & 0xffff_ffff_ffff);
    let first = number("BASALT_FIRST_SEED").or(round).unwrap_or(FIRST);
    let seeds: Vec<u64> = (1..=FIXED).chain(first..).take(wanted as usize).collect();
    let total = all(&seeds);
    print(wanted, &total, begin.elapsed());
    // A simulation in which nothing happens shows nothing.
    if wanted >= SEEDS {
        let rare: Vec<(String, u64)> =
            total.seen.counts().into_iter().filter(|(_, count)| *count < wanted / 50).collect();
        assert!(rare.is_empty(), "these happen too seldom: {rare:?}");
    }
}

#[test]
fn a_seed_is_one_run() {
    let trace =
        |seed| run(Plan { seed, operations: OPERATIONS, severity: None }).map(|outcome| outcome.trace);
    for seed in [3, 4, 5] {
        assert_eq!(trace(seed), trace(seed), "seed {seed} has two runs");
    }
    assert_ne!(trace(3), trace(4), "the seed does nothing");
}
