//! Blobs that go away, by DELETE or when their time is over, as the mounts show it: soon, without a wrong byte, and nobody hangs.

use std::fs;
use std::time::{Duration, Instant};

use tests::content::{self, Digest};
use tests::fuse::{self, Client, MountPoint, Mounted, name_of};
use tests::http::Request;

use super::listing::store;
use super::{metrics, put, text};

const RUNGS: [&str; 4] = ["auto", "uring", "clone", "thread"];
/// For so long the kernel believes a name.
const NAMES_BELIEVED: Duration = Duration::from_secs(5);
/// What it takes to look at all of them once more, on a busy machine.
const SLACK: Duration = Duration::from_millis(1500);
const BEGIN_DEADLINE: Duration = Duration::from_secs(20);
/// Packed, and files of their own.
const SIZES: [usize; 5] = [500, 4096, 60_000, 65_537, 3 << 20];
const RACES: u64 = 400;

/// Programs that use these blobs through one mount each.
fn watch(mounted: &Mounted, digests: &[Digest]) -> [Client; 2] {
    let mut clients = mounted.points().map(|point| {
        let paths: Vec<_> = digests.iter().map(|digest| point.blob(digest)).collect();
        let paths: Vec<&str> = paths.iter().map(|path| text(path)).collect();
        Client::spawn(&mut fuse::python(include_str!("gone.py"), &paths))
    });
    clients.iter_mut().for_each(|client| client.must_say("seen"));
    clients
}

/// Each must see all of it gone by then.
fn must_see_it_go(clients: [Client; 2], since: Instant, within: Duration, context: &str) {
    for (mut client, flag) in clients.into_iter().zip(["--mount", "--mount-ro"]) {
        let context = format!("{context} {flag}");
        while !client.stdout().contains("gone") {
            let waited = since.elapsed();
            assert!(waited < within, "{context}: a name still leads somewhere after {waited:?}");
            assert!(!client.has_ended(), "{context}: {}", client.finish(SLACK).stderr);
            std::thread::sleep(Duration::from_millis(10));
        }
        let finished = client.finish(BEGIN_DEADLINE);
        assert_eq!(finished.code, 0, "{context}: {}", finished.stderr);
    }
}

#[test]
fn a_deleted_name_is_gone_for_everybody_after_five_seconds() {
    for rung in RUNGS {
        let Some(mounted) = Mounted::start(rung) else { return };
        let digests = SIZES.map(|size| put(&mounted.node, size as u64, size));
        let clients = watch(&mounted, &digests);
        digests.iter().for_each(|digest| assert_eq!(mounted.node.client().delete(digest), 204));
        must_see_it_go(clients, Instant::now(), NAMES_BELIEVED + SLACK, rung);
    }
}

/// Asks for a name that is not there, twice, and says how long after the first time the second one was.
const TWICE: &str = r#"
import os, sys, time
begin = time.monotonic()
for pause in 0, float(sys.argv[2]):
    time.sleep(pause)
    try:
        os.stat(sys.argv[1])
        raise AssertionError("it is there")
    except FileNotFoundError:
        pass
print(time.monotonic() - begin)
"#;

/// LOOKUPs of a name that is not there, asked for twice with so much time between them; how long it was.
fn lookups_of_none(mounted: &Mounted, point: &MountPoint, seed: u64, pause: &str) -> (f64, f64) {
    let path = point.blob(&Digest::of(&content::bytes(seed, 100)));
    // Its directories are believed from now on, for longer than this takes.
    fuse::tool("sh", &["-c", "echo 2 >/proc/sys/vm/drop_caches; stat \"$1\"", "sh", text(&point.blobs())]);
    let before = metrics::requests(&mounted.node, Some("lookup"));
    let took = fuse::must_hold(TWICE, &[text(&path), pause]).trim().parse().expect("seconds");
    (metrics::requests(&mounted.node, Some("lookup")) - before, took)
}

