//! HTTP/2 on the ports of HTTP/1.1: the same answers, many at a time, in bounded memory whatever a client does.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use tests::command::{self, Finished};
use tests::content::{self, Digest};
use tests::frames::{Frame, Frames, PREFACE, code, fields, flag, frame, get, kind};
use tests::http::Request;
use tests::node::{self, Node, Setup};
use tests::pki::Authority;

const DEADLINE: Duration = Duration::from_secs(120);
const PRIOR: &str = "--http2-prior-knowledge";

fn curl(setup: &Setup, args: &[&str]) -> Finished {
    command::run(setup.curl().args(args), DEADLINE)
}

fn written(node: &Node, name: &str, body: &[u8]) -> String {
    let file = node.setup.path(name);
    fs::write(&file, body).expect("written");
    file.to_str().expect("UTF-8").to_owned()
}

/// The answer to a stream: its last frame ends it.
fn ends(stream: u32) -> impl FnMut(&Frame) -> bool {
    move |frame| {
        let is_end = matches!(frame.kind, kind::DATA | kind::HEADERS) && frame.flags & flag::END_STREAM != 0;
        frame.stream == stream && (is_end || frame.kind == kind::RST_STREAM)
    }
}

#[test]
fn the_same_answers_as_over_http_1() {
    let node = Node::start();
    let (setup, body) = (&node.setup, content::bytes(1, 5_000_003));
    let (path, blobs) = (written(&node, "body", &body), format!("{}/blobs", setup.url()));
    let digest = Digest::of(&body);
    let url = format!("{}{}", setup.url(), digest.path());
    let status = |args: &[&str]| {
        let args = [&[PRIOR, "-o", "/dev/null", "-w", "%{http_code} %{http_version}"], args].concat();
        curl(setup, &args).must_succeed().text()
    };
    assert_eq!(status(&["-T", &path, &blobs]), "201 2");
    assert_eq!(status(&["-T", &path, "-H", "Expect: 100-continue", &url]), "201 2");
    assert_eq!(status(&["-X", "PUT", "-d", "", &blobs]), "201 2");
    assert_eq!(status(&["-X", "PUT", "-d", "other", &url]), "422 2");
    assert_eq!(status(&["-I", &url]), "200 2");
    assert_eq!(status(&["-H", &format!("If-None-Match: \"{digest}\""), &url]), "304 2");
    assert_eq!(status(&["-r", "9999999-", &url]), "416 2");
    assert_eq!(status(&["-X", "POST", &url]), "405 2");
    assert_eq!(status(&["-X", "BREW", &url]), "501 2");
    assert_eq!(status(&[&format!("{}/nothing", setup.url())]), "404 2");
    assert_eq!(status(&["-H", &format!("x: {}", "a".repeat(12_000)), &url]), "200 2");
    assert!(curl(setup, &[PRIOR, &url]).must_succeed().stdout == body);
    let range = curl(setup, &[PRIOR, "-r", "100-2000000", &url]).must_succeed();
    assert!(range.stdout == body[100..=2_000_000]);
    let several = curl(setup, &[PRIOR, "-r", "0-9,1000-1009", &url]).must_succeed().stdout;
    assert!(several.windows(10).any(|part| part == &body[1000..1010]));
    let head = curl(setup, &[PRIOR, "-I", &url]).must_succeed().text().to_lowercase();
    assert!(head.contains("content-length: 5000003") && head.contains("etag:"), "{head}");
    assert!(!head.contains("connection:"), "{head}");
    assert_eq!(status(&["-X", "DELETE", &url]), "204 2");
    // Who only offers it is answered by HTTP/1.1.
    let offered = curl(setup, &["--http2", "-o", "/dev/null", "-w", "%{http_version}", &blobs]);
    assert_eq!(offered.must_succeed().text(), "1.1");
    assert_eq!(curl(setup, &[PRIOR, &setup.ops_url("/readyz")]).must_succeed().text(), "ok");
}

#[test]
fn tls_chooses_the_version_and_tokens_are_asked_for() {
    let setup = Setup::new();
    let (dir, tokens) = (setup.path("pki"), setup.path("tokens"));
    fs::create_dir_all(&dir).expect("made");
    fs::write(&tokens, "blob b\nops o\n").expect("written");
    let authority = Authority::new(&dir, "ca");
    let pair = authority.sign("server", &["127.0.0.1"]);
    let setup = setup.tls(&pair, &authority.file).arg("--token-file").arg(tokens.to_str().expect("UTF-8"));
    let node = setup.start();
    let url = format!("{}/blobs", node.setup.url());
    let asked = |args: &[&str]| {
        let args = [&["-o", "/dev/null", "-w", "%{http_code} %{http_version}"], args, &[&url]].concat();
        curl(&node.setup, &args).must_succeed().text()
    };
    let token = ["-H", "Authorization: Bearer b"];
    assert_eq!(asked(&token), "200 2", "by ALPN");
    assert_eq!(asked(&["--http1.1", token[0], token[1]]), "200 1.1");
    assert_eq!(asked(&["--no-alpn", token[0], token[1]]), "200 1.1");
    assert_eq!(asked(&["--http2"]), "401 2");
    assert_eq!(asked(&["--http2", "-H", "Authorization: Bearer o"]), "401 2");
    assert_eq!(asked(&["--http2", "-T", "/etc/hostname"]), "401 2");
}

