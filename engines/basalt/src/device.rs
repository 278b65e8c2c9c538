//! What is known of the device under a data directory: `DATA/device.toml`, written by `bench disk --save`, read by `serve`
//! and `doctor`.
//!
//! The file only makes the node faster or gentler, so nothing about it keeps a node from starting: one that is damaged, of
//! another version or of another device is ignored with one line that says so. It appears whole or not at all.
//!
//! Units: bytes, operations in flight, operations and bytes per second, microseconds.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use runtime::classes::Limits;
use serde::{Deserialize, Serialize};

mod identity;

pub use identity::identity;

/// What this build writes and reads.
const VERSION: u32 = 1;
/// A file larger than this is not ours.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// More in flight than this is no measurement: `bench disk` stops long before.
const OPERATIONS_MAX: u32 = 1 << 16;
const BYTES_MAX: u64 = 1 << 36;
const NOTE: &str =
    "# Written by `basalt bench disk --save`, read by `basalt serve`. Without this file defaults hold.\n";

/// The figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// Of this format.
    version: u32,
    /// When, for people.
    pub measured: String,
    /// On which kernel, for people.
    pub kernel: String,
    /// Which device: figures of another one do not count.
    pub device: String,
    /// Operations in flight that are enough for 4 KiB reads.
    pub operations: u32,
    /// Bytes in flight that are enough for 1 MiB reads and writes.
    pub bytes: u64,
    /// Median time of a durable write of 4 KiB, alone.
    pub sync_us: f64,
    /// Operations per second by depth.
    pub read_4k: Vec<AtDepth>,
    /// Bytes per second by depth.
    pub read_1m: Vec<AtDepth>,
    /// Bytes per second by depth.
    pub write_1m: Vec<AtDepth>,
}

/// One step of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AtDepth {
    /// Operations in flight.
    pub depth: u32,
    /// What came of it.
    pub per_second: u64,
}

/// What the file says.
#[derive(Clone, Debug, PartialEq)]
pub enum Known {
    /// There is no file.
    Unmeasured,
    /// Figures of this device.
    Measured(Box<Device>),
    /// A file that does not count, and why.
    Ignored(String),
}

impl Device {
    /// Figures of this format.
    pub fn new(measured: String, kernel: String, device: String) -> Self {
        Self {
            version: VERSION,
            measured,
            kernel,
            device,
            operations: 0,
            bytes: 0,
            sync_us: 0.0,
            read_4k: Vec::new(),
            read_1m: Vec::new(),
            write_1m: Vec::new(),
        }
    }

    /// Writes the file at `path` atomically and makes it durable.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let text = toml::to_string(self).map_err(io::Error::other)?;
        // A name that a first start knows as ours is not needed: the directory has its FORMAT by now.
        let temporary = path.with_extension("toml.new");
        let mut file = File::create(&temporary)?;
        file.write_all(NOTE.as_bytes())?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    }

    /// Reads a file's text.
    fn parse(text: &str, this_device: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let not_ours = |error: toml::de::Error| error.message().to_owned();
        let Versioned { version } = toml::from_str(text).map_err(not_ours)?;
        if version != VERSION {
            return Err(format!("it is of version {version}, this build knows {VERSION}"));
        }
        let device: Self = toml::from_str(text).map_err(not_ours)?;
        if !(1..=OPERATIONS_MAX).contains(&device.operations) || !(1..=BYTES_MAX).contains(&device.bytes) {
            return Err(format!("{} operations and {} bytes cannot be", device.operations, device.bytes));
        }
        if !device.sync_us.is_finite() || device.sync_us < 0.0 {
            return Err(format!("{} us for a durable write cannot be", device.sync_us));
        }
        if device.device != this_device {
            return Err(format!("it was measured on {}, this is {this_device}", device.device));
        }
        Ok(device)
    }
}

impl Known {
    /// Reads `path`, the device file of the data directory `dir`.
    pub fn read(path: &Path, dir: &Path) -> Known {
        let mut text = String::new();
        let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Known::Unmeasured,
            Err(error) => Known::Ignored(error.to_string()),
            Ok(_) => match Device::parse(&text, &identity(dir)) {
                Ok(device) => Known::Measured(Box::new(device)),
                Err(why) => Known::Ignored(why),
            },
        }
    }

    /// The share of each of `columns` columns.
    pub fn limits(&self, columns: usize) -> Limits {
        match self {
            Known::Measured(device) => Limits::share(device.operations, device.bytes, columns),
            Known::Unmeasured | Known::Ignored(_) => {
                Limits::share(Limits::OPERATIONS_UNMEASURED, Limits::BYTES_UNMEASURED, columns)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> Device {
        let mut device = Device::new("today".into(), "6.18".into(), "disk 1".into());
        device.operations = 48;
        device.bytes = 24 << 20;
        device.sync_us = 128.5;
        device.read_4k =
            vec![AtDepth { depth: 1, per_second: 9000 }, AtDepth { depth: 2, per_second: 17_000 }];
        device
    }

    #[test]
    fn what_is_saved_is_read_and_divided() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("device.toml");
        let device = Device { device: identity(dir.path()), ..device() };
        assert_eq!(Known::read(&path, dir.path()), Known::Unmeasured);
        device.save(&path).expect("saved");
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1, "nothing else is left");
        let known = Known::read(&path, dir.path());
        assert_eq!(known, Known::Measured(Box::new(device)));
        let share = known.limits(2).foreground();
        assert_eq!((share.operations, share.bytes), (24, 12 << 20));
        let share = Known::Unmeasured.limits(2).foreground();
        assert_eq!((share.operations, share.bytes), (32, 8 << 20));
    }

    #[test]
    fn fuzzed_files_are_read_or_refused() {
        let golden = [toml::to_string(&device()).expect("TOML").into_bytes()];
        let decode = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes);
            let Ok(read) = Device::parse(&text, "disk 1") else { return false };
            let again = toml::to_string(&read).expect("TOML");
            assert_eq!(Device::parse(&again, "disk 1"), Ok(read.clone()));
            Known::Measured(Box::new(read)).limits(3);
            true
        };
        mutation::fuzz("device.toml", &golden, |_| {}, decode);
    }

    #[test]
    fn what_does_not_count_says_why() {
        let good = toml::to_string(&device()).expect("TOML");
        assert_eq!(Device::parse(&good, "disk 1"), Ok(device()));
        for (text, why) in [
            (good.replace("version = 1", "version = 7"), "version 7"),
            (good.replace("operations = 48", "operations = 0"), "0 operations"),
            (good.replace("operations = 48", ""), "operations"),
            (good.replace("sync_us = 128.5", "sync_us = nan"), "NaN us"),
            (good.replace("sync_us = 128.5", "sync_us = -1.0"), "-1 us"),
            (good.replace("version = 1", ""), "version"),
            (good.replace("disk 1", "disk 2"), "measured on disk 2"),
            ("\u{0}".to_owned(), ""),
        ] {
            let said = Device::parse(&text, "disk 1").expect_err("refused");
            assert!(said.contains(why) && !said.contains('\n'), "{said:?} does not name {why:?}");
        }
    }
}
