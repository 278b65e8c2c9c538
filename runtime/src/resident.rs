//! File pages pinned in the page cache: read, verified and locked once, then sent any number of times without a copy in
//! our memory and without ever waiting on a disk.
//!
//! Called by the tier for objects held in RAM as files; the connection sends from them.
//!
//! Invariants
//! 1. The pages are locked (mlock) before they are verified, and stay locked while this lives: what was verified is
//!    what is sent, and `sendfile` cannot meet a page-cache miss.
//! 2. The bytes are held once: the pages the disk cache has are the ones the socket sends.
//! 3. The file is immutable while pinned (the tier never writes into a complete object).

use crate::buffer::Loan;
use rustix::fs::{Advice, Mode, OFlags, fadvise};
use rustix::mm::{Advice as MemoryAdvice, MapFlags, ProtFlags, madvise, mlock, mmap, munlock, munmap};
use std::io;
use std::num::NonZeroU64;
use std::ops::Deref;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock, Weak};
use std::thread;

/// Stretches from this length on are read into huge folios of the page cache: read ahead by advice come single pages, and each of
/// them is looked up, counted and sent by itself. Shorter ones would have their neighbourhood read too.
pub(crate) const HUGE_BYTES_MIN: usize = 128 << 10;

/// What mincore(2) tells of with one byte each.
const PAGE_BYTES: usize = 4096;

/// Of the thread that unmaps.
const STACK_BYTES: usize = 64 << 10;

/// Pinned pages of one stretch of a file. Clones share them; the last one unpins.
#[derive(Clone)]
pub struct Resident {
    pinned: Arc<Pinned>,
}

/// Pinned pages that somebody else keeps: to be had for as long as that lasts.
#[derive(Clone, Debug)]
pub struct Observed {
    pinned: Weak<Pinned>,
}

impl Observed {
    /// The pages, if anybody still has them pinned.
    pub fn resident(&self) -> Option<Resident> {
        self.pinned.upgrade().map(|pinned| Resident { pinned })
    }
}

/// A stretch of a file in the address space, neither read nor verified.
pub(crate) struct Unread {
    pinned: Pinned,
}

enum Pinned {
    /// There until this is dropped.
    Mapped(Option<Mapped>),
    /// A copy on the heap: what the twin pins.
    Copied(Box<[u8]>, #[allow(dead_code, reason = "held for its Drop")] Loan),
}

struct Mapped {
    start: NonNull<u8>,
    len: usize,
    offset: u64,
    file: OwnedFd,
    _loan: Loan,
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Pinned::Mapped(mapped) = self {
            // Nobody takes it when the process ends: then it is unmapped here.
            let _ = mapped.take().map(|mapped| unmapper().send(mapped));
        }
    }
}

/// Unmapping waits for whoever changes or reads the address space, and the last close of an unlinked file frees its blocks: nothing
/// for a column. What waits here is bounded by its loans.
fn unmapper() -> &'static Sender<Mapped> {
    static UNMAPPER: OnceLock<Sender<Mapped>> = OnceLock::new();
    UNMAPPER.get_or_init(|| {
        let (give, take) = channel();
        let unmap = move || take.into_iter().for_each(drop);
        let started = thread::Builder::new().name("unmapper".to_owned()).stack_size(STACK_BYTES).spawn(unmap);
        // Without a thread whoever drops pages unmaps them.
        let _ = started.inspect_err(|error| tracing::warn!(%error, "pages are unmapped by columns"));
        give
    })
}

