//! The FUSE wire format, the mount and its transports: useful by itself, knows no engine and no crate of ours.
//!
//! An operation comes in as an enum, a reply goes out as a value, and nothing here waits, allocates or logs.
//! - `wire`: the kernel's structures, numbers and flags, as they are.
//! - `request`: bytes → [`Request`], of a classic read of the device or of the areas of FUSE over io_uring.
//! - `operation`: what is asked, all of 7.45; [`records`] are arrays in it.
//! - `reply`: [`Reply`] → bytes; `attributes` and `directory` are what goes into it.
//! - `negotiation`: INIT, what is agreed with the kernel.

mod arguments;
pub mod attributes;
pub mod directory;
pub mod negotiation;
pub mod operation;
pub mod records;
pub mod reply;
pub mod request;
pub mod wire;

pub use attributes::{Attributes, Entry, Kind, Timestamp};
pub use directory::{DirectoryEntry, DirectoryPage, DirectoryPlusPage};
pub use negotiation::{Agreed, Answer, Offer, Refusal, Wants, negotiate};
pub use operation::Operation;
pub use reply::{Encoded, Opened, Reply, StatFs};
pub use request::{Malformed, Request};
