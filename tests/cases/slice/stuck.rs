//! Clients that wait for an origin that hangs, more of them on each column than its messages have room for at a time: whoever wants
//! something else has it, and when they are gone nothing is left of them.

use super::kept::purge;
use super::upkeep::{metric, within};
use super::{get, object, proxy, word};
use std::time::{Duration, Instant};
use tests::http::{Conn, Request};
use tests::node::{self, Node};
use tests::origin::{Fault, Object, Origin};
use tests::skip;

/// On two columns, between which the kernel deals them out.
const CROWD: usize = 3000;
/// Some of one column's, asked for by clients of both.
const HOT: usize = 24;
/// Two test threads share two cores with other tests.
const SOON: Duration = Duration::from_secs(2);
/// What may come and go beside readers: buffers, pools, the allocator's own.
const SLACK_BYTES: u64 = 24 << 20;

fn soon<T>(what: &str, act: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let done = act();
    assert!(begin.elapsed() < SOON, "{what} took {:?}", begin.elapsed());
    done
}

fn crowd(node: &Node, path: &str, range: &str) -> Vec<Conn> {
    let request = Request::new("GET", path);
    let request = if range.is_empty() { request } else { request.header("Range", range) };
    let bytes = request.to_bytes();
    let client = |_| {
        let mut conn = node.slice();
        conn.send(&bytes).expect("sent");
        conn
    };
    (0..CROWD).map(client).collect()
}

fn readers(node: &Node) -> u64 {
    metric(node, "slicecache_readers", "")
}

/// Objects of both columns are served, purged and changed as if nothing was, whichever column a client comes to.
fn must_serve_others(node: &Node, origin: &Origin, round: u64) {
    let path = |at| format!("/hot{at}");
    for at in 0..HOT {
        origin.put(&path(at), object(round, 5000 + at));
        soon("a miss", || get(node, &path(at), "").must_be(200));
        for _ in 0..4 {
            soon("a hit", || assert_eq!(word(&get(node, &path(at), "").must_be(200)), "HIT"));
        }
    }
    for at in 0..HOT {
        origin.put(&path(at), object(round + 100, 6000));
        match at % 2 {
            0 => soon("a purge", || purge(node, &path(at), &[])),
            _ => _ = soon("a POST", || node.slice().call(&Request::new("POST", path(at)).body(b"x"))),
        }
        for _ in 0..4 {
            let reply = soon("what it is now", || get(node, &path(at), "").must_be(200));
            assert!(reply.body == *object(round + 100, 6000).body, "{} after a change", path(at));
        }
    }
}

#[test]
fn a_crowd_before_an_origin_that_hangs_holds_up_nobody_else_and_leaves_nothing_behind() {
    if node::cpus().len() < 2 && skip::told_to_skip("cpus", "one CPU only") {
        return;
    }
    let origin = Origin::start();
    let hanging = Fault::Silent(Duration::from_secs(300));
    let node = proxy(&origin).arg("--slice-origin-timeout").arg("240s").start();
    let mut rss_bytes = Vec::new();
    for round in 0..4 {
        // They wait for the head of an answer, or in the middle of its body.
        let (path, range) =
            (format!("/stuck{round}"), if round % 2 == 0 { "" } else { "bytes=1048570-1048580" });
        let whole = object(round, 2 << 20);
        let stuck = whole.clone().fault(hanging.clone(), u32::MAX);
        let half = Object { becomes: Some((1, Box::new(stuck.clone()))), ..whole };
        origin.put(&path, if round % 2 == 0 { stuck } else { half });
        let clients = crowd(&node, &path, range);
        within("all are there", || metric(&node, "slicecache_http_connections", "") >= CROWD as u64);
        must_serve_others(&node, &origin, round);
        within("all wait", || readers(&node) == CROWD as u64);
        eprintln!("round {round}: {} MiB", node.status_bytes("VmRSS") >> 20);
        drop(clients);
        within("nobody reads", || readers(&node) == 0);
        within("nobody is there", || metric(&node, "slicecache_http_connections", "") == 0);
        must_serve_others(&node, &origin, round);
        rss_bytes.push(node.status_bytes("VmRSS"));
        eprintln!("round {round}: {rss_bytes:?}");
    }
    assert!(rss_bytes[3] < rss_bytes[1] + SLACK_BYTES, "memory grows with each crowd: {rss_bytes:?}");
}

/// A request and the word that its client has left may come to its owner together.
#[test]
fn who_leaves_at_once_leaves_nothing_behind() {
    let origin = Origin::start();
    let node = proxy(&origin).arg("--slice-origin-timeout").arg("240s").start();
    origin.put("/gone", object(1, 1000).fault(Fault::Silent(Duration::from_secs(300)), u32::MAX));
    let request = Request::new("GET", "/gone").to_bytes();
    for _ in 0..20_000 {
        let mut conn = node.slice();
        conn.send(&request).expect("sent");
    }
    within("nobody is there", || metric(&node, "slicecache_http_connections", "") == 0);
    within("nobody reads", || readers(&node) == 0);
}
