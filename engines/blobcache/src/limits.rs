//! The bounds of the engine on one column.

use crate::fetch::HEAD_BUFFERS_MAX;
use runtime::tier::{WRITE_BYTES, WRITES_MAX};

/// Bounds; all in bytes or counts.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Large uploads at a time; each holds a few MiB of buffers.
    pub uploads_max: usize,
    /// Downloads from disk at a time; each holds two read buffers.
    pub disk_reads_max: usize,
    /// Places beside these, for clients that do not take what was read for them.
    pub slow_reads_max: usize,
    /// Fetches from origins at a time; each holds a few MiB of buffers.
    pub fetches_max: usize,
    /// Parts that fetches receive ahead of what is written, 4 MiB each.
    pub fetch_pages_max: usize,
}

/// Fetches that are under way or wait for their turn; one more is told "busy".
pub const FETCHES_KNOWN_MAX: usize = 1024;

/// Buffers a large upload holds: one being filled and those being written.
const UPLOAD_BYTES: u64 = (1 + WRITES_MAX as u64) * WRITE_BYTES as u64;
/// Buffers a download from disk holds: one being sent, one being read, 256 KiB each.
const DISK_READ_BYTES: u64 = 512 << 10;

/// Buffers a fetch holds for the part that is being written: those that arrive, one being hashed, those being written.
const FETCH_BYTES: u64 = (HEAD_BUFFERS_MAX + 1 + WRITES_MAX) as u64 * WRITE_BYTES as u64;

impl Limits {
    /// What `io_bytes` of buffers allow: an eighth for fetches, an eighth for what they receive ahead, the rest for uploads
    /// and reads, half each. A quarter of the reads are places for slow clients.
    pub fn new(io_bytes: u64) -> Limits {
        let share = |of: u64, each: u64| usize::try_from((of / each).max(1)).unwrap_or(usize::MAX);
        Limits {
            uploads_max: share(io_bytes * 3 / 8, UPLOAD_BYTES),
            disk_reads_max: share(io_bytes * 9 / 32, DISK_READ_BYTES),
            slow_reads_max: share(io_bytes * 3 / 32, DISK_READ_BYTES),
            fetches_max: share(io_bytes / 8, FETCH_BYTES),
            fetch_pages_max: share(io_bytes / 8, crate::fetch::PART_BYTES),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_fit_the_memory_they_stand_for() {
        for io_bytes in [32 << 20, 64 << 20, 1 << 30] {
            let l = Limits::new(io_bytes);
            let reads_max = (l.disk_reads_max + l.slow_reads_max) as u64;
            let of_clients = l.uploads_max as u64 * UPLOAD_BYTES + reads_max * DISK_READ_BYTES;
            let of_fetches =
                l.fetches_max as u64 * FETCH_BYTES + l.fetch_pages_max as u64 * crate::fetch::PART_BYTES;
            // The least there is (one of each) may be more than its share, never more than the whole.
            assert!(of_clients <= io_bytes * 3 / 4 && of_clients + of_fetches <= io_bytes);
        }
    }
}
