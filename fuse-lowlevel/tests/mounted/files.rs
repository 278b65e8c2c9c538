//! A tree of two files, answered from raw bytes: `data`, whose bytes are a pattern, and `stuck`, whose READ is never answered.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use fuse_lowlevel::device::{BackingId, Device, Received, Sent};

pub const DATA: u64 = 2;
pub const STUCK: u64 = 3;
pub const DATA_BYTES: usize = (3 << 20) + 4321;

pub const ASYNC_READ: u64 = 1 << 0;
pub const MAX_PAGES: u64 = 1 << 22;
pub const INIT_EXT: u64 = 1 << 30;
pub const PASSTHROUGH: u64 = 1 << 37;
pub const OVER_IO_URING: u64 = 1 << 41;

pub const FOPEN_DIRECT_IO: u32 = 1;
pub const FOPEN_KEEP_CACHE: u32 = 2;
pub const FOPEN_PASSTHROUGH: u32 = 128;

/// What INIT agrees on.
pub const WRITE_BYTES_MAX: u32 = 1 << 20;
pub const PAGES_MAX: u16 = 256;

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const RELEASE: u32 = 18;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

/// The bytes of `data`, of which no two pages are alike.
pub fn pattern() -> Vec<u8> {
    (0..DATA_BYTES as u64 / 8 + 1)
        .flat_map(|word| word.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_ne_bytes())
        .take(DATA_BYTES)
        .collect()
}

pub struct Files {
    pub bytes: Vec<u8>,
    pub flags: u64,
    pub open_flags: u32,
    pub backing: Option<BackingId>,
    pub reads: AtomicUsize,
    pub read_bytes_max: AtomicUsize,
    pub lookups: AtomicUsize,
    pub offered_flags2: AtomicU32,
    /// `unique` of READs that are held back.
    pub held: Mutex<Vec<u64>>,
}

pub enum Answer {
    None,
    Errno(i32),
    Bytes(Vec<u8>),
    Data { offset: usize, length: usize },
}

impl Files {
    pub fn new(flags: u64, open_flags: u32) -> Files {
        Files {
            bytes: pattern(),
            flags: flags | ASYNC_READ | MAX_PAGES | INIT_EXT,
            open_flags,
            backing: None,
            reads: AtomicUsize::new(0),
            read_bytes_max: AtomicUsize::new(0),
            lookups: AtomicUsize::new(0),
            offered_flags2: AtomicU32::new(0),
            held: Mutex::new(Vec::new()),
        }
    }

    pub fn answer(&self, header: &[u8], argument: &[u8], name: &[u8]) -> Answer {
        let node = u64_at(header, 16);
        match u32_at(header, 4) {
            INIT => Answer::Bytes(self.init(argument)),
            LOOKUP => self.lookup(name),
            GETATTR => Answer::Bytes([words(&[0, 0]), self.attributes(node)].concat()),
            OPEN => Answer::Bytes(self.open()),
            READ if node == STUCK => {
                self.held.lock().unwrap().push(u64_at(header, 8));
                Answer::None
            }
            READ => self.read(argument),
            RELEASE | FLUSH => Answer::Bytes(Vec::new()),
            FORGET | BATCH_FORGET | INTERRUPT => Answer::None,
            _ => Answer::Errno(libc::ENOSYS),
        }
    }

    fn init(&self, argument: &[u8]) -> Vec<u8> {
        let minor = u32_at(argument, 4).min(45);
        self.offered_flags2.store(u32_at(argument, 16), Ordering::Relaxed);
        let offered = u64::from(u32_at(argument, 12)) | u64::from(u32_at(argument, 16)) << 32;
        let flags = self.flags & offered;
        assert_eq!(flags, self.flags, "the kernel offers what the test needs");
        let mut reply = vec![0; 64];
        put32(&mut reply, 0, 7);
        put32(&mut reply, 4, minor);
        put32(&mut reply, 8, WRITE_BYTES_MAX);
        put32(&mut reply, 12, flags as u32);
        reply[16..18].copy_from_slice(&64u16.to_ne_bytes());
        reply[18..20].copy_from_slice(&48u16.to_ne_bytes());
        put32(&mut reply, 20, WRITE_BYTES_MAX);
        put32(&mut reply, 24, 1);
        reply[28..30].copy_from_slice(&PAGES_MAX.to_ne_bytes());
        put32(&mut reply, 32, (flags >> 32) as u32);
        put32(&mut reply, 36, u32::from(flags & PASSTHROUGH != 0));
        reply
    }

