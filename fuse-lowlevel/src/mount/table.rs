//! `/proc/self/mountinfo`: which mounts there are, read without touching any of them.
//!
//! Called when mounting, unmounting and at start. The kernel writes blanks, tabs, newlines and backslashes of paths as three
//! octal digits; everything here is bytes, as paths need not be UTF-8. Format: proc_pid_mountinfo(5).

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// `major:minor` of a mounted file system, as `/sys/class/bdi` names it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DeviceNumber {
    /// 0 for FUSE without a block device.
    pub major: u32,
    /// Also the name of the connection below `/sys/fs/fuse/connections`.
    pub minor: u32,
}

impl std::fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// What is not `major:minor`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a file system's number is two numbers with a colon between them")]
pub struct NoDeviceNumber;

impl std::str::FromStr for DeviceNumber {
    type Err = NoDeviceNumber;
    fn from_str(text: &str) -> Result<DeviceNumber, NoDeviceNumber> {
        parse_device(text.as_bytes()).ok_or(NoDeviceNumber)
    }
}

/// One mount.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The file system's number.
    pub device: DeviceNumber,
    /// Where it is mounted.
    pub directory: PathBuf,
    /// `fuse.<subtype>` for ours.
    pub kind: Vec<u8>,
}

/// All mounts of this process's name space, in the order in which they were mounted on one directory.
pub fn read() -> io::Result<Vec<Entry>> {
    Ok(std::fs::read("/proc/self/mountinfo")?.split(|&byte| byte == b'\n').filter_map(parse).collect())
}

/// The mounts on `directory` itself, the topmost last.
pub fn on(directory: &Path) -> io::Result<Vec<Entry>> {
    Ok(read()?.into_iter().filter(|entry| entry.directory == directory).collect())
}

/// `36 35 98:0 /root /mnt rw,noatime master:1 - ext3 /dev/root rw`; lines that do not look so are not mounts.
fn parse(line: &[u8]) -> Option<Entry> {
    let mut fields = line.split(|&byte| byte == b' ');
    let device = parse_device(fields.nth(2)?)?;
    let directory = unescape(fields.nth(1)?);
    fields.find(|&field| field == b"-")?;
    let kind = unescape(fields.next()?);
    Some(Entry { device, directory: PathBuf::from(OsString::from_vec(directory)), kind })
}

fn parse_device(field: &[u8]) -> Option<DeviceNumber> {
    let (major, minor) = std::str::from_utf8(field).ok()?.split_once(':')?;
    Some(DeviceNumber { major: major.parse().ok()?, minor: minor.parse().ok()? })
}

/// `\040` and its like; a backslash that begins no three octal digits stands for itself.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        match after {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] if first == b'\\' => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = tail;
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    bytes
}

/// Whether the file system calls itself `fuse.<subtype>`.
pub fn is_of_subtype(entry: &Entry, subtype: &str) -> bool {
    entry.kind.strip_prefix(b"fuse.").is_some_and(|rest| rest == subtype.as_bytes())
}

/// The absolute path of a directory to be mounted on, as mountinfo will spell it. Its parent is resolved and its last name is
/// kept: the directory itself may be a dead mount, which must not be touched.
pub fn spelled(directory: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(directory)?;
    match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) => {
            let parent = std::fs::canonicalize(parent)?;
            Ok(if name.as_bytes() == b".." { parent.join("..").canonicalize()? } else { parent.join(name) })
        }
        _ => Ok(absolute),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read() {
        let line = b"36 35 0:52 / /mnt/a\\040b\\134c rw,nosuid - fuse.basalt basalt\\011x rw,user_id=0";
        let entry = parse(line).unwrap();
        assert_eq!(entry.device, DeviceNumber { major: 0, minor: 52 });
        assert_eq!(entry.directory, Path::new("/mnt/a b\\c"));
        assert!(is_of_subtype(&entry, "basalt") && !is_of_subtype(&entry, "basal"));
    }

    #[test]
    fn optional_fields_may_be_many_or_none() {
        let none = b"1 2 8:1 / /x rw - ext4 /dev/sda rw";
        let many = b"1 2 8:1 / /x rw shared:1 master:2 unbindable - ext4 /dev/sda rw";
        assert_eq!(parse(none), parse(many));
    }

    #[test]
    fn what_is_no_mount_is_passed_over() {
        for line in
            [&b""[..], b"1 2", b"1 2 8 / /x rw - ext4 a rw", b"1 2 8:1 / /x rw shared:1", b"a b c d e f g - "]
        {
            assert_eq!(parse(line).map(|entry| entry.kind), None, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn a_backslash_alone_stands_for_itself() {
        assert_eq!(unescape(b"a\\04"), b"a\\04");
        assert_eq!(unescape(b"\\777\\012"), b"\\777\n");
    }

    #[test]
    fn the_root_is_mounted() {
        assert!(read().unwrap().iter().any(|entry| entry.directory == Path::new("/")));
    }
}
