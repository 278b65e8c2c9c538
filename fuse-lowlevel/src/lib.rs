//! The FUSE wire format, the mount and its transports: useful by itself, knows no engine and no crate of ours.
//!
//! Empty until the mount is built (passthrough, FUSE over io_uring, cloned device descriptors). What is fixed already: an
//! operation comes in as an enum, a reply goes out as a value.
