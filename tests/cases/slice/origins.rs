//! Origins of every kind, and disks: https, several by prefix, bodies that cannot be sliced, redirects in the middle; several data
//! directories, one that fails, bytes that rot. HTTP/2 towards clients.

use super::{MIB, get, object, proxy, word};
use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};
use tests::command;
use tests::disk;
use tests::exposition::Exposition;
use tests::http::{Fault as Cut, Request};
use tests::mount::LoopMount;
use tests::node::{Node, Setup};
use tests::origin::{Fault, Object, Origin};

#[test]
fn https_origins_are_sliced_if_their_certificate_is_trusted() {
    let (origin, pem) = Origin::start_tls();
    let whole = object(1, 5 * MIB + 3);
    origin.put("/s", whole.clone());
    let stranger = proxy(&origin).arg("--slice-retries").arg("0").start();
    get(&stranger, "/s", "").must_be(502);
    assert_eq!(origin.total("/s"), 0);
    let setup = proxy(&origin);
    let ca = setup.path("ca.pem");
    fs::write(&ca, pem).expect("written");
    let node = setup.arg("--origin-ca").arg(ca.to_str().expect("UTF-8")).start();
    for state in ["MISS", "HIT"] {
        let reply = get(&node, "/s", "").must_be(200);
        assert!(reply.body == *whole.body && word(&reply) == state, "{state}");
        assert!(
            get(&node, "/s", "bytes=1048000-2097160").must_be(206).body == whole.body[1_048_000..=2_097_160]
        );
    }
    assert_eq!(origin.total("/s"), 6);
    // A body that ends within TLS is no shorter body.
    origin.put("/cut", whole.clone().fault(Fault::Short, 2));
    assert!(get(&node, "/cut", "").must_be(200).body == *whole.body);
    let posted = node.slice().call(&Request::new("POST", "/form").body(b"hello")).must_be(299);
    assert_eq!(posted.text(), "POST /form\nhello");
}

#[test]
fn the_longest_prefix_says_which_origin_has_a_path() {
    let [films, old, music] = [Origin::start(), Origin::start(), Origin::start()];
    let setup = Setup::new().origin(&format!("/films/={}", films.url("")));
    let setup = setup.arg("--slice-origin").arg(format!("/films/old/={}", old.url("")));
    let node = setup.arg("--slice-origin").arg(format!("/music={}", music.url(""))).start();
    for (path, origin, seed) in [
        ("/films/x", &films, 1),
        ("/films/old/x", &old, 2),
        ("/films/older", &films, 3),
        ("/music/x", &music, 4),
        ("/films/new/../old/y", &old, 5),
    ] {
        let normal = path.replace("new/../", "");
        origin.put(&normal, object(seed, 2 * MIB));
        for _ in 0..2 {
            assert!(get(&node, path, "").must_be(200).body == *object(seed, 2 * MIB).body, "{path}");
        }
        let asked = [&films, &old, &music].map(|origin| origin.total(&normal) > 0);
        assert_eq!(asked.iter().filter(|asked| **asked).count(), 1, "{path}: {asked:?}");
    }
    get(&node, "/musical", "").must_be(404);
    get(&node, "/", "").must_be(404);
}

/// A transformation may be another one the next time: it goes through whole, cut where it is cut.
#[test]
fn a_coded_body_is_passed_and_a_cut_one_is_cut() {
    let origin = Origin::start();
    let node = proxy(&origin).start();
    let plain = object(1, 2 * MIB);
    let coded = Object { fields: format!("{}Content-Encoding: gzip\r\n", plain.fields), ..plain };
    for (path, chunked, ranges) in
        [("/sized", false, false), ("/chunked", true, false), ("/ranges", false, true)]
    {
        let coded = Object { chunked, ranges, ..coded.clone() };
        // The first request may be for a slice, and does not count for what is seen of a body.
        let times = if ranges { 2 } else { 1 };
        origin.put(path, coded.clone().fault(Fault::Short, times));
        let mut conn = node.slice();
        let mut got = Vec::new();
        conn.send(&Request::new("GET", path).to_bytes()).expect("sent");
        let ended = conn.receive_into("GET", &mut |part| got.extend_from_slice(part));
        match ended {
            Err(Cut::Cut) => assert!(got.len() < coded.body.len() && coded.body.starts_with(&got), "{path}"),
            // It was asked for anew before anything was sent.
            Ok(reply) => assert!(reply.status == 502 || got == *coded.body, "{path}: {reply:?}"),
            other => panic!("{path}: {other:?}"),
        }
        for _ in 0..2 {
            let reply = get(&node, path, "").must_be(200);
            assert!(reply.body == *coded.body, "{path}");
            assert_eq!((reply.header("content-encoding"), word(&reply)), (Some("gzip"), "BYPASS"), "{path}");
        }
    }
}

