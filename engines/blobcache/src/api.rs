//! Requests to the owner of a blob, and its replies: plain data that travels between columns.

use bytes::Bytes;
use runtime::metrics::Snapshot;
use runtime::resident::Resident;
use runtime::tier::{Digest, Found, Incoming, Keep, Object, PutError, ReadError, Stored};
use std::ops::Range;

/// Asked of the owning column.
#[derive(Debug)]
pub enum Request {
    /// The blob: its bytes, or its file.
    Get(Digest),
    /// The size alone.
    Size(Digest),
    /// The pinned pages of the extent that holds these bytes of its file, if they are in RAM or about to be.
    Extent {
        /// Which blob.
        digest: Digest,
        /// Which bytes, of one extent.
        read: Range<u64>,
        /// Its file.
        object: Object,
    },
    /// Store a small blob.
    PutPacked(Digest, Bytes, Keep),
    /// Name a file that was received.
    Commit(Digest, Incoming, Keep),
    /// Drop evictable blobs of this many bytes from disk.
    EvictFromDisk(u64),
    /// Delete the blob.
    Delete(Digest),
    /// A page of this column's blobs after a digest.
    List(Option<Digest>, usize),
    /// A reader found the file damaged.
    Damaged(Digest),
    /// Counts, for the ops listener.
    Scrape,
}

/// The owner's answer.
pub enum Reply {
    /// To `Get`.
    Found(Result<Option<Found>, ReadError>),
    /// To `Size`.
    Size(Option<u64>),
    /// To `Extent`.
    Extent(Option<Resident>),
    /// To `PutPacked` and `Commit`.
    Stored(Result<Stored, PutError>),
    /// To `EvictFromDisk`: bytes of the blobs dropped.
    Evicted(Result<u64, PutError>),
    /// To `Delete`: whether there was one.
    Deleted(Result<bool, PutError>),
    /// To `List`: digests in order with their sizes.
    Page(Vec<(Digest, u64)>),
    /// To `Damaged`.
    Noted,
    /// To `Scrape`.
    Snapshot(Box<Snapshot>),
}
