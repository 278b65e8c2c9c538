//! The bounds of the engine on one column.

use runtime::tier::{WRITE_BYTES, WRITES_MAX};

/// Bounds; all in bytes or counts.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Large uploads at a time; each holds a few MiB of buffers.
    pub uploads_max: usize,
    /// Downloads from disk at a time; each holds two read buffers.
    pub disk_reads_max: usize,
}

/// Buffers a large upload holds: one being filled and those being written.
const UPLOAD_BYTES: u64 = (1 + WRITES_MAX as u64) * WRITE_BYTES as u64;
/// Buffers a download from disk holds: one being sent, one being read, 256 KiB each.
const DISK_READ_BYTES: u64 = 512 << 10;

impl Limits {
    /// What `io_bytes` of buffers allow: half for uploads, half for reads.
    pub fn new(io_bytes: u64) -> Limits {
        let share = |each: u64| usize::try_from((io_bytes / 2 / each).max(1)).unwrap_or(usize::MAX);
        Limits { uploads_max: share(UPLOAD_BYTES), disk_reads_max: share(DISK_READ_BYTES) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_fit_the_memory_they_stand_for() {
        for io_bytes in [16 << 20, 64 << 20, 1 << 30] {
            let l = Limits::new(io_bytes);
            assert!(
                l.uploads_max as u64 * UPLOAD_BYTES + l.disk_reads_max as u64 * DISK_READ_BYTES <= io_bytes
            );
        }
    }
}
