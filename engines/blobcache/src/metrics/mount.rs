//! What a mount does, by operation and rung, and where the bytes that it reads were. Registered when there is a mount.
//!
//! Callers: `mount`, on the column that answers; its `read`, on the column that owns the blob.

use super::reads::Level;
use fuse_lowlevel::wire::opcode;
use runtime::metrics::{Counter, Family, Gauge, Histogram, LATENCY_SECONDS, Registry};
use std::cell::RefCell;
use std::rc::Rc;

/// The kernel's numbers are below this, and the last of these is none of them.
const OPCODES_MAX: usize = 64;

/// Bounds from 10 us to 10 s.
const LATENCY_MS: &[f64] =
    &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1000.0, 10_000.0];

static READ_MS: Family =
    Family::milliseconds("blobcache_fuse_read_latency_ms", "Time a READ of a mount took.", LATENCY_MS);
static LOOKUP_MS: Family =
    Family::milliseconds("blobcache_fuse_lookup_latency_ms", "Time a LOOKUP of a mount took.", LATENCY_MS);
static GETATTR_MS: Family =
    Family::milliseconds("blobcache_fuse_getattr_latency_ms", "Time a GETATTR of a mount took.", LATENCY_MS);
static READ_SECONDS: Family =
    Family::seconds("blobcache_fuse_read_seconds", "Time a READ of a mount took.", LATENCY_SECONDS);
static LOOKUP_SECONDS: Family =
    Family::seconds("blobcache_fuse_lookup_seconds", "Time a LOOKUP of a mount took.", LATENCY_SECONDS);
static GETATTR_SECONDS: Family =
    Family::seconds("blobcache_fuse_getattr_seconds", "Time a GETATTR of a mount took.", LATENCY_SECONDS);
static REQUEST_SECONDS: Family = Family::seconds(
    "blobcache_fuse_request_seconds",
    "Time any request of a mount took, from its parsing to its reply.",
    LATENCY_SECONDS,
);
static REQUESTS: Family =
    Family::counter("blobcache_fuse_requests_total", "Requests of the kernel to a mount, by operation.");
static ERRORS: Family = Family::counter(
    "blobcache_fuse_errors_total",
    "Requests answered with EIO: what was asked for could not be had.",
);
static READ_BYTES: Family = Family::counter(
    "blobcache_fuse_read_bytes_total",
    "Bytes that mounts read through the daemon, by where they were; what the kernel reads itself is not seen.",
);
static INODES: Family =
    Family::gauge("blobcache_fuse_inodes", "Nodes of mounts that the kernel has looked up or holds open.");
static LOOKUPS: Family =
    Family::gauge("blobcache_fuse_lookups", "Lookups that the kernel has yet to forget.");
static OPENS: Family = Family::gauge("blobcache_fuse_open_handles", "Handles open on mounts.");
static BACKINGS: Family = Family::gauge("blobcache_fuse_backing_ids", "Files that the kernel was given.");

/// Bytes read, and what the kernel holds of the nodes of one column.
#[derive(Default)]
pub struct Mounts(RefCell<Option<Owned>>);

struct Owned {
    /// By level.
    bytes: [Counter; 3],
    held: [Gauge; 4],
}

impl Mounts {
    /// There is a mount: from here on it is shown.
    pub(super) fn register(&self, registry: &Registry) {
        let bytes = ["ram", "disk", "origin"].map(|level| registry.counter(&READ_BYTES, &[("level", level)]));
        let held = [&INODES, &LOOKUPS, &OPENS, &BACKINGS].map(|family| registry.gauge(family, &[]));
        *self.0.borrow_mut() = Some(Owned { bytes, held });
    }

    /// Bytes were read that were at `level`.
    pub fn on_read(&self, level: Level, bytes: u64) {
        if let Some(owned) = &*self.0.borrow() {
            owned.bytes[level as usize].add(bytes);
        }
    }

    /// What the kernel holds now: inodes, lookups, handles, backing ids.
    pub fn refresh(&self, held: [u64; 4]) {
        if let Some(owned) = &*self.0.borrow() {
            owned.held.iter().zip(held).for_each(|(gauge, now)| gauge.set(now as i64));
        }
    }
}

/// What is timed by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timed {
    /// READ.
    Read,
    /// LOOKUP.
    Lookup,
    /// GETATTR.
    GetAttr,
    /// Anything else.
    Other,
}

/// The requests that one rung of one connection answers on one column.
pub struct Requests {
    registry: Rc<Registry>,
    rung: &'static str,
    seconds: Histogram,
    timed: [[Histogram; 2]; 3],
    errors: Counter,
    /// By opcode, once there was one.
    operations: RefCell<[Option<Counter>; OPCODES_MAX]>,
}

impl Requests {
    pub(super) fn new(registry: Rc<Registry>, rung: &'static str) -> Requests {
        let histogram = |family| registry.histogram(family, &[("rung", rung)]);
        let seconds = histogram(&REQUEST_SECONDS);
        let timed =
            [[&READ_SECONDS, &READ_MS], [&LOOKUP_SECONDS, &LOOKUP_MS], [&GETATTR_SECONDS, &GETATTR_MS]];
        let timed = timed.map(|of| of.map(histogram));
        let errors = registry.counter(&ERRORS, &[("rung", rung)]);
        let operations = RefCell::new([const { None }; OPCODES_MAX]);
        let requests = Requests { registry, rung, seconds, timed, errors, operations };
        // Those that everybody looks for are there from the start; a rate needs a zero to begin with.
        for opcode in [opcode::LOOKUP, opcode::GETATTR, opcode::OPEN, opcode::READ, opcode::RELEASE] {
            requests.count(opcode, opcode::name(opcode).expect("a known one"), 0);
        }
        requests
    }

    fn count(&self, opcode: u32, name: &'static str, more: u64) {
        let mut operations = self.operations.borrow_mut();
        // Unknown ones are counted together.
        let counter = &mut operations[(opcode as usize).min(OPCODES_MAX - 1)];
        let register = || self.registry.counter(&REQUESTS, &[("operation", name), ("rung", self.rung)]);
        counter.get_or_insert_with(register).add(more);
    }

    /// A request of that opcode came.
    pub fn on_request(&self, opcode: u32, name: &'static str) {
        self.count(opcode, name, 1);
    }

    /// It was answered.
    pub fn on_answered(&self, timed: Timed, took_ns: u64, is_error: bool) {
        self.seconds.record(took_ns);
        if let Some(histograms) = self.timed.get(timed as usize) {
            histograms.iter().for_each(|histogram| histogram.record(took_ns));
        }
        if is_error {
            self.errors.inc();
        }
    }
}
