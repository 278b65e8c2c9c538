//! What a kernel really sent is understood, field by field, over either transport.

use crate::golden::{all, assembled, captures};
use fuse_lowlevel::negotiation::Offer;
use fuse_lowlevel::operation::{
    CopyFileRange, Create, Fallocate, Ioctl, Lock, Operation, Poll, Read, Release, SetAttributes, SetTime,
    Write,
};
use fuse_lowlevel::wire::input::{FileLock, ForgetOne};
use fuse_lowlevel::wire::opcode;
use fuse_lowlevel::{Request, Timestamp};

const FILE_HANDLE: u64 = 0xabc2;

/// That of the `nth` capture of the name.
fn with<T>(name: &str, nth: usize, look: impl FnOnce(Request) -> T) -> T {
    let captures = captures();
    let (_, bytes) = captures.iter().filter(|(other, _)| *other == name).nth(nth).expect("was captured");
    look(Request::parse_whole(bytes).expect(name))
}

fn assert_is(name: &str, nth: usize, node: u64, expected: Operation) {
    with(name, nth, |request| {
        assert_eq!((request.node, request.operation), (node, expected), "{name} {nth}")
    });
}

#[test]
fn every_request_is_taken_under_its_name() {
    for (name, bytes) in all() {
        let request = Request::parse_whole(&bytes).unwrap_or_else(|refused| panic!("{name}: {refused}"));
        assert_eq!(request.name(), name);
        assert_eq!(bytes[8..16], request.unique.to_ne_bytes());
        assert!(!matches!(request.operation, Operation::Unknown(_)), "{name}");
        let mute = ["forget", "batch_forget", "interrupt", "notify_reply"].contains(&name);
        assert_eq!(request.operation.wants_reply(), !mute, "{name}");
    }
}

/// None of 7.45 is left out.
#[test]
fn there_is_one_of_every_opcode() {
    let all = all();
    for (number, name) in opcode::ALL {
        let found = all.iter().any(|(other, bytes)| other == name && bytes[4..8] == number.to_ne_bytes());
        assert!(found, "{name}");
    }
}

/// What comes before the payload over io_uring: bytes of the structure, by the header of 7.45.
fn argument_bytes(name: &str) -> usize {
    match name {
        "statfs" | "readlink" | "destroy" | "lookup" | "unlink" | "rmdir" | "symlink" | "removexattr" => 0,
        "removemapping" => 4,
        "forget" | "batch_forget" | "mkdir" | "rename" | "link" | "open" | "opendir" | "setxattr" => 8,
        "getxattr" | "listxattr" | "access" | "interrupt" | "syncfs" => 8,
        "getattr" | "mknod" | "rename2" | "create" | "tmpfile" | "fsync" | "fsyncdir" | "bmap" => 16,
        "release" | "releasedir" | "flush" | "poll" | "lseek" | "statx" => 24,
        "ioctl" | "fallocate" => 32,
        "read" | "readdir" | "readdirplus" | "write" | "notify_reply" | "setupmapping" => 40,
        "getlk" | "setlk" | "setlkw" => 48,
        "copy_file_range" | "copy_file_range_64" => 56,
        "init" => 64,
        "setattr" => 88,
        other => panic!("{other}"),
    }
}

/// Over io_uring the argument is in an area of 128 bytes, zero padded, and a name of LOOKUP is in the payload.
#[test]
fn the_areas_of_a_ring_say_the_same() {
    for (name, bytes) in all() {
        let whole = Request::parse_whole(&bytes).expect(name);
        let (mut header, mut argument) = ([0; 128], [0; 128]);
        let (front, rest) = bytes.split_at(40);
        let (structure, payload) = rest.split_at(argument_bytes(name));
        header[..40].copy_from_slice(front);
        // The kernel does not set it on the way of a background request.
        header[..4].fill(0);
        argument[..structure.len()].copy_from_slice(structure);
        assert_eq!(Request::parse(&header, &argument, payload), Ok(whole), "{name}");
    }
}

#[test]
fn init_offers_what_6_18_offers() {
    let offer = Offer { major: 7, minor: 45, max_readahead_bytes: 128 << 10, flags: 0x5fd_73ff_fffb };
    assert_is("init", 0, 0, Operation::Init(offer));
}

