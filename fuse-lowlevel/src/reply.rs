//! What is answered to a request: a value, encoded into a small head on the stack and a borrowed body.
//!
//! A classic transport writes `head` and `body` with one writev; that of io_uring copies `header` into `in_out`, `fixed` and then
//! `body` into the payload. Data that is spliced goes behind a `header` of its own.

use crate::attributes::{Attributes, Entry, no_entry};
use crate::wire::input::FileLock;
use crate::wire::output::{
    BmapOut, CopyFileRangeOut, CreateOut, GetxattrOut, InitOut, IoctlOut, LkOut, LseekOut, OpenOut,
    OutHeader, PollOut, StatfsOut, StatxOut, WriteOut,
};
use std::time::Duration;
use zerocopy::{Immutable, IntoBytes};

/// Of a reply's header.
pub const HEADER_BYTES: usize = size_of::<OutHeader>();
/// Of a reply without data, its header included: that of STATX is the largest.
pub const HEAD_BYTES_MAX: usize = HEADER_BYTES + size_of::<StatxOut>();

/// An errno is refused by the kernel from here on.
const ERRNO_END: i32 = 1000;

/// An open file or directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Comes back in every request on it.
    pub handle: u64,
    /// `wire::flags::open`.
    pub flags: u32,
    /// With `PASSTHROUGH` among the flags: what BACKING_OPEN gave. Else 0.
    pub backing_id: i32,
}

impl Opened {
    fn wire(self) -> OpenOut {
        OpenOut { fh: self.handle, open_flags: self.flags, backing_id: self.backing_id }
    }
}

/// What statfs(2) shows. Blocks are of `block_bytes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatFs {
    /// In all.
    pub blocks: u64,
    /// Not taken.
    pub blocks_free: u64,
    /// Not taken, for those who are not root.
    pub blocks_available: u64,
    /// Inodes in all.
    pub files: u64,
    /// Inodes not taken.
    pub files_free: u64,
    /// Of a block.
    pub block_bytes: u32,
    /// Of a name.
    pub name_bytes_max: u32,
}

/// One reply. Each `Operation` names the one it expects.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Reply<'a> {
    /// An errno, positive.
    Error(i32),
    /// Done.
    Empty,
    /// The name leads there.
    Entry(Entry),
    /// There is no such name, which may be believed for that long. ENOENT is not remembered.
    NoEntry(Duration),
    /// Attributes, and how long they are believed.
    Attributes(Attributes, Duration),
    /// A handle.
    Opened(Opened),
    /// A new file, and its handle.
    Created(Entry, Opened),
    /// What was read: of a file, a link, a directory page, an xattr.
    Data(&'a [u8]),
    /// So many bytes were written.
    Written(u32),
    /// So many bytes were copied.
    Copied(u64),
    /// Of the file system.
    StatFs(StatFs),
    /// An xattr, or the list of them, has so many bytes.
    XattrSize(u32),
    /// Where data or a hole begins, bytes.
    Offset(u64),
    /// The lock that excludes, or one of type F_UNLCK.
    Lock(FileLock),
    /// The number of a block on the device.
    Block(u64),
    /// The result of the command, and what goes back to the caller's memory.
    Ioctl(i32, &'a [u8]),
    /// `POLL*` that are ready.
    Poll(u32),
    /// `Agreed::reply`, or the version alone.
    Init(InitOut),
    /// As statx(2) has it.
    Statx(StatxOut),
}

impl<'a> Reply<'a> {
    /// The bytes of it, for the request of that `unique`.
    pub fn encode(&self, unique: u64) -> Encoded<'a> {
        let with = |body: &dyn Fixed| Encoded::new(unique, 0, body.bytes(), &[]);
        match *self {
            Reply::Error(errno) => Encoded::new(unique, errno, &[], &[]),
            Reply::Empty => Encoded::new(unique, 0, &[], &[]),
            Reply::Entry(entry) => with(&entry.wire()),
            Reply::NoEntry(timeout) => with(&no_entry(timeout)),
            Reply::Attributes(attributes, timeout) => with(&attributes.wire_reply(timeout)),
            Reply::Opened(opened) => with(&opened.wire()),
            Reply::Created(entry, opened) => with(&CreateOut { entry: entry.wire(), open: opened.wire() }),
            Reply::Data(data) => Encoded::new(unique, 0, &[], data),
            Reply::Written(size) => with(&WriteOut { size, padding: 0 }),
            Reply::Copied(bytes_copied) => with(&CopyFileRangeOut { bytes_copied }),
            Reply::StatFs(stat) => with(&stat.wire()),
            Reply::XattrSize(size) => with(&GetxattrOut { size, padding: 0 }),
            Reply::Offset(offset) => with(&LseekOut { offset }),
            Reply::Lock(lk) => with(&LkOut { lk }),
            Reply::Block(block) => with(&BmapOut { block }),
            Reply::Ioctl(result, data) => {
                let head = IoctlOut { result, ..IoctlOut::default() };
                Encoded::new(unique, 0, head.as_bytes(), data)
            }
            Reply::Poll(revents) => with(&PollOut { revents, padding: 0 }),
            Reply::Init(agreed) => with(&agreed),
            Reply::Statx(stat) => with(&stat),
        }
    }
}

