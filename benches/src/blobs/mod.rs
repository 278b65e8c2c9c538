//! Many blobs stored, replaced and read back over HTTP, every byte compared: the client of the sections `reopen`,
//! `amplification` and `sequential` of `benches/run`.
//!
//! | file | holds |
//! |---|---|
//! | `content` | what the bytes of a blob are |
//! | `client` | one blocking connection |
//! | `listing` | what is stored: number, size and digest of each, in a file |
//! | `fill` | storing, and replacing at random |
//! | `read` | reading at random while a server starts |
//! | `stream` | reading one large body again and again |
//!
//! Called by `src/bin/blobs.rs`. Threads with one blocking connection each: the load's core has nothing else to do.

pub mod client;
pub mod content;
pub mod fill;
pub mod listing;
pub mod read;
pub mod stream;
