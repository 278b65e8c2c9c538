//! FUSE over io_uring: what is shared with the kernel beside the payload (7.42).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `FUSE_URING_IN_OUT_HEADER_SZ` and `FUSE_URING_OP_IN_OUT_SZ`.
pub const HEADER_AREA_BYTES: usize = 128;
/// `FUSE_IO_URING_CMD_REGISTER`.
pub const CMD_REGISTER: u32 = 1;
/// `FUSE_IO_URING_CMD_COMMIT_AND_FETCH`.
pub const CMD_COMMIT_AND_FETCH: u32 = 2;

wire!(UringEntInOut: 32 { flags: u64, commit_id: u64, payload_sz: u32, padding: u32, reserved: u64 });
wire!(
    /// At byte 48 of the submission entry.
    UringCmdReq: 24 { flags: u64, commit_id: u64, qid: u16, padding: [u8; 6] }
);

/// The header of one ring entry: `in_out` holds `InHeader`, then `OutHeader`; `op_in` the first argument, zero padded.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UringReqHeader {
    pub in_out: [u8; HEADER_AREA_BYTES],
    pub op_in: [u8; HEADER_AREA_BYTES],
    pub ring_ent_in_out: UringEntInOut,
}

const _: () = assert!(size_of::<UringReqHeader>() == 288);