impl StatFs {
    fn wire(self) -> StatfsOut {
        StatfsOut {
            blocks: self.blocks,
            bfree: self.blocks_free,
            bavail: self.blocks_available,
            files: self.files,
            ffree: self.files_free,
            bsize: self.block_bytes,
            namelen: self.name_bytes_max,
            frsize: self.block_bytes,
            padding: 0,
            spare: [0; 6],
        }
    }
}

/// A body of fixed size.
trait Fixed {
    fn bytes(&self) -> &[u8];
}

impl<T: IntoBytes + Immutable> Fixed for T {
    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }
}

/// The header in front of `body_bytes` that the transport sends by itself (splice, several pieces).
pub fn header(unique: u64, body_bytes: usize) -> [u8; HEADER_BYTES] {
    head(unique, 0, body_bytes)
}

fn head(unique: u64, errno: i32, body_bytes: usize) -> [u8; HEADER_BYTES] {
    assert!((0..ERRNO_END).contains(&errno), "{errno} is no errno");
    let len = u32::try_from(HEADER_BYTES + body_bytes).expect("a reply is within max_write and its header");
    zerocopy::transmute!(OutHeader { len, error: -errno, unique })
}

/// The bytes of a reply.
#[derive(Clone, Copy, Debug)]
pub struct Encoded<'a> {
    head: [u8; HEAD_BYTES_MAX],
    head_bytes: usize,
    body: &'a [u8],
}

impl<'a> Encoded<'a> {
    fn new(unique: u64, errno: i32, fixed: &[u8], body: &'a [u8]) -> Encoded<'a> {
        let head_bytes = HEADER_BYTES + fixed.len();
        let mut bytes = [0; HEAD_BYTES_MAX];
        bytes[..HEADER_BYTES].copy_from_slice(&head(unique, errno, fixed.len() + body.len()));
        bytes[HEADER_BYTES..head_bytes].copy_from_slice(fixed);
        Encoded { head: bytes, head_bytes, body }
    }

    /// Header and fixed part: what goes before `body`.
    pub fn head(&self) -> &[u8] {
        &self.head[..self.head_bytes]
    }

    /// The header alone.
    pub fn header(&self) -> &[u8] {
        &self.head[..HEADER_BYTES]
    }

    /// The fixed part alone.
    pub fn fixed(&self) -> &[u8] {
        &self.head[HEADER_BYTES..self.head_bytes]
    }

    /// The borrowed part, often empty.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// Of all of it.
    pub fn total_bytes(&self) -> usize {
        self.head_bytes + self.body.len()
    }
}
