//! Registered files and registered memory of a column's ring: the kernel looks both up and pins the pages once, not per
//! operation. Worth 5-10 % of the CPU of a 4 KiB read; the addresses and results of operations are the same.
//!
//! Callers: [`super::file`], which asks for every transfer whether its memory is registered; whoever holds a file for long
//! ([`RingFile::register`]); the node and `bench disk` at start ([`RingIo::register_memory`]).
//!
//! Invariants
//! 1. Memory is registered in whole 16 MiB chunks of the column's arena, which lives as long as the process and never gives
//!    the pages of such a chunk back: what is registered is what is mapped. Buffer number k of the ring is chunk k.
//! 2. A file's number goes back to the free ones only when the kernel has completed its Close: a number never names two
//!    files for operations queued under the first.
//! 3. Both are an optimisation: refused (memlock, table full), everything works as before.

use super::core::Ring;
use super::file::RingFile;
use super::handle::RingIo;
use crate::buffer::{Buffer, CHUNK_BYTES};
use io_uring::opcode;
use io_uring::types::Fixed;
use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;

/// Files that can be registered at a time.
const FILES_MAX: u32 = 1024;
/// The kernel's limit of buffers a ring: 256 GiB of arena.
const CHUNKS_MAX: usize = 1 << 14;

/// What this ring has registered.
#[derive(Default)]
pub(super) struct Registered {
    /// Start of the arena, 0 before the first registration.
    base: Cell<usize>,
    chunks: RefCell<Box<[bool]>>,
    /// `None` until the kernel has made the table.
    free_files: RefCell<Option<Vec<u32>>>,
}

impl Registered {
    /// The number of the registered buffer that holds all of `[at, at + len)`.
    #[inline]
    pub(super) fn buffer_of(&self, at: *const u8, len: usize) -> Option<u16> {
        let from = (at as usize).wrapping_sub(self.base.get());
        let chunk = from / CHUNK_BYTES;
        let chunks = self.chunks.borrow();
        let inside = chunk < chunks.len() && from % CHUNK_BYTES + len <= CHUNK_BYTES;
        // At most CHUNKS_MAX, so it fits.
        (inside && chunks[chunk]).then_some(chunk as u16)
    }
}

/// A file's place in the table: free again when dropped.
pub(super) struct FileNumber {
    number: u32,
    registered: Rc<Registered>,
}

impl FileNumber {
    pub(super) fn get(&self) -> u32 {
        self.number
    }
}

impl Drop for FileNumber {
    fn drop(&mut self) {
        if let Some(free) = self.registered.free_files.borrow_mut().as_mut() {
            free.push(self.number);
        }
    }
}

impl Ring {
    /// Gives an open descriptor a number in the ring's table.
    pub(super) fn register_file(&self, fd: RawFd) -> io::Result<FileNumber> {
        let registered = self.registered().clone();
        let number = {
            let mut free = registered.free_files.borrow_mut();
            if free.is_none() {
                self.submitter().register_files_sparse(FILES_MAX)?;
                *free = Some((0..FILES_MAX).rev().collect());
            }
            free.as_mut().and_then(Vec::pop)
        };
        let number = number.ok_or(io::ErrorKind::QuotaExceeded)?;
        let number = FileNumber { number, registered };
        self.submitter().register_files_update(number.get(), &[fd]).map(|_| number)
    }

    /// Takes a number out of the table, after all that is queued under it.
    pub(super) fn close_file(&self, number: FileNumber) {
        let entry = opcode::Close::new(Fixed(number.get())).build();
        self.detached_owning(entry, Box::new(number));
    }
}

impl RingFile {
    /// Registers this file with the column's ring, for as long as it is open. For files that stay open.
    ///
    /// # Errors
    /// The table is full, or the kernel refuses; the file works all the same.
    pub fn register(&self) -> io::Result<()> {
        self.register_once()
    }
}

