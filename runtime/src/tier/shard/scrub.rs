//! The scrubber: looks for damage in what nobody reads. Every object of the column is read from disk and held against its
//! checksums, in digest order, at a capped rate; then it rests and begins again.
//!
//! Called by the node: [`Shard::verify`] once if asked for, [`Shard::scrub`] for as long as it runs; both once everything is
//! loaded. They end by being dropped. Where a pass stands is not kept: a restart begins at the first digest.
//!
//! Invariants
//! 1. Nothing is decided from an entry that changed while its bytes were read: the object was deleted, replaced or moved.
//! 2. What is found is treated as damage that a read found. An object known to be damaged is not read again until it is mended.
//! 3. One read at a time, so one buffer; no file is held open while its object is gone (but for one wait).

use super::super::digest::Digest;
use super::super::disk::Disk;
use super::super::index::{Entry, LIST_MAX, Place};
use super::super::names::{BLOCK_BYTES, SECTOR_BYTES};
use super::super::object::read_sums;
use super::super::pace::{GRANT_BYTES, Pace};
use super::super::reader::{ObjectReader, ReadError, read_packed};
use super::Shard;
use super::load::sums_path;
use crate::io::{Class, Io};
use std::cell::Cell;
use std::io;
use std::num::NonZeroU64;
use std::rc::Rc;

/// Before another try when there was no buffer, or too many reads waited.
const BUSY_NS: u64 = 10_000_000;
/// After a read that the disk could not answer: a dying disk is neither hammered nor is the log.
const FAILED_NS: u64 = 1_000_000_000;

/// What the scrubber has done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes it set out to read: whole sectors, checksums included.
    pub bytes: u64,
    /// Objects checked, damaged or not.
    pub objects: u64,
    /// Objects found damaged.
    pub damaged: u64,
    /// Times that it went through all objects.
    pub passes: u64,
    /// How long the last one took.
    pub pass_ns: u64,
}

/// What a look at an object's bytes said.
enum Checked {
    Whole,
    /// Nothing: it is no longer what it was.
    Changed,
}

/// The rate; `None`: as fast as the disk.
type MaybePace = Option<Pace>;

impl<I: Io> Shard<I> {
    /// Passes over all objects at no more than `bytes_per_s`, with a rest after each. Never ends.
    pub async fn scrub(&self, bytes_per_s: NonZeroU64, rest_ns: u64) {
        let mut pace = Some(Pace::new(bytes_per_s, self.inner.io.now_ns()));
        loop {
            self.pass(&mut pace).await;
            self.inner.io.sleep(rest_ns).await;
        }
    }

    /// One pass, as fast as the disk; what it did.
    pub async fn verify(&self) -> Counts {
        let before = self.inner.scrubbed.get();
        self.pass(&mut None).await;
        let after = self.inner.scrubbed.get();
        Counts {
            bytes: after.bytes - before.bytes,
            objects: after.objects - before.objects,
            damaged: after.damaged - before.damaged,
            passes: 1,
            pass_ns: after.pass_ns,
        }
    }

    /// By digest, so that what comes and goes meanwhile moves nothing else out of sight.
    async fn pass(&self, pace: &mut MaybePace) {
        let began_ns = self.inner.io.now_ns();
        let mut after = None;
        loop {
            let page = self.list_all(after.as_ref(), LIST_MAX);
            for (digest, _) in &page {
                self.scrub_one(digest, pace).await;
            }
            self.inner.io.yield_now().await;
            match page.last() {
                Some((last, _)) if page.len() == LIST_MAX => after = Some(*last),
                _ => break,
            }
        }
        let pass_ns = self.inner.io.now_ns() - began_ns;
        change(&self.inner.scrubbed, |counts| {
            counts.passes += 1;
            counts.pass_ns = pass_ns;
        });
    }

    async fn scrub_one(&self, digest: &Digest, pace: &mut MaybePace) {
        while let Some(entry) = self.whole(digest) {
            let error = match self.check(digest, &entry, pace).await {
                Ok(Checked::Whole) => return change(&self.inner.scrubbed, |counts| counts.objects += 1),
                Ok(Checked::Changed) => return,
                // An error on the way to where it was says nothing.
                Err(_) if !self.is_still(digest, &entry) => return,
                Err(error) => error,
            };
            match error {
                ReadError::Busy => self.inner.io.sleep(BUSY_NS).await,
                ReadError::Out(_) => return,
                ReadError::Io(_, e) if !is_loss(&e) => {
                    tracing::warn!(%digest, error = %e, "object is not checked in this pass");
                    return self.inner.io.sleep(FAILED_NS).await;
                }
                lost => {
                    self.on_scrubbed_damage(digest);
                    if let ReadError::Io(_, e) = lost {
                        tracing::error!(%digest, error = %e, "the disk does not give the object back");
                        self.inner.io.sleep(FAILED_NS).await;
                    }
                    return;
                }
            }
        }
    }

