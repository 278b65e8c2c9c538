//! The blobs as files: a node that is mounted, and programs that use the mount, of which none can hold up a test.
//!
//! A test never touches a mounted path by a system call of its own: a daemon that does not answer would hold its thread for
//! good. It asks a child process, whose output goes to files and which is never waited for without a deadline. What is
//! mounted is aborted and unmounted when dropped, before the node is killed, so that whoever still waits is released.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::command::{self, Finished};
use crate::content::Digest;
use crate::node::{Node, Setup, fresh_dir};
use crate::skip;

/// Within this time a client of a mount that is gone must have ended, and the mount must be.
pub const GONE_DEADLINE: Duration = Duration::from_secs(5);

/// How long it may take to come to where it says something, beside all others that this machine runs. No promise of the node's.
const SAY_DEADLINE: Duration = Duration::from_secs(60);

/// How long a program that uses a mount may take, unless told otherwise.
const CLIENT_DEADLINE: Duration = Duration::from_secs(60);

/// Mounts stacked on one directory that are taken away when it is dropped.
const STACKED_MAX: usize = 8;

/// Lets kernels use FUSE over io_uring.
const ENABLE_URING: &str = "/sys/module/fuse/parameters/enable_uring";

/// The switch of FUSE over io_uring, which is one for the whole machine, held by a lock that all processes heed that turn it: shared
/// by those who need it on.
fn hold_switch(how: FlockOperation) -> File {
    let switch = File::open(ENABLE_URING).expect("the fuse module is there");
    flock(&switch, how).expect("it can be locked");
    switch
}

fn switch(value: &str) -> io::Result<()> {
    fs::write(ENABLE_URING, value)
}

/// Switches FUSE over io_uring on, if that is possible: nobody switches it off until this is dropped. Tests of other crates put it
/// back when they end.
pub fn keep_switched_on() -> Option<File> {
    let held = Path::new(ENABLE_URING).exists().then(|| hold_switch(FlockOperation::LockShared));
    // Who may not has been told so by `or_skip`.
    let _ = switch("Y");
    held
}

