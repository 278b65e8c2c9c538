//! What the larger operations carry. See `Operation`.

use crate::attributes::Timestamp;
use crate::wire::input::FileLock;

/// A new time of SETATTR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// The time at which the request is carried out.
    Now,
    /// This time.
    At(Timestamp),
}

/// What SETATTR changes; nothing where nothing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetAttributes {
    /// The open file it was asked on (ftruncate).
    pub handle: Option<u64>,
    /// Type and permissions.
    pub mode: Option<u32>,
    /// The new owner.
    pub uid: Option<u32>,
    /// The new group.
    pub gid: Option<u32>,
    /// Truncate or extend to this.
    pub size_bytes: Option<u64>,
    /// The new time of access.
    pub accessed: Option<SetTime>,
    /// The new time of modification.
    pub modified: Option<SetTime>,
    /// The new time of change (only with a write-back cache).
    pub changed: Option<Timestamp>,
    /// Whose locks apply.
    pub lock_owner: Option<u64>,
    /// Set-user-id and set-group-id are to be cleared.
    pub kill_suid_sgid: bool,
}

/// READ, and the page of READDIR and READDIRPLUS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// That of the open file; 0 where OPEN is answered ENOSYS.
    pub handle: u64,
    /// Of a file: bytes. Of a directory: the `next_offset` of the last entry taken, 0 at the start.
    pub offset: u64,
    /// At most this much is answered; of a cached file less than this means the end of the file.
    pub size_bytes: u32,
    /// Whose locks apply.
    pub lock_owner: Option<u64>,
    /// `O_*` of the open file.
    pub flags: u32,
}

/// WRITE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write<'r> {
    /// That of the open file (guessed where `from_cache`).
    pub handle: u64,
    /// In bytes.
    pub offset: u64,
    /// What is written.
    pub data: &'r [u8],
    /// Written back later from the page cache.
    pub from_cache: bool,
    /// Set-user-id and set-group-id are to be cleared.
    pub kill_suid_sgid: bool,
    /// Whose locks apply.
    pub lock_owner: Option<u64>,
    /// `O_*` of the open file.
    pub flags: u32,
}

/// RELEASE and RELEASEDIR: the last reference to a handle is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// What OPEN answered.
    pub handle: u64,
    /// `O_*` of the open file.
    pub flags: u32,
    /// Flush as FLUSH does.
    pub flush: bool,
    /// Release the BSD lock too.
    pub unlock: bool,
    /// Whose locks are released.
    pub lock_owner: u64,
}

/// CREATE and TMPFILE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Create<'r> {
    /// Of the new file; of a TMPFILE it says nothing.
    pub name: &'r [u8],
    /// `O_*`.
    pub flags: u32,
    /// Type and permissions, the umask already applied unless DONT_MASK was agreed.
    pub mode: u32,
    /// That of the caller.
    pub umask: u32,
    /// Set-user-id and set-group-id are to be cleared.
    pub kill_suid_sgid: bool,
}

/// COPY_FILE_RANGE from the request's node to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyFileRange {
    /// That of the source.
    pub handle: u64,
    /// In the source, bytes.
    pub offset: u64,
    /// The destination.
    pub into_node: u64,
    /// That of the destination.
    pub into_handle: u64,
    /// In the destination, bytes.
    pub into_offset: u64,
    /// How much.
    pub len_bytes: u64,
    /// None is defined.
    pub flags: u64,
}

/// GETLK, SETLK and SETLKW.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// That of the open file.
    pub handle: u64,
    /// Whose lock it is.
    pub owner: u64,
    /// Range and type.
    pub lock: FileLock,
    /// A BSD lock (flock), not a POSIX one.
    pub flock: bool,
}

/// IOCTL, restricted to what the command's own number says about lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ioctl<'r> {
    /// That of the open file.
    pub handle: u64,
    /// `FUSE_IOCTL_*`.
    pub flags: u32,
    /// The command.
    pub command: u32,
    /// The third argument of ioctl(2).
    pub argument: u64,
    /// What the caller's memory holds.
    pub data: &'r [u8],
    /// At most this much is answered.
    pub answer_bytes_max: u32,
}

/// POLL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poll {
    /// That of the open file.
    pub handle: u64,
    /// Names the waiter in a notification.
    pub kernel_handle: u64,
    /// A notification is wanted once something is ready.
    pub notify: bool,
    /// `POLL*` asked for.
    pub events: u32,
}

/// FALLOCATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fallocate {
    /// That of the open file.
    pub handle: u64,
    /// In bytes.
    pub offset: u64,
    /// In bytes.
    pub len_bytes: u64,
    /// `FALLOC_FL_*`.
    pub mode: u32,
}

/// SETUPMAPPING (virtiofs only).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetupMapping {
    /// That of the open file.
    pub handle: u64,
    /// In the file, bytes.
    pub offset: u64,
    /// In bytes.
    pub len_bytes: u64,
    /// To be read, written.
    pub read: bool,
    /// To be written.
    pub write: bool,
    /// In the memory window, bytes.
    pub window_offset: u64,
}
