//! The node's mounts: made before the columns start, served by every column, taken away after the last request.
//!
//! Called by `node`. Order of a start: what a crash left is cleaned (`place`), the directory is mounted and INIT agreed on
//! (`connect`, `ladder`), a process that outlives us waits to unmount (`guard`); then each column serves its queue (`serve`, `device`,
//! `rings`, `thread`); a thread watches the columns' pulse and ends a connection that cannot be served (`watchdog`). Order of a stop: the mounts leave the tree, so that
//! nobody comes in; those who have files open are served until the columns have drained; then the devices close.
//!
//! Invariant: after a mount is made no thread of this process looks into its directory, whatever asks for it: the answer
//! would have to come from the thread that waits for it.

mod backing;
mod connect;
mod crowd;
mod device;
pub mod guard;
mod interrupts;
mod ladder;
mod patience;
mod place;
mod prune;
mod rings;
mod serve;
mod thread;
mod watchdog;

pub(crate) use connect::{Trial, try_rungs};
pub use serve::Attached;
pub(super) use serve::attach;

use crate::config::{Mounts as Wanted, Settings};
use crate::error::Error;
use backing::GivenDirs;
use blobcache::mount::{Kind, Looks};
use fuse_lowlevel::Agreed;
use fuse_lowlevel::device::Device;
use fuse_lowlevel::mount::Mounted;
use guard::Guard;
use interrupts::Interrupts;
use ladder::Ladder;
use prune::Pruner;
use std::path::Path;
use std::sync::{Arc, Mutex};
use watchdog::{Pulse, Watchdog};

/// How requests of a connection come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// FUSE over io_uring.
    Rings(RingShape),
    /// A cloned device a column, polled by its ring.
    Clones,
    /// One thread that reads the device.
    Thread,
}

/// What a connection's rings are made of, of all columns together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RingShape {
    /// Queues: CPUs that could ever be online, whoever owns a column or not.
    pub possible: u16,
    /// Entries of a queue: requests of one CPU that can be under way at once.
    pub depth: u16,
    /// Room of an entry.
    pub request_bytes: u32,
}

impl RingShape {
    /// Memory of all entries.
    pub(crate) fn bytes(self) -> u64 {
        u64::from(self.possible) * u64::from(self.depth) * u64::from(self.request_bytes)
    }
}

impl Transport {
    /// The label of the metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Transport::Rings(_) => "uring",
            Transport::Clones => "clone",
            Transport::Thread => "thread",
        }
    }
}

/// A connection as every column is told of it.
#[derive(Clone)]
pub(super) struct Connection {
    number: usize,
    directory: Arc<Path>,
    device: Arc<Device>,
    agreed: Agreed,
    ladder: Arc<Ladder>,
    kind: Kind,
    given: Arc<GivenDirs>,
    looks: Looks,
    interrupts: Arc<Interrupts>,
    ttl_ms: Option<u64>,
    disk_reads_max: usize,
    /// What is known of the names that the kernel holds takes at most so much, on all columns together.
    nodes_bytes: u64,
    pruner: Arc<Pruner>,
    pulse: Arc<Pulse>,
}

impl Connection {
    /// Memory that is its own as long as it lives.
    pub(super) fn own_bytes(&self) -> u64 {
        self.ladder.own_bytes()
    }

    /// Says how it is served, once that is known.
    fn announce(&self) {
        let transports = Some(self.ladder.passed_over()).filter(|why| !why.is_empty());
        let passed_over: Vec<String> = self.given.refused.iter().cloned().chain(transports).collect();
        tracing::info!(
            directory = %self.directory.display(),
            rung = self.ladder.transport().name(),
            passthrough = self.given.is_any(),
            passed_over = passed_over.join("; "),
            request_bytes = self.agreed.max_request_bytes,
            "mounted"
        );
    }
}

/// The mounts of this process. Dropping them unmounts.
pub(super) struct Mounts {
    mounted: Vec<Arc<Mutex<Mounted>>>,
    /// Of a directory that is still mounted when we are gone.
    _guard: Option<Guard>,
    _watchdog: Option<Watchdog>,
}

impl Mounts {
    /// Nobody comes in any more; those inside stay.
    pub(super) fn leave(&self) {
        for mounted in &self.mounted {
            let mounted = &mut *mounted.lock().expect("nobody panics with it");
            if let Err(error) = mounted.unmount() {
                tracing::warn!(directory = %mounted.directory().display(), %error, "not unmounted");
            }
        }
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        // The watchdog's thread may have them for a moment longer than the process lives.
        self.leave();
    }
}

/// Makes the mounts that are asked for.
pub(super) fn make(settings: &Settings, cpus: &[usize]) -> Result<(Mounts, Vec<Connection>), Error> {
    let Wanted { handles, immutable, .. } = &settings.mounts;
    let mut mounts = Mounts { mounted: Vec::new(), _guard: None, _watchdog: None };
    let mut connections = Vec::new();
    let pulse = Arc::new(Pulse::new(cpus.len()));
    let data: Vec<&Path> = settings.data_dirs.iter().map(|dir| dir.path.as_path()).collect();
    let places = [handles, immutable].into_iter().flatten();
    place::prepare(&places.map(|place| place.as_path()).collect::<Vec<_>>(), &data)?;
    for (directory, is_immutable) in [(handles, false), (immutable, true)] {
        let Some(directory) = directory else { continue };
        let number = connections.len();
        let (connection, mounted) =
            connect::connect(directory, is_immutable, number, settings, cpus, pulse.clone())?;
        mounts.mounted.push(Arc::new(Mutex::new(mounted)));
        connections.push(connection);
    }
    if !mounts.mounted.is_empty() {
        mounts._guard = Some(Guard::start(&mounts.mounted)?);
        mounts._watchdog = Some(Watchdog::start(pulse, mounts.mounted.clone())?);
    }
    Ok((mounts, connections))
}

fn failed(directory: &Path, why: impl std::fmt::Display) -> Error {
    Error::runtime(format!("cannot mount on {}", directory.display())).why(why)
}
