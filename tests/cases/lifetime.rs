//! How long a blob stays: a TTL ends it, `durability=none` lets it go when another needs the room, all else stays.

use std::thread;
use std::time::Duration;

use tests::content::{self, Digest};
use tests::http::Request;
use tests::node::{Node, Setup};

fn put(client: &mut tests::blobs::Client, path: &str, body: &[u8]) -> u16 {
    client.call(&Request::new("PUT", path).body(body)).status
}

#[test]
fn a_blob_with_a_ttl_is_gone_after_it_and_stays_gone_after_a_restart() {
    let node = Node::start();
    let mut client = node.client();
    for size in [300, 300_000] {
        let (short, long) = (content::bytes(size, size as usize), content::bytes(size + 1, size as usize));
        assert_eq!(put(&mut client, "/blobs?ttl=1s", &short), 201);
        assert_eq!(put(&mut client, "/blobs?ttl=1h", &long), 201);
        assert!(client.has(&Digest::of(&short)), "before its time");
    }
    thread::sleep(Duration::from_millis(1300));
    assert_eq!(client.list().len(), 2, "only the long-lived are listed");
    let mut node = node;
    node.kill();
    let node = node.start_again();
    let mut client = node.client();
    for size in [300, 300_000] {
        assert!(!client.has(&Digest::of(&content::bytes(size, size as usize))));
        let long = content::bytes(size + 1, size as usize);
        assert!(client.get(&Digest::of(&long)) == long);
    }
}

#[test]
fn a_default_ttl_holds_for_what_has_none_of_its_own() {
    let setup = Setup::new();
    let file = setup.path("basalt.toml");
    std::fs::write(&file, "[server]\nobjectTtlS = 1\n").expect("writes");
    let node = setup.arg("--config").arg(file.to_str().expect("UTF-8")).start();
    let mut client = node.client();
    let (usual, own) = (content::bytes(1, 300), content::bytes(2, 300));
    assert_eq!(put(&mut client, "/blobs", &usual), 201);
    assert_eq!(put(&mut client, "/blobs?ttl=1h", &own), 201);
    assert!(client.has(&Digest::of(&usual)), "before its time");
    thread::sleep(Duration::from_millis(1300));
    assert!(!client.has(&Digest::of(&usual)) && client.has(&Digest::of(&own)));
}

#[test]
fn a_put_without_a_ttl_keeps_what_had_one() {
    let node = Node::start();
    let mut client = node.client();
    for size in [300, 300_000] {
        let body = content::bytes(size, size as usize);
        assert_eq!(put(&mut client, "/blobs?ttl=1s", &body), 201);
        assert_eq!(put(&mut client, "/blobs", &body), 201);
        thread::sleep(Duration::from_millis(1300));
        assert!(client.get(&Digest::of(&body)) == body, "{size} bytes");
    }
}

#[test]
fn evictable_blobs_make_room_and_durable_ones_do_not() {
    let node = Setup::new().arg("--disk-quota").arg("64MiB").start();
    let mut client = node.client();
    let durable = content::bytes(1, 3 << 20);
    assert_eq!(put(&mut client, "/blobs", &durable), 201);
    // Three times the quota: each finds the room that an older one gives up.
    let evictable: Vec<Vec<u8>> = (10..74).map(|seed| content::bytes(seed, 3 << 20)).collect();
    for body in &evictable {
        assert_eq!(put(&mut client, "/blobs?durability=none", body), 201);
    }
    assert!(client.get(&Digest::of(&durable)) == durable);
    assert!(!client.has(&Digest::of(&evictable[0])), "the oldest went first");
    let newest = evictable.last().expect("some");
    assert!(client.get(&Digest::of(newest)) == *newest);
    // Durable ones take the room of the evictable and then meet the quota.
    let refused = (100..200).find(|&seed| put(&mut client, "/blobs", &content::bytes(seed, 3 << 20)) == 507);
    assert!(refused.is_some_and(|seed| seed > 110), "refused at {refused:?}");
    assert!(client.get(&Digest::of(&durable)) == durable);
}

#[test]
fn evictable_blobs_that_are_read_outlive_a_flood_of_those_that_are_not() {
    let node = Setup::new().arg("--disk-quota").arg("64MiB").start();
    let mut client = node.client();
    let wanted: Vec<Vec<u8>> = (1..5).map(|seed| content::bytes(seed, 3 << 20)).collect();
    for body in &wanted {
        assert_eq!(put(&mut client, "/blobs?durability=none", body), 201);
    }
    for flood in 0..40 {
        let body = content::bytes(100 + flood, 3 << 20);
        assert_eq!(put(&mut client, "/blobs?durability=none", &body), 201);
        for body in &wanted {
            assert!(client.get(&Digest::of(body)) == *body, "gone after {flood} others");
        }
    }
}

#[test]
fn words_that_are_not_known_are_400_and_store_nothing() {
    let node = Node::start();
    let mut client = node.client();
    for query in ["ttl=0", "ttl=x", "ttl=1w", "ttl=1&ttl=2", "durability=maybe", "other=1"] {
        assert_eq!(put(&mut client, &format!("/blobs?{query}"), b"body"), 400, "{query}");
    }
    assert!(client.list().is_empty());
}
