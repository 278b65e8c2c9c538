//! The HTTP/1.1 codec: bytes in, plain data out. No socket, clock, task or engine.
//!
//! Called by the connection driver, which owns the buffers, the deadlines and the closing. The way of a request:
//! `parse_head` → (`ChunkedDecoder` or a counted body) → `query::pairs`, `conditional`, `parse_range` →
//! `ResponseHead` (→ `Multipart`).
//!
//! Invariants of the whole directory:
//! 1. Nothing panics on any input from the wire.
//! 2. Whatever two HTTP implementations could frame differently is refused, never repaired; the driver answers with
//!    `status()` of the error and closes the connection (RFC 9112 §11.2, request smuggling).
//! 3. A refusal never heals: once a prefix was refused, no further bytes make it acceptable.
//! 4. Every bound stands in `limits`.
//!
//! Deliberately absent: `Last-Modified` (entity tags only), content codings, upgrade, CONNECT and `OPTIONS *`.

mod chunked;
pub mod conditional;
mod date;
mod framing;
mod grammar;
pub mod limits;
mod multipart;
pub mod query;
mod range;
mod request;
mod response;
mod target;

pub use chunked::{ChunkError, ChunkedDecoder, Step};
pub use date::HttpDate;
pub use framing::BodyLength;
pub use multipart::Multipart;
pub use range::{Ranges, parse_range};
pub use request::{Head, HeadError, Method, Parsed, head_may_end, parse_head};
pub use response::{CONTINUE, ResponseHead, Status};
