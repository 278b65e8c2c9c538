//! Blobs from origins: each is pulled once however many ask, in parts; whatever the origin does, what is stored is right.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::blobs::{Client, must_acknowledge};
use tests::command;
use tests::content::{self, Digest};
use tests::disk;
use tests::exposition::Exposition;
use tests::http::{Conn, Reply, Request};
use tests::node::{Node, Setup, binary, without_our_settings};
use tests::origin::{Fault, Object, Origin};

const PART: usize = 4 << 20;

fn order(url: &str, digest: Option<&Digest>) -> String {
    match digest {
        None => serde_json::json!({ "url": url }).to_string(),
        Some(digest) => serde_json::json!({ "url": url, "digest": digest.0 }).to_string(),
    }
}

fn fetch(client: &mut Client, url: &str, digest: Option<&Digest>) -> Reply {
    let body = order(url, digest);
    client.call(&Request::new("POST", "/blobs/fetch").body(body.as_bytes()))
}

/// The `error` of a refusal.
fn error_of(reply: &Reply) -> String {
    let json: Value = serde_json::from_slice(&reply.body).expect("a refusal is JSON");
    json["error"].as_str().expect("it says why").to_owned()
}

fn metric(node: &Node, name: &str) -> u64 {
    let text = node.ops().call(&Request::new("GET", "/metrics")).must_be(200);
    Exposition::parse(text.text()).expect("valid").sum(name, |_| true) as u64
}

/// No blob, no file on its way, within ten seconds.
fn must_hold_nothing(node: &Node) {
    assert!(node.client().list().is_empty());
    let begin = Instant::now();
    while !disk::files(&node.setup.data.join("incoming")).is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(10), "files stay in incoming/");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn blobs_of_every_size_come_as_they_are() {
    let (node, origin) = (Node::start(), Origin::start());
    let mut client = node.client();
    for (at, size) in
        [0, 1, 13, 65_535, 65_536, 65_537, 262_144, 300_001, PART - 1, PART, PART + 1, 3 * PART + 5]
            .into_iter()
            .enumerate()
    {
        for (kind, ranges, chunked) in
            [("ranges", true, false), ("plain", false, false), ("chunked", false, true)]
        {
            let body = content::bytes(at as u64 * 3 + u64::from(chunked), size);
            let path = format!("/{kind}/{size}");
            origin.put(&path, Object { ranges, chunked, ..Object::new(body.clone()) });
            let reply = fetch(&mut client, &origin.url(&path), None);
            must_acknowledge(&reply, &Digest::of(&body), size as u64);
            assert!(client.get(&Digest::of(&body)) == body, "{path}");
        }
        let whole = usize::from(size == 0);
        assert_eq!(origin.total(&format!("/ranges/{size}")) as usize, size.div_ceil(PART).max(1) + whole);
    }
    assert!(origin.connections() < 40, "connections are kept: {}", origin.connections());
}

#[test]
fn a_thousand_clients_cost_the_origin_one_request_per_part() {
    let (node, origin) = (Setup::new().memory("1GiB").start(), Origin::start());
    let body = content::bytes(24, 24 << 20);
    let digest = Digest::of(&body);
    let pause = Duration::from_millis(20);
    origin.put("/big", Object { pause, ..Object::new(body.clone()) });
    let (url, addr) = (origin.url("/big"), node.setup.blob);
    let barrier = Barrier::new(1000);
    thread::scope(|scope| {
        for _ in 0..1000 {
            let (url, digest, barrier) = (&url, &digest, &barrier);
            let client = move || {
                let mut conn = Conn::open(addr);
                conn.set_patience(Duration::from_secs(120));
                let body = order(url, None);
                barrier.wait();
                conn.send(&Request::new("POST", "/blobs/fetch").body(body.as_bytes()).to_bytes())
                    .expect("sent");
                must_acknowledge(&conn.receive("POST").expect("a reply"), digest, 24 << 20);
            };
            thread::Builder::new().stack_size(512 << 10).spawn_scoped(scope, client).expect("a thread");
        }
    });
    let asked = origin.asked("/big");
    assert_eq!(asked.len(), 6, "{asked:?}");
    assert!(asked.values().all(|&count| count == 1), "{asked:?}");
    assert_eq!(metric(&node, "blobcache_fetches_total"), 1);
    assert_eq!(metric(&node, "blobcache_l2_bytes_fetched_total"), 24 << 20);
    assert!(node.client().get(&digest) == body);
}

