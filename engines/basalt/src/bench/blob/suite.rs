//! Loads of a kind, as the reference project has them: blobs are stored, fetched in the suite's order, compared byte by byte,
//! and deleted.
//!
//! | file | holds |
//! |---|---|
//! | `store` | putting them there |
//! | `order` | what is fetched when |
//! | `checking` | fetching and comparing |
//! | `hits` | what the server says of it |
//! | `comparison` | two nodes of our own, with and without prefetch |

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::OPS;
use super::talk::Stored;
use crate::bench::measure::{Pace, Recorder, Window};
use crate::bench::pattern::Pattern;
use crate::bench::report::Report;
use crate::bench::sockets::Load;
use crate::bench::threads;
use crate::cli::bench::{BenchBlob, BlobSuite};
use crate::config::size::Bytes;
use crate::error::Error;

mod checking;
mod comparison;
mod hits;
mod order;
mod store;

use checking::{Checking, Order};
pub use comparison::compare;
use hits::Hits;
use store::Blob;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// What the sequential suite stores of each size, and how many blobs at most.
const SEQUENTIAL_BYTES: u64 = 256 * MIB;
const SEQUENTIAL_BLOBS_MAX: u64 = 8;
/// A part of a read in order: what a client that copies a file asks for.
const PART_BYTES: u64 = MIB;
/// What the suite prefetch stores, and what it does with it.
const PREFETCH_BLOBS: usize = 2;
const PREFETCH_BYTES: u64 = 256 * MIB;
const PREFETCH_CASE: &str = "first read in order, parts of 1 MiB";

/// A suite under way.
struct Suite<'a> {
    args: &'a BenchBlob,
    addr: SocketAddr,
    /// Where its metrics are.
    ops: String,
    cpu: usize,
    stored: &'a Stored,
    pattern: Pattern,
    reports: Vec<Report>,
    /// Blobs so far.
    count: u64,
}

/// How long a case goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Length {
    /// Until the order ends; all of it is measured.
    Once,
    /// `--seconds`.
    Timed,
}

/// Runs all cases of a suite.
pub fn run(
    suite: BlobSuite,
    args: &BenchBlob,
    addr: SocketAddr,
    cpu: usize,
    stored: &Stored,
) -> Result<Vec<Report>, Error> {
    let mut run = Suite::new(args, (addr, args.ops.as_deref().unwrap_or(OPS)), cpu, stored);
    match suite {
        BlobSuite::Sequential => run.sequential()?,
        BlobSuite::Random => {
            let blobs = run.store(8, |count| vec![64 * MIB; count])?;
            run.case("ranges of 4 to 512 KiB", 16, Length::Timed, blobs, order::parts(4 * KIB, 512 * KIB))?;
        }
        BlobSuite::Small => {
            let blobs = run.store(1000, |count| order::sizes(count, KIB, 100 * KIB))?;
            run.case("blobs of 1 to 100 KiB", 64, Length::Timed, blobs, order::anywhere())?;
        }
        BlobSuite::Fanout => run.first_and_again("fanout", 1000, 64 * KIB, 64)?,
        BlobSuite::Tiers => run.first_and_again("tiers", 512, MIB, 16)?,
        BlobSuite::Prefetch => {
            let blobs = run.store(PREFETCH_BLOBS, |count| vec![PREFETCH_BYTES; count])?;
            run.case(PREFETCH_CASE, 1, Length::Once, blobs, order::by_parts(PART_BYTES))?;
        }
        BlobSuite::Zipf => {
            let blobs = run.store(4000, |count| order::sizes(count, KIB, 64 * KIB))?;
            run.case("by popularity, Zipf 1.0", 64, Length::Timed, blobs, order::by_popularity())?;
        }
    }
    Ok(run.reports)
}

