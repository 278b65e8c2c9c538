//! A column that stands: for good, and nobody who uses a mount hangs; for a while, and nobody loses anything.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tests::fuse::{self, Client, GONE_DEADLINE, MountPoint, Mounted};

use super::kills::{busy, must_end};
use super::{put_all, text};

/// Silence after which a column is taken for dead, and what the watchdog may take to see it and to act.
const SILENCE: Duration = Duration::from_secs(60);
const SLACK: Duration = Duration::from_secs(10);
/// Shorter than the deadline of a request.
const A_WHILE: Duration = Duration::from_secs(20);
const SIZES: [usize; 8] = [0, 3000, 4096, 65_536, 65_537, 300_000, 5 << 20, 12 << 20];
const ROLES: [&str; 3] = ["read", "list", "map"];

/// The thread of a column, to be stopped by `stand.py`.
pub fn thread_of(pid: u32, column: usize) -> String {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the node runs");
    let is_it = |task: &PathBuf| {
        fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == format!("column-{column}"))
    };
    let task = tasks.map(|task| task.expect("/proc").path()).find(is_it).expect("its thread");
    task.file_name().and_then(|name| name.to_str()).expect("a number").to_owned()
}

/// Stops it until `go` is there.
pub fn stand(thread: &str, go: &str) -> Client {
    let mut stander = Client::spawn(&mut fuse::python(include_str!("stand.py"), &[thread, go]));
    stander.must_say("stopped");
    stander
}

/// Programs that use both mounts in every way.
fn busy_all(mounted: &Mounted) -> Vec<(Client, &'static str)> {
    let start = |point: &MountPoint| ROLES.map(|role| (busy(point, role), role));
    let mut clients: Vec<_> = mounted.points().into_iter().flat_map(start).collect();
    clients.iter_mut().for_each(|(client, _)| client.must_say("busy"));
    clients
}

/// The last of two columns stands for good.
fn must_end_with_a_dead_column(rung: &str) {
    let Some(mounted) = Mounted::start(rung) else { return };
    let (_, manifest) = put_all(&mounted.node, &SIZES);
    let mut mounted = mounted.restart();
    let mut clients = busy_all(&mounted);
    let never = mounted.node.setup.path("never");
    let stander = stand(&thread_of(mounted.node.pid(), 1), text(&never));
    let begin = Instant::now();
    // Who comes when it stands already, with nothing in the kernel's cache.
    clients.extend(mounted.points().map(|point| (busy(point, "read"), "late")));
    for (client, role) in clients {
        let left = (SILENCE + SLACK).saturating_sub(begin.elapsed());
        let finished = client.finish(left.max(Duration::from_millis(1)));
        let is_right = finished.code == 0 || (role == "map" && finished.code == -1);
        assert!(is_right, "{rung}: {role} ended with {}: {}", finished.code, finished.stderr);
    }
    eprintln!("{rung}: the last reader ended {:?} after the column stood", begin.elapsed());
    let status = mounted.node.wait(SLACK).expect("the node ends");
    assert_eq!(status.code(), Some(1), "{}", mounted.node.stderr());
    assert!(begin.elapsed() > SILENCE / 2, "it was not the watchdog that ended it");
    let log = mounted.node.stderr();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("does not run any more")).collect();
    assert!(lines.len() == 1 && lines[0].contains("column=1"), "{log}");
    drop(stander);
    let mounted = mounted.start_again(rung);
    for point in mounted.points() {
        fuse::must_hold(include_str!("tree.py"), &[point.text(), text(&manifest)]);
    }
}

/// Side by side: each waits a minute for the watchdog.
#[test]
fn a_dead_column_ends_the_mounts_and_the_node_whatever_the_rung() {
    std::thread::scope(|scope| {
        for rung in ["uring", "clone", "thread"] {
            scope.spawn(move || must_end_with_a_dead_column(rung));
        }
    });
}

/// Whoever waited goes on; nobody was told anything.
fn must_go_on(mut mounted: Mounted, clients: Vec<(Client, &'static str)>, context: &str) {
    std::thread::sleep(Duration::from_secs(3));
    for (mut client, role) in clients {
        assert!(!client.has_ended(), "{context}: {role} ended: {}", client.stdout());
        assert!(client.kill_within(GONE_DEADLINE), "{context}: {role} cannot be killed");
    }
    mounted.points().iter().for_each(|point| point.must_be_mounted());
    let after: Vec<_> = mounted.points().into_iter().map(|point| busy(point, "read")).collect();
    let after = after.into_iter().map(|mut client| {
        client.must_say("busy");
        client
    });
    let after: Vec<_> = after.collect();
    mounted.node.stop();
    after.into_iter().for_each(|client| must_end(client, "read", context));
}

#[test]
fn a_column_that_stands_for_a_while_costs_nobody_anything() {
    for rung in ["uring", "clone", "thread"] {
        let Some(mounted) = Mounted::start(rung) else { return };
        put_all(&mounted.node, &SIZES);
        let mounted = mounted.restart();
        let clients = busy_all(&mounted);
        let go = mounted.node.setup.path("go");
        let mut stander = stand(&thread_of(mounted.node.pid(), 1), text(&go));
        std::thread::sleep(A_WHILE);
        fs::write(&go, "").expect("written");
        stander.must_say("goes on");
        must_go_on(mounted, clients, rung);
    }
}

#[test]
fn a_node_that_was_stopped_for_longer_than_the_watchdog_waits_goes_on() {
    let Some(mounted) = Mounted::start("auto") else { return };
    put_all(&mounted.node, &SIZES);
    let pid = Pid::from_raw(mounted.node.pid() as i32).expect("a process id");
    kill_process(pid, Signal::STOP).expect("our child");
    std::thread::sleep(SILENCE + SLACK / 2);
    kill_process(pid, Signal::CONT).expect("our child");
    std::thread::sleep(Duration::from_secs(3));
    let clients = busy_all(&mounted);
    must_go_on(mounted, clients, "stopped and continued");
}
