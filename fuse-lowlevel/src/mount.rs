//! Mounting: by mount(2) as root, else by `fusermount3`; and unmounting, aborting and cleaning what a crash left.
//!
//! Called at start and stop, by threads that serve no queue: nothing here may look into the mounted directory (stat, open,
//! canonicalize), since the answer would have to come from the caller itself. What is mounted is learnt from mountinfo only.

mod helper;
mod keeper;
mod options;
mod stale;
pub mod table;

use std::ffi::CString;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

pub use keeper::unmount_after;
pub use options::Options;
pub use stale::{Stale, StaleError, clean_stale};
pub use table::DeviceNumber;

use crate::device::Device;

/// A mount made by this process. Dropping it unmounts.
#[derive(Debug)]
pub struct Mounted {
    directory: PathBuf,
    device: DeviceNumber,
    by_helper: bool,
    /// Whether `unmount` has yet to be done.
    pending: bool,
}

/// Mounts on `directory`. The kernel's INIT is the first request to be read from the device; until it is answered whoever
/// touches the directory waits (and can be killed).
pub fn mount(directory: &Path, options: &Options) -> io::Result<(Device, Mounted)> {
    options.check()?;
    let directory = table::spelled(directory)?;
    let by_helper = !rustix::process::geteuid().is_root();
    let device =
        if by_helper { helper::mount(&directory, options)? } else { mount_directly(&directory, options)? };
    match topmost(&directory, options) {
        Ok(number) => Ok((device, Mounted { directory, device: number, by_helper, pending: true })),
        Err(error) => {
            // With the device closed the mount is dead: leaving it behind would block the directory.
            drop(device);
            detach(&directory, by_helper)?;
            Err(error)
        }
    }
}

fn mount_directly(directory: &Path, options: &Options) -> io::Result<Device> {
    let device = Device::open()?;
    let data = options.data(device.as_fd().as_raw_fd());
    let data = CString::new(data).map_err(io::Error::other)?;
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
    flags.set(MountFlags::RDONLY, options.read_only);
    rustix::mount::mount(options.source.as_str(), directory, options.kind(), flags, data.as_c_str())?;
    Ok(device)
}

/// The number of the mount that lies on top of `directory`, which must be of our subtype.
fn topmost(directory: &Path, options: &Options) -> io::Result<DeviceNumber> {
    match table::on(directory)?.pop() {
        Some(entry) if table::is_of_subtype(&entry, &options.subtype) => Ok(entry.device),
        _ => Err(io::Error::other(format!("{}: not found in mountinfo after mounting", directory.display()))),
    }
}

fn detach(directory: &Path, by_helper: bool) -> io::Result<()> {
    if by_helper {
        return helper::unmount(directory);
    }
    Ok(rustix::mount::unmount(directory, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?)
}

impl Mounted {
    /// Where, as mountinfo spells it.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The file system's number.
    pub fn device_number(&self) -> DeviceNumber {
        self.device
    }

    /// Takes the mount out of the tree at once; readers that have files open keep the connection until they close them.
    /// Doing it again does nothing; so does doing it after someone else did.
    pub fn unmount(&mut self) -> io::Result<()> {
        if !std::mem::replace(&mut self.pending, false) || !self.is_on_top()? {
            return Ok(());
        }
        detach(&self.directory, self.by_helper)
    }

    /// Ends the connection now: every request under way and every later one fails, every device says `Ended`. Uses fusectl
    /// where it is mounted, else a forced umount2 (root only), which works only before `unmount`.
    pub fn abort(&self) -> io::Result<()> {
        let control = format!("/sys/fs/fuse/connections/{}/abort", self.device.minor);
        match std::fs::OpenOptions::new().write(true).open(control) {
            Ok(mut file) => return file.write_all(b"1"),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(_) => {}
        }
        if !self.is_on_top()? {
            return Err(io::Error::other(
                "not mounted any more and fusectl is not mounted: nothing to abort by",
            ));
        }
        match rustix::mount::unmount(&self.directory, UnmountFlags::FORCE | UnmountFlags::NOFOLLOW) {
            // Busy: aborted, and still in the tree because files are open.
            Ok(()) | Err(Errno::BUSY) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Lets the kernel read ahead so much at once: without it cached reads come in 128 KiB, whatever INIT agreed on. For
    /// files opened from now on, and only after INIT was answered, which lowers it again. Needs root.
    pub fn set_read_ahead(&self, kib: u32) -> io::Result<()> {
        std::fs::write(format!("/sys/class/bdi/{}/read_ahead_kb", self.device), kib.to_string())
    }

    fn is_on_top(&self) -> io::Result<bool> {
        Ok(table::on(&self.directory)?.last().is_some_and(|entry| entry.device == self.device))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Nobody is left to hear of a failure; the next start cleans what stays.
        let _ = self.unmount();
    }
}
