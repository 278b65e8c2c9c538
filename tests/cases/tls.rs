//! TLS: the same answers over it, the right certificate for a name, no client without a certificate where one is asked for,
//! other certificates by HUP without a cut, and nothing for those who do not speak it or take too long.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use tests::command::{self, Finished};
use tests::content::{self, Digest};
use tests::http::Request;
use tests::node::{Node, Setup, binary, without_our_settings};
use tests::pki::Authority;

const DEADLINE: Duration = Duration::from_secs(60);

struct Pki {
    authority: Authority,
    server: (PathBuf, PathBuf),
}

fn pki(setup: &Setup) -> Pki {
    let dir = setup.path("pki");
    fs::create_dir_all(&dir).expect("made");
    let authority = Authority::new(&dir, "ca");
    let server = authority.sign("server", &["localhost", "127.0.0.1"]);
    Pki { authority, server }
}

fn start() -> Node {
    let setup = Setup::new();
    let pki = pki(&setup);
    setup.tls(&pki.server, &pki.authority.file).start()
}

fn curl(setup: &Setup, args: &[&str]) -> Finished {
    command::run(setup.curl().args(args), DEADLINE)
}

/// The name in the certificate that is shown to one who asks for `host`.
fn shown(addr: SocketAddr, host: Option<&str>) -> String {
    let mut openssl = Command::new("openssl");
    openssl.args(["s_client", "-connect", &addr.to_string()]);
    match host {
        Some(host) => openssl.args(["-servername", host]),
        None => openssl.arg("-noservername"),
    };
    let said = command::run(&mut openssl, DEADLINE).text();
    let subject = said.lines().find_map(|line| line.strip_prefix("subject=")).unwrap_or_default();
    subject.rsplit(['=', ' ']).next().unwrap_or_default().to_owned()
}

