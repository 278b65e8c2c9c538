//! The daemon as a user without privileges: mounted by `fusermount3`, on the transports that it may use, gone after TERM and
//! after kill -9.
//!
//! In a name space of mounts of its own, where `/dev/fuse` is open to users, as it is on most machines. Whoever is to see these
//! mounts has to be let in: by `nsenter`, and as the same user.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use tests::fuse::{self, Client, GONE_DEADLINE, MountPoint};
use tests::node::{Node, Setup};

use super::kills::must_end;
use super::stuck::{stand, thread_of};
use super::{put_all, text};

/// Somebody, without privileges.
const NOBODY: u32 = 65534;
const AS_NOBODY: [&str; 6] =
    ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--"];

/// `$1`: a directory of that user; then the program and its arguments. The program is copied: where it lies only root may look.
const BY_NOBODY: &str = r#"home=$1 program=$2; shift 2
[ -e "$home/device" ] || mknod -m 666 "$home/device" c 10 229
mount --bind "$home/device" /dev/fuse
[ -e "$home/program" ] || cp "$program" "$home/program"
exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all -- "$home/program" "$@""#;

const SIZES: [usize; 6] = [0, 1000, 65_536, 65_537, 300_000, 12 << 20];

/// A node of that user, and a process that keeps the name space when it is gone.
struct OfNobody {
    node: Node,
    holder: Client,
    holder_pid: String,
    rw: MountPoint,
    ro: MountPoint,
}

fn point_of_nobody() -> MountPoint {
    let point = MountPoint::new();
    std::os::unix::fs::chown(&point.path, Some(NOBODY), Some(NOBODY)).expect("our own directory");
    point
}

/// What a node of that user is started as, without its rung.
fn setup(rw: &MountPoint, ro: &MountPoint) -> Setup {
    let setup = Setup::new();
    let inside = setup.path("x");
    let home = inside.parent().expect("it has one");
    std::os::unix::fs::chown(home, Some(NOBODY), Some(NOBODY)).expect("our own directory");
    let home = text(home).to_owned();
    let setup = setup.by(&["unshare", "--mount", "sh", "-ec", BY_NOBODY, "sh", &home]);
    setup.arg("--mount").arg(rw.text()).arg("--mount-ro").arg(ro.text())
}

impl OfNobody {
    fn start(rung: &str) -> Option<Self> {
        if !fuse::or_skip() {
            return None;
        }
        let (rw, ro) = (point_of_nobody(), point_of_nobody());
        let node = setup(&rw, &ro).arg("--fuse-rung").arg(rung).start();
        Some(Self::hold(node, rw, ro))
    }

    fn hold(node: Node, rw: MountPoint, ro: MountPoint) -> Self {
        let of_node = format!("--mount=/proc/{}/ns/mnt", node.pid());
        let mut holder = Client::spawn(Command::new("nsenter").args([
            &of_node,
            "sh",
            "-c",
            "echo $$; echo in; exec sleep 600",
        ]));
        holder.must_say("in");
        let holder_pid = holder.stdout().lines().next().expect("its process id").to_owned();
        let mounted = Self { node, holder, holder_pid, rw, ro };
        for point in [&mounted.rw, &mounted.ro] {
            let table = mounted.table(point);
            let is_right =
                table.len() == 1 && table[0].contains("fuse.basalt") && table[0].contains("user_id=65534");
            assert!(is_right, "{}: {table:?}", point.text());
            assert!(point.table().is_empty(), "it is seen outside: this test shows nothing");
        }
        mounted
    }

    /// The lines of the kernel's table, as the name space has them.
    fn table(&self, point: &MountPoint) -> Vec<String> {
        let table = fs::read_to_string(format!("/proc/{}/mountinfo", self.holder_pid)).expect("it is held");
        let is_of_point = |line: &&str| line.split(' ').nth(4) == Some(point.text());
        table.lines().filter(is_of_point).map(str::to_owned).collect()
    }

