//! An origin that says more than it announced: whatever follows an answer is no answer to the next request (RFC 9112 §6.3).

use super::{get, word};
use std::fs;
use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};
use tests::content;
use tests::http::Request;
use tests::node::{Node, Setup, cpuset};
use tests::scripted::{Asked, Scripted, answer, honest};

const LATE: Duration = Duration::from_millis(100);
const FRESH: &str = "Cache-Control: max-age=3600\r\n";
/// Asked for behind each answer with more behind it.
const NEXT: usize = 3;

/// One column, so that the next request goes to the same origin's connections.
fn setup(url: &str) -> Setup {
    Setup::new().cpuset(cpuset(1)).origin(url).arg("--slice-size").arg("1MiB")
}

/// A whole answer, to nothing.
fn forged() -> Vec<u8> {
    answer(200, &format!("{FRESH}ETag: \"forged\"\r\n"), b"forged")
}

fn large() -> Vec<u8> {
    content::bytes(1, 2_500_000)
}

/// What `/at-once…` and `/late…` are, with a forged answer behind them, in the same or in other packets; the others are honest.
fn says(asked: &Asked, to: &mut dyn Write) -> io::Result<()> {
    let target = asked.target();
    let body = if target.ends_with("large") { large() } else { target.as_bytes().to_vec() };
    let fields = if target.ends_with("304") { "Cache-Control: max-age=0\r\n" } else { FRESH };
    let is_told = !target.ends_with("304") || asked.field("if-none-match").is_some();
    let mut told = honest(asked, "\"1\"", fields, &body);
    let is_late = target.starts_with("/late");
    if is_told && target.starts_with("/at-once") {
        told.extend(forged());
    }
    to.write_all(&told)?;
    to.flush()?;
    if is_told && is_late {
        thread::sleep(LATE);
        to.write_all(&forged())?;
    }
    Ok(())
}

/// Asks for what has more behind it, then for others.
fn must_not_be_taken(node: &Node, target: &str) {
    let request = |method| Request::new(method, target);
    match target {
        // What has a cookie is passed through, as HEAD.
        _ if target.ends_with("head") => {
            node.slice().call(&request("HEAD").header("Cookie", "a=b")).must_be(200);
        }
        _ if target.ends_with("304") => {
            for _ in 0..2 {
                assert!(
                    node.slice().call(&request("GET")).must_be(200).body == target.as_bytes(),
                    "{target}"
                );
            }
        }
        _ if target.ends_with("large") => assert!(get(node, target, "").must_be(200).body == large()),
        _ => assert!(get(node, target, "").must_be(200).body == target.as_bytes(), "{target}"),
    }
    thread::sleep(LATE * 2);
    for at in 0..NEXT {
        let next = format!("/next{at}{target}/next");
        for state in ["MISS", "HIT"] {
            let reply = get(node, &next, "").must_be(200);
            let said = String::from_utf8_lossy(&reply.body);
            assert_eq!(
                (&said[..said.len().min(99)], word(&reply)),
                (next.as_str(), state),
                "behind {target}"
            );
        }
    }
}

const TARGETS: [&str; 8] = [
    "/at-once/small",
    "/at-once/large",
    "/at-once/head",
    "/at-once/304",
    "/late/small",
    "/late/large",
    "/late/head",
    "/late/304",
];

#[test]
fn what_follows_an_answer_is_not_the_next_one() {
    for target in TARGETS {
        let origin = Scripted::start_saying(says);
        let node = setup(&origin.url()).start();
        must_not_be_taken(&node, target);
    }
}

#[test]
fn nor_is_it_under_tls() {
    for target in TARGETS {
        let (origin, pem) = Scripted::start_tls(says);
        let setup = setup(&origin.url());
        let ca = setup.path("ca.pem");
        fs::write(&ca, pem).expect("written");
        let node = setup.arg("--origin-ca").arg(ca.to_str().expect("UTF-8")).start();
        must_not_be_taken(&node, target);
    }
}

/// What is honest goes on over one connection; what got more is closed before anybody wants it again.
#[test]
fn an_idle_connection_is_closed_when_something_comes() {
    let origin = Scripted::start_saying(says);
    let node = setup(&origin.url()).start();
    for at in 0..5 {
        get(&node, &format!("/honest{at}"), "").must_be(200);
    }
    assert_eq!(origin.connections(), 1, "kept and used again");
    get(&node, "/late/small", "").must_be(200);
    let open = || {
        let page = node.ops().call(&Request::new("GET", "/metrics")).must_be(200);
        let page = tests::exposition::Exposition::parse(page.text()).expect("valid");
        page.sum("slicecache_origin_connections", |_| true) as u64
    };
    let begin = Instant::now();
    while open() > 0 {
        assert!(begin.elapsed() < Duration::from_secs(5), "it stays open");
        thread::sleep(Duration::from_millis(50));
    }
}