fn until(node: &Node, said: &str, times: usize) {
    let begin = Instant::now();
    while node.stderr().matches(said).count() < times {
        assert!(begin.elapsed() < Duration::from_secs(20), "{said}: {}", node.stderr());
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn blobs_and_health_are_the_same_over_tls() {
    let node = start();
    let (setup, body) = (&node.setup, content::bytes(1, 9_000_001));
    let file = setup.path("body");
    fs::write(&file, &body).expect("written");
    let digest = Digest::of(&body);
    let url = format!("{}{}", setup.url(), digest.path());
    let path = file.to_str().expect("UTF-8");
    for version in ["--http1.1", "--http2"] {
        let put = curl(setup, &[version, "-T", path, &format!("{}/blobs", setup.url())]).must_succeed();
        assert!(put.text().contains(&digest.0), "{}", put.text());
        let chunked = ["-H", "Transfer-Encoding: chunked"];
        let chunked = if version == "--http1.1" { &chunked[..] } else { &[] };
        let args = [&[version, "-T", path], chunked, &[&url]].concat();
        assert!(curl(setup, &args).must_succeed().text().contains(&digest.0));
        assert!(curl(setup, &[version, &url]).must_succeed().stdout == body, "{version}");
        let range = curl(setup, &[version, "-r", "65535-8000000", &url]).must_succeed();
        assert!(range.stdout == body[65535..=8_000_000], "{version}");
        let small = curl(setup, &[version, "-X", "PUT", "-d", "hello", &format!("{}/blobs", setup.url())]);
        assert!(small.must_succeed().text().contains(&Digest::of(b"hello").0));
        let metrics = curl(setup, &[version, &setup.ops_url("/metrics")]).must_succeed();
        assert!(metrics.text().contains("blobcache_"), "{}", metrics.text());
    }
}

#[test]
fn verbs_speak_https_and_check_the_certificate() {
    let node = start();
    let ca = node.setup.path("pki/ca.pem");
    let verb = |args: &[&str], ca: Option<&Path>| {
        let mut command = Command::new(binary());
        without_our_settings(&mut command);
        command.args(args).env("BASALT_SERVER", node.setup.url());
        if let Some(ca) = ca {
            command.env("BASALT_CA", ca);
        }
        command::run_with_input(&mut command, b"hello", DEADLINE)
    };
    let digest = Digest::of(b"hello");
    assert!(verb(&["put", "-"], Some(&ca)).must_succeed().text().starts_with(&digest.0));
    assert_eq!(verb(&["get", &digest.0], Some(&ca)).must_succeed().stdout, b"hello");
    let stranger = Authority::new(&node.setup.path("pki"), "stranger");
    for ca in [None, Some(stranger.file.as_path())] {
        let refused = verb(&["get", &digest.0], ca);
        assert!(refused.code == 1 && refused.stderr.contains("certificate"), "{}", refused.stderr);
    }
    assert_eq!(verb(&["ls"], Some(Path::new("/none"))).code, 2);
}

#[test]
fn each_name_is_shown_its_certificate() {
    let setup = Setup::new();
    let pki = pki(&setup);
    let other = pki.authority.sign("other", &["other.example", "*.wild.example"]);
    let setup = setup.tls(&pki.server, &pki.authority.file);
    let node = setup.tls(&other, &pki.authority.file).start();
    for (host, expected) in [
        (None, "server"),
        (Some("localhost"), "server"),
        (Some("unknown.example"), "server"),
        (Some("other.example"), "other"),
        (Some("OTHER.example"), "other"),
        (Some("a.wild.example"), "other"),
        (Some("a.b.wild.example"), "server"),
    ] {
        assert_eq!(shown(node.setup.blob, host), expected, "{host:?}");
        assert_eq!(shown(node.setup.ops, host), expected, "{host:?}");
    }
}

#[test]
fn without_the_right_certificate_of_its_own_a_client_is_not_heard() {
    let setup = Setup::new();
    let pki = pki(&setup);
    let (stranger, trusted) =
        (Authority::new(&setup.path("pki"), "stranger"), Authority::new(&setup.path("pki"), "clients"));
    let (wrong, right) = (stranger.sign("wrong", &["me"]), trusted.sign("right", &["me"]));
    let setup = setup.tls(&pki.server, &pki.authority.file).client_ca(&trusted.file, &right);
    let node = setup.start();
    let url = format!("{}/blobs", node.setup.url());
    assert!(curl(&node.setup, &[&url]).must_succeed().text().contains("\"blobs\":[]"));
    let ca = pki.authority.file.to_str().expect("UTF-8");
    let pem = |path: &PathBuf| path.to_str().expect("UTF-8").to_owned();
    let wrong = [pem(&wrong.0), pem(&wrong.1)];
    for args in [&[][..], &["--cert", &wrong[0], "--key", &wrong[1]]] {
        for url in [&url, &node.setup.ops_url("/healthz")] {
            let mut curl = Command::new("curl");
            curl.args(["-sS", "--max-time", "20", "--cacert", ca]).args(args).arg(url);
            let refused = command::run(&mut curl, DEADLINE);
            assert!(refused.code != 0 && refused.stdout.is_empty(), "{args:?}: {refused:?}");
        }
    }
}

#[test]
fn verbs_show_a_certificate_where_one_is_asked_for() {
    let setup = Setup::new();
    let pki = pki(&setup);
    let dir = setup.path("pki");
    let (stranger, trusted) = (Authority::new(&dir, "stranger"), Authority::new(&dir, "clients"));
    let (wrong, right) = (stranger.sign("wrong", &["me"]), trusted.sign("right", &["me"]));
    let node = setup.tls(&pki.server, &pki.authority.file).client_ca(&trusted.file, &right).start();
    let verb = |args: &[&str], shown: [Option<&Path>; 2]| {
        let mut command = Command::new(binary());
        without_our_settings(&mut command);
        command.args(args).arg("--ca").arg(&pki.authority.file).env("BASALT_SERVER", node.setup.url());
        for (flag, file) in ["--cert", "--key"].into_iter().zip(shown) {
            file.map(|file| command.arg(flag).arg(file));
        }
        command::run_with_input(&mut command, b"hello", DEADLINE)
    };
    fn pair((cert, key): &(PathBuf, PathBuf)) -> [Option<&Path>; 2] {
        [Some(cert), Some(key)]
    }
    let digest = Digest::of(b"hello");
    let right = pair(&right);
    assert!(verb(&["put", "-"], right).must_succeed().text().starts_with(&digest.0));
    assert_eq!(verb(&["get", &digest.0], right).must_succeed().stdout, b"hello");
    assert!(verb(&["ls"], right).must_succeed().text().contains(&digest.0));
    let fetched = verb(&["fetch", "http://127.0.0.1:1/", "--digest", &digest.0], right);
    assert!(fetched.must_succeed().text().contains(&digest.0), "it is there: nothing is fetched");
    verb(&["rm", &digest.0], right).must_succeed();
    for shown in [[None, None], pair(&wrong)] {
        let refused = verb(&["ls"], shown);
        assert!(refused.code == 1 && refused.stderr.contains("did not answer"), "{}", refused.stderr);
    }
    let none = Path::new("/none");
    for (shown, says) in [
        ([right[0], None], "--cert without --key"),
        ([None, right[1]], "--key without --cert"),
        ([right[0], pair(&wrong)[1]], "wrong.key"),
        ([right[1], right[1]], "no certificate in it"),
        ([right[0], right[0]], "no private key in it"),
        ([right[0], Some(none)], "--key /none"),
        ([Some(none), right[1]], "--cert /none"),
    ] {
        let refused = verb(&["ls"], shown);
        assert!(refused.code == 2 && refused.stderr.contains(says), "{says}: {}", refused.stderr);
    }
    let mut by_env = Command::new(binary());
    without_our_settings(&mut by_env);
    by_env.arg("ls").env("BASALT_SERVER", node.setup.url()).env("BASALT_CA", &pki.authority.file);
    for (name, file) in [("BASALT_CLIENT_CERT", right[0]), ("BASALT_CLIENT_KEY", right[1])] {
        by_env.env(name, file.expect("given"));
    }
    command::run(&mut by_env, DEADLINE).must_succeed();
}

#[test]
fn hup_changes_the_certificate_under_load_and_a_wrong_file_changes_nothing() {
    let setup = Setup::new();
    let pki = pki(&setup);
    let node = setup.tls(&pki.server, &pki.authority.file).start();
    let body = content::bytes(2, 40 << 20);
    let file = node.setup.path("body");
    fs::write(&file, &body).expect("written");
    let path = file.to_str().expect("UTF-8");
    curl(&node.setup, &["-T", path, &format!("{}/blobs", node.setup.url())]).must_succeed();
    let url = format!("{}{}", node.setup.url(), Digest::of(&body).path());
    let reload = |name: &str| {
        let (cert, key) = pki.authority.sign(name, &["localhost", "127.0.0.1"]);
        fs::rename(cert, &pki.server.0).expect("moved");
        fs::rename(key, &pki.server.1).expect("moved");
        node.hup();
    };
    thread::scope(|scope| {
        // Slow enough to live through all of it.
        let slow = scope.spawn(|| curl(&node.setup, &["--limit-rate", "10M", &url]));
        let busy = scope.spawn(|| {
            for _ in 0..12 {
                let read = curl(&node.setup, &[&url]).must_succeed();
                assert!(read.stdout == body, "another body");
            }
        });
        for round in 1..=5 {
            reload(&format!("next{round}"));
            until(&node, "certificates are read again", round);
            assert_eq!(shown(node.setup.blob, Some("localhost")), format!("next{round}"));
        }
        fs::write(&pki.server.0, "nonsense").expect("written");
        node.hup();
        until(&node, "the certificates stay as they were", 1);
        assert_eq!(shown(node.setup.blob, None), "next5");
        busy.join().expect("every download was whole");
        assert!(slow.join().expect("ended").must_succeed().stdout == body, "cut by a reload");
    });
    let errors = node.stderr().lines().filter(|line| line.contains("level=error")).count();
    assert_eq!(errors, 1, "one line for the wrong file: {}", node.stderr());
}

#[test]
fn who_does_not_speak_tls_is_told_and_who_does_where_there_is_none_is_refused() {
    let node = start();
    let reply = node.client().call(&Request::new("GET", "/blobs")).must_be(400);
    assert!(reply.text().contains("TLS") && reply.last, "{}", reply.text());
    let mut stream = TcpStream::connect(node.setup.blob).expect("connected");
    stream.write_all(&[0x80, 0, 1, 2, 3]).expect("sent");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).ok();
    assert!(rest.starts_with(b"HTTP/1.1 400"), "{}", rest.escape_ascii());
    let plain = Node::start();
    let refused = curl(&plain.setup, &[&format!("https://{}/blobs", plain.setup.blob)]);
    assert_ne!(refused.code, 0);
    plain.client().call(&Request::new("GET", "/blobs")).must_be(200);
}

#[test]
fn a_handshake_that_stands_still_is_hung_up_on() {
    let node = start();
    let begun = [&b""[..], &[22], &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]];
    let mut streams: Vec<_> = begun
        .iter()
        .map(|bytes| {
            let mut stream = TcpStream::connect(node.setup.blob).expect("connected");
            stream.write_all(bytes).expect("sent");
            stream.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
            stream
        })
        .collect();
    let begin = Instant::now();
    // Nobody else waits for them.
    curl(&node.setup, &[&format!("{}/blobs", node.setup.url())]).must_succeed();
    for stream in &mut streams {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).ok();
    }
    let took = begin.elapsed();
    assert!((8..20).contains(&took.as_secs()), "hung up on after {took:?}");
}