/// What was a film is a redirect, forbidden or gone by the second slice: a cut, and the next client gets what there is now.
#[test]
fn an_object_that_is_something_else_by_its_second_slice_is_cut() {
    let origin = Origin::start();
    let node = proxy(&origin).arg("--slice-subrequests").arg("1").start();
    for (at, status) in [301, 302, 307, 404, 410].into_iter().enumerate() {
        let path = format!("/r{at}");
        let film = object(1, 4 * MIB);
        let gone = film.clone().fault(Fault::Status(status, "Location: /elsewhere\r\n"), u32::MAX);
        origin.put(&path, Object { becomes: Some((1, Box::new(gone))), ..film.clone() });
        let mut conn = node.slice();
        let mut got = Vec::new();
        conn.send(&Request::new("GET", path.as_str()).to_bytes()).expect("sent");
        match conn.receive_into("GET", &mut |part| got.extend_from_slice(part)) {
            Err(Cut::Cut) => assert!(film.body.starts_with(&got), "{status}: {} bytes", got.len()),
            // Before the first byte went out it was noticed and asked for anew.
            Ok(reply) => assert!([status, 502].contains(&reply.status), "{status}: {reply:?}"),
            Err(fault) => panic!("{status}: {fault}"),
        }
        assert_eq!(get(&node, &path, "").status, status);
    }
}

#[test]
fn over_http_2_the_same_bytes_come() {
    let origin = Origin::start();
    let node = proxy(&origin).start();
    let whole = object(1, 9 * MIB + 11);
    origin.put("/h2", whole.clone());
    let url = format!("http://{}/h2", node.setup.slice);
    let curl = |args: &[&str]| {
        let common = ["-sS", "--http2-prior-knowledge", "--max-time", "60"];
        command::run(Command::new("curl").args(common).args(args).arg(&url), Duration::from_secs(90))
    };
    for _ in 0..2 {
        assert!(curl(&[]).must_succeed().stdout == *whole.body);
        assert!(curl(&["-r", "1048570-7340040"]).must_succeed().stdout == whole.body[1_048_570..=7_340_040]);
    }
    let seen =
        ["-o", "/dev/null", "-w", "%{http_version} %{http_code} %header{x-cache} %header{content-range}"];
    assert_eq!(
        curl(&[&seen[..], &["-r", "5-"]].concat()).must_succeed().text(),
        "2 206 HIT 10/10 bytes 5-9437194/9437195"
    );
    assert_eq!(
        curl(&[&seen[..], &["-r", "99999999-"]].concat()).must_succeed().text(),
        "2 416 HIT 0/0 bytes */9437195"
    );
    assert_eq!(origin.total("/h2"), 10);
    // Many streams at a time on something cold.
    origin.put("/many", Object { pause: Duration::from_millis(1), ..object(2, 3 * MIB) });
    let url = format!("http://{}/many", node.setup.slice);
    let loads = ["-n", "200", "-c", "4", "-m", "20", &url];
    let said =
        command::run(Command::new("h2load").args(loads), Duration::from_secs(90)).must_succeed().text();
    assert!(said.contains("200 succeeded, 0 failed"), "{said}");
    let asked = origin.asked("/many");
    assert_eq!((asked.len(), asked.values().max()), (3, Some(&1)), "{asked:?}");
}

fn total(node: &Node, name: &str) -> u64 {
    let reply = node.ops().call(&Request::new("GET", "/metrics")).must_be(200);
    Exposition::parse(reply.text()).expect("valid").sum(name, |_| true) as u64
}

/// Until what came is in the tier.
fn until_stored(node: &Node) {
    let begin = Instant::now();
    let (mut before, mut stays) = (0, 0);
    while stays < 5 {
        assert!(begin.elapsed() < Duration::from_secs(30), "it goes on storing");
        thread::sleep(Duration::from_millis(50));
        let now = total(node, "blobcache_blobs");
        stays = if now == before && now > 0 { stays + 1 } else { 0 };
        before = now;
    }
}

