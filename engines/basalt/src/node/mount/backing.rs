//! Files given to the kernel, which then reads them itself.
//!
//! Called by `serve` for the first open of a file; the engine keeps the id for later ones and says when it is to be closed.

use fuse_lowlevel::device::{BackingId, Device};
use runtime::io::{Io, Open};
use runtime::ring::RingIo;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

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