#[test]
fn names_and_their_arguments() {
    assert_is("lookup", 0, 1, Operation::Lookup { name: b"absent" });
    assert_is("getxattr", 0, 2, Operation::GetXattr { name: b"security.capability", size_bytes: 0 });
    assert_is("listxattr", 0, 2, Operation::ListXattr { size_bytes: 256 });
    assert_is("setxattr", 0, 2, Operation::SetXattr { name: b"user.a", value: b"value", flags: 0 });
    assert_is("removexattr", 0, 2, Operation::RemoveXattr { name: b"security.capability" });
    assert_is("symlink", 0, 1, Operation::SymLink { name: b"newlink", target: b"target/of/it" });
    assert_is("mknod", 0, 1, Operation::MkNod { name: b"pipe", mode: 0o010644, device: 0, umask: 0o022 });
    assert_is("mkdir", 0, 1, Operation::MkDir { name: b"newdir", mode: 0o755, umask: 0o022 });
    assert_is("unlink", 0, 1, Operation::Unlink { name: b"link" });
    assert_is("rmdir", 0, 1, Operation::RmDir { name: b"dir" });
    assert_is("link", 0, 3, Operation::Link { node: 2, name: b"hard" });
    let moved = |name, into_name, flags| Operation::Rename { name, into_node: 3, into_name, flags };
    assert_is("rename", 0, 1, moved(b"file", b"moved", 0));
    assert_is("rename2", 0, 1, moved(b"other", b"x", libc::RENAME_NOREPLACE));
}

#[test]
fn what_reads() {
    let read =
        |handle, offset, size_bytes, flags| Read { handle, offset, size_bytes, lock_owner: None, flags };
    assert_is("getattr", 0, 2, Operation::GetAttr { handle: None });
    assert_is("statx", 0, 2, Operation::Statx { handle: None, flags: 0, mask: 0xfff });
    assert_is("access", 0, 2, Operation::Access { mask: libc::R_OK as u32 });
    assert_is("open", 0, 2, Operation::Open { flags: 0x8002, kill_suid_sgid: false });
    assert_is("opendir", 0, 1, Operation::OpenDir { flags: 0x18800 });
    assert_is("read", 0, 2, Operation::Read(read(FILE_HANDLE, 0, 8192, 0x8002)));
    assert_is("readdirplus", 0, 1, Operation::ReadDirPlus(read(0xabc1, 0, 32768, 0x18800)));
    assert_is("readdir", 0, 1, Operation::ReadDir(read(0xabc1, 7, 32768, 0x18800)));
    let seek = |whence| Operation::Lseek { handle: FILE_HANDLE, offset: 10, whence };
    assert_is("lseek", 0, 2, seek(libc::SEEK_DATA as u32));
    assert_is("lseek", 1, 2, seek(libc::SEEK_HOLE as u32));
    let release = Release { handle: 0xabc1, flags: 0x18800, flush: false, unlock: false, lock_owner: 0 };
    assert_is("releasedir", 0, 1, Operation::ReleaseDir(release));
    with("flush", 0, |request| {
        assert!(matches!(request.operation, Operation::Flush { handle: 0xabc6, lock_owner: 1.. }));
    });
}

#[test]
fn what_writes() {
    with("write", 0, |request| {
        let expected = Write {
            handle: FILE_HANDLE,
            offset: 0,
            data: b"hello",
            from_cache: false,
            kill_suid_sgid: false,
            lock_owner: None,
            flags: 0x8002,
        };
        assert_eq!(request.operation, Operation::Write(expected));
        assert!(request.operation.modifies());
    });
    let space = Fallocate { handle: FILE_HANDLE, offset: 0, len_bytes: 8192, mode: 0 };
    assert_is("fallocate", 0, 2, Operation::Fallocate(space));
    let copy = CopyFileRange {
        handle: FILE_HANDLE,
        offset: 5,
        into_node: 6,
        into_handle: 0xabc6,
        into_offset: 6,
        len_bytes: 1000,
        flags: 0,
    };
    assert_is("copy_file_range_64", 0, 2, Operation::CopyFileRange64(copy));
    assert_is("copy_file_range", 0, 2, Operation::CopyFileRange(copy));
    for (nth, data_only) in [(0, false), (1, true)] {
        assert_is("fsync", nth, 2, Operation::Fsync { handle: FILE_HANDLE, data_only });
    }
    assert_is("fsyncdir", 0, 1, Operation::FsyncDir { handle: 0xabc1, data_only: false });
}