impl RingIo {
    /// Registers the 16 MiB of arena around `buffer`: they are touched and pinned now, which takes some milliseconds, and
    /// file transfers from and to them cost less from now on.
    ///
    /// # Errors
    /// The buffer is of another column, the arena is beyond 256 GiB, or the memlock limit forbids it.
    pub fn register_memory(&self, buffer: &Buffer) -> io::Result<()> {
        let ring = self.ring();
        let registered = ring.registered();
        let chunks = self.arena().chunks().min(CHUNKS_MAX);
        let chunk = self.arena().keep_chunk_of(buffer);
        let (chunk, start) = chunk.filter(|&(chunk, _)| chunk < chunks).ok_or(io::ErrorKind::InvalidInput)?;
        if registered.base.get() == 0 {
            ring.submitter().register_buffers_sparse(chunks as u32)?;
            *registered.chunks.borrow_mut() = vec![false; chunks].into();
            registered.base.set(start as usize - chunk * CHUNK_BYTES);
        }
        if registered.chunks.borrow()[chunk] {
            return Ok(());
        }
        let part = libc::iovec { iov_base: start.cast(), iov_len: CHUNK_BYTES };
        // SAFETY: the chunk lies inside the arena's mapping, which is never unmapped, and its pages stay (`keep_chunk_of`).
        // The kernel writes to it only for operations, and those own a buffer of it.
        unsafe { ring.submitter().register_buffers_update(chunk as u32, &[part], None)? };
        registered.chunks.borrow_mut()[chunk] = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::column::{Body, Column, Plan, start};
    use crate::io::{File, Io, Open};
    use crate::mesh::Doorbell;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    /// Runs `body` on one column and fails with its error.
    fn on_a_column<F>(body: impl Fn(Column, PathBuf) -> F + Clone + Send + 'static)
    where
        F: Future<Output = io::Result<()>> + 'static,
    {
        // Not /tmp: that may be a tmpfs, which refuses O_DIRECT before Linux 6.6.
        let dir = tempfile::tempdir_in(".").expect("a directory");
        let path = dir.path().join("file");
        let plan = Plan { cpus: vec![0], arena_bytes: 64 << 20, spin_ns: 0 };
        let bells = vec![Arc::new(Doorbell::new().expect("an eventfd"))];
        let (send, outcome) = std::sync::mpsc::channel();
        let columns = start(&plan, bells, move |column| {
            let work = body(column, path.clone());
            let send = send.clone();
            async move {
                let body: Body = Box::pin(async move {
                    let _ = send.send(work.await);
                });
                Ok(body)
            }
        })
        .expect("starts");
        outcome.recv().expect("an outcome").expect("no error");
        columns.stop();
        columns.join();
    }

    async fn write_and_read(io: RingIo, path: &Path, with_memory: bool) -> io::Result<()> {
        let file = io.open(path, Open::CreateDirect).await?;
        file.register()?;
        let mut buf = io.buffer(1 << 20).expect("room");
        if with_memory {
            io.register_memory(&buf)?;
            assert!(io.ring().registered().buffer_of(buf.as_ptr(), 1 << 20).is_some());
        }
        buf[..8192].fill(7);
        let (synced, mut buf) = file.write_sync(buf, 8192, 4096).await;
        synced?;
        let (written, mut buf2) = {
            buf[..4096].fill(9);
            file.write_at(buf, 4096, 0).await
        };
        written?;
        buf2.fill(0);
        let (read, buf) = file.read_at(buf2, 12288, 0).await;
        read?;
        assert!(buf[..4096].iter().all(|&b| b == 9) && buf[4096..12288].iter().all(|&b| b == 7));
        assert_eq!(file.size().await?, 12288);
        drop(file);
        io.unlink(path).await
    }

    #[test]
    fn registered_files_and_memory_move_the_same_bytes() {
        on_a_column(|column, path| async move {
            write_and_read(column.io.clone(), &path, false).await?;
            write_and_read(column.io.clone(), &path, true).await
        });
    }

    #[test]
    fn numbers_are_used_again_and_run_out_with_an_error() {
        on_a_column(|column, path| async move {
            let io = column.io.clone();
            for _ in 0..2 {
                let file = io.open(&path, Open::CreateDirect).await?;
                let held: Vec<FileNumber> =
                    (0..FILES_MAX).map(|_| io.ring().register_file(1)).collect::<io::Result<_>>()?;
                assert!(file.register().is_err(), "the table is full");
                held.into_iter().for_each(|n| io.ring().close_file(n));
                while file.register().is_err() {
                    io.yield_now().await;
                }
                drop(file);
                io.unlink(&path).await?;
            }
            Ok(())
        });
    }
}
