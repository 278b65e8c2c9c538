//! The seam: everything that engines may ask of the machine, as one trait bundle.
//!
//! Called by: `shard.rs`, `recover.rs` and `log.rs` of the engines, the tier and `net`. Implemented by
//! [`crate::ring::RingIo`]; the deterministic twin is the second implementor.
//!
//! Invariants
//! 1. Buffers are owned by the operation while it is under way and come back with its result; a dropped
//!    future never frees memory that the kernel may still write.
//! 2. `File::write_at` and `File::read_at` move all the bytes asked for or fail; short transfers are resumed here.
//! 3. *Written* and *synced* are different: only what a completed `sync_data` covers survives a power cut.
//! 4. Nothing here waits on a disk inside the calling column.
//!
//! Units: offsets and lengths in bytes, times in nanoseconds of a monotonic clock unless the name says otherwise.

use crate::buffer::Buffer;
use crate::metrics::Sample;
use crate::resident::Resident;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

/// What a caller wants of a file it opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// Read only, past the page cache.
    ReadDirect,
    /// Create (must not exist), read and write, past the page cache.
    CreateDirect,
    /// Open an existing file to read and write, past the page cache.
    WriteDirect,
}

/// Whose disk I/O goes first when the device is busy, the most urgent first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A Raft log's sync: an election hangs on it.
    RaftSync,
    /// A client waits for it: reads, and the group commit of a put.
    #[default]
    Foreground,
    /// The sync of a batch of samples.
    TsdbSync,
    /// Filling a cache and reading ahead.
    Fill,
    /// Compaction, reclaim, checkpoints.
    Compaction,
    /// Looking for damage.
    Scrub,
}

/// The bundle: files, connections, clock and tasks of one column.
pub trait Io: Clone + 'static {
    /// An open file.
    type File: File;
    /// An accepted or connected byte stream.
    type Conn: Conn;
    /// A listening socket.
    type Listener: Listener<Conn = Self::Conn>;

    /// What the machine counts of itself, for the metrics page: on the ring, its disk queues.
    fn samples(&self) -> Vec<Sample> {
        Vec::new()
    }
    /// Monotonic nanoseconds.
    fn now_ns(&self) -> u64;
    /// Milliseconds since the Unix epoch, for dates and expiry only.
    fn unix_ms(&self) -> u64;
    /// Waits at least `ns` nanoseconds.
    fn sleep(&self, ns: u64) -> impl Future<Output = ()>;
    /// Lets every other task that is ready run first.
    fn yield_now(&self) -> impl Future<Output = ()>;
    /// Starts a task on this column; `name` is what the stall detector reports.
    fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + 'static);
    /// A block-aligned buffer of at least `len` bytes, or `None` when the column's memory budget is spent.
    fn buffer(&self, len: usize) -> Option<Buffer>;
    /// As [`Io::buffer`], of any alignment and closely fitting: for bytes that stay.
    fn buffer_fitting(&self, len: usize) -> Option<Buffer>;

    /// A random number: of the kernel, or of the seed.
    fn random(&self) -> u64;

    /// Listens on `addr` beside the other columns.
    fn listen(&self, addr: SocketAddr) -> io::Result<Self::Listener>;
    /// Connects to `addr`.
    fn connect(&self, addr: SocketAddr) -> impl Future<Output = io::Result<Self::Conn>>;
    /// The addresses of a host, in the order to try them.
    fn resolve(&self, host: &str, port: u16) -> impl Future<Output = io::Result<Vec<SocketAddr>>>;

    /// Opens a file.
    fn open(&self, path: &Path, how: Open) -> impl Future<Output = io::Result<Self::File>>;
    /// Renames atomically; durable after [`Io::sync_dir`] of the directory.
    fn rename(&self, from: &Path, to: &Path) -> impl Future<Output = io::Result<()>>;
    /// Removes a file.
    fn unlink(&self, path: &Path) -> impl Future<Output = io::Result<()>>;
    /// Makes a directory; one that is there already is no error. Durable after [`Io::sync_dir`] of its parent.
    fn make_dir(&self, dir: &Path) -> impl Future<Output = io::Result<()>>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> impl Future<Output = io::Result<()>>;
    /// Names and sizes of the regular files in a directory, in no order.
    fn list_dir(&self, dir: &Path) -> impl Future<Output = io::Result<Vec<(String, u64)>>>;
    /// Bytes that files of the file system under `dir` may yet take.
    fn free_bytes(&self, dir: &Path) -> impl Future<Output = io::Result<u64>>;
    /// Maps and pins `len` bytes of a file at `offset` in memory, having checked them with `verify`; what it reads is
    /// queued as `class`. `Ok(None)`: this machine does not let us pin.
    fn pin_resident(
        &self,
        path: &Path,
        offset: u64,
        len: usize,
        class: Class,
        verify: impl FnOnce(&[u8]) -> bool + Send + 'static,
    ) -> impl Future<Output = io::Result<Option<Resident>>>;
}