    fn on_scrubbed_damage(&self, digest: &Digest) {
        change(&self.inner.scrubbed, |counts| {
            counts.objects += 1;
            counts.damaged += 1;
        });
        self.on_damaged(digest);
    }

    async fn check(
        &self,
        digest: &Digest,
        entry: &Entry,
        pace: &mut MaybePace,
    ) -> Result<Checked, ReadError> {
        let disk = self.disk_of(digest, entry)?;
        match entry.place {
            Place::Packed { segment, offset } => {
                self.check_packed(disk, (digest, entry), (segment, offset), pace).await
            }
            Place::Object => self.check_file(disk, (digest, entry), pace).await,
        }
    }

    async fn check_packed(
        &self,
        disk: &Rc<Disk<I>>,
        (digest, entry): (&Digest, &Entry),
        (segment, offset): (u32, u32),
        pace: &mut MaybePace,
    ) -> Result<Checked, ReadError> {
        let read_bytes = (u64::from(offset) % SECTOR_BYTES as u64) + entry.size;
        if !self.may_read((digest, entry), read_bytes, pace).await {
            return Ok(Checked::Changed);
        }
        let segment = disk.store.get(segment).expect("an entry names a segment that exists");
        let _reading = segment.reading();
        let file = disk.store.file_as(&segment, Class::Scrub).await;
        let file = file.map_err(|e| ReadError::of(*digest, e))?;
        read_packed(&self.inner.io, &file, digest, (offset, entry.size as usize, entry.crc)).await?;
        Ok(Checked::Whole)
    }

    async fn check_file(
        &self,
        disk: &Rc<Disk<I>>,
        (digest, entry): (&Digest, &Entry),
        pace: &mut MaybePace,
    ) -> Result<Checked, ReadError> {
        let io = &self.inner.io;
        let sums_bytes = (entry.size.div_ceil(BLOCK_BYTES as u64) + 1) * 4;
        if !self.may_read((digest, entry), sums_bytes, pace).await {
            return Ok(Checked::Changed);
        }
        let path = sums_path(&disk.names, digest);
        let sums = read_sums(io, &path, (entry.size, entry.crc), Class::Scrub).await;
        let sums = sums.map_err(|e| ReadError::of_sums(*digest, e))?;
        let path = disk.names.object(digest);
        let reader = ObjectReader::open(io, &path, *digest, entry.size, sums).await;
        let reader = reader.map_err(|e| ReadError::of(*digest, e))?.classed(Class::Scrub);
        let mut at = 0;
        while at < entry.size {
            let end = entry.size.min(at + GRANT_BYTES);
            if !self.may_read((digest, entry), end - at, pace).await {
                return Ok(Checked::Changed);
            }
            let (_, part) = reader.read(at, end).await?;
            at += part.len() as u64;
        }
        Ok(Checked::Whole)
    }

    /// Waits until so many bytes may be read; whether the object is still what it was.
    async fn may_read(&self, (digest, entry): (&Digest, &Entry), bytes: u64, pace: &mut MaybePace) -> bool {
        let bytes = bytes.next_multiple_of(SECTOR_BYTES as u64);
        if let Some(pace) = pace {
            let now_ns = self.inner.io.now_ns();
            let due_ns = pace.take(bytes, now_ns);
            if due_ns > now_ns {
                self.inner.io.sleep(due_ns - now_ns).await;
            }
        }
        let still = self.is_still(digest, entry);
        if still {
            change(&self.inner.scrubbed, |counts| counts.bytes += bytes);
        }
        still
    }

    fn is_still(&self, digest: &Digest, entry: &Entry) -> bool {
        self.lookup(digest).is_some_and(|now| now.sequence == entry.sequence)
    }
}

fn change(counts: &Cell<Counts>, how: impl FnOnce(&mut Counts)) {
    let mut changed = counts.get();
    how(&mut changed);
    counts.set(changed);
}

/// Whether an error says that the bytes are not there, rather than that they cannot be read now.
fn is_loss(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof)
        || e.raw_os_error() == Some(libc::EIO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_now_is_not_lost() {
        for lost in [libc::ENOENT, libc::EIO] {
            assert!(is_loss(&io::Error::from_raw_os_error(lost)), "{lost}");
        }
        assert!(is_loss(&io::ErrorKind::UnexpectedEof.into()));
        for passing in [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EAGAIN, libc::EACCES] {
            assert!(!is_loss(&io::Error::from_raw_os_error(passing)), "{passing}");
        }
    }
}
