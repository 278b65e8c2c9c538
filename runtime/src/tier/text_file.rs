//! Small text files of a data directory: read whole, replaced whole or not at all.
//!
//! Called at start, by `data_dir` and `members`. What they say decides about everything else, so each has checksums of its own:
//! [`sum_of`], as eight hex digits.

use super::names::SECTOR_BYTES;
use crate::io::{File as _, Io, Open};
use crate::journal::buffer_in_time;
use crc32c::crc32c;
use std::io;
use std::path::Path;

/// The most that is read: several hundred members' worth.
pub(super) const TEXT_BYTES_MAX: usize = 64 << 10;

/// CRC32C of a text.
pub(super) fn sum_of(text: &str) -> String {
    format!("{:08x}", crc32c(text.as_bytes()))
}

/// The whole file. A longer one is none of ours.
pub(super) async fn read_text<I: Io>(io: &I, path: &Path) -> io::Result<String> {
    let file = io.open(path, Open::ReadDirect).await?;
    let len = file.size().await?;
    if len > TEXT_BYTES_MAX as u64 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let len = len as usize;
    let padded = len.next_multiple_of(SECTOR_BYTES).max(SECTOR_BYTES);
    let buf = buffer_in_time(io, padded).await?;
    let (read, buf) = file.read_at(buf, len, 0).await;
    read?;
    Ok(String::from_utf8_lossy(&buf[..len]).into_owned())
}

/// Writes `text` beside `path` and gives it that name; both are on stable storage afterwards. The caller has synced what the
/// text speaks of.
pub(super) async fn write_text<I: Io>(io: &I, path: &Path, text: &str) -> io::Result<()> {
    assert!(text.len() <= TEXT_BYTES_MAX, "{} bytes for {}", text.len(), path.display());
    let temporary = path.with_extension("new");
    // Left by a start that was interrupted.
    match io.unlink(&temporary).await {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let padded = text.len().next_multiple_of(SECTOR_BYTES).max(SECTOR_BYTES);
    let mut buf = buffer_in_time(io, padded).await?;
    buf[..padded].fill(0);
    buf[..text.len()].copy_from_slice(text.as_bytes());
    let file = io.open(&temporary, Open::CreateDirect).await?;
    file.write_at(buf, padded, 0).await.0?;
    file.truncate(text.len() as u64).await?;
    file.sync_data().await?;
    let dir = path.parent().expect("a file of a data directory");
    io.sync_dir(dir).await?;
    io.rename(&temporary, path).await?;
    io.sync_dir(dir).await
}
