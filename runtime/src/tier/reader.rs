//! Bytes that are not in RAM: read past the page cache, verified block by block, handed out in owned buffers.
//! Called by the owner (packed objects) and by the column that serves a connection (object files).

use super::digest::Digest;
use super::names::{BLOCK_BYTES, SECTOR_BYTES};
use crate::buffer::Buffer;
use crate::io::{Class, File, Io, Open};
use crate::planted::{self, Bug};
use crc32c::crc32c;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Read and verified at a time.
const READ_BYTES: usize = 256 << 10;

/// Why an object that exists could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The bytes on disk are not those that were stored.
    #[error("{0} is damaged on disk")]
    Damaged(Digest),
    /// It is on a disk that was taken out.
    #[error("{0} may be on a disk that does not work")]
    Out(Digest),
    /// No memory for a read buffer now, or too many reads wait: try again later.
    #[error("no memory for a read buffer, or too many reads wait")]
    Busy,
    /// The disk failed.
    #[error("reading {0}: {1}")]
    Io(Digest, io::Error),
}

impl ReadError {
    /// A full queue is no failure of the disk.
    pub(super) fn of(digest: Digest, error: io::Error) -> ReadError {
        match error.kind() {
            io::ErrorKind::ResourceBusy => ReadError::Busy,
            _ => ReadError::Io(digest, error),
        }
    }

    /// As `read_sums` says it.
    pub(super) fn of_sums(digest: Digest, error: io::Error) -> ReadError {
        match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::NotFound => ReadError::Damaged(digest),
            io::ErrorKind::OutOfMemory => ReadError::Busy,
            _ => ReadError::of(digest, error),
        }
    }
}

/// Reads `len` bytes at `offset` of a segment file and checks them.
pub(super) async fn read_packed<I: Io>(
    io: &I,
    file: &I::File,
    digest: &Digest,
    (offset, len, crc): (u32, usize, u32),
) -> Result<(Buffer, Range<usize>), ReadError> {
    let skip = offset as usize % SECTOR_BYTES;
    let start = u64::from(offset) - skip as u64;
    let buf = io.buffer(skip + len).ok_or(ReadError::Busy)?;
    let (read, buf) = file.read_at(buf, skip + len, start).await;
    read.map_err(|e| ReadError::of(*digest, e))?;
    if crc32c(&buf[skip..skip + len]) != crc && !planted::is(Bug::PackedUnverified) {
        return Err(ReadError::Damaged(*digest));
    }
    Ok((buf, skip..skip + len))
}

/// An open object file and its checksums. Stays readable when the object is deleted meanwhile.
pub struct ObjectReader<I: Io> {
    io: I,
    file: I::File,
    digest: Digest,
    size: u64,
    sums: Arc<[u32]>,
}

impl<I: Io> ObjectReader<I> {
    /// Opens the file of an object.
    pub async fn open(
        io: &I,
        path: &Path,
        digest: Digest,
        size: u64,
        sums: Arc<[u32]>,
    ) -> io::Result<ObjectReader<I>> {
        assert_eq!(sums.len() as u64, size.div_ceil(BLOCK_BYTES as u64), "checksums of another object");
        let file = io.open(path, Open::ReadDirect).await?;
        Ok(ObjectReader { io: io.clone(), file, digest, size, sums })
    }

    /// The same, its reads queued as `class`.
    pub(super) fn classed(mut self, class: Class) -> ObjectReader<I> {
        self.file = self.file.classed(class);
        self
    }

    /// Reads from `at` towards `end`, at most one buffer; the range says which bytes of the buffer are the answer.
    pub async fn read(&self, at: u64, end: u64) -> Result<(Buffer, Range<usize>), ReadError> {
        self.read_at_most(at, end, READ_BYTES).await
    }

    /// As [`ObjectReader::read`], into a buffer of at most `len_max` bytes, which are whole blocks.
    pub async fn read_at_most(
        &self,
        at: u64,
        end: u64,
        len_max: usize,
    ) -> Result<(Buffer, Range<usize>), ReadError> {
        assert!(at < end && end <= self.size, "read of {at}..{end} in {} bytes", self.size);
        assert!(len_max >= BLOCK_BYTES && len_max.is_multiple_of(BLOCK_BYTES), "a buffer of {len_max} bytes");
        let first = at / BLOCK_BYTES as u64;
        let start = first * BLOCK_BYTES as u64;
        let end = end.min(start + len_max as u64);
        // Whole blocks, since that is what the checksums are of.
        let blocks_end = end.next_multiple_of(BLOCK_BYTES as u64).min(self.size);
        let len = (blocks_end - start) as usize;
        let buf = self.io.buffer(len).ok_or(ReadError::Busy)?;
        let (read, buf) = self.file.read_at(buf, len, start).await;
        read.map_err(|e| ReadError::of(self.digest, e))?;
        let sums = &self.sums[first as usize..];
        let mut blocks = buf[..len].chunks(BLOCK_BYTES).zip(sums);
        if !blocks.all(|(block, &sum)| crc32c(block) == sum) && !planted::is(Bug::ObjectUnverified) {
            return Err(ReadError::Damaged(self.digest));
        }
        Ok((buf, (at - start) as usize..(end - start) as usize))
    }
}
