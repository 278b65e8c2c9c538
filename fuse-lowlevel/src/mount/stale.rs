//! Mounts that a killed process left: found by mountinfo, told from living ones, taken away.
//!
//! Called before mounting. A dead mount answers ENOTCONN at once; a living one answers; one whose daemon is stuck answers
//! nothing, so the question is asked by a thread with a time limit. That thread is left behind if the limit passes (once the
//! stuck daemon has read the question not even a signal frees it), which is why the caller should then give up altogether.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, StatxFlags};
use rustix::io::Errno;
use thiserror::Error;

use super::table;

/// How long a living mount may take to say so.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Dead mounts that lie on each other on one directory; each start after a crash without cleaning adds one.
const LAYERS_MAX: u32 = 64;

/// What was found and done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stale {
    /// Dead mounts taken away.
    pub removed: u32,
}

/// Why the directory cannot be mounted on.
#[derive(Debug, Error)]
pub enum StaleError {
    /// Another process serves it.
    #[error("{} is mounted and served by a running process: stop it, or choose another directory", .0.display())]
    Live(PathBuf),
    /// A mount is there whose process does not answer.
    #[error("{} is mounted by a process that does not answer: end that process, then `umount -l` it", .0.display())]
    Silent(PathBuf),
    /// More dead mounts than we take away at once.
    #[error("{} carries more than {LAYERS_MAX} dead mounts: `umount -l` them", .0.display())]
    TooMany(PathBuf),
    /// A system call failed.
    #[error("looking for stale mounts: {0}")]
    System(#[from] io::Error),
}

/// Takes away the dead mounts of `fuse.<subtype>` that lie on top of `directory`. Mounts of other types are left alone.
pub fn clean_stale(directory: &Path, subtype: &str) -> Result<Stale, StaleError> {
    let directory = table::spelled(directory)?;
    let by_helper = !rustix::process::geteuid().is_root();
    for removed in 0..=LAYERS_MAX {
        match table::on(&directory)?.last() {
            Some(entry) if table::is_of_subtype(entry, subtype) => {}
            _ => return Ok(Stale { removed }),
        }
        match ask(&directory) {
            Answer::Dead if removed < LAYERS_MAX => super::detach(&directory, by_helper)?,
            Answer::Dead => {}
            Answer::Live => return Err(StaleError::Live(directory)),
            Answer::Silent => return Err(StaleError::Silent(directory)),
        }
    }
    Err(StaleError::TooMany(directory))
}

enum Answer {
    Dead,
    Live,
    Silent,
}

/// A statx that must reach the daemon: attributes in the kernel's cache would be given for a dead mount as well.
fn ask(directory: &Path) -> Answer {
    let (sender, receiver) = mpsc::sync_channel(1);
    let path = directory.to_path_buf();
    let asker = std::thread::Builder::new().name("stale-mount".into()).spawn(move || {
        let flags = AtFlags::STATX_FORCE_SYNC | AtFlags::NO_AUTOMOUNT;
        // After the limit nobody listens any more.
        let _ = sender.send(rustix::fs::statx(CWD, &path, flags, StatxFlags::BASIC_STATS).map(drop));
    });
    if asker.is_err() {
        return Answer::Silent;
    }
    match receiver.recv_timeout(ANSWER_LIMIT) {
        Ok(Err(Errno::NOTCONN | Errno::CONNABORTED)) => Answer::Dead,
        Ok(_) => Answer::Live,
        Err(_) => Answer::Silent,
    }
}
