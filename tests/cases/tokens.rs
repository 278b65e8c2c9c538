//! Bearer tokens: who has none of a listener's own gets 401 there and nothing else; health is for everybody.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use tests::command::{self, Finished};
use tests::content::{self, Digest};
use tests::http::Request;
use tests::node::{Node, Setup, binary, without_our_settings};

const FILE: &str = "# ours\n\nblob blob-1\nblob blob-2==\nops ops-1\nslice slice-1\n";

fn setup(text: &str) -> (Setup, PathBuf) {
    let setup = Setup::new();
    let file = setup.path("tokens");
    fs::write(&file, text).expect("written");
    let path = file.to_str().expect("UTF-8").to_owned();
    (setup.arg("--token-file").arg(path), file)
}

fn with<'a>(request: Request<'a>, token: Option<&str>) -> Request<'a> {
    match token {
        Some(token) => request.header("Authorization", format!("Bearer {token}")),
        None => request,
    }
}

#[test]
fn each_listener_takes_its_own_tokens_and_no_others() {
    let node = setup(FILE).0.start();
    let digest = Digest::of(b"hello");
    let put = || Request::new("PUT", "/blobs").body(b"hello");
    let get = || Request::new("GET", digest.path());
    let metrics = || Request::new("GET", "/metrics");
    for (token, blob, ops) in [
        (None, false, false),
        (Some("blob-1"), true, false),
        (Some("blob-2=="), true, false),
        (Some("ops-1"), false, true),
        (Some("slice-1"), false, false),
        (Some("blob-"), false, false),
        (Some("blob-11"), false, false),
        (Some("blob-1 blob-1"), false, false),
        (Some(""), false, false),
    ] {
        let mut client = node.client();
        let stored = client.call(&with(put(), token));
        let read = client.call(&with(get(), token));
        let seen = node.ops().call(&with(metrics(), token));
        let expected = if blob { [201, 200] } else { [401, 401] };
        assert_eq!([stored.status, read.status], expected, "{token:?}");
        assert_eq!(seen.status, if ops { 200 } else { 401 }, "{token:?}");
        for refused in [stored, read, seen].iter().filter(|reply| reply.status == 401) {
            assert_eq!(refused.header("www-authenticate"), Some("Bearer"), "{token:?}");
            assert!(refused.text().starts_with("{\"error\":"), "{}", refused.text());
        }
    }
    for path in ["/healthz", "/livez", "/readyz", "/readyz?verbose"] {
        node.ops().call(&Request::new("GET", path)).must_be(200);
    }
    // What is not there is no secret worth a token, nor is it told without one.
    node.ops().call(&Request::new("GET", "/other")).must_be(401);
    node.client().call(&Request::new("GET", "/healthz")).must_be(401);
    let log = node.stderr();
    assert!(["blob-1", "ops-1"].iter().all(|token| !log.contains(token)), "{log}");
}

#[test]
fn a_large_body_without_a_token_is_not_taken_in() {
    let node = setup(FILE).0.start();
    let body = content::bytes(1, 8 << 20);
    let mut conn = node.conn();
    let head = format!(
        "PUT /blobs HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        body.len()
    );
    conn.send(head.as_bytes()).expect("sent");
    let reply = conn.receive("PUT").expect("an answer before the body").must_be(401);
    assert!(reply.last, "what follows cannot be told from the body");
}

#[test]
fn hup_reads_the_tokens_again_and_a_wrong_file_changes_nothing() {
    let (setup, file) = setup(FILE);
    let node = setup.start();
    let status = |token: &str| node.client().call(&with(Request::new("GET", "/blobs"), Some(token))).status;
    let until = |said: &str| {
        let begin = Instant::now();
        while !node.stderr().contains(said) {
            assert!(begin.elapsed() < Duration::from_secs(10), "{said}: {}", node.stderr());
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    assert_eq!([status("blob-1"), status("blob-3")], [200, 401]);
    fs::write(&file, "blob blob-3\nops ops-1\n").expect("written");
    assert_eq!([status("blob-1"), status("blob-3")], [200, 401], "not before HUP");
    node.hup();
    until("tokens are read again");
    assert_eq!([status("blob-1"), status("blob-3")], [401, 200]);
    fs::write(&file, "blob blob-4\nnonsense\n").expect("written");
    node.hup();
    until("tokens:2: not a token");
    assert_eq!([status("blob-4"), status("blob-3")], [401, 200]);
}

#[test]
fn a_wrong_file_is_78_and_named_with_its_line() {
    for (text, says) in [
        ("blob a\nbolb b\n", "tokens:2: not a token"),
        ("blob\n", "tokens:1: not a token"),
        ("# x\nops a b\n", "tokens:2: not a token"),
        ("blob a=b\n", "tokens:1: not a token"),
    ] {
        let refused = setup(text).0.run_refused();
        assert_eq!(refused.code, 78, "{text}: {}", refused.stderr);
        assert!(refused.stderr.contains(says), "{text}: {}", refused.stderr);
    }
    let (setup, file) = setup("blob a\n");
    fs::remove_file(file).expect("removed");
    assert_eq!(setup.run_refused().code, 78);
}

fn verb(node: &Node, token: Option<&str>, args: &[&str], input: &[u8]) -> Finished {
    let mut command = Command::new(binary());
    without_our_settings(&mut command);
    command.args(args).env("BASALT_SERVER", node.setup.url());
    if let Some(token) = token {
        command.env("BASALT_TOKEN", token);
    }
    command::run_with_input(&mut command, input, Duration::from_secs(60))
}

#[test]
fn verbs_send_a_token_and_say_when_one_is_missing() {
    let node = setup(FILE).0.start();
    let digest = Digest::of(b"hello");
    let put = verb(&node, Some("blob-1"), &["put", "-"], b"hello").must_succeed();
    assert!(put.text().starts_with(&digest.0), "{}", put.text());
    let get = verb(&node, None, &["get", &digest.0, "--token", "blob-2=="], b"").must_succeed();
    assert_eq!(get.stdout, b"hello");
    for token in [None, Some("wrong"), Some("")] {
        let refused = verb(&node, token, &["ls"], b"");
        assert_eq!(refused.code, 1);
        assert!(refused.stderr.contains("401") && refused.stderr.contains("--token"), "{}", refused.stderr);
    }
    verb(&node, Some("blob-1"), &["rm", &digest.0], b"").must_succeed();
    assert_eq!(verb(&node, None, &["ls", "--token", "a\nb"], b"").code, 2);
}
