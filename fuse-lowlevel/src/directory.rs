//! Pages of READDIR and READDIRPLUS, written into a buffer until the next entry does not fit.
//!
//! Each record is padded to 8 bytes. The offset of a record is where to go on *after* it: it comes back in the next request, so
//! it must keep its meaning while the directory changes. An empty page says that the directory ends.

use crate::attributes::{Entry, Kind};
use crate::wire::output::{Dirent, EntryOut};
use zerocopy::IntoBytes;

/// The kernel takes no longer name (`FUSE_NAME_MAX` until Linux 6.14), and no page with one.
pub const NAME_BYTES_MAX: usize = 1024;
const ALIGNMENT_BYTES: usize = 8;

/// One name of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryEntry<'n> {
    /// Shown as its inode number.
    pub inode: u64,
    /// Where to go on after it; not 0.
    pub next_offset: u64,
    /// What it is.
    pub kind: Kind,
    /// Without a slash.
    pub name: &'n [u8],
}

/// A page of READDIR.
#[derive(Debug)]
pub struct DirectoryPage<'b> {
    buffer: &'b mut [u8],
    len_bytes: usize,
}

impl<'b> DirectoryPage<'b> {
    /// Writes into `buffer`, which is as large as the request allows.
    pub fn new(buffer: &'b mut [u8]) -> DirectoryPage<'b> {
        DirectoryPage { buffer, len_bytes: 0 }
    }

    /// Appends the entry; says no if it does not fit, and then the page is full.
    #[must_use]
    pub fn push(&mut self, entry: &DirectoryEntry) -> bool {
        self.append(&[], entry)
    }

    fn append(&mut self, before: &[u8], entry: &DirectoryEntry) -> bool {
        let name = entry.name;
        assert!((1..=NAME_BYTES_MAX).contains(&name.len()), "a name of {} bytes", name.len());
        assert!(!name.contains(&b'/') && !name.contains(&0), "the kernel refuses the page for such a name");
        assert!(entry.next_offset != 0, "offset 0 is where a directory starts");
        let head = Dirent {
            ino: entry.inode,
            off: entry.next_offset,
            namelen: name.len() as u32,
            r#type: entry.kind.directory_type(),
        };
        let record_bytes = record_bytes(before.len(), name.len());
        let free = &mut self.buffer[self.len_bytes..];
        let Some(record) = free.get_mut(..record_bytes) else { return false };
        let (fixed, rest) = record.split_at_mut(before.len() + size_of::<Dirent>());
        fixed[..before.len()].copy_from_slice(before);
        fixed[before.len()..].copy_from_slice(head.as_bytes());
        rest[..name.len()].copy_from_slice(name);
        rest[name.len()..].fill(0);
        self.len_bytes += record_bytes;
        true
    }

    /// Nothing fitted, or nothing was there.
    pub fn is_empty(&self) -> bool {
        self.len_bytes == 0
    }

    /// What is answered: `Reply::Data`.
    pub fn finish(self) -> &'b [u8] {
        &self.buffer[..self.len_bytes]
    }
}

/// A page of READDIRPLUS: each entry with what a LOOKUP of it would answer.
#[derive(Debug)]
pub struct DirectoryPlusPage<'b>(DirectoryPage<'b>);

impl<'b> DirectoryPlusPage<'b> {
    /// Writes into `buffer`, which is as large as the request allows.
    pub fn new(buffer: &'b mut [u8]) -> DirectoryPlusPage<'b> {
        DirectoryPlusPage(DirectoryPage::new(buffer))
    }

    /// Appends the entry; says no if it does not fit, and then the page is full. With `found` it counts as one lookup if it
    /// was appended; without (`.`, `..`, not known yet) the kernel only shows the name.
    #[must_use]
    pub fn push(&mut self, entry: &DirectoryEntry, found: Option<&Entry>) -> bool {
        let found = found.map_or(EntryOut::default(), Entry::wire);
        self.0.append(found.as_bytes(), entry)
    }

    /// Nothing fitted, or nothing was there.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is answered: `Reply::Data`.
    pub fn finish(self) -> &'b [u8] {
        self.0.finish()
    }
}

fn record_bytes(before_bytes: usize, name_bytes: usize) -> usize {
    (before_bytes + size_of::<Dirent>() + name_bytes).next_multiple_of(ALIGNMENT_BYTES)
}
