//! Writing one object file: bytes stream in, blocks are checksummed, nothing larger than a few buffers is in RAM.
//!
//! Called by an engine's `serve` on the column that receives the bytes; `Shard::commit_object` of the owner takes over.
//!
//! Invariants
//! 1. The file holds the object's bytes from offset 0 and nothing else, at its exact size, and is synced before it is
//!    offered to the owner; its checksums lie beside it, synced too.
//! 2. Disk space is reserved from the budget before it is written; what is not committed is given back and unlinked.
//! 3. A disk that fails under an object is taken out as one that fails under a journal is: the next object goes elsewhere.

use super::disk::Disk;
use super::names::{BLOCK_BYTES, Names, SECTOR_BYTES};
use super::shard::PutError;
use crate::buffer::Buffer;
use crate::io::{Class, File, Io, Open};
use crate::oneshot::{Oneshot, Waiting};
use crc32c::crc32c;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

/// Bytes given to the disk at a time, and received at a time before that.
pub const WRITE_BYTES: usize = 1 << 20;
/// Writes under way per object: enough to keep hash and disk both busy.
pub const WRITES_MAX: usize = 2;
/// Space is reserved in steps of this size when the length is not known.
const RESERVE_STEP_BYTES: u64 = 64 << 20;

/// A complete, synced file that waits for its owner to name it. Unlinked by [`super::Shard::discard`] otherwise.
#[derive(Debug)]
pub struct Incoming {
    /// On which disk.
    pub disk: u8,
    /// Where it is now; its checksums lie beside it.
    pub path: PathBuf,
    /// Size in bytes.
    pub size: u64,
    /// CRC32C of each 64 KiB block.
    pub sums: Arc<[u32]>,
    /// CRC32C of the sums file's content.
    pub sums_crc: u32,
    /// Bytes taken from the disk budget.
    pub reserved: u64,
}

/// One object on its way to disk.
pub struct ObjectWriter<I: Io> {
    disk: Rc<Disk<I>>,
    file: I::File,
    path: PathBuf,
    class: Class,
    reserved: u64,
    allocated: u64,
    at: u64,
    sums: Vec<u32>,
    /// Under way, oldest first, with the end of each.
    writes: VecDeque<(Waiting<Result<(), PutError>>, u64)>,
    written: u64,
    finished: bool,
}

/// Bytes an object file of `size` bytes and its checksums take.
pub fn disk_bytes(size: u64) -> u64 {
    let sector = SECTOR_BYTES as u64;
    size.next_multiple_of(sector) + ((size.div_ceil(BLOCK_BYTES as u64) + 1) * 4).next_multiple_of(sector)
}

impl<I: Io> ObjectWriter<I> {
    /// Begins a file; with a known length all its space is taken at once.
    pub(super) async fn create(
        disk: Rc<Disk<I>>,
        path: PathBuf,
        length: Option<u64>,
        class: Class,
    ) -> Result<Self, PutError> {
        let reserve = disk_bytes(length.unwrap_or(RESERVE_STEP_BYTES));
        if !disk.store.budget().try_reserve(reserve) {
            return Err(PutError::NoSpace);
        }
        let file = match disk.store.io().open(&path, Open::CreateDirect).await {
            Ok(file) => file.classed(class),
            Err(e) => {
                disk.store.budget().release(reserve);
                return Err(disk.failed(&path, e));
            }
        };
        let mut writer = ObjectWriter {
            disk,
            file,
            path,
            class,
            reserved: reserve,
            allocated: 0,
            at: 0,
            sums: Vec::new(),
            writes: VecDeque::new(),
            written: 0,
            finished: false,
        };
        let first = length.unwrap_or(RESERVE_STEP_BYTES).next_multiple_of(SECTOR_BYTES as u64);
        writer.allocate(first).await?;
        Ok(writer)
    }

