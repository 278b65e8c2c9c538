//! Replies, byte for byte as include/uapi/linux/fuse.h lays them out.

use fuse_lowlevel::attributes::{Attributes, Entry, Kind, Timestamp};
use fuse_lowlevel::reply::{self, HEAD_BYTES_MAX, HEADER_BYTES};
use fuse_lowlevel::wire::flags::open;
use fuse_lowlevel::wire::input::FileLock;
use fuse_lowlevel::wire::output::{InitOut, StatxOut};
use fuse_lowlevel::{Opened, Reply, StatFs};
use proptest::prelude::*;
use std::time::Duration;

const UNIQUE: u64 = 0x0102_0304_0506_0708;

fn attributes() -> Attributes {
    Attributes {
        blocks: 3,
        accessed: Timestamp { seconds: 4, nanoseconds: 7 },
        modified: Timestamp { seconds: -5, nanoseconds: 8 },
        changed: Timestamp { seconds: 6, nanoseconds: 9 },
        links: 11,
        uid: 12,
        gid: 13,
        device: 14,
        block_bytes: 15,
        ..Attributes::new(1, Kind::File, 0o644, 2)
    }
}

fn entry() -> Entry {
    let (entry_timeout, attribute_timeout) = (Duration::new(5, 1), Duration::new(6, 2));
    Entry { node: 0x101, generation: 0, entry_timeout, attribute_timeout, attributes: attributes() }
}

fn attribute_bytes() -> Vec<u8> {
    let wide = [1, 2, 3, 4, -5i64 as u64, 6].map(u64::to_ne_bytes).concat();
    let narrow = [7, 8, 9, 0o100644, 11, 12, 13, 14, 15, 0].map(u32::to_ne_bytes).concat();
    [wide, narrow].concat()
}

fn entry_bytes() -> Vec<u8> {
    let wide = [0x101u64, 0, 5, 6].map(u64::to_ne_bytes).concat();
    [wide, [1u32, 2].map(u32::to_ne_bytes).concat(), attribute_bytes()].concat()
}

/// The whole of it, taken together from either side: for writev, and for a ring.
fn bytes(reply: &Reply) -> Vec<u8> {
    let encoded = reply.encode(UNIQUE);
    let whole = [encoded.head(), encoded.body()].concat();
    assert_eq!(whole, [encoded.header(), encoded.fixed(), encoded.body()].concat());
    assert_eq!(whole.len(), encoded.total_bytes());
    assert!(encoded.head().len() <= HEAD_BYTES_MAX);
    whole
}

#[track_caller]
fn assert_body(reply: Reply, body: &[u8]) {
    let len = (HEADER_BYTES + body.len()) as u32;
    let expected = [&len.to_ne_bytes()[..], &[0; 4], &UNIQUE.to_ne_bytes(), body].concat();
    assert_eq!(bytes(&reply), expected);
}

#[test]
fn errors_are_negative_and_alone() {
    let expected = [&16u32.to_ne_bytes()[..], &(-2i32).to_ne_bytes(), &UNIQUE.to_ne_bytes()].concat();
    assert_eq!(bytes(&Reply::Error(libc::ENOENT)), expected);
    for errno in [-1, 1000, i32::MAX, i32::MIN] {
        assert!(std::panic::catch_unwind(|| Reply::Error(errno).encode(1)).is_err(), "{errno}");
    }
}

#[test]
fn what_a_name_leads_to() {
    assert_body(Reply::Empty, &[]);
    assert_body(Reply::Entry(entry()), &entry_bytes());
    let mut nothing = vec![0; 128];
    nothing[16..24].copy_from_slice(&2u64.to_ne_bytes());
    nothing[32..36].copy_from_slice(&3u32.to_ne_bytes());
    assert_body(Reply::NoEntry(Duration::new(2, 3)), &nothing);
    let timeout = [&6u64.to_ne_bytes()[..], &2u32.to_ne_bytes(), &[0; 4]].concat();
    let expected = [timeout, attribute_bytes()].concat();
    assert_body(Reply::Attributes(attributes(), Duration::new(6, 2)), &expected);
    let nowhere = Entry { node: 0, ..entry() };
    assert!(std::panic::catch_unwind(|| Reply::Entry(nowhere).encode(1)).is_err());
}

