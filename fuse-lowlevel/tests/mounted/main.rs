//! Real mounts on this kernel, as root: every rung, and what happens when a process is killed, stuck or gone.
//!
//! The tree answered here is built from the kernel's header by hand, so that the transports are tested without our own wire
//! types. Clients are other programs; no thread that serves touches its own mount; every scene has a time limit.

#![allow(clippy::unwrap_used, reason = "a test that fails here says where")]

mod files;
mod scene;

mod crash;
mod helper;
mod notify;
mod read_ahead;
mod rungs;
mod splice;
mod stuck;
mod uring;