fn h2load(url: &str, args: &[&str]) -> String {
    let said = command::run(Command::new("h2load").args(args).arg(url), DEADLINE).must_succeed().text();
    let line = said.lines().find(|line| line.starts_with("requests:")).unwrap_or(&said);
    line.to_owned()
}

#[test]
fn many_requests_at_a_time_are_all_answered() {
    let node = Node::start();
    for (size, requests) in [(13, 20_000), (100_000, 2_000), (3 << 20, 100)] {
        let digest = node.client().put(&content::bytes(3, size));
        let url = format!("{}{}", node.setup.url(), digest.path());
        let said = h2load(&url, &["-n", &requests.to_string(), "-c", "8", "-m", "128"]);
        let expected = format!("{requests} succeeded, 0 failed, 0 errored, 0 timeout");
        assert!(said.contains(&expected), "{size} bytes: {said}");
    }
    let body = written(&node, "body", &content::bytes(4, 200_000));
    let blobs = format!("{}/blobs", node.setup.url());
    // h2load sends POST with -d; a method field of one's own counts.
    let said = h2load(&blobs, &["-n", "300", "-c", "3", "-m", "50", "-d", &body, "-H", ":method: PUT"]);
    assert!(said.contains("300 succeeded, 0 failed"), "{said}");
    assert!(node.client().list().contains_key(&Digest::of(&content::bytes(4, 200_000))));
}

#[test]
fn a_client_that_resets_what_it_asks_for_is_sent_away() {
    let node = Node::start();
    let digest = node.client().put(&content::bytes(5, 1 << 20));
    let before = node.status_bytes("VmRSS");
    let mut frames = Frames::open(node.setup.blob);
    let mut sent = 0;
    for stream in (1..400_001).step_by(2) {
        let mut both = get(stream, &digest.path());
        both.extend(frame(kind::RST_STREAM, 0, stream, &8u32.to_be_bytes()));
        if frames.try_send(&both).is_err() {
            break;
        }
        sent += 1;
    }
    assert!(sent < 200_000, "all of them were taken");
    let seen = frames.until(|frame| frame.kind == kind::GOAWAY);
    if let Some(last) = seen.last().filter(|frame| frame.kind == kind::GOAWAY) {
        assert_eq!(code(last), 11, "ENHANCE_YOUR_CALM");
    }
    let grown = node.status_bytes("VmRSS").saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more");
    node.client().get(&digest);
}

#[test]
fn header_blocks_without_end_are_cut_off() {
    let node = Node::start();
    let before = node.status_bytes("VmRSS");
    let mut frames = Frames::open(node.setup.blob);
    let list = [(":method", "GET"), (":scheme", "http"), (":path", "/blobs"), (":authority", "h")];
    frames.send(&frame(kind::HEADERS, flag::END_STREAM, 1, &fields(&list)));
    let junk = fields(&[("x", &"a".repeat(16_000))]);
    let sent = (0..4096).take_while(|_| frames.try_send(&frame(kind::CONTINUATION, 0, 1, &junk)).is_ok());
    let sent = sent.count();
    assert!(sent < 4096, "64 MB of fields were taken");
    let grown = node.status_bytes("VmRSS").saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more");
    node.client().call(&Request::new("GET", "/blobs")).must_be(200);
}

#[test]
fn more_fields_than_a_head_may_have_are_refused() {
    let node = Node::start();
    let mut frames = Frames::open(node.setup.blob);
    let long = "a".repeat(15_000);
    let list = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/blobs"),
        (":authority", "h"),
        ("x", &long),
        ("y", &long),
    ];
    let block = fields(&list);
    let (first, second) = block.split_at(16_000);
    frames.send(&frame(kind::HEADERS, flag::END_STREAM, 1, first));
    frames.send(&frame(kind::CONTINUATION, flag::END_HEADERS, 1, second));
    frames.send(&get(3, "/blobs"));
    let seen = frames.until(ends(3));
    // A 200 would be 0x88, the static table's (RFC 7541, appendix A).
    let is_refused =
        |f: &Frame| f.kind == kind::RST_STREAM || f.kind == kind::HEADERS && f.payload[0] != 0x88;
    assert!(seen.iter().any(|f| f.stream == 1 && is_refused(f)), "{seen:?}");
    let answered = seen.iter().any(|f| f.stream == 3 && f.kind == kind::HEADERS);
    assert!(answered, "the others are served: {seen:?}");
}

