//! Looking for damage in what nobody reads: it is found, counted, not served, mended by PUT; the rate is kept.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use tests::blobs::Client;
use tests::content::{self, Digest};
use tests::disk;
use tests::exposition::Exposition;
use tests::http::Request;
use tests::node::{EXIT_DEADLINE, Node, Setup};

/// Packed small, packed large, a file of many blocks.
const SIZES: [usize; 3] = [500, 60_000, 6_000_000];
/// For what a fast scrubber does in much less.
const PATIENCE: Duration = Duration::from_secs(30);
/// A grant, which is the most that one read moves.
const READ_BYTES: f64 = 262_144.0;

fn metric(node: &Node, name: &str) -> f64 {
    let reply = node.ops().call(&Request::new("GET", "/metrics")).must_be(200);
    let scrape = Exposition::parse(reply.text()).unwrap_or_else(|why| panic!("{why}"));
    assert!(scrape.0.contains_key(name), "no {name}");
    scrape.sum(name, |_| true)
}

fn scrubbed(node: &Node, what: &str) -> f64 {
    metric(node, &format!("blobcache_scrub_{what}_total"))
}

fn await_that(what: &str, holds: impl Fn() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn fast() -> Setup {
    Setup::new().arg("--scrub-rate").arg("1GiB").arg("--scrub-rest").arg("1s")
}

fn put_all(node: &Node) -> Vec<Vec<u8>> {
    let bodies: Vec<_> = (0..6).map(|at| content::bytes(at, SIZES[at as usize % 3] + at as usize)).collect();
    bodies.iter().for_each(|body| drop(node.client().put(body)));
    bodies
}

fn damage(data: &Path, body: &[u8]) {
    let middle = body.len() / 2;
    let places = disk::find(data, &body[middle..middle + 64]);
    assert!(!places.is_empty(), "{} bytes are not on disk as they are", body.len());
    places.iter().for_each(disk::Place::flip);
}

fn must_be_refused(node: &Node, body: &[u8]) {
    let reply = node.client().try_get(&Digest::of(body));
    assert!(!reply.is_ok_and(|reply| reply.status == 200), "{} damaged bytes are served", body.len());
}

#[test]
fn damage_that_nobody_reads_is_found_counted_and_mended_by_put() {
    let node = fast().start();
    let bodies = put_all(&node);
    let (damaged, whole) = bodies.split_at(SIZES.len());
    damaged.iter().for_each(|body| damage(&node.setup.data, body));
    await_that("all damage is found", || scrubbed(&node, "damaged") == damaged.len() as f64);
    assert_eq!(metric(&node, "blobcache_damaged_total"), damaged.len() as f64, "nobody has read it");
    damaged.iter().for_each(|body| must_be_refused(&node, body));
    damaged.iter().for_each(|body| drop(node.client().put(body)));
    let passes = scrubbed(&node, "passes");
    await_that("two more passes of each column", || scrubbed(&node, "passes") >= passes + 4.0);
    assert_eq!(scrubbed(&node, "damaged"), damaged.len() as f64, "mended is mended");
    assert!(metric(&node, "blobcache_scrub_last_pass_seconds") >= 1.0);
    for body in damaged.iter().chain(whole) {
        assert!(node.client().get(&Digest::of(body)) == *body);
    }
}

/// What was right in RAM when it was read came from the page cache, which the damage went through.
#[test]
fn damage_found_is_not_served_from_ram_either() {
    let node = fast().start();
    let body = content::bytes(3, 9 << 20);
    let digest = node.client().put(&body);
    for _ in 0..3 {
        assert!(node.client().get(&digest) == body);
    }
    damage(&node.setup.data, &body);
    await_that("the damage is found", || scrubbed(&node, "damaged") == 1.0);
    must_be_refused(&node, &body);
    node.client().put(&body);
    assert!(node.client().get(&digest) == body);
}

#[test]
fn strict_serves_nothing_that_changed_after_it_was_verified() {
    let node = Setup::new().arg("--verify").arg("strict").arg("--scrub-rate").arg("0").start();
    let bodies = [content::bytes(3, 9 << 20), content::bytes(4, 60_000)];
    for body in &bodies {
        let digest = node.client().put(body);
        for _ in 0..3 {
            assert!(node.client().get(&digest) == *body);
        }
        damage(&node.setup.data, body);
    }
    must_be_refused(&node, &bodies[0]);
    // Small blobs are in memory of the daemon's own.
    assert!(node.client().get(&Digest::of(&bodies[1])) == bodies[1]);
    assert_eq!(metric(&node, "blobcache_prefetch_issued_total"), 0.0);
}

#[test]
fn the_rate_is_kept() {
    const RATE: f64 = 2_097_152.0;
    let node = Setup::new().arg("--scrub-rate").arg("2MiB").arg("--scrub-rest").arg("1s").start();
    for at in 0..8 {
        node.client().put(&content::bytes(at, 4 << 20));
    }
    put_all(&node);
    let (begin, before) = (Instant::now(), scrubbed(&node, "bytes"));
    thread::sleep(Duration::from_secs(6));
    let read = scrubbed(&node, "bytes") - before;
    let most = RATE * begin.elapsed().as_secs_f64();
    // A read of each column may have been earned before.
    assert!(read <= most + 2.0 * READ_BYTES, "{read} bytes, {most} at most");
    assert!(read >= most / 4.0, "{read} bytes of {most}: it hardly reads");
}

#[test]
fn switched_off_nothing_is_read() {
    let node = Setup::new().arg("--scrub-rate").arg("0").arg("--scrub-rest").arg("1s").start();
    put_all(&node);
    thread::sleep(Duration::from_secs(3));
    for what in ["bytes", "objects", "passes", "damaged"] {
        assert_eq!(scrubbed(&node, what), 0.0, "{what}");
    }
}

/// Reads of one client for some seconds: the most that one took.
fn slowest_get(client: &mut Client, blobs: &[(Digest, Vec<u8>)], time: Duration) -> (Duration, usize) {
    let (begin, mut slowest, mut count) = (Instant::now(), Duration::ZERO, 0);
    while begin.elapsed() < time {
        let (digest, body) = &blobs[count % blobs.len()];
        let asked = Instant::now();
        assert!(client.get(digest) == *body);
        slowest = slowest.max(asked.elapsed());
        count += 1;
    }
    (slowest, count)
}

#[test]
fn gets_are_not_starved_and_nothing_stalls() {
    // Strict: large blobs come from the disk, as the scrubber's bytes do.
    let node = Setup::new().arg("--verify").arg("strict");
    let node = node.arg("--scrub-rate").arg("100GiB").arg("--scrub-rest").arg("1s").start();
    for at in 0..24 {
        node.client().put(&content::bytes(100 + at, 8 << 20));
    }
    let blobs: Vec<_> = (0..4).map(|at| content::bytes(at, 1 << 20)).collect();
    let blobs: Vec<_> = blobs.into_iter().map(|body| (node.client().put(&body), body)).collect();
    let before = scrubbed(&node, "bytes");
    let (slowest, count) = slowest_get(&mut node.client(), &blobs, Duration::from_secs(5));
    let read = scrubbed(&node, "bytes") - before;
    assert!(read > 2e8, "{read} bytes: the scrubber was not at work");
    assert!(count > 100 && slowest < Duration::from_secs(1), "{count} GETs, the slowest took {slowest:?}");
    assert_eq!(metric(&node, "basalt_stalls_total"), 0.0, "{}", node.stderr());
}

#[test]
fn a_scrubber_that_waits_or_works_stops_at_drain() {
    for rate in ["1", "100GiB"] {
        let mut node = Setup::new().arg("--scrub-rate").arg(rate).arg("--scrub-rest").arg("1s").start();
        put_all(&node);
        let begin = Instant::now();
        node.stop();
        assert!(begin.elapsed() < EXIT_DEADLINE / 3, "--scrub-rate {rate}: {:?}", begin.elapsed());
    }
}

#[test]
fn verified_at_the_start_damage_is_known_before_the_node_is_ready() {
    let setup = Setup::new().arg("--scrub-rate").arg("0").arg("--verify").arg("start");
    let mut node = setup.start();
    let bodies = put_all(&node);
    node.stop();
    bodies[..SIZES.len()].iter().for_each(|body| damage(&setup.data, body));
    let node = node.start_again();
    assert_eq!(scrubbed(&node, "damaged"), SIZES.len() as f64);
    assert_eq!(scrubbed(&node, "objects"), bodies.len() as f64);
    assert!(node.stderr().contains("verified"), "{}", node.stderr());
    for body in &bodies {
        node.client().put(body);
        assert!(node.client().get(&Digest::of(body)) == *body);
    }
}

#[test]
fn what_cannot_be_understood_is_refused() {
    for (flag, value, why) in [
        ("--verify", "on", "none of read, start, strict"),
        ("--scrub-rate", "fast", "is not a size"),
        ("--scrub-rest", "soon", "is not a number of s, m, h or d"),
    ] {
        let refused = Setup::new().arg(flag).arg(value).run_refused();
        assert_eq!(refused.code, 2, "{}", refused.stderr);
        assert!(refused.stderr.contains(why), "{}", refused.stderr);
    }
}
