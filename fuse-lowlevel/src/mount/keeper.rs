//! Unmounting on behalf of a process that was killed: the whole work of a small helper process.
//!
//! Called in a process of its own that holds the reading end of a pipe whose writing end only the serving process has (both
//! close-on-exec elsewhere). The end of that pipe is the end of that process, however it came. The helper must hold no copy of
//! the device: it would keep the connection alive. A mount is known by its number, so that a newer one on the same directory
//! is left alone; nothing is asked of the mount itself, which may be dying still.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{DeviceNumber, detach, table};

/// Waits for the end of `lifeline` and takes away what the process behind it left of `mounts`; how many there were.
pub fn unmount_after(mut lifeline: impl Read, mounts: &[(DeviceNumber, PathBuf)]) -> io::Result<u32> {
    io::copy(&mut lifeline, &mut io::sink())?;
    let mut left = 0;
    for (number, directory) in mounts {
        left += u32::from(unmount_left(directory, *number)?);
    }
    Ok(left)
}

fn unmount_left(directory: &Path, number: DeviceNumber) -> io::Result<bool> {
    if table::on(directory)?.last().is_none_or(|entry| entry.device != number) {
        return Ok(false);
    }
    detach(directory, !rustix::process::geteuid().is_root())?;
    Ok(true)
}