impl<'a> Suite<'a> {
    fn new(args: &'a BenchBlob, (addr, ops): (SocketAddr, &str), cpu: usize, stored: &'a Stored) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let pattern = Pattern::new(since.as_nanos() as u64);
        Self { args, addr, ops: ops.to_owned(), cpu, stored, pattern, reports: Vec::new(), count: 0 }
    }

    /// Stores `--blobs` blobs, or `count`, of `--sizes` in turn, or of the suite's own sizes.
    fn store(&mut self, count: usize, sizes: impl FnOnce(usize) -> Vec<u64>) -> Result<Vec<Blob>, Error> {
        let count = self.args.blobs.map_or(count, |count| count as usize);
        let sizes = match self.args.sizes.as_slice() {
            [] => sizes(count),
            given => given.iter().copied().cycle().take(count).collect(),
        };
        self.put(&sizes)
    }

    fn put(&mut self, sizes: &[u64]) -> Result<Vec<Blob>, Error> {
        let blobs = store::store(self.addr, &self.pattern, self.count, sizes, self.stored)?;
        self.count += blobs.len() as u64;
        Ok(blobs)
    }

    /// Each size by itself, read once before it is measured.
    fn sequential(&mut self) -> Result<(), Error> {
        let sizes = match self.args.sizes.as_slice() {
            [] => [1, 4, 16, 64, 256].map(|mib| mib * MIB).to_vec(),
            given => given.to_vec(),
        };
        for size in sizes {
            let usual = (SEQUENTIAL_BYTES / size).clamp(1, SEQUENTIAL_BLOBS_MAX) as usize;
            let count = self.args.blobs.map_or(usual, |count| count as usize);
            let blobs = self.put(&vec![size; count])?;
            let blobs = self.measure(1, Length::Once, blobs, order::in_turn(false))?.blobs;
            let case = format!("sequential, {count} of {}", Bytes(size));
            let time = Duration::from_secs(self.args.run.seconds);
            self.case(&case, 1, Length::Once, blobs, order::in_turn_for(time))?;
        }
        Ok(())
    }

    /// Every blob once, as it lies on disk after the PUT; then all of them again and again.
    fn first_and_again(
        &mut self,
        name: &str,
        count: usize,
        size: u64,
        connections: u32,
    ) -> Result<(), Error> {
        let blobs = self.store(count, |count| vec![size; count])?;
        let first = format!("{name}, first read");
        let blobs = self.case(&first, connections, Length::Once, blobs, order::in_turn(false))?;
        self.case(&format!("{name}, again"), connections, Length::Timed, blobs, order::in_turn(true))?;
        Ok(())
    }

    /// Measures one case and reports it; the blobs come back for the next.
    fn case(
        &mut self,
        name: &str,
        connections: u32,
        length: Length,
        blobs: Vec<Blob>,
        order: Order,
    ) -> Result<Vec<Blob>, Error> {
        let before = Hits::read(&self.ops);
        let measured = self.measure(connections, length, blobs, order)?;
        self.reports.push(self.report(name, &measured, before));
        Ok(measured.blobs)
    }

    /// The report of a case, with what the server counted since `before`.
    fn report(&self, name: &str, measured: &Measured, before: Option<Hits>) -> Report {
        let title = format!("{name}, {} connections, {}", measured.connections, self.addr);
        let report = Report::new(title, measured.window, &measured.recorder)
            .with("mb_per_second", measured.mb_per_second())
            .of_case(name.to_owned());
        match before.and_then(|before| Some(Hits::read(&self.ops)?.since(before))) {
            Some(hits) => report
                .with("ram_hits", hits.ram)
                .with("disk_hits", hits.disk)
                .with("ram_hit_ratio", hits.ratio())
                .with("extents_read_ahead", hits.ahead),
            None => report,
        }
    }

    fn measure(
        &self,
        connections: u32,
        length: Length,
        blobs: Vec<Blob>,
        order: Order,
    ) -> Result<Measured, Error> {
        let connections = self.args.connections.unwrap_or(connections);
        let load = Load { addr: self.addr, connections: connections as usize, rate: None };
        let talk = Checking::new(self.addr, self.pattern.clone(), blobs, order);
        let (window, recorder, talk) = match length {
            Length::Once => threads::pass(&load, self.cpu, talk)?,
            Length::Timed => threads::run(&load, self.cpu, Pace::new(self.args.run.seconds), talk)?,
        };
        if length == Length::Once && talk.open > 0 {
            let why = format!("{} questions were not answered", talk.open);
            return Err(Error::runtime(format!("the load on {} failed", self.addr)).why(why));
        }
        Ok(Measured { window, recorder, blobs: talk.into_blobs(), connections })
    }
}

/// A case measured, still without a title.
struct Measured {
    window: Window,
    recorder: Recorder,
    blobs: Vec<Blob>,
    connections: u32,
}

impl Measured {
    fn mb_per_second(&self) -> f64 {
        self.recorder.bytes() as f64 / 1e6 / self.window.seconds.max(f64::MIN_POSITIVE)
    }

    /// Takes in another part of the same case.
    fn add(&mut self, other: Self) {
        self.window.add(other.window);
        self.recorder.add(&other.recorder);
        self.blobs.extend(other.blobs);
    }
}
