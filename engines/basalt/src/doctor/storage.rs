//! The data directory's file system: its kind, whether it does direct I/O, how much is free, what was measured of the device.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use runtime::tier::Names;
use rustix::fs::OFlags;

use super::Line;
use crate::config::Settings;
use crate::config::size::Bytes;
use crate::device::Known;
use crate::machine::nearest_existing;

/// Direct I/O is tried with blocks of this size, which every device takes.
const BLOCK_SIZE_BYTES: usize = 4096;

/// Less free space than this is soon none.
const FREE_BYTES_MIN: u64 = 1 << 30;

/// What a file system means for a node's data.
enum Kind {
    Good,
    Degraded(&'static str, &'static str),
}

/// Magic numbers of statfs(2), with names and verdicts.
const FILE_SYSTEMS: [(u64, &str, Kind); 11] = [
    (0xEF53, "ext4", Kind::Good),
    (0x5846_5342, "xfs", Kind::Good),
    (0xF2F5_2010, "f2fs", Kind::Good),
    (0xCA45_1A4E, "bcachefs", Kind::Degraded("copies on write", "put the data directory on ext4 or xfs")),
    (0x9123_683E, "btrfs", Kind::Degraded("copies on write", "chattr +C DIR before the first start")),
    (0x2FC1_2FC1, "zfs", Kind::Degraded("copies on write", "put the data directory on ext4 or xfs")),
    (0x0102_1994, "tmpfs", Kind::Degraded("lost at reboot, held in RAM", "put the data directory on a disk")),
    (0x794C_7630, "overlay", Kind::Degraded("lost with the container", "docker run -v VOLUME:DIR …")),
    (0x6969, "nfs", Kind::Degraded("over the network", "put the data directory on a local disk")),
    (0x0102_1997, "9p", Kind::Degraded("over the network", "put the data directory on a local disk")),
    (
        0x6573_5546,
        "fuse",
        Kind::Degraded("through another process", "put the data directory on a local disk"),
    ),
];

/// One line for each need.
pub fn report(settings: &Settings) -> Vec<Line> {
    settings.data_dirs.iter().flat_map(|dir| report_dir(&dir.path)).collect()
}

fn report_dir(data_dir: &Path) -> [Line; 4] {
    let dir = nearest_existing(data_dir);
    let path = Names::new(data_dir).device();
    let known = Known::read(&path, data_dir);
    [file_system(&dir), direct_io(&dir), free_space(&dir), device(&known, &path)]
}

fn device(known: &Known, path: &Path) -> Line {
    let (need, fix) = ("device figures", "basalt bench disk --save, with no node on the data directory");
    match known {
        Known::Measured(device) => {
            let (operations, bytes) = (device.operations, Bytes(device.bytes));
            let detail = format!("{operations} operations, {bytes} in flight; measured {}", device.measured);
            Line::ok(need, detail)
        }
        Known::Unmeasured => Line::degraded(need, "not measured: defaults for disk I/O in flight", fix),
        Known::Ignored(why) => Line::degraded(need, format!("{} is ignored: {why}", path.display()), fix),
    }
}

fn file_system(dir: &Path) -> Line {
    match rustix::fs::statfs(dir) {
        // The field's width and sign differ between architectures; magic numbers are 32 bits.
        Ok(stat) => file_system_line(stat.f_type as u64 & 0xFFFF_FFFF, dir),
        Err(error) => unusable(dir, &error.into()),
    }
}

fn file_system_line(magic: u64, dir: &Path) -> Line {
    let need = "file system";
    let dir = dir.display();
    match FILE_SYSTEMS.iter().find(|(known, ..)| *known == magic) {
        Some((_, name, Kind::Good)) => Line::ok(need, format!("{name} at {dir}")),
        Some((_, name, Kind::Degraded(why, fix))) => {
            Line::degraded(need, format!("{name} at {dir}: {why}"), *fix)
        }
        None => {
            let detail = format!("unknown (magic {magic:#x}) at {dir}");
            Line::degraded(need, detail, "put the data directory on ext4 or xfs")
        }
    }
}

