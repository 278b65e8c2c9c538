//! Requests to the owner of a blob, and its replies: plain data that travels between columns.

use crate::fetch::{Progress, Seen, Wish};
use crate::mount::ask::{NodeReply, NodeRequest};
use bytes::Bytes;
use runtime::metrics::Snapshot;
use runtime::tier::{Digest, Extent, Found, Incoming, Keep, Object, PutError, ReadError, Stored};
use std::ops::Range;

/// Asked of the owning column.
#[derive(Debug)]
pub enum Request {
    /// The blob: its bytes, or its file.
    Get(Digest),
    /// The size alone.
    Size(Digest),
    /// The extent that holds these bytes of its file, if it is in RAM or about to be.
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
    /// Bytes that could be dropped from disk.
    Evictable,
    /// Delete the blob.
    Delete(Digest),
    /// A place among those who wait for a fetch; it begins if need be, and what it brings is kept so.
    Fetch(FetchKey, Whence, Keep),
    /// News of a fetch that was joined, beyond what was seen.
    FetchNews(u64, Seen),
    /// What readers of the asking column want of a fetch that was joined.
    FetchWish(u64, Wish),
    /// A fetch that was joined is not wanted any more.
    FetchLeave(u64),
    /// Where a blob came from, for the time when it is gone.
    Remember(Digest, String),
    /// Keep a blob that is there at least so well.
    Keep(Digest, Keep),
    /// A page of this column's blobs after a digest.
    List(Option<Digest>, usize),
    /// A reader found the file damaged.
    Damaged(Digest),
    /// What a mount wants to know of a blob, by connection.
    Node(usize, NodeRequest),
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
    Extent(Option<Extent>),
    /// To `PutPacked` and `Commit`.
    Stored(Result<Stored, PutError>),
    /// To `Evictable`.
    Evictable(u64),
    /// To `EvictFromDisk`: bytes of the blobs dropped.
    Evicted(Result<u64, PutError>),
    /// To `Delete`: whether there was one.
    Deleted(Result<bool, PutError>),
    /// To `List`: digests in order with their sizes; `None`: there may be more, where they cannot be read.
    Page(Option<Vec<(Digest, u64)>>),
    /// To `Fetch`.
    Joined(Joined),
    /// To `FetchNews`; `None`: there is no such fetch.
    News(Option<Box<Progress>>),
    /// To `Keep`.
    Kept(Result<(), PutError>),
    /// To `Damaged`, `Remember`, `FetchWish` and `FetchLeave`.
    Noted,
    /// To `Node`.
    Node(NodeReply),
    /// To `Scrape`.
    Snapshot(Box<Snapshot>),
}

/// What a fetch is known by; equal ones are one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FetchKey {
    /// The blob that it must bring.
    Digest(Digest),
    /// Where it comes from, when nobody said what it is.
    Url(String),
}

/// Where a fetch is to take its bytes from if it is not under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whence {
    /// From here.
    Url(String),
    /// From where it came before.
    Remembered,
}

/// The answer to one who wants a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joined {
    /// Nothing is to be fetched: it is stored, and so large.
    Stored(u64),
    /// Its number among the fetches of that column.
    Job(u64),
    /// It is not stored, not under way, and nobody knows where it comes from.
    Unknown,
    /// Too many fetches are under way.
    Busy,
}

/// A blob that was fetched, or was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// Why a fetch brought nothing. Nothing was stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The origin's status says no.
    #[error("the origin answered {0}")]
    Origin(u16),
    /// The origin took too long.
    #[error("{0}")]
    Timeout(String),
    /// No connection, or not an answer that can be used.
    #[error("{0}")]
    Unusable(String),
    /// The origin's content changed under the fetch.
    #[error("the origin's content changed while it was fetched, twice")]
    Changed,
    /// The bytes have another digest.
    #[error("the origin's content is {0}")]
    Mismatch(Digest),
    /// Quota or disk is full.
    #[error("no space left")]
    NoSpace,
    /// Too much is under way: try again later.
    #[error("too many fetches are under way")]
    Busy,
    /// The blob cannot be stored.
    #[error("{0}")]
    Store(String),
}
