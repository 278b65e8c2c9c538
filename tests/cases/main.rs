//! The promises of a node that stores and serves blobs, shown from outside on the real binary.
//!
//! One module per promise, test names in plain words. `cargo test -p tests --release`, after
//! `cargo build --release -p basalt`. `BASALT_TEST_SEED` repeats a run that failed by chance.

mod columns;
mod concurrent;
mod crash;
mod damage;
mod device;
mod disks;
mod drain;
mod fetch;
mod fetch_ahead;
mod full;
mod hostile;
mod http2;
mod lifetime;
mod listing;
mod malformed;
mod memory;
mod metrics;
mod mount;
mod ops;
mod prefetch;
mod put;
mod quick_start;
mod ranges;
mod refetch;
mod refusals;
mod scrub;
mod slice;
mod slow;
mod stall;
mod suites;
mod tls;
mod tokens;
