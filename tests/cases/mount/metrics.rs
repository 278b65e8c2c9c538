//! What the ops port and `doctor` tell of the mount: requests by operation, latency by rung, and what is remembered.

use std::collections::BTreeSet;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use tests::command;
use tests::exposition::{Exposition, Labels};
use tests::fuse::{self, MountPoint, Mounted};
use tests::http::Request;
use tests::node::{Node, binary, without_our_settings};

use super::{put, put_all, text};

const PREFIX: &str = "blobcache_fuse_";
const MIB: usize = 1 << 20;

pub fn scrape(node: &Node) -> Exposition {
    let reply = node.ops().call(&Request::new("GET", "/metrics")).must_be(200);
    Exposition::parse(reply.text()).unwrap_or_else(|why| panic!("{why}"))
}

/// The family of the mount with this kind and these words in its name.
fn family(scrape: &Exposition, kind: &str, words: &[&str]) -> String {
    let fits = |name: &&String| name.starts_with(PREFIX) && words.iter().all(|word| name.contains(word));
    let found = scrape.0.iter().find(|(name, family)| fits(name) && family.kind == kind);
    let all: Vec<_> = scrape.0.keys().filter(|name| name.starts_with(PREFIX)).collect();
    found.unwrap_or_else(|| panic!("no {kind} of the mount with {words:?} in its name: {all:?}")).0.clone()
}

fn has_value(labels: &Labels, value: &str) -> bool {
    labels.values().any(|v| v.eq_ignore_ascii_case(value))
}

/// Requests of an operation, or of all.
pub fn requests(node: &Node, operation: Option<&str>) -> f64 {
    let scrape = scrape(node);
    let name = family(&scrape, "counter", &["requests", "_total"]);
    scrape.sum(&name, |labels| operation.is_none_or(|operation| has_value(labels, operation)))
}

/// What the requests come by.
pub fn rungs(node: &Node) -> Vec<String> {
    let scrape = scrape(node);
    let name = family(&scrape, "counter", &["requests", "_total"]);
    let rungs = scrape.0[&name].samples.iter().map(|sample| sample.labels["rung"].clone());
    rungs.collect::<BTreeSet<_>>().into_iter().collect()
}

