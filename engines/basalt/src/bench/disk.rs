//! Loads a disk through the runtime: one task per operation in flight, on the same files and buffers as the tier's.
//!
//! The file is ours, written whole first (reads of blocks that were never written do not touch the disk), or the user's,
//! which is only read.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use runtime::buffer::Buffer;
use runtime::classes::Limits;
use runtime::column::Plan;
use runtime::io::{File, Io, Open};
use runtime::ring::RingFile;

use super::columns::{self, Loader};
use super::measure::{Pace, Recorder, Window};
use super::report::Report;
use crate::cli::bench::{BenchDisk, DiskPattern};
use crate::config::size::Bytes;
use crate::error::Error;

const BLOCK_BYTES: u64 = 4096;
const BLOCK_BYTES_MAX: u64 = 16 << 20;
/// Filling our file: bytes per write.
const FILL_BYTES: usize = 4 << 20;

/// Runs the load.
pub fn run(args: &BenchDisk) -> Result<Report, Error> {
    let cpus = columns::choose_cpus(args.run.cpuset.as_deref())?;
    let target = Target::prepare(args)?;
    check(args, target.bytes / args.block_size, cpus.len())?;
    let step = Step { pattern: args.pattern, block_bytes: args.block_size, depth: args.depth as usize };
    let (window, recorder) = measure(&target, &step, cpus, args.run.seconds)?;
    let title = format!(
        "{} of {} blocks, depth {}, {}",
        pattern_name(args.pattern),
        Bytes(args.block_size),
        args.depth,
        target.path.display()
    );
    Ok(Report::new(title, window, &recorder))
}

/// One load: how, in what pieces, how many at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub pattern: DiskPattern,
    pub block_bytes: u64,
    pub depth: usize,
}

/// Loads `target` as `step` says, from at most as many of `cpus` as there are operations.
pub(super) fn measure(
    target: &Target,
    step: &Step,
    mut cpus: Vec<usize>,
    seconds: u64,
) -> Result<(Window, Recorder), Error> {
    cpus.truncate(step.depth);
    let per_column = step.depth.div_ceil(cpus.len());
    let plan = Plan {
        // A chunk more than the blocks, so that their pools never share one with something else.
        arena_bytes: per_column * step.block_bytes.next_power_of_two() as usize + (32 << 20),
        spin_ns: 0,
        cpus,
    };
    let bells = columns::doorbells(plan.cpus.len())?;
    let work = Work {
        path: target.path.clone(),
        pattern: step.pattern,
        block_bytes: step.block_bytes,
        blocks: target.bytes / step.block_bytes,
        depth: step.depth,
        columns: plan.cpus.len(),
    };
    let load = move |loader| load(loader, work.clone());
    columns::run(&plan, bells, Pace::new(seconds), load)
}

fn check(args: &BenchDisk, blocks: u64, columns: usize) -> Result<(), Error> {
    if !args.block_size.is_multiple_of(BLOCK_BYTES) || args.block_size > BLOCK_BYTES_MAX {
        return Err(Error::usage(format!(
            "--block-size {} is not a multiple of 4 KiB up to 16 MiB",
            Bytes(args.block_size)
        )));
    }
    if blocks < u64::from(args.depth) {
        return Err(Error::usage(format!(
            "a file of {blocks} blocks is too small for --depth {}",
            args.depth
        )));
    }
    if columns > args.depth as usize {
        return Err(Error::usage(format!(
            "--depth {} leaves some of {columns} CPUs without work",
            args.depth
        ))
        .fix("basalt bench disk --cpuset 0"));
    }
    Ok(())
}

fn pattern_name(pattern: DiskPattern) -> &'static str {
    match pattern {
        DiskPattern::Randread => "random reads",
        DiskPattern::Randwrite => "random writes",
        DiskPattern::Read => "sequential reads",
        DiskPattern::Write => "sequential writes",
        DiskPattern::Sync => "sequential durable writes",
    }
}

/// The file under load. Ours is removed when dropped.
pub(super) struct Target {
    path: PathBuf,
    bytes: u64,
    is_ours: bool,
}

