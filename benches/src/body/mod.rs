//! The body path: what it costs to put bytes that are already in RAM on a loopback socket, method by method.
//!
//! `server` is a raw non-blocking epoll loop without HTTP parsing, `reader` its client, `method` the ways to send.
//! Called by `src/bin/body_path.rs`.

pub mod method;
pub mod reader;
pub mod server;

/// Bytes of the header before every body.
pub const HEADER_BYTES: usize = 200;
/// Bytes of a request.
pub const REQUEST_BYTES: usize = 64;
