//! The memory budget holds: far more data than memory goes through a small cgroup.

use tests::cgroup::MemoryCgroup;
use tests::content::{Digest, Expected, Hasher, fill};
use tests::http::{Conn, Request};
use tests::node::{Node, Setup};

const BUDGET_BYTES: u64 = 256 << 20;
/// Beside the budget: code, stacks, indexes, sockets, and the least of a page cache.
const LIMIT_BYTES: u64 = BUDGET_BYTES + (192 << 20);
/// Ten times the budget and more.
const TOTAL_BYTES: u64 = 3 << 30;
const SIZES: [u64; 5] = [256 << 20, 64 << 20, 5 << 20, 1 << 20, 70_000];

/// Puts the first `size_bytes` bytes of the content `seed` without keeping them here.
fn put(conn: &mut Conn, seed: u64, size_bytes: u64) -> Digest {
    let head = Request::new("PUT", "/blobs").header("Content-Length", size_bytes.to_string());
    conn.send(&head.to_bytes()).expect("sent");
    let mut hasher = Hasher::default();
    let mut part = vec![0; 1 << 20];
    let mut at = 0;
    while at < size_bytes {
        let part = &mut part[..(size_bytes - at).min(1 << 20) as usize];
        fill(seed, at, part);
        hasher.update(part);
        conn.send(part).expect("sent");
        at += part.len() as u64;
    }
    conn.receive("PUT").expect("a reply").must_be(201);
    hasher.finish()
}

fn put_all(node: &Node) -> Vec<(u64, u64, Digest)> {
    let mut conn = node.conn();
    let mut blobs = Vec::new();
    let mut total = 0;
    for seed in 0.. {
        let size = SIZES[seed as usize % SIZES.len()];
        blobs.push((seed, size, put(&mut conn, seed, size)));
        total += size;
        if total >= TOTAL_BYTES {
            break;
        }
    }
    blobs
}

#[test]
fn ten_times_the_budget_goes_in_and_out_within_the_limit() {
    let Some(group) = MemoryCgroup::or_skip(LIMIT_BYTES) else { return };
    let entry = group.entry();
    let setup = Setup::new().memory("256MiB").by(&["sh", "-c", &entry, "sh"]);
    let mut node = setup.start();
    let blobs = put_all(&node);
    for (seed, size, digest) in &blobs {
        let mut expected = Expected::from(*seed, 0);
        let got = node.client().get_through(digest, &mut |part| expected.must_continue(part));
        assert_eq!(got, *size);
    }
    assert_eq!(node.client().list().len(), blobs.len());
    group.must_have_held(&node, "blobs");
    node.stop();
}
