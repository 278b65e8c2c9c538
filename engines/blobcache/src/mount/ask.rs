//! What a mount asks of the column that owns a blob, and the answers: plain data that travels between columns inside
//! [`crate::api::Request::Node`].
//!
//! Units: monotonic nanoseconds, bytes.

use super::data::Data;
use super::failure::Failure;
use super::inodes::Inode;
use runtime::tier::{Digest, Object};
use std::ops::Range;
use std::path::PathBuf;

/// Connections that a node can have: `--mount` and `--mount-ro`.
pub const CONNECTIONS_MAX: usize = 2;

/// Asked of the owner.
#[derive(Debug)]
pub enum NodeRequest {
    /// The node of a blob, counted once; waits until then for an origin to say how large the blob is.
    Lookup(Digest, u64),
    /// The same of blobs of a listing; what is not stored is not fetched.
    Enter(Vec<Digest>),
    /// What is known of a node.
    Inode(u64),
    /// The kernel forgets so many lookups of nodes.
    Forget(Vec<(u64, u64)>),
    /// A handle.
    Open {
        /// On which node.
        node: u64,
        /// Whether the kernel may be given the file.
        passthrough: bool,
        /// Until then an origin may be waited for.
        until_ns: u64,
    },
    /// What came of making a backing id: the id and the version of the file.
    Made(u64, Option<(i32, u64)>),
    /// A handle of a small file was opened elsewhere: of which node, and its number.
    Opened(u64, u64),
    /// A handle of a node is gone; one that was opened elsewhere by its number, others are 0.
    Release(u64, u64),
    /// Bytes.
    Read(Read),
}

/// A read of a blob's bytes.
#[derive(Debug)]
pub struct Read {
    /// Of which node.
    pub node: u64,
    /// Which; beyond the end there are none.
    pub range: Range<u64>,
    /// Until then they may be waited for.
    pub until_ns: u64,
    /// What was found out about the first of them.
    pub first: First,
}

/// Where the first bytes of a read are. The tier is told of a read once, so that it sees who reads in sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// Nobody looked.
    Unknown,
    /// They are being read ahead.
    Coming,
    /// On disk.
    Disk,
}

/// A node and the size of its blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entered {
    /// `None`: too many are known.
    pub node: Option<u64>,
    /// Which blob.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
}

/// How a handle is opened.
#[derive(Debug)]
pub enum OpenAs {
    /// Through the page cache.
    Cached,
    /// By the kernel, with this backing id.
    Backed(i32),
    /// The asker is to make a backing id of this version of this file, and to say what came of it.
    MakeBacking(PathBuf, u64),
}

/// The owner's answer.
pub enum NodeReply {
    /// To `Lookup`.
    Entered(Result<Entered, Failure>),
    /// To `Enter`: those that are there, in order.
    Listed(Vec<Entered>),
    /// To `Inode`.
    Inode(Option<Inode>),
    /// To `Open`.
    Opened(Result<OpenAs, Failure>),
    /// To `Made`: whether the id is kept; if not, it is the asker's to close.
    Kept(bool),
    /// To `Read`.
    Data(Result<Data, Failure>),
    /// To `Forget`, `Opened` and `Release`.
    Noted,
    /// To anything: there is no such connection.
    Unmounted,
}

/// The part of a file that a read wants, and where it is looked for.
#[derive(Clone, Copy)]
pub struct Part<'p> {
    /// Of which blob.
    pub digest: &'p Digest,
    /// Its file.
    pub object: &'p Object,
}
