//! How much disk I/O each column may have in flight, device by device, by what is known of the devices. Called once at start.

use crate::device::Known;
use runtime::classes::Limits;
use runtime::tier::DiskPlan;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// A column's share of one device.
#[derive(Clone, Debug)]
pub struct DeviceLimits {
    /// The data directories on it.
    pub dirs: Vec<PathBuf>,
    /// What each column may have in flight.
    pub limits: Limits,
}

/// What data directories of one file system, and so of one device, say together.
struct Device {
    /// `None`: cannot be told, so it is taken for a device of its own.
    number: Option<u64>,
    dirs: Vec<PathBuf>,
    file: PathBuf,
    known: Known,
}

/// The limits of every device. A file that cannot be used is said and passed over.
pub fn device_limits(disks: &[DiskPlan], columns: usize) -> Vec<DeviceLimits> {
    let devices = group(disks).into_iter();
    let limits = devices.map(|device| {
        let limits = device.known.limits(columns);
        say(&device, &limits);
        DeviceLimits { dirs: device.dirs, limits }
    });
    limits.collect()
}

fn group(disks: &[DiskPlan]) -> Vec<Device> {
    let mut devices: Vec<Device> = Vec::new();
    for names in disks.iter().map(|disk| disk.dir.names()) {
        let (root, file) = (names.root().to_owned(), names.device());
        let number = fs::metadata(&root).map(|meta| meta.dev()).ok();
        let known = Known::read(&file, &root);
        match devices.iter_mut().find(|device| number.is_some() && device.number == number) {
            None => devices.push(Device { number, dirs: vec![root], file, known }),
            Some(device) => {
                device.dirs.push(root);
                if worth(&known) > worth(&device.known) {
                    (device.file, device.known) = (file, known);
                }
            }
        }
    }
    devices
}

/// Figures count wherever they lie, and a file that cannot be used is worth saying.
fn worth(known: &Known) -> u8 {
    match known {
        Known::Unmeasured => 0,
        Known::Ignored(_) => 1,
        Known::Measured(_) => 2,
    }
}

fn say(device: &Device, limits: &Limits) {
    let (operations, bytes) = (limits.foreground().operations, limits.foreground().bytes);
    let (dir, file) = (device.dirs[0].display(), device.file.display());
    match &device.known {
        Known::Measured(figures) => {
            let measured = &figures.measured;
            tracing::info!(%dir, operations, bytes, %measured, "disk I/O in flight, each column: as measured");
        }
        Known::Unmeasured => {
            let how = "basalt bench disk --save";
            tracing::info!(%dir, operations, bytes, how, "disk I/O in flight, each column: defaults");
        }
        Known::Ignored(why) => {
            tracing::warn!(operations, bytes, %file, %why, "device figures ignored: defaults");
        }
    }
}