#[test]
fn files_that_do_not_go_together_are_refused_by_name() {
    let setup = Setup::new();
    let pki = pki(&setup);
    let other = pki.authority.sign("other", &["localhost"]);
    let empty = setup.path("empty.pem");
    fs::write(&empty, "").expect("written");
    let ca = &pki.authority.file;
    let mixed = (pki.server.0.clone(), other.1.clone());
    for (pair, says) in [
        (mixed, "other.key"),
        ((empty.clone(), other.1.clone()), "empty.pem"),
        ((pki.server.0.clone(), empty.clone()), "empty.pem"),
        ((pki.server.0.clone(), setup.path("none.key")), "none.key"),
    ] {
        let refused = setup.clone().tls(&pair, ca).run_refused();
        assert!(refused.code == 78 && refused.stderr.contains(says), "{says}: {}", refused.stderr);
    }
    let alone = setup.clone().arg("--tls-cert").arg(ca.to_str().expect("UTF-8")).run_refused();
    assert!(alone.code == 2 && alone.stderr.contains("--tls-cert"), "{}", alone.stderr);
    let alone = setup.arg("--tls-client-ca").arg(ca.to_str().expect("UTF-8")).run_refused();
    assert!(alone.code == 2 && alone.stderr.contains("--tls-client-ca"), "{}", alone.stderr);
}