/// Behind the name is the caller's group that the directory has: kept, and not taken for a part of the name.
#[test]
fn new_files_and_their_extensions() {
    let create = |name, flags, mode| Create { name, flags, mode, umask: 0o022, kill_suid_sgid: false };
    let group = [16u32, 32, 1, 77];
    with("create", 0, |request| {
        assert_eq!(request.operation, Operation::Create(create(b"created", 0x80c2, 0o100640)));
        assert_eq!(request.extensions, group.map(u32::to_ne_bytes).concat());
    });
    with("tmpfile", 0, |request| {
        assert_eq!(request.operation, Operation::TmpFile(create(b"/", 0x418002, 0o100600)));
        assert_eq!(request.extensions.len(), 16);
    });
    with("lookup", 0, |request| assert!(request.extensions.is_empty()));
}

#[test]
fn setattr_says_what_changes_and_nothing_else() {
    let captures = captures();
    let captured: Vec<SetAttributes> = captures
        .iter()
        .filter(|(name, _)| *name == "setattr")
        .map(|(_, bytes)| match Request::parse_whole(bytes).expect("captured").operation {
            Operation::SetAttr(change) => change,
            other => panic!("{other:?}"),
        })
        .collect();
    let none = SetAttributes::default();
    let at = |seconds, nanoseconds| Some(SetTime::At(Timestamp { seconds, nanoseconds }));
    let truncated = captured.iter().find(|change| change.size_bytes == Some(123)).expect("ftruncate");
    assert_eq!((truncated.handle, truncated.mode), (Some(FILE_HANDLE), None));
    assert!(truncated.lock_owner.is_some());
    assert!(captured.contains(&SetAttributes { mode: Some(0o100600), ..none }));
    assert!(captured.contains(&SetAttributes { uid: Some(1), gid: Some(2), kill_suid_sgid: true, ..none }));
    let now = Some(SetTime::Now);
    assert!(captured.contains(&SetAttributes { accessed: now, modified: now, ..none }));
    let (accessed, modified) = (at(1_000_000_000, 0), at(2_000_000_000, 5));
    assert!(captured.contains(&SetAttributes { accessed, modified, ..none }), "{captured:?}");
}

#[test]
fn locks_ioctl_and_poll() {
    with("setlk", 0, |request| {
        let Operation::SetLock(Lock { handle: FILE_HANDLE, owner: 1.., lock, flock: false }) =
            request.operation
        else {
            panic!("{request:?}")
        };
        let FileLock { start, end, r#type, pid } = lock;
        assert_eq!((start, end, r#type, pid), (20, 29, libc::F_RDLCK as u32, request.pid));
    });
    with("setlk", 1, |request| {
        assert!(matches!(request.operation, Operation::SetLock(Lock { flock: true, .. })));
    });
    with("setlkw", 0, |request| assert!(matches!(request.operation, Operation::SetLockWait(_))));
    with("getlk", 0, |request| {
        assert!(matches!(
            request.operation,
            Operation::GetLock(Lock { lock: FileLock { start: 1, end: 2, .. }, .. })
        ));
    });
    with("ioctl", 1, |request| {
        let Operation::Ioctl(Ioctl { handle, command, data, answer_bytes_max, .. }) = request.operation
        else {
            panic!("{request:?}")
        };
        assert_eq!((handle, command, answer_bytes_max), (FILE_HANDLE, 0xc010_5a01, 16));
        assert_eq!(data, b"0123456789abcdef");
    });
    let poll = Poll { handle: FILE_HANDLE, kernel_handle: 3, notify: true, events: 0x19 };
    assert_is("poll", 0, 2, Operation::Poll(poll));
}

#[test]
fn what_nobody_waits_for() {
    assert_is("interrupt", 0, 0, Operation::Interrupt { unique: 0xfc });
    with("interrupt", 0, |request| assert_eq!(request.unique, 0xfd));
    with("forget", 0, |request| assert_eq!(request.operation, Operation::Forget { lookups: 1 }));
    with("batch_forget", 0, |request| {
        let Operation::BatchForget(forgotten) = request.operation else { panic!("{request:?}") };
        let one = |nodeid, nlookup| ForgetOne { nodeid, nlookup };
        assert_eq!(forgotten.len(), 3);
        assert_eq!(forgotten.collect::<Vec<_>>(), [one(6, 2), one(2, 18), one(3, 5)]);
    });
    let assembled = assembled();
    let (_, reply) = assembled.iter().find(|(name, _)| *name == "notify_reply").expect("is there");
    let reply = Request::parse_whole(reply).expect("is sound").operation;
    assert_eq!(reply, Operation::NotifyReply { offset: 4096, data: b"abc" });
}
