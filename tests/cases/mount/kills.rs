//! kill -9 under load, again and again: no program stuck, no mount left, and the next start finds its place.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use tests::content::{self, Rng};
use tests::fuse::{self, Client, GONE_DEADLINE, MountPoint, Mounted};
use tests::scale;

use super::{metrics, put_all, text};

/// Kills on each rung, unless `BASALT_MOUNT_KILLS` says otherwise: a hundred in all.
const KILLS: u64 = 20;
const ROLES: [&str; 3] = ["read", "list", "map"];

/// A program that uses the mount until it is gone.
pub fn busy(point: &MountPoint, role: &str) -> Client {
    Client::spawn(&mut fuse::python(include_str!("busy.py"), &[role, text(&point.blobs())]))
}

/// Panics unless the program ends in time, with an error that it can understand; who reads by a map may get a signal.
pub fn must_end(client: Client, role: &str, context: &str) {
    let finished = client.finish(GONE_DEADLINE);
    let is_right = finished.code == 0 || (role == "map" && finished.code == -1);
    assert!(is_right, "{context}: {role} ended with {}: {}", finished.code, finished.stderr);
}

fn must_survive_kills(rung: &str) {
    let Some(mut mounted) = Mounted::start(rung) else { return };
    let seed = content::run_seed();
    let mut rng = Rng::new(seed);
    let (_, manifest) = put_all(&mounted.node, &[0, 4096, 65_536, 300_000, 12 << 20]);
    for round in 1..=scale::count("BASALT_MOUNT_KILLS", KILLS) {
        let context = format!("{rung} BASALT_TEST_SEED={seed} round {round}");
        let chosen = |rng: &mut Rng, point| {
            let role = ROLES[rng.below(3) as usize];
            (busy(point, role), role)
        };
        let mut clients: Vec<_> = mounted.points().into_iter().map(|point| chosen(&mut rng, point)).collect();
        clients.push((busy(mounted.points()[round as usize % 2], "read"), "read"));
        for (client, _) in &mut clients {
            client.must_say("busy");
        }
        std::thread::sleep(Duration::from_millis(rng.below(100)));
        mounted.node.kill();
        let begin = Instant::now();
        clients.into_iter().for_each(|(client, role)| must_end(client, role, &context));
        let stuck = begin.elapsed();
        assert!(stuck < GONE_DEADLINE, "{context}: the last program ended {stuck:?} after the kill");
        mounted = mounted.start_again(&context);
    }
    for point in mounted.points() {
        fuse::must_hold(include_str!("tree.py"), &[point.text(), text(&manifest)]);
    }
}

/// Descriptors of the node beyond this many more than before are leaked, not cached.
const DESCRIPTORS_SLACK: usize = 64;

/// Readers are killed wherever they happen to be, also within a request.
fn must_survive_killed_readers(rung: &str) {
    let Some(mounted) = Mounted::start(rung) else { return };
    let seed = content::run_seed();
    let mut rng = Rng::new(seed);
    put_all(&mounted.node, &[60_000, 300_000, 24 << 20]);
    let mounted = mounted.restart();
    let held = metrics::held(&mounted.node);
    let fds = format!("/proc/{}/fd", mounted.node.pid());
    let descriptors = || fs::read_dir(&fds).expect("the node runs").count();
    let before = descriptors();
    for round in 0..30 {
        let point = mounted.points()[round % 2];
        let read =
            "while :; do dd if=\"$(ls -d \"$1\"/* | shuf -n1)\" of=/dev/null bs=1M status=none || exit; done";
        let mut reader = Client::spawn(Command::new("bash").args(["-c", read, "bash", text(&point.blobs())]));
        std::thread::sleep(Duration::from_millis(rng.below(120)));
        assert!(
            reader.kill_within(GONE_DEADLINE),
            "{rung} BASALT_TEST_SEED={seed}: a reader cannot be killed"
        );
    }
    for point in mounted.points() {
        let sums = fuse::tool("sh", &["-c", "sha256sum \"$1\"/*", "sh", text(&point.blobs())]);
        assert!(sums.lines().count() == 3 && sums.lines().all(|line| line.ends_with(&line[..64])), "{sums}");
    }
    let begin = Instant::now();
    while descriptors() > before + DESCRIPTORS_SLACK {
        assert!(begin.elapsed() < GONE_DEADLINE, "{rung}: {before} descriptors, then {}", descriptors());
        std::thread::sleep(Duration::from_millis(50));
    }
    metrics::must_come_down_to(held, &mounted.node, rung);
}

#[test]
fn killed_readers_leave_nothing() {
    ["auto", "uring", "clone", "thread"].into_iter().for_each(must_survive_killed_readers);
}

#[test]
fn kill_9_leaves_nothing_by_default() {
    must_survive_kills("auto");
}

#[test]
fn kill_9_leaves_nothing_by_passthrough() {
    must_survive_kills("passthrough");
}

#[test]
fn kill_9_leaves_nothing_by_uring() {
    must_survive_kills("uring");
}

#[test]
fn kill_9_leaves_nothing_by_cloned_descriptors() {
    must_survive_kills("clone");
}

#[test]
fn kill_9_leaves_nothing_by_a_thread() {
    must_survive_kills("thread");
}
