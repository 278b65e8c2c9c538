//! Attributes of a file or directory as an engine says them, and how long the kernel may believe them.
//!
//! Becomes `wire::output::Attr` and `EntryOut` in `Reply`. Sizes are in bytes, blocks are of 512 bytes.

use crate::wire::output::{Attr, AttrOut, EntryOut};
use std::time::Duration;

/// Of a block as stat(2) counts them.
pub const BLOCK_BYTES: u64 = 512;

/// Seconds and nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Negative before 1970.
    pub seconds: i64,
    /// Below 10⁹.
    pub nanoseconds: u32,
}

impl From<Duration> for Timestamp {
    fn from(since_1970: Duration) -> Timestamp {
        let seconds = i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX);
        Timestamp { seconds, nanoseconds: since_1970.subsec_nanos() }
    }
}

/// What an inode is; the `d_type` of a directory entry and the type bits of a mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A named pipe.
    Pipe,
    /// A socket.
    Socket,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
}

impl Kind {
    /// `S_IF*`.
    pub fn mode(self) -> u32 {
        match self {
            Kind::File => libc::S_IFREG,
            Kind::Directory => libc::S_IFDIR,
            Kind::Link => libc::S_IFLNK,
            Kind::Pipe => libc::S_IFIFO,
            Kind::Socket => libc::S_IFSOCK,
            Kind::CharacterDevice => libc::S_IFCHR,
            Kind::BlockDevice => libc::S_IFBLK,
        }
    }

    /// `DT_*`: the type bits of the mode, shifted down.
    pub fn directory_type(self) -> u32 {
        self.mode() >> 12
    }
}

/// Attributes of one inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Shown as the inode number.
    pub inode: u64,
    /// What it is.
    pub kind: Kind,
    /// The lower 12 bits of the mode.
    pub permissions: u16,
    /// Of a passthrough file: exactly that of the backing file.
    pub size_bytes: u64,
    /// Of `BLOCK_BYTES`, really taken.
    pub blocks: u64,
    /// Last read.
    pub accessed: Timestamp,
    /// Last written.
    pub modified: Timestamp,
    /// Last changed, attributes included.
    pub changed: Timestamp,
    /// Names it has.
    pub links: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Of a device file.
    pub device: u32,
    /// Preferred size of reads.
    pub block_bytes: u32,
}

impl Attributes {
    /// Of an inode with one name, owned by root, of 1970, that takes as many blocks as its size needs.
    pub fn new(inode: u64, kind: Kind, permissions: u16, size_bytes: u64) -> Attributes {
        assert!(permissions & !0o7777 == 0, "the type belongs to the kind");
        let (accessed, modified, changed) =
            (Timestamp::default(), Timestamp::default(), Timestamp::default());
        let blocks = size_bytes.div_ceil(BLOCK_BYTES);
        let (links, uid, gid, device, block_bytes) = (1, 0, 0, 0, 4096);
        Attributes {
            inode,
            kind,
            permissions,
            size_bytes,
            blocks,
            accessed,
            modified,
            changed,
            links,
            uid,
            gid,
            device,
            block_bytes,
        }
    }

    /// Type and permissions.
    pub fn mode(&self) -> u32 {
        self.kind.mode() | u32::from(self.permissions)
    }

    pub(crate) fn wire(&self) -> Attr {
        Attr {
            ino: self.inode,
            size: self.size_bytes,
            blocks: self.blocks,
            atime: self.accessed.seconds as u64,
            mtime: self.modified.seconds as u64,
            ctime: self.changed.seconds as u64,
            atimensec: self.accessed.nanoseconds,
            mtimensec: self.modified.nanoseconds,
            ctimensec: self.changed.nanoseconds,
            mode: self.mode(),
            nlink: self.links,
            uid: self.uid,
            gid: self.gid,
            rdev: self.device,
            blksize: self.block_bytes,
            flags: 0,
        }
    }

    /// The body of a reply to GETATTR and SETATTR; believed for `timeout`.
    pub(crate) fn wire_reply(&self, timeout: Duration) -> AttrOut {
        let (attr_valid, attr_valid_nsec) = (timeout.as_secs(), timeout.subsec_nanos());
        AttrOut { attr_valid, attr_valid_nsec, dummy: 0, attr: self.wire() }
    }
}

/// What a name leads to: answers LOOKUP and all that makes a name, and each counts as one lookup of its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Names the inode in requests from now on; never 0.
    pub node: u64,
    /// With the node unique for the life of the file system.
    pub generation: u64,
    /// How long the name is believed.
    pub entry_timeout: Duration,
    /// How long the attributes are.
    pub attribute_timeout: Duration,
    /// Of the inode.
    pub attributes: Attributes,
}

impl Entry {
    pub(crate) fn wire(&self) -> EntryOut {
        assert!(self.node != 0, "node 0 says that there is no such name: Reply::NoEntry");
        EntryOut {
            nodeid: self.node,
            generation: self.generation,
            entry_valid: self.entry_timeout.as_secs(),
            attr_valid: self.attribute_timeout.as_secs(),
            entry_valid_nsec: self.entry_timeout.subsec_nanos(),
            attr_valid_nsec: self.attribute_timeout.subsec_nanos(),
            attr: self.attributes.wire(),
        }
    }
}

/// The body of a reply that there is no such name, to be believed for `timeout`.
pub(crate) fn no_entry(timeout: Duration) -> EntryOut {
    let (entry_valid, entry_valid_nsec) = (timeout.as_secs(), timeout.subsec_nanos());
    EntryOut { entry_valid, entry_valid_nsec, ..EntryOut::default() }
}
