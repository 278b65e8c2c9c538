//! The tier: the page store under blobcache and slicecache. RAM (arena and pinned page cache) over disk (packed segments and
//! object files).
//!
//! | file | holds |
//! |---|---|
//! | `names` | every name and size on disk |
//! | `record` | what is said in the journals |
//! | `digest`, `index` (with `listing`), `policy` (with `fifo`, `ghosts`) | pure state: which objects, where, and what stays in RAM |
//! | `origins` | pure too: where objects came from, for the time when they are gone |
//! | `prefetch` | pure too: what sequential readers will want next |
//! | `disk_policy`, `admission` | pure state: which of the evictable objects stay on disk, and which come there |
//! | `disk` | one data directory as one column sees it |
//! | `checkpoint` | all a column knew, in one file |
//! | `object` | streaming a larger object into a file of its own |
//! | `shard` | the owner of a column's objects: get, put, delete, list, load, upkeep, scrub |
//! | `pace` | pure: how fast the scrubber may read |
//! | `reader` | the path of bytes that are not in RAM: disk, checksum, out |
//! | `data_dir` (with `text_file`), `members`, `recover` | taking possession of a directory; which belong together; disk → state |
//!
//! Path of a small object in: the owner appends it to its pack journal; one write and one sync later it is in the index. It comes
//! into RAM when it is read. Path of a large one: the receiving column streams it into `incoming/`, synced; the owner renames
//! it to its name, syncs the directory, appends an index record. Out: RAM, else a verified read of the blocks asked for. A
//! small object asked for again moves to pinned pages of its segment; an extent of a large one is pinned in the page cache
//! when it is asked for and there is room, or for the second time.
//!
//! Measured before the format was fixed (CPU of the sender in µs per MiB over loopback, 16 connections, discarding reader;
//! `benches`, `body_path --conns 16`):
//!
//! | bytes | sendmsg, huge pages | the same, SO_SNDBUF 512 KiB | sendfile, page cache | MSG_ZEROCOPY |
//! |---|---|---|---|---|
//! | 64 KiB | 244 | 234 | 199 | 403 |
//! | 1 MiB | 194 | 129 | 288 | 312 |
//! | 4 MiB | 191 | 142 | 210 | 244 |
//! | 64 MiB | 203 | 152 | 152 | 251 |
//!
//! So ZEROCOPY is not built, connections have 512 KiB of send buffer, and pinned pages go out by sendfile from 48 to 512 KiB
//! and by copying beyond. Object files hold the object's bytes and nothing else, so the kernel can serve them.
//!
//! What is verified, and when: every byte that leaves here was, with CRC32C, since it last came from the disk. What nobody reads is
//! looked at by the scrubber (`Shard::scrub`), and once at the start if the node is told to (`Shard::verify`). Damage that any of
//! them finds is counted, never served, and mended by the next put of the object. Pinned pages are those of the page cache:
//! another process that may write to our files can change them after they were verified. `Plan::shared_pages` forbids them; then
//! everything in RAM is in private memory, larger objects always come from the disk, and nothing is read ahead.
//!
//! Invariants
//! 1. An acknowledged write is on stable storage, data and index record both.
//! 2. What leaves here was verified since it last came from the disk.
//! 3. Disk bytes never pass the budget; RAM never passes the arena's length plus what it lent to pinned pages.
//! 4. The operations on one digest happen one after the other.

mod admission;
mod checkpoint;
mod data_dir;
mod digest;
mod disk;
mod disk_policy;
mod fifo;
mod ghosts;
mod index;
mod listing;
mod members;
mod names;
mod object;
mod origins;
mod pace;
mod policy;
mod prefetch;
mod reader;
mod readiness;
mod record;
mod recover;
mod shard;
mod text_file;

pub use data_dir::{DataDir, DataDirError, Guard};
pub use digest::{Digest, DigestError};
pub use disk::{DISKS_MAX, Disk, DiskPlan};
pub use disk_policy::DiskPolicy;
pub use index::{Keep, LIST_MAX};
pub use members::{check as check_members, remember as remember_members};
pub use names::{BLOCK_BYTES, EXTENT_BYTES, Names, PACKED_BYTES_MAX};
pub use object::{Incoming, ObjectWriter, WRITE_BYTES, WRITES_MAX, disk_bytes};
pub use policy::Policy;
pub use prefetch::{Counts as PrefetchCounts, Place, Prefetch, Read};
pub use reader::{ObjectReader, ReadError};
pub use readiness::NeverReady;
pub use recover::{RecoverError, Recovered, recover_all};
pub use shard::{Extent, Found, Object, Pinned, Plan, PutError, ScrubCounts, Shard, Stats, Stored, Stretch};

/// The pure parts, for the bench program that counts their instructions and for fuzzing; engines have no use for them.
pub mod parts {
    pub use super::checkpoint::{Contents, Part, Trailer, read_part, read_trailer};
    pub use super::data_dir::{format_text, read_format_text};
    pub use super::index::{Entry, Index, NOT_HELD, Place};
    pub use super::object::{decode_sums, encode_sums};
    pub use super::policy::Policy;
    pub use super::record::{Entry as Read, Origin, Record, Said, covered, read};
    pub use crate::journal::{Batch, Frame, Purpose, batch_bytes, check_data, encode_batch};
}