#[test]
fn readers_join_a_fetch_and_get_the_bytes_while_they_come() {
    let (node, origin) = (Node::start(), Origin::start());
    let body = content::bytes(5, 24 << 20);
    let digest = Digest::of(&body);
    let pause = Duration::from_millis(30);
    origin.put("/slow", Object { pause, ..Object::new(body.clone()) });
    let (url, addr) = (origin.url("/slow"), node.setup.blob);
    thread::scope(|scope| {
        let order = scope.spawn(|| fetch(&mut Client::new(addr), &url, Some(&digest)));
        while origin.total("/slow") < 2 {
            thread::sleep(Duration::from_millis(5));
        }
        for at in 0..200 {
            let (digest, body) = (&digest, &body);
            scope.spawn(move || {
                let mut client = Client::new(addr);
                if at % 2 == 0 {
                    return assert!(client.get(digest) == *body);
                }
                let (from, to) = (at * 100_000, at * 100_000 + 70_000);
                let request =
                    Request::new("GET", digest.path()).header("Range", format!("bytes={from}-{to}"));
                let reply = client.call(&request).must_be(206);
                assert!(reply.body == body[from..=to], "range {from}-{to}");
            });
        }
        // The first bytes are here long before the last.
        let mut conn = Conn::open(addr);
        conn.send(&Request::new("GET", digest.path()).to_bytes()).expect("sent");
        assert_eq!(conn.receive_head().expect("a head").status, 200);
        assert!(!conn.receive_some(1000).expect("bytes").is_empty());
        assert!(!order.is_finished(), "nothing was sent before all had come");
        must_acknowledge(&order.join().expect("no panic"), &digest, 24 << 20);
    });
    assert!(origin.asked("/slow").values().all(|&count| count == 1), "{:?}", origin.asked("/slow"));
    assert!(metric(&node, "blobcache_l2_misses_total") > 100);
    assert!(metric(&node, "blobcache_fetch_joined_total") > 100);
}

#[test]
fn another_digest_is_422_and_nothing_is_stored_or_completed() {
    let (node, origin) = (Node::start(), Origin::start());
    for size in [1000, 9 << 20] {
        let wrong = Digest::of(b"something else");
        let pause = Duration::from_millis(if size > PART { 20 } else { 0 });
        origin.put("/x", Object { pause, ..Object::new(content::bytes(1, size)) });
        let (url, addr) = (origin.url("/x"), node.setup.blob);
        thread::scope(|scope| {
            let order = scope.spawn(|| fetch(&mut Client::new(addr), &url, Some(&wrong)));
            if size > PART {
                while origin.total("/x") < 3 {
                    thread::sleep(Duration::from_millis(5));
                }
                for range in [None, Some("bytes=0-99999")] {
                    let mut request = Request::new("GET", wrong.path());
                    request = range.iter().fold(request, |r, value| r.header("Range", *value));
                    match Client::new(addr).try_call(&request) {
                        Ok(reply) => assert_eq!(reply.status, 404, "never complete under a wrong digest"),
                        Err(cut) => drop(cut),
                    }
                }
            }
            let reply = order.join().expect("no panic").must_be(422);
            assert!(error_of(&reply).contains("sha256:"), "{}", error_of(&reply));
        });
        must_hold_nothing(&node);
    }
}

#[test]
fn each_fault_heals_within_the_retries() {
    let (node, origin) = (Node::start(), Origin::start());
    let faults = [
        Fault::Status(500, ""),
        Fault::Status(503, "Retry-After: 1\r\n"),
        Fault::Reset,
        Fault::Short,
        Fault::WrongRange,
    ];
    for (at, fault) in faults.iter().enumerate() {
        for (size, ranges) in [(100_000, true), (10 << 20, true), (3 << 20, false)] {
            let body = content::bytes((at * 1000 + size) as u64, size);
            let path = format!("/{at}/{size}");
            let is_wrong_range = *fault == Fault::WrongRange;
            origin.put(&path, Object { ranges, ..Object::new(body.clone()).fault(fault.clone(), 2) });
            let begin = Instant::now();
            let reply = fetch(&mut node.client(), &origin.url(&path), None);
            must_acknowledge(&reply, &Digest::of(&body), size as u64);
            assert!(node.client().get(&Digest::of(&body)) == body, "{fault:?}");
            if matches!(fault, Fault::Status(503, _)) {
                assert!(begin.elapsed() >= Duration::from_secs(1), "Retry-After was not honoured");
            }
            let parts = if ranges { size.div_ceil(PART) as u32 } else { 1 };
            let wrong = if is_wrong_range && !ranges { 0 } else { 2 };
            assert_eq!(origin.total(&path), parts + wrong, "{fault:?} {:?}", origin.asked(&path));
        }
    }
    assert!(metric(&node, "blobcache_fetch_retries_total") >= 20);
    assert_eq!(metric(&node, "blobcache_fetch_failures_total"), 0);
}

