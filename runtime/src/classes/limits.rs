//! How much of a column's disk I/O may be in flight on a device, in all and by class.
//!
//! What is measured of a device is divided over the columns; the foreground gets it whole, Raft syncs a little on top of
//! it that nobody else may take, the classes below the foreground a part each.

use super::{Load, OPERATION_BYTES_MAX};

/// Number of classes.
pub const CLASSES: usize = 6;
/// The parts of the classes, Raft aside, by which they and all below them are bounded: halves leave the device's queue short
/// for a read that comes.
const PARTS: [(u32, u32); CLASSES - 1] = [(1, 1), (3, 4), (1, 2), (1, 4), (1, 8)];
/// What Raft syncs have for themselves.
const RAFT_OPERATIONS_MIN: u32 = 2;
const RAFT_BYTES: u64 = 2 * OPERATION_BYTES_MAX as u64;
/// Every column gets this much, even when the device was measured to be busy with less: below it classes cannot be told apart.
const OPERATIONS_MIN: u32 = 8;
const BYTES_MIN: u64 = 4 * OPERATION_BYTES_MAX as u64;

/// Caps of one column on one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of each class together with all below it; none is above the one before it.
    caps: [Load; CLASSES],
    raft_operations: u32,
}

impl Limits {
    /// Operations in flight on a device that nobody has measured: SATA disks take 32, and NVMe are near their best by this.
    pub const OPERATIONS_UNMEASURED: u32 = 64;
    /// Bytes in flight on a device that nobody has measured: 16 ms of a SATA disk's time, 5 ms of an NVMe's.
    pub const BYTES_UNMEASURED: u64 = 16 << 20;

    /// No limits, for measuring.
    pub const UNLIMITED: Limits =
        Limits { caps: [Load { operations: u32::MAX, bytes: u64::MAX }; CLASSES], raft_operations: u32::MAX };

    /// `operations` and `bytes` in flight of everything but Raft syncs.
    pub fn new(operations: u32, bytes: u64) -> Limits {
        assert!(operations >= OPERATIONS_MIN && bytes >= BYTES_MIN, "{operations} operations, {bytes} bytes");
        let reserve = (operations / 8).max(RAFT_OPERATIONS_MIN);
        let part = |(of, whole): (u32, u32)| Load {
            operations: (operations / whole * of).max(1),
            bytes: (bytes / u64::from(whole) * u64::from(of)).max(u64::from(OPERATION_BYTES_MAX)),
        };
        let mut caps = [Load::default(); CLASSES];
        caps[0] = Load { operations: operations + reserve, bytes: bytes + RAFT_BYTES };
        for (cap, of) in caps[1..].iter_mut().zip(PARTS) {
            *cap = part(of);
        }
        Limits { caps, raft_operations: (operations / 2).max(reserve) }
    }

    /// One column's share of what `columns` columns may have in flight together.
    pub fn share(operations: u32, bytes: u64, columns: usize) -> Limits {
        let columns = columns.max(1);
        let operations = operations.div_ceil(u32::try_from(columns).unwrap_or(u32::MAX));
        Limits::new(operations.max(OPERATIONS_MIN), bytes.div_ceil(columns as u64).max(BYTES_MIN))
    }

    /// The cap of the class at `level` together with all below it.
    #[inline]
    pub(super) fn cap(&self, level: usize) -> Load {
        self.caps[level]
    }

    /// Raft syncs in flight at a time.
    #[inline]
    pub(super) fn raft_operations(&self) -> u32 {
        self.raft_operations
    }

    /// What everything but Raft syncs may have in flight.
    pub fn foreground(&self) -> Load {
        self.caps[1]
    }
}

impl Default for Limits {
    /// For a column that nobody told its share: a whole device that nobody has measured.
    fn default() -> Limits {
        Limits::share(Limits::OPERATIONS_UNMEASURED, Limits::BYTES_UNMEASURED, 1)
    }
}
