//! A small process that waits for the node to be gone, however it goes, and then takes its mounts away: after a kill -9 they
//! would answer "Transport endpoint is not connected" until somebody did.
//!
//! It is this binary, started with the hidden verb `unmount-after` and a pipe as its input. The node holds the other end and
//! writes nothing: the pipe ends with the node. It knows each mount by its number, so that a newer mount on the same
//! directory is left alone.

use crate::error::Error;
use fuse_lowlevel::mount::{DeviceNumber, Mounted, unmount_after};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

/// The hidden verb.
pub(crate) const VERB: &str = "unmount-after";

/// The process, while the node lives. Dropping it ends it, by ending its input.
pub(super) struct Guard {
    child: Child,
}

impl Guard {
    pub(super) fn start(mounted: &[Arc<Mutex<Mounted>>]) -> Result<Guard, Error> {
        let mut command = Command::new("/proc/self/exe");
        command.arg(VERB).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        for mounted in mounted {
            let mounted = mounted.lock().expect("nobody panics with it");
            command.arg(mounted.device_number().to_string()).arg(mounted.directory());
        }
        let child =
            command.spawn().map_err(|e| Error::runtime("cannot start the process that unmounts").why(e))?;
        Ok(Guard { child })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// What the process does: waits for the end of its input, then unmounts what is left of `mounts`.
pub(crate) fn run(mounts: &[(DeviceNumber, PathBuf)]) -> Result<(), Error> {
    // A terminal's Ctrl-C, or TERM to the whole group, is for the node; it then takes its mounts away itself.
    let _ = rustix::process::setsid();
    let (signals, _received) = std::sync::mpsc::channel();
    runtime::signals::forward(signals, |_| ()).map_err(|e| Error::runtime("no signals").why(e))?;
    let unmounted = unmount_after(std::io::stdin(), mounts);
    unmounted.map(drop).map_err(|e| Error::runtime("what a node left is still mounted").why(e))
}
