//! Storing: what is acknowledged, what is refused, and that a refusal stores nothing.

use std::fs;
use std::process::Command;
use std::time::Duration;

use tests::blobs::must_acknowledge;
use tests::command;
use tests::content::{self, Digest};
use tests::http::{self, Request};
use tests::node::Node;

/// Around every size at which something changes: a page, the limit of packing, a buffer, a pool.
const SIZES: [usize; 19] = [
    0,
    1,
    13,
    511,
    4095,
    4096,
    4097,
    65_535,
    65_536,
    65_537,
    (1 << 20) - 1,
    1 << 20,
    (1 << 20) + 1,
    (4 << 20) - 1,
    4 << 20,
    (4 << 20) + 1,
    5 << 20,
    (16 << 20) + 1,
    37_000_001,
];

#[test]
fn blobs_of_every_size_are_stored_and_survive_a_restart() {
    let mut node = Node::start();
    let mut client = node.client();
    for (at, size) in SIZES.into_iter().enumerate() {
        let body = content::bytes(at as u64, size);
        let digest = client.put(&body);
        assert!(client.get(&digest) == body, "{size} bytes");
    }
    node.stop();
    let node = node.start_again();
    let mut client = node.client();
    for (at, size) in SIZES.into_iter().enumerate() {
        let body = content::bytes(at as u64, size);
        assert!(client.get(&Digest::of(&body)) == body, "{size} bytes");
    }
    assert_eq!(client.list().len(), SIZES.len());
}

#[test]
fn a_stored_blob_is_acknowledged_again() {
    let node = Node::start();
    let mut client = node.client();
    for size in [0, 13, 70_000, 2 << 20] {
        let body = content::bytes(5, size);
        let digest = client.put(&body);
        assert_eq!(client.put(&body), digest);
        assert_eq!(client.put_named(&body), digest);
        assert!(client.get(&digest) == body);
    }
    assert_eq!(client.list().len(), 4);
}

#[test]
fn a_body_that_is_not_what_its_digest_names_is_422_and_not_stored() {
    let node = Node::start();
    let mut client = node.client();
    for size in [0, 13, 70_000, 5 << 20] {
        let body = content::bytes(6, size);
        let other = Digest::of_nothing_stored();
        let request = Request::new("PUT", other.path()).body(&body);
        let reply = client.call(&request).must_be(422);
        assert!(!reply.body.is_empty(), "422 says why");
        assert!(!client.has(&other) && !client.has(&Digest::of(&body)), "{size}");
    }
    assert!(client.list().is_empty());
}

#[test]
fn a_wrong_digest_leaves_the_blob_of_that_name_alone() {
    let node = Node::start();
    let mut client = node.client();
    let body = content::bytes(7, 100_000);
    let digest = client.put(&body);
    let request = Request::new("PUT", digest.path()).body(b"something else");
    client.call(&request).must_be(422);
    assert!(client.get(&digest) == body);
}

#[test]
fn a_malformed_digest_is_400_to_every_method() {
    let node = Node::start();
    let mut client = node.client();
    let good = "ab".repeat(32);
    for name in [
        format!("sha256:{}", good.to_uppercase()),
        format!("sha256:{}", &good[1..]),
        format!("sha256:{good}a"),
        format!("sha256:{}g", &good[1..]),
        format!("SHA256:{good}"),
        format!("sha512:{good}"),
        format!("md5:{}", &good[..32]),
        format!("sha256-{good}"),
        format!("sha256:{good}/"),
        "sha256:".to_owned(),
        good.clone(),
        "x".to_owned(),
    ] {
        for method in ["PUT", "GET", "HEAD", "DELETE"] {
            let mut request = Request::new(method, format!("/blobs/{name}"));
            if method == "PUT" {
                request = request.body(b"hello");
            }
            let status = client.call(&request).status;
            assert_eq!(status, 400, "{method} {name}");
        }
    }
    assert!(client.list().is_empty());
}

#[test]
fn chunked_bodies_are_stored() {
    let node = Node::start();
    for (size, chunk) in [(0, 1), (1, 1), (1000, 7), (70_000, 999), (3 << 20, 65_536), (5 << 20, 5 << 20)] {
        let body = content::bytes(8, size);
        let digest = Digest::of(&body);
        for target in ["/blobs".to_owned(), digest.path()] {
            let request = Request::new("PUT", target).header("Transfer-Encoding", "chunked");
            let mut conn = node.conn();
            conn.send(&request.to_bytes()).expect("sent");
            conn.send(&http::chunked(&body, chunk)).expect("sent");
            must_acknowledge(&conn.receive("PUT").expect("a reply"), &digest, size as u64);
            assert!(conn.call(&Request::new("GET", digest.path())).body == body);
        }
    }
}

#[test]
fn chunk_extensions_and_trailers_are_read_over() {
    let node = Node::start();
    let mut conn = node.conn();
    let head = Request::new("PUT", "/blobs").header("Transfer-Encoding", "Chunked").to_bytes();
    conn.send(&head).expect("sent");
    conn.send(b"5;name=value\r\nhello\r\n0006;q=\"a b\"\r\n world\r\n000;last\r\nX-Sum: 1\r\n\r\n")
        .expect("sent");
    let reply = conn.receive("PUT").expect("a reply");
    must_acknowledge(&reply, &Digest::of(b"hello world"), 11);
    conn.call(&Request::new("GET", "/blobs")).must_be(200);
}

