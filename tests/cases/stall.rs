//! No task keeps its column from other work for 10 ms, whatever the mix of requests.
//!
//! The counter is wall time of a poll less the thread's wait for a CPU, so that a busy machine is not our stall. That a
//! stall is counted is shown where one can be planted: in the unit test of `runtime/src/stall.rs`.
//!
//! A hypervisor that takes a CPU away does so without the thread's knowledge, and the kernel charges part of that to the thread:
//! a bare loop without any system call had gaps of 11 ms. So what is counted may not be longer, all together, than what the
//! hypervisor says it took from this machine meanwhile: on a machine of one's own that is nothing.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tests::blobs::Client;
use tests::content::{self, Digest, Rng};
use tests::exposition::Exposition;
use tests::http::Request;
use tests::node::{Node, Setup};
use tests::scale;

/// How long, unless `BASALT_STALL_SECONDS` says otherwise.
const SECONDS: u64 = 60;

/// Hot blobs fit in RAM together, cold ones do not: of [`COLD`] no eighth does.
const MEMORY: &str = "192MiB";
const HOT: u64 = 64;
const HOT_SIZE_BYTES: usize = 20_000;
const COLD: u64 = 160;
const COLD_SIZE_BYTES: usize = 5 << 20;
const RANGE_SIZE_BYTES: u64 = 300_000;

/// Blobs that one writer leaves before it deletes the oldest.
const KEPT: usize = 12;

/// What each kind of client does until the time is over; how often it did is added up by kind.
type Work = fn(&Load, SocketAddr, Rng) -> u64;

const KINDS: [(&str, usize, Work); 7] = [
    ("put small", 4, |load, addr, rng| write(load, addr, rng, 13, 60_000)),
    ("put large", 2, |load, addr, rng| write(load, addr, rng, 70_000, 24 << 20)),
    ("get hot", 4, |load, addr, mut rng| {
        read(load, addr, &load.hot, |client, digest, _| drop(client.get(digest)), &mut rng)
    }),
    ("get cold", 2, |load, addr, mut rng| {
        read(load, addr, &load.cold, |client, digest, _| drop(client.get(digest)), &mut rng)
    }),
    ("get range", 2, |load, addr, mut rng| read(load, addr, &load.cold, range, &mut rng)),
    ("get absent", 1, |load, addr, mut rng| {
        let absent = [Digest::of_nothing_stored()];
        read(load, addr, &absent, |client, digest, _| assert!(!client.has(digest)), &mut rng)
    }),
    ("list", 1, |load, addr, _| {
        let mut client = Client::new(addr);
        load.repeat(|| assert!(client.list().len() >= (HOT + COLD) as usize))
    }),
];

struct Load {
    hot: Vec<Digest>,
    cold: Vec<Digest>,
    end: Instant,
    next_seed: AtomicU64,
}

impl Load {
    /// Calls until the time is over; gives the number of calls.
    fn repeat(&self, mut call: impl FnMut()) -> u64 {
        let mut calls = 0;
        while Instant::now() < self.end {
            call();
            calls += 1;
        }
        calls
    }
}

/// Stores blobs never stored before and deletes the older ones.
fn write(load: &Load, addr: SocketAddr, mut rng: Rng, min: u64, max: u64) -> u64 {
    let mut client = Client::new(addr);
    let mut kept = std::collections::VecDeque::new();
    load.repeat(|| {
        let seed = load.next_seed.fetch_add(1, Ordering::Relaxed);
        kept.push_back(client.put(&content::bytes(seed, rng.size(min, max))));
        if kept.len() > KEPT {
            assert_eq!(client.delete(&kept.pop_front().expect("more than none")), 204);
        }
    })
}

fn read(
    load: &Load,
    addr: SocketAddr,
    digests: &[Digest],
    one: impl Fn(&mut Client, &Digest, &mut Rng),
    rng: &mut Rng,
) -> u64 {
    let mut client = Client::new(addr);
    load.repeat(|| {
        let digest = &digests[rng.below(digests.len() as u64) as usize];
        one(&mut client, digest, rng);
    })
}

/// Some bytes from the middle of a cold blob.
fn range(client: &mut Client, digest: &Digest, rng: &mut Rng) {
    let first = rng.below(COLD_SIZE_BYTES as u64 - RANGE_SIZE_BYTES);
    let range = format!("bytes={first}-{}", first + RANGE_SIZE_BYTES - 1);
    let reply = client.call(&Request::new("GET", digest.path()).header("Range", range));
    assert_eq!(reply.must_be(206).body.len() as u64, RANGE_SIZE_BYTES);
}

