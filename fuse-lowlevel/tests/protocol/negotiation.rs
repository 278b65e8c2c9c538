//! INIT: what is agreed with kernels of every age, and never more than both sides have.

use crate::golden::{captures, request};
use fuse_lowlevel::wire::flags::init;
use fuse_lowlevel::wire::opcode;
use fuse_lowlevel::{Agreed, Answer, Offer, Operation, Refusal, Request, Wants, negotiate};
use proptest::prelude::*;

/// That of Linux 6.18.
fn offer() -> Offer {
    let captures = captures();
    let (_, bytes) = captures.iter().find(|(name, _)| *name == "init").expect("was captured");
    match Request::parse_whole(bytes).expect("was captured").operation {
        Operation::Init(offer) => offer,
        other => panic!("{other:?}"),
    }
}

fn agreed(offer: &Offer, wants: &Wants) -> Agreed {
    match negotiate(offer, wants) {
        Ok(Answer::Agreed(agreed)) => agreed,
        other => panic!("{other:?}"),
    }
}

fn passthrough() -> Wants {
    let wants = Wants::default();
    Wants { flags: wants.flags | init::PASSTHROUGH | init::WRITEBACK_CACHE, request_timeout_s: 60, ..wants }
}

#[test]
fn requests_of_1_mib_and_512_in_the_background() {
    let agreed = agreed(&offer(), &Wants::default());
    let reply = agreed.reply();
    assert_eq!((reply.major, reply.minor), (7, 45));
    assert_eq!((reply.max_write, reply.max_pages, reply.max_readahead), (1 << 20, 256, 128 << 10));
    assert_eq!((reply.max_background, reply.congestion_threshold, reply.time_gran), (512, 384, 1));
    assert_eq!((reply.max_stack_depth, reply.request_timeout, reply.map_alignment), (0, 0, 0));
    assert!(agreed.has(init::PARALLEL_DIROPS | init::DO_READDIRPLUS | init::INIT_EXT));
    assert_eq!(agreed.read_buffer_bytes(), (1 << 20) + 80);
    assert!(!agreed.passthrough() && !agreed.over_io_uring() && !agreed.no_open);
}

/// With its stack depth, without the write-back cache that would undo it, the upper flags where the kernel looks for them.
#[test]
fn passthrough_comes_with_what_it_needs() {
    let agreed = agreed(&offer(), &passthrough());
    let reply = agreed.reply();
    assert!(agreed.passthrough() && !agreed.has(init::WRITEBACK_CACHE));
    assert_eq!((reply.max_stack_depth, reply.request_timeout), (1, 60));
    assert_eq!(u64::from(reply.flags2) << 32 & init::PASSTHROUGH, init::PASSTHROUGH);
    assert_eq!(u64::from(reply.flags) & init::INIT_EXT, init::INIT_EXT);
}

/// Handles are given up only where the kernel says that it understands, and never beside passthrough.
#[test]
fn no_handles_only_where_the_kernel_can() {
    let wants = Wants { no_handles: true, ..Wants::default() };
    let all = agreed(&offer(), &wants);
    assert!(all.no_open && all.no_opendir);
    let old = Offer { flags: offer().flags & !init::NO_OPENDIR_SUPPORT, ..offer() };
    let some = agreed(&old, &wants);
    assert!(some.no_open && !some.no_opendir);
    let both = Wants { no_handles: true, ..passthrough() };
    assert!(std::panic::catch_unwind(|| negotiate(&offer(), &both)).is_err());
}

