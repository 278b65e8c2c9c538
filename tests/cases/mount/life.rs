//! The life of a mount: TERM ends it whoever uses it, a stale one is cleaned away, and an open file outlives its name.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tests::content;
use tests::fuse::{self, Client, MountPoint, Mounted};
use tests::node::Setup;

use super::kills::{busy, must_end};
use super::{put, put_all, text};

const RUNGS: [&str; 4] = ["auto", "uring", "clone", "thread"];

#[test]
fn term_unmounts_and_exits_0_while_programs_use_the_mount() {
    for rung in RUNGS {
        let Some(mut mounted) = Mounted::start(rung) else { return };
        put_all(&mounted.node, &[0, 1000, 65_536, 9 << 20]);
        let mut clients = Vec::new();
        for (point, role) in
            mounted.points().into_iter().flat_map(|p| ["read", "list", "map"].map(|r| (p, r)))
        {
            clients.push((busy(point, role), role));
        }
        // One that only stands in it, so that it cannot be unmounted but lazily.
        let stander = format!("cd '{}' && echo in && sleep 60", text(&mounted.rw.blobs()));
        let mut stander = Client::spawn(Command::new("sh").args(["-c", &stander]));
        stander.must_say("in");
        for (client, _) in &mut clients {
            client.must_say("busy");
        }
        mounted.node.stop();
        mounted.points().iter().for_each(|point| point.must_become_free(rung));
        clients.into_iter().for_each(|(client, role)| must_end(client, role, rung));
        assert!(stander.kill_within(Duration::from_secs(5)));
        drop(mounted.start_again(rung));
    }
}

#[test]
fn each_kind_of_mount_works_alone() {
    if !fuse::or_skip() {
        return;
    }
    for flag in ["--mount", "--mount-ro"] {
        let point = MountPoint::new();
        let mut node = Setup::new().arg(flag).arg(point.text()).start();
        // Dropped before the node, so that a node that waits for itself is released.
        let point = point;
        point.must_be_mounted();
        let digest = put(&node, 1, 100_000);
        let said = fuse::tool("sha256sum", &[text(&point.blob(&digest))]);
        assert!(said.starts_with(fuse::name_of(&digest)), "{flag}: {said}");
        node.stop();
        point.must_become_free(flag);
    }
}

#[test]
fn an_idle_mounted_node_ends_at_once() {
    let Some(mut mounted) = Mounted::start("auto") else { return };
    let begin = Instant::now();
    mounted.node.stop();
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    mounted.points().iter().for_each(|point| assert!(point.table().is_empty()));
}

/// All processes of the node but its own: whatever has the mount in its command line or is a child of one that has.
fn helpers(mounted: &Mounted) -> Vec<u32> {
    let pids =
        || fs::read_dir("/proc").expect("/proc").filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok());
    let names_us = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(mounted.rw.text())
    };
    let parent = |pid: &u32| -> Option<u32> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
    };
    let mut ours: Vec<u32> = pids().filter(names_us).collect();
    ours.push(mounted.node.pid());
    let children: Vec<u32> = pids().filter(|pid| parent(pid).is_some_and(|p| ours.contains(&p))).collect();
    ours.extend(children);
    ours.sort_unstable();
    ours.dedup();
    ours.retain(|&pid| pid != mounted.node.pid() && pid != std::process::id());
    ours
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid as i32).expect("a process id");
    // It may just have ended.
    kill_process(pid, signal).ok();
}

#[test]
fn a_stale_mount_is_cleaned_away_at_start() {
    for rung in RUNGS {
        let Some(mut mounted) = Mounted::start(rung) else { return };
        let digest = put(&mounted.node, 1, 100_000);
        // Stopped first, so that it does not see its helper end.
        signal(mounted.node.pid(), Signal::STOP);
        let helpers = helpers(&mounted);
        assert!(!helpers.is_empty(), "nobody would unmount after kill -9");
        helpers.into_iter().for_each(|pid| signal(pid, Signal::KILL));
        mounted.node.kill();
        std::thread::sleep(Duration::from_millis(300));
        for point in mounted.points() {
            assert_eq!(point.table().len(), 1, "somebody has unmounted it: this test shows nothing");
            let finished = fuse::run(Command::new("stat").arg(point.blobs()));
            assert!(finished.stderr.contains("not connected"), "{}", finished.stderr);
        }
        let Mounted { rw, ro, node } = mounted;
        let node = node.start_again();
        for point in [&rw, &ro] {
            point.must_be_mounted();
            let said = fuse::tool("sha256sum", &[text(&point.blob(&digest))]);
            assert!(said.starts_with(fuse::name_of(&digest)), "{said}");
        }
        drop((rw, ro, node));
    }
}

#[test]
fn a_reader_goes_on_after_delete() {
    for rung in RUNGS {
        let Some(mounted) = Mounted::start(rung) else { return };
        let digests = [5_000, 60_000, 65_536, 9 << 20].map(|size| put(&mounted.node, size as u64, size));
        // Nothing of it may be left in RAM.
        let mounted = mounted.restart();
        let go = mounted.node.setup.path("go");
        let paths: Vec<_> = digests.iter().map(|digest| mounted.rw.blob(digest)).collect();
        let paths = paths.iter().map(|path| text(path));
        let args: Vec<&str> = [text(&go), "must"].into_iter().chain(paths).collect();
        let mut holder = Client::spawn(&mut fuse::python(include_str!("hold.py"), &args));
        holder.must_say("open");
        digests.iter().for_each(|digest| assert_eq!(mounted.node.client().delete(digest), 204));
        // What is stored next must not come up in its place.
        for seed in 100..110 {
            mounted.node.client().put(&content::bytes(seed, 1 << 20));
        }
        fs::write(&go, "").expect("written");
        let finished = holder.finish(Duration::from_secs(30));
        assert_eq!(finished.code, 0, "{rung}: {}", finished.stderr);
    }
}
