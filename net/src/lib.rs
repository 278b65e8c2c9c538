//! Protocols over the runtime's connections. Knows no engine.
//!
//! | file | holds |
//! |---|---|
//! | `http1` | the HTTP/1.1 codec: pure functions on bytes |
//! | `server` | a connection's life: read a head, route it, let the service answer, again |
//! | `http2` | the same life over HTTP/2: hyper, with a task for each request |
//! | `client` | GETs from origins: pool, TLS, redirects, answers |
//! | `door` | what a listener asks of those who come: TLS with an identity of `tls`, one of `tokens` |
//! | `transport` | a client's connection, plain or TLS |
//! | `stop` | the news that no more requests are taken |
//! | `live` | values that are replaced while columns use them |
//! | `exchange` | one request and its answer, as the service sees them |
//! | `input` | received bytes that have not been used yet |
//! | `deadline` | who has waited too long, per column |
//!
//! Path of a request: `server` reads a head → `http1::parse_head` → `Service::route` makes it the service's own value →
//! `Service::respond` reads the body from and answers through [`Exchange`].

#![forbid(unsafe_code)]

pub mod client;
pub mod deadline;
mod door;
pub mod exchange;
pub mod http1;
mod http2;
mod input;
mod live;
pub mod server;
mod stop;
pub mod tls;
pub mod tokens;
mod transport;

pub use deadline::Deadlines;
pub use door::Door;
pub use exchange::Exchange;
pub use live::Live;
pub use server::{Limits, Refusal, Server, Service, refuse};