    fn lookup(&self, name: &[u8]) -> Answer {
        self.lookups.fetch_add(1, Ordering::Relaxed);
        let node = match name {
            b"data\0" => DATA,
            b"stuck\0" => STUCK,
            _ => return Answer::Errno(libc::ENOENT),
        };
        // Entry and attributes are good for an hour.
        Answer::Bytes([words(&[node, 0, 3600, 3600, 0]), self.attributes(node)].concat())
    }

    fn attributes(&self, node: u64) -> Vec<u8> {
        let (mode, size) = if node == 1 { (0o40755, 4096) } else { (0o100644, self.bytes.len() as u64) };
        let mut attributes = words(&[node, size, size.div_ceil(512), 0, 0, 0]);
        attributes.resize(88, 0);
        put32(&mut attributes, 60, mode);
        put32(&mut attributes, 64, 1);
        put32(&mut attributes, 80, 4096);
        attributes
    }

    fn open(&self) -> Vec<u8> {
        let mut reply = words(&[7, 0]);
        put32(&mut reply, 8, self.open_flags);
        put32(&mut reply, 12, self.backing.map_or(0, |id| id.get() as u32));
        reply
    }

    fn read(&self, argument: &[u8]) -> Answer {
        let (offset, size) = (u64_at(argument, 8) as usize, u32_at(argument, 16) as usize);
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.read_bytes_max.fetch_max(size, Ordering::Relaxed);
        let offset = offset.min(self.bytes.len());
        Answer::Data { offset, length: size.min(self.bytes.len() - offset) }
    }

    /// Answers one request of the classic transport; what has become of the reply, if there was one.
    pub fn serve_one(&self, device: &Device, request: &[u8]) -> Option<Sent> {
        let (header, argument) = request.split_at(40);
        let unique = u64_at(header, 8);
        match self.answer(header, argument, argument) {
            Answer::None => None,
            Answer::Errno(errno) => Some(device.send(&out_header(0, -errno, unique), &[]).unwrap()),
            Answer::Bytes(bytes) => {
                Some(device.send(&out_header(bytes.len(), 0, unique), &[&bytes]).unwrap())
            }
            Answer::Data { offset, length } => {
                // In two parts, so that a body of several parts is seen to arrive in order.
                let (first, second) = self.bytes[offset..offset + length].split_at(length / 3);
                Some(device.send(&out_header(length, 0, unique), &[first, second]).unwrap())
            }
        }
    }

    /// Serves until the connection's end.
    pub fn serve(&self, device: &Device) {
        let mut buffer = vec![0; WRITE_BYTES_MAX as usize + 4096];
        while let Received::Request(length) = device.receive(&mut buffer).unwrap() {
            self.serve_one(device, &buffer[..length]);
        }
    }

    /// Answers the first request, which is INIT.
    pub fn serve_init(&self, device: &Device) {
        let mut buffer = vec![0; WRITE_BYTES_MAX as usize + 4096];
        let Received::Request(length) = device.receive(&mut buffer).unwrap() else { panic!("no INIT") };
        assert_eq!(u32_at(&buffer, 4), INIT);
        assert_eq!(self.serve_one(device, &buffer[..length]), Some(Sent::Delivered));
    }
}

pub fn out_header(body_bytes: usize, error: i32, unique: u64) -> [u8; 16] {
    let mut header = [0; 16];
    header[0..4].copy_from_slice(&(16 + body_bytes as u32).to_ne_bytes());
    header[4..8].copy_from_slice(&error.to_ne_bytes());
    header[8..16].copy_from_slice(&unique.to_ne_bytes());
    header
}

pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn put32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}
