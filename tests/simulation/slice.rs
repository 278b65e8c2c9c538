//! The caching proxy on the deterministic twin: the node started through the same wiring as the binary, an origin that changes,
//! lies, hangs and breaks off on one side of it, clients that ask anything on the other, purges, faults of the disk, crashes and
//! restarts with another number of columns; every answer held against what the origin really had and sent.
//!
//! | file | holds |
//! |---|---|
//! | `objects` | what the origin has: objects, their versions, how long an answer about each may be used |
//! | `lies` | the ways in which an origin's answer goes wrong; each alone, at every place of a short script |
//! | `origin`, `reply` | the origin on simulated connections: what it answers; what it was asked and sent is written down |
//! | `ask` | what a client asks, and what the naive answer to its Range is |
//! | `client` | HTTP/1.1 as a client of the proxy speaks it: slow, quick, or gone in the middle |
//! | `judge`, `parts` | whether an answer may be what it is |
//! | `world` | what all of them share |
//! | `workload` | clients that ask, purge and change at random |
//! | `run`, `settled` | one seed: boots, crashes, faults; then an honest world in which everything heals and nothing is left |
//! | `seeds` | many seeds; determinism |
//! | `scenes` | what random runs meet seldom, played until it happens |
//! | `planted` | bugs planted in the slice cache, each caught |

mod ask;
mod client;
mod judge;
mod lies;
mod objects;
mod origin;
mod parts;
mod planted;
mod reply;
mod run;
mod scenes;
mod seeds;
mod settled;
mod workload;
mod world;
