//! What fetches ask of origins ahead of readers is counted, part by part, and never as a cache hit.
//!
//! The origin lets the fetch wait before its first byte, so that readers are there when the parts are asked for; then it is slow
//! enough for them to keep up.

use std::thread;
use std::time::{Duration, Instant};

use tests::blobs::must_acknowledge;
use tests::content::{self, Digest};
use tests::exposition::Exposition;
use tests::http::{Conn, Request};
use tests::node::{Node, Setup, cpuset};
use tests::origin::{Fault, Object, Origin};

const PART: usize = 4 << 20;
/// The last one comes alone, after twice four at a time, so that a reader is there before it is.
const PARTS: usize = 9;
/// Slept before each 64 KiB, so that a part takes 1.3 s.
const PAUSE: Duration = Duration::from_millis(20);
/// How long the origin lets a fetch wait, and what of that readers may take to come.
const RETRY_AFTER: &str = "Retry-After: 5\r\n";
const COMING: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(20);

fn metric(node: &Node, name: &str) -> u64 {
    let text = node.ops().call(&Request::new("GET", "/metrics")).must_be(200);
    let page = Exposition::parse(text.text()).expect("valid");
    let name = format!("blobcache_{name}_total");
    assert!(page.0.contains_key(&name), "no {name}");
    page.sum(&name, |_| true) as u64
}

/// Issued, hits, wasted.
fn ahead(node: &Node) -> [u64; 3] {
    ["issued", "hits", "wasted"].map(|what| metric(node, &format!("fetch_ahead_{what}")))
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A fetch by somebody who waits for it and does not read, and a reader.
struct Scene {
    digest: Digest,
    order: Conn,
    reader: Conn,
}

/// Begins to fetch `object` as `digest` and has `read` join while the origin says nothing yet.
fn begin(node: &Node, origin: &Origin, path: &str, object: Object, digest: Digest, read: Request) -> Scene {
    let joined = metric(node, "fetch_joined");
    origin.put(path, object.fault(Fault::Status(503, RETRY_AFTER), 1));
    let body = serde_json::json!({ "url": origin.url(path), "digest": digest.0 }).to_string();
    let (mut order, mut reader) = (node.conn(), node.conn());
    order.set_patience(Duration::from_secs(120));
    reader.set_patience(Duration::from_secs(120));
    order.send(&Request::new("POST", "/blobs/fetch").body(body.as_bytes()).to_bytes()).expect("sent");
    until("the origin is not asked", || origin.total(path) == 1);
    let begin = Instant::now();
    reader.send(&read.to_bytes()).expect("sent");
    until("the reader does not join", || metric(node, "fetch_joined") > joined);
    assert!(begin.elapsed() < COMING, "this machine is too slow to tell");
    Scene { digest, order, reader }
}

fn get(digest: &Digest) -> Request<'static> {
    Request::new("GET", digest.path())
}

fn slow(body: &[u8]) -> Object {
    Object { pause: PAUSE, ..Object::new(body.to_vec()) }
}

/// Reads, hits and bytes of the cache's own levels, and extents read ahead into RAM.
fn cache_hits(node: &Node) -> [u64; 6] {
    ["l0_hits", "l1_hits", "l0_bytes_served", "l1_bytes_served", "tier_ram_hits", "prefetch_issued"]
        .map(|name| metric(node, name))
}

fn readers_from_the_beginning_hit_every_part(columns: usize, blobs: usize, parts_each: usize) {
    let (node, origin) = (Setup::new().cpuset(cpuset(columns)).memory("2GiB").start(), Origin::start());
    let bodies: Vec<_> = (0..blobs).map(|n| content::bytes(n as u64, parts_each * PART)).collect();
    let scenes = bodies.iter().enumerate().map(|(at, body)| {
        let digest = Digest::of(body);
        let read = get(&digest);
        begin(&node, &origin, &format!("/{at}"), slow(body), digest, read)
    });
    let scenes: Vec<_> = scenes.collect();
    thread::scope(|scope| {
        for (Scene { digest, mut order, mut reader }, body) in scenes.into_iter().zip(&bodies) {
            scope.spawn(move || {
                assert!(reader.receive("GET").expect("a reply").must_be(200).body == *body);
                must_acknowledge(&order.receive("POST").expect("a reply"), &digest, body.len() as u64);
            });
        }
    });
    let parts = (blobs * (parts_each - 1)) as u64;
    assert_eq!(ahead(&node), [parts, parts, 0], "all but the first part of each");
    until("the reads are not counted", || metric(&node, "l2_misses") == blobs as u64);
    assert_eq!(cache_hits(&node), [0; 6], "fetching ahead makes no cache hits");
    // What is stored is read from here.
    bodies.iter().for_each(|body| assert!(node.client().get(&Digest::of(body)) == *body));
    until("the reads are not counted", || {
        metric(&node, "l0_hits") + metric(&node, "l1_hits") == blobs as u64
    });
    assert_eq!(ahead(&node), [parts, parts, 0]);
}

