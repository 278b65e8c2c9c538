//! The ground under Basalt's engines: a column per core, one io_uring each, and nothing shared but messages.
//!
//! | file | holds |
//! |---|---|
//! | `io` | the seam: what engines may ask of the machine (files, connections, clock, tasks) |
//! | `classes` | which disk operation of a column starts next, by class |
//! | `ring` | its real implementation: one io_uring a column, the driver task, files, connections, listeners |
//! | `twin` | its deterministic twin: executor, clock, disk, network and faults out of one seed |
//! | `column` | pinned executors, started and stopped together |
//! | `mesh` | bounded queues between columns and the doorbell that wakes a sleeper |
//! | `call` | requests and answers over the mesh |
//! | `buffer` | the huge-page arena: pools of 1, 4 and 16 MiB and smaller classes |
//! | `resident` | file pages pinned in the page cache, sent without a copy |
//! | `journal` | records made durable in groups; what is a torn tail and what is corruption |
//! | `tier` | the page store under blobcache and slicecache: RAM over disk |
//! | `shards`, `cpulist`, `cpus` | who owns what, which CPUs we may use |
//! | `budget`, `clock`, `usage`, `metrics`, `stall` | bytes, time, CPU, counts, and tasks that took too long |
//! | `permits`, `turns` | a bounded number of things under way; places for what is read for clients, who may be slow |
//! | `patience` | waiting, but not for ever |
//! | `waiters` | tasks that wait for what happens to all of them at once |
//! | `hash` | hashing seeded through the seam |
//! | `planted` | bugs that tests plant, to show that they are caught |
//! | `probe`, `signals` | what this machine's io_uring can do; signals as values |
//!
//! Only this crate names glommio, and only it and `fuse-lowlevel` name io-uring. `unsafe` lives here and there.
//!
//! Words used by all engines, each with one meaning: *append* (into memory and queue) · *sync* (made durable) · *seal* (a
//! segment takes no more) · *evict* (drop, can be fetched again) · *recover* (disk → memory) · *serve* (answer) · *route*
//! (choose the owner) · *pin* (keep in RAM). Units come last in names (`_bytes`, `_ns`, `_max`).

pub mod budget;
pub mod buffer;
pub mod call;
pub mod classes;
pub mod clock;
pub mod column;
pub mod cpulist;
pub mod cpus;
mod hash;
pub mod io;
pub mod journal;
pub mod mesh;
pub mod metrics;
pub mod oneshot;
pub mod patience;
pub mod permits;
pub mod planted;
pub mod probe;
pub mod resident;
pub mod ring;
pub mod shards;
pub mod signals;
pub mod stall;
pub mod sync;
pub mod tier;
pub mod turns;
pub mod twin;
mod usage;
pub mod waiters;
