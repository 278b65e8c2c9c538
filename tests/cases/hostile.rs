//! Requests that are odd but right, in floods, or in a row: served in order, within bounds.

use std::thread;
use std::time::Duration;

use tests::blobs::must_acknowledge;
use tests::content::{self, Digest};
use tests::http::{Conn, Fault, Request};
use tests::node::Node;

#[test]
fn odd_but_correct_requests_are_served() {
    let node = Node::start();
    for (name, bytes, status) in [
        ("an empty line first", "\r\nGET /blobs HTTP/1.1\r\nHost: h\r\n\r\n", 200),
        ("no space after the colon", "GET /blobs HTTP/1.1\r\nHost:h\r\nX:y\r\n\r\n", 200),
        ("space around a value", "GET /blobs HTTP/1.1\r\nHost: \t h \t\r\nX:\t y \r\n\r\n", 200),
        ("names in any case", "GET /blobs HTTP/1.1\r\nhOST: h\r\n\r\n", 200),
        ("an absolute target", "GET http://h/blobs HTTP/1.1\r\nHost: h\r\n\r\n", 200),
        ("an empty value", "GET /blobs HTTP/1.1\r\nHost: h\r\nX:\r\n\r\n", 200),
        ("Latin 1 in a value", "GET /blobs HTTP/1.1\r\nHost: h\r\nX: \u{e4}\r\n\r\n", 200),
        (
            "an offer of HTTP/2",
            "GET /blobs HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
            200,
        ),
        ("an IPv6 Host", "GET /blobs HTTP/1.1\r\nHost: [::1]:9000\r\n\r\n", 200),
        ("a length with zeros", "PUT /blobs HTTP/1.1\r\nHost: h\r\nContent-Length: 0005\r\n\r\nhello", 201),
        ("a GET with a body", "GET /blobs HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", 200),
    ] {
        let mut conn = node.conn();
        conn.set_patience(Duration::from_secs(10));
        conn.send(bytes.as_bytes()).expect("sent");
        match conn.receive("GET") {
            Ok(reply) => assert_eq!(reply.status, status, "{name}: {}", reply.text()),
            Err(fault) => panic!("{name}: {fault}"),
        }
    }
}

#[test]
fn http_1_0_is_served_and_closed() {
    let node = Node::start();
    let digest = node.client().put(b"hello");
    let mut conn = node.conn();
    let request = format!("GET {} HTTP/1.0\r\n\r\n", digest.path());
    conn.send(request.as_bytes()).expect("sent");
    let reply = conn.receive("GET").expect("a reply").must_be(200);
    assert_eq!(reply.body, b"hello");
    assert!(conn.is_closed_within(Duration::from_secs(5)));
}

#[test]
fn close_is_obeyed() {
    let node = Node::start();
    let mut conn = node.conn();
    let reply = conn.call(&Request::new("GET", "/blobs").header("Connection", "close"));
    assert!(reply.must_be(200).last);
    assert!(conn.is_closed_within(Duration::from_secs(5)));
}

#[test]
fn the_body_of_a_get_is_never_a_request() {
    let node = Node::start();
    let inner = Request::new("PUT", "/blobs").body(b"smuggled").to_bytes();
    for method in ["GET", "HEAD", "DELETE"] {
        let target = Digest::of_nothing_stored().path();
        let mut conn = node.conn();
        conn.set_patience(Duration::from_secs(5));
        conn.send(&Request::new(method, target).body(&inner).to_bytes()).expect("sent");
        assert_eq!(conn.receive(method).expect("a reply").status, 404, "{method}");
        conn.finish_sending();
        assert!(matches!(conn.receive("GET"), Err(Fault::Closed)), "{method}");
    }
    assert!(node.client().list().is_empty());
}

