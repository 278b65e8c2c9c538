//! The mapping under the slabs, the owned buffers cut from it, and the way home of those dropped on another column.

use super::cold::HUGE_PAGE_BYTES;
use super::slab::{CHUNK_BYTES, CLASS_BYTES, Piece, Slabs, aligned_class_of, class_of};
use super::warmer::Warmer;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
use std::cell::UnsafeCell;
use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// One column's memory. Cheap to copy; bound to the thread that made it.
#[derive(Clone, Copy)]
pub struct Arena {
    memory: &'static Memory,
    _not_send: std::marker::PhantomData<*mut ()>,
}

struct Memory {
    base: NonNull<u8>,
    len: usize,
    home: usize,
    slabs: UnsafeCell<Slabs>,
    /// Bytes of the budget that are used outside the mapping (pinned file pages).
    lent: AtomicUsize,
    returns: AtomicPtr<Returned>,
    warmer: Option<Warmer>,
}

/// What is written into a dropped buffer on its way home: the smallest piece (64 bytes) has room for it.
struct Returned {
    next: *mut Returned,
    piece: Piece,
}

// SAFETY: `slabs` is only touched by the home thread (checked by `is_home`, and `Arena` is not Send); the rest is
// immutable or atomic.
unsafe impl Sync for Memory {}
// SAFETY: as above; the base pointer names a mapping that lives as long as the process.
unsafe impl Send for Memory {}

/// A number that tells threads apart at the cost of an address.
fn thread_token() -> usize {
    thread_local!(static TOKEN: u8 = const { 0 });
    TOKEN.with(|t| ptr::from_ref(t) as usize)
}

impl Arena {
    /// Reserves `len` bytes, rounded up to whole chunks, for the calling thread. Nothing is touched yet.
    pub fn new(len: usize) -> io::Result<Arena> {
        Arena::with(len, None)
    }

    /// As [`Arena::new`], with a thread beside the caller's that has pages fetched before they are written.
    pub fn warmed(len: usize) -> io::Result<Arena> {
        Arena::with(len, Some(Warmer::start()?))
    }

    fn with(len: usize, warmer: Option<Warmer>) -> io::Result<Arena> {
        let len = len.max(1).next_multiple_of(CHUNK_BYTES);
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice aliases nothing.
        let start = unsafe {
            mmap_anonymous(ptr::null_mut(), len + HUGE_PAGE_BYTES, ProtFlags::READ | ProtFlags::WRITE, flags)?
        };
        let skip = start.align_offset(HUGE_PAGE_BYTES);
        // SAFETY: the mapping is longer than `len` by a huge page, so skipping less than one stays inside.
        let base = unsafe { start.cast::<u8>().add(skip) };
        // SAFETY: advice on our own mapping; without huge pages the arena merely works slower.
        let _ = unsafe { madvise(base.cast(), len, Advice::LinuxHugepage) };
        let memory = Memory {
            base: NonNull::new(base).expect("mmap never returns null"),
            len,
            home: thread_token(),
            slabs: UnsafeCell::new(Slabs::new(len)),
            lent: AtomicUsize::new(0),
            returns: AtomicPtr::new(ptr::null_mut()),
            warmer,
        };
        Ok(Arena { memory: Box::leak(Box::new(memory)), _not_send: std::marker::PhantomData })
    }

    /// A buffer of at least `len` bytes for I/O: aligned to 4 KiB.
    #[inline]
    pub fn alloc_aligned(self, len: usize) -> Option<Buffer> {
        self.alloc_class(aligned_class_of(len)?)
    }

    /// A buffer of at least `len` bytes, closely fitting, of any alignment.
    #[inline]
    pub fn alloc(self, len: usize) -> Option<Buffer> {
        self.alloc_class(class_of(len)?)
    }

    fn alloc_class(self, class: usize) -> Option<Buffer> {
        if !self.memory.returns.load(Ordering::Relaxed).is_null() {
            self.collect();
        }
        let lent = self.memory.lent.load(Ordering::Relaxed);
        let slabs = self.slabs();
        slabs.set_max_bytes(self.memory.len - lent);
        let piece = slabs.alloc(class).or_else(|| if slabs.trim() { slabs.alloc(class) } else { None })?;
        assert!(piece.offset + CLASS_BYTES[class] <= self.memory.len, "piece beyond the arena");
        if let Some(ahead) = slabs.take_ahead() {
            self.warm(ahead);
        }
        // SAFETY: the offset was just checked to lie inside the mapping.
        let start = unsafe { self.memory.base.add(piece.offset) };
        Some(Buffer { start, capacity: CLASS_BYTES[class] as u32, piece, memory: self.memory })
    }