#[test]
fn a_listener_open_to_others_needs_tls_or_a_word() {
    let check = |args: &[&str]| {
        let mut command = Command::new(binary());
        without_our_settings(&mut command);
        command.args(["config", "check", "--blob-listen", "0.0.0.0:9000"]).args(args);
        command::run(&mut command, DEADLINE)
    };
    let refused = check(&[]);
    assert!(refused.code == 2 && refused.stderr.contains("--tls-cert"), "{}", refused.stderr);
    for args in [&["--insecure"][..], &["--tls-cert", "c", "--tls-key", "k"]] {
        let open = check(args).must_succeed();
        assert!(open.stderr.contains("--token-file"), "a warning: {}", open.stderr);
        let guarded = check(&[args, &["--token-file", "t"]].concat()).must_succeed();
        let readable = guarded.stderr.matches("tokens are sent in clear text to 0.0.0.0:9000").count();
        assert_eq!(readable, usize::from(args[0] == "--insecure"), "{}", guarded.stderr);
        assert_eq!(guarded.stderr.matches("warning").count(), readable, "{}", guarded.stderr);
    }
}

#[test]
fn tokens_that_go_in_clear_text_are_warned_of_once_at_start() {
    let setup = Setup::new();
    let tokens = setup.path("tokens");
    fs::write(&tokens, "blob b\nops o\n").expect("written");
    let mut setup = setup.arg("--token-file").arg(tokens.to_str().expect("UTF-8"));
    let says = |node: &Node| node.stderr().matches("tokens are sent in clear text").count();
    assert_eq!(says(&setup.clone().start()), 0, "loopback");
    setup.ops.set_ip([0, 0, 0, 0].into());
    let node = setup.arg("--insecure").start();
    assert_eq!(says(&node), 1, "{}", node.stderr());
    let whose = format!("clear text to {}:", node.setup.ops);
    assert!(node.stderr().contains(&whose), "{}", node.stderr());
}
