//! `bench disk --save`: measures the device of a data directory in steps and saves what `serve` needs to know of it.
//!
//! Depths double until two steps in turn bring nothing more. What is kept is the *knee*: the smallest depth that reaches 95 %
//! of the best. More in flight than that adds no throughput, only time in the device's queue.
//!
//! The directory is held like by a node meanwhile, so that none loads the device at the same time; the file that is loaded lies
//! where the next start clears up.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use net::http1::HttpDate;

use super::columns;
use super::disk::{Step, Target, measure};
use crate::cli::bench::{BenchDisk, DiskPattern};
use crate::config::flags::ServeFlags;
use crate::config::size::Bytes;
use crate::device::{AtDepth, Device, identity};
use crate::error::Error;
use crate::output::{self, OutputFormat};
use crate::{config, machine, node};

const SMALL_BYTES: u64 = 4 << 10;
const LARGE_BYTES: u64 = 1 << 20;
const SMALL_DEPTH_MAX: usize = 1024;
const LARGE_DEPTH_MAX: usize = 128;
/// Depths in turn that bring nothing before the search ends.
const VAIN_MAX: u32 = 2;
/// A step brings something when it is this much better than the best before.
const GAIN_MIN: f64 = 1.02;
/// The share of the best that is enough.
const ENOUGH: f64 = 0.95;

/// Measures, saves, prints.
pub fn run(args: &BenchDisk) -> Result<(), Error> {
    let cpus = columns::choose_cpus(args.run.cpuset.as_deref())?;
    let large_min = LARGE_DEPTH_MAX as u64 * LARGE_BYTES;
    if args.file_size < large_min {
        return Err(Error::usage(format!("--file-size {} is too small", Bytes(args.file_size)))
            .why(format!("to measure takes {}", Bytes(large_min))));
    }
    for root in data_dirs(args)? {
        measure_and_save(args, &root, &cpus)?;
    }
    Ok(())
}

fn measure_and_save(args: &BenchDisk, root: &Path, cpus: &[usize]) -> Result<(), Error> {
    let dir = node::hold(root, cpus[0])?;
    let target = Target::fill(&dir.names().incoming_dir(), args.file_size / LARGE_BYTES * LARGE_BYTES)?;
    let bench = Bench { target: &target, cpus: cpus.to_vec(), seconds: args.run.seconds };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let measured = String::from_utf8_lossy(HttpDate::at(now.as_secs()).as_bytes()).into_owned();
    let mut device = Device::new(measured, machine::kernel_release(), identity(root));
    bench.fill_in(&mut device)?;
    let path = dir.names().device();
    device
        .save(&path)
        .map_err(|error| Error::runtime(format!("cannot write {}", path.display())).why(error))?;
    output::print(match args.run.output {
        OutputFormat::Table => table(&device) + &format!("saved in {}\n", path.display()),
        OutputFormat::Json => serde_json::to_string(&device).expect("numbers and fixed keys") + "\n",
    })
}

/// The directory named, or each of the node's.
fn data_dirs(args: &BenchDisk) -> Result<Vec<PathBuf>, Error> {
    match &args.dir {
        Some(dir) => Ok(vec![dir.clone()]),
        None => {
            let settings = config::load(&ServeFlags::default())?.settings;
            Ok(settings.data_dirs.into_iter().map(|dir| dir.path).collect())
        }
    }
}

struct Bench<'t> {
    target: &'t Target,
    cpus: Vec<usize>,
    seconds: u64,
}

