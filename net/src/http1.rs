//! The HTTP/1.1 codec: bytes in, plain data out. No socket, clock, task or engine.
//!
//! Called by the connection driver, which owns the buffers, the deadlines and the closing. The way of a request:
//! `parse_head` → (`ChunkedDecoder` or a counted body) → `query::pairs`, `conditional`, `parse_range` →
//! `ResponseHead` (→ `Multipart`). The way of an origin's answer: `parse_reply` → (`ChunkedDecoder` or a counted body).
//!
//! Invariants of the whole directory:
//! 1. Nothing panics on any input from the wire.
//! 2. Whatever two HTTP implementations could frame differently is refused, never repaired; the driver answers with
//!    `status()` of the error and closes the connection (RFC 9112 §11.2, request smuggling).
//! 3. A refusal never heals: once a prefix was refused, no further bytes make it acceptable.
//! 4. Every bound stands in `limits`.
//!
//! Deliberately absent: content codings, upgrade, CONNECT and `OPTIONS *`.

mod chunked;
pub mod conditional;
mod date;
mod foreign;
mod framing;
mod grammar;
pub mod limits;
mod multipart;
pub mod query;
mod range;
mod reply;
mod request;
mod response;
mod target;

pub use chunked::{ChunkError, ChunkedDecoder, Step};
pub use date::{HttpDate, parse_http_date};
pub(crate) use foreign::is_foreign;
pub use framing::{BodyLength, ReplyLength};
pub use multipart::Multipart;
pub use range::{Ranges, parse_range};
pub use reply::{ContentRange, ParsedReply, ReplyError, ReplyHead, parse_content_range, parse_reply};
pub use request::{Head, HeadError, Method, Parsed, head_may_end, parse_head};
pub use response::{CONTINUE, ResponseHead, Status};
pub(crate) use target::{is_authority, is_target_text};
