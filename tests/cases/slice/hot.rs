//! Plain requests for what RAM has are answered the short way; what they get is what the long way gives.

use super::kept::purge;
use super::{MIB, get, object, proxy, word};
use std::thread;
use std::time::{Duration, Instant};
use tests::content;
use tests::exposition::Exposition;
use tests::http::{Reply, Request};
use tests::node::{Node, cpuset};
use tests::origin::{Object, Origin};

fn hot_answers(node: &Node) -> u64 {
    let text = node.ops().call(&Request::new("GET", "/metrics")).must_be(200);
    let metrics = Exposition::parse(text.text()).expect("valid");
    metrics.sum("slicecache_hot_answers_total", |_| true) as u64
}

/// Asks until it is answered the short way.
fn heat(node: &Node, path: &str, range: &str) -> Reply {
    let begin = Instant::now();
    loop {
        let before = hot_answers(node);
        let reply = get(node, path, range);
        if hot_answers(node) > before {
            return reply;
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "{path} {range} never goes the short way");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The same request with a wish that changes nothing goes the long way.
fn long(node: &Node, path: &str, range: &str) -> Reply {
    let request = Request::new("GET", path).header("Cache-Control", "max-age=100000");
    let request = if range.is_empty() { request } else { request.header("Range", range) };
    node.slice().call(&request)
}

fn sorted(reply: &Reply) -> Vec<(String, String)> {
    let mut headers = reply.headers.clone();
    headers.sort();
    headers
}

#[test]
fn both_ways_answer_the_same() {
    let origin = Origin::start();
    let node = proxy(&origin).cpuset(cpuset(1)).start();
    let fields = "Cache-Control: max-age=3600\r\nVia: 1.0 far\r\nX-Own: a b\r\n";
    origin.put("/small", Object { fields: fields.to_owned(), ..object(1, 1000) });
    origin.put("/large", object(2, 3 * MIB));
    for (path, range) in [
        ("/small", ""),
        ("/small", "bytes=0-9"),
        ("/small", "bytes=-7"),
        ("/small", "bytes=990-2000"),
        ("/large", "bytes=1100000-1165535"),
        ("/large", "bytes=-1"),
    ] {
        let begin = Instant::now();
        loop {
            let (short, long) = (heat(&node, path, range), long(&node, path, range));
            // A second may begin between the two.
            if short.header("age") == long.header("age") {
                assert_eq!((short.status, sorted(&short)), (long.status, sorted(&long)), "{path} {range}");
                assert!(short.body == long.body, "{path} {range}");
                assert_eq!(word(&short), "HIT");
                break;
            }
            assert!(begin.elapsed() < Duration::from_secs(20), "{path} {range}");
        }
    }
    let before = hot_answers(&node);
    // More than one stretch, no range that can be satisfied, several, none.
    for (range, status) in [
        ("bytes=1000000-1100000", 206),
        ("bytes=9999999-", 416),
        ("bytes=0-1,1000-1001", 206),
        ("lines=1-2", 200),
    ] {
        get(&node, "/large", range).must_be(status);
    }
    for field in ["If-None-Match", "If-Range", "Cookie", "Authorization", "Pragma"] {
        node.slice().call(&Request::new("GET", "/small").header(field, "\"v1\""));
    }
    node.slice().call(&Request::new("HEAD", "/small")).must_be(200);
    assert_eq!(hot_answers(&node), before, "none of these is plain");
}

#[test]
fn what_is_purged_stale_or_of_another_variant_is_not_hot() {
    let origin = Origin::start();
    let node = proxy(&origin).cpuset(cpuset(1)).start();
    origin.put("/purged", object(1, 1000));
    origin.put("/stale", Object { fields: "Cache-Control: max-age=3\r\n".to_owned(), ..object(1, 1000) });
    let varies = "Cache-Control: max-age=3600\r\nVary: Accept-Language\r\n".to_owned();
    origin.put("/varies", Object { fields: varies, ..object(1, 1000) });
    for _ in 0..5 {
        get(&node, "/varies", "").must_be(200);
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(hot_answers(&node), 0, "which variant is meant only the long way knows");
    heat(&node, "/purged", "").must_be(200);
    let new = |seed| Object { etag: "\"v2\"".to_owned(), ..object(seed, 1000) };
    origin.put("/purged", new(7));
    purge(&node, "/purged", &[]);
    let reply = get(&node, "/purged", "").must_be(200);
    assert_eq!(word(&reply), "MISS");
    assert_eq!(reply.body, content::bytes(7, 1000));
    heat(&node, "/stale", "").must_be(200);
    origin.put("/stale", new(8));
    thread::sleep(Duration::from_millis(3100));
    let reply = get(&node, "/stale", "").must_be(200);
    assert_eq!(reply.body, content::bytes(8, 1000), "its lifetime is over");
    assert_eq!(heat(&node, "/purged", "").must_be(200).body, content::bytes(7, 1000));
}
