//! Random ranges of every kind, many thousands, over kept and pipelined connections to a node in a small memory cgroup: what comes
//! is what the origin has, byte for byte. `BASALT_SLICE_RANGES` sets how many.

use super::object;
use std::ops::Range;
use std::thread;
use tests::cgroup::MemoryCgroup;
use tests::content::{self, Rng};
use tests::http::{Conn, Reply, Request};
use tests::node::Setup;
use tests::origin::{Object, Origin};
use tests::scale;

const SLICE: usize = 256 << 10;
const RANGES: u64 = 100_000;
const CONNECTIONS: u64 = 4;
/// Requests that are sent before the first answer is read.
const PIPELINED: usize = 16;
const BUDGET_BYTES: u64 = 128 << 20;
/// Beside the budget: code, stacks, indexes, sockets, and the least of a page cache.
const LIMIT_BYTES: u64 = BUDGET_BYTES + (192 << 20);
/// What stands between two parts of an answer costs about as much; nearer ranges are one (RFC 9110 §15.3.7.2).
const GAP: usize = 80;

/// A request and what it must get.
enum Wanted {
    Whole,
    One(Range<usize>),
    /// Parts that together have at least these bytes.
    Parts(Vec<Range<usize>>),
    Nothing,
}

struct Asked {
    object: usize,
    range: String,
    wanted: Wanted,
}

/// A place in an object: anywhere, or beside a border of slices.
fn place(rng: &mut Rng, size: usize) -> usize {
    let borders = (size / SLICE) as u64;
    match borders > 0 && rng.one_in(2) {
        true => {
            let border = (1 + rng.below(borders)) as usize * SLICE;
            (border + rng.below(7) as usize).saturating_sub(3).min(size - 1)
        }
        false => rng.below(size as u64) as usize,
    }
}

/// A stretch of at most `most` bytes.
fn stretch(rng: &mut Rng, size: usize, most: u64) -> Range<usize> {
    let from = place(rng, size);
    from..(from + rng.size(1, most)).min(size)
}

fn several(rng: &mut Rng, size: usize) -> (String, Wanted) {
    let mut ranges: Vec<Range<usize>> = (0..2 + rng.below(5)).map(|_| stretch(rng, size, 500)).collect();
    // In ascending order any number of them is taken; three overlapping ones are not.
    ranges.sort_by_key(|range| range.start);
    let mut end = 0;
    ranges.retain(|range| {
        let is_apart = range.start >= end + GAP || end == 0;
        end = if is_apart { range.end } else { end };
        is_apart
    });
    if rng.one_in(2) {
        ranges.reverse();
    }
    let words: Vec<String> =
        ranges.iter().map(|range| format!("{}-{}", range.start, range.end - 1)).collect();
    let wanted = if ranges.len() == 1 { Wanted::One(ranges.remove(0)) } else { Wanted::Parts(ranges) };
    (format!("bytes={}", words.join(if rng.one_in(2) { "," } else { " , " })), wanted)
}

fn draw(rng: &mut Rng, bodies: &[Object]) -> Asked {
    let object = rng.below(bodies.len() as u64) as usize;
    let size = bodies[object].body.len();
    let (range, wanted) = match rng.below(20) {
        0 if size < 100_000 => (String::new(), Wanted::Whole),
        0 | 1 => {
            let length = rng.size(1, (size as u64 * 2).min(3000));
            (format!("bytes=-{length}"), Wanted::One(size.saturating_sub(length)..size))
        }
        2 => {
            let from = size - 1 - rng.below(3000.min(size as u64)) as usize;
            (format!("bytes={from}-"), Wanted::One(from..size))
        }
        3 => {
            let from = size - 1 - rng.below(3000.min(size as u64)) as usize;
            (format!("bytes={from}-{}", size + rng.below(1 << 40) as usize), Wanted::One(from..size))
        }
        4 => (format!("bytes={}-", size + rng.below(1 << 20) as usize), Wanted::Nothing),
        5 | 6 => several(rng, size),
        // Now and then over more than one border.
        7 => {
            let range = stretch(rng, size, 600_000);
            (format!("bytes={}-{}", range.start, range.end - 1), Wanted::One(range))
        }
        _ => {
            let range = stretch(rng, size, 4000);
            (format!("bytes={}-{}", range.start, range.end - 1), Wanted::One(range))
        }
    };
    Asked { object, range, wanted }
}

