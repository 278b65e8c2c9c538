//! INIT: what the kernel offers and what is wanted become what is agreed, once per connection, before anything else is served.
//!
//! Pure arithmetic. What is agreed is never more than either side has; SETXATTR_EXT, SECURITY_CTX and MAP_ALIGNMENT are never
//! agreed, because they change how requests look. `Agreed` holds what a transport and an engine must know of it.

use crate::wire::flags::init;
use crate::wire::input::InitIn;
use crate::wire::output::InitOut;
use crate::wire::{MAJOR, MINOR, MINOR_MIN};
use thiserror::Error;

/// Of a page, to the protocol.
pub const PAGE_BYTES: u32 = 4096;
/// Of a request without MAX_PAGES.
pub const PAGES_DEFAULT: u16 = 32;
/// A file system can be put on others, so that passthrough's backing file is not on a stacked one: all that can be had while
/// something may still be stacked on the mount.
pub const STACK_DEPTH: u32 = 1;
/// What goes with every connection, as far as the kernel has it.
const ALWAYS: u64 = init::INIT_EXT | init::MAX_PAGES | init::BIG_WRITES;
/// What this crate's parser does not read.
const NEVER: u64 = init::SETXATTR_EXT | init::SECURITY_CTX | init::MAP_ALIGNMENT | init::INIT_RESERVED;

/// What the kernel says in INIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Of the protocol: 7.
    pub major: u32,
    /// Of the protocol.
    pub minor: u32,
    /// That of the mount's device, which can only be lowered here.
    pub max_readahead_bytes: u32,
    /// `wire::flags::init`, those of `flags2` included.
    pub flags: u64,
}

impl Offer {
    pub(crate) fn new(offer: &InitIn) -> Offer {
        let InitIn { major, minor, max_readahead: max_readahead_bytes, flags, flags2, .. } = *offer;
        let low = u64::from(flags);
        let high = if low & init::INIT_EXT != 0 { u64::from(flags2) << 32 } else { 0 };
        Offer { major, minor, max_readahead_bytes, flags: low | high }
    }
}

/// What a file system would like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wants {
    /// Set if the kernel offers them.
    pub flags: u64,
    /// Refused without them.
    pub flags_required: u64,
    /// Of the kernel's own read-ahead.
    pub max_readahead_bytes: u32,
    /// Of the data of one request, read or written.
    pub max_request_bytes: u32,
    /// Requests without a waiting caller (read-ahead, write-back) at a time.
    pub max_background: u16,
    /// The kernel gives up on the connection if a request takes longer; 0: never.
    pub request_timeout_s: u16,
    /// Of the times in attributes.
    pub time_granularity_ns: u32,
    /// OPEN and OPENDIR will be answered ENOSYS: no handles. Excludes passthrough.
    pub no_handles: bool,
}

impl Default for Wants {
    /// For reading immutable files: requests of 1 MiB, 512 in the background.
    fn default() -> Wants {
        let flags = init::ASYNC_READ
            | init::PARALLEL_DIROPS
            | init::DO_READDIRPLUS
            | init::READDIRPLUS_AUTO
            | init::ASYNC_DIO
            | init::ABORT_ERROR
            | init::CACHE_SYMLINKS
            | init::EXPLICIT_INVAL_DATA
            | init::SPLICE_READ
            | init::SPLICE_WRITE
            | init::DIRECT_IO_ALLOW_MMAP;
        Wants {
            flags,
            flags_required: 0,
            max_readahead_bytes: 1 << 20,
            max_request_bytes: 1 << 20,
            max_background: 512,
            request_timeout_s: 0,
            time_granularity_ns: 1,
            no_handles: false,
        }
    }
}

/// INIT cannot be agreed: answer EPROTO, and the mount is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The kernel is older than Linux 5.4.
    #[error("the kernel speaks FUSE {major}.{minor}, this needs {MAJOR}.{MINOR_MIN} (Linux 5.4) or newer")]
    TooOld {
        /// The kernel's.
        major: u32,
        /// The kernel's.
        minor: u32,
    },
    /// Something that was required is not offered.
    #[error("the kernel does not offer the FUSE flags {0:#x}")]
    Missing(u64),
}

impl Refusal {
    /// Of the reply to INIT.
    pub fn errno(&self) -> i32 {
        libc::EPROTO
    }
}

/// How INIT is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A newer major: this says ours, and the kernel sends another INIT.
    Version(InitOut),
    /// The connection is set up once `Agreed::reply` was written.
    Agreed(Agreed),
}

