//! Files on the simulated disk: the same transfers, links and rests as `ring/file.rs`, over operations that take simulated
//! time and may fail. Called through the seam.

use super::disk::InodeId;
use super::faults::Fault;
use super::inode::SECTOR_BYTES;
use super::world::{Group, World};
use crate::buffer::Buffer;
use crate::io::{Class, File};
use crate::oneshot::{Oneshot, Waiting};
use crate::planted::{self, Bug};
use crc32c::crc32c;
use std::io;
use std::path::Path;
use std::rc::Rc;

const BLOCK_BYTES: usize = SECTOR_BYTES as usize;
/// As the ring's.
const OPERATION_BYTES_MAX: usize = 1 << 20;
/// What a disk takes, least and most.
const TRANSFER_NS: (u64, u64) = (10_000, 200_000);
const SYNC_NS: (u64, u64) = (50_000, 2_000_000);
const SLOW_NS: (u64, u64) = (20_000_000, 2_000_000_000);

/// How long an operation of the disk takes.
pub(super) fn disk_ns(world: &World, (least, most): (u64, u64)) -> u64 {
    let slow = world.happens(Fault::SlowDisk);
    let (least, most) = if slow { SLOW_NS } else { (least, most) };
    world.draw(|rng| rng.within(least, most))
}

/// The error that this operation of the disk ends with, if it is to.
pub(super) fn disk_error(world: &World, fault: Option<Fault>) -> Option<io::Error> {
    if let Some(nth) = world.faults(|f| f.next_disk_operation()) {
        return Some(nth);
    }
    let errno = if fault == Some(Fault::NoSpace) { libc::ENOSPC } else { libc::EIO };
    fault.filter(|&f| world.happens(f)).map(|_| io::Error::from_raw_os_error(errno))
}

/// An open file of a simulated column.
#[derive(Clone)]
pub struct TwinFile {
    handle: Rc<Handle>,
}

struct Handle {
    world: Rc<World>,
    group: Group,
    inode: InodeId,
    epoch: u32,
    kind: Kind,
    writable: bool,
}

/// What a file is to the tier, by its name when it was opened: where a planted bug leaves a call out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pack,
    Index,
    Object,
    Sums,
    Checkpoint,
    Format,
    Disks,
    Other,
}

/// Whether a sync is of its own, or makes durable what was written with it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Alone,
    WithWrite,
}

/// The bug that leaves out a sync.
fn left_out(kind: Kind, asked: Asked) -> Option<Bug> {
    match (kind, asked) {
        (Kind::Pack, Asked::WithWrite) => Some(Bug::PackUnsynced),
        (Kind::Index, Asked::WithWrite) => Some(Bug::IndexUnsynced),
        (Kind::Checkpoint, Asked::WithWrite) => Some(Bug::CheckpointUnsynced),
        (Kind::Object, Asked::Alone) => Some(Bug::ObjectUnsynced),
        (Kind::Sums, Asked::Alone) => Some(Bug::SumsUnsynced),
        (Kind::Format, Asked::Alone) => Some(Bug::FormatUnsynced),
        (Kind::Disks, Asked::Alone) => Some(Bug::DisksUnsynced),
        _ => None,
    }
}

fn kind_of(path: &Path) -> Kind {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    match name {
        _ if name.ends_with(".sums") => Kind::Sums,
        _ if name.starts_with("pack-") => Kind::Pack,
        _ if name.starts_with("index-") => Kind::Index,
        _ if name.starts_with("new-checkpoint-") => Kind::Checkpoint,
        "FORMAT.new" => Kind::Format,
        "DISKS.new" => Kind::Disks,
        _ if path.parent().is_some_and(|dir| dir.ends_with("incoming")) => Kind::Object,
        _ => Kind::Other,
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.world.disk.borrow_mut().close(self.inode, self.epoch);
    }
}

type Moved = (io::Result<usize>, Buffer);

fn assert_blocks(len: usize, offset: u64) {
    assert!(
        len.is_multiple_of(BLOCK_BYTES) && offset.is_multiple_of(SECTOR_BYTES),
        "direct I/O of {len} bytes at {offset} is not in whole blocks"
    );
}

impl TwinFile {
    pub(super) fn new(
        world: &Rc<World>,
        group: Group,
        (path, inode): (&Path, InodeId),
        writable: bool,
    ) -> TwinFile {
        let (epoch, kind) = (world.disk.borrow().epoch(), kind_of(path));
        TwinFile { handle: Rc::new(Handle { world: world.clone(), group, inode, epoch, kind, writable }) }
    }