#[test]
fn a_reader_from_the_beginning_hits_every_part() {
    readers_from_the_beginning_hit_every_part(1, 1, PARTS);
}

/// Some of the readers are on other columns than their fetches. No more fetches at a time than a column has memory to receive four
/// parts of each at once: else the last two parts may come together, and the fetch be over before a reader is at the last one.
#[test]
fn readers_on_any_column_hit_every_part_once() {
    for _ in 0..2 {
        readers_from_the_beginning_hit_every_part(2, 2, 5);
    }
}

#[test]
fn parts_of_a_fetch_that_is_abandoned_are_waste() {
    let (node, origin) = (Setup::new().memory("2GiB").start(), Origin::start());
    let body = content::bytes(1, PARTS * PART);
    let digest = Digest::of(&body);
    let stopped = |times: usize| {
        until("it goes on", || node.stderr().matches("nobody waits").count() == times);
    };
    // Before a byte of them came: three beside the first one are under way.
    let pause = Duration::from_secs(1);
    let object = Object { pause, ..Object::new(body.clone()) };
    let scene = begin(&node, &origin, "/x", object, digest.clone(), get(&digest));
    until("the parts are not asked for", || origin.total("/x") == 5);
    assert_eq!(ahead(&node), [3, 0, 0]);
    drop(scene);
    stopped(1);
    assert_eq!(ahead(&node), [3, 0, 3]);
    // When a reader came to some of them.
    let mut scene = begin(&node, &origin, "/y", slow(&body), digest.clone(), get(&digest));
    assert_eq!(scene.reader.receive_head().expect("a head").status, 200);
    let mut got = 0;
    while got < 2 * PART + 1 {
        got += scene.reader.receive_some(64 << 10).expect("bytes").len();
    }
    drop(scene);
    stopped(2);
    let [issued, hits, wasted] = ahead(&node);
    assert!(hits >= 2 && wasted > 3, "{issued} issued, {hits} hits, {wasted} wasted");
    assert_eq!(issued, hits + wasted, "each part is one or the other");
    assert_eq!(cache_hits(&node), [0; 6]);
}

#[test]
fn parts_of_what_is_something_else_are_waste() {
    let (node, origin) = (Setup::new().memory("2GiB").start(), Origin::start());
    let wrong = Digest::of(b"something else");
    let read = get(&wrong).header("Range", "bytes=0-99");
    let object = Object::new(content::bytes(1, 2 * PART + 5));
    let Scene { mut order, mut reader, .. } = begin(&node, &origin, "/x", object, wrong, read);
    order.receive("POST").expect("a reply").must_be(422);
    drop(reader.receive("GET"));
    assert_eq!(ahead(&node), [2, 0, 2]);
}

#[test]
fn what_nobody_reads_or_is_behind_the_readers_is_not_ahead() {
    let (node, origin) = (Setup::new().memory("2GiB").start(), Origin::start());
    let body = content::bytes(1, 2 * PART + 5);
    let digest = Digest::of(&body);
    let head = Request::new("HEAD", digest.path());
    let mut scene = begin(&node, &origin, "/x", Object::new(body.clone()), digest.clone(), head);
    must_acknowledge(&scene.order.receive("POST").expect("a reply"), &digest, body.len() as u64);
    scene.reader.receive("HEAD").expect("a reply").must_be(200);
    assert_eq!(ahead(&node), [0; 3], "neither a POST nor a HEAD reads");
    // Three parts are asked for before the reader can know that he wants none of them; the others are on his way to the end.
    let body = content::bytes(2, PARTS * PART);
    let digest = Digest::of(&body);
    let read = get(&digest).header("Range", "bytes=-100");
    let mut scene = begin(&node, &origin, "/y", slow(&body), digest, read);
    let reply = scene.reader.receive("GET").expect("a reply").must_be(206);
    assert!(reply.body == body[body.len() - 100..]);
    must_acknowledge(&scene.order.receive("POST").expect("a reply"), &scene.digest, body.len() as u64);
    assert_eq!(ahead(&node), [3, 0, 0], "what is stored is not wasted");
}