// SAFETY: the mapping is read-only and lives until the last owner drops it; the descriptor is used with offsets only.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Resident {
    /// Reads, pins and verifies `[offset, offset + len)` of `path`. Blocks on the disk: for the blocking pool only.
    /// `Ok(None)` when the limit on locked memory forbids it. `loan`: its share of the column's memory.
    pub fn pin(
        path: &Path,
        offset: u64,
        len: usize,
        loan: Loan,
        verify: impl FnOnce(&[u8]) -> bool,
    ) -> io::Result<Option<Resident>> {
        let pinned = Unread::map(path, offset, len, loan)?.pin()?;
        pinned.map(|pinned| pinned.verified(verify)).transpose()
    }

    /// Itself, if its bytes are right.
    pub(crate) fn verified(self, verify: impl FnOnce(&[u8]) -> bool) -> io::Result<Resident> {
        if verify(&self) {
            return Ok(self);
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "checksum mismatch"))
    }

    /// Verified bytes that are no file's pages.
    pub(crate) fn copied(bytes: Box<[u8]>, loan: Loan) -> Resident {
        Resident { pinned: Arc::new(Pinned::Copied(bytes, loan)) }
    }

    /// The same pages, without keeping them pinned.
    pub fn observe(&self) -> Observed {
        Observed { pinned: Arc::downgrade(&self.pinned) }
    }

    /// Sends up to `count` bytes at `from` of this stretch without copying them; the socket must not block.
    pub(crate) fn sendfile(&self, socket: impl AsFd, from: usize, count: usize) -> io::Result<usize> {
        let Pinned::Mapped(Some(mapped)) = &*self.pinned else {
            unreachable!("the ring pins mapped pages only")
        };
        assert!(from + count <= mapped.len, "sendfile {from}+{count} of {}", mapped.len);
        let mut offset = mapped.offset + from as u64;
        Ok(rustix::fs::sendfile(socket, &mapped.file, Some(&mut offset), count)?)
    }
}

impl Unread {
    /// Maps `[offset, offset + len)` of `path`.
    pub(crate) fn map(path: &Path, offset: u64, len: usize, loan: Loan) -> io::Result<Unread> {
        assert!(len > 0 && offset.is_multiple_of(4096), "pin of {len} bytes at {offset}");
        // Started here, not by the column that is the first to drop something.
        unmapper();
        let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let size = rustix::fs::fstat(&file)?.st_size as u64;
        if offset + len as u64 > size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // SAFETY: a fresh shared read-only mapping at an address of the kernel's choice aliases nothing of ours.
        let start =
            unsafe { mmap(std::ptr::null_mut(), len, ProtFlags::READ, MapFlags::SHARED, &file, offset)? };
        let start = NonNull::new(start.cast::<u8>()).expect("mmap never returns null");
        let mapped = Mapped { start, len, offset, file, _loan: loan };
        if len >= HUGE_BYTES_MIN {
            // SAFETY: the range is the mapping just made; the advice changes how it is filled, not what is in it. Best effort.
            let _ = unsafe { madvise(start.as_ptr().cast(), len, MemoryAdvice::LinuxHugepage) };
        }
        Ok(Unread { pinned: Pinned::Mapped(Some(mapped)) })
    }

    fn mapped(&self) -> &Mapped {
        let Pinned::Mapped(Some(mapped)) = &self.pinned else { unreachable!("made so") };
        mapped
    }

    /// Whether all of it is in the page cache now, so that pinning reads nothing.
    pub(crate) fn is_cached(&self) -> bool {
        let &Mapped { start, len, .. } = self.mapped();
        let mut pages = vec![0_u8; len.div_ceil(PAGE_BYTES)];
        // SAFETY: the range is the mapping, and `pages` has a byte for each of its pages.
        let told = unsafe { libc::mincore(start.as_ptr().cast(), len, pages.as_mut_ptr()) };
        told == 0 && pages.iter().all(|page| page & 1 == 1)
    }

