//! A thread that has the kernel put memory behind pages before a column writes to them (`cold.rs`). Called by `arena.rs`.
//!
//! It runs where its column runs, so that the memory is of the same NUMA node, as a thread that the scheduler may put aside.
//! Invariant: it is a help that may be late or missing: a page that it has not come to is fetched by whoever writes first.

use super::cold::HUGE_PAGE_BYTES;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// Stretches that wait; one more is left to its writer.
const WAITING_MAX: usize = 64;

/// The column's side.
pub struct Warmer {
    stretches: SyncSender<Stretch>,
}

/// A part of an arena's mapping.
pub struct Stretch {
    /// An address in a mapping that is never unmapped.
    start: *mut u8,
    len: usize,
}

// SAFETY: the pointer names pages of a mapping that lives as long as the process; nobody reads or writes through it.
unsafe impl Send for Stretch {}

impl Warmer {
    /// Starts the thread; it ends with its column's arena, which is never.
    pub fn start() -> io::Result<Warmer> {
        let (stretches, waiting) = sync_channel(WAITING_MAX);
        thread::Builder::new()
            .name("warmer".into())
            .stack_size(64 << 10)
            .spawn(move || warm_all(&waiting))?;
        Ok(Warmer { stretches })
    }

    /// Has `len` bytes at `start` fetched, if there is time for it.
    ///
    /// # Safety
    /// They lie in a private anonymous mapping that is never unmapped.
    pub unsafe fn warm(&self, start: *mut u8, len: usize) {
        let _ = self.stretches.try_send(Stretch { start, len });
    }
}

fn warm_all(waiting: &Receiver<Stretch>) {
    while let Ok(Stretch { start, len }) = waiting.recv() {
        for at in (0..len).step_by(HUGE_PAGE_BYTES) {
            // SAFETY: inside the stretch, which is mapped for good (see `warm`).
            unsafe { touch(start.add(at)) };
        }
    }
}

/// Writes a byte as it is, so that its page gets memory. Not MADV_POPULATE_WRITE, which holds the lock of the whole address space
/// while a page is cleared: columns that map something waited for it, once 188 ms. A fault locks the one mapping, shared.
///
/// # Safety
/// The byte is mapped for writing.
unsafe fn touch(byte: *mut u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: an atomic `or` with nothing: whoever else writes the byte at the same time, it stays what they make of it. To the
    // program nothing happens.
    unsafe {
        std::arch::asm!("lock or byte ptr [{}], 0", in(reg) byte, options(nostack));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = byte;
}

#[cfg(test)]
mod tests {
    use super::super::Arena;
    use super::*;
    use std::time::{Duration, Instant};

    fn is_resident(byte: *const u8) -> bool {
        let mut page = 0u8;
        // SAFETY: the byte's page is mapped (`byte` is aligned to it), and there is room for what is told of one page.
        assert_eq!(unsafe { libc::mincore(byte.cast_mut().cast(), 1, &mut page) }, 0);
        page & 1 == 1
    }

    #[test]
    fn what_is_about_to_be_written_gets_memory_and_stays_what_it_is() {
        let arena = Arena::warmed(64 << 20).expect("maps");
        let mut buffer = arena.alloc_aligned(16 << 20).expect("room");
        buffer[HUGE_PAGE_BYTES] = 7;
        let begin = Instant::now();
        let pages = || buffer.chunks(HUGE_PAGE_BYTES).skip(1);
        while !pages().all(|page| is_resident(page.as_ptr())) {
            assert!(begin.elapsed() < Duration::from_secs(20), "it does not come");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(!is_resident(buffer.as_ptr()), "the first page is left to its writer");
        assert!(
            buffer.iter().enumerate().all(|(at, &byte)| byte == if at == HUGE_PAGE_BYTES { 7 } else { 0 })
        );
    }

    #[test]
    fn a_touch_leaves_what_others_write() {
        let mut bytes = [0u8; 64];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = at as u8;
            // SAFETY: a byte of our own.
            unsafe { touch(byte) };
            assert_eq!(*byte, at as u8);
        }
    }
}
