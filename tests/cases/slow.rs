//! Clients that send a little now and then: cut off or told 408 within a deadline.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use tests::http::{Conn, Fault};
use tests::node::Node;

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