    /// Reads and pins it; not verified yet. Blocks on the disk: for the blocking pool only. `Ok(None)` when the limit on locked
    /// memory forbids it.
    pub(crate) fn pin(self) -> io::Result<Option<Resident>> {
        let &Mapped { start, len, offset, ref file, .. } = self.mapped();
        if len < HUGE_BYTES_MIN {
            // Starts reading in large pieces; the lock below then mostly finds the pages there.
            fadvise(file, offset, NonZeroU64::new(len as u64), Advice::WillNeed)?;
        }
        // SAFETY: the range is the mapping. Locking reads every page in; a page that cannot be read fails here and not as a
        // signal on access.
        match unsafe { mlock(start.as_ptr().cast(), len) } {
            Ok(()) => Ok(Some(Resident { pinned: Arc::new(self.pinned) })),
            Err(rustix::io::Errno::PERM | rustix::io::Errno::NOMEM | rustix::io::Errno::AGAIN) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}

impl std::fmt::Debug for Resident {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &*self.pinned {
            Pinned::Mapped(None) => unreachable!("not before it is dropped"),
            Pinned::Mapped(Some(mapped)) => write!(f, "Resident({} bytes at {})", mapped.len, mapped.offset),
            Pinned::Copied(bytes, _) => write!(f, "Resident({} bytes copied)", bytes.len()),
        }
    }
}

impl Deref for Resident {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match &*self.pinned {
            // SAFETY: the mapping has `len` readable, locked bytes while `pinned` lives, and the file is immutable (3).
            Pinned::Mapped(Some(mapped)) => unsafe {
                std::slice::from_raw_parts(mapped.start.as_ptr(), mapped.len)
            },
            Pinned::Mapped(None) => unreachable!("not before it is dropped"),
            Pinned::Copied(bytes, _) => bytes,
        }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the range is our mapping; nobody can reach it any more.
        unsafe {
            let _ = munlock(self.start.as_ptr().cast(), self.len);
            let _ = munmap(self.start.as_ptr().cast(), self.len);
        }
        // What left the budget should leave the page cache too. Does not wait: only clean pages are dropped.
        let _ = fadvise(&self.file, self.offset, NonZeroU64::new(self.len as u64), Advice::DontNeed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_verifies_and_refuses() {
        let dir = tempfile::tempdir().expect("temp dir");
        let arena = crate::buffer::Arena::new(1).expect("maps");
        let loan = || arena.lend(1 << 17).expect("room");
        let path = dir.path().join("f");
        std::fs::write(&path, vec![9u8; 70_000]).expect("write");
        let r = Resident::pin(&path, 4096, 65_904, loan(), |b| b.iter().all(|&x| x == 9)).expect("pins");
        if let Some(r) = r {
            assert_eq!(r.len(), 65_904);
        }
        let copied = Resident::copied(Box::new([7; 9]), loan());
        let observed = copied.observe();
        assert_eq!(observed.resident().as_deref(), Some(&[7; 9][..]));
        drop(copied);
        assert!(observed.resident().is_none(), "looking on keeps nothing pinned");
        let wrong = Resident::pin(&path, 0, 4096, loan(), |_| false).map(|r| r.is_some());
        assert!(!matches!(wrong, Ok(true)), "unverified pages were handed out");
        let beyond =
            Resident::pin(&path, 65536, 8192, loan(), |_| true).map(|_| ()).expect_err("beyond the end");
        assert_eq!(beyond.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn somebody_else_unmaps() {
        const LEN: usize = 32 << 10;
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("f");
        std::fs::write(&path, vec![9u8; LEN]).expect("write");
        let loan = crate::buffer::Arena::new(1).expect("maps").lend(LEN).expect("room");
        let pinned = Resident::pin(&path, 0, LEN, loan, |_| true)
            .expect("pins")
            .expect("so much may be locked anywhere");
        let is_mapped = || {
            let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
            maps.contains(path.to_str().expect("UTF-8"))
        };
        let other = pinned.clone();
        drop(pinned);
        thread::sleep(std::time::Duration::from_millis(50));
        assert!(is_mapped(), "one is left");
        drop(other);
        let begin = std::time::Instant::now();
        while is_mapped() {
            assert!(begin.elapsed().as_secs() < 10, "still mapped");
            thread::yield_now();
        }
    }
}
