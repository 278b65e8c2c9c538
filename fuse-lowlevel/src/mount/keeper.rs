//! Unmounting on behalf of a process that was killed: the whole work of a small helper process.
//!
//! Called in a process of its own that holds the reading end of a pipe whose writing end only the serving process has (both
//! close-on-exec elsewhere). The end of that pipe is the end of that process, however it came. The helper must hold no copy of
//! the device: it would keep the connection alive.

use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Stale, StaleError, clean_stale};

/// A killed process closes its files one after the other, large memory first: the mount may outlive the pipe by this much.
const DYING_LIMIT: Duration = Duration::from_secs(5);

/// Between two looks at a mount that is still alive.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Waits for the end of `lifeline` and takes away what the process behind it left on `directory`. Nothing if it unmounted by
/// itself; an error if the mount is still served, so by another process.
pub fn unmount_after(mut lifeline: impl Read, directory: &Path, subtype: &str) -> Result<Stale, StaleError> {
    io::copy(&mut lifeline, &mut io::sink())?;
    let begin = Instant::now();
    loop {
        match clean_stale(directory, subtype) {
            Err(StaleError::Live(_)) if begin.elapsed() < DYING_LIMIT => std::thread::sleep(LOOK_AGAIN),
            result => return result,
        }
    }
}
