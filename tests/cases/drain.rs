//! TERM: what is under way is completed, then exit 0; a second TERM ends it at once.

use std::thread;
use std::time::{Duration, Instant};

use tests::blobs::must_acknowledge;
use tests::content::{self, Digest, Expected};
use tests::http::{Conn, Fault, Request};
use tests::node::{EXIT_DEADLINE, Node};

const SIZE_BYTES: usize = 64 << 20;

/// Begins a download and reads no more than its head.
fn begin_download(node: &Node) -> (Conn, Digest) {
    let digest = node.client().put(&content::bytes(1, SIZE_BYTES));
    let mut conn = node.conn();
    conn.send(&Request::new("GET", digest.path()).to_bytes()).expect("sent");
    assert_eq!(conn.receive_head().expect("a head").status, 200);
    (conn, digest)
}

#[test]
fn a_download_under_way_is_completed_and_the_exit_is_0() {
    let mut node = Node::start();
    let (mut conn, _) = begin_download(&node);
    node.term();
    let mut expected = Expected::from(1, 0);
    let mut last_pause = 0;
    while expected.at() < SIZE_BYTES as u64 {
        let part = conn.receive_some(1 << 20).expect("more of the body");
        assert!(!part.is_empty(), "cut after {} bytes", expected.at());
        expected.must_continue(&part);
        if expected.at() - last_pause > 4 << 20 {
            last_pause = expected.at();
            thread::sleep(Duration::from_millis(150));
        }
    }
    let status = node.wait(EXIT_DEADLINE).expect("ends after the download");
    assert_eq!(status.code(), Some(0), "{}", node.stderr());
}

#[test]
fn an_upload_under_way_is_completed_and_durable() {
    let mut node = Node::start();
    let body = content::bytes(2, 3 << 20);
    let request = Request::new("PUT", "/blobs").body(&body).to_bytes();
    let (first, second) = request.split_at(request.len() / 2);
    let mut conn = node.conn();
    conn.send(first).expect("sent");
    // So that the server has begun to read it.
    thread::sleep(Duration::from_millis(300));
    node.term();
    thread::sleep(Duration::from_millis(500));
    conn.send(second).expect("sent");
    let reply = conn.receive("PUT").expect("a reply");
    must_acknowledge(&reply, &Digest::of(&body), body.len() as u64);
    let status = node.wait(EXIT_DEADLINE).expect("ends after the upload");
    assert_eq!(status.code(), Some(0), "{}", node.stderr());
    let node = node.start_again();
    assert!(node.client().get(&Digest::of(&body)) == body);
}

#[test]
fn while_it_drains_it_takes_no_new_work_and_is_not_ready() {
    let mut node = Node::start();
    let (mut conn, _) = begin_download(&node);
    node.term();
    thread::sleep(Duration::from_millis(300));
    assert!(node.runs(), "it waits for the download");
    let fresh = node.client().try_call(&Request::new("PUT", "/blobs").body(b"late"));
    assert!(!fresh.is_ok_and(|reply| reply.status == 201), "it still stores");
    let ready = node.ops().try_call(&Request::new("GET", "/readyz"));
    assert!(!ready.is_ok_and(|reply| reply.status == 200), "it still says ready");
    while conn.receive_some(1 << 20).is_ok_and(|part| !part.is_empty()) {}
    let status = node.wait(EXIT_DEADLINE).expect("ends after the download");
    assert_eq!(status.code(), Some(0), "{}", node.stderr());
}

#[test]
fn idle_connections_do_not_hold_it_up() {
    let mut node = Node::start();
    let mut used = node.conn();
    used.call(&Request::new("GET", "/blobs")).must_be(200);
    let mut fresh = node.conn();
    fresh.send(b"GET /blo").expect("sent");
    let begin = Instant::now();
    node.stop();
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    assert!(matches!(used.receive("GET"), Err(Fault::Closed)));
}

#[test]
fn an_idle_node_ends_within_two_seconds() {
    let mut node = Node::start();
    let mut used = node.conn();
    used.call(&Request::new("GET", "/blobs")).must_be(200);
    let begin = Instant::now();
    node.stop();
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
}

#[test]
fn a_second_term_ends_it_at_once_and_loses_nothing() {
    let mut node = Node::start();
    let (conn, digest) = begin_download(&node);
    node.term();
    assert!(node.wait(Duration::from_millis(700)).is_none(), "it waits for the download");
    node.term();
    assert!(node.wait(Duration::from_secs(2)).is_some(), "the second TERM does not end it");
    drop(conn);
    let node = node.start_again();
    assert_eq!(node.client().get(&digest).len(), SIZE_BYTES);
}