impl Drop for Target {
    fn drop(&mut self) {
        if self.is_ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Target {
    fn prepare(args: &BenchDisk) -> Result<Self, Error> {
        if let Some(path) = &args.file {
            if !matches!(args.pattern, DiskPattern::Randread | DiskPattern::Read) {
                return Err(Error::usage("--file is only read: writes need --dir"));
            }
            let meta = fs::metadata(path).map_err(|error| failed("read", path, error))?;
            return Ok(Self { path: path.clone(), bytes: meta.len(), is_ours: false });
        }
        let dir = args.dir.as_deref().unwrap_or(Path::new("."));
        Self::fill(dir, args.file_size / args.block_size * args.block_size)
    }

    /// A file of our own in `dir`, written whole.
    pub(super) fn fill(dir: &Path, bytes: u64) -> Result<Self, Error> {
        let path = dir.join(format!(".basalt-bench-{}", std::process::id()));
        let target = Self { bytes, path, is_ours: true };
        fill(&target.path, target.bytes).map_err(|error| failed("write", &target.path, error))?;
        Ok(target)
    }
}

fn failed(what: &str, path: &Path, error: std::io::Error) -> Error {
    Error::runtime(format!("cannot {what} {}", path.display())).why(error)
}

/// Writes `bytes` bytes that neither compress nor deduplicate, and syncs them.
fn fill(path: &Path, bytes: u64) -> std::io::Result<()> {
    let mut file = fs::File::options().write(true).create_new(true).open(path)?;
    let mut random = Random::new(bytes);
    let mut part = vec![0; FILL_BYTES];
    let mut left = bytes;
    while left > 0 {
        for word in part.chunks_exact_mut(8) {
            word.copy_from_slice(&random.next().to_ne_bytes());
        }
        let count = left.min(FILL_BYTES as u64);
        file.write_all(&part[..count as usize])?;
        left -= count;
    }
    file.sync_all()?;
    // Direct reads of cached pages would be served from memory.
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    Ok(())
}

/// xorshift64.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..16 {
            random.next();
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// What each column does.
#[derive(Clone)]
struct Work {
    path: PathBuf,
    pattern: DiskPattern,
    block_bytes: u64,
    blocks: u64,
    depth: usize,
    columns: usize,
}

/// Where one task goes next: at random, or its stride of a sequence that all tasks walk together.
struct Walk {
    random: Option<Random>,
    next: u64,
    step: u64,
    blocks: u64,
}

impl Walk {
    fn new(work: &Work, task: usize) -> Self {
        let random = matches!(work.pattern, DiskPattern::Randread | DiskPattern::Randwrite);
        Self {
            random: random.then(|| Random::new(task as u64 + 1)),
            next: task as u64,
            step: work.depth as u64,
            blocks: work.blocks,
        }
    }

    fn next_block(&mut self) -> u64 {
        if let Some(random) = &mut self.random {
            return random.next() % self.blocks;
        }
        let block = self.next % self.blocks;
        self.next += self.step;
        block
    }
}

async fn load(loader: Loader, work: Work) -> Result<(), String> {
    let io = &loader.column.io;
    // The depth is what bounds this load.
    io.limit_disk(Limits::UNLIMITED);
    let writes = !matches!(work.pattern, DiskPattern::Randread | DiskPattern::Read);
    let how = if writes { Open::WriteDirect } else { Open::ReadDirect };
    let file = io
        .open(&work.path, how)
        .await
        .map_err(|error| format!("open {} past the page cache: {error}", work.path.display()))?;
    // Both are best effort: without them an operation costs a little more.
    let _ = file.register();
    let mut tasks = Vec::new();
    for task in (loader.column.index..work.depth).step_by(work.columns) {
        let mut buffer = io.buffer(work.block_bytes as usize).ok_or("the arena is too small")?;
        buffer.fill(task as u8);
        let _ = io.register_memory(&buffer);
        let walk = Walk::new(&work, task);
        let operate = operate(loader.clone(), file.clone(), buffer, walk, work.clone());
        tasks.push(loader.spawn(operate));
    }
    columns::join(tasks).await
}

async fn operate(
    loader: Loader,
    file: RingFile,
    mut buffer: Buffer,
    mut walk: Walk,
    work: Work,
) -> Result<(), String> {
    let len = work.block_bytes as usize;
    while !loader.phase.is_done() {
        let offset = walk.next_block() * work.block_bytes;
        let begin_ns = loader.column.io.now_ns();
        let (outcome, back) = match work.pattern {
            DiskPattern::Randread | DiskPattern::Read => file.read_at(buffer, len, offset).await,
            DiskPattern::Randwrite | DiskPattern::Write => file.write_at(buffer, len, offset).await,
            DiskPattern::Sync => file.write_sync(buffer, len, offset).await,
        };
        outcome.map_err(|error| format!("{} at {offset}: {error}", work.path.display()))?;
        buffer = back;
        let end_ns = loader.column.io.now_ns();
        loader.recorder().record(end_ns.saturating_sub(begin_ns), work.block_bytes);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(pattern: DiskPattern) -> Work {
        Work { path: PathBuf::new(), pattern, block_bytes: 4096, blocks: 10, depth: 4, columns: 1 }
    }

    #[test]
    fn tasks_of_a_sequence_share_it_without_a_gap() {
        let work = work(DiskPattern::Read);
        let mut walks: Vec<Walk> = (0..4).map(|task| Walk::new(&work, task)).collect();
        let rounds = (0..5).flat_map(|_| walks.iter_mut().map(Walk::next_block).collect::<Vec<_>>());
        let expected: Vec<u64> = (0..20).map(|block| block % 10).collect();
        assert_eq!(rounds.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn random_walks_differ_by_task_and_stay_inside() {
        let work = work(DiskPattern::Randread);
        let steps = |task| {
            let mut walk = Walk::new(&work, task);
            (0..100).map(|_| walk.next_block()).collect::<Vec<_>>()
        };
        assert_ne!(steps(0), steps(1));
        assert!(steps(2).iter().all(|&block| block < 10));
        assert!((0..10).all(|block| steps(3).contains(&block)), "every block is visited");
    }

    #[test]
    fn a_filled_file_is_whole_and_random() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("f");
        fill(&path, 5 << 20).expect("written");
        let bytes = fs::read(&path).expect("read");
        assert_eq!(bytes.len(), 5 << 20);
        let zeros = bytes.iter().filter(|&&byte| byte == 0).count();
        assert!(zeros < bytes.len() / 128);
    }
}