/// 7.31 has no INIT_EXT: 16 bytes, and what is behind them, or in flags2 without the flag, is not an offer.
#[test]
fn an_old_kernel_offers_the_lower_flags_alone() {
    let flags = (init::ASYNC_READ | init::MAX_PAGES) as u32;
    let short = [7u32, 31, 65536, flags].map(u32::to_ne_bytes).concat();
    let long = [&short[..], &[0xff; 48]].concat();
    for body in [short, long] {
        let bytes = request(opcode::INIT, &[&body]);
        let Operation::Init(offer) = Request::parse_whole(&bytes).expect("is sound").operation else {
            panic!()
        };
        assert_eq!(offer.flags, u64::from(flags));
        let reply = agreed(&offer, &passthrough()).reply();
        assert_eq!((reply.minor, reply.flags, reply.flags2), (31, flags, 0));
        assert_eq!((reply.max_readahead, reply.max_stack_depth, reply.request_timeout), (65536, 0, 0));
    }
}

#[test]
fn without_max_pages_requests_are_small() {
    let old = Offer { flags: offer().flags & !init::MAX_PAGES, ..offer() };
    let agreed = agreed(&old, &Wants::default());
    assert_eq!((agreed.max_request_bytes, agreed.reply().max_pages), (128 << 10, 0));
}

#[test]
fn versions_that_cannot_be_spoken() {
    for (major, minor) in [(7, 30), (7, 0), (6, 99), (0, 0)] {
        let refused =
            negotiate(&Offer { major, minor, ..offer() }, &Wants::default()).expect_err("is too old");
        assert_eq!((refused, refused.errno()), (Refusal::TooOld { major, minor }, libc::EPROTO));
        assert!(refused.to_string().contains("7.31 (Linux 5.4)"), "{refused}");
    }
    // A newer major may say no more than its version, and is told ours.
    let bytes = request(opcode::INIT, &[&[8u32, 1].map(u32::to_ne_bytes).concat()]);
    let Operation::Init(newer) = Request::parse_whole(&bytes).expect("is taken").operation else { panic!() };
    let Ok(Answer::Version(reply)) = negotiate(&newer, &Wants::default()) else { panic!() };
    assert_eq!((reply.major, reply.minor, reply.flags), (7, 45, 0));
}

#[test]
fn what_is_required_and_missing_is_named() {
    let wants = Wants { flags_required: init::OVER_IO_URING | init::PASSTHROUGH, ..Wants::default() };
    assert_eq!(negotiate(&offer(), &wants), Err(Refusal::Missing(init::OVER_IO_URING)));
    let offer = Offer { flags: offer().flags | init::OVER_IO_URING, ..offer() };
    let ring = agreed(&offer, &wants);
    assert!(ring.over_io_uring() && ring.passthrough());
}

proptest! {
    #[test]
    fn never_more_than_offered_and_wanted(
        flags: u64, wanted: u64, minor in 31u32..60, readahead: u32, request: u32, background: u16, timeout: u16
    ) {
        let offer = Offer { major: 7, minor, max_readahead_bytes: readahead, flags };
        let wants = Wants {
            flags: wanted,
            max_readahead_bytes: 1 << 20,
            max_request_bytes: request,
            max_background: background,
            request_timeout_s: timeout,
            ..Wants::default()
        };
        let agreed = agreed(&offer, &wants);
        let reply = agreed.reply();
        let own = init::INIT_EXT | init::MAX_PAGES | init::BIG_WRITES | init::REQUEST_TIMEOUT;
        prop_assert_eq!(agreed.flags & !flags, 0);
        prop_assert_eq!(agreed.flags & !(wanted | own), 0);
        prop_assert_eq!(agreed.flags & (init::SETXATTR_EXT | init::SECURITY_CTX), 0);
        prop_assert!(reply.minor <= 45 && reply.minor <= minor);
        prop_assert!(reply.max_readahead <= readahead);
        prop_assert!(reply.max_write >= 4096 && reply.max_background >= 1);
        prop_assert!(reply.congestion_threshold <= reply.max_background && reply.congestion_threshold >= 1);
        prop_assert_eq!(reply.request_timeout > 0, agreed.has(init::REQUEST_TIMEOUT));
        prop_assert_eq!(u32::from(agreed.max_pages) * 4096, agreed.max_request_bytes);
    }
}
