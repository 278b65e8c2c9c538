//! `fusermount3`, the set-uid helper that mounts for those who are not root.
//!
//! It opens the device itself and passes the descriptor back over a socket whose number it is told in `_FUSE_COMMFD`. The
//! socket is its standard input, so that no descriptor has to lose its close-on-exec flag in a process of many threads.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType, recvmsg,
    socketpair,
};

use super::Options;
use crate::device::Device;

const PROGRAM: &str = "fusermount3";

/// What is kept of the helper's complaint.
const COMPLAINT_BYTES_MAX: usize = 500;

pub(super) fn mount(directory: &Path, options: &Options) -> io::Result<Device> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let mut command = Command::new(PROGRAM);
    command.arg("-o").arg(options.helper_list()).arg("--").arg(directory);
    command.env("_FUSE_COMMFD", "0").stdin(Stdio::from(theirs));
    run(&mut command)?;
    // The command, dropped here, holds the last copy of the helper's end: without an answer the socket reads as ended.
    drop(command);
    receive_descriptor(&ours).map(Device::from)
}

pub(super) fn unmount(directory: &Path) -> io::Result<()> {
    run(Command::new(PROGRAM).args(["-u", "-z", "-q", "--"]).arg(directory).stdin(Stdio::null()))
}

fn run(command: &mut Command) -> io::Result<()> {
    let output =
        command.stdout(Stdio::null()).stderr(Stdio::piped()).output().map_err(|error| {
            io::Error::new(error.kind(), format!("{PROGRAM}: {error} (is it installed?)"))
        })?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = &output.stderr[..output.stderr.len().min(COMPLAINT_BYTES_MAX)];
    Err(io::Error::other(format!(
        "{PROGRAM}: {}: {}",
        output.status,
        String::from_utf8_lossy(complaint).trim()
    )))
}

fn receive_descriptor(socket: &OwnedFd) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(socket.as_fd(), &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message
            && let Some(descriptor) = descriptors.next()
        {
            return Ok(descriptor);
        }
    }
    Err(io::Error::other(format!("{PROGRAM} passed no descriptor")))
}
