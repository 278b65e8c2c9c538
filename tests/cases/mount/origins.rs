//! Blobs of an origin: read page by page while they arrive; an origin that hangs gives EIO in time, and nobody is held.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use tests::blobs::Client as BlobClient;
use tests::content::{self, Digest};
use tests::disk;
use tests::fuse::{self, Client, GONE_DEADLINE, MountPoint, Mounted, name_of};
use tests::http::Request;
use tests::origin::{Fault, Object, Origin};

use super::{metrics, text};

/// The daemon gives up before the kernel's own limit; the promise is 40 s, on machines that have time.
const EIO_DEADLINE: Duration = Duration::from_secs(60);
const SIZE_BYTES: usize = 24 << 20;
/// Slept before each 64 KiB: the whole takes some seconds, however many parts come at once.
const PAUSE: Duration = Duration::from_millis(40);

/// Orders a blob and waits for what comes of it; 0 when the node is gone before.
pub fn fetch(addr: SocketAddr, url: &str, digest: &Digest) -> u16 {
    let order = serde_json::json!({ "url": url, "digest": digest.0 }).to_string();
    let request = Request::new("POST", "/blobs/fetch").body(order.as_bytes());
    BlobClient::new(addr).try_call(&request).map_or(0, |reply| reply.status)
}

/// Opens (trying again while there is no such name yet), reads what it is told to and prints it.
const READ: &str = r#"
import errno, hashlib, os, signal, sys, time
path, interval = sys.argv[1], float(sys.argv[2])
if interval:
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, interval, interval)
until = time.monotonic() + 30
while True:
    try:
        fd = os.open(path, os.O_RDONLY)
        break
    except FileNotFoundError:
        assert time.monotonic() < until, "the name does not appear while it is fetched"
        time.sleep(0.05)
print("size", os.fstat(fd).st_size, flush=True)
first = os.pread(fd, 65536, 0)
print("first", hashlib.sha256(first).hexdigest(), flush=True)
whole, at = hashlib.sha256(), 0
while part := os.pread(fd, 1 << 20, at):
    whole.update(part)
    at += len(part)
print("whole", whole.hexdigest(), flush=True)
# At its end the interpreter gives signals their default action back, which is to die.
signal.setitimer(signal.ITIMER_REAL, 0)
"#;

fn reader(point: &MountPoint, digest: &Digest, interval: &str) -> Client {
    Client::spawn(&mut fuse::python(READ, &[text(&point.blob(digest)), interval]))
}

/// What a reader sees while the blob comes; with an interval in seconds, it is interrupted all the time.
fn must_be_read_while_it_arrives(rung: &str, interval: &str) {
    let Some(mounted) = Mounted::start(rung) else { return };
    let origin = Origin::start();
    let body = content::bytes(5, SIZE_BYTES);
    let (digest, first) = (Digest::of(&body), Digest::of(&body[..65_536]));
    origin.put("/slow", Object { pause: PAUSE, ..Object::new(body) });
    let (url, addr) = (origin.url("/slow"), mounted.node.setup.blob);
    thread::scope(|scope| {
        let order = scope.spawn(|| fetch(addr, &url, &digest));
        while origin.total("/slow") < 1 && !order.is_finished() {
            thread::sleep(Duration::from_millis(5));
        }
        let mut readers = mounted.points().map(|point| reader(point, &digest, interval));
        for reader in &mut readers {
            reader.must_say(&format!("size {SIZE_BYTES}"));
            reader.must_say(&format!("first {}", name_of(&first)));
        }
        assert!(!order.is_finished(), "the first bytes come with the last ones");
        for reader in readers {
            let finished = reader.finish(Duration::from_secs(60));
            assert_eq!(finished.code, 0, "{rung}: {}", finished.stderr);
            let said = finished.text();
            assert!(said.contains(&format!("whole {}", name_of(&digest))), "{rung}: wrong bytes: {said}");
        }
        assert_eq!(order.join().expect("a reply"), 201);
    });
    // Now it is wholly local, and a fresh open may be handed to the kernel.
    for point in mounted.points() {
        let said = fuse::tool("sha256sum", &[text(&point.blob(&digest))]);
        assert!(said.starts_with(name_of(&digest)), "{rung}: {said}");
    }
    if rung == "passthrough" {
        must_be_handed_over(&mounted, &digest);
    }
    let parts = SIZE_BYTES.div_ceil(4 << 20) as u32;
    assert_eq!(origin.total("/slow"), parts, "fetched once, however many read");
    // The first part is none of them.
    let page = metrics::scrape(&mounted.node);
    let count = |what: &str| page.sum(&format!("blobcache_fetch_ahead_{what}_total"), |_| true);
    let (issued, hits, wasted) = (count("issued"), count("hits"), count("wasted"));
    assert!(1.0 <= hits && hits <= issued && issued < f64::from(parts), "{hits} of {issued} parts ahead");
    assert_eq!(wasted, 0.0, "it is stored");
}