    fn must_become_free(&self, context: &str) {
        let begin = Instant::now();
        while [&self.rw, &self.ro].iter().any(|point| !self.table(point).is_empty()) {
            assert!(
                begin.elapsed() < GONE_DEADLINE,
                "{context}: {:?} {:?}",
                self.table(&self.rw),
                self.table(&self.ro)
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn start_again(self, context: &str) -> Self {
        self.must_become_free(context);
        let Self { node, mut holder, rw, ro, .. } = self;
        assert!(holder.kill_within(GONE_DEADLINE));
        Self::hold(node.start_again(), rw, ro)
    }

    /// A command of that user among these mounts.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.holder_pid)).args(AS_NOBODY).args(words);
        // Root's own tools are not for everybody.
        command.env("PATH", "/usr/bin:/bin");
        command
    }

    fn busy(&self, point: &MountPoint, role: &str) -> Client {
        let tree = point.blobs();
        let words = ["python3", "-c", include_str!("busy.py"), role, text(&tree)];
        Client::spawn(&mut self.command(&words))
    }

    /// Both mounts, used in every way.
    fn busy_all(&self) -> Vec<(Client, &'static str)> {
        let start = |point| ["read", "list", "map"].map(|role| (self.busy(point, role), role));
        let mut clients: Vec<_> = [&self.rw, &self.ro].into_iter().flat_map(start).collect();
        clients.iter_mut().for_each(|(client, _)| client.must_say("busy"));
        clients
    }

    /// Every blob, with the bytes that its name says; and nobody else sees any.
    fn must_be_read(&self) {
        for point in [&self.rw, &self.ro] {
            let tree = point.blobs();
            let sums = ["sh", "-c", "cd \"$1\" && sha256sum *", "sh", text(&tree)];
            let said = fuse::run(&mut self.command(&sums)).must_succeed().text();
            assert_eq!(said.lines().count(), SIZES.len(), "{said}");
            assert!(said.lines().all(|line| line.ends_with(&line[..64])), "wrong bytes: {said}");
            let of_holder = format!("--mount=/proc/{}/ns/mnt", self.holder_pid);
            let by_root = fuse::run(Command::new("nsenter").args([&of_holder, "ls", point.text()]));
            assert!(by_root.code != 0 && by_root.stderr.contains("Permission denied"), "{}", by_root.stderr);
        }
    }
}

fn must_be_served(rung: &str) {
    let Some(mut mounted) = OfNobody::start(rung) else { return };
    let log = mounted.node.stderr();
    assert!(
        !log.contains("passthrough=true"),
        "files are given to the kernel by whom it takes none from: {log}"
    );
    assert_eq!(
        log.contains("passthrough of ") && log.contains("needs CAP_SYS_ADMIN"),
        rung == "auto",
        "{log}"
    );
    put_all(&mounted.node, &SIZES);
    mounted.must_be_read();
    let clients = mounted.busy_all();
    mounted.node.stop();
    mounted.must_become_free(rung);
    clients.into_iter().for_each(|(client, role)| must_end(client, role, rung));
    for round in 0..5 {
        mounted = mounted.start_again(rung);
        let clients = mounted.busy_all();
        mounted.node.kill();
        let context = format!("{rung}, kill {round}");
        clients.into_iter().for_each(|(client, role)| must_end(client, role, &context));
        mounted.must_become_free(&context);
    }
    mounted = mounted.start_again(rung);
    mounted.must_be_read();
}

#[test]
fn a_user_is_served_by_default_and_told_that_nothing_is_passed_through() {
    must_be_served("auto");
}

#[test]
fn a_user_is_served_by_uring() {
    must_be_served("uring");
}

#[test]
fn a_user_is_served_by_cloned_descriptors() {
    must_be_served("clone");
}

#[test]
fn a_user_is_served_by_a_thread() {
    must_be_served("thread");
}

#[test]
fn a_user_who_insists_on_passthrough_is_refused() {
    if !fuse::or_skip() {
        return;
    }
    let (rw, ro) = (point_of_nobody(), point_of_nobody());
    let refused = setup(&rw, &ro).arg("--fuse-rung").arg("passthrough").run_refused();
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(refused.stderr.contains("CAP_SYS_ADMIN"), "{}", refused.stderr);
}

/// Who is not root may not abort: the end of the node has to do.
#[test]
fn a_dead_column_of_a_user_ends_the_mounts_and_the_node() {
    let Some(mut mounted) = OfNobody::start("clone") else { return };
    put_all(&mounted.node, &SIZES);
    let clients = mounted.busy_all();
    let never = mounted.node.setup.path("never");
    let begin = Instant::now();
    let _stander = stand(&thread_of(mounted.node.pid(), 1), text(&never));
    for (client, role) in clients {
        let left = Duration::from_secs(70).saturating_sub(begin.elapsed());
        let finished = client.finish(left.max(Duration::from_millis(1)));
        assert!(finished.code == 0 || (role == "map" && finished.code == -1), "{role}: {}", finished.stderr);
    }
    let status = mounted.node.wait(Duration::from_secs(10)).expect("the node ends");
    assert_eq!(status.code(), Some(1), "{}", mounted.node.stderr());
    mounted.must_become_free("a dead column");
}
