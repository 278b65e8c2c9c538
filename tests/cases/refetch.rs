//! What is known at an origin comes back: after restarts, from under damage, from a disk that is out. What was deleted does not.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use tests::blobs::{Client, must_acknowledge};
use tests::content::{self, Digest};
use tests::disk;
use tests::http::{Reply, Request};
use tests::node::{Node, Setup};
use tests::origin::{Object, Origin};

fn fetch(client: &mut Client, query: &str, url: &str, digest: Option<&Digest>) -> Reply {
    let mut order = serde_json::json!({ "url": url });
    if let Some(digest) = digest {
        order["digest"] = digest.0.clone().into();
    }
    let body = order.to_string();
    client.call(&Request::new("POST", format!("/blobs/fetch{query}")).body(body.as_bytes()))
}

/// Fetches `body` from a path of its own.
fn fetched(node: &Node, origin: &Origin, path: &str, body: &[u8]) -> Digest {
    origin.put(path, Object::new(body.to_vec()));
    let digest = Digest::of(body);
    must_acknowledge(&fetch(&mut node.client(), "", &origin.url(path), None), &digest, body.len() as u64);
    digest
}

/// Stores for good until the blob has made room, and deletes that again.
fn evict(node: &Node, digest: &Digest) {
    let mut client = node.client();
    let mut durable = Vec::new();
    while client.list().contains_key(digest) {
        assert!(durable.len() < 8, "the fetched blob makes no room");
        durable.push(client.put(&content::bytes(10 + durable.len() as u64, 9 << 20)));
    }
    durable.iter().for_each(|d| assert_eq!(client.delete(d), 204));
}

#[test]
fn an_evicted_blob_is_fetched_again_after_restarts_and_a_deleted_one_is_not() {
    let mut node = Setup::new().arg("--disk-quota").arg("64MiB").start();
    let origin = Origin::start();
    let body = content::bytes(1, 9 << 20);
    let digest = fetched(&node, &origin, "/x", &body);
    for (round, is_killed) in [false, true, true, false].into_iter().enumerate() {
        evict(&node, &digest);
        match is_killed {
            true => node.kill(),
            false => node.stop(),
        }
        node = node.start_again();
        assert!(!node.client().list().contains_key(&digest));
        assert!(node.client().get(&digest) == body, "round {round}");
        assert_eq!(origin.total("/x") as usize, 3 * (round + 2));
    }
    // Evicted, it can still be deleted: it is not to come back.
    evict(&node, &digest);
    assert_eq!(node.client().delete(&digest), 204);
    assert_eq!(node.client().delete(&digest), 404);
    assert!(!node.client().has(&digest));
    for is_killed in [true, false] {
        match is_killed {
            true => node.kill(),
            false => node.stop(),
        }
        node = node.start_again();
        assert!(!node.client().has(&digest));
    }
}

/// Changes a byte in the middle of each blob while the node is down.
fn damage(mut node: Node, bodies: &[Vec<u8>]) -> Node {
    node.stop();
    for body in bodies {
        let middle = body.len() / 2;
        let places = disk::find(&node.setup.data, &body[middle..middle + 64]);
        assert!(!places.is_empty(), "{} bytes are not on disk as they are", body.len());
        places.iter().for_each(disk::Place::flip);
    }
    node.start_again()
}

const SIZES: [usize; 4] = [500, 60_000, 300_000, 9_000_000];

fn bodies() -> Vec<Vec<u8>> {
    SIZES.into_iter().enumerate().map(|(at, size)| content::bytes(70 + at as u64, size)).collect()
}