    fn warm(self, range: std::ops::Range<usize>) {
        assert!(range.end <= self.memory.len, "pages beyond the arena");
        if let Some(warmer) = &self.memory.warmer {
            // SAFETY: inside the mapping, as was just checked, which is private, anonymous and never unmapped.
            unsafe { warmer.warm(self.memory.base.as_ptr().add(range.start), range.len()) };
        }
    }

    /// Takes in what other columns sent home.
    fn collect(self) {
        let mut next = self.memory.returns.swap(ptr::null_mut(), Ordering::Acquire);
        while !next.is_null() {
            // SAFETY: a pushed node lies in a buffer whose last owner gave it up; the acquire swap saw its writes, and
            // nobody else reads it until `free` hands the piece out again.
            let returned = unsafe { next.read() };
            self.slabs().free(returned.piece);
            next = returned.next;
        }
    }

    /// Bytes of chunks in use, of the bytes there are.
    pub fn usage(self) -> (usize, usize) {
        self.collect();
        (self.slabs().used_bytes(), self.memory.len)
    }

    /// Forgets how the mapping was cut, as if nothing had ever been allocated; bytes still in use, which forbid it.
    pub(crate) fn reset(self) -> usize {
        self.collect();
        let slabs = self.slabs();
        // A block that holds an empty slab is freed by the first turn, its own slab by the second.
        slabs.trim();
        slabs.trim();
        let used_bytes = slabs.used_bytes() + self.memory.lent.load(Ordering::Relaxed);
        if used_bytes == 0 {
            *slabs = Slabs::new(self.memory.len);
        }
        used_bytes
    }

    /// Number and start of the chunk that holds `buffer`, whose pages stay from now on; `None` if it is another arena's.
    pub(crate) fn keep_chunk_of(self, buffer: &Buffer) -> Option<(usize, *mut u8)> {
        if !ptr::eq(self.memory, buffer.memory) {
            return None;
        }
        let chunk = self.slabs().keep_chunk_of(buffer.piece);
        // SAFETY: the chunk of a piece lies inside the mapping.
        Some((chunk, unsafe { self.memory.base.as_ptr().add(chunk * CHUNK_BYTES) }))
    }

    /// How many chunks the arena has, used or not.
    pub(crate) fn chunks(self) -> usize {
        self.memory.len / CHUNK_BYTES
    }

    /// Takes `bytes` of the budget for memory outside the mapping; pages of free chunks go back to the kernel if that is
    /// what makes it fit. The loan may be dropped on any thread.
    pub fn lend(self, bytes: usize) -> Option<Loan> {
        self.collect();
        let lent = self.memory.lent.load(Ordering::Relaxed);
        let slabs = self.slabs();
        if slabs.used_bytes() + lent + bytes > self.memory.len {
            slabs.trim();
        }
        if slabs.used_bytes() + lent + bytes > self.memory.len {
            return None;
        }
        if slabs.touched_bytes() + lent + bytes > self.memory.len {
            for offset in slabs.clean_free_chunks() {
                // SAFETY: a free chunk inside the mapping: nobody refers to its bytes.
                let _ = unsafe {
                    madvise(self.memory.base.as_ptr().add(offset).cast(), CHUNK_BYTES, Advice::LinuxDontNeed)
                };
            }
        }
        self.memory.lent.fetch_add(bytes, Ordering::Relaxed);
        Some(Loan { memory: self.memory, bytes })
    }

    /// Where the mapping is, for its registration with a ring.
    pub fn range(self) -> (*const u8, usize) {
        (self.memory.base.as_ptr(), self.memory.len)
    }

    #[allow(clippy::mut_from_ref, reason = "the borrow ends inside each caller; see SAFETY")]
    fn slabs(&self) -> &mut Slabs {
        debug_assert_eq!(self.memory.home, thread_token());
        // SAFETY: Arena is not Send, so this is the home thread; no caller keeps the reference across a call that
        // could reach `slabs` again.
        unsafe { &mut *self.memory.slabs.get() }
    }
}

