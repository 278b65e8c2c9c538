//! The tier: the page store under blobcache and slicecache. RAM (arena and pinned page cache) over disk (packed segments and
//! object files).
//!
//! | file | holds |
//! |---|---|
//! | `names` | every name and size on disk |
//! | `record` | the bytes of a log segment |
//! | `digest`, `index`, `policy` | pure state: which objects, where, and what stays in RAM |
//! | `log`, `segment` | group commit into segments; how much of each is live |
//! | `object` | streaming a larger object into a file of its own |
//! | `shard` | the owner of a column's objects: get, put, delete, list |
//! | `reader` | the path of bytes that are not in RAM: disk, checksum, out |
//! | `data_dir`, `recover` | taking possession of a directory; disk → state |
//!
//! Path of a small object in: the owner appends it to its pack log; one write and one sync later it is in the index; it
//! comes into RAM when it is read. Path of a large one: the receiving column streams it into `incoming/`, synced; the owner renames it to its name,
//! syncs the directory, appends an index record. Out: RAM, else a verified read of the blocks asked for; an extent asked
//! for twice is pinned in the page cache and sent from there with sendfile.
//!
//! Measured before the format was fixed (CPU of sender and its softirq, µs/MiB, 4 MiB bodies over loopback): sendfile from
//! page-cache pages 144–179, sendmsg from huge pages 266–292, MSG_ZEROCOPY 449–470. So large objects are held in RAM as
//! pinned page cache and ZEROCOPY is not built; at 64 KiB a single sendmsg costs what sendfile costs.
//!
//! Invariants
//! 1. An acknowledged write is on stable storage, data and index record both.
//! 2. What leaves here was verified since it last came from the disk.
//! 3. Disk bytes never pass the budget; RAM never passes the arena's length plus what it lent to pinned pages.
//! 4. The operations on one digest happen one after the other.

mod data_dir;
mod digest;
mod index;
mod log;
mod names;
mod object;
mod policy;
mod reader;
mod record;
mod recover;
mod segment;
mod shard;

pub use data_dir::{DataDir, DataDirError};
pub use digest::{Digest, DigestError};
pub use index::{Keep, LIST_MAX};
pub use names::{BLOCK_BYTES, EXTENT_BYTES, Names, PACKED_BYTES_MAX};
pub use object::{Incoming, ObjectWriter, WRITE_BYTES, WriteError, disk_bytes};
pub use reader::{ObjectReader, ReadError};
pub use recover::{RecoverError, Recovered, recover};
pub use shard::{Found, Object, Pinned, Plan, PutError, Shard, Stats, Stored};
