//! The figures under beam-cloud blobcache's names, against what this test asked for, received and finds on disk.
//!
//! Reading ahead is off but where it is the point: it decides by itself what to read.

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use tests::content::{self, Digest};
use tests::disk;
use tests::exposition::Exposition;
use tests::http::{Reply, Request};
use tests::node::{Node, Setup};
use tests::origin::{Object, Origin};

const MIB: usize = 1 << 20;
const EXTENT_BYTES: usize = 4 * MIB;
/// A request is counted when its last byte has left, which its client may be faster than.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the page must say, from what was asked for and came back.
#[derive(Clone, Debug, Default, PartialEq)]
struct Told {
    l0: u64,
    l1: u64,
    l2: u64,
    l0_bytes: u64,
    l1_bytes: u64,
    fetched_bytes: u64,
}

impl Told {
    fn ram_read(&mut self, bytes: usize) {
        self.l0 += 1;
        self.l0_bytes += bytes as u64;
    }

    fn disk_read(&mut self, bytes: usize) {
        self.l1 += 1;
        self.l1_bytes += bytes as u64;
    }

    fn reads(&self) -> u64 {
        self.l0 + self.l1 + self.l2
    }

    /// Waits until as many reads were counted; then all figures must be these.
    fn must_be_said_by(&self, node: &Node) {
        let begin = Instant::now();
        let mut page = scrape(node);
        while value(&page, "blobcache_reads_total") < self.reads() as f64 && begin.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(20));
            page = scrape(node);
        }
        let count = |name: &str| value(&page, &format!("blobcache_{name}_total")) as u64;
        let seen = Told {
            l0: count("l0_hits"),
            l1: count("l1_hits"),
            l2: count("l2_misses"),
            l0_bytes: count("l0_bytes_served"),
            l1_bytes: count("l1_bytes_served"),
            fetched_bytes: count("l2_bytes_fetched"),
        };
        assert_eq!((&seen, count("reads")), (self, self.reads()));
        for (name, of) in [("l0_hit_ratio", self.l0), ("l1_hit_ratio", self.l1), ("l2_miss_ratio", self.l2)] {
            let wanted = if self.reads() == 0 { 0.0 } else { of as f64 / self.reads() as f64 * 100.0 };
            let said = value(&page, &format!("blobcache_{name}"));
            assert!((said - wanted).abs() < 1e-6, "{name} is {said}, not {wanted}");
        }
    }
}

fn scrape(node: &Node) -> Exposition {
    let reply = node.ops().call(&Request::new("GET", "/metrics")).must_be(200);
    Exposition::parse(reply.text()).unwrap_or_else(|why| panic!("{why}"))
}

/// The one sample of a family without labels.
fn value(page: &Exposition, name: &str) -> f64 {
    let family = page.0.get(name).unwrap_or_else(|| panic!("no {name}"));
    assert!(family.samples.len() == 1 && family.samples[0].labels.is_empty(), "{name}: {family:?}");
    family.samples[0].value
}

/// Waits until blobs hold this much RAM: what was read from disk is brought there in the background.
fn await_ram(node: &Node, bytes: usize) {
    let begin = Instant::now();
    while value(&scrape(node), "blobcache_ram_bytes") < bytes as f64 {
        assert!(begin.elapsed() < PATIENCE, "what was read does not come into RAM");
        thread::sleep(Duration::from_millis(20));
    }
}

/// On a connection of its own, so that any column may get it.
fn call(node: &Node, digest: &Digest, method: &str, headers: &[(&str, &str)]) -> Reply {
    let request = Request::new(method, digest.path());
    node.client().call(&headers.iter().fold(request, |request, (name, value)| request.header(name, *value)))
}

fn get_range(node: &Node, digest: &Digest, body: &[u8], (from, to): (usize, usize)) {
    let reply = call(node, digest, "GET", &[("Range", &format!("bytes={from}-{}", to - 1))]).must_be(206);
    assert!(reply.body == body[from..to], "wrong bytes");
}

fn without_prefetch() -> Setup {
    Setup::new().arg("--prefetch=off")
}

/// Stores the bodies and starts the node again, so that nothing is in RAM.
fn cold(setup: &Setup, bodies: &[Vec<u8>]) -> (Node, Vec<Digest>) {
    let mut node = setup.start();
    let digests = bodies.iter().map(|body| node.client().put(body)).collect();
    node.stop();
    (node.start_again(), digests)
}