/// What both sides hold to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The older of both.
    pub minor: u32,
    /// `wire::flags::init`.
    pub flags: u64,
    /// Of the kernel's read-ahead.
    pub max_readahead_bytes: u32,
    /// Of the data of one request.
    pub max_request_bytes: u32,
    /// The same in pages.
    pub max_pages: u16,
    /// Requests without a waiting caller.
    pub max_background: u16,
    /// From so many on, the device counts as congested: three quarters.
    pub congestion_threshold: u16,
    /// 0: none.
    pub request_timeout_s: u16,
    /// Of times.
    pub time_granularity_ns: u32,
    /// OPEN may be answered ENOSYS.
    pub no_open: bool,
    /// OPENDIR may be answered ENOSYS.
    pub no_opendir: bool,
}

/// What to answer to `offer`.
pub fn negotiate(offer: &Offer, wants: &Wants) -> Result<Answer, Refusal> {
    let wanted = wants.flags | wants.flags_required;
    assert!(
        !(wants.no_handles && wanted & init::PASSTHROUGH != 0),
        "without OPEN nothing can be passed through"
    );
    assert!(wants.flags_required & NEVER == 0, "required flags are among those that can be agreed");
    let Offer { major, minor, .. } = *offer;
    if major > MAJOR {
        return Ok(Answer::Version(InitOut { major: MAJOR, minor: MINOR, ..InitOut::default() }));
    }
    if major < MAJOR || minor < MINOR_MIN {
        return Err(Refusal::TooOld { major, minor });
    }
    let flags = flags(offer, wants);
    let missing = wants.flags_required & !flags;
    if missing != 0 {
        return Err(Refusal::Missing(missing));
    }
    Ok(Answer::Agreed(agree(offer, wants, flags)))
}

fn flags(offer: &Offer, wants: &Wants) -> u64 {
    let mut flags = offer.flags & (wants.flags | wants.flags_required | ALWAYS) & !NEVER;
    if flags & init::PASSTHROUGH != 0 {
        // The kernel ignores passthrough beside a write-back cache.
        flags &= !init::WRITEBACK_CACHE;
    }
    let timeout = offer.flags & init::REQUEST_TIMEOUT;
    flags &= !init::REQUEST_TIMEOUT;
    if wants.request_timeout_s > 0 {
        flags |= timeout;
    }
    flags
}

fn agree(offer: &Offer, wants: &Wants, flags: u64) -> Agreed {
    let pages_max = if flags & init::MAX_PAGES != 0 { u16::MAX } else { PAGES_DEFAULT };
    let pages = wants.max_request_bytes.div_ceil(PAGE_BYTES).clamp(1, u32::from(pages_max));
    let request_timeout_s = if flags & init::REQUEST_TIMEOUT != 0 { wants.request_timeout_s } else { 0 };
    let offered = |flag| offer.flags & flag != 0;
    Agreed {
        minor: offer.minor.min(MINOR),
        flags,
        max_readahead_bytes: wants.max_readahead_bytes.min(offer.max_readahead_bytes),
        max_request_bytes: pages * PAGE_BYTES,
        max_pages: u16::try_from(pages).expect("clamped"),
        max_background: wants.max_background.max(1),
        congestion_threshold: (wants.max_background / 4 * 3).max(1),
        request_timeout_s,
        time_granularity_ns: wants.time_granularity_ns,
        no_open: wants.no_handles && offered(init::NO_OPEN_SUPPORT),
        no_opendir: wants.no_handles && offered(init::NO_OPENDIR_SUPPORT),
    }
}

impl Agreed {
    /// Whether all of `flags` were agreed.
    pub fn has(&self, flags: u64) -> bool {
        self.flags & flags == flags
    }

    /// OPEN may name a backing file.
    pub fn passthrough(&self) -> bool {
        self.has(init::PASSTHROUGH)
    }

    /// Requests come over rings once every queue is registered.
    pub fn over_io_uring(&self) -> bool {
        self.has(init::OVER_IO_URING)
    }

    /// What a buffer for one read of the device needs.
    pub fn read_buffer_bytes(&self) -> usize {
        let bytes = crate::wire::REQUEST_HEAD_BYTES_MAX + self.max_request_bytes as usize;
        bytes.max(crate::wire::READ_BUFFER_BYTES_MIN)
    }

    /// The answer to INIT.
    pub fn reply(&self) -> InitOut {
        InitOut {
            major: MAJOR,
            minor: self.minor,
            max_readahead: self.max_readahead_bytes,
            flags: self.flags as u32,
            max_background: self.max_background,
            congestion_threshold: self.congestion_threshold,
            max_write: self.max_request_bytes,
            time_gran: self.time_granularity_ns,
            max_pages: if self.has(init::MAX_PAGES) { self.max_pages } else { 0 },
            map_alignment: 0,
            flags2: (self.flags >> 32) as u32,
            max_stack_depth: if self.passthrough() { STACK_DEPTH } else { 0 },
            request_timeout: self.request_timeout_s,
            unused: [0; 11],
        }
    }
}
