//! What is measured: each path with the state it works on, made once, and one operation of it.

use benches::rng::Rng;
use crc32c::crc32c;
use net::http1::{Parsed, parse_head, parse_range};
use runtime::tier::Digest;
use runtime::tier::parts::{
    Batch, Entry, Frame, Index, NOT_HELD, Place, Policy, Purpose, Record, Said, batch_bytes, check_data,
    encode_batch, read,
};
use std::hint::black_box;

/// One operation after another on the same state.
pub trait Path {
    /// Does one.
    fn operate(&mut self);
}

type Make = fn() -> Box<dyn Path>;

/// Name and maker of each path.
pub const ALL: [(&str, Make); 6] = [
    ("head", || Box::new(HeadParse)),
    ("range", || Box::new(RangeParse)),
    ("lookup", || Box::new(Lookup::new())),
    ("encode", || Box::new(Encode::new())),
    ("decode", || Box::new(Decode::new())),
    ("listing", || Box::new(Listing(objects().0))),
];

/// Objects in the index; more than the second-level cache holds.
const OBJECTS: usize = 20_000;
/// Records of one group commit, and the bytes of each.
const RECORDS: usize = 8;
const RECORD_BYTES: usize = 4096;

const HEAD: &[u8] =
    b"GET /blobs/sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 HTTP/1.1\r\n\
    Host: 127.0.0.1:9000\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\nAccept-Encoding: identity\r\n\
    If-None-Match: \"sha256:9f86d081\"\r\nRange: bytes=0-1048575\r\nConnection: keep-alive\r\n\r\n";

struct HeadParse;

impl Path for HeadParse {
    fn operate(&mut self) {
        match parse_head(black_box(HEAD)) {
            Ok(Parsed::Complete(head)) => {
                black_box((head.header("range"), head.header("if-none-match"), head.keep_alive));
            }
            other => panic!("a whole head is read: {other:?}"),
        }
    }
}

struct RangeParse;

impl Path for RangeParse {
    fn operate(&mut self) {
        black_box(parse_range(black_box(b"bytes=1048576-2097151"), 1 << 30));
        black_box(parse_range(black_box(b"bytes=0-1023, 65536-131071, -4096"), 1 << 30));
    }
}

/// An index of [`OBJECTS`] objects and their names.
fn objects() -> (Index, Vec<Digest>) {
    let (mut index, mut rng) = (Index::new(7), Rng::new(7));
    let mut names = Vec::new();
    for at in 0..OBJECTS {
        let mut digest = Digest([0; 32]);
        rng.fill(&mut digest.0);
        let place = Place::Packed { segment: 1, offset: at as u32 };
        let (size, sequence, expires_ms, crc) = (RECORD_BYTES as u64, at as u64, 0, 0);
        let (evictable, pinned, disk, held) = (false, false, 0, NOT_HELD);
        index.insert(digest, Entry { place, size, sequence, expires_ms, crc, evictable, pinned, disk, held });
        names.push(digest);
    }
    (index, names)
}

/// Finds an object, and notes in the policy that it was asked for.
struct Lookup {
    index: Index,
    names: Vec<Digest>,
    policy: Policy<Digest>,
    rng: Rng,
}

impl Lookup {
    fn new() -> Self {
        let (mut index, names) = objects();
        let mut policy = Policy::new((OBJECTS * RECORD_BYTES) as u64, 7);
        for name in &names {
            let slot = policy.insert(*name, RECORD_BYTES as u64, &mut Vec::new());
            index.get_mut(name).expect("just inserted").held = slot.expect("lighter than the budget");
        }
        Self { index, names, policy, rng: Rng::new(3) }
    }
}

impl Path for Lookup {
    fn operate(&mut self) {
        let name = &self.names[self.rng.below(OBJECTS as u64) as usize];
        let entry = black_box(self.index.get(black_box(name))).expect("all are there");
        black_box(self.policy.touch(entry.held));
    }
}

const SEED: u32 = 0x5eed_5eed;
const BATCH: Batch = Batch {
    purpose: Purpose::Pack,
    journal: 1,
    segment: 1,
    payload_bytes: 0,
    heads_bytes: 0,
    records: 0,
    first: 41,
    synced: 41,
    before: None,
};

fn record(at: usize, data: &[u8]) -> Frame {
    let record = Record {
        said: Said::Packed,
        digest: Digest([at as u8; 32]),
        sequence: at as u64,
        expires_ms: 0,
        size: data.len() as u64,
        crc: crc32c(data),
        evictable: false,
        pinned: false,
    };
    record.frame()
}

/// One group commit: checksums of the data, and the batch's bytes.
struct Encode {
    data: Vec<Vec<u8>>,
    out: Vec<u8>,
}

impl Encode {
    fn new() -> Self {
        let mut rng = Rng::new(5);
        let data = (0..RECORDS).map(|_| {
            let mut bytes = vec![0; RECORD_BYTES];
            rng.fill(&mut bytes);
            bytes
        });
        let data: Vec<Vec<u8>> = data.collect();
        let frames: Vec<Frame> = data.iter().map(|data| record(0, data)).collect();
        Self { data, out: vec![0; batch_bytes(frames.iter())] }
    }
}

impl Path for Encode {
    fn operate(&mut self) {
        let items: [(Frame, &[u8]); RECORDS] =
            std::array::from_fn(|at| (record(at, black_box(&self.data[at])), &self.data[at][..]));
        black_box(encode_batch(SEED, BATCH, &items, &mut self.out));
    }
}

/// The same batch, as recovery reads it.
struct Decode(Vec<u8>);

impl Decode {
    fn new() -> Self {
        let mut encode = Encode::new();
        encode.operate();
        Self(encode.out)
    }
}

impl Path for Decode {
    fn operate(&mut self) {
        let bytes = black_box(&self.0[..]);
        let batch = Batch::decode(SEED, bytes).expect("as encoded");
        let frames = batch.frames(bytes).expect("as encoded");
        check_data(bytes, &frames).expect("as encoded");
        for (frame, _) in &frames {
            black_box(read(frame).expect("as encoded"));
        }
    }
}

/// A page of 100 names, and its JSON.
struct Listing(Index);

impl Path for Listing {
    fn operate(&mut self) {
        let page = self.0.list(black_box(None), 100, 1);
        let next = page.last().map(|(digest, _)| *digest);
        black_box(blobcache::serve::render_page(&page, next));
    }
}