/// Runs something while FUSE over io_uring is switched off; no node is started by [`Setup::start`] meanwhile.
pub fn switched_off<T>(run: impl FnOnce() -> T) -> T {
    struct On(#[expect(dead_code, reason = "held until it is on")] File);
    impl Drop for On {
        fn drop(&mut self) {
            switch("Y").expect("it could be switched off");
        }
    }
    let _on = On(hold_switch(FlockOperation::LockExclusive));
    switch("N").expect("or_skip has said that it can be");
    run()
}

/// Whether mounts can be tested here; if not, the test fails unless it was told to skip `fuse`. Switches FUSE over io_uring on.
pub fn or_skip() -> bool {
    if let Err(error) = File::options().read(true).write(true).open("/dev/fuse") {
        return !skip::told_to_skip("fuse", &format!("/dev/fuse: {error}"));
    }
    if !rustix::process::geteuid().is_root() {
        return !skip::told_to_skip("fuse", "mounting needs root");
    }
    let _held = keep_switched_on();
    match switch("Y") {
        Ok(()) => true,
        Err(error) => !skip::told_to_skip("fuse", &format!("{ENABLE_URING}: {error}")),
    }
}

/// A directory to mount on. Dropping it aborts and unmounts what is mounted there.
#[derive(Debug)]
pub struct MountPoint {
    /// Where it is.
    pub path: PathBuf,
}

impl Default for MountPoint {
    fn default() -> Self {
        Self::new()
    }
}

impl MountPoint {
    /// An empty directory that everybody may enter. It is outside of any directory that is removed with all it holds.
    pub fn new() -> Self {
        let path = fresh_dir().keep();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own directory");
        Self { path }
    }

    /// Its path as an argument.
    pub fn text(&self) -> &str {
        self.path.to_str().expect("UTF-8")
    }

    /// Where a blob is shown.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(name_of(digest))
    }

    /// The directory of the blobs.
    pub fn blobs(&self) -> PathBuf {
        self.path.join("by-digest/sha256")
    }

    /// The lines of the kernel's table for this directory.
    pub fn table(&self) -> Vec<String> {
        let table = fs::read_to_string("/proc/self/mountinfo").expect("/proc");
        let is_ours = |line: &&str| line.split(' ').nth(4) == Some(self.text());
        table.lines().filter(is_ours).map(str::to_owned).collect()
    }

    /// Panics unless one file system of ours is mounted here.
    pub fn must_be_mounted(&self) {
        let table = self.table();
        assert!(table.len() == 1 && table[0].contains(" - fuse"), "{}: {table:?}", self.text());
    }

    /// Panics unless nothing is mounted here within the deadline.
    pub fn must_become_free(&self, context: &str) {
        let begin = Instant::now();
        while !self.table().is_empty() {
            let waited = begin.elapsed();
            assert!(waited < GONE_DEADLINE, "{context}: still mounted after {waited:?}: {:?}", self.table());
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for MountPoint {
    fn drop(&mut self) {
        for _ in 0..STACKED_MAX {
            // FORCE aborts the connection, so that nobody waits for a daemon any more, and does not ask it anything.
            if unmount(&self.path, UnmountFlags::FORCE | UnmountFlags::DETACH).is_err() {
                break;
            }
        }
        // Only a directory that is empty and free: never what a mount shows.
        if let Err(error) = fs::remove_dir(&self.path) {
            eprintln!("{} stays: {error}", self.text());
        }
    }
}

/// The file name of a blob.
pub fn name_of(digest: &Digest) -> &str {
    digest.0.strip_prefix("sha256:").expect("a digest")
}

/// A node with both kinds of mount. The fields are dropped in this order.
#[derive(Debug)]
pub struct Mounted {
    /// `--mount`.
    pub rw: MountPoint,
    /// `--mount-ro`.
    pub ro: MountPoint,
    /// What serves them.
    pub node: Node,
}

impl Mounted {
    /// Starts a node with two mounts by `--fuse-rung`; `None` where the test is to be skipped.
    pub fn start(rung: &str) -> Option<Self> {
        Self::start_as(Setup::new(), rung)
    }

    /// The same with a setup of the test's own.
    pub fn start_as(setup: Setup, rung: &str) -> Option<Self> {
        or_skip().then(|| Self::start_by(setup, rung, Setup::start))
    }

    /// The same while FUSE over io_uring is switched off.
    pub fn start_switched_off(rung: &str) -> Option<Self> {
        or_skip().then(|| switched_off(|| Self::start_by(Setup::new(), rung, Setup::start_now)))
    }

    fn start_by(setup: Setup, rung: &str, start: impl FnOnce(&Setup) -> Node) -> Self {
        let (rw, ro) = (MountPoint::new(), MountPoint::new());
        let setup = setup.arg("--mount").arg(rw.text()).arg("--mount-ro").arg(ro.text());
        let node = start(&setup.arg("--fuse-rung").arg(rung));
        let mounted = Self { rw, ro, node };
        mounted.must_be_mounted();
        mounted
    }

    /// Stops by TERM and starts again in the same place.
    pub fn restart(mut self) -> Self {
        self.node.stop();
        self.start_again("TERM")
    }

    /// Starts again after the node has ended.
    pub fn start_again(self, context: &str) -> Self {
        self.points().iter().for_each(|point| point.must_become_free(context));
        let Self { rw, ro, node } = self;
        let mounted = Self { rw, ro, node: node.start_again() };
        mounted.must_be_mounted();
        mounted
    }

    /// Both mounts.
    pub fn points(&self) -> [&MountPoint; 2] {
        [&self.rw, &self.ro]
    }

    fn must_be_mounted(&self) {
        self.points().iter().for_each(|point| point.must_be_mounted());
    }
}

/// A program that uses a mount. Dropping it kills it, and all that it started.
#[derive(Debug)]
pub struct Client {
    what: String,
    child: Child,
    stdout: File,
    stderr: File,
}

impl Client {
    /// Starts `command` with nothing on its standard input, in a process group of its own.
    pub fn spawn(command: &mut Command) -> Self {
        let file = || tempfile::tempfile_in("/var/tmp").expect("a file");
        let (stdout, stderr) = (file(), file());
        let twin = |file: &File| Stdio::from(file.try_clone().expect("a descriptor"));
        let mut what = format!("{command:?}");
        what.truncate(what.floor_char_boundary(200));
        let child = command
            .stdin(Stdio::null())
            .stdout(twin(&stdout))
            .stderr(twin(&stderr))
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        Self { what, child, stdout, stderr }
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&all_of(&self.stdout)).into_owned()
    }

    /// Waits until its standard output has this line.
    pub fn must_say(&mut self, line: &str) {
        let begin = Instant::now();
        while !self.stdout().lines().any(|said| said == line) {
            let waited = begin.elapsed();
            let has_ended = self.child.try_wait().expect("our child").is_some();
            assert!(!has_ended || self.stdout().contains(line), "{} ended: {}", self.what, self.said());
            assert!(waited < SAY_DEADLINE, "{}: no {line:?} in {waited:?}: {}", self.what, self.said());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("our child").is_some()
    }

    /// Waits for its end. Past the deadline it is killed, and the test fails either way.
    pub fn finish(mut self, deadline: Duration) -> Finished {
        let Some(status) = command::wait(&mut self.child, deadline) else {
            let is_killed = self.kill_within(GONE_DEADLINE);
            let how = if is_killed { "killed" } else { "and CANNOT BE KILLED" };
            panic!("{}: not done in {deadline:?}, {how}: {}", self.what, self.said());
        };
        let stderr = String::from_utf8_lossy(&all_of(&self.stderr)).into_owned();
        Finished { code: status.code().unwrap_or(-1), stdout: all_of(&self.stdout), stderr }
    }

    /// Sends KILL to it and all that it started; whether it ended in time.
    pub fn kill_within(&mut self, deadline: Duration) -> bool {
        self.signal(Signal::KILL);
        command::wait(&mut self.child, deadline).is_some()
    }

    fn signal(&self, signal: Signal) {
        let group = Pid::from_raw(self.child.id() as i32).expect("a process id");
        // It may have ended, all of it.
        kill_process_group(group, signal).ok();
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&all_of(&self.stderr)).into_owned()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if !self.has_ended() && !self.kill_within(GONE_DEADLINE) {
            eprintln!("{} cannot be killed", self.what);
        }
    }
}

/// The whole of a file that a child writes to: opened anew, as it shares our descriptor's offset.
fn all_of(file: &File) -> Vec<u8> {
    fs::read(format!("/proc/self/fd/{}", file.as_raw_fd())).expect("our own file")
}

/// Runs a program that uses a mount to its end.
pub fn run(command: &mut Command) -> Finished {
    Client::spawn(command).finish(CLIENT_DEADLINE)
}

/// Runs a program with these arguments; it must end with 0.
pub fn tool(program: &str, args: &[&str]) -> String {
    let finished = run(Command::new(program).args(args));
    assert_eq!(finished.code, 0, "{program} {args:.200?}: {}", finished.stderr);
    finished.text()
}

/// A Python program, given as text, with its arguments.
pub fn python(script: &str, args: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.args(["-c", script]).args(args);
    command
}

/// Runs a Python program that uses a mount and checks what it sees by itself: it must end with 0.
pub fn must_hold(script: &str, args: &[&str]) -> String {
    let finished = run(&mut python(script, args));
    assert_eq!(finished.code, 0, "{args:?}: {}{}", finished.text(), finished.stderr);
    finished.text()
}

/// The Python that has what `tests/requirements.txt` names; `None` where it was not to be installed.
pub fn python_with_packages_or_skip() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/venv/bin/python3");
    if !path.exists() {
        let why = format!("{} is missing: tests/install makes it", path.display());
        skip::told_to_skip("python-packages", &why);
        return None;
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_hangs_is_killed_with_all_it_started() {
        let mut client =
            Client::spawn(Command::new("sh").args(["-c", "sleep 600 & echo $!; echo begun; wait"]));
        client.must_say("begun");
        assert!(!client.has_ended());
        let said = client.stdout();
        let proc = Path::new("/proc").join(said.lines().next().expect("a process id"));
        assert!(proc.exists());
        assert!(client.kill_within(GONE_DEADLINE));
        let begin = Instant::now();
        // An orphan that nobody waits for may stay as a zombie.
        let runs = || fs::read_to_string(proc.join("stat")).is_ok_and(|stat| !stat.contains(") Z "));
        while runs() {
            assert!(begin.elapsed() < GONE_DEADLINE, "what it started still runs");
            thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn what_is_mounted_on_a_mount_point_goes_with_it() {
        let point = MountPoint::new();
        let path = point.path.clone();
        tool("mount", &["-t", "tmpfs", "none", point.text()]);
        assert_eq!(point.table().len(), 1);
        drop(point);
        assert!(!path.exists(), "it is not removed while mounted");
    }
}
