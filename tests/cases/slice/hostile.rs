//! Requests that are malformed, ambiguous, absurd or slow, at the port of the caching proxy: the answer that the RFC asks for, nothing
//! of it taken for a request by the origin, bounded memory, and others are served meanwhile.

use super::{MIB, get, object, proxy, word};
use crate::malformed::{Row, rows, try_row};
use std::thread;
use std::time::{Duration, Instant};
use tests::content;
use tests::http::{Conn, Fault, Request, chunked};
use tests::node::{Node, Setup};
use tests::origin::{self, Object, Origin};
use tests::scripted::{Asked, Scripted, answer, honest};

/// The head of a request and the wait for an origin take this long at most, and what two busy cores add.
const PATIENCE: Duration = Duration::from_secs(40);

fn start(origin: &Scripted) -> Node {
    Setup::new().origin(&origin.url()).start()
}

fn fresh(asked: &Asked) -> Vec<u8> {
    honest(asked, "\"1\"", "Cache-Control: max-age=3600\r\n", b"what it is")
}

/// Those that are no business of an origin's: POST and the like are passed, a length that no disk has is its own to refuse.
fn is_ours(row: &Row) -> bool {
    !row.may_stay && !row.statuses.contains(&405) && !row.statuses.contains(&507)
}

#[test]
fn what_is_malformed_is_refused_and_never_reaches_the_origin() {
    let origin = Scripted::start(|asked| answer(200, "", asked.method().as_bytes()));
    let node = start(&origin);
    let mut wrong = Vec::new();
    let mut count = 0;
    for section in ["framing", "chunks", "heads", "lines"] {
        for row in rows(section).iter().filter(|row| is_ours(row)) {
            count += 1;
            if let Err(why) = try_row(node.setup.slice, row) {
                wrong.push(format!("{section}: {}: {why}", row.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count > 70, "{count} rows");
    assert!(origin.asked().is_empty(), "{:?}", origin.asked());
    assert!(get(&node, "/x", "").must_be(200).body == b"GET");
}

#[test]
fn a_body_is_never_a_request() {
    let origin = Scripted::start(fresh);
    let node = start(&origin);
    let inner = Request::new("GET", "/smuggled").to_bytes();
    let chunks = chunked(&inner, 7);
    for method in ["GET", "HEAD", "POST", "PUT", "DELETE"] {
        let plain = Request::new(method, "/outer").body(&inner).to_bytes();
        let head = Request::new(method, "/outer").header("Transfer-Encoding", "chunked").to_bytes();
        // With extensions, which mean nothing (RFC 9112 §7.1.1).
        let extended = [&head[..], b"3;a=b;c=\"d\"\r\nGET\r\n0;x\r\n\r\n"].concat();
        for (bytes, body) in
            [(plain, &inner[..]), ([head, chunks.clone()].concat(), &inner[..]), (extended, b"GET")]
        {
            let before = origin.asked().len();
            let mut conn = node.slice();
            conn.set_patience(Duration::from_secs(5));
            conn.send(&bytes).expect("sent");
            conn.receive(method).expect("a reply").must_be(200);
            let next = conn.try_call(&Request::new("GET", "/next"));
            assert!(next.is_ok_and(|reply| reply.status == 200), "{method}: it goes on");
            let asked = &origin.asked()[before..];
            assert_eq!((asked[0].method(), asked[0].target()), (method, "/outer"));
            assert!(asked[0].body == body, "{method}");
            assert!(asked.iter().all(|asked| asked.target() != "/smuggled"), "{method}: {asked:?}");
        }
    }
}

/// What the client says of the connection and of framing is not the origin's to hear.
#[test]
fn fields_of_one_connection_and_framing_are_written_anew() {
    let origin = Scripted::start(fresh);
    let node = start(&origin);
    let fields = [
        ("Connection", "close, X-Hop, Content-Length, Host, Authorization"),
        ("X-Hop", "1"),
        ("Authorization", "Basic x"),
        ("TE", "trailers"),
        ("Upgrade", "websocket"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Authorization", "x"),
        ("X-Kept", "1"),
    ];
    let request = Request::new("POST", "http://elsewhere/p").body(b"hello");
    let request = fields.iter().fold(request, |request, (name, value)| request.header(name, *value));
    node.slice().call(&request).must_be(200);
    let asked = &origin.asked()[0];
    assert_eq!((asked.target(), asked.field("host")), ("/p", Some(origin.addr.to_string().as_str())));
    assert_eq!((asked.field("content-length"), &asked.body[..]), (Some("5"), &b"hello"[..]));
    assert_eq!((asked.field("x-kept"), asked.field("via")), (Some("1"), Some("1.1 basalt")));
    for gone in ["x-hop", "te", "upgrade", "keep-alive", "proxy-authorization"] {
        assert_eq!(asked.field(gone), None, "{gone}: {}", asked.head);
    }
}

#[test]
fn absurd_ranges_are_refused_or_made_one_cold_and_hot() {
    let origin = Origin::start();
    let node = proxy(&origin).start();
    let large = object(1, 3 * MIB);
    let list = |ranges: &mut dyn Iterator<Item = (usize, usize)>| {
        ranges.map(|(from, to)| format!("{from}-{to}")).collect::<Vec<_>>().join(",")
    };
    let ascending = |count: usize| list(&mut (0..count).map(|at| (at * 10_000, at * 10_000 + 9)));
    let descending = |count: usize| list(&mut (0..count).rev().map(|at| (at * 10_000, at * 10_000 + 9)));
    let rows: [(&str, String, u16); 14] = [
        ("65 parts", ascending(65), 416),
        ("2,000 parts", vec!["0-"; 2000].join(","), 416),
        ("64 parts", ascending(64), 206),
        ("65 empty elements", format!("0-1{}", ",".repeat(65)), 416),
        ("three that overlap", "0-100,50-150,100-200".to_owned(), 416),
        ("two that overlap", "0-100,50-150".to_owned(), 206),
        ("all of it five times", "0-,0-,0-,0-,0-".to_owned(), 416),
        ("seventeen small ones backwards", descending(17), 416),
        ("sixteen small ones backwards", descending(16), 206),
        ("numbers beyond 64 bits", format!("0-1,{0}-{0}", "9".repeat(30)), 206),
        ("nothing but what is beyond", "3145728-,99999999-".to_owned(), 416),
        ("no bytes at all", "-0".to_owned(), 416),
        ("backwards in itself", "5-4".to_owned(), 200),
        ("a byte a part", "0-0,-1".to_owned(), 206),
    ];
    for (at, (name, range, status)) in rows.into_iter().enumerate() {
        let path = format!("/absurd{at}");
        origin.put(&path, large.clone());
        for state in ["cold", "hot"] {
            let reply = get(&node, &path, &format!("bytes={range}"));
            assert_eq!(reply.status, status, "{name}, {state}: {:?}", reply.headers);
            match status {
                416 => assert_eq!(reply.header("content-range"), Some("bytes */3145728"), "{name}"),
                200 => assert!(reply.body == *large.body, "{name}"),
                _ => assert!(reply.body.len() < 64 * 300, "{name}: {} bytes", reply.body.len()),
            }
        }
        assert!(origin.total(&path) <= 4, "{name}: {:?}", origin.asked(&path));
    }
    for other in ["lines=0-1", "bytes 0-1", "bytes=a-b", "bytes=", "bytes=,", "bytes=1"] {
        assert!(get(&node, "/absurd0", other).must_be(200).body == *large.body, "{other}");
    }
}

fn resident(node: &Node) -> u64 {
    node.status_bytes("VmRSS")
}

#[test]
fn readers_that_stand_still_cost_little_and_starve_nobody() {
    const STILL: u64 = 200;
    let origin = Origin::start();
    // So little memory that what they want is on disk.
    let node = proxy(&origin).memory("192MiB").start();
    let (large, small) = (object(1, 64 * MIB), object(2, 3 * MIB));
    origin.put("/hot", large.clone());
    origin.put("/small", small.clone());
    assert!(get(&node, "/hot", "").must_be(200).body == *large.body);
    let before = resident(&node);
    let stand = |path: &str| {
        let mut conn = node.slice();
        conn.send(&Request::new("GET", path).to_bytes()).expect("sent");
        conn
    };
    // Half of them at what is stored, half at something cold of their own.
    let cold = object(3, 8 * MIB);
    let still: Vec<Conn> = (0..STILL)
        .map(|at| {
            let path = format!("/cold{at}");
            origin.put(&path, cold.clone());
            stand(if at % 2 == 0 { "/hot" } else { &path })
        })
        .collect();
    let begin = Instant::now();
    for _ in 0..20 {
        assert!(get(&node, "/small", "").must_be(200).body == *small.body);
    }
    assert!(begin.elapsed() < Duration::from_secs(10), "others waited {:?}", begin.elapsed());
    let grown = resident(&node).saturating_sub(before);
    assert!(grown < 192 << 20, "{} MiB more for {STILL} that stand still", grown >> 20);
    drop(still);
    assert!(get(&node, "/hot", "bytes=60000000-").must_be(206).body == large.body[60_000_000..]);
}

#[test]
fn bombs_of_fields_are_refused_in_bounded_memory() {
    let origin = Scripted::start(fresh);
    let node = start(&origin);
    // On every column: with its first buffers a column takes some MiB of its budget.
    for _ in 0..16 {
        get(&node, "/x", "").must_be(200);
    }
    let before = resident(&node);
    let half = format!("GET /x HTTP/1.1\r\nHost: h\r\nX: {}", "x".repeat(15_000));
    let held: Vec<Conn> = (0..300)
        .map(|_| {
            let mut conn = node.slice();
            conn.send(half.as_bytes()).expect("sent");
            conn
        })
        .collect();
    let many = (0..65).fold(Request::new("GET", "/x"), |request, at| request.header(&format!("X-{at}"), "y"));
    node.slice().call(&many).must_be(431);
    let long = Request::new("GET", "/x").header("X", "y".repeat(17_000));
    node.slice().call(&long).must_be(431);
    node.slice().call(&Request::new("GET", format!("/{}", "x".repeat(9000)))).must_be(414);
    assert_eq!(word(&get(&node, "/x", "")), "HIT");
    let grown = resident(&node).saturating_sub(before);
    assert!(grown < 300 * (32 << 10) + (4 << 20), "{} KiB more", grown >> 10);
    drop(held);
}

/// Nobody waits for ever: each of these runs beside the others.
#[test]
fn who_takes_too_long_is_given_up() {
    let origin = Origin::start();
    let node = proxy(&origin).arg("--slice-retries").arg("0").start();
    let silent = origin::Fault::Silent(PATIENCE * 2);
    origin.put("/silent", object(1, 2 * MIB).fault(silent.clone(), 1));
    origin.put("/passed", object(2, 2 * MIB).fault(silent.clone(), 1));
    // The first slice comes, the second does not.
    let half = object(3, 2 * MIB);
    let stuck = half.clone().fault(silent, 1);
    origin.put("/half", Object { becomes: Some((1, Box::new(stuck))), ..half.clone() });
    origin.put("/well", object(4, 2 * MIB));
    let cookie = Request::new("GET", "/passed").header("Cookie", "a=b");
    let call = |request: &Request<'_>| {
        let begin = Instant::now();
        let reply = node.slice().call(request);
        assert!(begin.elapsed() < PATIENCE, "{request:?}: {:?}", begin.elapsed());
        reply
    };
    thread::scope(|scope| {
        scope.spawn(|| call(&Request::new("GET", "/silent")).must_be(504));
        scope.spawn(|| call(&cookie).must_be(504));
        scope.spawn(|| {
            let (begin, mut conn, mut got) = (Instant::now(), node.slice(), Vec::new());
            conn.send(&Request::new("GET", "/half").to_bytes()).expect("sent");
            let ended = conn.receive_into("GET", &mut |part| got.extend_from_slice(part));
            assert!(matches!(ended, Err(Fault::Cut)) && half.body.starts_with(&got), "{ended:?}");
            assert!(begin.elapsed() < PATIENCE, "{:?}", begin.elapsed());
        });
        for (bytes, name) in [
            ("GET /well HTTP/1.1\r\nHost: h\r\n", "a head without end"),
            ("POST /well HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhello", "a body without end"),
        ] {
            let node = &node;
            scope.spawn(move || {
                let mut conn = node.slice();
                conn.send(bytes.as_bytes()).expect("sent");
                conn.set_patience(PATIENCE);
                let reply = conn.receive("GET").unwrap_or_else(|fault| panic!("{name}: {fault}"));
                assert_eq!(reply.status, 408, "{name}");
            });
        }
        for _ in 0..20 {
            let begin = Instant::now();
            get(&node, "/well", "").must_be(200);
            assert!(begin.elapsed() < Duration::from_secs(5));
            thread::sleep(Duration::from_millis(200));
        }
    });
    for (path, seed) in [("/silent", 1), ("/passed", 2), ("/half", 3)] {
        assert!(get(&node, path, "").must_be(200).body == content::bytes(seed, 2 * MIB), "{path} heals");
    }
}
