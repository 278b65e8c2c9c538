//! Whether segments were written under the seed that a directory is said to have. Called by recovery.

use super::batch::{BATCH_HEADER_BYTES, Batch, BatchError, SECTOR_BYTES};
use super::memory::buffer_in_time;
use crate::io::{File, Io, Open};
use std::io;
use std::path::Path;

/// What the beginning of a segment file says of a seed; `None`: nothing was ever written there.
///
/// A batch header lies in one sector, so it was written whole or not at all, whenever the power went. One of an earlier life
/// of the file is of the same seed, and under another seed none holds.
pub async fn is_of_seed<I: Io>(io: &I, seed: u32, path: &Path) -> io::Result<Option<bool>> {
    let file = io.open(path, Open::ReadDirect).await?;
    if file.size().await? < SECTOR_BYTES as u64 {
        return Ok(None);
    }
    let buf = buffer_in_time(io, SECTOR_BYTES).await?;
    let (read, buf) = file.read_at(buf, SECTOR_BYTES, 0).await;
    read?;
    let header = &buf[..BATCH_HEADER_BYTES];
    if header.iter().all(|&byte| byte == 0) {
        return Ok(None);
    }
    // Its checksum is looked at before its version.
    Ok(Some(matches!(Batch::decode(seed, header), Ok(_) | Err(BatchError::Newer(_)))))
}
