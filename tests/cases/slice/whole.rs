//! What is kept whole: errors for a while, objects whose origin gives no ranges, small answers without a length; what never is.

use super::kept::{must_be_stored, purge};
use super::{MIB, get, object, proxy, word};
use std::thread;
use std::time::Duration;
use tests::http::Request;
use tests::origin::{Fault, Object, Origin};

#[test]
fn errors_are_kept_as_long_as_is_set_and_no_longer_than_a_purge() {
    let origin = Origin::start();
    let node = proxy(&origin).arg("--slice-negative-ttl").arg("404=60s").start();
    for expected in ["MISS", "HIT", "HIT"] {
        let reply = get(&node, "/none", "bytes=0-1").must_be(404);
        assert_eq!((word(&reply), reply.text()), (expected, "none"), "{:?}", reply.headers);
        assert!(reply.header("age").is_some() && reply.header("via") == Some("1.1 basalt"));
    }
    let head = node.slice().call(&Request::new("HEAD", "/none")).must_be(404);
    assert_eq!((word(&head), head.header("content-length")), ("HIT", Some("4")));
    assert_eq!(origin.total("/none"), 1);
    // What a client sends may be why: who sends something else asks anew.
    let other = Request::new("GET", "/none").header("Accept", "text/odd");
    assert_eq!(word(&node.slice().call(&other).must_be(404)), "MISS");
    assert_eq!(origin.total("/none"), 2);
    origin.put("/none", object(1, 1000));
    assert_eq!(word(&get(&node, "/none", "").must_be(404)), "HIT");
    purge(&node, "/none", &[]);
    assert_eq!(get(&node, "/none", "").must_be(200).body.len(), 1000);
}

#[test]
fn errors_are_not_kept_unless_that_is_said() {
    let origin = Origin::start();
    let node = proxy(&origin).start();
    for _ in 0..2 {
        assert_eq!(word(&get(&node, "/none", "").must_be(404)), "BYPASS");
    }
    origin.put("/none", object(1, 1000));
    get(&node, "/none", "").must_be(200);
    // The origin itself may say so.
    let gone = Fault::Status(410, "Cache-Control: max-age=60\r\n");
    origin.put("/gone", object(1, 1000).fault(gone, u32::MAX));
    let moved = Fault::Status(302, "Cache-Control: max-age=60\r\nLocation: /there\r\n");
    origin.put("/moved", object(1, 1000).fault(moved, u32::MAX));
    for expected in ["MISS", "HIT"] {
        assert_eq!(word(&get(&node, "/gone", "").must_be(410)), expected);
        let reply = get(&node, "/moved", "").must_be(302);
        assert_eq!((word(&reply), reply.header("location")), (expected, Some("/there")));
    }
    // What a client's own doing may be is not, whatever is said.
    let refused = Fault::Status(403, "Cache-Control: max-age=60\r\n");
    origin.put("/refused", object(1, 1000).fault(refused, u32::MAX));
    for _ in 0..2 {
        assert_eq!(word(&get(&node, "/refused", "").must_be(403)), "BYPASS");
    }
}

#[test]
fn failures_of_the_origin_are_kept_for_a_moment() {
    let origin = Origin::start();
    let setup = proxy(&origin).arg("--slice-negative-ttl").arg("503=2s");
    let node = setup.arg("--slice-retries").arg("1").start();
    origin.put("/f", object(1, 1000).fault(Fault::Status(503, "X-Why: busy\r\n"), 2));
    for expected in ["MISS", "HIT"] {
        let reply = get(&node, "/f", "").must_be(503);
        assert_eq!((word(&reply), reply.header("x-why"), reply.text()), (expected, Some("busy"), "sorry"));
    }
    assert_eq!(origin.total("/f"), 2, "one try and one more");
    thread::sleep(Duration::from_millis(3100));
    assert_eq!(get(&node, "/f", "").must_be(200).body.len(), 1000);
}