#[test]
fn handles() {
    let opened = Opened { handle: 9, flags: open::PASSTHROUGH | open::NOFLUSH, backing_id: 3 };
    let expected = [&9u64.to_ne_bytes()[..], &0xa0u32.to_ne_bytes(), &3u32.to_ne_bytes()].concat();
    assert_body(Reply::Opened(opened), &expected);
    assert_body(Reply::Created(entry(), opened), &[entry_bytes(), expected].concat());
}

#[test]
fn numbers() {
    let narrow = |numbers: &[u32]| numbers.iter().flat_map(|number| number.to_ne_bytes()).collect::<Vec<_>>();
    assert_body(Reply::Written(7), &narrow(&[7, 0]));
    assert_body(Reply::XattrSize(7), &narrow(&[7, 0]));
    assert_body(Reply::Poll(7), &narrow(&[7, 0]));
    assert_body(Reply::Copied(1 << 40), &(1u64 << 40).to_ne_bytes());
    assert_body(Reply::Offset(1 << 40), &(1u64 << 40).to_ne_bytes());
    assert_body(Reply::Block(1 << 40), &(1u64 << 40).to_ne_bytes());
    let lock = FileLock { start: 1, end: 2, r#type: 3, pid: 4 };
    let wide = [1u64, 2].map(u64::to_ne_bytes).concat();
    assert_body(Reply::Lock(lock), &[wide, narrow(&[3, 4])].concat());
    assert_body(Reply::Ioctl(-1, b"abc"), &[narrow(&[u32::MAX, 0, 0, 0]), b"abc".to_vec()].concat());
    let stat = StatFs {
        blocks: 1,
        blocks_free: 2,
        blocks_available: 3,
        files: 4,
        files_free: 5,
        block_bytes: 6,
        name_bytes_max: 7,
    };
    let wide = [1u64, 2, 3, 4, 5].map(u64::to_ne_bytes).concat();
    assert_body(Reply::StatFs(stat), &[wide, narrow(&[6, 7, 6, 0]), vec![0; 24]].concat());
}

#[test]
fn init_and_statx_have_their_size() {
    assert_eq!(bytes(&Reply::Init(InitOut::default())).len(), HEADER_BYTES + 64);
    assert_eq!(bytes(&Reply::Statx(StatxOut::default())).len(), HEAD_BYTES_MAX);
    let init = InitOut { max_stack_depth: 0x0101_0101, request_timeout: 0x0202, ..InitOut::default() };
    assert_eq!(bytes(&Reply::Init(init))[HEADER_BYTES + 36..][..6], [1, 1, 1, 1, 2, 2]);
}

#[test]
fn each_kind_is_in_the_mode() {
    let kinds = [
        (Kind::Pipe, 1),
        (Kind::CharacterDevice, 2),
        (Kind::Directory, 4),
        (Kind::BlockDevice, 6),
        (Kind::File, 8),
        (Kind::Link, 10),
        (Kind::Socket, 12),
    ];
    for (kind, number) in kinds {
        assert_eq!(kind.directory_type(), number);
        assert_eq!(Attributes::new(1, kind, 0o555, 0).mode(), number << 12 | 0o555);
    }
    assert_eq!(Attributes::new(1, Kind::File, 0, 513).blocks, 2);
}

proptest! {
    /// Data is borrowed, not copied, and the header counts it; so does the one made for a transport that sends it by itself.
    #[test]
    fn data_is_counted(data: Vec<u8>, unique: u64) {
        let encoded = Reply::Data(&data).encode(unique);
        prop_assert_eq!(encoded.body().as_ptr(), data.as_ptr());
        prop_assert_eq!(encoded.head(), reply::header(unique, data.len()));
        let len = (16 + data.len()) as u32;
        prop_assert_eq!(&encoded.head()[..4], len.to_ne_bytes());
        prop_assert_eq!(&encoded.head()[8..], unique.to_ne_bytes());
    }
}
