//! The buffer arena of a column: one huge-page mapping, cut into size classes, pools of 1, 4 and 16 MiB among them.
//!
//! Called by the ring (I/O buffers), the tier (objects held in RAM) and `net` (bodies).
//!
//! Invariants
//! 1. Memory in use never passes the mapping's length: the arena is the column's memory budget; past it `alloc` says `None`.
//! 2. The mapping is reserved, not touched, but for what is used and a little behind it; blocks are cut from 16 MiB chunks.
//! 3. A buffer is freed exactly once, by its home column; dropped elsewhere it travels home over the return stack, so
//!    that only the home column ever touches the free lists.
//! 4. Get and put allocate nothing once a class has been used to its high-water mark.
//! 5. Buffers of 4 KiB times a power of two are aligned to 4 KiB (O_DIRECT).
//!
//! An arena lives as long as its process: it is leaked on purpose, so buffers need no reference count to their home.

mod arena;
mod cold;
mod slab;
mod warmer;

pub use arena::{Arena, Buffer, Loan, Shared};
pub(crate) use slab::CHUNK_BYTES;
pub use slab::footprint_bytes;