#[test]
fn a_body_that_waits_for_100_continue_is_asked_for() {
    let node = Node::start();
    for size in [13, 3 << 20] {
        let body = content::bytes(10, size);
        let head = Request::new("PUT", "/blobs")
            .header("Expect", "100-continue")
            .header("Content-Length", size.to_string());
        let mut conn = node.conn();
        conn.send(&head.to_bytes()).expect("sent");
        assert_eq!(conn.receive_head().expect("asked for").status, 100);
        conn.send(&body).expect("sent");
        let reply = conn.receive("PUT").expect("a reply");
        must_acknowledge(&reply, &Digest::of(&body), size as u64);
    }
}

#[test]
fn a_refused_body_that_waits_is_not_asked_for() {
    let node = Node::start();
    let mut conn = node.conn();
    let head = Request::new("PUT", "/blobs/sha256:short")
        .header("Expect", "100-continue")
        .header("Content-Length", "5000000");
    conn.send(&head.to_bytes()).expect("sent");
    assert_eq!(conn.receive("PUT").expect("a reply").status, 400);
}

#[test]
fn a_body_in_many_small_pieces_is_one_blob() {
    let node = Node::start();
    let mut conn = node.conn();
    let body = content::bytes(11, 70_001);
    let request = Request::new("PUT", "/blobs").body(&body).to_bytes();
    for piece in request.chunks(97) {
        conn.send(piece).expect("sent");
    }
    let reply = conn.receive("PUT").expect("a reply");
    must_acknowledge(&reply, &Digest::of(&body), body.len() as u64);
}

#[test]
fn an_upload_cut_short_stores_nothing() {
    let mut node = Node::start();
    for size in [1000, 70_000, 3 << 20] {
        let body = content::bytes(12, size);
        let request = Request::new("PUT", "/blobs").body(&body).to_bytes();
        let mut conn = node.conn();
        conn.send(&request[..request.len() - 1]).expect("sent");
        drop(conn);
        let mut conn = node.conn();
        let head = Request::new("PUT", "/blobs").header("Transfer-Encoding", "chunked");
        conn.send(&head.to_bytes()).expect("sent");
        let chunks = http::chunked(&body, 1000);
        conn.send(&chunks[..chunks.len() - 5]).expect("sent");
        drop(conn);
        assert!(!node.client().has(&Digest::of(&body)));
    }
    std::thread::sleep(Duration::from_millis(200));
    assert!(node.client().list().is_empty());
    node.stop();
    assert!(node.start_again().client().list().is_empty());
}

#[test]
fn delete_is_204_then_404_and_the_blob_can_be_put_again() {
    let node = Node::start();
    let mut client = node.client();
    let bodies = [13, 70_000, 5 << 20].map(|size| content::bytes(13, size));
    for body in &bodies {
        let digest = client.put(body);
        assert_eq!(client.delete(&digest), 204);
        assert_eq!(client.delete(&digest), 404);
        client.call(&Request::new("GET", digest.path())).must_be(404);
        assert!(!client.has(&digest));
        client.put(body);
        assert!(client.get(&digest) == *body);
        assert_eq!(client.delete(&digest), 204);
    }
}

#[test]
fn a_deleted_blob_stays_deleted_after_a_restart() {
    let mut node = Node::start();
    let mut client = node.client();
    let bodies = [13, 70_000, 5 << 20].map(|size| content::bytes(14, size));
    let digests = bodies.each_ref().map(|body| client.put(body));
    for digest in &digests {
        assert_eq!(client.delete(digest), 204);
    }
    node.stop();
    let node = node.start_again();
    assert!(node.client().list().is_empty());
    for digest in &digests {
        assert!(!node.client().has(digest));
    }
}

#[test]
fn curl_puts_gets_and_deletes() {
    let node = Node::start();
    let body = content::bytes(15, 1_500_000);
    let file = node.setup.path("file");
    fs::write(&file, &body).expect("written");
    let url = format!("{}{}", node.setup.url(), Digest::of(&body).path());
    let curl = |args: &[&str]| {
        let mut command = Command::new("curl");
        command.args(["-sS", "--fail-with-body", "--max-time", "60"]).args(args).arg(&url);
        command::run(&mut command, Duration::from_secs(70))
    };
    let file = file.to_str().expect("UTF-8");
    curl(&["-T", file]).must_succeed();
    curl(&["-T", file, "-H", "Transfer-Encoding: chunked"]).must_succeed();
    assert!(curl(&["--compressed"]).must_succeed().stdout == body);
    let part = curl(&["-r", "1000-1999"]).must_succeed().stdout;
    assert!(part == body[1000..2000]);
    curl(&["-X", "DELETE"]).must_succeed();
    assert_eq!(curl(&[]).code, 22, "404 after DELETE");
}
