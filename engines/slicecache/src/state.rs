//! What is decided: synchronous, on owned state. No I/O, clock, randomness or locks: time, seeds and bytes are parameters.
//!
//! | file | decides |
//! |---|---|
//! | `fields` | the fields of a message, as the rest reads them |
//! | `cache_control`, `freshness` | what may be stored, how long it is fresh, what a stored answer is good for (RFC 9111, 5861) |
//! | `plain` | which requests wish nothing but what they name |
//! | `forward` | which fields go where, and which requests pass by the cache |
//! | `hops` | how many times an OPTIONS or TRACE may still be forwarded |
//! | `key` | what is one object: cache keys, Vary, names of slices in the tier |
//! | `validator` | what tells two versions apart |
//! | `ranges` | what a client's conditions and Range get: 200, 206, 304, 412, 416 (RFC 9110 §13, §14) |
//! | `slices` | where slices begin and end, the first run, how many at a time |
//! | `subreply` | what an origin's answer means |
//! | `retry`, `breaker` | when a fetch is tried again, and when an origin is left alone |
//! | `health` | whether an origin is asked at all |
//! | `turns` | who is next when an origin's connections are all in use |
//! | `passed` | whose answers, passed through, are large |
//! | `object`, `fill` | one object: who waits for what, what to fetch next, which version holds |
//! | `purge` | what was purged |
//! | `status` | what the client is told: Via, Age, Cache-Status, X-Cache |

pub mod breaker;
pub mod cache_control;
pub mod fields;
pub mod fill;
pub mod forward;
pub mod freshness;
pub mod health;
pub mod hops;
pub mod key;
pub mod object;
pub mod passed;
pub mod plain;
pub mod purge;
pub mod ranges;
pub mod retry;
pub mod slices;
pub mod status;
pub mod subreply;
pub mod turns;
pub mod validator;
