//! The FUSE wire format, the mount and its transports: useful by itself, knows no engine and no crate of ours.
//!
//! | file | holds |
//! |---|---|
//! | `mount` | mount(2) or `fusermount3`, unmount, abort, what a crash left behind |
//! | `device` | a queue: requests read from `/dev/fuse`, replies written, clones, files for passthrough |
//! | `splice` | replies made of file pages, without a copy in user space |
//! | `uring` | FUSE over io_uring: requests and replies in shared memory |
//! | `notify` | what the daemon tells the kernel unasked |

pub mod device;
pub mod mount;
pub mod notify;
pub mod splice;
pub mod uring;

/// Bytes of `fuse_in_header`, with which every request begins.
pub const IN_HEADER_BYTES: usize = 40;

/// Bytes of `fuse_out_header`, with which every reply begins.
pub const OUT_HEADER_BYTES: usize = 16;