#[test]
fn at_most_128_requests_of_a_connection_are_under_way() {
    let node = Node::start();
    let mut frames = Frames::open(node.setup.blob);
    let settings = frames.until(|f| f.kind == kind::SETTINGS && f.flags & flag::ACK == 0);
    let limit = settings.last().expect("settings").payload.chunks(6).find(|s| s[..2] == [0, 3]);
    assert_eq!(limit.map(|s| s[2..].to_vec()), Some(128u32.to_be_bytes().to_vec()), "{settings:?}");
    // Uploads that do not go on.
    let list = [(":method", "PUT"), (":scheme", "http"), (":path", "/blobs"), (":authority", "h")];
    for n in 0..129 {
        frames.send(&frame(kind::HEADERS, flag::END_HEADERS, 2 * n + 1, &fields(&list)));
    }
    let seen = frames.until(|f| matches!(f.kind, kind::RST_STREAM | kind::GOAWAY));
    let last = seen.last().expect("something");
    assert!(
        last.kind == kind::RST_STREAM && last.stream == 257 && code(last) == 7,
        "REFUSED_STREAM: {last:?}"
    );
    // One that ends makes room for another.
    frames.send(&frame(kind::DATA, flag::END_STREAM, 1, b"hello"));
    frames.until(ends(1));
    frames.send(&get(259, "/blobs"));
    let seen = frames.until(ends(259));
    assert!(seen.iter().any(|f| f.stream == 259 && f.kind == kind::HEADERS), "{seen:?}");
}

#[test]
fn an_upload_that_is_reset_or_too_short_stores_nothing() {
    let node = Node::start();
    let body = content::bytes(6, 300_000);
    let length = body.len().to_string();
    let list = [
        (":method", "PUT"),
        (":scheme", "http"),
        (":path", "/blobs"),
        (":authority", "h"),
        ("content-length", &length),
    ];
    // Reset with CANCEL; with NO_ERROR, when only the end of the stream tells how long the body is; ended too early.
    for reset in [Some((8u32, &list[..])), Some((0, &list[..4])), None] {
        let mut frames = Frames::open(node.setup.blob);
        let list = reset.map_or(&list[..], |(_, list)| list);
        frames.send(&frame(kind::HEADERS, flag::END_HEADERS, 1, &fields(list)));
        frames.send(&frame(kind::DATA, 0, 1, &body[..16_000]));
        thread::sleep(Duration::from_millis(100));
        if let Some((code, _)) = reset {
            frames.send(&frame(kind::RST_STREAM, 0, 1, &code.to_be_bytes()));
            thread::sleep(Duration::from_millis(100));
        } else {
            frames.send(&frame(kind::DATA, flag::END_STREAM, 1, &body[16_000..20_000]));
            let seen = frames.until(ends(1));
            let last = seen.last().expect("an end");
            assert!(last.stream == 1 && last.kind == kind::RST_STREAM, "{seen:?}");
        }
        frames.send(&get(3, "/blobs"));
        let seen = frames.until(ends(3));
        let listed: Vec<u8> =
            seen.iter().filter(|f| f.kind == kind::DATA).flat_map(|f| f.payload.clone()).collect();
        assert!(listed.starts_with(b"{\"blobs\":[]"), "{}", listed.escape_ascii());
    }
}

#[test]
fn a_client_that_does_not_read_is_cut_off_and_holds_little() {
    let node = Node::start();
    let digest = node.client().put(&content::bytes(7, 4 << 20));
    let before = node.status_bytes("VmRSS");
    let mut frames = Frames::silent(node.setup.blob);
    frames.send(PREFACE);
    // Windows as wide as they may be: SETTINGS_INITIAL_WINDOW_SIZE, and the connection's.
    let wide = [&[0, 4][..], &0x7fff_ffffu32.to_be_bytes()].concat();
    frames.send(&frame(kind::SETTINGS, 0, 0, &wide));
    frames.send(&frame(kind::WINDOW_UPDATE, 0, 0, &0x7fff_0000u32.to_be_bytes()));
    for n in 0..128 {
        frames.send(&get(2 * n + 1, &digest.path()));
    }
    thread::sleep(Duration::from_secs(3));
    let grown = node.status_bytes("VmRSS").saturating_sub(before);
    assert!(grown < 48 << 20, "{grown} bytes more for a client that does not read");
    thread::sleep(Duration::from_secs(34));
    let seen = frames.until(|_| false);
    let ended = seen.iter().filter(|f| f.kind == kind::DATA && f.flags & flag::END_STREAM != 0).count();
    assert!(ended < 128, "it was waited for");
    node.client().get(&digest);
}

