//! The two commands of FUSE over io_uring and the header of an entry, byte by byte.
//!
//! The header is `UringReqHeader` of `wire`, read and written by place, as it lies in memory that is not always ours. A
//! command's own part, `UringCmdReq`, lies at byte 48 of the SQE, which is why that must have 128.

use std::mem::offset_of;
use std::ops::Range;
use std::os::fd::RawFd;

use io_uring::squeue::Entry128;
use zerocopy::IntoBytes;

use super::memory::Memory;
use crate::wire::input::InHeader;
use crate::wire::ring::{
    CMD_COMMIT_AND_FETCH, CMD_REGISTER, HEADER_AREA_BYTES, UringCmdReq, UringEntInOut, UringReqHeader,
};

pub const ENTRY_HEADER_BYTES: usize = size_of::<UringReqHeader>();

/// Of `fuse_in_header`, at the start of `in_out`.
pub const IN_HEADER_BYTES: usize = size_of::<InHeader>();

/// `op_in`.
pub const ARGUMENT: Range<usize> = place(offset_of!(UringReqHeader, op_in), HEADER_AREA_BYTES);

const ENTRY_AT: usize = offset_of!(UringReqHeader, ring_ent_in_out);
const COMMIT_ID: Range<usize> = place(ENTRY_AT + offset_of!(UringEntInOut, commit_id), 8);
const PAYLOAD_LENGTH: Range<usize> = place(ENTRY_AT + offset_of!(UringEntInOut, payload_sz), 4);

const fn place(start: usize, length: usize) -> Range<usize> {
    start..start + length
}

/// Where the command's own part lies in an SQE.
const COMMAND: Range<usize> = place(48, size_of::<UringCmdReq>());

const SQE_BYTES: usize = 128;
const IORING_OP_URING_CMD: u8 = 46;

/// `FUSE_URING_IOV_SEGS`: header and payload.
const IOVECS_PER_ENTRY: usize = 2;

/// What REGISTER points to: read by the kernel while it is submitted.
#[derive(Debug)]
pub struct Iovecs {
    pairs: Box<[[libc::iovec; IOVECS_PER_ENTRY]]>,
}

impl Iovecs {
    pub fn new(memory: &Memory) -> Iovecs {
        let part = |(base, length): (*mut u8, usize)| libc::iovec { iov_base: base.cast(), iov_len: length };
        let pair = |index| [part(memory.header_place(index)), part(memory.payload_place(index))];
        Iovecs { pairs: (0..memory.entries()).map(pair).collect() }
    }

    /// The address of an entry's pair.
    pub fn of(&self, index: usize) -> u64 {
        (&raw const self.pairs[index]) as u64
    }
}

pub fn register(device: RawFd, index: usize, queue: u16, iovecs: u64) -> Entry128 {
    sqe(device, CMD_REGISTER, index, queue, 0, iovecs)
}

pub fn commit(device: RawFd, index: usize, queue: u16, commit_id: u64) -> Entry128 {
    sqe(device, CMD_COMMIT_AND_FETCH, index, queue, commit_id, 0)
}

/// By hand, as io-uring's own builder of the command leaves no way to set the SQE's length.
fn sqe(device: RawFd, command: u32, index: usize, queue: u16, commit_id: u64, iovecs: u64) -> Entry128 {
    let iovec_count = if iovecs == 0 { 0 } else { IOVECS_PER_ENTRY as u32 };
    let mut bytes = [0u8; SQE_BYTES];
    bytes[0] = IORING_OP_URING_CMD;
    bytes[4..8].copy_from_slice(&device.to_ne_bytes());
    bytes[8..12].copy_from_slice(&command.to_ne_bytes());
    bytes[16..24].copy_from_slice(&iovecs.to_ne_bytes());
    bytes[24..28].copy_from_slice(&iovec_count.to_ne_bytes());
    bytes[32..40].copy_from_slice(&(index as u64).to_ne_bytes());
    let part = UringCmdReq { flags: 0, commit_id, qid: queue, padding: [0; 6] };
    bytes[COMMAND].copy_from_slice(part.as_bytes());
    // SAFETY: `Entry128` is `repr(C)` over the kernel's SQE, of integers only, for which every bit pattern is valid; the
    // sizes are equal or this does not compile.
    unsafe { std::mem::transmute::<[u8; SQE_BYTES], Entry128>(bytes) }
}

pub fn commit_id(header: &[u8]) -> u64 {
    u64::from_ne_bytes(header[COMMIT_ID].try_into().expect("eight bytes"))
}

pub fn payload_length(header: &[u8]) -> usize {
    u32::from_ne_bytes(header[PAYLOAD_LENGTH].try_into().expect("four bytes")) as usize
}

pub fn set_payload_length(header: &mut [u8], length: usize) {
    let length = u32::try_from(length).expect("a payload is far below 4 GiB");
    header[PAYLOAD_LENGTH].copy_from_slice(&length.to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_lies_where_the_kernel_reads_it() {
        let entry = commit(5, 9, 3, 0x1122);
        assert_eq!(entry.get_user_data(), 9);
        assert_eq!(entry.get_opcode(), u32::from(IORING_OP_URING_CMD));
    }

    #[test]
    fn a_payload_length_is_read_back() {
        let mut header = [0xff; ENTRY_HEADER_BYTES];
        set_payload_length(&mut header, 4097);
        assert_eq!(payload_length(&header), 4097);
        assert_eq!(commit_id(&header), u64::MAX, "its neighbours are untouched");
        assert_eq!(header[PAYLOAD_LENGTH.end..], [0xff; 12]);
    }
}