#[test]
fn faults_that_stay_have_their_status_and_store_nothing() {
    let (node, origin) = (Node::start(), Origin::start());
    for (fault, status, requests) in [
        (Fault::Status(404, ""), 404, 1),
        (Fault::Status(403, ""), 502, 1),
        (Fault::Status(500, ""), 502, 4),
        (Fault::Reset, 502, 4),
        (Fault::Short, 502, 4),
        (Fault::WrongRange, 502, 4),
        (Fault::Raw("nonsense\r\n\r\n"), 502, 1),
        (Fault::Raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"), 502, 1),
        (Fault::Raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"), 502, 1),
        (Fault::Status(302, "Location: ftp://h/\r\n"), 502, 1),
        (Fault::Status(302, "Location: /fault\r\n"), 502, 6),
    ] {
        let path = "/fault";
        let before = origin.total(path);
        origin.put(path, Object::new(content::bytes(1, 100_000)).fault(fault.clone(), u32::MAX));
        let reply = fetch(&mut node.client(), &origin.url(path), None);
        assert_eq!(reply.status, status, "{fault:?}: {}", error_of(&reply));
        if let Fault::Status(code @ 400.., _) = fault {
            assert!(error_of(&reply).contains(&code.to_string()), "{}", error_of(&reply));
        }
        assert_eq!(origin.total(path) - before, requests, "{fault:?}");
    }
    // A port that nobody listens on.
    let reply = fetch(&mut node.client(), &format!("http://{}/", tests::node::free_addr()), None);
    assert_eq!(reply.status, 502, "{}", error_of(&reply));
    must_hold_nothing(&node);
}

#[test]
fn an_object_that_changes_is_fetched_anew_once_and_never_mixed() {
    let (node, origin) = (Node::start(), Origin::start());
    let (old, new) = (content::bytes(1, 20 << 20), content::bytes(2, 20 << 20));
    let mut newer = Object::new(new.clone());
    "\"v2\"".clone_into(&mut newer.etag);
    origin.put("/x", Object { becomes: Some((2, Box::new(newer.clone()))), ..Object::new(old.clone()) });
    let reply = fetch(&mut node.client(), &origin.url("/x"), None);
    must_acknowledge(&reply, &Digest::of(&new), new.len() as u64);
    assert!(node.client().get(&Digest::of(&new)) == new);
    assert_eq!(node.client().list().len(), 1);
    // Changing with every request is too often.
    node.client().delete(&Digest::of(&new));
    let mut restless = newer;
    for version in 0..12 {
        let mut next = Object::new(content::bytes(version, 20 << 20));
        next.etag = format!("\"r{version}\"");
        restless = Object { becomes: Some((1, Box::new(restless))), ..next };
    }
    origin.put("/y", restless);
    let reply = fetch(&mut node.client(), &origin.url("/y"), None).must_be(502);
    assert!(error_of(&reply).contains("changed"), "{}", error_of(&reply));
    must_hold_nothing(&node);
}

#[test]
fn https_needs_a_certificate_that_is_trusted() {
    let (origin, pem) = Origin::start_tls();
    let setup = Setup::new();
    let ca = setup.path("ca.pem");
    fs::write(&ca, pem).expect("written");
    let body = content::bytes(7, 10 << 20);
    origin.put("/x", Object::new(body.clone()));
    let stranger = Node::start();
    let reply = fetch(&mut stranger.client(), &origin.url("/x"), None).must_be(502);
    assert!(error_of(&reply).contains("TLS"), "{}", error_of(&reply));

    let node = setup.arg("--origin-ca").arg(ca.to_str().expect("UTF-8")).start();
    let reply = fetch(&mut node.client(), &origin.url("/x"), None);
    must_acknowledge(&reply, &Digest::of(&body), body.len() as u64);
    assert!(node.client().get(&Digest::of(&body)) == body);
    // Not down to http; up to https.
    let plain = Origin::start();
    let location = |to: String| Box::leak(format!("Location: {to}\r\n").into_boxed_str()) as &'static str;
    plain.put("/y", Object::new(body.clone()));
    origin.put("/down", Object::new(Vec::new()).fault(Fault::Status(302, location(plain.url("/y"))), 9));
    fetch(&mut node.client(), &origin.url("/down"), None).must_be(502);
    assert_eq!(plain.total("/y"), 0);
    plain.put("/up", Object::new(Vec::new()).fault(Fault::Status(307, location(origin.url("/x"))), 9));
    let reply = fetch(&mut node.client(), &plain.url("/up"), None);
    must_acknowledge(&reply, &Digest::of(&body), body.len() as u64);
    // A body cut within TLS is no shorter body.
    origin.put(
        "/cut",
        Object { ranges: false, chunked: true, ..Object::new(body.clone()).fault(Fault::Short, 9) },
    );
    fetch(&mut node.client(), &origin.url("/cut"), None).must_be(502);
}

#[test]
fn a_stored_digest_is_answered_without_asking_the_origin() {
    let (node, origin) = (Node::start(), Origin::start());
    let body = content::bytes(1, 100_000);
    let digest = node.client().put(&body);
    let reply = fetch(&mut node.client(), &origin.url("/x"), Some(&digest));
    must_acknowledge(&reply, &digest, 100_000);
    assert_eq!(origin.connections(), 0);
}

#[test]
fn a_fetched_blob_that_was_evicted_is_fetched_again_by_a_get_and_a_deleted_one_is_not() {
    let node = Setup::new().arg("--disk-quota").arg("64MiB").start();
    let origin = Origin::start();
    let body = content::bytes(1, 9 << 20);
    let digest = Digest::of(&body);
    origin.put("/x", Object::new(body.clone()));
    must_acknowledge(&fetch(&mut node.client(), &origin.url("/x"), None), &digest, 9 << 20);
    let before = origin.total("/x");
    let mut durable = Vec::new();
    while node.client().list().contains_key(&digest) {
        assert!(durable.len() < 7, "the fetched blob makes no room");
        durable.push(node.client().put(&content::bytes(10 + durable.len() as u64, 9 << 20)));
    }
    node.client().delete(&durable[0]);
    assert!(node.client().get(&digest) == body);
    assert_eq!(origin.total("/x"), before + 3);
    assert_eq!(metric(&node, "blobcache_refetches_total"), 1);
    assert_eq!(metric(&node, "blobcache_l2_misses_total"), 1);
    assert_eq!(node.client().delete(&digest), 204);
    assert!(!node.client().has(&digest));
    assert_eq!(origin.total("/x"), before + 3);
}

#[test]
fn what_the_quota_has_no_room_for_is_507() {
    let node = Setup::new().arg("--disk-quota").arg("32MiB").start();
    let origin = Origin::start();
    for (ranges, chunked) in [(true, false), (false, false), (false, true)] {
        origin.put("/x", Object { ranges, chunked, ..Object::new(content::bytes(1, 40 << 20)) });
        fetch(&mut node.client(), &origin.url("/x"), None).must_be(507);
        must_hold_nothing(&node);
    }
}

#[test]
fn a_fetch_goes_on_for_others_and_stops_when_nobody_waits() {
    let (node, origin) = (Node::start(), Origin::start());
    let body = content::bytes(3, 16 << 20);
    let pause = Duration::from_millis(100);
    origin.put("/x", Object { pause, ..Object::new(body.clone()) });
    let order = order(&origin.url("/x"), None);
    let request = Request::new("POST", "/blobs/fetch").body(order.as_bytes()).to_bytes();
    let begin = || {
        let mut conn = node.conn();
        conn.send(&request).expect("sent");
        conn
    };
    let (first, mut second) = (begin(), begin());
    thread::sleep(Duration::from_millis(500));
    drop(first);
    must_acknowledge(&second.receive("POST").expect("a reply"), &Digest::of(&body), 16 << 20);
    assert_eq!(origin.total("/x"), 4);

    node.client().delete(&Digest::of(&body));
    origin.put("/x", Object { pause: Duration::from_secs(1), ..Object::new(body) });
    let (first, second) = (begin(), begin());
    while origin.total("/x") < 5 {
        thread::sleep(Duration::from_millis(5));
    }
    drop((first, second));
    let begin = Instant::now();
    while !node.stderr().contains("nobody waits") {
        assert!(begin.elapsed() < Duration::from_secs(10), "it goes on: {}", node.stderr());
        thread::sleep(Duration::from_millis(5));
    }
    must_hold_nothing(&node);
}

#[test]
fn kill_9_during_a_fetch_leaves_nothing() {
    let (mut node, origin) = (Node::start(), Origin::start());
    let body = content::bytes(3, 16 << 20);
    origin.put("/x", Object { pause: Duration::from_millis(50), ..Object::new(body.clone()) });
    let order = order(&origin.url("/x"), Some(&Digest::of(&body)));
    let mut conn = node.conn();
    conn.send(&Request::new("POST", "/blobs/fetch").body(order.as_bytes()).to_bytes()).expect("sent");
    while disk::files(&node.setup.data.join("incoming")).is_empty() {
        thread::sleep(Duration::from_millis(5));
    }
    thread::sleep(Duration::from_millis(500));
    node.kill();
    let node = node.start_again();
    must_hold_nothing(&node);
    assert!(!node.client().has(&Digest::of(&body)));
    let reply = fetch(&mut node.client(), &origin.url("/x"), None);
    must_acknowledge(&reply, &Digest::of(&body), 16 << 20);
}

#[test]
fn orders_that_make_no_sense_are_refused() {
    let node = Node::start();
    let mut client = node.client();
    for body in [
        "",
        "{}",
        r#"{"url":"ftp://h/"}"#,
        r#"{"url":"/x"}"#,
        r#"{"url":"http://u:p@h/"}"#,
        r#"{"url":"http://h/#x"}"#,
        r#"{"url":"http://h/a b"}"#,
        r#"{"url":"http://h/","digest":"sha256:12"}"#,
    ] {
        let reply = client.call(&Request::new("POST", "/blobs/fetch").body(body.as_bytes()));
        assert_eq!(reply.status, 400, "{body}");
    }
    let long = format!("{{\"url\":\"http://h/{}\"}}", "a".repeat(20_000));
    client.call(&Request::new("POST", "/blobs/fetch").body(long.as_bytes())).must_be(413);
    assert_eq!(client.call(&Request::new("GET", "/blobs/fetch")).must_be(405).header("allow"), Some("POST"));
}

#[test]
fn an_origin_that_says_nothing_is_504() {
    let (node, origin) = (Node::start(), Origin::start());
    let silent = Fault::Silent(Duration::from_secs(40));
    origin.put("/x", Object::new(content::bytes(1, 1000)).fault(silent, 9));
    let mut conn = node.conn();
    conn.set_patience(Duration::from_secs(180));
    let order = order(&origin.url("/x"), None);
    conn.send(&Request::new("POST", "/blobs/fetch").body(order.as_bytes()).to_bytes()).expect("sent");
    conn.receive("POST").expect("a reply").must_be(504);
    assert_eq!(origin.total("/x"), 4);
}

#[test]
fn the_verb_fetches_and_prints_the_digest() {
    let (node, origin) = (Node::start(), Origin::start());
    let body = content::bytes(1, 5 << 20);
    origin.put("/x", Object::new(body.clone()));
    let url = origin.url("/x");
    let run = |args: &[&str]| {
        let mut command = Command::new(binary());
        without_our_settings(&mut command);
        command.arg("fetch").args(args).env("BASALT_SERVER", node.setup.url());
        command::run(&mut command, Duration::from_secs(60))
    };
    let digest = Digest::of(&body);
    assert_eq!(run(&[&url]).must_succeed().text(), format!("{digest}  {url}\n"));
    assert_eq!(run(&[&url, "--digest", &digest.0]).must_succeed().text(), format!("{digest}  {url}\n"));
    let got = node.verb("get", &[Path::new(&digest.0)], &[]).must_succeed();
    assert!(got.stdout == body);
    let failed = run(&[&url, "--digest", &Digest::of(b"").0]);
    assert!(failed.code == 1 && failed.stderr.contains("422"), "{failed:?}");
    assert_eq!(run(&["ftp://h/"]).code, 1);
}