/// What the kernel holds, of both mounts.
pub fn held(node: &Node) -> [(&'static str, f64); 4] {
    let scrape = scrape(node);
    ["inodes", "lookups", "open_handles", "backing_ids"].map(|what| {
        let name = format!("{PREFIX}{what}");
        assert!(scrape.0.get(&name).is_some_and(|family| family.kind == "gauge"), "no {name}");
        (what, scrape.sum(&name, |_| true))
    })
}

/// The kernel lets go of what nobody uses, and of it all: what is held is what was held before.
pub fn must_come_down_to(before: [(&'static str, f64); 4], node: &Node, context: &str) {
    let begin = Instant::now();
    while held(node) != before {
        let now = held(node);
        assert!(begin.elapsed() < Duration::from_secs(20), "{context}: {before:?} before, then {now:?}");
        fuse::tool("sh", &["-c", "echo 2 >/proc/sys/vm/drop_caches"]);
        thread::sleep(Duration::from_millis(200));
    }
}

/// Nodes that the kernel has yet to forget.
pub fn remembered(node: &Node) -> f64 {
    held(node)[0].1
}

#[test]
fn latency_is_told_by_operation_and_rung() {
    for rung in ["uring", "clone", "thread"] {
        let Some(mounted) = Mounted::start(rung) else { return };
        put_all(&mounted.node, &[1000, 65_536, 3 << 20]);
        // Of attributes the kernel asks for itself only when it is told not to believe those it has.
        let use_all = "cat \"$1\"/* >/dev/null; stat --cached=never \"$1\"/*";
        fuse::tool("sh", &["-c", use_all, "sh", text(&mounted.ro.blobs())]);
        let scrape = scrape(&mounted.node);
        for operation in ["read", "lookup", "getattr"] {
            let seconds = family(&scrape, "histogram", &[operation, "_seconds"]);
            let milliseconds = format!("{PREFIX}{operation}_latency_ms");
            let of_rung = |name: &str| scrape.sum(name, |labels| has_value(labels, rung));
            let count = of_rung(&format!("{seconds}_count"));
            assert!(count > 0.0, "{seconds} has nothing of the rung {rung}");
            assert_eq!(of_rung(&format!("{milliseconds}_count")), count, "{milliseconds} of the rung {rung}");
            let ratio = of_rung(&format!("{milliseconds}_sum")) / of_rung(&format!("{seconds}_sum"));
            assert!(
                (999.0..1001.0).contains(&ratio),
                "{ratio} ms a second: {milliseconds} of the rung {rung}"
            );
        }
    }
}

#[test]
fn requests_are_counted_by_operation() {
    let Some(mounted) = Mounted::start("auto") else { return };
    let digest = put(&mounted.node, 1, 5_000);
    let before = ["lookup", "read"].map(|operation| requests(&mounted.node, Some(operation)));
    fuse::tool("sha256sum", &[text(&mounted.ro.blob(&digest))]);
    for (operation, before) in ["lookup", "read"].into_iter().zip(before) {
        let after = requests(&mounted.node, Some(operation));
        assert!(after > before, "{operation}: {before}, then {after}");
    }
}

/// Reads each file in one program, so that no timeout ends between two rounds; prints when a round is over.
const OPEN_READ_CLOSE: &str = r#"
import sys
for path in sys.argv[2:] * int(sys.argv[1]):
    with open(path, "rb", buffering=0) as file:
        file.read(); file.read()
"#;

#[test]
fn a_warm_open_read_and_close_costs_no_request_on_the_read_only_mount() {
    let Some(mounted) = Mounted::start("auto") else { return };
    let digests: Vec<_> = (0..20).map(|seed| put(&mounted.node, seed, 4096)).collect();
    let measure = |point: &MountPoint| {
        let paths: Vec<_> = digests.iter().map(|digest| point.blob(digest)).collect();
        let run = |rounds: &str| {
            let args: Vec<&str> =
                std::iter::once(rounds).chain(paths.iter().map(|path| text(path))).collect();
            fuse::must_hold(OPEN_READ_CLOSE, &args);
        };
        run("1");
        let before = requests(&mounted.node, None);
        run("50");
        requests(&mounted.node, None) - before
    };
    // Some names may be asked for again after their 5 s on a slow machine.
    let (ro, rw) = (measure(&mounted.ro), measure(&mounted.rw));
    assert!(ro <= 100.0, "{ro} requests for 1,000 warm opens");
    // OPEN and RELEASE: no READ, because the cache is kept, and no FLUSH.
    assert!(rw <= 2.0 * 1000.0 + 100.0, "{rw} requests for 1,000 warm opens on --mount");
}

#[test]
fn sequential_reading_takes_large_requests() {
    const SIZE_MIB: usize = 48;
    // The entries of all rings share 64 MiB, so that each holds 128 KiB on many CPUs.
    for (rung, most_per_mib) in [("clone", 2.0), ("thread", 2.0), ("uring", 9.0)] {
        let Some(mounted) = Mounted::start(rung) else { return };
        let digest = put(&mounted.node, 1, SIZE_MIB * MIB);
        let before = requests(&mounted.node, Some("read"));
        fuse::tool("dd", &[&format!("if={}", text(&mounted.ro.blob(&digest))), "of=/dev/null", "bs=1M"]);
        let per_mib = (requests(&mounted.node, Some("read")) - before) / SIZE_MIB as f64;
        assert!(per_mib > 0.0 && per_mib <= most_per_mib, "{rung}: {per_mib} READs a MiB");
    }
}

#[test]
fn passthrough_reads_cost_the_daemon_nothing() {
    let Some(mounted) = Mounted::start("passthrough") else { return };
    let digest = put(&mounted.node, 1, 16 * MIB);
    let before = requests(&mounted.node, Some("read"));
    let said = fuse::tool("sha256sum", &[text(&mounted.rw.blob(&digest))]);
    assert!(said.starts_with(fuse::name_of(&digest)), "{said}");
    assert_eq!(requests(&mounted.node, Some("read")), before, "the daemon was asked to read");
}

/// The kernel looks up thousands of names and then forgets them at once.
#[test]
fn a_storm_of_forgets_leaks_nothing() {
    const COUNT: u64 = 3000;
    let Some(mounted) = Mounted::start("auto") else { return };
    for seed in 0..COUNT {
        put(&mounted.node, seed, 20);
    }
    let before = held(&mounted.node);
    for point in mounted.points() {
        fuse::tool("sh", &["-c", "stat \"$1\"/* >/dev/null", "sh", text(&point.blobs())]);
    }
    let most = held(&mounted.node);
    for ((what, most), (_, before)) in most.into_iter().zip(before).take(2) {
        assert!(most >= before + COUNT as f64, "{most} {what} of {COUNT} looked up");
    }
    must_come_down_to(before, &mounted.node, "a storm of FORGETs");
    fuse::tool("sh", &["-c", "cat \"$1\"/* >/dev/null", "sh", text(&mounted.ro.blobs())]);
}

#[test]
fn doctor_tells_the_rung_that_serve_takes() {
    let Some(mounted) = Mounted::start("auto") else { return };
    let [rung] = &rungs(&mounted.node)[..] else { panic!("not one rung") };
    let data = tests::node::fresh_dir();
    let mut doctor = Command::new(binary());
    without_our_settings(&mut doctor);
    doctor.arg("doctor").env("BASALT_DATA_DIR", data.path());
    let switch = fuse::keep_switched_on();
    let said = command::run(&mut doctor, Duration::from_secs(60)).text();
    drop(switch);
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<_> = said.lines().map(words).filter(|line| line.contains("fuse")).collect();
    assert!(lines.contains(&format!("ok fuse rung {rung} (--fuse-rung auto)")), "{rung}: {lines:?}");
    assert!(lines.contains(&"ok fuse /dev/fuse".into()), "{lines:?}");
    for need in ["fuse passthrough", "fuse over io_uring"] {
        let is_said = |status: &str| lines.iter().any(|line| line.starts_with(&format!("{status} {need} ")));
        assert!(["ok", "degraded", "missing"].into_iter().any(is_said), "nothing of {need}: {lines:?}");
    }
}