#[test]
fn a_damaged_blob_whose_origin_is_known_is_mended_by_a_get() {
    let (node, origin) = (Node::start(), Origin::start());
    let bodies = bodies();
    for (at, body) in bodies.iter().enumerate() {
        fetched(&node, &origin, &format!("/{at}"), body);
    }
    let node = damage(node, &bodies);
    for (at, body) in bodies.iter().enumerate() {
        let (path, digest) = (format!("/{at}"), Digest::of(body));
        let before = origin.total(&path);
        // The first extents of a large one have been sent when the damage is found: then the answer is cut, and the next whole.
        let first = node.client().try_get(&digest);
        if body.len() < 4 << 20 {
            assert!(first.expect("an answer").must_be(200).body == *body, "{} bytes", body.len());
        }
        let gets = || assert!(node.client().get(&digest) == *body, "{} bytes", body.len());
        thread::scope(|scope| (0..20).for_each(|_| drop(scope.spawn(gets))));
        let parts = body.len().div_ceil(4 << 20) as u32;
        assert_eq!(origin.total(&path) - before, parts, "fetched once, {} bytes", body.len());
    }
    let mut node = node;
    node.stop();
    let node = node.start_again();
    for body in &bodies {
        assert!(node.client().get(&Digest::of(body)) == *body, "mended for good");
    }
}

#[test]
fn a_damaged_blob_is_an_error_until_somebody_names_its_origin() {
    let (node, origin) = (Node::start(), Origin::start());
    let bodies = bodies();
    for body in &bodies {
        node.client().put(body);
    }
    let node = damage(node, &bodies);
    for (at, body) in bodies.iter().enumerate() {
        let (path, digest) = (format!("/{at}"), Digest::of(body));
        let middle = body.len() / 2;
        let get = Request::new("GET", digest.path()).header("Range", format!("bytes={middle}-{middle}"));
        node.client().call(&get).must_be(500);
        // Another body mends nothing.
        origin.put("/other", Object::new(content::bytes(1, 1000)));
        fetch(&mut node.client(), "", &origin.url("/other"), Some(&digest)).must_be(422);
        node.client().call(&get).must_be(500);
        origin.put(&path, Object::new(body.clone()));
        let reply = fetch(&mut node.client(), "", &origin.url(&path), Some(&digest));
        must_acknowledge(&reply, &digest, body.len() as u64);
        assert!(node.client().get(&digest) == *body, "{} bytes", body.len());
        let total = origin.total(&path);
        fetch(&mut node.client(), "", &origin.url(&path), Some(&digest)).must_be(201);
        assert_eq!(origin.total(&path), total, "whole, it is not asked for again");
    }
}

/// Whether the blob's bytes are below `dir`.
fn is_on(dir: &Path, body: &[u8]) -> bool {
    !disk::find(dir, &body[..64.min(body.len())]).is_empty()
}

#[test]
fn what_is_on_a_disk_that_is_out_comes_from_its_origin_or_is_503() {
    let setup = Setup::new();
    let second: PathBuf = setup.path("second");
    let mut node = setup.arg("--data-dir").arg(second.to_str().expect("UTF-8")).start();
    let origin = Origin::start();
    // None of the shards that will be unreadable.
    let numbered = |from: u64| (from..).map(|n| content::bytes(n, if n % 2 == 0 { 5000 } else { 200_000 }));
    let is_usable =
        |body: &Vec<u8>| !["sha256:00", "sha256:01"].iter().any(|s| Digest::of(body).0.starts_with(s));
    let from_origin: Vec<_> = numbered(1000).filter(is_usable).take(24).collect();
    let durable: Vec<_> = numbered(2000).filter(is_usable).take(24).collect();
    for (at, body) in from_origin.iter().enumerate() {
        fetched(&node, &origin, &format!("/{at}"), body);
        node.client().put(&durable[at]);
    }
    node.stop();
    let is_out = |body: &Vec<u8>| is_on(&second, body);
    let (out, lost) =
        (from_origin.iter().filter(|b| is_out(b)).count(), durable.iter().filter(|b| is_out(b)).count());
    assert!((1..24).contains(&out) && (1..24).contains(&lost), "{out} and {lost} on the second disk");
    // Both columns find that they cannot read the second disk.
    for shard in ["00", "01"] {
        let dir = second.join("objects").join(shard);
        fs::remove_dir_all(&dir).expect("removed");
        fs::write(&dir, "no directory").expect("written");
    }
    let mut node = node.start_again();
    for (at, body) in from_origin.iter().enumerate() {
        let (path, was_out) = (format!("/{at}"), is_out(body));
        for _ in 0..2 {
            assert!(node.client().get(&Digest::of(body)) == *body);
        }
        assert_eq!(origin.total(&path), 1 + u32::from(was_out), "once more if it was on that disk");
    }
    for (at, body) in durable.iter().enumerate() {
        let (path, digest) = (format!("/d{at}"), Digest::of(body));
        let wanted = if is_out(body) { 503 } else { 200 };
        assert_eq!(node.client().call(&Request::new("GET", digest.path())).status, wanted);
        origin.put(&path, Object::new(body.clone()));
        fetch(&mut node.client(), "", &origin.url(&path), Some(&digest)).must_be(201);
        assert_eq!(
            origin.total(&path),
            u32::from(wanted == 503),
            "not from an index that names a disk that is out"
        );
        assert!(node.client().get(&digest) == *body);
    }
    assert!(node.runs(), "one of two disks is no reason to end");
}