/// What the parts of a multipart answer say that they are, and their bytes.
fn parts(reply: &Reply) -> Vec<(Range<usize>, &[u8])> {
    let kind = reply.header("content-type").expect("it has parts");
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").expect("parts");
    let opening = format!("--{boundary}\r\n");
    let mut rest = &reply.body[..];
    let mut found = Vec::new();
    while let Some(inner) = rest.strip_prefix(opening.as_bytes()) {
        let end = inner.windows(4).position(|w| w == b"\r\n\r\n").expect("a head");
        let head = std::str::from_utf8(&inner[..end]).expect("text");
        let said = head.lines().find_map(|line| line.strip_prefix("content-range: bytes ")).expect("a range");
        let (range, _) = said.split_once('/').expect("a size");
        let (first, last) = range.split_once('-').expect("a range");
        let range = first.parse().expect("a number")..last.parse::<usize>().expect("a number") + 1;
        let (body, after) = inner[end + 4..].split_at(range.len());
        found.push((range, body));
        rest = after.strip_prefix(b"\r\n").expect("a line end");
    }
    assert_eq!(rest, format!("--{boundary}--\r\n").as_bytes());
    found
}

fn must_be(asked: &Asked, reply: &Reply, body: &[u8], context: &str) {
    let said = || format!("{} of /r{}: {context}: {:?}", asked.range, asked.object, reply.headers);
    let status = match asked.wanted {
        Wanted::Whole => 200,
        Wanted::Nothing => 416,
        Wanted::One(_) | Wanted::Parts(_) => 206,
    };
    assert_eq!(reply.status, status, "{}", said());
    match &asked.wanted {
        Wanted::Whole => assert!(reply.body == body, "{}", said()),
        Wanted::Nothing => {
            assert_eq!(
                reply.header("content-range"),
                Some(&*format!("bytes */{}", body.len())),
                "{}",
                said()
            );
        }
        Wanted::One(range) => {
            let range_said = format!("bytes {}-{}/{}", range.start, range.end - 1, body.len());
            assert_eq!(reply.header("content-range"), Some(range_said.as_str()), "{}", said());
            assert!(reply.body == body[range.clone()], "{}", said());
        }
        Wanted::Parts(wanted) => {
            let found = parts(reply);
            let ranges: Vec<_> = found.iter().map(|(range, _)| range.clone()).collect();
            assert_eq!(&ranges, wanted, "{}", said());
            assert!(found.into_iter().all(|(range, bytes)| bytes == &body[range]), "{}", said());
        }
    }
}

fn ask(conn: &mut Conn, rng: &mut Rng, count: u64, objects: &[Object], context: &str) {
    let mut left = count as usize;
    while left > 0 {
        let batch: Vec<Asked> = (0..PIPELINED.min(left)).map(|_| draw(rng, objects)).collect();
        let request = |asked: &Asked| {
            let request = Request::new("GET", format!("/r{}", asked.object));
            let is_range = !asked.range.is_empty();
            let request = if is_range { request.header("Range", &*asked.range) } else { request };
            request.to_bytes()
        };
        conn.send(&batch.iter().flat_map(request).collect::<Vec<u8>>()).expect("sent");
        for asked in &batch {
            let reply =
                conn.receive("GET").unwrap_or_else(|fault| panic!("{}: {fault}: {context}", asked.range));
            must_be(asked, &reply, &objects[asked.object].body, context);
        }
        left -= batch.len();
    }
}

#[test]
fn a_hundred_thousand_random_ranges_are_the_origins_bytes() {
    let Some(group) = MemoryCgroup::or_skip(LIMIT_BYTES) else { return };
    let entry = group.entry();
    let origin = Origin::start();
    let sizes = [
        1,
        700,
        65_536,
        SLICE - 1,
        SLICE,
        SLICE + 1,
        3 * SLICE + 17,
        11 * SLICE,
        40 * SLICE + 4095,
        160 * SLICE + 1,
    ];
    let objects: Vec<Object> = sizes.iter().enumerate().map(|(at, &size)| object(at as u64, size)).collect();
    for (at, object) in objects.iter().enumerate() {
        origin.put(&format!("/r{at}"), object.clone());
    }
    let setup = Setup::new().origin(&origin.url("")).arg("--slice-size").arg("256KiB").memory("128MiB");
    let node = setup.by(&["sh", "-c", &entry, "sh"]).start();
    let seed = content::run_seed();
    let context = format!("BASALT_TEST_SEED={seed}");
    let each = scale::count("BASALT_SLICE_RANGES", RANGES).div_ceil(CONNECTIONS);
    thread::scope(|scope| {
        for worker in 0..CONNECTIONS {
            let (node, objects, context) = (&node, &objects, &context);
            scope.spawn(move || ask(&mut node.slice(), &mut Rng::new(seed ^ worker), each, objects, context));
        }
    });
    for at in 0..objects.len() {
        let again = origin.asked(&format!("/r{at}")).into_iter().find(|(_, count)| *count > 1);
        assert_eq!(again, None, "/r{at} {context}: fetched again");
    }
    group.must_have_held(&node, "ranges");
}
