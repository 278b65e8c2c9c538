//! Reads of a mount on the column that owns the blob: RAM, else disk, verified, else the origin. Called by `nodes`.
//!
//! Everything is read here and not on the column that asked: the file that a handle is read from is open here, so that one hop
//! answers and a DELETE cuts nobody off.
//!
//! Invariants
//! 1. An answer has all the bytes asked for, up to the end of the blob: the kernel takes a shorter one for the end of the file.
//! 2. Every byte was verified since it last came from the disk.
//! 3. The tier is told of each read once.
//! 4. A blob that has another size than its node is not read: its range was clipped to the node's.

use super::ask::{First, NodeReply, NodeRequest, Part, Read};
use super::data::Data;
use super::failure::Failure;
use super::inodes::Inode;
use super::nodes::{Nodes, Source, Stored, TRIES_MAX};
use super::origin::Arrived;
use crate::metrics::reads::Level;
use crate::shard::Owner;
use runtime::io::Io;
use runtime::tier::{Digest, EXTENT_BYTES, Extent, Found, ObjectReader, ReadError, Stretch};
use std::ops::Range;
use std::rc::Rc;

/// The most bytes of one read from disk: what a request may ask for, if it begins where a block does.
const READ_BYTES_MAX: usize = 1 << 20;
/// Until memory or a disk that is busy is tried again.
pub(super) const BUSY_NS: u64 = 2_000_000;
const EXTENT: u64 = EXTENT_BYTES as u64;

impl<I: Io> Owner<I> {
    /// Answers from RAM; gives the read back, with what was found out, when it has to wait.
    pub(super) fn read_now(&self, nodes: &Nodes<I>, mut read: Read) -> Result<NodeReply, NodeRequest> {
        let inode = match nodes.usable(read.node) {
            Ok(inode) => inode,
            Err(failure) => {
                let digest = nodes.inode(read.node).map(|inode| inode.digest);
                return Ok(NodeReply::Data(Err(Failure::io(failure).of(digest.as_ref()))));
            }
        };
        read.range = clipped(&read.range, inode.size);
        if read.range.is_empty() {
            return Ok(NodeReply::Data(Ok(Data::empty())));
        }
        match nodes.source(read.node, self.io().now_ns()) {
            Some(Source::Held(found)) => {
                let data = Data::of(found, bounds(&read.range)).expect("only small blobs are held");
                return Ok(self.counted(Level::Ram, data));
            }
            Some(Source::Stored(stored)) if is_one_extent(&read.range) && read.first == First::Unknown => {
                match self.tier.stretch(&inode.digest, &stored.object, &read.range) {
                    Stretch::Held(extent) => {
                        let (level, data) = of_extent(extent, &read.range);
                        return Ok(self.counted(level, data));
                    }
                    Stretch::Coming => read.first = First::Coming,
                    Stretch::Disk => read.first = First::Disk,
                }
            }
            Some(_) => {}
            None if inode.is_unverified => {}
            None => {
                let found = self.tier.get_held(&inode.digest).filter(|found| found.size() == inode.size);
                if let Some(data) = found.and_then(|found| Data::of(found, bounds(&read.range))) {
                    return Ok(self.counted(Level::Ram, data));
                }
            }
        }
        Err(NodeRequest::Read(read))
    }

    fn counted(&self, level: Level, data: Data) -> NodeReply {
        self.metrics.mount.on_read(level, data.len() as u64);
        NodeReply::Data(Ok(data))
    }

    /// Answers a read that [`Owner::read_now`] could not.
    pub(super) async fn read(&self, nodes: &Nodes<I>, mut read: Read) -> Result<Data, Failure> {
        let mut last = Failure::io("it comes and goes");
        for _ in 0..TRIES_MAX {
            let inode = nodes.usable(read.node)?;
            if inode.is_unverified {
                self.settle(nodes, read.node)?;
            }
            let source = match nodes.source(read.node, self.io().now_ns()) {
                Some(source) => source,
                None => self.resolve(nodes, read.node, &inode, read.until_ns).await?,
            };
            let data = match source {
                Source::Held(found) => Data::of(found, bounds(&read.range)).map(|data| (Level::Disk, data)),
                Source::Arriving(arriving) => {
                    let at = (read.node, &*arriving);
                    let data = self.read_arriving(nodes, at, &read.range, read.until_ns).await?;
                    data.map(|data| (Level::Origin, data))
                }
                Source::Stored(stored) => {
                    match self.read_stored(nodes, &inode.digest, &stored, &read).await {
                        Ok(found) => Some(found),
                        Err(e) => {
                            nodes.set_source(read.node, None, self.io().now_ns());
                            last = self.on_unreadable(&inode.digest, e)?;
                            None
                        }
                    }
                }
            };
            read.first = First::Unknown;
            if let Some((level, data)) = data {
                assert_eq!(data.len() as u64, read.range.end - read.range.start, "a short answer");
                self.metrics.mount.on_read(level, data.len() as u64);
                return Ok(data);
            }
        }
        Err(last)
    }

    /// What can be tried again: an origin may have what the disk has not any more.
    fn on_unreadable(&self, digest: &Digest, e: ReadError) -> Result<Failure, Failure> {
        let is_damaged = matches!(e, ReadError::Damaged(_));
        if is_damaged {
            self.tier.on_damaged(digest);
        }
        let failure = Failure::from(e);
        if is_damaged && self.tier.origin(digest).is_some() { Ok(failure) } else { Err(failure) }
    }

