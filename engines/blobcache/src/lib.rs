//! Blobcache: content-addressed blobs in RAM and on disk, over HTTP.
//!
//! | room | holds |
//! |---|---|
//! | `api` | requests and replies as plain data |
//! | `serve` | HTTP ↔ `api`; picks the owning column (`route`, `get`, `put`, `list` are its parts) |
//! | `shard` | the owner: answers requests of every column from the tier |
//! | `fetch` | blobs from origins, each once however many ask |
//! | `mount` | blobs as files: answers of the kernel's FUSE operations |
//! | `limits`, `metrics` | bounds; counts |
//!
//! State, log and recovery are the tier's (`runtime::tier`): a blob is a tier object and nothing more.
//!
//! Path of a GET: `route` parses the head → the owner is `shard map [first byte of the digest]` → this column: `Owner`
//! directly; another: one message → `get` answers from RAM (arena bytes or pinned file pages), or opens the object file on
//! *this* column and sends verified blocks. Path of a PUT: `put` hashes while it receives → up to 64 KiB: bytes go to the
//! owner, who packs them; more: a file in `incoming/`, synced, which the owner names.
//!
//! Path of a fetch: `serve/fetch` → the owner of its key (`fetch`) → parts from the origin in parallel → the same two ways in.
//!
//! Invariants
//! 1. A 201 means that data and index record are on stable storage.
//! 2. A body is never in RAM whole, only in a few buffers of it.
//! 3. Nothing is stored under a digest that is not the SHA-256 of its bytes.
//! 4. Readers under way finish after a DELETE: they hold the bytes or the open file.
//! 5. A blob stored is never evicted from disk unless it was fetched or put with `durability=none`; when the
//!    others use the quota up, PUT is 507.
//!
//! Path of a read of a mounted file: `mount`.
//!
//! Not here yet: names (`/files`), gRPC.

#![forbid(unsafe_code)]

pub mod api;
pub mod fetch;
mod limits;
pub mod metrics;
pub mod mount;
pub mod serve;
pub mod shard;

pub use limits::Limits;
pub use serve::BlobService;
pub use shard::{Columns, Owner, Seen};
