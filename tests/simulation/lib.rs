//! The node on the deterministic twin: started through the same wiring as the binary, asked through bytes on simulated
//! connections, crashed and started again, and held against a naive model.
//!
//! | file | holds |
//! |---|---|
//! | `boot` | a node on the twin: recovery, columns, restarts |
//! | `client` | HTTP/1.1 as a client speaks it, over simulated connections |
//! | `model` | what each blob may be, after everything that was acknowledged |
//! | `workload` | clients that do anything at random and tell the model |
//! | `run` | one seed: boots, crashes, faults, the last check |
//! | `random` | many seeds; determinism; every kind of fault fires |
//! | `script` | short fixed workloads, and a look at what a disk holds after them |
//! | `images` | short workloads, the power cut at every change of the disk; other numbers of columns |
//! | `sweep` | the N-th operation of the disk fails, for every N |
//! | `disks` | one of two data directories fails under large objects |
//! | `flips`, `harm` | one byte of a data directory changes, for every kind of file; what may come of it |
//! | `bits` | every single bit of its small text files |
//! | `planted` | bugs planted on purpose, each caught |
//! | `abandon`, `origin` | fetches given up anywhere, from an origin on the twin |
//! | `mount` | what a kernel would ask of a mount, without a kernel |
//! | `slice` | the caching proxy, its lying origin and its clients |
//! | `goodbye` | a connection of HTTP/2 that was idle for too long |
//! | `boundaries` | who may name the twin |
//!
//! `BASALT_SEED=7` replays one seed; `BASALT_SEEDS=1000 BASALT_OPS=2000` is the soak.

#![cfg(test)]

mod abandon;
mod bits;
mod boot;
mod boundaries;
mod client;
mod disks;
mod flips;
mod goodbye;
mod harm;
mod images;
mod model;
mod mount;
mod origin;
mod planted;
mod random;
mod run;
mod script;
mod slice;
mod sweep;
mod workload;