/// An open file of one column. Clones share the descriptor.
pub trait File: Clone + 'static {
    /// The same open file, its I/O queued as `class`.
    fn classed(&self, class: Class) -> Self;
    /// Fills `buf[..len]` from `offset`. Reading past the end is `UnexpectedEof`.
    fn read_at(&self, buf: Buffer, len: usize, offset: u64)
    -> impl Future<Output = (io::Result<()>, Buffer)>;
    /// Writes `buf[..len]` at `offset`.
    fn write_at(
        &self,
        buf: Buffer,
        len: usize,
        offset: u64,
    ) -> impl Future<Output = (io::Result<()>, Buffer)>;
    /// Writes and syncs in one submission: `Ok` means on stable storage.
    fn write_sync(
        &self,
        buf: Buffer,
        len: usize,
        offset: u64,
    ) -> impl Future<Output = (io::Result<()>, Buffer)>;
    /// fdatasync(2).
    fn sync_data(&self) -> impl Future<Output = io::Result<()>>;
    /// Reserves the blocks of `[0, len)` and sets the size to at least `len`.
    fn allocate(&self, len: u64) -> impl Future<Output = io::Result<()>>;
    /// Cuts or extends the file.
    fn truncate(&self, len: u64) -> impl Future<Output = io::Result<()>>;
    /// The size now.
    fn size(&self) -> impl Future<Output = io::Result<u64>>;
}

/// How a stream is ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hangup {
    /// Receiving ends: an answer can still be sent.
    Receive,
    /// Both ways.
    Both,
}

/// A listening socket of one column.
pub trait Listener: 'static {
    /// What it accepts.
    type Conn: Conn;
    /// The address in use (of interest when the port asked for was 0).
    fn local_addr(&self) -> io::Result<SocketAddr>;
    /// The next connection. Errors are those of the process (EMFILE, ENOMEM): wait a little and try again.
    fn accept(&mut self) -> impl Future<Output = io::Result<Self::Conn>>;
}

/// A connected byte stream.
pub trait Conn: 'static {
    /// Bytes as received, in memory of the runtime until dropped.
    type Chunk: AsRef<[u8]>;
    /// The next bytes; an empty chunk is the end of the stream.
    fn recv(&mut self) -> impl Future<Output = io::Result<Self::Chunk>>;
    /// Fills `buf[from..to]`; fewer bytes mean that the stream ended.
    fn recv_into(
        &mut self,
        buf: Buffer,
        from: usize,
        to: usize,
    ) -> impl Future<Output = (io::Result<usize>, Buffer)>;
    /// Sends both slices whole, in order.
    fn send(&mut self, head: &[u8], body: &[u8]) -> impl Future<Output = io::Result<()>>;
    /// Sends `head`, then `len` bytes at `from` of pinned file pages, without copying the latter where that is cheaper.
    fn send_resident(
        &mut self,
        head: &[u8],
        pages: &Resident,
        from: usize,
        len: usize,
    ) -> impl Future<Output = io::Result<()>>;
    /// Whether nothing came that was not taken, and the peer has neither ended nor broken the stream, as far as that can be seen
    /// without waiting. Takes nothing.
    fn is_quiet(&mut self) -> bool;
    /// Says that nothing more is sent; what was sent still arrives.
    fn end_sending(&mut self);
    /// Who is at the other end, where that is known.
    fn peer(&self) -> Option<SocketAddr> {
        None
    }
    /// A handle by which the deadline sweeper ends the stream from outside.
    fn hangup(&self) -> Box<dyn Fn(Hangup)>;
}