#[test]
fn slices_are_spread_over_two_directories_and_found_again() {
    let origin = Origin::start();
    let setup = proxy(&origin);
    let second = setup.path("second");
    let mut node = setup.arg("--data-dir").arg(second.to_str().expect("UTF-8")).start();
    let objects: Vec<Object> = (0..16).map(|at| object(at, 3 * MIB + 1)).collect();
    for (at, object) in objects.iter().enumerate() {
        origin.put(&format!("/two{at}"), object.clone());
        assert!(get(&node, &format!("/two{at}"), "").must_be(200).body == *object.body);
    }
    until_stored(&node);
    let used = [&node.setup.data, &second].map(|dir| disk::used_bytes(&dir.join("objects")) / MIB as u64);
    assert!(used.iter().all(|&mib| mib >= 3), "{used:?} MiB");
    for is_killed in [false, true] {
        if is_killed {
            node.kill();
        } else {
            node.stop();
        }
        node = node.start_again();
        for (at, object) in objects.iter().enumerate() {
            let reply = get(&node, &format!("/two{at}"), "").must_be(200);
            assert!(reply.body == *object.body && word(&reply) == "HIT", "/two{at}: {:?}", reply.headers);
        }
    }
    let asked: u32 = (0..objects.len()).map(|at| origin.total(&format!("/two{at}"))).sum();
    assert_eq!(asked, 16 * 4);
}

#[test]
fn what_is_on_a_disk_that_fails_is_fetched_again() {
    let origin = Origin::start();
    let setup = proxy(&origin);
    let Some(mounted) = LoopMount::or_skip(&setup, 256 << 20) else { return };
    let second = mounted.at.join("data");
    // So little memory that the disks are read.
    let setup = setup.memory("128MiB").arg("--data-dir").arg(second.to_str().expect("UTF-8"));
    let mut node = setup.start();
    let objects: Vec<Object> = (0..12).map(|at| object(at, 10 * MIB + at as usize)).collect();
    for (at, object) in objects.iter().enumerate() {
        origin.put(&format!("/d{at}"), object.clone());
        assert!(get(&node, &format!("/d{at}"), "").must_be(200).body == *object.body);
    }
    until_stored(&node);
    assert!(disk::used_bytes(&second.join("objects")) >= 10 << 20, "the second has a part of it");
    mounted.fail();
    for round in 0..2 {
        for (at, object) in objects.iter().enumerate() {
            let reply = get(&node, &format!("/d{at}"), "").must_be(200);
            assert!(reply.body == *object.body, "/d{at}, round {round}");
        }
    }
    assert!(node.runs(), "{}", node.stderr());
}

#[test]
fn bytes_that_rot_are_noticed_and_fetched_again() {
    let origin = Origin::start();
    let mut node = proxy(&origin).start();
    let (large, small) = (object(1, 6 * MIB), object(2, 30_000));
    origin.put("/large", large.clone());
    origin.put("/small", small.clone());
    for path in ["/large", "/small"] {
        get(&node, path, "").must_be(200);
        until_stored(&node);
    }
    let before = (origin.total("/large"), origin.total("/small"));
    node.stop();
    for (body, at) in [(&large.body, 100), (&large.body, 3 * MIB + 77_777), (&small.body, 15_000)] {
        let places = disk::find(&node.setup.data, &body[at..at + 64]);
        assert!(!places.is_empty(), "offset {at} is not on disk as it is");
        places.iter().for_each(disk::Place::flip);
    }
    node = node.start_again();
    for round in 0..2 {
        for (path, object) in [("/large", &large), ("/small", &small)] {
            let mut got = Vec::new();
            let mut conn = node.slice();
            conn.send(&Request::new("GET", path).to_bytes()).expect("sent");
            // A block that is wrong in the middle may cost this answer, once.
            match conn.receive_into("GET", &mut |part| got.extend_from_slice(part)) {
                Ok(reply) if reply.status == 200 => assert!(got == *object.body, "{path}"),
                Ok(reply) => assert!(round == 0 && reply.status == 502, "{path}: {reply:?}"),
                Err(Cut::Cut) => assert!(round == 0 && object.body.starts_with(&got), "{path}"),
                Err(fault) => panic!("{path}: {fault}"),
            }
        }
    }
    assert_eq!((origin.total("/large"), origin.total("/small")), (before.0 + 2, before.1 + 1));
}
