//! What cache policies are judged with: request streams that imitate public traces, and the published S3-FIFO.
//!
//! Called by `benches/tests/hit_ratio.rs`. Like the rest of this library it shares no code with what it measures.

mod reference;
mod trace;
mod zipf;

pub use reference::S3Fifo;
pub use trace::{Request, Trace};
pub use zipf::Zipf;