#[test]
fn a_fetched_blob_has_the_default_ttl_or_its_own_and_comes_back_when_asked_for() {
    let (node, origin) = (Setup::new().arg("--object-ttl").arg("2s").start(), Origin::start());
    let mut client = node.client();
    for (at, size) in [3000, 300_000].into_iter().enumerate() {
        let (usual, own) = (content::bytes(at as u64, size), content::bytes(50 + at as u64, size));
        let (usual_path, own_path) = (format!("/usual{at}"), format!("/own{at}"));
        let usual_digest = fetched(&node, &origin, &usual_path, &usual);
        origin.put(&own_path, Object::new(own.clone()));
        let own_digest = Digest::of(&own);
        let reply = fetch(&mut client, "?ttl=1h&pin=true", &origin.url(&own_path), Some(&own_digest));
        must_acknowledge(&reply, &own_digest, size as u64);
        thread::sleep(Duration::from_millis(2300));
        let listed = client.list();
        assert!(!listed.contains_key(&usual_digest) && listed.contains_key(&own_digest));
        assert!(client.get(&usual_digest) == usual && client.get(&own_digest) == own);
        assert_eq!((origin.total(&usual_path), origin.total(&own_path)), (2, 1));
        // Asked for again with a time of its own, what is stored has that.
        fetch(&mut client, "?ttl=1h", &origin.url(&usual_path), Some(&usual_digest)).must_be(201);
        thread::sleep(Duration::from_millis(2300));
        assert!(client.list().contains_key(&usual_digest));
        assert_eq!(origin.total(&usual_path), 2);
    }
}

#[test]
fn a_fetch_that_is_to_stay_is_not_evicted() {
    let (node, origin) = (Setup::new().arg("--disk-quota").arg("64MiB").start(), Origin::start());
    for (at, query) in ["?durability=sync", "?pin=true"].into_iter().enumerate() {
        let body = content::bytes(100 + at as u64, 9 << 20);
        let path = format!("/{at}");
        origin.put(&path, Object::new(body.clone()));
        fetch(&mut node.client(), query, &origin.url(&path), None).must_be(201);
    }
    let mut client = node.client();
    let mut number = 10;
    while client.call(&Request::new("PUT", "/blobs").body(&content::bytes(number, 9 << 20))).status == 201 {
        number += 1;
        assert!(number < 20, "the quota does not hold");
    }
    for at in 0..2 {
        assert!(client.list().contains_key(&Digest::of(&content::bytes(100 + at, 9 << 20))));
        assert_eq!(origin.total(&format!("/{at}")), 3);
    }
    client.call(&Request::new("POST", "/blobs/fetch?durability=fast").body(b"{}")).must_be(400);
}