    fn start<T: 'static>(&self, ns: (u64, u64), run: impl FnOnce(&Handle) -> T + 'static) -> Waiting<T> {
        let handle = self.handle.clone();
        let takes_ns = disk_ns(&handle.world, ns);
        self.handle.world.operation(takes_ns, self.handle.group, move |_| run(&handle))
    }

    fn read_once(&self, mut buf: Buffer, from: usize, to: usize, offset: u64) -> Waiting<Moved> {
        assert!((buf.as_ptr() as usize).is_multiple_of(BLOCK_BYTES), "a direct read wants aligned memory");
        self.start(TRANSFER_NS, move |file| {
            if let Some(e) = disk_error(&file.world, Some(Fault::ReadError)) {
                return (Err(e), buf);
            }
            let blocks = (to - from) / BLOCK_BYTES;
            let short = blocks > 1 && file.world.happens(Fault::ShortRead);
            let blocks =
                if short { file.world.draw(|r| r.within(1, blocks as u64 - 1)) as usize } else { blocks };
            let to = from + blocks * BLOCK_BYTES;
            let at = offset + from as u64;
            let n = file.world.disk.borrow().inode(file.inode).read(at, &mut buf[from..to]);
            file.note("read", at, &buf[from..from + n]);
            (Ok(n), buf)
        })
    }

    /// Then `linked` hears whether all was written.
    fn write_once(
        &self,
        buf: Buffer,
        (from, to): (usize, usize),
        offset: u64,
        linked: impl FnOnce(bool) + 'static,
    ) -> Waiting<Moved> {
        assert!(self.handle.writable, "a file opened to read is not written");
        assert!(to <= buf.capacity() && from < to, "write of {from}..{to} in a buffer of {}", buf.capacity());
        assert!((buf.as_ptr() as usize).is_multiple_of(BLOCK_BYTES), "a direct write wants aligned memory");
        self.start(TRANSFER_NS, move |file| {
            let written = file.write(&buf[from..to], offset + from as u64);
            linked(written.as_ref().is_ok_and(|&n| n == to - from));
            (written, buf)
        })
    }

    fn sync_once(&self, asked: Asked) -> Waiting<io::Result<()>> {
        self.start(SYNC_NS, move |file| file.sync(asked))
    }

    async fn write_rest(
        &self,
        mut buf: Buffer,
        mut done: usize,
        len: usize,
        offset: u64,
    ) -> (io::Result<()>, Buffer) {
        while done < len {
            let to = len.min(done + OPERATION_BYTES_MAX);
            let (written, back) = self.write_once(buf, (done, to), offset, |_| ()).await;
            buf = back;
            match written {
                Ok(n) => done += n,
                Err(e) => return (Err(e), buf),
            }
        }
        (Ok(()), buf)
    }
}

impl Handle {
    fn note(&self, kind: &str, at: u64, bytes: &[u8]) {
        self.world.note(kind, &[self.inode, at, bytes.len() as u64, u64::from(crc32c(bytes))]);
    }

    fn write(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let blocks = (bytes.len() / BLOCK_BYTES) as u64;
        if let Some(e) = disk_error(&self.world, Some(Fault::WriteError)) {
            // Nobody knows how much of it was written.
            let some = self.world.draw(|rng| rng.below(blocks + 1)) as usize * BLOCK_BYTES;
            let _ = self.world.disk.borrow_mut().write(self.inode, at, &bytes[..some]);
            return Err(e);
        }
        if self.world.happens(Fault::NoSpace) {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        let short = blocks > 1 && self.world.happens(Fault::ShortWrite);
        let blocks = if short { self.world.draw(|rng| rng.within(1, blocks - 1)) } else { blocks };
        let moved = &bytes[..blocks as usize * BLOCK_BYTES];
        self.world.disk.borrow_mut().write(self.inode, at, moved)?;
        self.note("write", at, moved);
        Ok(moved.len())
    }

    fn sync(&self, asked: Asked) -> io::Result<()> {
        if let Some(e) = disk_error(&self.world, Some(Fault::SyncError)) {
            self.world.note("failed sync", &[self.inode]);
            self.world.draw(|rng| self.world.disk.borrow_mut().fail_sync(self.inode, rng));
            // The bug: asked again, the disk says that it is done.
            return if planted::is(Bug::FailedSyncRetried) { self.sync_now() } else { Err(e) };
        }
        self.world.note("sync", &[self.inode]);
        if left_out(self.kind, asked).is_some_and(planted::is) { Ok(()) } else { self.sync_now() }
    }

    fn sync_now(&self) -> io::Result<()> {
        if !self.world.happens(Fault::LyingSync) {
            self.world.disk.borrow_mut().sync(self.inode);
        }
        Ok(())
    }
}

impl File for TwinFile {
    fn classed(&self, _class: Class) -> TwinFile {
        self.clone()
    }

