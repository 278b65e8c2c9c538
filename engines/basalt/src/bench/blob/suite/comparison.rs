//! The suite `prefetch` where it is told of no server: first reads in order from two nodes of our own, of which one reads ahead.
//!
//! The nodes take turns, blob by blob, so that what else the machine does meets both alike; the one that does not read has nothing to
//! do. Every read is the first one of its bytes, and a PUT leaves nothing in RAM: all comes from disk.

use super::checking::Order;
use super::hits::Hits;
use super::store::Blob;
use super::{Length, Measured, PART_BYTES, PREFETCH_BLOBS, PREFETCH_BYTES, PREFETCH_CASE, Suite, order};
use crate::bench::blob::talk::Stored;
use crate::bench::node::Node;
use crate::bench::report::Report;
use crate::cli::bench::BenchBlob;
use crate::error::Error;

/// One of the nodes, and what was measured on it.
struct Side<'a> {
    /// Of `--prefetch`.
    state: &'static str,
    suite: Suite<'a>,
    /// In the order in which they are read.
    blobs: Vec<Blob>,
    before: Option<Hits>,
    measured: Option<Measured>,
    _node: Node,
}

/// Reads from both: the reports without prefetch and with it, which has the ratio.
pub fn compare(args: &BenchBlob, cpus: &[usize]) -> Result<Vec<Report>, Error> {
    // Their data goes with the nodes.
    let stored = Stored::default();
    let mut off = Side::start("off", args, cpus, &stored)?;
    let mut on = Side::start("on", args, cpus, &stored)?;
    for number in 0..off.blobs.len() {
        off.read(number)?;
        on.read(number)?;
    }
    let ratio = on.mb_per_second() / off.mb_per_second().max(f64::MIN_POSITIVE);
    let reports = [off.report(), on.report().map(|report| report.with("ratio_to_prefetch_off", ratio))];
    Ok(reports.into_iter().flatten().collect())
}

impl<'a> Side<'a> {
    /// A node that has its blobs, of which nothing was read.
    fn start(
        state: &'static str,
        args: &'a BenchBlob,
        cpus: &[usize],
        stored: &'a Stored,
    ) -> Result<Self, Error> {
        let node = Node::start(args.dir.as_deref(), cpus[0], &["--prefetch", state])?;
        let ops = node.ops_addr().to_string();
        let mut suite = Suite::new(args, (node.blob_addr(), &ops), cpus[cpus.len() - 1], stored);
        let blobs = suite.store(PREFETCH_BLOBS, |count| vec![PREFETCH_BYTES; count])?;
        Ok(Self { state, before: Hits::read(&ops), suite, blobs, measured: None, _node: node })
    }

    fn read(&mut self, number: usize) -> Result<(), Error> {
        let order: Order = order::by_parts(PART_BYTES);
        let blob = vec![self.blobs[number].clone()];
        let measured = self.suite.measure(1, Length::Once, blob, order)?;
        match &mut self.measured {
            Some(sum) => sum.add(measured),
            None => self.measured = Some(measured),
        }
        Ok(())
    }

    fn mb_per_second(&self) -> f64 {
        self.measured.as_ref().map_or(0.0, Measured::mb_per_second)
    }

    fn report(&self) -> Option<Report> {
        let name = format!("{PREFETCH_CASE}, prefetch {}", self.state);
        Some(self.suite.report(&name, self.measured.as_ref()?, self.before))
    }
}
