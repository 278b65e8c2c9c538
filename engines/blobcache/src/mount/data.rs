//! Bytes of a blob on their way to the kernel, where they are: shared memory of a column, or pinned pages. Made by `read`,
//! travels to the column that answers, is written to the kernel from where it is.

use bytes::Bytes;
use runtime::resident::Resident;
use runtime::tier::{Found, Pinned};
use std::ops::{Deref, Range};

/// One run of bytes.
#[derive(Clone, Debug)]
pub enum Data {
    /// In memory of a column.
    Bytes(Bytes),
    /// In pinned pages of an object file.
    Pages(Resident, Range<usize>),
    /// In pinned pages of a pack.
    Packed(Pinned, Range<usize>),
}

impl Data {
    /// None.
    pub fn empty() -> Data {
        Data::Bytes(Bytes::new())
    }

    /// Bytes of a blob that is there whole; `None`: it has a file.
    pub fn of(found: Found, range: Range<usize>) -> Option<Data> {
        match found {
            Found::Packed(bytes) | Found::Read(bytes) => Some(Data::Bytes(bytes.slice(range))),
            Found::Pinned(pinned) => Some(Data::Packed(pinned, range)),
            Found::Object(_) => None,
        }
    }
}

impl Deref for Data {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Data::Bytes(bytes) => bytes,
            Data::Pages(pages, range) => &pages[range.clone()],
            Data::Packed(pinned, range) => &pinned.pages[pinned.from..][range.clone()],
        }
    }
}