    async fn read_at(&self, mut buf: Buffer, len: usize, offset: u64) -> (io::Result<()>, Buffer) {
        let blocks = len.next_multiple_of(BLOCK_BYTES);
        assert_blocks(blocks, offset);
        assert!(blocks <= buf.capacity(), "read of {blocks} bytes into a buffer of {}", buf.capacity());
        let mut done = 0;
        while done < len {
            let want = (blocks - done).min(OPERATION_BYTES_MAX);
            let (read, back) = self.read_once(buf, done, done + want, offset).await;
            buf = back;
            match read {
                Ok(n) if done + n >= len => return (Ok(()), buf),
                // A direct read that stops inside a block has met the end of the file.
                Ok(n) if n == 0 || !n.is_multiple_of(BLOCK_BYTES) => {
                    return (Err(io::ErrorKind::UnexpectedEof.into()), buf);
                }
                Ok(n) => done += n,
                Err(e) => return (Err(e), buf),
            }
        }
        (Ok(()), buf)
    }

    async fn write_at(&self, buf: Buffer, len: usize, offset: u64) -> (io::Result<()>, Buffer) {
        assert_blocks(len, offset);
        self.write_rest(buf, 0, len, offset).await
    }

    async fn write_sync(&self, buf: Buffer, len: usize, offset: u64) -> (io::Result<()>, Buffer) {
        assert_blocks(len, offset);
        if len > OPERATION_BYTES_MAX {
            let (written, buf) = self.write_rest(buf, 0, len, offset).await;
            return match written {
                Ok(()) => (self.sync_once(Asked::WithWrite).await, buf),
                Err(e) => (Err(e), buf),
            };
        }
        // The sync follows the write whether or not anybody waits for either; a short write cancels it.
        let (done, synced) = Oneshot::new();
        let me = self.clone();
        let follow = move |whole: bool| {
            if !whole {
                return done.set(Err(io::Error::from_raw_os_error(libc::ECANCELED)));
            }
            let takes_ns = disk_ns(&me.handle.world, SYNC_NS);
            let handle = me.handle.clone();
            if planted::is(Bug::AckBeforeSync) {
                done.set(Ok(()));
            }
            let due_ns = handle.world.now_ns() + takes_ns;
            me.handle.world.at(due_ns, me.handle.group, move |_| done.set(handle.sync(Asked::WithWrite)));
        };
        let (written, buf) = self.write_once(buf, (0, len), offset, follow).await;
        let synced: io::Result<()> = synced.await;
        match written {
            Ok(n) if n == len => (synced, buf),
            Ok(n) => {
                let (rest, buf) = self.write_rest(buf, n, len, offset).await;
                match rest {
                    Ok(()) => (self.sync_once(Asked::WithWrite).await, buf),
                    Err(e) => (Err(e), buf),
                }
            }
            Err(e) => (Err(e), buf),
        }
    }

    async fn sync_data(&self) -> io::Result<()> {
        self.sync_once(Asked::Alone).await
    }

    async fn allocate(&self, len: u64) -> io::Result<()> {
        let allocated = self.start(TRANSFER_NS, move |file| {
            if let Some(e) = disk_error(&file.world, Some(Fault::NoSpace)) {
                return Err(e);
            }
            if len == 0 {
                return Err(io::Error::from_raw_os_error(libc::EINVAL));
            }
            file.world.note("allocate", &[file.inode, len]);
            file.world.disk.borrow_mut().allocate(file.inode, len)
        });
        allocated.await
    }

    async fn truncate(&self, len: u64) -> io::Result<()> {
        let cut = self.start(TRANSFER_NS, move |file| {
            if let Some(e) = disk_error(&file.world, Some(Fault::WriteError)) {
                return Err(e);
            }
            file.world.note("truncate", &[file.inode, len]);
            file.world.disk.borrow_mut().truncate(file.inode, len);
            Ok(())
        });
        cut.await
    }

    async fn size(&self) -> io::Result<u64> {
        Ok(self.handle.world.disk.borrow().inode(self.handle.inode).size())
    }
}