/// Once the last handle of those who read it from us is gone, the kernel reads the file by itself.
fn must_be_handed_over(mounted: &Mounted, digest: &Digest) {
    let path = mounted.rw.blob(digest);
    let read = || {
        let said = fuse::tool("sha256sum", &[text(&path)]);
        assert!(said.starts_with(name_of(digest)), "{said}");
    };
    let begin = Instant::now();
    while metrics::held(&mounted.node)[3] != ("backing_ids", 1.0) {
        assert!(begin.elapsed() < GONE_DEADLINE, "it is not given to the kernel");
        read();
    }
    // What was read from us is not to be what it reads now.
    fuse::tool("sh", &["-c", "echo 3 >/proc/sys/vm/drop_caches"]);
    let before = metrics::requests(&mounted.node, Some("read"));
    read();
    assert_eq!(metrics::requests(&mounted.node, Some("read")), before, "the daemon was asked to read");
}

#[test]
fn a_blob_is_read_while_it_arrives_by_default() {
    must_be_read_while_it_arrives("auto", "0");
}

#[test]
fn a_blob_is_read_while_it_arrives_and_then_by_the_kernel() {
    must_be_read_while_it_arrives("passthrough", "0");
}

#[test]
fn a_blob_is_read_while_it_arrives_by_a_thread() {
    must_be_read_while_it_arrives("thread", "0");
}

#[test]
fn a_reader_that_is_interrupted_all_the_time_reads_right() {
    must_be_read_while_it_arrives("auto", "0.02");
}

/// A blob that was fetched, is damaged on disk, and whose origin no longer answers.
fn with_hanging_origin(rung: &str) -> Option<(Mounted, Origin, Digest)> {
    let mut mounted = Mounted::start(rung)?;
    let origin = Origin::start();
    let body = content::bytes(6, 9_000_000);
    let digest = Digest::of(&body);
    origin.put("/x", Object::new(body.clone()));
    fs::write(mounted.node.setup.path("twin"), &body).expect("written");
    assert_eq!(fetch(mounted.node.setup.blob, &origin.url("/x"), &digest), 201);
    mounted.node.stop();
    let middle = body.len() / 2;
    let places = disk::find(&mounted.node.setup.data, &body[middle..middle + 64]);
    assert!(!places.is_empty(), "it is not on disk as it is");
    places.iter().for_each(disk::Place::flip);
    let silent = Fault::Silent(Duration::from_secs(300));
    origin.put("/x", Object::new(body).fault(silent, u32::MAX));
    Some((mounted.start_again("TERM"), origin, digest))
}

/// Reads from the start on until EIO, which must come; everything before it must be right.
const UNTIL_EIO: &str = r#"
import errno, os, sys
path, expected = sys.argv[1], open(sys.argv[2], "rb").read()
at = 0
try:
    fd = os.open(path, os.O_RDONLY)
    while part := os.pread(fd, 262144, at):
        assert part == expected[at : at + len(part)], f"wrong bytes at {at}"
        at += len(part)
    raise AssertionError(f"no error, but the end after {at} of {len(expected)} bytes")
