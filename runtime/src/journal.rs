//! The journal: records made durable in groups, one write and one sync each. One implementation; the tier keeps its packs
//! and its index in it, Raft and the samples will.
//!
//! | file | holds |
//! |---|---|
//! | `batch` | the bytes: batches and the records in them |
//! | `segment` | a segment file: how much of it is live, who still reads it |
//! | `store` | the segment files of a directory as one column sees them: made, recycled, opened, retired |
//! | `writer` | group commit |
//! | `memory` | buffers for what nobody's request waits for |
//! | `seed` | whether it is of the seed that its directory is said to have |
//! | `scan` | reading a segment back; what is a torn tail and what is corruption |
//!
//! A journal is an *instance*: one column's, for one purpose, from one start of the node on. Its segments are numbered upwards
//! and numbers are never used twice in a directory, so the number of a segment is its incarnation: what an earlier life
//! left in a recycled file names another segment and is never taken for new. Records are numbered without gaps (`sequence`).
//!
//! Path of a record in: `append` queues it and gives its sequence (*appended*); the committer writes all that is queued as
//! one batch, synced in the same operation (RWF_DSYNC), then wakes the callers (*synced*). At the next start `scan` reads the batches back; a new
//! instance begins, the old one's segments stay until their owner releases them.
//!
//! Invariants
//! 1. One batch is under way at a time; what arrives meanwhile forms the next one. The queue is bounded in bytes.
//! 2. A failed write or sync is never retried: every later append fails, and the owner is told once.
//! 3. A batch says up to which sequence all before it was synced. Damage below any such claim is corruption, an error that
//!    names file and offset; damage that no claim covers is a torn tail and is cut: nothing in it was acknowledged.
//! 4. A segment is allocated whole before its first batch, so a full disk is met there and not in a group.

mod batch;
mod memory;
mod scan;
mod seed;
mod segment;
mod store;
mod writer;

pub use batch::{
    ALIGNED_BYTES_MIN, BATCH_HEADER_BYTES, Batch, BatchError, Frame, META_BYTES_MAX, Meta, Purpose,
    SECTOR_BYTES, VERSION, batch_bytes, check_data, encode_batch,
};
pub(crate) use memory::buffer_in_time;
pub use scan::{Found, ScanError, ScanPlan, Scanned, What, peek, scan};
pub use seed::is_of_seed;
pub use segment::{Reading, Segment};
pub use store::{MakingRoom, NUMBER_MAX, Store, is_full, parse_name, segment_path};
pub use writer::{Appended, Journal, JournalError, JournalPlan, Mark, Written};
