//! Mappings: anonymous, huge, of a file. Sizes are bytes. A mapping is unmapped when it is dropped.

use std::os::fd::RawFd;

use crate::{Result, check};

const HUGE_PAGE_BYTES: usize = 2 << 20;

/// A mapping owned by its holder.
#[derive(Debug)]
pub struct Mapping {
    base: *mut libc::c_void,
    mapped_bytes: usize,
    data: *mut u8,
    len: usize,
}

impl Mapping {
    /// Zeroed private memory; `huge` asks for 2 MiB pages and aligns to them. All pages are touched.
    pub fn anonymous(len: usize, huge: bool) -> Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let mapping = Self::map(len, flags, -1, huge)?;
        // SAFETY: the range is mapped, writable and not shared with anyone yet.
        unsafe { std::ptr::write_bytes(mapping.data, 1, mapping.len) };
        Ok(mapping)
    }

    /// A shared mapping of the first `len` bytes of `fd`; `huge` asks for huge pages where shmem grants them.
    pub fn shared(fd: RawFd, len: usize, huge: bool) -> Result<Self> {
        Self::map(len, libc::MAP_SHARED, fd, huge)
    }

    fn map(len: usize, flags: i32, fd: RawFd, huge: bool) -> Result<Self> {
        let align = if huge && fd < 0 { HUGE_PAGE_BYTES } else { 1 };
        let mapped_bytes = len + align - 1;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh mapping at an address of the kernel's choice overlaps nothing.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), mapped_bytes, protection, flags, fd, 0) };
        if base == libc::MAP_FAILED {
            return Err(format!("mmap {mapped_bytes} bytes: {}", std::io::Error::last_os_error()).into());
        }
        let data = (base as usize).next_multiple_of(align) as *mut u8;
        if huge {
            // SAFETY: advice on a range that was mapped above.
            let advised = unsafe { libc::madvise(data.cast(), len, libc::MADV_HUGEPAGE) };
            check("madvise MADV_HUGEPAGE", i64::from(advised))?;
        }
        Ok(Self { base, mapped_bytes, data, len })
    }

    /// Locks the pages, which also faults them in.
    pub fn lock(&self) -> Result<()> {
        // SAFETY: the range is ours and mapped.
        check("mlock", i64::from(unsafe { libc::mlock(self.data.cast(), self.len) })).map(|_| ())
    }

    /// The first byte.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.data
    }

    /// The bytes, for filling.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: `data..data+len` is mapped and writable for as long as `self` lives, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.data, self.len) }
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: as above; nobody writes while `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: unmaps exactly what `map` mapped.
        unsafe { libc::munmap(self.base, self.mapped_bytes) };
    }
}

/// A file as its readers map it: shared, only to be read, whole.
#[derive(Debug)]
pub struct FileMap {
    base: *mut libc::c_void,
    len: usize,
}

impl FileMap {
    /// Maps what `file` holds now. Nobody may make it shorter meanwhile.
    pub fn new(file: &std::fs::File) -> Result<Self> {
        use std::os::fd::AsRawFd;
        let len = usize::try_from(file.metadata()?.len())?;
        // SAFETY: a fresh mapping at an address of the kernel's choice overlaps nothing.
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        if base == libc::MAP_FAILED {
            return Err(format!("mmap {len} bytes: {}", std::io::Error::last_os_error()).into());
        }
        Ok(Self { base, len })
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `len` bytes are mapped readable at `base` as long as self lives, and nobody writes the file.
        unsafe { std::slice::from_raw_parts(self.base.cast::<u8>(), self.len) }
    }
}

impl Drop for FileMap {
    fn drop(&mut self) {
        // SAFETY: the range is a mapping of ours, and no reference into it outlives self.
        unsafe { libc::munmap(self.base, self.len) };
    }
}
