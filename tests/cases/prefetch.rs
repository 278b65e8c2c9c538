//! Reading ahead: sequential readers find large blobs in RAM, others cost nothing, and no byte is wrong for it.

use std::thread;
use std::time::{Duration, Instant};

use tests::content::{self, Digest, Rng, run_seed};
use tests::exposition::Exposition;
use tests::http::Request;
use tests::node::{Node, Setup, cpuset};

const MIB: usize = 1 << 20;
const EXTENT_BYTES: usize = 4 * MIB;
const BLOB_BYTES: usize = 15 * EXTENT_BYTES + 12_345;
/// A stream is over after 30 s without a read; this is for noticing it.
const STREAM_OVER: Duration = Duration::from_secs(45);

/// The counters of reading ahead, and extents found in RAM.
#[derive(Debug)]
struct Ahead {
    issued: u64,
    bytes: u64,
    hits: u64,
    wasted: u64,
    ram_hits: u64,
}

fn ahead(node: &Node) -> Ahead {
    let reply = node.ops().call(&Request::new("GET", "/metrics")).must_be(200);
    let scrape = Exposition::parse(reply.text()).unwrap_or_else(|why| panic!("{why}"));
    let total = |name: &str| {
        assert!(scrape.0.contains_key(name), "no {name}");
        scrape.sum(name, |_| true) as u64
    };
    Ahead {
        issued: total("blobcache_prefetch_issued_total"),
        bytes: total("blobcache_prefetch_bytes_total"),
        hits: total("blobcache_prefetch_hits_total"),
        wasted: total("blobcache_prefetch_wasted_total"),
        ram_hits: total("blobcache_tier_ram_hits_total"),
    }
}

/// A node that has a large blob on disk and nothing of it in RAM.
fn cold(setup: Setup) -> (Node, Vec<u8>, Digest) {
    cold_of(setup, BLOB_BYTES)
}

fn cold_of(setup: Setup, size: usize) -> (Node, Vec<u8>, Digest) {
    let mut node = setup.start();
    let body = content::bytes(71, size);
    let digest = node.client().put(&body);
    node.stop();
    (node.start_again(), body, digest)
}

/// Reads `[from, to)`, on a connection of its own so that any column may get it.
fn must_read(node: &Node, digest: &Digest, body: &[u8], from: usize, to: usize) {
    let range = format!("bytes={from}-{}", to - 1);
    let request = Request::new("GET", digest.path()).header("Range", range.as_str());
    let reply = node.client().call(&request).must_be(206);
    assert!(reply.body == body[from..to], "wrong bytes for {range}");
}

fn read_in_order(node: &Node, digest: &Digest, body: &[u8], to: usize) {
    for from in (0..to).step_by(MIB) {
        must_read(node, digest, body, from, to.min(from + MIB));
    }
}

#[test]
fn a_whole_get_is_read_ahead_of_and_is_no_cache_hit() {
    let (node, body, digest) = cold(Setup::new());
    assert!(node.client().get(&digest) == body);
    let seen = ahead(&node);
    assert!(seen.issued >= 8, "{seen:?}");
    assert_eq!((seen.hits, seen.wasted, seen.ram_hits), (seen.issued, 0, 0), "{seen:?}");
    assert!(seen.bytes > (seen.issued as usize - 1) as u64 * EXTENT_BYTES as u64, "{seen:?}");
    assert!(seen.bytes <= seen.issued * EXTENT_BYTES as u64, "{seen:?}");
    assert!(node.client().get(&digest) == body);
    let again = ahead(&node);
    assert!(again.ram_hits >= seen.issued, "what was read ahead did not stay: {again:?}");
    assert_eq!(again.issued, seen.issued, "what is in RAM was read again");
}

/// With RAM enough for all of it: 16 extents are ahead after two reads, and no more as long as the reader finds what he comes for.
#[test]
fn a_reader_who_never_waits_has_16_extents_ahead() {
    let (node, body, digest) = cold_of(Setup::new().cpuset(cpuset(1)).memory("2GiB"), 24 * EXTENT_BYTES);
    let must_be_ahead = |extents: u64| {
        let begin = Instant::now();
        while ahead(&node).issued < extents {
            assert!(begin.elapsed() < STREAM_OVER, "{:?}, not {extents}", ahead(&node));
            thread::sleep(Duration::from_millis(20));
        }
        // What was issued last has the time to arrive, and what is too much to be issued.
        thread::sleep(Duration::from_millis(500));
        let seen = ahead(&node);
        assert_eq!((seen.issued, seen.wasted), (extents, 0), "{seen:?}");
        assert!(seen.ram_hits <= 1, "only the first extent, which was read twice, is a hit: {seen:?}");
    };
    read_in_order(&node, &digest, &body, 2 * MIB);
    must_be_ahead(16);
    for extent in 1..4 {
        must_read(&node, &digest, &body, extent * EXTENT_BYTES, (extent + 1) * EXTENT_BYTES);
        must_be_ahead(16 + extent as u64);
        assert_eq!(ahead(&node).hits, extent as u64);
    }
}

