//! The lock-free pieces of `runtime/`, compiled from the very same files against loom.
//!
//! Caller: `tests/mesh.rs`, through `loom-tests/run`. Invariant: no source of its own; the module names are
//! those of `runtime`, so that `crate::` paths inside the files mean the same here.
#![cfg(loom)]

#[path = "../../runtime/src/mesh/doorbell.rs"]
pub mod doorbell;
#[path = "../../runtime/src/mesh/lane.rs"]
pub mod lane;
#[path = "../../runtime/src/mesh/spsc.rs"]
pub mod spsc;
#[path = "../../runtime/src/sync.rs"]
pub mod sync;

/// Stands for `runtime/src/mesh.rs`: rustc would look for the children of an included file in the wrong folder.
pub mod mesh {
    pub use crate::{doorbell, lane, spsc};
}
