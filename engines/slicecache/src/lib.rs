//! Slicecache: a caching proxy that fetches large objects in slices and never mixes two versions of one.
//!
//! | room | holds |
//! |---|---|
//! | `config` | what can be set, checked; presets |
//! | `limits` | every bound of the engine, with its reason |
//! | `state` | all that is decided: synchronous, without I/O, clock, randomness or locks |
//! | `log` | what is written down, and its bytes: purges, what is known of an object |
//! | `api` | requests to the owner of an object, and its replies, as plain data |
//! | `serve` | HTTP ↔ `api`; what is passed through |
//! | `columns` | the owners of all columns, as seen from one |
//! | `shard` | the owner: takes events, asks the state, does what it says; `live` is one object in use |
//! | `fetch`, `upstream` | requests to origins; one origin's connections, turns, breaker |
//! | `health` | probes of origins |
//! | `kept` | answers that are kept whole in memory |
//! | `access` | the access log's lines, in batches |
//! | `store` | slices and records into the tier and out of it |
//! | `room`, `metrics` | bytes and places that are bounded; counts |
//! | `planted` | bugs that tests plant, to show that they are caught |
//!
//! On disk everything is an object of the tier (`runtime::tier`) under a private name, all of one object on one shard: its slices and
//! its record, which may go when the disk is full, and purges, which may not.
//!
//! Words: an *object* is what a cache key names; a *version* of it is named by one validator and one size; a *slice* is an
//! aligned stretch of a version; a *part* is what one range of a client's request asks for; a *run* is the stretch of bytes
//! that one request to the origin asks for.
//!
//! Path of a request: `state::key` names the object, or says that the request must pass by the cache → its owner's
//! `state::purge` and `state::freshness` say what a stored version is good for → `state::object` answers from it, has it
//! revalidated once for all who wait (and once more for each of them if what comes may not be used twice unasked), or asks the origin for a first run (`state::slices`) → `state::subreply` says what the
//! origin's answer means → `state::ranges` makes of the client's Range, now that size and validator are known, the parts of the
//! answer → `state::fill` gives each reader its bytes in order: held slices from the tier, those that come as they come, and
//! says which slices to fetch next. `state::retry` and `state::breaker` say when a failed fetch is tried again. `state::status`
//! writes what the client is told of all this. A request that wishes nothing but what it names (`state::plain`) takes a short cut where
//! RAM has all of its answer in one stretch (`shard::hot`): the same state is asked, the fields were written before.
//!
//! Invariants
//! 1. All bytes of a response are of one version: what the origin sends is of the version that was asked for, or it is not
//!    used. When the origin has another version, every response of the old one ends, and its slices are dropped.
//! 2. A slice is fetched by at most one request at a time, however many wait for it.
//! 3. Bytes of a fetch count from exactly where the bytes before them ended; a retry resumes there.
//! 4. In memory are of an object at most one slice for each reader and what may be fetched ahead: together
//!    `limits::RESPONSE_BYTES_MAX` for one reader.
//! 5. An object is revalidated by one request, not by one a slice, and for one request alone only where the origin or the client
//!    wants it so.
//! 6. What was purged is never served again: an entry is of the generation in which its fetch began, and a purge is written down
//!    before it is answered. What the rules for purges forget is purged more, never less.
//! 7. Nothing is stored of which RFC 9111 §3 says that it must not be, and no answer to a request whose key does not cover it.

#![forbid(unsafe_code)]

pub mod access;
pub mod api;
pub mod columns;
pub mod config;
mod fetch;
mod health;
mod kept;
pub mod limits;
mod live;
pub mod log;
pub mod metrics;
pub mod planted;
mod room;
pub mod serve;
pub mod shard;
pub mod state;
mod store;
mod upstream;

pub use columns::Columns;
pub use serve::SliceService;
pub use shard::Owner;