fn direct_io(dir: &Path) -> Line {
    let need = "O_DIRECT";
    match try_direct_io(dir) {
        Ok(()) => Line::ok(need, format!("{BLOCK_SIZE_BYTES} bytes written at {}", dir.display())),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            let detail = format!("refused at {}: reads and writes go through the page cache", dir.display());
            Line::degraded(need, detail, "put the data directory on ext4 or xfs")
        }
        Err(error) => unusable(dir, &error),
    }
}

/// Writes one aligned block directly into a file that has lost its name.
fn try_direct_io(dir: &Path) -> io::Result<()> {
    let path = dir.join(format!(".basalt-doctor-{}", std::process::id()));
    let flags = i32::try_from(OFlags::DIRECT.bits()).expect("open flags are an int");
    let file = File::options().write(true).create_new(true).custom_flags(flags).open(&path);
    // The kernel may create the file before it refuses the flag.
    let removed = fs::remove_file(&path);
    let mut file = file?;
    removed?;
    let buffer = vec![0; 2 * BLOCK_SIZE_BYTES];
    let start = buffer.as_ptr().align_offset(BLOCK_SIZE_BYTES);
    assert!(start < BLOCK_SIZE_BYTES, "an aligned block lies within twice its size");
    file.write_all(&buffer[start..start + BLOCK_SIZE_BYTES])
}

fn free_space(dir: &Path) -> Line {
    match rustix::fs::statvfs(dir) {
        Ok(stat) => {
            let free_bytes = stat.f_bavail.saturating_mul(stat.f_frsize);
            let total_bytes = stat.f_blocks.saturating_mul(stat.f_frsize);
            free_space_line(free_bytes, total_bytes)
        }
        Err(error) => unusable(dir, &error.into()),
    }
}

fn free_space_line(free_bytes: u64, total_bytes: u64) -> Line {
    let detail = format!("{} of {}", Bytes(free_bytes), Bytes(total_bytes));
    if free_bytes < FREE_BYTES_MIN {
        return Line::degraded("free space", detail, "free some, or name another disk with --data-dir");
    }
    Line::ok("free space", detail)
}

/// Whatever was asked of the directory, it is the directory that cannot be used.
fn unusable(dir: &Path, error: &io::Error) -> Line {
    let detail = format!("{} cannot be used: {error}", dir.display());
    Line::missing("data directory", detail, "name a directory that we may write with --data-dir")
        .blocking_serve()
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn file_systems_are_told_apart() {
        let status = |magic| file_system_line(magic, Path::new("/d")).status;
        assert_eq!(status(0xEF53), Status::Ok);
        assert_eq!(status(0x0102_1994), Status::Degraded);
        assert_eq!(status(0xDEAD), Status::Degraded);
    }

    #[test]
    fn trying_direct_io_leaves_nothing_behind() {
        let dir = tempfile::tempdir().expect("a directory");
        try_direct_io(dir.path()).ok(); // whether it works is the machine's affair
        assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 0);
    }

    #[test]
    fn a_device_that_was_not_measured_is_degraded() {
        let line = |known| device(&known, Path::new("/d/device.toml"));
        assert_eq!(line(Known::Unmeasured).status, Status::Degraded);
        let ignored = line(Known::Ignored("of version 7".into()));
        assert!(
            ignored.status == Status::Degraded && ignored.detail.contains("/d/device.toml"),
            "{ignored:?}"
        );
    }

    #[test]
    fn a_directory_we_may_not_write_blocks_serve() {
        assert!(direct_io(Path::new("/proc")).blocks_serve);
        assert_eq!(free_space_line(1 << 20, 1 << 40).status, Status::Degraded);
    }
}
