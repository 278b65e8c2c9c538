//! Reading stored blobs at random from the moment a server can be connected to, every byte compared, and noting when the
//! server says that it has loaded everything. Times are ns of the monotonic clock, which the caller's are too.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::client::Client;
use super::content::Content;
use super::listing::Stored;
use crate::rng::Rng;
use crate::{Result, check};

/// Between two tries to connect, and two looks at the metrics.
const LOOK: Duration = Duration::from_millis(1);
/// A server that is not loaded after this long is a failure.
const LOADED_MAX: Duration = Duration::from_secs(120);
/// Of the server's metrics: how many shards are still to be read.
const UNREAD: &str = "blobcache_unread_shards ";

/// Whom to ask.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Blobs.
    pub address: SocketAddr,
    /// Metrics.
    pub ops: SocketAddr,
    /// Connections.
    pub conns: usize,
    /// Of the bytes.
    pub seed: u64,
    /// Read every blob once, as soon as all is loaded, instead of ending then.
    pub all: bool,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// When the first right answer was whole.
    pub first_ns: u64,
    /// When everything was loaded.
    pub loaded_ns: u64,
    /// Right answers before that.
    pub reads_before: u64,
    /// All right answers.
    pub reads: u64,
}

/// The monotonic clock.
pub fn now_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel fills the struct it is given.
    let got = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    check("clock_gettime", i64::from(got)).expect("every Linux has a monotonic clock");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

struct Shared<'s> {
    plan: Plan,
    content: Content,
    stored: &'s [Stored],
    first_ns: AtomicU64,
    reads: AtomicU64,
    is_loaded: AtomicBool,
    next: AtomicU64,
}

impl Shared<'_> {
    fn read(&self, client: &mut Client, blob: &Stored) -> Result<()> {
        let Stored { number, size, digest } = blob;
        let got =
            client.get(&format!("/blobs/{digest}"), |at, bytes| self.content.check(*number, at, bytes))?;
        if got != *size {
            return Err(format!("blob {number} of {size} bytes came as {got}").into());
        }
        self.first_ns.fetch_min(now_ns(), Ordering::Relaxed);
        self.reads.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// One connection: at random until all is loaded, then its share of all.
    fn run(&self, seed: u64) -> Result<()> {
        let mut client = patiently(self.plan.address)?;
        let mut rng = Rng::new(seed);
        while !self.is_loaded.load(Ordering::Relaxed) {
            self.read(&mut client, &self.stored[rng.below(self.stored.len() as u64) as usize])?;
        }
        if !self.plan.all {
            return Ok(());
        }
        while let Some(blob) = self.stored.get(self.next.fetch_add(1, Ordering::Relaxed) as usize) {
            self.read(&mut client, blob)?;
        }
        Ok(())
    }

    /// Waits until the server says that all is loaded; when that was, and reads until then.
    fn watch(&self) -> Result<(u64, u64)> {
        let begin = Instant::now();
        let mut client = patiently(self.plan.ops)?;
        loop {
            let mut text = Vec::new();
            client.get("/metrics", |_, bytes| {
                text.extend_from_slice(bytes);
                Ok(())
            })?;
            let text = String::from_utf8_lossy(&text);
            let unread = text.lines().find_map(|line| line.strip_prefix(UNREAD));
            match unread.ok_or_else(|| format!("the metrics have no {UNREAD}"))? {
                "0" => break,
                _ if begin.elapsed() > LOADED_MAX => return Err("the server does not finish loading".into()),
                _ => thread::sleep(LOOK),
            }
        }
        // The counts first: a read after this instant must not count as before.
        Ok((now_ns(), self.reads.load(Ordering::Relaxed)))
    }
}

/// Connects as soon as somebody listens.
fn patiently(address: SocketAddr) -> Result<Client> {
    let begin = Instant::now();
    loop {
        match Client::connect(address) {
            Err(e) if begin.elapsed() > LOADED_MAX => return Err(e),
            Err(_) => thread::sleep(LOOK),
            connected => return connected,
        }
    }
}

/// Reads `stored` while the server starts.
pub fn run(plan: Plan, stored: &[Stored]) -> Result<Outcome> {
    let shared = Shared {
        plan,
        content: Content::new(plan.seed),
        stored,
        first_ns: AtomicU64::new(u64::MAX),
        reads: AtomicU64::new(0),
        is_loaded: AtomicBool::new(false),
        next: AtomicU64::new(0),
    };
    let (loaded_ns, reads_before) = thread::scope(|scope| -> Result<(u64, u64)> {
        let shared = &shared;
        let one = move |seed| shared.run(seed).map_err(|e| e.to_string());
        let readers: Vec<_> = (0..plan.conns as u64).map(|n| scope.spawn(move || one(n))).collect();
        let watched = shared.watch();
        shared.is_loaded.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().expect("a reader does not panic")?;
        }
        watched
    })?;
    let (first_ns, reads) = (shared.first_ns.into_inner(), shared.reads.into_inner());
    if reads == 0 {
        return Err("nothing was read".into());
    }
    Ok(Outcome { first_ns, loaded_ns, reads_before, reads })
}
