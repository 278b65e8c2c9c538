//! The kernel's structures of `include/uapi/linux/fuse.h`, versions 7.31 to 7.45, byte for byte.
//!
//! Names and fields are those of the header, without the `fuse_` prefix; integers are of the machine's own byte order, as there.
//! Every structure is plain bytes without hidden padding (derived, not promised), and its size is asserted at compile time.
//! Read with `read_from_prefix` (a copy: the buffers are not aligned), written with `as_bytes`.

#![allow(missing_docs, reason = "names and meaning are those of include/uapi/linux/fuse.h")]

/// One structure and its size in bytes.
macro_rules! wire {
    ($(#[$meta:meta])* $name:ident: $bytes:literal { $($field:ident: $kind:ty),* $(,)? }) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq,
            zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout,
        )]
        #[repr(C)]
        pub struct $name { $(pub $field: $kind),* }
        const _: () = assert!(size_of::<$name>() == $bytes);
    };
}

pub mod flags;
pub mod input;
pub mod notify;
pub mod opcode;
pub mod output;
pub mod ring;

/// `FUSE_KERNEL_VERSION`.
pub const MAJOR: u32 = 7;
/// The newest `FUSE_KERNEL_MINOR_VERSION` that is known here.
pub const MINOR: u32 = 45;
/// The oldest that is spoken: Linux 5.4.
pub const MINOR_MIN: u32 = 31;
/// `FUSE_ROOT_ID`.
pub const ROOT_ID: u64 = 1;
/// `FUSE_MIN_READ_BUFFER`: a smaller read of the device is refused with EINVAL.
pub const READ_BUFFER_BYTES_MIN: usize = 8192;
/// A header and the argument of WRITE, the largest that data follows: what a read buffer needs beside `max_write`.
pub const REQUEST_HEAD_BYTES_MAX: usize = size_of::<input::InHeader>() + size_of::<input::WriteIn>();
/// Set in `unique` of a request that is sent again (`FUSE_UNIQUE_RESEND`; only where HAS_RESEND was agreed).
pub const UNIQUE_RESEND: u64 = 1 << 63;
/// `uid` and `gid` of a request that maps to nobody (`FUSE_INVALID_UIDGID`; only where ALLOW_IDMAP was agreed).
pub const INVALID_UIDGID: u32 = u32::MAX;