    /// Where it is written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn failed(&self, e: io::Error) -> PutError {
        self.disk.failed(&self.path, e)
    }

    async fn allocate(&mut self, to: u64) -> Result<(), PutError> {
        self.file.allocate(to.max(1)).await.map_err(|e| self.failed(e))?;
        self.allocated = to;
        Ok(())
    }

    async fn make_room(&mut self, end: u64) -> Result<(), PutError> {
        if end <= self.allocated {
            return Ok(());
        }
        let to = self.allocated.max(end) + RESERVE_STEP_BYTES;
        let more = disk_bytes(to).saturating_sub(self.reserved);
        if !self.disk.store.budget().try_reserve(more) {
            return Err(PutError::NoSpace);
        }
        self.reserved += more;
        self.allocate(to).await
    }

    /// Takes the next `len` bytes of the object. Every buffer but the last is filled to a whole number of blocks.
    pub async fn write(&mut self, mut buf: Buffer, len: usize) -> Result<(), PutError> {
        assert!(
            len > 0 && self.at.is_multiple_of(BLOCK_BYTES as u64),
            "write of {len} bytes after a partial block"
        );
        self.sums.extend(buf[..len].chunks(BLOCK_BYTES).map(crc32c));
        let padded = len.next_multiple_of(SECTOR_BYTES);
        buf[len..padded].fill(0);
        self.make_room(self.at + padded as u64).await?;
        if self.writes.len() >= WRITES_MAX {
            self.wait_for_one().await?;
        }
        let (done, waiting) = Oneshot::new();
        let (disk, file, path, at) = (self.disk.clone(), self.file.clone(), self.path.clone(), self.at);
        self.disk.store.io().spawn("object-write", async move {
            let (written, _buf) = file.write_at(buf, padded, at).await;
            // Heard here, since who stores it may be gone by now.
            done.set(written.map_err(|e| disk.failed(&path, e)));
        });
        self.at += len as u64;
        self.writes.push_back((waiting, self.at));
        Ok(())
    }

    async fn wait_for_one(&mut self) -> Result<(), PutError> {
        match self.writes.pop_front() {
            Some((write, end)) => {
                write.await?;
                self.written = end;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// How many bytes from the front are in the file, and the checksums of all blocks taken. Does not wait.
    pub async fn progress(&mut self) -> Result<(u64, &[u32]), PutError> {
        while let Some((write, end)) = self.writes.front_mut() {
            let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut *write).poll(cx))).await;
            let Poll::Ready(written) = polled else { break };
            let end = *end;
            self.writes.pop_front();
            written?;
            self.written = end;
        }
        Ok((self.written, &self.sums))
    }

    /// All bytes are in: cut to size, write the checksums, sync both.
    pub async fn finish(mut self) -> Result<Incoming, PutError> {
        while !self.writes.is_empty() {
            self.wait_for_one().await?;
        }
        self.file.truncate(self.at).await.map_err(|e| self.failed(e))?;
        self.file.sync_data().await.map_err(|e| self.failed(e))?;
        let sums: Arc<[u32]> = std::mem::take(&mut self.sums).into();
        let sums_crc = write_sums(self.disk.store.io(), (&Names::sums(&self.path), self.class), &sums).await;
        let sums_crc = sums_crc.map_err(|e| self.failed(e))?;
        let needed = disk_bytes(self.at);
        assert!(needed <= self.reserved, "wrote {needed} bytes of {} reserved", self.reserved);
        self.disk.store.budget().release(self.reserved - needed);
        self.finished = true;
        let path = self.path.clone();
        Ok(Incoming { disk: self.disk.number, path, size: self.at, sums, sums_crc, reserved: needed })
    }
}

impl<I: Io> Drop for ObjectWriter<I> {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        self.disk.store.budget().release(self.reserved);
        let (io, path) = (self.disk.store.io().clone(), self.path.clone());
        self.disk.store.io().spawn("object-discard", async move {
            let _ = io.unlink(&Names::sums(&path)).await;
            let _ = io.unlink(&path).await;
        });
    }
}

async fn write_sums<I: Io>(io: &I, (path, class): (&Path, Class), sums: &[u32]) -> io::Result<u32> {
    let (bytes, crc) = encode_sums(sums);
    let file = io.open(path, Open::CreateDirect).await?.classed(class);
    for (i, part) in bytes.chunks(WRITE_BYTES).enumerate() {
        let padded = part.len().next_multiple_of(SECTOR_BYTES);
        let mut buf = io.buffer(padded).ok_or(io::ErrorKind::OutOfMemory)?;
        buf[..part.len()].copy_from_slice(part);
        buf[part.len()..padded].fill(0);
        file.write_at(buf, padded, (i * WRITE_BYTES) as u64).await.0?;
    }
    file.truncate(bytes.len() as u64).await?;
    file.sync_data().await?;
    Ok(crc)
}

/// Reads the checksums beside an object file of `size` bytes; `crc` is theirs.
pub(super) async fn read_sums<I: Io>(
    io: &I,
    path: &Path,
    (size, crc): (u64, u32),
    class: Class,
) -> io::Result<Arc<[u32]>> {
    let damaged =
        || io::Error::new(io::ErrorKind::InvalidData, format!("checksums of {} are damaged", path.display()));
    let blocks = size.div_ceil(BLOCK_BYTES as u64) as usize;
    let len = (blocks + 1) * 4;
    let file = io.open(path, Open::ReadDirect).await?.classed(class);
    if file.size().await? != len as u64 {
        return Err(damaged());
    }
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        let part = (len - bytes.len()).min(WRITE_BYTES);
        let buf = io.buffer(part).ok_or(io::ErrorKind::OutOfMemory)?;
        let (read, buf) = file.read_at(buf, part, bytes.len() as u64).await;
        read?;
        bytes.extend_from_slice(&buf[..part]);
    }
    decode_sums(&bytes, crc).ok_or_else(damaged)
}

/// The content of a sums file, and its checksum, which stands at the end of it too.
pub fn encode_sums(sums: &[u32]) -> (Vec<u8>, u32) {
    let mut bytes: Vec<u8> = sums.iter().flat_map(|s| s.to_le_bytes()).collect();
    let crc = crc32c(&bytes);
    bytes.extend(crc.to_le_bytes());
    (bytes, crc)
}

/// The sums in a file's content, if its checksum is `crc`.
pub fn decode_sums(bytes: &[u8], crc: u32) -> Option<Arc<[u32]>> {
    let (sums, stored) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    let holds = sums.len().is_multiple_of(4) && crc32c(sums) == crc && stored == crc.to_le_bytes();
    let number = |c: &[u8]| u32::from_le_bytes(c.try_into().expect("four bytes"));
    holds.then(|| sums.chunks_exact(4).map(number).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums files have no version: this one is never written anew.
    #[test]
    fn golden_sums_are_written_and_read() {
        let golden = include_bytes!("../../tests/golden/sums-1");
        let sums = [0, 0x0bad_f00d, u32::MAX];
        let (bytes, crc) = encode_sums(&sums);
        assert_eq!(bytes, golden, "this build writes sums differently");
        assert_eq!(decode_sums(golden, crc).as_deref(), Some(&sums[..]));
        assert_eq!(crc32c(&golden[..12]), crc, "what the index says of it");
    }
}