fn stalls(node: &Node) -> f64 {
    let reply = node.ops().call(&Request::new("GET", "/metrics")).must_be(200);
    let scrape = Exposition::parse(reply.text()).unwrap_or_else(|why| panic!("{why}"));
    assert!(scrape.0.contains_key("basalt_stalls_total"), "stalls are counted");
    scrape.sum("basalt_stalls_total", |_| true)
}

/// What the daemon logged about stalls.
fn lines(node: &Node) -> Vec<String> {
    node.stderr().lines().filter(|line| line.contains("kept its column")).map(str::to_owned).collect()
}

fn field_ms(line: &str) -> u64 {
    let field = line.split(' ').find_map(|field| field.strip_prefix("ms="));
    field.and_then(|ms| ms.parse().ok()).unwrap_or_else(|| panic!("no time: {line}"))
}

/// What the hypervisor took from this machine's CPUs so far (proc(5), `steal` of /proc/stat, in hundredths of a second).
fn stolen_ms() -> u64 {
    let stat = std::fs::read_to_string("/proc/stat").expect("readable");
    let steal = stat.lines().next().and_then(|all| all.split_ascii_whitespace().nth(8));
    steal.and_then(|ticks| ticks.parse::<u64>().ok()).expect("a kernel that counts it") * 10
}

fn must_not_have_stalled(node: &Node, stolen_before_ms: u64) {
    let stolen_ms = stolen_ms() - stolen_before_ms;
    let lines = lines(node);
    let stalled_ms: u64 = lines.iter().map(|line| field_ms(line)).sum();
    println!("stalls: {} of {stalled_ms} ms; stolen: {stolen_ms} ms", lines.len());
    assert_eq!(stalls(node), lines.len() as f64, "every stall is logged");
    assert!(
        stalled_ms <= stolen_ms,
        "{stalled_ms} ms, and {stolen_ms} ms were stolen:\n{}",
        lines.join("\n")
    );
}

#[test]
fn no_task_stalls_its_column_under_mixed_load() {
    let seconds = scale::count("BASALT_STALL_SECONDS", SECONDS);
    let seed = content::run_seed();
    let node = Setup::new().memory(MEMORY).start();
    let stolen_before_ms = stolen_ms();
    let mut client = node.client();
    let mut store = |count: u64, size| (0..count).map(|at| client.put(&content::bytes(at, size))).collect();
    let load = Load {
        hot: store(HOT, HOT_SIZE_BYTES),
        cold: store(COLD, COLD_SIZE_BYTES),
        end: Instant::now() + Duration::from_secs(seconds),
        next_seed: AtomicU64::new(seed << 24),
    };
    let mut rng = Rng::new(seed);
    let addr = node.setup.blob;
    thread::scope(|scope| {
        let mut running = Vec::new();
        for (name, clients, work) in KINDS {
            let start = |own| {
                let load = &load;
                scope.spawn(move || work(load, addr, own))
            };
            let threads: Vec<_> = (0..clients).map(|_| start(Rng::new(rng.any()))).collect();
            running.push((name, threads));
        }
        for (name, threads) in running {
            let calls: u64 = threads.into_iter().map(|thread| thread.join().expect("no panic")).sum();
            println!("{name}: {calls}");
            assert!(calls >= seconds / 2, "{name}: only {calls} in {seconds} s");
        }
    });
    must_not_have_stalled(&node, stolen_before_ms);
}

/// Larger than what can be unpinned in 10 ms many times over.
const LARGE_SIZE_BYTES: usize = 512 << 20;

#[test]
fn deleting_a_large_blob_that_is_in_ram_stalls_nobody() {
    let node = Setup::new().memory("2GiB").start();
    let stolen_before_ms = stolen_ms();
    let mut client = node.client();
    for seed in 0..2 {
        let digest = client.put(&content::bytes(seed, LARGE_SIZE_BYTES));
        for _ in 0..3 {
            assert_eq!(client.get_through(&digest, &mut |_| ()), LARGE_SIZE_BYTES as u64);
        }
        assert_eq!(client.delete(&digest), 204);
        assert_eq!(client.list().len(), 0);
    }
    // What is let go after the answer must not stall either.
    thread::sleep(Duration::from_secs(2));
    must_not_have_stalled(&node, stolen_before_ms);
}