#[test]
fn without_ranges_an_object_is_stored_whole_and_ranges_are_served() {
    let origin = Origin::start();
    let mut node = proxy(&origin).start();
    let whole = Object { ranges: false, ..object(1, 3 * MIB) };
    origin.put("/w", whole.clone());
    let part = get(&node, "/w", "bytes=2500000-2500009").must_be(206);
    assert!(part.body == whole.body[2_500_000..2_500_010] && word(&part) == "MISS");
    must_be_stored(&node, "/w");
    node.kill();
    node = node.start_again();
    let reply = get(&node, "/w", "").must_be(200);
    assert!(reply.body == *whole.body && word(&reply) == "HIT", "{:?}", reply.headers);
    assert!(get(&node, "/w", "bytes=-7").must_be(206).body == whole.body[3 * MIB - 7..]);
    assert_eq!(origin.total("/w"), 1);
    // What breaks off is resumed behind what came.
    let broken = Object { ranges: false, ..object(2, 5 * MIB) };
    origin.put("/b", broken.clone().fault(Fault::Short, 1));
    assert!(get(&node, "/b", "").must_be(200).body == *broken.body);
    assert_eq!(origin.total("/b"), 2);
    // Too large for one slice.
    let large = Object { ranges: false, ..object(3, 11 * MIB) };
    origin.put("/l", large.clone());
    for _ in 0..2 {
        let reply = get(&node, "/l", "").must_be(200);
        assert!(reply.body == *large.body && word(&reply) == "BYPASS");
    }
}

#[test]
fn small_answers_of_unknown_length_are_kept_and_large_ones_pass() {
    let origin = Origin::start();
    let node = proxy(&origin).start();
    let chunked = |seed, size| Object { ranges: false, chunked: true, ..object(seed, size) };
    for (path, size, words) in
        [("/s", 1000, ["MISS", "HIT"]), ("/64k", 65_536, ["MISS", "HIT"]), ("/l", 65_537, ["BYPASS"; 2])]
    {
        let whole = chunked(1, size);
        origin.put(path, whole.clone());
        for expected in words {
            let reply = get(&node, path, "").must_be(200);
            assert!(reply.body == *whole.body && word(&reply) == expected, "{path} {:?}", reply.headers);
        }
    }
    assert_eq!((origin.total("/s"), origin.total("/64k")), (1, 1));
    let same = Request::new("GET", "/s").header("If-None-Match", "\"v1\"");
    assert!(node.slice().call(&same).must_be(304).body.is_empty());
    let body = chunked(1, 1000).body;
    assert!(get(&node, "/s", "bytes=10-19").must_be(206).body == body[10..20]);
    // Nothing tells versions apart: never in slices.
    let plain = Object { etag: String::new(), ..object(2, 1000) };
    origin.put("/p", Object { ranges: false, ..plain });
    for expected in ["MISS", "HIT"] {
        assert_eq!(word(&get(&node, "/p", "").must_be(200)), expected);
    }
    // What is for one client is not kept, and passes at once when that is known.
    let mine = chunked(3, 1000);
    origin.put("/c", Object { fields: "Set-Cookie: a=b\r\n".to_owned(), ..mine });
    for asked in [2, 3, 4] {
        assert_eq!(word(&get(&node, "/c", "").must_be(200)), "BYPASS");
        assert_eq!(origin.total("/c"), asked);
    }
}

#[test]
fn transformed_bodies_are_never_sliced_nor_kept() {
    let origin = Origin::start();
    let node = proxy(&origin).start();
    for (path, ranges, size) in [("/r", true, 3 * MIB), ("/w", false, 3 * MIB), ("/s", false, 1000)] {
        let plain = object(1, size);
        let fields = format!("{}Content-Encoding: gzip\r\n", plain.fields);
        let encoded = Object { fields, ranges, ..plain };
        origin.put(path, encoded.clone());
        for _ in 0..2 {
            let reply = get(&node, path, "").must_be(200);
            assert!(reply.body == *encoded.body && word(&reply) == "BYPASS", "{path}");
            assert_eq!(reply.header("content-encoding"), Some("gzip"));
        }
    }
}

#[test]
fn an_empty_object_is_stored() {
    let origin = Origin::start();
    let node = proxy(&origin).start();
    origin.put("/e", object(1, 0));
    for expected in ["MISS", "HIT"] {
        let reply = get(&node, "/e", "").must_be(200);
        assert_eq!((word(&reply), reply.header("content-length")), (expected, Some("0")));
    }
    assert_eq!(origin.total("/e"), 2, "a range of it, which there is none of, and it");
    get(&node, "/e", "bytes=0-0").must_be(416);
}
