//! The memory the kernel and we share: per entry a header of 288 bytes and a payload.
//!
//! One private mapping, headers first, payloads on page boundaries. Who may touch an entry is decided by `Queues`, which
//! hands out a slice only while the entry is ours; the kernel writes only while it is not. Lengths in bytes.

use std::io;
use std::ptr::NonNull;

use super::command::ENTRY_HEADER_BYTES;

#[derive(Debug)]
pub struct Memory {
    base: NonNull<u8>,
    total_bytes: usize,
    payloads_at: usize,
    payload_bytes: usize,
    /// `payload_bytes` rounded up to whole pages.
    stride_bytes: usize,
    entries: usize,
    leaked: bool,
}

impl Memory {
    pub fn new(entries: usize, payload_bytes: usize) -> io::Result<Memory> {
        let page_bytes = rustix::param::page_size();
        let payloads_at = (entries * ENTRY_HEADER_BYTES).next_multiple_of(page_bytes);
        let stride_bytes = payload_bytes.next_multiple_of(page_bytes);
        let total_bytes = payloads_at + entries * stride_bytes;
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choosing touches nothing that exists.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), total_bytes, protection, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).expect("mmap without MAP_FIXED gives no address 0");
        Ok(Memory { base, total_bytes, payloads_at, payload_bytes, stride_bytes, entries, leaked: false })
    }

    pub fn entries(&self) -> usize {
        self.entries
    }

    pub fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    pub fn header_place(&self, index: usize) -> (*mut u8, usize) {
        assert!(index < self.entries);
        // SAFETY: inside the mapping, as `index` is below the number of headers it was made for.
        (unsafe { self.base.as_ptr().add(index * ENTRY_HEADER_BYTES) }, ENTRY_HEADER_BYTES)
    }

    pub fn payload_place(&self, index: usize) -> (*mut u8, usize) {
        assert!(index < self.entries);
        // SAFETY: inside the mapping, as `index` is below the number of payloads it was made for.
        (unsafe { self.base.as_ptr().add(self.payloads_at + index * self.stride_bytes) }, self.payload_bytes)
    }

    pub fn header(&self, index: usize) -> &[u8] {
        let (place, length) = self.header_place(index);
        // SAFETY: mapped, initialised (anonymous memory is zero), and only we touch an entry that is ours.
        unsafe { std::slice::from_raw_parts(place, length) }
    }

    pub fn header_mut(&mut self, index: usize) -> &mut [u8] {
        let (place, length) = self.header_place(index);
        // SAFETY: as in `header`; the result borrows `self` alone.
        unsafe { std::slice::from_raw_parts_mut(place, length) }
    }

    pub fn payload(&self, index: usize) -> &[u8] {
        let (place, length) = self.payload_place(index);
        // SAFETY: as in `header`.
        unsafe { std::slice::from_raw_parts(place, length) }
    }

    pub fn payload_mut(&mut self, index: usize) -> &mut [u8] {
        let (place, length) = self.payload_place(index);
        // SAFETY: as in `header_mut`.
        unsafe { std::slice::from_raw_parts_mut(place, length) }
    }

    /// Never unmaps: the kernel may still write.
    pub fn leak(&mut self) {
        self.leaked = true;
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if !self.leaked {
            // SAFETY: mapped by `new` with this length and unmapped nowhere else; no slice outlives `self`.
            let failed = unsafe { libc::munmap(self.base.as_ptr().cast(), self.total_bytes) };
            assert!(failed == 0, "the mapping is ours");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_do_not_overlap() {
        let mut memory = Memory::new(3, 8192 + 1).unwrap();
        for index in 0..3 {
            memory.header_mut(index).fill(index as u8 + 1);
            memory.payload_mut(index).fill(index as u8 + 11);
        }
        for index in 0..3 {
            assert!(memory.header(index).iter().all(|&byte| byte == index as u8 + 1));
            assert!(memory.payload(index).iter().all(|&byte| byte == index as u8 + 11));
            assert_eq!(memory.payload(index).len(), 8192 + 1);
            assert_eq!(memory.payload(index).as_ptr() as usize % rustix::param::page_size(), 0);
        }
    }
}
