//! What black-box tests stand on: the daemon as a process, clients that are strict, bytes that can
//! be told apart. Knows the promises of the command line and of HTTP, and no crate of the project.
//!
//! `node` starts, kills and restarts the real binary · `http` sends raw bytes and reads replies
//! strictly · `blobs` speaks the blob interface through it · `content` makes bytes from seeds and
//! names them · `disk` looks into data directories · `frames` sends raw HTTP/2 · `exposition` checks `/metrics` · `cgroup`
//! bounds memory · `origin` is a server to fetch from · `pki` makes certificates · `command` runs programs with a deadline · `fuse` mounts a node and
//! runs programs on the mount · `scripted` is one that says what a test's function says · `scale` asks how much to do · `skip` gives up only when told to · `varnish` is the
//! cache that ours is compared with.
//!
//! Anything that goes wrong in here panics: callers are tests.

#![forbid(unsafe_code)]

pub mod blobs;
pub mod cgroup;
pub mod command;
pub mod content;
pub mod disk;
pub mod exposition;
pub mod frames;
pub mod fuse;
pub mod http;
pub mod mount;
pub mod node;
pub mod origin;
pub mod pki;
pub mod scale;
pub mod scripted;
pub mod skip;
pub mod varnish;