#[test]
fn a_missing_name_is_believed_to_be_missing_for_two_seconds() {
    let Some(mounted) = Mounted::start("auto") else { return };
    for (n, point) in (0..).zip(mounted.points()) {
        // On a machine that is busy it may take longer than it is to.
        let soon = (10 * n..10 * n + 5).map(|seed| lookups_of_none(&mounted, point, seed, "1.2"));
        let (lookups, took) = soon.min_by(|a, b| a.1.total_cmp(&b.1)).expect("five");
        assert!(took < 1.9, "too slow to see what is believed: {took} s");
        assert_eq!(lookups, 1.0, "asked again after {took} s");
        let (lookups, took) = lookups_of_none(&mounted, point, 10 * n + 5, "2.2");
        assert_eq!(lookups, 2.0, "not asked again after {took} s");
    }
}

#[test]
fn an_expired_name_is_gone_for_everybody_after_five_seconds() {
    const TTL: Duration = Duration::from_secs(3);
    for rung in RUNGS {
        let Some(mounted) = Mounted::start(rung) else { return };
        let mut client = mounted.node.client();
        let begin = Instant::now();
        let digests = SIZES.map(|size| {
            let body = content::bytes(1000 + size as u64, size);
            client.call(&Request::new("PUT", "/blobs?ttl=3s").body(&body)).must_be(201);
            Digest::of(&body)
        });
        let stored = Instant::now();
        let clients = watch(&mounted, &digests);
        assert!(begin.elapsed() < TTL, "too slow to see them before they expire");
        must_see_it_go(clients, stored, TTL + NAMES_BELIEVED + SLACK, rung);
    }
}

/// Expired, swept, and its space taken by others.
#[test]
fn an_open_file_that_expires_is_right_or_an_error() {
    for rung in RUNGS {
        let Some(mounted) = Mounted::start(rung) else { return };
        let mut client = mounted.node.client();
        let digests = SIZES.map(|size| {
            let body = content::bytes(2000 + size as u64, size);
            client.call(&Request::new("PUT", "/blobs?ttl=2s").body(&body)).must_be(201);
            Digest::of(&body)
        });
        let go = mounted.node.setup.path("go");
        let holders = mounted.points().map(|point| {
            let paths: Vec<_> = digests.iter().map(|digest| point.blob(digest)).collect();
            let paths = paths.iter().map(|path| text(path));
            let args: Vec<&str> = [text(&go), "may"].into_iter().chain(paths).collect();
            let mut holder = Client::spawn(&mut fuse::python(include_str!("hold.py"), &args));
            holder.must_say("open");
            holder
        });
        // Swept every ten seconds.
        std::thread::sleep(Duration::from_secs(13));
        for seed in 100..120 {
            client.put(&content::bytes(seed, 1 << 20));
            client.put(&content::bytes(1000 + seed, 50_000));
        }
        fs::write(&go, "").expect("written");
        for holder in holders {
            let finished = holder.finish(BEGIN_DEADLINE);
            assert_eq!(finished.code, 0, "{rung}: {}", finished.stderr);
            eprintln!("{rung}: {} of {}", finished.text().lines().last().unwrap_or_default(), SIZES.len());
        }
    }
}

#[test]
fn small_files_opened_right_before_they_are_deleted_are_right_or_an_error() {
    for rung in RUNGS {
        let Some(mounted) = Mounted::start(rung) else { return };
        let seed = content::run_seed();
        for (n, point) in (0..).zip(mounted.points()) {
            let begin = (1 << 20) + n * RACES;
            let names = store(&mounted.node, begin..begin + RACES, 20_000);
            let list = mounted.node.setup.path("names");
            fs::write(&list, names.iter().map(name_of).collect::<Vec<_>>().join("\n")).expect("written");
            let (addr, tree) = (mounted.node.setup.blob.to_string(), point.blobs());
            let args = [&addr, text(&tree), text(&list), &seed.to_string()];
            let said = fuse::must_hold(include_str!("race.py"), &args);
            eprintln!("{rung} {}: {} could be read after the DELETE, or not", point.text(), said.trim());
            let counts: u64 = said.split_whitespace().map(|n| n.parse::<u64>().expect("a count")).sum();
            assert_eq!(counts, RACES, "{said}");
            assert!(mounted.node.client().list().is_empty(), "all are deleted");
        }
    }
}