except OSError as error:
    assert error.errno == errno.EIO, error
print(at)
"#;

fn reader_until_eio(point: &MountPoint, digest: &Digest, twin: &Path) -> Client {
    Client::spawn(&mut fuse::python(UNTIL_EIO, &[text(&point.blob(digest)), text(twin)]))
}

/// A blob on its way whose origin answers two requests and no more: an order for it that does not end, and its bytes.
fn half_a_blob(mounted: &Mounted, origin: &Origin) -> (Digest, PathBuf) {
    let body = content::bytes(8, SIZE_BYTES);
    let digest = Digest::of(&body);
    let twin = mounted.node.setup.path("half");
    fs::write(&twin, &body).expect("written");
    let silent = Object::new(body.clone()).fault(Fault::Silent(Duration::from_secs(300)), u32::MAX);
    origin.put("/half", Object { becomes: Some((2, Box::new(silent))), ..Object::new(body) });
    let (addr, url, ordered) = (mounted.node.setup.blob, origin.url("/half"), digest.clone());
    // Ends with the node.
    thread::spawn(move || fetch(addr, &url, &ordered));
    let begin = Instant::now();
    while origin.total("/half") < 3 {
        assert!(begin.elapsed() < EIO_DEADLINE, "the origin is not asked for the third part");
        thread::sleep(Duration::from_millis(5));
    }
    (digest, twin)
}

#[test]
fn an_origin_that_hangs_gives_eio_in_time_and_one_line() {
    let Some((mounted, origin, digest)) = with_hanging_origin("auto") else { return };
    let twin = mounted.node.setup.path("twin");
    let (half, half_twin) = half_a_blob(&mounted, &origin);
    let readers =
        [reader_until_eio(&mounted.ro, &digest, &twin), reader_until_eio(&mounted.ro, &half, &half_twin)];
    let begin = Instant::now();
    // Others are not held up by it.
    let other = super::put(&mounted.node, 1, 3 << 20);
    for point in mounted.points() {
        let asked = Instant::now();
        let said = fuse::tool("sha256sum", &[text(&point.blob(&other))]);
        assert!(said.starts_with(name_of(&other)), "{said}");
        assert!(asked.elapsed() < GONE_DEADLINE, "another reader waited {:?}", asked.elapsed());
    }
    for reader in readers {
        let finished = reader.finish(EIO_DEADLINE.saturating_sub(begin.elapsed()));
        assert_eq!(finished.code, 0, "{}", finished.stderr);
    }
    let log = mounted.node.stderr();
    for digest in [&digest, &half] {
        let lines = log.lines().filter(|line| line.contains(name_of(digest))).count();
        // That it is damaged is said too, by the tier and by whom it asks.
        assert!((1..=4).contains(&lines), "{lines} lines of {digest}: {log}");
    }
}

#[test]
fn a_reader_of_a_hanging_origin_can_be_killed() {
    for rung in ["uring", "clone", "thread"] {
        let Some((mounted, origin, digest)) = with_hanging_origin(rung) else { return };
        let before = origin.total("/x");
        let mut readers: Vec<_> = (0..4)
            .map(|_| Client::spawn(std::process::Command::new("cat").arg(mounted.ro.blob(&digest))))
            .collect();
        let begin = Instant::now();
        while origin.total("/x") == before && begin.elapsed() < GONE_DEADLINE {
            thread::sleep(Duration::from_millis(20));
        }
        assert!(origin.total("/x") > before, "{rung}: the origin is not asked");
        for reader in &mut readers {
            assert!(!reader.has_ended(), "{rung}: it does not wait");
            assert!(reader.kill_within(GONE_DEADLINE), "{rung}: a reader cannot be killed");
        }
        fuse::tool("stat", &[text(&mounted.ro.blob(&digest))]);
    }
}
