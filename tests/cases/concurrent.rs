//! Many at once on the same blob: one object, and never a byte of another.

use std::net::SocketAddr;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tests::blobs::{Client, must_acknowledge};
use tests::content::{self, Digest, Rng};
use tests::disk;
use tests::http::{Conn, Request};
use tests::node::{Node, Setup, cpuset};

/// `count` connections send the same PUT at once; all must be acknowledged.
fn put_at_once(addr: SocketAddr, body: &[u8], count: usize) {
    let digest = Digest::of(body);
    let request = Request::new("PUT", "/blobs").body(body).to_bytes();
    let named = Request::new("PUT", digest.path()).body(body).to_bytes();
    let barrier = Barrier::new(count);
    thread::scope(|scope| {
        for at in 0..count {
            let request = if at % 2 == 0 { &request } else { &named };
            let (barrier, digest) = (&barrier, &digest);
            scope.spawn(move || {
                let mut conn = Conn::open(addr);
                let (first, last) = request.split_at(request.len() - 1);
                conn.send(first).expect("sent");
                barrier.wait();
                conn.send(last).expect("sent");
                let reply = conn.receive("PUT").expect("a reply");
                must_acknowledge(&reply, digest, body.len() as u64);
            });
        }
    });
}

#[test]
fn sixty_four_puts_of_one_blob_store_one_object() {
    // 16 MiB for each: enough for whatever an upload holds.
    let mut node = Setup::new().memory("1GiB").start();
    for size in [1000, 300_000, 2 << 20] {
        let body = content::bytes(size as u64, size);
        put_at_once(node.setup.blob, &body, 64);
        assert!(node.client().get(&Digest::of(&body)) == body);
        must_lie_once(&node, &body);
    }
    assert_eq!(node.client().list().len(), 3);
    node.stop();
    let node = node.start_again();
    assert_eq!(node.client().list().len(), 3);
    for size in [300_000, 2 << 20] {
        must_lie_once(&node, &content::bytes(size as u64, size));
    }
}

/// Large blobs lie on disk once, soon: packed ones may wait for their segment to be reclaimed.
fn must_lie_once(node: &Node, body: &[u8]) {
    if body.len() < 65_536 {
        return;
    }
    let begin = Instant::now();
    loop {
        let places = disk::find(&node.setup.data, &body[body.len() / 2..][..64]);
        if places.len() == 1 {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(10), "not once, but at {places:?}");
        thread::sleep(Duration::from_millis(200));
    }
}

/// Puts, deletes, and reads the same few blobs until the time is over.
fn race(addr: SocketAddr, mut rng: Rng, bodies: &[Vec<u8>], end: Instant, whole: &AtomicU64) {
    let mut client = Client::new(addr);
    while Instant::now() < end {
        let body = &bodies[rng.below(bodies.len() as u64) as usize];
        let digest = Digest::of(body);
        match rng.below(8) {
            0 | 1 => drop(client.put(body)),
            2 => assert!([204, 404].contains(&client.delete(&digest)), "DELETE"),
            3 => {
                let (from, to) = (body.len() / 3, body.len() / 2);
                let request = Request::new("GET", digest.path());
                let request = request.header("Range", format!("bytes={from}-{to}"));
                let reply = client.call(&request);
                assert!([206, 404].contains(&reply.status), "{}", reply.status);
                assert!(reply.status == 404 || reply.body == body[from..=to], "wrong bytes");
            }
            _ => {
                let reply = client.try_get(&digest);
                let reply = reply.unwrap_or_else(|fault| panic!("a reader was cut: {fault}"));
                assert!([200, 404].contains(&reply.status), "{}", reply.status);
                whole.fetch_add(u64::from(reply.status == 200), Ordering::Relaxed);
            }
        }
    }
}

#[test]
fn readers_see_whole_blobs_while_they_are_put_and_deleted() {
    let seed = content::run_seed();
    let mut node = Node::start();
    let bodies = [13, 4096, 60_000, 70_000, 1 << 20, 5 << 20].map(|size| content::bytes(seed, size));
    let whole = AtomicU64::new(0);
    let end = Instant::now() + Duration::from_secs(6);
    thread::scope(|scope| {
        for at in 0..12 {
            let (addr, bodies, whole) = (node.setup.blob, &bodies, &whole);
            scope.spawn(move || race(addr, Rng::new(seed + at), bodies, end, whole));
        }
    });
    assert!(whole.into_inner() > 50, "hardly anything was read");
    let listed = node.client().list();
    for body in &bodies {
        let digest = Digest::of(body);
        assert_eq!(node.client().has(&digest), listed.contains_key(&digest));
    }
    node.stop();
    assert_eq!(node.start_again().client().list(), listed);
}

#[test]
fn a_reader_under_way_finishes_though_the_blob_is_deleted() {
    let node = Node::start();
    let body = content::bytes(8, 48 << 20);
    let digest = node.client().put(&body);
    let mut conn = node.conn();
    conn.send(&Request::new("GET", digest.path()).to_bytes()).expect("sent");
    conn.receive_head().expect("a head");
    assert_eq!(node.client().delete(&digest), 204);
    assert!(!node.client().has(&digest));
    // Its space may be given to others, but not its bytes.
    for seed in 100..106 {
        node.client().put(&content::bytes(seed, 8 << 20));
    }
    let mut got = Vec::with_capacity(body.len());
    while got.len() < body.len() {
        let part = conn.receive_some(1 << 20).expect("more");
        assert!(!part.is_empty(), "cut after {} bytes", got.len());
        got.extend(part);
    }
    assert!(got == body);
}

#[test]
fn many_clients_with_their_own_blobs_do_not_mix_them_up() {
    let node = Node::start();
    thread::scope(|scope| {
        for thread in 0..16 {
            let mut client = node.client();
            scope.spawn(move || {
                let mut rng = Rng::new(thread);
                let mut mine = Vec::new();
                for at in 0..30 {
                    let body = content::bytes(thread << 32 | at, rng.size(13, 300_000));
                    mine.push(client.put(&body));
                    client.get(&mine[rng.below(mine.len() as u64) as usize]);
                }
            });
        }
    });
    assert_eq!(node.client().list().len(), 16 * 30);
}

#[test]
fn a_column_outlives_more_connections_than_sixteen_bits_can_count() {
    const EACH: usize = 9_000;
    let node = Setup::new().cpuset(cpuset(1)).start();
    let request = Request::new("GET", "/blobs?limit=1").header("Connection", "close");
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..EACH).for_each(|_| drop(node.conn().call(&request).must_be(200))));
        }
    });
}