#[test]
fn ranges_in_order_over_many_connections_are_a_stream() {
    let (node, body, digest) = cold(Setup::new());
    read_in_order(&node, &digest, &body, BLOB_BYTES);
    let seen = ahead(&node);
    assert!(seen.issued >= 8, "{seen:?}");
    assert_eq!((seen.hits, seen.wasted), (seen.issued, 0), "{seen:?}");
    // The extents that were in RAM because of reading ahead alone are no cache hits, whoever reads how often.
    assert!(seen.ram_hits <= 3 * (16 - seen.issued), "{seen:?}");
}

#[test]
fn reads_at_random_are_not_read_ahead_of() {
    let (node, body, digest) = cold(Setup::new());
    let mut rng = Rng::new(run_seed());
    for _ in 0..400 {
        let from = rng.below((BLOB_BYTES - 4096) as u64) as usize;
        must_read(&node, &digest, &body, from, from + 4096);
    }
    let seen = ahead(&node);
    assert_eq!((seen.issued, seen.bytes, seen.hits, seen.wasted), (0, 0, 0, 0), "{seen:?}");
}

#[test]
fn what_a_reader_does_not_come_for_is_waste() {
    let (node, body, digest) = cold(Setup::new());
    read_in_order(&node, &digest, &body, 5 * EXTENT_BYTES);
    let before = ahead(&node);
    assert!(before.issued > before.hits && before.wasted == 0, "{before:?}");
    let begin = Instant::now();
    loop {
        let seen = ahead(&node);
        if seen.wasted > 0 {
            assert_eq!(seen.issued, seen.hits + seen.wasted, "{seen:?}");
            assert!(begin.elapsed() >= Duration::from_secs(25), "over after {:?}", begin.elapsed());
            break;
        }
        assert!(begin.elapsed() < STREAM_OVER, "{seen:?} after {:?}", begin.elapsed());
        thread::sleep(Duration::from_millis(500));
    }
    must_read(&node, &digest, &body, 5 * EXTENT_BYTES, BLOB_BYTES);
}

#[test]
fn a_blob_is_deleted_while_it_is_read_ahead() {
    let (node, body, digest) = cold(Setup::new());
    for round in 0..8 {
        let before = ahead(&node);
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let reply = node.client().try_get(&digest).expect("a reader under way finishes");
                assert!([200, 404].contains(&reply.status), "{}", reply.status);
            });
            let begin = Instant::now();
            while ahead(&node).issued == before.issued && !reader.is_finished() {
                assert!(begin.elapsed() < STREAM_OVER, "nothing is read ahead in round {round}");
            }
            assert_eq!(node.client().delete(&digest), 204);
        });
        let range = Request::new("GET", digest.path()).header("Range", "bytes=0-1");
        node.client().call(&range).must_be(404);
        assert_eq!(node.client().put(&body), digest);
        assert!(node.client().get(&digest) == body);
        // Out of RAM again, for the next round.
        assert_eq!(node.client().delete(&digest), 204);
        node.client().put(&body);
    }
    let seen = ahead(&node);
    assert!(seen.issued >= 8 && seen.issued >= seen.hits + seen.wasted, "{seen:?}");
}

#[test]
fn readers_of_one_blob_at_many_places_get_their_bytes_though_ram_is_small() {
    let (node, body, digest) = cold(Setup::new().memory("256MiB"));
    let others: Vec<_> = (0..4).map(|n| content::bytes(80 + n, BLOB_BYTES)).collect();
    let others: Vec<_> = others.iter().map(|body| (body, node.client().put(body))).collect();
    thread::scope(|scope| {
        for reader in 0..4 {
            let (node, body, digest, others) = (&node, &body, &digest, &others);
            scope.spawn(move || {
                for from in (reader * EXTENT_BYTES * 3..BLOB_BYTES).step_by(700_001) {
                    must_read(node, digest, body, from, BLOB_BYTES.min(from + 700_001));
                }
                let (body, digest) = &others[reader];
                assert!(node.client().get(digest) == **body);
            });
        }
    });
    let seen = ahead(&node);
    assert!(seen.hits > 0 && seen.issued >= seen.hits + seen.wasted, "{seen:?}");
}

#[test]
fn switched_off_nothing_is_read_ahead() {
    let (node, body, digest) = cold(Setup::new().arg("--prefetch").arg("off"));
    assert!(node.client().get(&digest) == body);
    read_in_order(&node, &digest, &body, BLOB_BYTES);
    let seen = ahead(&node);
    assert_eq!((seen.issued, seen.hits, seen.wasted), (0, 0, 0), "{seen:?}");
}

#[test]
fn prefetch_is_on_or_off() {
    let refused = Setup::new().arg("--prefetch").arg("maybe").run_refused();
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("neither on nor off"), "{}", refused.stderr);
}
