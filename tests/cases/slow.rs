//! Clients that send a little now and then: cut off or told 408 within a deadline. Clients that take nothing: they hold up nobody.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use tests::content::{self, Rng, run_seed};
use tests::http::{Conn, Fault, Request};
use tests::node::{Node, Setup, cpuset};

const HEAD_DEADLINE: Duration = Duration::from_secs(15);
const BODY_DEADLINE: Duration = Duration::from_secs(45);
/// Two test threads share two cores with other tests.
const SLACK: Duration = Duration::from_secs(3);

/// Sends `prelude`, then one byte of `drip` every 200 ms (nothing, if that is empty), and gives the
/// time until the server closed, and whether it said 408 before.
fn drip(addr: SocketAddr, prelude: &str, drip: &str, deadline: Duration) -> Result<(), String> {
    let begin = Instant::now();
    let mut conn = Conn::open(addr);
    conn.send(prelude.as_bytes()).expect("sent");
    conn.set_patience(Duration::from_millis(200));
    let mut bytes = drip.as_bytes().iter().cycle();
    while begin.elapsed() < deadline + SLACK {
        if let Some(byte) = bytes.next() {
            // Sending to a closed connection fails, at once or next time.
            conn.send(&[*byte]).ok();
        }
        match conn.receive("GET") {
            Err(Fault::Silent) => {}
            Ok(reply) if reply.status == 408 => {
                let closed = conn.is_closed_within(Duration::from_secs(5));
                return if closed { Ok(()) } else { Err("408, but left open".into()) };
            }
            Err(Fault::Closed) => return Ok(()),
            other => return Err(format!("{other:?}")),
        }
    }
    Err(format!("still open after {:?}", begin.elapsed()))
}

#[test]
fn slow_requests_are_cut_off_within_their_deadline() {
    let node = Node::start();
    let put = "PUT /blobs HTTP/1.1\r\nHost: h\r\n";
    let length = format!("{put}Content-Length: 100000\r\n\r\n");
    let chunked = format!("{put}Transfer-Encoding: chunked\r\n\r\n");
    let in_chunk = format!("{chunked}186a0\r\n");
    let complete = "GET /blobs HTTP/1.1\r\nHost: h\r\n\r\n";
    let half = "GET /blobs HTTP/1.1\r\nHost: h\r\n";
    let rows = [
        ("a byte of a header at a time", half, "X: y", HEAD_DEADLINE),
        ("a header at a time", half, "X:y\r\n", HEAD_DEADLINE),
        ("a byte of the first line at a time", "GET /", "x", HEAD_DEADLINE),
        ("half a head, then nothing", half, "", HEAD_DEADLINE),
        ("a byte of the body at a time", &length, "x", BODY_DEADLINE),
        ("a head, then no body", &length, "", BODY_DEADLINE),
        ("a tiny chunk at a time", &chunked, "1\r\nx\r\n", BODY_DEADLINE),
        ("a byte of a chunk at a time", &in_chunk, "x", BODY_DEADLINE),
        (
            "a chunk extension without end",
            &chunked,
            "5;xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            BODY_DEADLINE,
        ),
    ];
    let wrong: Vec<String> = thread::scope(|scope| {
        let started = rows.map(|(name, prelude, bytes, deadline)| {
            let addr = node.setup.blob;
            (name, scope.spawn(move || drip(addr, prelude, bytes, deadline)))
        });
        // Others are served meanwhile.
        for _ in 0..20 {
            let begin = Instant::now();
            node.client().page("");
            assert!(begin.elapsed() < Duration::from_secs(5));
            thread::sleep(Duration::from_millis(200));
        }
        let joined = started.map(|(name, thread)| (name, thread.join().expect("a thread")));
        joined.into_iter().filter_map(|(name, end)| Some(format!("{name}: {}", end.err()?))).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    node.client().page("");
    node.conn().send(complete.as_bytes()).expect("sent");
    assert!(node.client().list().is_empty());
}

#[test]
fn clients_that_take_nothing_let_others_read_from_disk() {
    const STILL: usize = 200;
    const LARGE_BYTES: usize = 160 << 20;
    const WANTED_BYTES: u64 = 16 << 20;
    const OTHERS: u64 = 20;
    // So little memory that what they want is on disk, and one column, so that all want its turns.
    let mut node = Setup::new().cpuset(cpuset(1)).memory("64MiB").start();
    let large = node.client().put(&content::bytes(1, LARGE_BYTES));
    let others: Vec<_> = (0..OTHERS)
        .map(|at| {
            let body = content::bytes(2 + at, 3 << 20);
            (node.client().put(&body), body)
        })
        .collect();
    node.stop();
    let node = node.start_again();
    let mut rng = Rng::new(run_seed());
    let still: Vec<Conn> = (0..STILL)
        .map(|_| {
            let from = rng.below(LARGE_BYTES as u64 - WANTED_BYTES);
            let range = format!("bytes={from}-{}", from + WANTED_BYTES - 1);
            let mut conn = node.conn();
            conn.send(&Request::new("GET", large.path()).header("Range", range).to_bytes()).expect("sent");
            conn
        })
        .collect();
    // Their sockets fill.
    thread::sleep(Duration::from_secs(1));
    let begin = Instant::now();
    for (digest, body) in &others {
        let reply = node.client().call(&Request::new("GET", digest.path())).must_be(200);
        assert!(reply.body == *body, "wrong bytes of {digest:?}");
    }
    assert!(begin.elapsed() < Duration::from_secs(15), "others waited {:?}", begin.elapsed());
    drop(still);
}
