//! The paths that every request takes, without I/O: CPU time by thread clock, and instructions under callgrind.
//!
//! `hot_paths [--path NAME] [--slices 9] [--slice-ms 20] [--count N] [--plant PERCENT]`: one line of JSON, by path ns of CPU per
//! operation and of the probe beside it in the same slices. `--count N` does N operations of each path and measures no
//! time: run it so under `valgrind --tool=callgrind --toggle-collect='*measured_operations*'`, where only the operations
//! are collected. `--plant 20` does every fifth operation twice: a slowdown by 20 % that a comparison must find.
//!
//! Called by benches/run (section `hot`) and by the test of benches/compare.
#![allow(unsafe_code)]

mod clock;
mod paths;

use benches::args::Args;
use benches::rng::Rng;
use benches::{Result, quantile};
use paths::Path;
use std::hint::black_box;
use std::time::Duration;

/// Operations between two looks at the clock.
const BATCH: u64 = 64;
/// Steps of the generator that the probe takes; a few hundred nanoseconds.
const PROBE_STEPS: u64 = 200;

/// Does `count` operations and the planted share of them again. Never inlined: callgrind collects in it alone.
#[inline(never)]
fn measured_operations(path: &mut dyn Path, count: u64, planted_percent: u64) {
    let mut owed = 0;
    for _ in 0..count {
        path.operate();
        owed += planted_percent;
        if owed >= 100 {
            owed -= 100;
            path.operate();
        }
    }
}

/// Something that no change to the project touches: what this core gives now.
struct Probe(Rng);

impl Path for Probe {
    fn operate(&mut self) {
        for _ in 0..PROBE_STEPS {
            black_box(self.0.next_u64());
        }
    }
}

/// ns of CPU per operation over about `length` of CPU time.
fn slice(path: &mut dyn Path, length: Duration, planted_percent: u64) -> Result<f64> {
    let (begin, mut count) = (clock::thread_cpu_ns()?, 0);
    loop {
        measured_operations(path, BATCH, planted_percent);
        count += BATCH;
        let spent = clock::thread_cpu_ns()? - begin;
        if spent >= length.as_nanos() as u64 {
            return Ok(spent as f64 / count as f64);
        }
    }
}

/// Medians of path and probe, their slices in turn (A B A B).
fn measure(path: &mut dyn Path, slices: usize, length: Duration, planted: u64) -> Result<(f64, f64)> {
    let mut probe = Probe(Rng::new(1));
    let (mut ours, mut reference) = (Vec::new(), Vec::new());
    slice(path, length, 0)?;
    for _ in 0..slices.max(1) {
        reference.push(slice(&mut probe, length, 0)?);
        ours.push(slice(path, length, planted)?);
    }
    Ok((quantile(&mut ours, 0.5), quantile(&mut reference, 0.5)))
}

fn main() -> Result<()> {
    let mut args = Args::parse(std::env::args().skip(1), &[])?;
    let only: Option<String> = args.maybe("path")?;
    let (slices, slice_ms) = (args.get("slices", 9)?, args.get("slice-ms", 20)?);
    let (count, planted): (Option<u64>, u64) = (args.maybe("count")?, args.get("plant", 0)?);
    args.finish()?;
    let mut fields = Vec::new();
    for (name, make) in paths::ALL {
        if only.as_deref().is_some_and(|only| only != name) {
            continue;
        }
        let mut path = make();
        match count {
            Some(count) => {
                measured_operations(&mut *path, count, planted);
                fields.push(format!("\"{name}\":{{\"operations\":{count}}}"));
            }
            None => {
                let (ours, probe) = measure(&mut *path, slices, Duration::from_millis(slice_ms), planted)?;
                fields.push(format!("\"{name}\":{{\"cpu_ns\":{ours:.2},\"probe_ns\":{probe:.2}}}"));
            }
        }
    }
    if fields.is_empty() {
        let names: Vec<_> = paths::ALL.iter().map(|(name, _)| *name).collect();
        return Err(format!("no path {:?}: {}", only.unwrap_or_default(), names.join(", ")).into());
    }
    println!("{{{}}}", fields.join(","));
    Ok(())
}
