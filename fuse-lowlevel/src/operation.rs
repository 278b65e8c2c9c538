//! What the kernel asks for: every operation of 7.45 as a value that borrows from the request's bytes.
//!
//! Made by `Request::parse`, answered by `Reply`; the comment of each variant names the reply it expects (`Reply::Error` is
//! always one). Names are without their NUL, not empty and without `/`. The object meant is `Request::node`.

mod operands;

pub use operands::{
    CopyFileRange, Create, Fallocate, Ioctl, Lock, Poll, Read, Release, SetAttributes, SetTime, SetupMapping,
    Write,
};

use crate::negotiation::Offer;
use crate::records::Records;
use crate::wire::input::{ForgetOne, RemovemappingOne};

/// One operation. See the file's header.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Operation<'r> {
    /// The first request of a connection → `Reply::Init`.
    Init(Offer),
    /// The last of some connections → `Reply::Empty`.
    Destroy,
    /// The request of that `unique` was interrupted: its own answer may be EINTR. No reply.
    Interrupt {
        /// Of the request that nobody waits for any more.
        unique: u64,
    },
    /// The kernel forgets so many lookups of the node. No reply.
    Forget {
        /// How many.
        lookups: u64,
    },
    /// The same of many nodes. No reply.
    BatchForget(Records<'r, ForgetOne>),

    /// The entry of that name in the directory → `Reply::Entry`.
    Lookup {
        /// May be `.` and `..` where EXPORT_SUPPORT was agreed.
        name: &'r [u8],
    },
    /// → `Reply::Attributes`.
    GetAttr {
        /// The open file it was asked on (fstat).
        handle: Option<u64>,
    },
    /// → `Reply::Statx`; ENOSYS makes the kernel use GETATTR.
    Statx {
        /// The open file it was asked on.
        handle: Option<u64>,
        /// `AT_STATX_*`.
        flags: u32,
        /// `STATX_*` wanted.
        mask: u32,
    },
    /// → `Reply::Data`, the target.
    ReadLink,
    /// May the caller do that (`R_OK`…)? Not asked with default_permissions. → `Reply::Empty`.
    Access {
        /// `R_OK | W_OK | X_OK`.
        mask: u32,
    },
    /// → `Reply::StatFs`.
    StatFs,
    /// `size_bytes` 0: how large is it → `Reply::XattrSize`; else `Reply::Data`, or ERANGE if it is larger.
    GetXattr {
        /// With its prefix, as in `user.basalt.digest`.
        name: &'r [u8],
        /// What the caller has room for.
        size_bytes: u32,
    },
    /// As `GetXattr`: the names, each with its NUL.
    ListXattr {
        /// What the caller has room for.
        size_bytes: u32,
    },

    /// → `Reply::Opened`. ENOSYS where that was agreed: no OPEN, no RELEASE any more.
    Open {
        /// `O_*` without O_CREAT, O_EXCL, O_NOCTTY.
        flags: u32,
        /// Set-user-id and set-group-id are to be cleared.
        kill_suid_sgid: bool,
    },
    /// → `Reply::Data`.
    Read(Read),
    /// → `Reply::Offset`; ENOSYS makes the kernel take the file as one run of data.
    Lseek {
        /// That of the open file.
        handle: u64,
        /// From where, bytes.
        offset: u64,
        /// `SEEK_DATA` or `SEEK_HOLE`.
        whence: u32,
    },
    /// A descriptor of it was closed → `Reply::Empty`. ENOSYS: never asked again.
    Flush {
        /// That of the open file.
        handle: u64,
        /// Whose POSIX locks go.
        lock_owner: u64,
    },
    /// → `Reply::Empty`.
    Release(Release),
    /// → `Reply::Opened`.
    OpenDir {
        /// `O_*`.
        flags: u32,
    },
    /// → `Reply::Data`, made by `DirectoryPage`.
    ReadDir(Read),
    /// → `Reply::Data`, made by `DirectoryPlusPage`. Each entry with a node counts as one lookup.
    ReadDirPlus(Read),
    /// → `Reply::Empty`.
    ReleaseDir(Release),

    /// → `Reply::Attributes`, the new ones.
    SetAttr(SetAttributes),
    /// → `Reply::Entry`.
    SymLink {
        /// Of the link.
        name: &'r [u8],
        /// What it points to.
        target: &'r [u8],
    },
    /// → `Reply::Entry`.
    MkNod {
        /// Of the node.
        name: &'r [u8],
        /// Type and permissions.
        mode: u32,
        /// Of a device.
        device: u32,
        /// That of the caller.
        umask: u32,
    },
    /// → `Reply::Entry`.
    MkDir {
        /// Of the directory.
        name: &'r [u8],
        /// Permissions.
        mode: u32,
        /// That of the caller.
        umask: u32,
    },
    /// → `Reply::Empty`.
    Unlink {
        /// Of the entry.
        name: &'r [u8],
    },
    /// → `Reply::Empty`.
    RmDir {
        /// Of the directory.
        name: &'r [u8],
    },
    /// RENAME and RENAME2 → `Reply::Empty`.
    Rename {
        /// In the request's node.
        name: &'r [u8],
        /// The directory it goes to.
        into_node: u64,
        /// Its name there.
        into_name: &'r [u8],
        /// `RENAME_NOREPLACE`, `RENAME_EXCHANGE`, `RENAME_WHITEOUT`; 0 of a RENAME.
        flags: u32,
    },
    /// A further name, in the request's node → `Reply::Entry`.
    Link {
        /// The file that gets it.
        node: u64,
        /// The name.
        name: &'r [u8],
    },
    /// → `Reply::Created`.
    Create(Create<'r>),
    /// A file without a name → `Reply::Created`.
    TmpFile(Create<'r>),
    /// → `Reply::Written`.
    Write(Write<'r>),
    /// → `Reply::Empty`.
    Fsync {
        /// That of the open file.
        handle: u64,
        /// Not what only stat(2) shows.
        data_only: bool,
    },
    /// → `Reply::Empty`.
    FsyncDir {
        /// That of the open directory.
        handle: u64,
        /// Not what only stat(2) shows.
        data_only: bool,
    },
    /// syncfs(2) → `Reply::Empty`.
    SyncFs,
    /// → `Reply::Empty`.
    SetXattr {
        /// With its prefix.
        name: &'r [u8],
        /// Its value.
        value: &'r [u8],
        /// `XATTR_CREATE`, `XATTR_REPLACE`.
        flags: u32,
    },
    /// → `Reply::Empty`.
    RemoveXattr {
        /// With its prefix.
        name: &'r [u8],
    },
    /// → `Reply::Empty`.
    Fallocate(Fallocate),
    /// → `Reply::Written`, so at most 4 GiB.
    CopyFileRange(CopyFileRange),
    /// → `Reply::Copied`.
    CopyFileRange64(CopyFileRange),

    /// Who holds a lock that excludes this one → `Reply::Lock`.
    GetLock(Lock),
    /// → `Reply::Empty`, or EAGAIN.
    SetLock(Lock),
    /// → `Reply::Empty` once it is held.
    SetLockWait(Lock),
    /// → `Reply::Block`.
    Bmap {
        /// Of the file.
        block: u64,
        /// Of a block.
        block_bytes: u32,
    },
    /// → `Reply::Ioctl`.
    Ioctl(Ioctl<'r>),
    /// → `Reply::Poll`.
    Poll(Poll),
    /// What a NOTIFY_RETRIEVE asked for; `Request::unique` is that of the notification. No reply.
    NotifyReply {
        /// In bytes.
        offset: u64,
        /// What the page cache held.
        data: &'r [u8],
    },
    /// → `Reply::Empty`.
    SetupMapping(SetupMapping),
    /// → `Reply::Empty`.
    RemoveMapping(Records<'r, RemovemappingOne>),
    /// Not of 7.45 → ENOSYS.
    Unknown(u32),
}

impl Operation<'_> {
    /// Whether the kernel waits for a reply.
    pub fn wants_reply(&self) -> bool {
        use Operation::*;
        !matches!(self, Forget { .. } | BatchForget(_) | Interrupt { .. } | NotifyReply { .. })
    }

    /// Whether it would change the file system: what a read-only one answers with EROFS. Of OPEN the flags decide.
    pub fn modifies(&self) -> bool {
        use Operation::*;
        match self {
            Open { flags, .. } => opens_to_write(*flags),
            SetAttr(_) | SymLink { .. } | MkNod { .. } | MkDir { .. } | Unlink { .. } | RmDir { .. } => true,
            Rename { .. } | Link { .. } | Create(_) | TmpFile(_) | Write(_) | Fallocate(_) => true,
            SetXattr { .. } | RemoveXattr { .. } | CopyFileRange(_) | CopyFileRange64(_) => true,
            SetupMapping(mapping) => mapping.write,
            _ => false,
        }
    }
}

/// `O_WRONLY`, `O_RDWR` or `O_TRUNC`.
fn opens_to_write(flags: u32) -> bool {
    let write = (libc::O_WRONLY | libc::O_RDWR | libc::O_TRUNC) as u32;
    flags & write != 0
}