#[test]
fn an_early_refusal_does_not_turn_the_body_into_requests() {
    let node = Node::start();
    let inner = Request::new("PUT", "/blobs").body(b"smuggled").to_bytes();
    let body = inner.repeat(2000);
    for target in ["/blobs/sha256:bad", "/nowhere"] {
        let mut conn = node.conn();
        conn.send(&Request::new("PUT", target).body(&body).to_bytes()).ok();
        if let Ok(reply) = conn.receive("PUT") {
            assert!((400..500).contains(&reply.status), "{target}: {}", reply.status);
        }
        conn.finish_sending();
        conn.is_closed_within(Duration::from_secs(5));
    }
    assert!(node.client().list().is_empty());
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let node = Node::start();
    let bodies: Vec<_> = (0..40).map(|at| content::bytes(at, 10 + (at as usize * 3001) % 90_000)).collect();
    let mut all = Vec::new();
    for body in &bodies {
        all.extend(Request::new("PUT", "/blobs").body(body).to_bytes());
        all.extend(Request::new("GET", Digest::of(body).path()).to_bytes());
        all.extend(Request::new("HEAD", Digest::of(body).path()).to_bytes());
        all.extend(Request::new("GET", Digest::of_nothing_stored().path()).to_bytes());
    }
    let mut conn = node.conn();
    let mut sender = conn.second_handle();
    thread::scope(|scope| {
        scope.spawn(move || sender.send(&all).expect("sent"));
        for body in &bodies {
            let put = conn.receive("PUT").expect("a reply");
            must_acknowledge(&put, &Digest::of(body), body.len() as u64);
            assert!(conn.receive("GET").expect("a reply").must_be(200).body == *body);
            let head = conn.receive("HEAD").expect("a reply").must_be(200);
            assert_eq!(head.header("content-length"), Some(body.len().to_string().as_str()));
            assert_eq!(conn.receive("GET").expect("a reply").status, 404);
        }
    });
}

#[test]
fn idle_connections_cost_at_most_16_kib_each() {
    const COUNT: u64 = 800;
    let node = Node::start();
    let request = Request::new("GET", "/blobs");
    let open = |_| {
        let mut conn = node.conn();
        conn.call(&request).must_be(200);
        conn
    };
    // What the first ones warm up is not theirs.
    let warm: Vec<Conn> = (0..50).map(open).collect();
    let before = node.status_bytes("VmRSS");
    let idle: Vec<Conn> = (0..COUNT).map(open).collect();
    let each = node.status_bytes("VmRSS").saturating_sub(before) / COUNT;
    assert!(each <= 16 << 10, "{each} bytes for each idle connection");
    drop((warm, idle));
    node.client().page("");
}

#[test]
fn hundreds_of_half_sent_requests_cost_bounded_memory_and_starve_nobody() {
    const COUNT: u64 = 400;
    let node = Node::start();
    let digest = node.client().put(&content::bytes(1, 100_000));
    let before = node.status_bytes("VmRSS");
    let half = |at: u64| {
        let mut conn = node.conn();
        let head = if at.is_multiple_of(2) {
            format!("GET /blobs HTTP/1.1\r\nX: {}", "x".repeat(6000))
        } else {
            "PUT /blobs HTTP/1.1\r\nHost: h\r\nContent-Length: 3000000\r\n\r\nhello".to_owned()
        };
        conn.send(head.as_bytes()).expect("sent");
        conn
    };
    let held: Vec<Conn> = (0..COUNT).map(half).collect();
    for _ in 0..20 {
        node.client().get(&digest);
    }
    let grown = node.status_bytes("VmRSS").saturating_sub(before);
    // The budget of 128 MiB may be used for bodies; nothing beyond it.
    assert!(grown <= (128 << 20) + COUNT * (64 << 10), "{} MiB more", grown >> 20);
    drop(held);
    node.client().get(&digest);
}

#[test]
fn a_reader_that_stands_still_holds_up_nobody() {
    let node = Node::start();
    let large = node.client().put(&content::bytes(2, 64 << 20));
    let small = node.client().put(b"small");
    let stalled: Vec<_> = (0..20)
        .map(|_| {
            let mut conn = node.conn();
            conn.send(&Request::new("GET", large.path()).to_bytes()).expect("sent");
            conn
        })
        .collect();
    let mut client = node.client();
    for _ in 0..50 {
        client.get(&small);
    }
    client.put(&content::bytes(3, 2 << 20));
    assert!(node.client().get_through(&large, &mut |_| {}) == 64 << 20);
    drop(stalled);
}