/// Bytes of an arena's budget that are used outside of it, until this is dropped.
pub struct Loan {
    memory: &'static Memory,
    bytes: usize,
}

impl Drop for Loan {
    fn drop(&mut self) {
        let before = self.memory.lent.fetch_sub(self.bytes, Ordering::Relaxed);
        assert!(before >= self.bytes, "{} bytes came back of {before} lent", self.bytes);
    }
}

/// Owned bytes of an arena. Dropping it frees it, from any column.
pub struct Buffer {
    start: NonNull<u8>,
    capacity: u32,
    piece: Piece,
    memory: &'static Memory,
}

// SAFETY: a Buffer is the only owner of its bytes; freeing from another thread goes over the atomic return stack.
unsafe impl Send for Buffer {}
// SAFETY: a shared Buffer only gives out shared slices.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// Bytes it can hold.
    pub fn capacity(&self) -> usize {
        self.capacity as usize
    }

    /// Freezes the first `len` bytes for sharing between columns.
    pub fn into_shared(self, len: usize) -> bytes::Bytes {
        assert!(len <= self.capacity(), "shared {len} bytes of a buffer of {}", self.capacity);
        bytes::Bytes::from_owner(Shared { buffer: self, len })
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: the piece lies inside the mapping (checked at alloc), is zeroed or written (mmap), and is ours alone.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.capacity()) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` makes it exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.capacity()) }
    }
}

impl Drop for Buffer {
    #[inline]
    fn drop(&mut self) {
        if self.memory.home == thread_token() {
            // SAFETY: this is the home thread, and no other reference to the slabs is alive (see `Arena::slabs`).
            unsafe { &mut *self.memory.slabs.get() }.free(self.piece);
            return;
        }
        let node = self.start.as_ptr().cast::<Returned>();
        let mut head = self.memory.returns.load(Ordering::Relaxed);
        loop {
            // SAFETY: pieces are at least 64 bytes, aligned to 64, and this buffer was the only owner.
            unsafe { node.write(Returned { next: head, piece: self.piece }) };
            // A take-all stack has no ABA: nodes are only ever removed all at once.
            match self.memory.returns.compare_exchange_weak(head, node, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }
}

/// A frozen buffer inside [`bytes::Bytes`].
pub struct Shared {
    buffer: Buffer,
    len: usize,
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_past_its_length_and_recovers() {
        let arena = Arena::new(32 << 20).expect("maps");
        let held: Vec<Buffer> = std::iter::from_fn(|| arena.alloc_aligned(1 << 20)).collect();
        assert_eq!(held.len(), 32);
        drop(held);
        assert!(arena.alloc_aligned(16 << 20).is_some(), "small pools join again");
        assert!(arena.alloc_aligned((16 << 20) + 1).is_none(), "no class above 16 MiB");
    }

    #[test]
    fn what_is_lent_cannot_be_allocated() {
        let arena = Arena::new(32 << 20).expect("maps");
        drop(arena.alloc_aligned(16 << 20));
        let loan = arena.lend(20 << 20).expect("a free arena lends");
        assert!(arena.lend(20 << 20).is_none(), "more than there is");
        assert!(
            arena.alloc_aligned(16 << 20).is_none() && arena.alloc(64).is_none(),
            "lent bytes were given out"
        );
        drop(loan);
        assert!(arena.alloc_aligned(16 << 20).is_some());
    }

    #[test]
    fn io_buffers_are_aligned() {
        let arena = Arena::new(1).expect("maps");
        for len in [1, 5000, 65536, 1 << 20] {
            let b = arena.alloc_aligned(len).expect("room");
            assert_eq!(b.as_ptr() as usize % 4096, 0);
        }
    }

    #[test]
    fn buffers_dropped_elsewhere_come_home() {
        let arena = Arena::new(1).expect("maps");
        for _ in 0..100 {
            let mut held: Vec<Buffer> = std::iter::from_fn(|| arena.alloc(300_000)).collect();
            assert_eq!(held.len(), 32, "every buffer of the round before came home");
            held.iter_mut().for_each(|b| b.fill(7));
            let shared: Vec<_> = held.into_iter().map(|b| b.into_shared(300_000)).collect();
            let (left, right) = (shared.clone(), shared);
            let t = std::thread::spawn(move || left.iter().all(|b| b.iter().all(|&x| x == 7)));
            drop(right);
            assert!(t.join().expect("reader"));
        }
    }
}
