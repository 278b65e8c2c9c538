//! A buffer for work that nobody's request waits for: recovery, checkpoints, scans. Who holds the memory now finishes without
//! us, so that there is none at the moment is no failure, least of all of a disk.

use crate::buffer::Buffer;
use crate::io::Io;
use std::io;

const RETRY_NS: u64 = 1_000_000;
/// Ten seconds in all: what does not fit by then never will.
const TRIES_MAX: usize = 10_000;

/// A block-aligned buffer of at least `len` bytes, once there is memory for it.
pub(crate) async fn buffer_in_time<I: Io>(io: &I, len: usize) -> io::Result<Buffer> {
    for _ in 0..TRIES_MAX {
        if let Some(buffer) = io.buffer(len) {
            return Ok(buffer);
        }
        io.sleep(RETRY_NS).await;
    }
    Err(io::ErrorKind::OutOfMemory.into())
}
