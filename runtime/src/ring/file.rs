//! Files on the ring: whole transfers, synced writes, blocking calls moved off the column. Every transfer,
//! sync and allocation has passed its device's queue by class.

use super::blocking::blocking;
use super::core::Ring;
use super::fixed::FileNumber;
use super::queue::{DiskQueue, Permit};
use crate::buffer::Buffer;
use crate::classes::{READS_WAITING_MAX, WAITING_MAX};
use crate::io::{Class, File, Open};
use io_uring::types::{Fd, FsyncFlags};
use io_uring::{opcode, squeue};
use rustix::fs::OFlags;
use std::cell::OnceCell;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

/// O_DIRECT wants lengths and offsets in blocks.
const BLOCK_BYTES: usize = 4096;
const OPERATION_BYTES_MAX: usize = crate::classes::OPERATION_BYTES_MAX as usize;

/// An open file of this column.
#[derive(Clone)]
pub struct RingFile {
    inner: Rc<Inner>,
    class: Class,
}

struct Inner {
    fd: Option<OwnedFd>,
    number: OnceCell<FileNumber>,
    ring: Rc<Ring>,
    disk: Rc<DiskQueue>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(number) = self.number.take() {
            self.ring.close_file(number);
        }
        if let Some(fd) = self.fd.take() {
            // The last close of an unlinked file frees its blocks: not on the column, which would do it when it submits.
            let close = opcode::Close::new(Fd(fd.into_raw_fd())).build();
            self.ring.detached(close.flags(squeue::Flags::ASYNC));
        }
    }
}

pub(super) fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Opens `path` through the ring.
pub(super) async fn open_flags(ring: &Rc<Ring>, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let entry = opcode::OpenAt::new(Fd(libc::AT_FDCWD), path.as_ptr())
        .flags((flags | OFlags::CLOEXEC).bits() as i32)
        .mode(0o640)
        .build();
    let (cqe, _path) = ring.op(entry, path).await;
    let fd = cqe.result()?;
    // SAFETY: a fresh descriptor from a successful openat, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

impl AsFd for RingFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.fd.as_ref().expect("open until dropped").as_fd()
    }
}

impl RingFile {
    pub(super) async fn open(ring: &Rc<Ring>, path: &Path, how: Open) -> io::Result<RingFile> {
        let flags = match how {
            Open::ReadDirect => OFlags::RDONLY | OFlags::DIRECT,
            Open::CreateDirect => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::DIRECT,
            Open::WriteDirect => OFlags::RDWR | OFlags::DIRECT,
        };
        let fd = open_flags(ring, path, flags).await?;
        let disk = ring.disks().of(path);
        let inner = Inner { fd: Some(fd), number: OnceCell::new(), ring: ring.clone(), disk };
        Ok(RingFile { inner: Rc::new(inner), class: Class::default() })
    }

    fn fd(&self) -> Fd {
        Fd(self.inner.fd.as_ref().expect("open until dropped").as_raw_fd())
    }

    /// Waits for this operation's turn.
    #[inline]
    async fn start(&self, bytes: usize, waiting_max: usize) -> io::Result<Permit> {
        // At most OPERATION_BYTES_MAX, so it fits.
        self.inner.disk.start(self.class, bytes as u32, waiting_max).await
    }

    pub(super) fn register_once(&self) -> io::Result<()> {
        if self.inner.number.get().is_none() {
            let number = self.inner.ring.register_file(self.fd().0)?;
            // Just seen empty, and nobody ran in between.
            let _ = self.inner.number.set(number);
        }
        Ok(())
    }

    /// The file as an operation names it: by its number in the ring's table when it has one.
    fn target(&self) -> (Fd, squeue::Flags) {
        match self.inner.number.get() {
            Some(number) => (Fd(number.get() as i32), squeue::Flags::FIXED_FILE),
            None => (self.fd(), squeue::Flags::empty()),
        }
    }

    fn read_entry(&self, buf: &mut Buffer, from: usize, to: usize, offset: u64) -> squeue::Entry {
        let (fd, flags) = self.target();
        let (at, len) = (buf[from..to].as_mut_ptr(), to - from);
        let offset = offset + from as u64;
        let entry = match self.inner.ring.registered().buffer_of(at, len) {
            Some(number) => opcode::ReadFixed::new(fd, at, len as u32, number).offset(offset).build(),
            None => opcode::Read::new(fd, at, len as u32).offset(offset).build(),
        };
        entry.flags(flags)
    }

