//! Which device a directory lies on, in words that are the same after a reboot and another after a move to another disk.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What sysfs may know of a disk, the surest first: an NVMe namespace, a SCSI disk, a virtio disk.
const NAMES: [&str; 3] = ["wwid", "device/wwid", "serial"];

/// The device under `dir`, with its size. File systems without a block device of their own are all alike.
pub fn identity(dir: &Path) -> String {
    let Ok(meta) = fs::metadata(dir) else {
        return "unknown".to_owned();
    };
    let (major, minor) = (rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()));
    let block = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    match fs::canonicalize(block) {
        Ok(block) => describe(&block),
        Err(_) => "no block device".to_owned(),
    }
}

/// `block` is a disk's or a partition's directory in sysfs.
fn describe(block: &Path) -> String {
    let line =
        |path: PathBuf| Some(fs::read_to_string(path).ok()?.trim().to_owned()).filter(|s| !s.is_empty());
    let is_partition = block.join("partition").exists();
    let disk = if is_partition { block.parent().unwrap_or(block) } else { block };
    let known = NAMES.iter().find_map(|name| line(disk.join(name)));
    let name = known.or_else(|| Some(block.file_name()?.to_string_lossy().into_owned())).unwrap_or_default();
    let sectors: u64 = line(block.join("size")).and_then(|s| s.parse().ok()).unwrap_or(0);
    // Of 512 bytes, whatever the device's own are.
    format!("{name}, {} bytes", sectors.saturating_mul(512))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_named_by_its_disk_and_its_own_size() {
        let dir = tempfile::tempdir().expect("a directory");
        let disk = dir.path().join("nvme0n1");
        let part = disk.join("nvme0n1p2");
        fs::create_dir_all(&part).expect("made");
        for (file, text) in [("wwid", "eui.01\n"), ("size", "80\n"), ("nvme0n1p2/size", "8\n")] {
            fs::write(disk.join(file), text).expect("written");
        }
        assert_eq!(describe(&disk), "eui.01, 40960 bytes");
        fs::write(part.join("partition"), "2\n").expect("written");
        assert_eq!(describe(&part), "eui.01, 4096 bytes");
        fs::remove_file(disk.join("wwid")).expect("removed");
        assert_eq!(describe(&part), "nvme0n1p2, 4096 bytes");
    }

    #[test]
    fn a_directory_has_the_same_identity_twice() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(identity(dir.path()), identity(dir.path()));
        assert_ne!(identity(Path::new("/no/such")), identity(dir.path()));
    }
}