/// A window that lets nothing through is no way to be waited for: hyper holds what it may not send.
#[test]
fn a_client_whose_windows_stay_shut_is_cut_off() {
    let node = Node::start();
    let digest = node.client().put(&content::bytes(9, 1 << 20));
    let mut frames = Frames::silent(node.setup.blob);
    frames.send(PREFACE);
    let shut = [&[0, 4][..], &1u32.to_be_bytes()].concat();
    frames.send(&frame(kind::SETTINGS, 0, 0, &shut));
    let begin = Instant::now();
    for n in 0..100 {
        frames.send(&get(2 * n + 1, &digest.path()));
    }
    // Requests that need no window do not keep it.
    for n in 100..110 {
        thread::sleep(Duration::from_secs(4));
        let list = [(":method", "HEAD"), (":scheme", "http"), (":path", "/blobs"), (":authority", "h")];
        let head = frame(kind::HEADERS, flag::END_STREAM | flag::END_HEADERS, 2 * n + 1, &fields(&list));
        if frames.try_send(&head).is_err() {
            break;
        }
    }
    frames.until(|_| false);
    assert!(begin.elapsed() < Duration::from_secs(50), "{:?}", begin.elapsed());
    node.client().get(&digest);
}

/// A column has 512 buffers to receive into.
#[test]
fn idle_connections_hold_no_receive_buffers() {
    let node = Setup::new().cpuset(node::cpuset(1)).start();
    let open = || {
        let mut frames = Frames::open(node.setup.blob);
        frames.send(&get(1, "/blobs"));
        frames.until(ends(1));
        frames
    };
    let idle: Vec<Frames> = (0..600).map(|_| open()).collect();
    let body = content::bytes(10, 300_000);
    let digest = node.client().put(&body);
    node.client().get(&digest);
    drop(idle);
}

#[test]
fn a_drain_says_goaway_and_finishes_what_is_under_way() {
    let mut node = Node::start();
    let body = content::bytes(8, 24 << 20);
    let digest = node.client().put(&body);
    let mut idle = Frames::open(node.setup.blob);
    idle.send(&get(1, "/blobs"));
    idle.until(ends(1));
    let url = format!("{}{}", node.setup.url(), digest.path());
    thread::scope(|scope| {
        let slow = scope.spawn(|| curl(&node.setup, &[PRIOR, "--limit-rate", "6M", &url]));
        thread::sleep(Duration::from_millis(700));
        node.term();
        let seen = idle.until(|f| f.kind == kind::GOAWAY);
        let last = seen.last().expect("a goodbye");
        assert!(last.kind == kind::GOAWAY && code(last) == 0, "{seen:?}");
        assert!(slow.join().expect("ended").must_succeed().stdout == body, "cut by the drain");
    });
    // The idle one is still there, and acknowledges nothing.
    let status = node.wait(Duration::from_secs(10)).expect("ends after the download");
    drop(idle);
    assert_eq!(status.code(), Some(0), "{}", node.stderr());
}

#[test]
fn it_is_spoken_from_the_first_byte_on_or_not_at_all() {
    let node = Node::start();
    let mut conn = node.conn();
    conn.send(b"GET /blobs HTTP/1.1\r\nHost: h\r\n\r\n").expect("sent");
    conn.receive("GET").expect("a reply").must_be(200);
    conn.send(PREFACE).expect("sent");
    assert!(conn.receive("GET").expect("a reply").must_be(400).last);
    // The preface byte by byte.
    let mut frames = Frames::silent(node.setup.blob);
    for byte in PREFACE {
        frames.send(&[*byte]);
        thread::sleep(Duration::from_millis(2));
    }
    frames.send(&frame(kind::SETTINGS, 0, 0, &[]));
    frames.send(&get(1, "/blobs"));
    assert!(frames.until(ends(1)).iter().any(|f| f.kind == kind::HEADERS && f.stream == 1));
    // What is no HTTP at all is told nothing: its sender would read an answer of HTTP/1.1 as frames.
    let mut conn = node.conn();
    conn.send(b"INVALID CONNECTION PREFACE\r\n\r\n").expect("sent");
    assert_eq!(conn.receive_some(1000).expect("an end"), b"", "a spoiled preface was answered");
    // Something else after its beginning.
    let mut frames = Frames::silent(node.setup.blob);
    frames.send(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n");
    let begin = Instant::now();
    frames.until(|_| false);
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}
