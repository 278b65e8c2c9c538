//! Bodies that take their time, or have no end: nobody waits for an end that does not come.

use super::word;
use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};
use tests::http::Request;
use tests::node::{Node, Setup};
use tests::scripted::{Asked, Scripted};

const EVENT_EVERY: Duration = Duration::from_millis(300);
const EVENTS: usize = 8;

/// Chunks, one at a time.
fn say_slowly(to: &mut dyn Write, fields: &str, pieces: usize, every: Duration) -> io::Result<()> {
    write!(to, "HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: chunked\r\n\r\n")?;
    for at in 0..pieces {
        thread::sleep(every);
        write!(to, "8\r\npiece {:02}\r\n", at % 100)?;
        to.flush()?;
    }
    to.write_all(b"0\r\n\r\n")
}

/// When the first byte and the last byte came, and how much that was.
fn listen(node: &Node, path: &str) -> (Duration, Duration, usize) {
    let begin = Instant::now();
    let (mut first, mut bytes) = (None, 0);
    let mut conn = node.slice();
    conn.set_patience(Duration::from_secs(60));
    conn.send(&Request::new("GET", path).to_bytes()).expect("sent");
    let reply = conn.receive_into("GET", &mut |part| {
        first.get_or_insert_with(|| begin.elapsed());
        bytes += part.len();
    });
    assert_eq!(reply.expect("whole").status, 200);
    (first.expect("something"), begin.elapsed(), bytes)
}

#[test]
fn events_come_when_they_happen() {
    let origin = Scripted::start_saying(|asked: &Asked, to| {
        let control = match asked.target() {
            "/no-store" => "Cache-Control: no-store\r\n",
            "/no-cache" => "Cache-Control: no-cache\r\n",
            "/max-age" => "Cache-Control: max-age=60\r\n",
            _ => "",
        };
        // One kind is not said to be a stream.
        let kind =
            if asked.target() == "/no-cache" { "text/plain" } else { "text/event-stream; charset=utf-8" };
        say_slowly(to, &format!("{control}Content-Type: {kind}\r\n"), EVENTS, EVENT_EVERY)
    });
    let node = Setup::new().origin(&origin.url()).start();
    for path in ["/no-store", "/no-cache", "/max-age", "/"] {
        let (first, last, bytes) = listen(&node, path);
        assert_eq!(bytes, EVENTS * 8, "{path}");
        assert!(first < Duration::from_secs(1), "{path}: the first event took {first:?}");
        assert!(
            last > EVENT_EVERY * EVENTS as u32 - EVENT_EVERY / 2,
            "{path}: it is not told from the first"
        );
    }
}

/// What may be kept is waited for, but not long, whoever asks.
#[test]
fn a_body_without_an_end_in_sight_holds_nobody() {
    let origin = Scripted::start_saying(|asked: &Asked, to| {
        let every = if asked.target() == "/quick" { Duration::ZERO } else { Duration::from_secs(1) };
        say_slowly(to, "Cache-Control: max-age=60\r\n", 12, every)
    });
    let node = Setup::new().origin(&origin.url()).start();
    thread::scope(|scope| {
        let first = scope.spawn(|| listen(&node, "/slow"));
        thread::sleep(Duration::from_millis(200));
        let second = scope.spawn(|| listen(&node, "/slow"));
        for client in [first, second] {
            let (first, _, bytes) = client.join().expect("no panic");
            assert_eq!(bytes, 12 * 8);
            assert!(first < Duration::from_secs(5), "the first byte took {first:?}");
        }
    });
    for expected in ["MISS", "HIT"] {
        let reply = node.slice().call(&Request::new("GET", "/quick")).must_be(200);
        assert_eq!((word(&reply), reply.body.len()), (expected, 12 * 8));
    }
}
