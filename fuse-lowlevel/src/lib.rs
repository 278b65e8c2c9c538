//! The FUSE wire format, the mount and its transports: useful by itself, knows no engine and no crate of ours.
//!
//! An operation comes in as an enum, a reply goes out as a value. The pure part waits, allocates and logs nothing:
//! - `wire`: the kernel's structures, numbers and flags, as they are.
//! - `request`: bytes → [`Request`], of a classic read of the device or of the areas of FUSE over io_uring.
//! - `operation`: what is asked, all of 7.45; [`records`] are arrays in it.
//! - `reply`: [`Reply`] → bytes; `attributes` and `directory` are what goes into it.
//! - `negotiation`: INIT, what is agreed with the kernel.
//!
//! The system part moves bytes and knows their headers only:
//! - `mount`: mount(2) or `fusermount3`; unmount, abort, what a crash left behind.
//! - `device`: a queue: requests read from `/dev/fuse`, replies written; its clones; files for passthrough.
//! - `splice`: replies made of file pages, without a copy in user space.
//! - `uring`: FUSE over io_uring, requests and replies in shared memory.
//! - `notify`: what the daemon tells the kernel unasked.

mod arguments;
pub mod attributes;
pub mod device;
pub mod directory;
pub mod mount;
pub mod negotiation;
pub mod notify;
pub mod operation;
pub mod records;
pub mod reply;
pub mod request;
pub mod splice;
pub mod uring;
pub mod wire;

pub use attributes::{Attributes, Entry, Kind, Timestamp};
pub use directory::{DirectoryEntry, DirectoryPage, DirectoryPlusPage};
pub use negotiation::{Agreed, Answer, Offer, Refusal, Wants, negotiate};
pub use operation::Operation;
pub use reply::{Encoded, Opened, Reply, StatFs};
pub use request::{Malformed, Request};