    /// Finds what a node is read from. What may have to be read again is kept.
    pub(super) async fn resolve(
        &self,
        nodes: &Nodes<I>,
        node: u64,
        inode: &Inode,
        until_ns: u64,
    ) -> Result<Source<I>, Failure> {
        let digest = &inode.digest;
        for _ in 0..TRIES_MAX {
            self.tier.load(digest).await?;
            let failed = match self.tier.get(digest).await {
                Ok(Some(found)) if found.size() != inode.size => {
                    nodes.retire(node, self.io().now_ns());
                    return Err(Failure::Stale);
                }
                Ok(Some(Found::Object(object))) => {
                    let (path, sums) = (object.path.clone(), object.sums.clone());
                    let opened = ObjectReader::open(self.io(), &path, *digest, object.size, sums).await;
                    // Not there: deleted or replaced since it was found.
                    let Ok(reader) = opened else { continue };
                    let source = Source::Stored(Rc::new(Stored { object, reader }));
                    self.keep_source(nodes, node, source.clone());
                    return Ok(source);
                }
                Ok(Some(found)) => return Ok(Source::Held(found)),
                Ok(None) => Failure::io("it is gone"),
                Err(ReadError::Busy) if self.io().now_ns() < until_ns => {
                    self.io().sleep(BUSY_NS).await;
                    continue;
                }
                Err(e @ (ReadError::Damaged(_) | ReadError::Out(_))) => Failure::from(e),
                Err(e) => return Err(e.into()),
            };
            match self.arrive(nodes, digest, until_ns).await? {
                Arrived::Stored => {}
                Arrived::Nowhere => return Err(failed),
                // One of them is wrong: whoever looks up the name gets what comes now.
                Arrived::Coming(arriving) if arriving.size != inode.size => return Err(Failure::Stale),
                Arrived::Coming(arriving) => {
                    let source = Source::Arriving(Rc::new(arriving));
                    self.keep_source(nodes, node, source.clone());
                    return Ok(source);
                }
            }
        }
        Err(Failure::io("it comes and goes"))
    }

    async fn read_stored(
        &self,
        nodes: &Nodes<I>,
        digest: &Digest,
        stored: &Stored<I>,
        read: &Read,
    ) -> Result<(Level, Data), ReadError> {
        let part = Part { digest, object: &stored.object };
        let (mut pieces, mut level, mut at) = (Vec::with_capacity(2), Level::Ram, read.range.start);
        while at < read.range.end {
            let end = read.range.end.min((at / EXTENT + 1) * EXTENT);
            let first = if at == read.range.start { read.first } else { First::Unknown };
            let (from, data) = match self.extent(part, at..end, first).await {
                Some(extent) => of_extent(extent, &(at..end)),
                None => (Level::Disk, self.read_disk(nodes, stored, at..end, read.until_ns).await?),
            };
            at += data.len() as u64;
            level = level.max(from);
            pieces.push(data);
        }
        Ok((level, self.joined(pieces, read.until_ns).await?))
    }

    async fn extent(
        &self,
        Part { digest, object }: Part<'_>,
        range: Range<u64>,
        first: First,
    ) -> Option<Extent> {
        match first {
            First::Unknown => self.tier.extent(digest, object, &range).await,
            First::Coming => self.tier.await_extent(digest, object, &range).await,
            First::Disk => None,
        }
    }

    async fn read_disk(
        &self,
        nodes: &Nodes<I>,
        stored: &Stored<I>,
        range: Range<u64>,
        until_ns: u64,
    ) -> Result<Data, ReadError> {
        let _permit = nodes.disk_reads.acquire().await.ok_or(ReadError::Busy)?;
        loop {
            match stored.reader.read_at_most(range.start, range.end, READ_BYTES_MAX).await {
                Ok((buf, part)) => return Ok(Data::Bytes(buf.into_shared(part.end).slice(part))),
                Err(ReadError::Busy) if self.io().now_ns() < until_ns => self.io().sleep(BUSY_NS).await,
                Err(e) => return Err(e),
            }
        }
    }

    /// One run of bytes: a read that crosses extents, or is not aligned and as large as can be, is copied together.
    async fn joined(&self, mut pieces: Vec<Data>, until_ns: u64) -> Result<Data, ReadError> {
        if pieces.len() == 1 {
            return Ok(pieces.remove(0));
        }
        let len = pieces.iter().map(|piece| piece.len()).sum();
        let mut buf = loop {
            match self.io().buffer_fitting(len) {
                Some(buf) => break buf,
                None if self.io().now_ns() < until_ns => self.io().sleep(BUSY_NS).await,
                None => return Err(ReadError::Busy),
            }
        };
        let mut at = 0;
        for piece in &pieces {
            buf[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
        }
        Ok(Data::Bytes(buf.into_shared(len)))
    }
}

/// What of a read is within the blob.
fn clipped(range: &Range<u64>, size: u64) -> Range<u64> {
    range.start.min(size)..range.end.min(size)
}

fn bounds(range: &Range<u64>) -> Range<usize> {
    range.start as usize..range.end as usize
}

fn is_one_extent(range: &Range<u64>) -> bool {
    range.start / EXTENT == (range.end - 1) / EXTENT
}

/// Bytes in pinned pages; those that are there because they were read ahead came from disk.
fn of_extent(Extent { pages, is_ahead }: Extent, range: &Range<u64>) -> (Level, Data) {
    let from = (range.start % EXTENT) as usize;
    let len = (range.end - range.start) as usize;
    (if is_ahead { Level::Disk } else { Level::Ram }, Data::Pages(pages, from..from + len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_clipped_to_the_blob() {
        assert_eq!(clipped(&(0..100), 40), 0..40);
        assert!(clipped(&(40..100), 40).is_empty() && clipped(&(90..100), 40).is_empty());
        assert!(is_one_extent(&(0..EXTENT)) && !is_one_extent(&(EXTENT - 1..EXTENT + 1)));
        assert!(is_one_extent(&(EXTENT..EXTENT + 1)));
    }
}
