//! Files given to the kernel, which then reads them itself.
//!
//! Called by `connect` to learn of which data directories the kernel takes files; by `serve` for the first open of one, whose id
//! the engine keeps for later ones. The engine says when it is to be closed.

use crate::machine::nearest_existing;
use fuse_lowlevel::device::{BackingId, Device};
use runtime::io::{Io, Open};
use runtime::ring::RingIo;
use runtime::tier::Names;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The data directories whose files the kernel can be given, by one of each: agreeing to passthrough says nothing of that.
#[derive(Default)]
pub(super) struct GivenDirs {
    dirs: Vec<PathBuf>,
    /// Of the others, or of all: why not.
    pub(super) refused: Vec<String>,
}

impl GivenDirs {
    pub(super) fn try_all<'d>(device: &Device, dirs: impl Iterator<Item = &'d Path>) -> GivenDirs {
        let mut given = GivenDirs::default();
        for dir in dirs {
            match give_one(device, dir) {
                Ok(()) => given.dirs.push(dir.to_owned()),
                Err(error) => {
                    given.refused.push(format!("passthrough of {}: {}", dir.display(), why(&error)))
                }
            }
        }
        given
    }

    /// Passthrough was not agreed on.
    pub(super) fn unheard_of() -> GivenDirs {
        GivenDirs { dirs: Vec::new(), refused: vec!["passthrough: the kernel does not offer it".into()] }
    }

    pub(super) fn is_any(&self) -> bool {
        !self.dirs.is_empty()
    }

    /// Whether this file of ours is in one of them.
    pub(super) fn has(&self, file: &Path) -> bool {
        self.dirs.iter().any(|dir| file.starts_with(dir))
    }
}

/// A file that is there always, or, before the first start, one without a name.
fn give_one(device: &Device, dir: &Path) -> io::Result<()> {
    let format = Names::new(dir).format();
    let open = |path: &Path, flags| rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::RUSR);
    let file: OwnedFd = match open(&format, OFlags::RDONLY) {
        Err(Errno::NOENT) => open(&nearest_existing(dir), OFlags::RDWR | OFlags::TMPFILE)?,
        opened => opened?,
    };
    device.open_backing(file.as_fd()).and_then(|id| device.close_backing(id))
}

fn why(error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::PERM) => "needs CAP_SYS_ADMIN".into(),
        Some(Errno::LOOP) => "a file system in layers, as overlay is one".into(),
        _ => error.to_string(),
    }
}

/// Opens the file and registers it. The kernel opens it anew by its path, with the flags of whoever reads it.
pub(super) async fn make(io: &RingIo, device: &Device, path: &Path) -> io::Result<i32> {
    let file = io.open(path, Open::ReadDirect).await?;
    device.open_backing(file.as_fd()).map(BackingId::get)
}

/// Gives an id back; those who have the file open keep it.
pub(super) fn close(device: &Device, id: i32) {
    if let Err(error) = device.close_backing(BackingId::from_open(id)) {
        tracing::debug!(id, %error, "a backing id was not closed");
    }
}
