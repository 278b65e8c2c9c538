//! How a file system is mounted, and how mount(2) and `fusermount3` want to be told.
//!
//! Names go into option lists that split at commas and blanks, so only plain names are taken.

use std::io;
use std::os::fd::RawFd;

/// A name's longest; the kernel keeps a page for all options together.
const NAME_BYTES_MAX: usize = 255;

/// `S_IFDIR` in octal: the root of the mount is a directory.
const ROOT_MODE: &str = "40000";

/// Options of a mount. Always nosuid and nodev.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// MS_RDONLY: the kernel refuses writers before we hear of them.
    pub read_only: bool,
    /// Users other than the one who mounted may look in.
    pub allow_other: bool,
    /// The kernel checks modes; without it the daemon would have to.
    pub default_permissions: bool,
    /// First column of `df`.
    pub source: String,
    /// The type is `fuse.<subtype>`, by which stale mounts are recognised.
    pub subtype: String,
}

impl Options {
    pub(super) fn check(&self) -> io::Result<()> {
        for name in [&self.source, &self.subtype] {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/@".contains(&byte);
            if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(plain) {
                let text = format!("{name:?} cannot name a mount: letters, digits and -_.:/@ only");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        }
        Ok(())
    }

    /// The type given to mount(2).
    pub(super) fn kind(&self) -> String {
        format!("fuse.{}", self.subtype)
    }

    /// The data given to mount(2), by root.
    pub(super) fn data(&self, device: RawFd) -> String {
        let user = rustix::process::geteuid().as_raw();
        let group = rustix::process::getegid().as_raw();
        let data = format!("fd={device},rootmode={ROOT_MODE},user_id={user},group_id={group}");
        self.with_flags(data)
    }

    /// The list after `fusermount3 -o`.
    pub(super) fn helper_list(&self) -> String {
        let mode = if self.read_only { "ro" } else { "rw" };
        let list = format!("{mode},nosuid,nodev,fsname={},subtype={}", self.source, self.subtype);
        self.with_flags(list)
    }

    fn with_flags(&self, mut list: String) -> String {
        for (wanted, word) in
            [(self.allow_other, ",allow_other"), (self.default_permissions, ",default_permissions")]
        {
            if wanted {
                list += word;
            }
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(source: &str) -> Options {
        let flags = (false, false, true);
        Options {
            read_only: flags.0,
            allow_other: flags.1,
            default_permissions: flags.2,
            source: source.into(),
            subtype: "probe".into(),
        }
    }

    #[test]
    fn a_name_brings_no_option_of_its_own() {
        assert!(named("x,allow_other").check().is_err());
        assert!(named("").check().is_err());
        assert!(named("a b").check().is_err());
        assert!(named("host:/data-1").check().is_ok());
    }

    #[test]
    fn others_are_let_in_only_when_told() {
        assert!(!named("x").helper_list().contains("allow_other"));
        assert!(named("x").helper_list().ends_with(",default_permissions"));
        assert!(!named("x").data(3).contains("allow_other"));
        assert!(Options { allow_other: true, ..named("x") }.data(3).contains(",allow_other"));
    }
}