#[test]
fn small_blobs_are_disk_hits_once_and_ram_hits_then() {
    let sizes = [0, 1, 1000, 50_000, 65_536];
    let bodies: Vec<_> =
        (0..40).map(|n| content::bytes(n, sizes[n as usize % sizes.len()] + n as usize / 5)).collect();
    let bodies: Vec<_> = bodies.into_iter().filter(|body| body.len() <= 65_536).collect();
    let (node, digests) = cold(&without_prefetch(), &bodies);
    let mut told = Told::default();
    told.must_be_said_by(&node);
    for round in 0..4 {
        for (digest, body) in digests.iter().zip(&bodies) {
            assert!(node.client().get(digest) == *body);
            if round == 0 { told.disk_read(body.len()) } else { told.ram_read(body.len()) }
        }
        told.must_be_said_by(&node);
    }
}

#[test]
fn large_blobs_and_ranges_count_each_byte_where_it_was() {
    let body = content::bytes(7, 2 * EXTENT_BYTES + MIB + 5);
    let (node, digests) = cold(&without_prefetch(), std::slice::from_ref(&body));
    let (digest, size) = (&digests[0], body.len());
    let mut told = Told::default();
    get_range(&node, digest, &body, (100, 150));
    told.disk_read(50);
    told.must_be_said_by(&node);
    // Its extent comes into RAM; the rest of the blob does not.
    await_ram(&node, EXTENT_BYTES);
    get_range(&node, digest, &body, (EXTENT_BYTES - 10, EXTENT_BYTES));
    told.ram_read(10);
    assert!(node.client().get(digest) == body);
    told.disk_read(size - EXTENT_BYTES);
    told.l0_bytes += EXTENT_BYTES as u64;
    told.must_be_said_by(&node);
    await_ram(&node, size);
    for _ in 0..3 {
        assert!(node.client().get(digest) == body);
        told.ram_read(size);
    }
    get_range(&node, digest, &body, (EXTENT_BYTES - 1, EXTENT_BYTES + 1));
    told.ram_read(2);
    // Heads, boundaries and their lines are not the blob's bytes.
    let several = [("Range", "bytes=0-99,5000000-5000199,-7")];
    let reply = call(&node, digest, "GET", &several).must_be(206);
    assert!(reply.body.len() > 307);
    told.ram_read(307);
    told.must_be_said_by(&node);
}

#[test]
fn what_is_no_read_is_not_counted() {
    let small = content::bytes(1, 500);
    let large = content::bytes(2, 300_000);
    let (node, digests) = cold(&without_prefetch(), &[small.clone(), large]);
    let mut client = node.client();
    client.put(&small);
    client.list();
    let none = Digest::of_nothing_stored();
    call(&node, &none, "GET", &[]).must_be(404);
    call(&node, &none, "HEAD", &[]).must_be(404);
    for digest in &digests {
        let etag = format!("\"{digest}\"");
        call(&node, digest, "HEAD", &[]).must_be(200);
        call(&node, digest, "HEAD", &[("Range", "bytes=0-1")]).must_be(200);
        call(&node, digest, "GET", &[("If-None-Match", &etag)]).must_be(304);
        call(&node, digest, "GET", &[("If-Match", "\"other\"")]).must_be(412);
        call(&node, digest, "GET", &[("Range", "bytes=400000-")]).must_be(416);
    }
    // The last one, so that all before it have been counted.
    assert_eq!(client.delete(&digests[1]), 204);
    assert!(client.get(&digests[0]) == small);
    // HEAD and the rest brought it into RAM.
    let mut told = Told::default();
    told.ram_read(500);
    told.must_be_said_by(&node);
}

