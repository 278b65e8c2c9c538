//! Who waits for an origin that hangs can be killed, wherever the request is: with us, or delivered and not looked at yet; and keeps
//! nobody out who uses the same CPU.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use tests::content::{self, Digest};
use tests::fuse::{self, Client, GONE_DEADLINE, Mounted, name_of};
use tests::node::cpus;
use tests::origin::{Fault, Object, Origin};

use super::origins::fetch;
use super::stuck::{stand, thread_of};
use super::{put, text};

/// Fewer than may wait for a column of the thread's, with their INTERRUPTs.
const FEW: usize = 24;
/// Several times what one CPU's ring holds.
const MANY: usize = 64;
/// Until requests and INTERRUPTs are where they wait for the column that stands.
const DELIVERED: Duration = Duration::from_millis(700);
/// Others on a CPU whose ring is full are answered in time, on machines that have time.
const KEPT_OUT_DEADLINE: Duration = Duration::from_secs(15);

/// Processes that look up a blob that its origin does not bring.
struct Waiting {
    client: Client,
    flags: [PathBuf; 3],
    _origin: Origin,
}

impl Waiting {
    fn ready(mounted: &Mounted, count: usize, cpus: &[u32]) -> Waiting {
        let (origin, body) = (Origin::start(), content::bytes(9, 100_000));
        let digest = Digest::of(&body);
        origin.put("/hangs", Object::new(body).fault(Fault::Silent(Duration::from_secs(300)), u32::MAX));
        let (addr, url, ordered) = (mounted.node.setup.blob, origin.url("/hangs"), digest.clone());
        // Ends with the node.
        thread::spawn(move || fetch(addr, &url, &ordered));
        let begin = Instant::now();
        while origin.total("/hangs") < 1 {
            assert!(begin.elapsed() < GONE_DEADLINE, "the origin is not asked");
            thread::sleep(Duration::from_millis(5));
        }
        let flags = ["go", "kill", "check"].map(|name| mounted.node.setup.path(name));
        let cpus = cpus.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let (path, seconds) = (mounted.ro.blob(&digest), GONE_DEADLINE.as_secs().to_string());
        let [go, kill, check] = flags.each_ref().map(|path| text(path));
        let args = [text(&path), go, kill, check, &seconds, &count.to_string(), &cpus];
        let mut client = Client::spawn(&mut fuse::python(include_str!("waiting.py"), &args));
        client.must_say("ready");
        Waiting { client, flags, _origin: origin }
    }

    fn go(&mut self) {
        fs::write(&self.flags[0], "").expect("written");
        self.client.must_say("waiting");
        thread::sleep(DELIVERED);
    }

    /// How many still waited.
    fn kill(&mut self) -> usize {
        fs::write(&self.flags[1], "").expect("written");
        let begin = Instant::now();
        loop {
            if let Some(count) = self.client.stdout().lines().find_map(|line| line.strip_suffix(" killed")) {
                return count.parse().expect("a number");
            }
            assert!(begin.elapsed() < GONE_DEADLINE, "nobody is killed");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn must_be_gone(self, context: &str) {
        fs::write(&self.flags[2], "").expect("written");
        let finished = self.client.finish(2 * GONE_DEADLINE);
        assert_eq!(finished.code, 0, "{context}: {}", finished.stderr);
    }
}

fn must_be_killable_before_a_column_looks(rung: &str) {
    let Some(mounted) = Mounted::start(rung) else { return };
    let mut waiting = Waiting::ready(&mounted, FEW, &cpus()[..2]);
    let on = mounted.node.setup.path("on");
    let mut stander = stand(&thread_of(mounted.node.pid(), 1), text(&on));
    waiting.go();
    assert_eq!(waiting.kill(), FEW, "{rung}: some do not wait");
    thread::sleep(DELIVERED);
    fs::write(on, "").expect("written");
    stander.must_say("goes on");
    waiting.must_be_gone(rung);
}

/// Not by uring: a request that the kernel has put into an entry, but could not tell a thread of that stands, is sent no INTERRUPT.
#[test]
fn readers_can_be_killed_before_a_column_has_looked_at_their_requests() {
    ["thread", "clone"].into_iter().for_each(must_be_killable_before_a_column_looks);
}

#[test]
fn those_who_wait_keep_nobody_out_who_uses_the_same_cpu() {
    for rung in ["uring", "clone"] {
        let Some(mounted) = Mounted::start(rung) else { return };
        let (stored, cpu) = (put(&mounted.node, 1, 300_000), cpus()[1]);
        let mut waiting = Waiting::ready(&mounted, MANY, &[cpu]);
        waiting.go();
        let begin = Instant::now();
        for _ in 0..2 {
            let blob = mounted.ro.blob(&stored);
            let said = fuse::tool("taskset", &["-c", &cpu.to_string(), "sha256sum", text(&blob)]);
            assert!(said.starts_with(name_of(&stored)), "{rung}: {said}");
        }
        let took = begin.elapsed();
        assert!(took < KEPT_OUT_DEADLINE, "{rung}: kept out for {took:?}");
        waiting.kill();
        waiting.must_be_gone(rung);
    }
}
