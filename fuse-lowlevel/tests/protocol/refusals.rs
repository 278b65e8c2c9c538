//! Requests that are not what they say are refused, each with its reason and the request to answer.

use crate::golden::{all, request};
use fuse_lowlevel::request::Defect;
use fuse_lowlevel::wire::input::{BatchForgetIn, GetxattrIn, SetattrIn, SetxattrIn, WriteIn};
use fuse_lowlevel::wire::{flags, opcode};
use fuse_lowlevel::{Operation, Request};
use zerocopy::IntoBytes;

#[track_caller]
fn assert_refused(bytes: &[u8], defect: Defect) {
    let refused = Request::parse_whole(bytes).expect_err("is malformed");
    assert_eq!(refused.defect, defect);
    assert_eq!(refused.answer(), Some((8, libc::EINVAL)));
}

#[test]
fn without_a_header_there_is_nobody_to_answer() {
    let bytes = request(opcode::STATFS, &[]);
    for len in 0..bytes.len() {
        let refused = Request::parse_whole(&bytes[..len]).expect_err("is cut off");
        assert_eq!((refused.defect, refused.answer()), (Defect::Header(len), None));
    }
}

/// One byte less or more than the header says.
#[test]
fn the_length_is_that_of_the_header() {
    for (name, mut bytes) in all() {
        let said = bytes.len() as u32;
        bytes.push(0);
        let refused = Request::parse_whole(&bytes).expect_err(name);
        assert_eq!(refused.defect, Defect::Length { said, read: bytes.len() });
    }
}

/// Cut anywhere, with a header that says so: only INIT, which older kernels send shorter, is still taken.
#[test]
fn a_request_cut_off_is_refused() {
    for (name, bytes) in all() {
        for len in 40..bytes.len() {
            let mut cut = bytes[..len].to_vec();
            cut[..4].copy_from_slice(&(len as u32).to_ne_bytes());
            let taken = Request::parse_whole(&cut).is_ok();
            assert_eq!(taken, name == "init" && len >= 40 + 16, "{name} cut to {len}");
        }
    }
}

#[test]
fn names_are_names() {
    for name in [&b""[..], b"\0", b"open", b"a/b\0", b"/\0"] {
        assert_refused(&request(opcode::LOOKUP, &[name]), Defect::Name);
    }
    assert_refused(&request(opcode::LOOKUP, &[b"a\0b\0"]), Defect::Trailing(2));
    assert_refused(&request(opcode::SYMLINK, &[b"a\0"]), Defect::Name);
    // That of an attribute may hold a slash, as the target of a link does.
    let xattr = request(opcode::GETXATTR, &[GetxattrIn::default().as_bytes(), b"user.a/b\0"]);
    let operation = Request::parse_whole(&xattr).expect("is sound").operation;
    assert_eq!(operation, Operation::GetXattr { name: b"user.a/b", size_bytes: 0 });
}

#[test]
fn data_is_as_long_as_said() {
    for size in [2, 4, u32::MAX] {
        let write = WriteIn { size, ..WriteIn::default() };
        assert_refused(&request(opcode::WRITE, &[write.as_bytes(), b"abc"]), Defect::Data);
        let value = SetxattrIn { size, flags: 0 };
        assert_refused(&request(opcode::SETXATTR, &[value.as_bytes(), b"user.a\0", b"abc"]), Defect::Data);
    }
}

/// Nobody waits for the answer to a FORGET, so its refusal names none.
#[test]
fn records_are_as_many_as_said() {
    for count in [0, 2, u32::MAX] {
        let head = BatchForgetIn { count, dummy: 0 };
        let bytes = request(opcode::BATCH_FORGET, &[head.as_bytes(), &[1; 16]]);
        let refused = Request::parse_whole(&bytes).expect_err("is malformed");
        assert_eq!((refused.defect, refused.answer()), (Defect::Data, None));
    }
}

#[test]
fn times_and_extensions_are_in_bounds() {
    let set = SetattrIn { valid: flags::setattr::ATIME, atimensec: 1_000_000_000, ..SetattrIn::default() };
    assert_refused(&request(opcode::SETATTR, &[set.as_bytes()]), Defect::Time(1_000_000_000));
    let mut lookup = request(opcode::LOOKUP, &[b"abcdefg\0"]);
    lookup[36..38].copy_from_slice(&2u16.to_ne_bytes());
    assert_refused(&lookup, Defect::Extensions);
}

/// Whatever it carries: it is answered ENOSYS, not EINVAL.
#[test]
fn an_unknown_opcode_is_taken_as_such() {
    for (number, body) in [(7, &b""[..]), (54, b"whatever"), (4096, b"\0"), (u32::MAX, b"x")] {
        let bytes = request(number, &[body]);
        let parsed = Request::parse_whole(&bytes).expect("is taken");
        assert_eq!((parsed.operation, parsed.name()), (Operation::Unknown(number), "unknown"));
        assert!(parsed.operation.wants_reply());
    }
}