    /// Writes `from..to` of `buf`; `how` is of RWF_*.
    fn write_entry(
        &self,
        (buf, from, to): (&Buffer, usize, usize),
        offset: u64,
        how: libc::c_int,
    ) -> squeue::Entry {
        assert!(to <= buf.capacity() && from < to, "write of {from}..{to} in a buffer of {}", buf.capacity());
        let (fd, flags) = self.target();
        let (at, len) = (buf[from..to].as_ptr(), to - from);
        let offset = offset + from as u64;
        let entry = match self.inner.ring.registered().buffer_of(at, len) {
            Some(number) => {
                opcode::WriteFixed::new(fd, at, len as u32, number).offset(offset).rw_flags(how).build()
            }
            None => opcode::Write::new(fd, at, len as u32).offset(offset).rw_flags(how).build(),
        };
        entry.flags(flags)
    }

    fn sync_entry(&self) -> squeue::Entry {
        let (fd, flags) = self.target();
        opcode::Fsync::new(fd).flags(FsyncFlags::DATASYNC).build().flags(flags)
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
            let permit = match self.start(to - done, WAITING_MAX).await {
                Ok(permit) => permit,
                Err(e) => return (Err(e), buf),
            };
            let entry = self.write_entry((&buf, done, to), offset, 0);
            let (cqe, (back, _permit)) = self.inner.ring.op(entry, (buf, permit)).await;
            buf = back;
            match cqe.result() {
                Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), buf),
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return (Err(e), buf),
            }
        }
        (Ok(()), buf)
    }
}

fn assert_blocks(len: usize, offset: u64) {
    assert!(
        len.is_multiple_of(BLOCK_BYTES) && offset.is_multiple_of(BLOCK_BYTES as u64),
        "direct I/O of {len} bytes at {offset} is not in whole blocks"
    );
}

impl File for RingFile {
    fn classed(&self, class: Class) -> RingFile {
        RingFile { inner: self.inner.clone(), class }
    }

    async fn read_at(&self, mut buf: Buffer, len: usize, offset: u64) -> (io::Result<()>, Buffer) {
        let blocks = len.next_multiple_of(BLOCK_BYTES);
        assert_blocks(blocks, offset);
        assert!(blocks <= buf.capacity(), "read of {blocks} bytes into a buffer of {}", buf.capacity());
        let mut done = 0;
        while done < len {
            let want = (blocks - done).min(OPERATION_BYTES_MAX);
            let permit = match self.start(want, READS_WAITING_MAX).await {
                Ok(permit) => permit,
                Err(e) => return (Err(e), buf),
            };
            let entry = self.read_entry(&mut buf, done, done + want, offset);
            let (cqe, (back, _permit)) = self.inner.ring.op(entry, (buf, permit)).await;
            buf = back;
            match cqe.result() {
                Ok(n) if done + n >= len => return (Ok(()), buf),
                // A direct read that stops inside a block has met the end of the file.
                Ok(n) if n == 0 || !n.is_multiple_of(BLOCK_BYTES) => {
                    return (Err(io::ErrorKind::UnexpectedEof.into()), buf);
                }
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
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
                Ok(()) => (self.sync_data().await, buf),
                Err(e) => (Err(e), buf),
            };
        }
        let permit = match self.start(len, WAITING_MAX).await {
            Ok(permit) => permit,
            Err(e) => return (Err(e), buf),
        };
        // One operation does both: linked with an fsync it takes a worker thread twice, one after the other.
        let entry = self.write_entry((&buf, 0, len), offset, libc::RWF_DSYNC);
        let (written, (buf, permit)) = self.inner.ring.op(entry, (buf, permit)).await;
        drop(permit);
        match written.result() {
            Ok(n) if n == len => (Ok(()), buf),
            // A short write: the rest is written and all of it synced.
            Ok(n) => {
                let (rest, buf) = self.write_rest(buf, n, len, offset).await;
                match rest {
                    Ok(()) => (self.sync_data().await, buf),
                    Err(e) => (Err(e), buf),
                }
            }
            Err(e) => (Err(e), buf),
        }
    }

    async fn sync_data(&self) -> io::Result<()> {
        let permit = self.start(0, WAITING_MAX).await?;
        let (cqe, _permit) = self.inner.ring.op(self.sync_entry(), permit).await;
        cqe.result().map(drop)
    }

    async fn allocate(&self, len: u64) -> io::Result<()> {
        let permit = self.start(0, WAITING_MAX).await?;
        let (cqe, _permit) = self.inner.ring.op(opcode::Fallocate::new(self.fd(), len).build(), permit).await;
        cqe.result().map(drop)
    }

    async fn truncate(&self, len: u64) -> io::Result<()> {
        // ftruncate is in io_uring only since 6.9; it is rare here, so the blocking pool does it.
        let fd = self.inner.fd.as_ref().expect("open until dropped").try_clone()?;
        blocking(&self.inner.ring, move || rustix::fs::ftruncate(&fd, len)).await.map_err(Into::into)
    }

    async fn size(&self) -> io::Result<u64> {
        // fstat of an open file reads the inode in memory: no disk.
        let stat = rustix::fs::fstat(self.inner.fd.as_ref().expect("open until dropped"))?;
        Ok(stat.st_size as u64)
    }
}