#[test]
fn an_answer_that_breaks_off_is_a_read_of_what_was_sent() {
    let body = content::bytes(3, 64 * MIB);
    let (node, digests) = cold(&without_prefetch(), &[body]);
    let mut conn = node.conn();
    conn.send(&Request::new("GET", digests[0].path()).to_bytes()).expect("sent");
    conn.receive_head().expect("a head");
    drop(conn);
    let begin = Instant::now();
    let page = loop {
        let page = scrape(&node);
        if value(&page, "blobcache_reads_total") > 0.0 {
            break page;
        }
        assert!(begin.elapsed() < Duration::from_secs(30), "it is never counted");
        thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(value(&page, "blobcache_l1_hits_total"), 1.0);
    assert!(value(&page, "blobcache_l1_bytes_served_total") < (64 * MIB) as f64);
}

#[test]
fn what_is_read_ahead_comes_disk_read() {
    let body = content::bytes(4, 10 * EXTENT_BYTES + 77);
    let (node, digests) = cold(&Setup::new(), std::slice::from_ref(&body));
    assert!(node.client().get(&digests[0]) == body);
    assert!(value(&scrape(&node), "blobcache_prefetch_hits_total") > 0.0, "nothing was read ahead");
    let mut told = Told::default();
    told.disk_read(body.len());
    told.must_be_said_by(&node);
}

/// Body bytes that an origin was asked for, of an object of `size` bytes.
fn bytes_asked(origin: &Origin, path: &str, size: usize) -> u64 {
    let bytes = |range: &str| -> u64 {
        let (first, last) = range.strip_prefix("bytes=").and_then(|r| r.split_once('-')).expect("a range");
        let end = last.parse::<u64>().expect("a last byte") + 1;
        end.min(size as u64) - first.parse::<u64>().expect("a first byte")
    };
    let asked: BTreeMap<String, u32> = origin.asked(path);
    asked.iter().map(|(range, &times)| bytes(range) * u64::from(times)).sum()
}

#[test]
fn a_blob_that_must_come_from_its_origin_is_a_miss_for_everyone_who_waits() {
    const SIZE: usize = 9 * MIB;
    let node = without_prefetch().arg("--disk-quota=64MiB").start();
    let origin = Origin::start();
    let body = content::bytes(1, SIZE);
    let digest = Digest::of(&body);
    let pause = Duration::from_millis(20);
    origin.put("/x", Object { pause, ..Object::new(body.clone()) });
    let order = serde_json::json!({ "url": origin.url("/x") }).to_string();
    node.client().call(&Request::new("POST", "/blobs/fetch").body(order.as_bytes())).must_be(201);
    // Fetching is no read.
    let mut told = Told { fetched_bytes: SIZE as u64, ..Told::default() };
    told.must_be_said_by(&node);
    let mut durable = Vec::new();
    while node.client().list().contains_key(&digest) {
        durable.push(node.client().put(&content::bytes(10 + durable.len() as u64, SIZE)));
    }
    node.client().delete(&durable[0]);
    let together = Barrier::new(3);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                together.wait();
                assert!(node.client().get(&digest) == body);
            });
        }
    });
    told.l2 = 3;
    told.fetched_bytes = bytes_asked(&origin, "/x", SIZE);
    assert_eq!(told.fetched_bytes, 2 * SIZE as u64, "it was pulled twice in all");
    told.must_be_said_by(&node);
    // It is stored now.
    get_range(&node, &digest, &body, (5, 25));
    told.disk_read(20);
    told.must_be_said_by(&node);
}

#[test]
fn a_miss_that_brings_nothing_is_no_read() {
    let node = without_prefetch().arg("--disk-quota=64MiB").start();
    let origin = Origin::start();
    let body = content::bytes(1, 9 * MIB);
    let digest = Digest::of(&body);
    origin.put("/x", Object::new(body));
    let order = serde_json::json!({ "url": origin.url("/x") }).to_string();
    node.client().call(&Request::new("POST", "/blobs/fetch").body(order.as_bytes())).must_be(201);
    let mut seed = 10;
    while node.client().list().contains_key(&digest) {
        node.client().put(&content::bytes(seed, 9 * MIB));
        seed += 1;
    }
    origin.put("/x", Object::new(content::bytes(2, 100)));
    call(&node, &digest, "GET", &[]).must_be(404);
    Told { fetched_bytes: 9 * MIB as u64 + 100, ..Told::default() }.must_be_said_by(&node);
}

/// Says a usage in bytes, and checks that the percentage is that of `of_bytes`.
fn usage(node: &Node, kind: &str, of_bytes: usize) -> f64 {
    let page = scrape(node);
    let bytes = value(&page, &format!("blobcache_{kind}_cache_usage_mb")) * MIB as f64;
    let pct = value(&page, &format!("blobcache_{kind}_cache_usage_pct"));
    let wanted = bytes / of_bytes as f64 * 100.0;
    assert!((pct - wanted).abs() < 1e-6, "{pct} % of {of_bytes} are not {bytes}");
    bytes
}

