//! A closed-loop HTTP/1.1 load generator: one thread, epoll, keep-alive, every connection with one request under way.
//!
//! `plan` says what to send, `connection` moves one request and its response, `engine` drives all connections and keeps
//! the clock, `report` turns what happened into one line of JSON. Called by `src/bin/load.rs`.

pub mod connection;
pub mod engine;
pub mod plan;
pub mod report;
pub mod response;