impl Bench<'_> {
    fn fill_in(&self, device: &mut Device) -> Result<(), Error> {
        device.read_4k = self.climb(DiskPattern::Randread, SMALL_BYTES, SMALL_DEPTH_MAX)?;
        device.read_1m = self.climb(DiskPattern::Randread, LARGE_BYTES, LARGE_DEPTH_MAX)?;
        device.write_1m = self.climb(DiskPattern::Randwrite, LARGE_BYTES, LARGE_DEPTH_MAX)?;
        let sync = Step { pattern: DiskPattern::Sync, block_bytes: SMALL_BYTES, depth: 1 };
        let (_, syncs) = measure(self.target, &sync, self.cpus.clone(), self.seconds)?;
        device.sync_us = syncs.latency().value_at_quantile(0.5) as f64 / 1e3;
        device.operations = knee(&device.read_4k);
        device.bytes = u64::from(knee(&device.read_1m).max(knee(&device.write_1m))) * LARGE_BYTES;
        Ok(())
    }

    /// Doubles the depth until that brings nothing more. Small blocks are counted, large ones by their bytes.
    fn climb(&self, pattern: DiskPattern, block_bytes: u64, depth_max: usize) -> Result<Vec<AtDepth>, Error> {
        let mut steps = Vec::new();
        let (mut best, mut vain, mut depth) = (0.0, 0, 1);
        while depth <= depth_max && vain < VAIN_MAX {
            let step = Step { pattern, block_bytes, depth };
            let (window, recorder) = measure(self.target, &step, self.cpus.clone(), self.seconds)?;
            let done = if block_bytes == SMALL_BYTES { recorder.latency().len() } else { recorder.bytes() };
            let per_second = done as f64 / window.seconds;
            vain = if per_second > best * GAIN_MIN { 0 } else { vain + 1 };
            best = per_second.max(best);
            steps.push(AtDepth { depth: depth as u32, per_second: per_second as u64 });
            depth *= 2;
        }
        Ok(steps)
    }
}

/// The smallest depth that is nearly as good as the best.
fn knee(steps: &[AtDepth]) -> u32 {
    let best = steps.iter().map(|step| step.per_second).max().unwrap_or(0);
    let enough = (best as f64 * ENOUGH) as u64;
    steps.iter().find(|step| step.per_second >= enough).map_or(1, |step| step.depth)
}

fn table(device: &Device) -> String {
    let mut out = format!("{}, Linux {}\n", device.device, device.kernel);
    for (name, steps, is_bytes) in [
        ("4 KiB reads", &device.read_4k, false),
        ("1 MiB reads", &device.read_1m, true),
        ("1 MiB writes", &device.write_1m, true),
    ] {
        for step in steps {
            let per_second = step.per_second;
            let rate = match is_bytes {
                true => format!("{} MB/s", per_second / 1_000_000),
                false => format!("{per_second} IOPS"),
            };
            let mark = if step.depth == knee(steps) { "  ← enough" } else { "" };
            // Writing to a String cannot fail.
            let _ = writeln!(out, "  {name:<14} depth {:>4} {rate:>14}{mark}", step.depth);
        }
    }
    let _ = writeln!(out, "  {:<14} alone      {:>11.1} µs", "4 KiB durable", device.sync_us);
    let _ = writeln!(out, "in flight: {} operations, {}", device.operations, Bytes(device.bytes));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_knee_is_the_smallest_depth_that_is_enough() {
        let steps = |rates: &[u64]| -> Vec<AtDepth> {
            let depths = (0..).map(|power| 1 << power);
            depths.zip(rates).map(|(depth, &per_second)| AtDepth { depth, per_second }).collect()
        };
        assert_eq!(knee(&steps(&[100, 190, 300, 400, 420, 415])), 8);
        assert_eq!(knee(&steps(&[100, 190, 300, 400, 430, 415])), 16);
        assert_eq!(knee(&steps(&[100])), 1);
        assert_eq!(knee(&[]), 1);
        let mut device = Device::new("now".into(), "6".into(), "d".into());
        device.read_4k = steps(&[100, 190]);
        (device.operations, device.bytes) = (2, 1 << 20);
        let table = table(&device);
        assert!(table.contains("190 IOPS  ← enough") && table.contains("2 operations, 1 MiB"), "{table}");
    }
}
