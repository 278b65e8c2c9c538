//! A connection that ends while the node goes on: unmounted by somebody else, or its device cannot be read any more.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tests::command::Finished;
use tests::fuse::{self, Client, GONE_DEADLINE, MountPoint, Mounted};

use super::kills::{busy, must_end};
use super::metrics::remembered;
use super::{put_all, text};

const RUNGS: [&str; 3] = ["uring", "clone", "thread"];
/// An error of every read of a device lasts so long, and passes.
const TROUBLE: Duration = Duration::from_secs(2);
/// What the kernel believes of a directory that it listed before.
const BELIEVED: Duration = Duration::from_secs(5);
/// Descriptors of a node that serves something else beside.
const DESCRIPTORS_SLACK: usize = 8;

fn within_deadline(what: &str, mut is_so: impl FnMut() -> Result<(), String>) {
    let begin = Instant::now();
    while let Err(why) = is_so() {
        assert!(begin.elapsed() < GONE_DEADLINE, "{what}: {why}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// What a node knows of its mounts goes when somebody else unmounts them.
fn must_forget_all(rung: &str) {
    let Some(mounted) = Mounted::start(rung) else { return };
    let (_, manifest) = put_all(&mounted.node, &[0, 5000, 65_536, 300_000, 5 << 20]);
    let fds = format!("/proc/{}/fd", mounted.node.pid());
    let descriptors = || fs::read_dir(&fds).expect("the node runs").count();
    let (before, knew) = (descriptors(), remembered(&mounted.node));
    // Again where another test drops what the kernel remembers.
    within_deadline(rung, || {
        for point in mounted.points() {
            fuse::must_hold(include_str!("tree.py"), &[point.text(), text(&manifest)]);
        }
        let knows = remembered(&mounted.node);
        if knows > knew {
            Ok(())
        } else {
            Err(format!("{knows} of what was read is remembered, {knew} before"))
        }
    });
    for point in mounted.points() {
        fuse::tool("umount", &["-l", point.text()]);
    }
    within_deadline(rung, || match (remembered(&mounted.node), descriptors()) {
        (known, open) if known > 0.0 || open > before + DESCRIPTORS_SLACK => {
            Err(format!("{known} nodes, {open} descriptors, {before} before"))
        }
        _ => Ok(()),
    });
}

#[test]
fn what_is_known_of_a_mount_goes_with_it() {
    RUNGS.into_iter().for_each(must_forget_all);
}

/// Every read of a device gives this error until it is stopped.
struct Trouble {
    strace: Child,
}

impl Trouble {
    fn begin(mounted: &Mounted, errno: &str) -> Trouble {
        let (pid, log) = (mounted.node.pid().to_string(), mounted.node.setup.path("strace"));
        let inject = format!("inject=read:error={errno}");
        let mut strace = Command::new("strace");
        strace.args([
            "-f",
            "-e",
            "trace=read",
            "-P",
            "/dev/fuse",
            "-e",
            &inject,
            "-o",
            text(&log),
            "-p",
            &pid,
        ]);
        let strace = strace.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("strace");
        within_deadline("strace", || match fs::read_to_string(&log) {
            Ok(said) if said.contains("INJECTED") => Ok(()),
            _ => {
                let_be_read(mounted);
                Err("it injects nothing".into())
            }
        });
        Trouble { strace }
    }
}

/// Makes the kernel write to the devices, also those that only FORGETs come by.
fn let_be_read(mounted: &Mounted) {
    let look = "stat \"$1\"/* >/dev/null & echo 2 >/proc/sys/vm/drop_caches; wait";
    for point in mounted.points() {
        drop(Client::spawn(Command::new("sh").args(["-c", look, "sh", text(&point.blobs())])));
    }
}

fn lost_lines(mounted: &Mounted) -> usize {
    mounted.node.stderr().lines().filter(|line| line.contains("served any more")).count()
}

impl Drop for Trouble {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.strace);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("our child");
        self.strace.wait().expect("our child");
    }
}

fn busy_reader(point: &MountPoint) -> Client {
    let mut client = busy(point, "read");
    client.must_say("busy");
    client
}

#[test]
fn an_error_of_the_device_that_passes_costs_nobody_anything() {
    for rung in RUNGS {
        let Some(mounted) = Mounted::start(rung) else { return };
        put_all(&mounted.node, &[5000, 300_000]);
        let mut client = busy_reader(&mounted.rw);
        let trouble = Trouble::begin(&mounted, "ENOMEM");
        thread::sleep(TROUBLE);
        drop(trouble);
        drop(busy_reader(&mounted.rw));
        assert!(!client.has_ended(), "{rung}: {}", client.stdout());
        assert_eq!(lost_lines(&mounted), 0, "{rung}: {}", mounted.node.stderr());
    }
}

fn ls(point: &MountPoint) -> Finished {
    Client::spawn(Command::new("ls").arg(&point.path)).finish(GONE_DEADLINE)
}

/// Who comes late is told at once, unless the kernel still believes what it listed before.
fn must_be_over(point: &MountPoint, rung: &str) {
    let begin = Instant::now();
    loop {
        let late = ls(point);
        if late.code != 0 || late.text().is_empty() {
            return;
        }
        assert!(begin.elapsed() < BELIEVED + GONE_DEADLINE, "{rung}: {}", late.text());
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_device_that_cannot_be_read_ends_its_mount_and_nobody_hangs() {
    for rung in RUNGS {
        let Some(mut mounted) = Mounted::start(rung) else { return };
        let (blobs, _) = put_all(&mounted.node, &[5000, 300_000]);
        let clients = mounted.points().map(busy_reader);
        mounted.points().into_iter().for_each(|point| assert_eq!(ls(point).text(), "by-digest\n"));
        let trouble = Trouble::begin(&mounted, "EIO");
        within_deadline(rung, || {
            let_be_read(&mounted);
            let lines = lost_lines(&mounted);
            if lines >= 2 { Ok(()) } else { Err(format!("{lines} lines: {}", mounted.node.stderr())) }
        });
        clients.into_iter().for_each(|client| must_end(client, "read", rung));
        drop(trouble);
        mounted.points().into_iter().for_each(|point| must_be_over(point, rung));
        assert_eq!(lost_lines(&mounted), 2, "{rung}: one of each mount: {}", mounted.node.stderr());
        for (digest, size) in blobs {
            assert_eq!(mounted.node.client().get(&digest).len(), size, "{rung}: the node goes on");
        }
        mounted.node.stop();
    }
}
