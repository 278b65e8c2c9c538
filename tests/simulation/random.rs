//! Many seeds. A failure prints the program, the seed, the commit and the command that replays it.

use crate::run::{Outcome, Plan, run};
use runtime::twin::FAULTS;
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::time::{Duration, Instant};

/// Seeds that every run of the tests takes; those that found something stay here.
const FIXED: [u64; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
/// And fresh ones, for about this long.
const FRESH: Duration = Duration::from_secs(20);
const OPERATIONS: u64 = 300;
/// In a soak every kind of fault fires at least this often.
const FIRED_MIN: u64 = 100;

pub fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn operations() -> u64 {
    tests::scale::count("BASALT_OPS", OPERATIONS)
}

/// A run whose panics are failures like any other.
pub fn outcome(plan: Plan) -> Result<Outcome, String> {
    catch_unwind(AssertUnwindSafe(|| run(plan))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        Err(format!("panicked: {}", text.unwrap_or_default()))
    })
}

fn must_hold(seed: u64) -> Outcome {
    let plan = Plan { seed, operations: operations(), severity: None };
    outcome(plan).unwrap_or_else(|broken| {
        let commit = Command::new("git").args(["rev-parse", "HEAD"]).output();
        let commit = commit.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default();
        panic!(
            "simulation, seed {seed}, commit {commit}: {broken}\n  replay: BASALT_SEED={seed} \
             BASALT_OPS={} cargo test --release -p simulation random::whatever",
            plan.operations
        )
    })
}

fn add(total: &mut Outcome, one: &Outcome) {
    total.operations += one.operations;
    total.failures += one.failures;
    total.crashes += one.crashes;
    total.simulated_ns += one.simulated_ns;
    total.lost += one.lost;
    total.faults.resize(FAULTS.len(), 0);
    total.faults.iter_mut().zip(&one.faults).for_each(|(sum, n)| *sum += n);
}

fn print((seeds, whole): (u64, u64), total: &Outcome, took: Duration) {
    println!(
        "{whole} seeds, {} more cut short, {} operations ({} failed), {} power cuts, {} s simulated in {} s, \
         {} lost to lying disks",
        seeds - whole,
        total.operations,
        total.failures,
        total.crashes,
        total.simulated_ns / 1_000_000_000,
        took.as_secs(),
        total.lost
    );
    for (fault, count) in FAULTS.iter().zip(&total.faults) {
        println!("  {:<16} {count:>9}", format!("{fault:?}"));
    }
}

#[test]
fn whatever_happens_the_model_holds() {
    let (begin, mut total, mut seeds, mut whole) = (Instant::now(), Outcome::default(), 0, 0);
    if let Some(seed) = number("BASALT_SEED") {
        // A replay is looked at: with what the node says.
        tracing_subscriber::fmt().with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG).init();
        let one = must_hold(seed);
        add(&mut total, &one);
        print((1, u64::from(one.is_whole)), &total, begin.elapsed());
        return;
    }
    let soak = number("BASALT_SEEDS");
    let round = number("BASALT_TEST_SEED").map(|round| round.wrapping_mul(1_000_003) & 0xffff_ffff_ffff);
    let first = number("BASALT_FIRST_SEED").or(round).unwrap_or_else(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(1, |d| d.as_nanos() as u64 & 0xffff_ffff_0000)
    });
    let fresh = (first..).take_while(|_| soak.is_some() || begin.elapsed() < FRESH);
    // A soak is of so many runs that did all that was asked of them.
    for seed in FIXED.into_iter().chain(fresh) {
        if soak.is_some_and(|wanted| whole >= wanted) {
            break;
        }
        let one = must_hold(seed);
        add(&mut total, &one);
        (seeds, whole) = (seeds + 1, whole + u64::from(one.is_whole));
    }
    print((seeds, whole), &total, begin.elapsed());
    if soak.is_some_and(|n| n >= 1000) {
        for (fault, &count) in FAULTS.iter().zip(&total.faults) {
            assert!(count >= FIRED_MIN, "{fault:?} happened only {count} times");
        }
    }
}

const CHILD: &str = "BASALT_TRACE_OF";

/// Prints the hash of a seed; the test below runs it in processes of its own.
#[test]
fn trace_of_a_seed() {
    let seed = number(CHILD).unwrap_or(77);
    let trace = run(Plan { seed, operations: 120, severity: None }).map(|o| o.trace);
    println!("trace {seed} {trace:?}");
    assert!(trace.is_ok_and(|(_, events)| events > 1000));
}

#[test]
fn one_seed_in_two_processes_is_one_run() {
    let trace = |seed: u64| {
        let child = Command::new(env::current_exe().expect("this program"))
            .args(["--exact", "random::trace_of_a_seed", "--nocapture"])
            .env(CHILD, seed.to_string())
            .output()
            .expect("a second process runs");
        let text = String::from_utf8_lossy(&child.stdout).into_owned();
        let at = text.find("trace ").unwrap_or_else(|| panic!("no trace: {text}"));
        text[at..].lines().next().map(str::to_owned).expect("a line")
    };
    for seed in [3, 4, 5, 6, 7] {
        assert_eq!(trace(seed), trace(seed), "seed {seed} has two runs");
    }
    assert_ne!(trace(3).replace("trace 3", ""), trace(4).replace("trace 4", ""), "the seed does nothing");
}
