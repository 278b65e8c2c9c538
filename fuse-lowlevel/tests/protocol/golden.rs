//! Captured requests, and those that no capture has, assembled from include/uapi/linux/fuse.h by hand. For the tests of this crate.

use fuse_lowlevel::wire::input::{
    BmapIn, InHeader, NotifyRetrieveIn, RemovemappingIn, RemovemappingOne, SetupmappingIn, SyncfsIn,
};
use fuse_lowlevel::wire::opcode;
use zerocopy::IntoBytes;

/// Names and bytes, in the order of the capture.
pub fn captures() -> Vec<(&'static str, Vec<u8>)> {
    include_str!("captures.txt").lines().filter(|line| !line.starts_with('#')).map(capture).collect()
}

fn capture(line: &'static str) -> (&'static str, Vec<u8>) {
    let (name, hex) = line.split_once(' ').expect("name and bytes");
    let digits = hex.as_bytes().chunks(2);
    let byte =
        |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hexadecimal");
    (name, digits.map(byte).collect())
}

/// A request with that body.
pub fn request(opcode: u32, body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    let len = (size_of::<InHeader>() + body.len()) as u32;
    let header =
        InHeader { len, opcode, unique: 8, nodeid: 2, uid: 3, gid: 4, pid: 5, ..InHeader::default() };
    [header.as_bytes(), &body].concat()
}

/// What the kernel sends only to block-device file systems, to virtiofs, or in answer to a notification.
pub fn assembled() -> Vec<(&'static str, Vec<u8>)> {
    let bmap = BmapIn { block: 7, blocksize: 512, padding: 0 };
    let retrieved = NotifyRetrieveIn { offset: 4096, size: 3, ..NotifyRetrieveIn::default() };
    let mapping = SetupmappingIn { fh: 1, foffset: 2, len: 3, flags: 2, moffset: 4 };
    let unmapping = [RemovemappingOne { moffset: 1, len: 2 }, RemovemappingOne { moffset: 3, len: 4 }];
    vec![
        ("destroy", request(opcode::DESTROY, &[])),
        ("syncfs", request(opcode::SYNCFS, &[SyncfsIn::default().as_bytes()])),
        ("bmap", request(opcode::BMAP, &[bmap.as_bytes()])),
        ("notify_reply", request(opcode::NOTIFY_REPLY, &[retrieved.as_bytes(), b"abc"])),
        ("setupmapping", request(opcode::SETUPMAPPING, &[mapping.as_bytes()])),
        (
            "removemapping",
            request(opcode::REMOVEMAPPING, &[RemovemappingIn { count: 2 }.as_bytes(), unmapping.as_bytes()]),
        ),
    ]
}

/// All of both.
pub fn all() -> Vec<(&'static str, Vec<u8>)> {
    [captures(), assembled()].concat()
}