/// The page says as much disk as the file system has given to the data directories, within 1 MiB.
fn disk_usage_must_be_right(node: &Node, dirs: &[&std::path::Path], quota_bytes: usize) -> f64 {
    let begin = Instant::now();
    loop {
        let said = usage(node, "disk", quota_bytes);
        let there: u64 = dirs.iter().map(|dir| disk::used_bytes(dir)).sum();
        if (said - there as f64).abs() <= MIB as f64 {
            return said;
        }
        // Space comes back a little after the answer that gave it up.
        assert!(begin.elapsed() < PATIENCE, "{said} said, {there} there");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn disk_usage_is_what_the_files_take_of_the_quota() {
    let setup = Setup::new().arg("--disk-quota=256MiB");
    let second = setup.path("second");
    let setup = setup.arg("--data-dir").arg(second.to_str().expect("UTF-8"));
    let dirs = [setup.data.as_path(), second.as_path()];
    let node = setup.start();
    let quotas = 256 * MIB;
    let empty = disk_usage_must_be_right(&node, &dirs, quotas);
    let mut digests = Vec::new();
    for n in 0..12 {
        digests.push(node.client().put(&content::bytes(n, 5 * MIB + 100 * n as usize)));
        node.client().put(&content::bytes(100 + n, 3000));
    }
    let full = disk_usage_must_be_right(&node, &dirs, quotas);
    assert!(full - empty >= (60 * MIB) as f64, "{empty} to {full}");
    for digest in &digests[..6] {
        assert_eq!(node.client().delete(digest), 204);
    }
    let begin = Instant::now();
    while disk_usage_must_be_right(&node, &dirs, quotas) > full - (29 * MIB) as f64 {
        assert!(begin.elapsed() < PATIENCE, "deleted blobs take space");
    }
    let mut node = node;
    node.stop();
    let node = node.start_again();
    disk_usage_must_be_right(&node, &dirs, quotas);
}

#[test]
fn memory_usage_is_what_was_read_of_the_flag_and_never_more_than_there_is() {
    const MEMORY: usize = 128 * MIB;
    let bodies: Vec<_> = (0..16).map(|n| content::bytes(n, 2 * EXTENT_BYTES)).collect();
    let (node, digests) = cold(&without_prefetch().memory("128MiB"), &bodies);
    assert_eq!(usage(&node, "mem", MEMORY), 0.0);
    let begin = Instant::now();
    for (at, digest) in digests[..3].iter().enumerate() {
        node.client().get(digest);
        let wanted = ((at + 1) * 2 * EXTENT_BYTES) as f64;
        await_ram(&node, (at + 1) * 2 * EXTENT_BYTES);
        // The blob's pages, and 4 bytes for each 64 KiB of it.
        let held = usage(&node, "mem", MEMORY);
        assert!((wanted..wanted * 1.001).contains(&held), "{held} for {wanted}");
    }
    for digest in digests.iter().chain(&digests).chain(&digests) {
        node.client().get(digest);
        assert!(usage(&node, "mem", MEMORY) <= MEMORY as f64);
    }
    let page = scrape(&node);
    assert!(value(&page, "blobcache_l0_evictions_total") > 0.0, "128 MiB went through less RAM");
    assert!(usage(&node, "mem", MEMORY) > (MEMORY / 4) as f64);
    assert!(begin.elapsed() < Duration::from_secs(60));
}

#[test]
fn throughput_is_what_was_sent_in_ten_seconds() {
    const ROUNDS: usize = 20;
    let body = content::bytes(1, EXTENT_BYTES);
    let node = without_prefetch().start();
    let digest = node.client().put(&body);
    let throughput = || value(&scrape(&node), "blobcache_read_throughput_mbps");
    assert_eq!(throughput(), 0.0);
    let begin = Instant::now();
    for _ in 0..ROUNDS {
        assert!(node.client().get(&digest) == body);
    }
    let wanted = (ROUNDS * EXTENT_BYTES) as f64 / 10.0 / MIB as f64;
    // The second in which the last byte was sent must have ended, and the first byte's not be over for long.
    thread::sleep(Duration::from_millis(1300));
    let said = throughput();
    assert!(begin.elapsed() < Duration::from_secs(9), "this machine is too slow to tell");
    assert!((said - wanted).abs() < 1e-6, "{said}, not {wanted} MiB/s");
    thread::sleep(Duration::from_secs(11));
    assert_eq!(throughput(), 0.0);
}

#[test]
fn every_name_that_blobcache_has_is_there_with_its_type() {
    let node = Node::start();
    let page = scrape(&node);
    let gauges = [
        "l0_hit_ratio",
        "l1_hit_ratio",
        "l2_miss_ratio",
        "read_throughput_mbps",
        "mem_cache_usage_mb",
        "mem_cache_usage_pct",
        "disk_cache_usage_mb",
        "disk_cache_usage_pct",
    ];
    let counters = [
        "l0_hits_total",
        "l1_hits_total",
        "l2_misses_total",
        "reads_total",
        "l0_bytes_served_total",
        "l1_bytes_served_total",
        "l2_bytes_fetched_total",
    ];
    for (kind, names) in [("gauge", &gauges[..]), ("counter", &counters[..])] {
        for name in names {
            let name = format!("blobcache_{name}");
            value(&page, &name);
            assert_eq!(page.0[&name].kind, kind, "{name}");
        }
    }
}
