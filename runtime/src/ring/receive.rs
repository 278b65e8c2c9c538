//! The provided buffers of a ring: received bytes lie in them until their chunk is dropped. Called by `core.rs`.

use io_uring::IoUring;
use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

/// The one group of provided buffers of a ring.
pub(super) const BUFFER_GROUP: u16 = 0;

/// Memory that the kernel fills on arrival (IORING_REGISTER_PBUF_RING), so that an idle connection holds none.
pub(super) struct ReceiveBuffers {
    entries: *mut io_uring::types::BufRingEntry,
    mask: u16,
    tail: Cell<u16>,
    memory: *mut u8,
    each: u32,
}

impl ReceiveBuffers {
    pub(super) fn register(ring: &IoUring, count: u16, each: u32) -> io::Result<ReceiveBuffers> {
        assert!(count.is_power_of_two(), "the kernel wants a power of two, got {count}");
        use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
        let table = usize::from(count) * size_of::<io_uring::types::BufRingEntry>();
        let map = |len: usize| {
            // SAFETY: a fresh anonymous mapping aliases nothing. Both live as long as the process: the ring of a
            // column ends with it.
            unsafe {
                mmap_anonymous(
                    std::ptr::null_mut(),
                    len,
                    ProtFlags::READ | ProtFlags::WRITE,
                    MapFlags::PRIVATE,
                )
            }
        };
        let entries = map(table.max(4096))?.cast::<io_uring::types::BufRingEntry>();
        let memory = map(usize::from(count) * each as usize)?.cast::<u8>();
        // SAFETY: the table is page-aligned, long enough for `count` entries and never unmapped.
        unsafe { ring.submitter().register_buf_ring_with_flags(entries as u64, count, BUFFER_GROUP, 0)? };
        let buffers = ReceiveBuffers { entries, mask: count - 1, tail: Cell::new(0), memory, each };
        (0..count).for_each(|id| buffers.give_back(id));
        Ok(buffers)
    }

    pub(super) fn bytes(&self, id: u16, len: usize) -> &[u8] {
        assert!(id <= self.mask && len <= self.each as usize, "buffer {id} of {len} bytes is not ours");
        // SAFETY: inside the mapping (just checked); the kernel wrote it and will not again before `give_back`, which
        // the owner of the id (a `Chunk`) calls when it is dropped.
        unsafe { std::slice::from_raw_parts(self.memory.add(usize::from(id) * self.each as usize), len) }
    }

    pub(super) fn give_back(&self, id: u16) {
        assert!(id <= self.mask, "buffer {id} is not ours");
        let tail = self.tail.get();
        // SAFETY: the index is masked to the table; entries beyond the published tail belong to us.
        unsafe {
            let entry = &mut *self.entries.add(usize::from(tail & self.mask));
            entry.set_addr(self.memory.add(usize::from(id) * self.each as usize) as u64);
            entry.set_len(self.each);
            entry.set_bid(id);
            self.tail.set(tail.wrapping_add(1));
            let published = io_uring::types::BufRingEntry::tail(self.entries).cast::<AtomicU16>();
            (*published).store(self.tail.get(), Ordering::Release);
        }
    }
}
