//! The disk queues of a column: one for each device that was named, one for the files elsewhere.
//!
//! Called by `file.rs` when a file is opened, which keeps its queue, and by `handle.rs`. A device is known by the directories
//! on it rather than by its number: file systems in layers give files other numbers than their directories.

use super::DiskQueue;
use crate::classes::Limits;
use crate::metrics::Sample;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Named so in metrics while no device is.
const ELSEWHERE: &str = "any";

/// See the module.
pub(in crate::ring) struct DiskQueues {
    elsewhere: Rc<DiskQueue>,
    devices: RefCell<Vec<Device>>,
}

struct Device {
    dirs: Vec<PathBuf>,
    queue: Rc<DiskQueue>,
}

impl DiskQueues {
    pub(in crate::ring) fn new() -> DiskQueues {
        DiskQueues { elsewhere: DiskQueue::new(ELSEWHERE), devices: RefCell::default() }
    }

    /// Bounds what is in flight of files under no directory of a device.
    pub(in crate::ring) fn limit_elsewhere(&self, limits: Limits) {
        self.elsewhere.set_limits(limits);
    }

    /// Gives the device under `dirs` a queue of its own, for files that are opened from now on.
    pub(in crate::ring) fn add_device(&self, dirs: &[PathBuf], limits: Limits) {
        let first = dirs.first().expect("a device is known by its directories");
        let queue = DiskQueue::new(&first.to_string_lossy());
        queue.set_limits(limits);
        self.devices.borrow_mut().push(Device { dirs: dirs.to_vec(), queue });
    }

    /// The queue of a file: that of the innermost directory it is in.
    pub(in crate::ring) fn of(&self, path: &Path) -> Rc<DiskQueue> {
        let devices = self.devices.borrow();
        let dirs = devices.iter().flat_map(|device| device.dirs.iter().map(|dir| (dir, &device.queue)));
        let around = dirs.filter(|(dir, _)| path.starts_with(dir));
        let innermost = around.max_by_key(|(dir, _)| dir.as_os_str().len());
        innermost.map_or(&self.elsewhere, |(_, queue)| queue).clone()
    }

    /// What can be seen of the devices.
    pub(in crate::ring) fn samples(&self) -> Vec<Sample> {
        let devices = self.devices.borrow();
        match devices.is_empty() {
            true => self.elsewhere.samples(),
            false => devices.iter().flat_map(|device| device.queue.samples()).collect(),
        }
    }
}
