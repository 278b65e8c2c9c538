//! Storing blobs on many connections, and replacing stored ones at random: DELETE, then PUT of a new one.
//!
//! Sizes and choices come from the seed; which connection stores what does not, so two runs store the same blobs.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::client::{Client, Put};
use super::content::Content;
use super::listing::Stored;
use crate::Result;
use crate::rng::Rng;

/// After a refusal others must finish first.
const RETRY: Duration = Duration::from_millis(20);
/// A blob that is refused for longer than this is a failure.
const REFUSED_MAX: Duration = Duration::from_secs(30);

/// What to store.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The server.
    pub address: SocketAddr,
    /// Connections.
    pub conns: usize,
    /// Of bytes and sizes.
    pub seed: u64,
    /// Sizes are even between these, both included.
    pub size_bytes: (u64, u64),
    /// Number of the first blob.
    pub first: u64,
    /// No blob is begun once so many bytes are stored.
    pub until_bytes: u64,
    /// No more blobs than this.
    pub count: u64,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// All that is stored now.
    pub stored: Vec<Stored>,
    /// Bytes of blobs stored in this run.
    pub bytes: u64,
    /// Blobs stored in this run.
    pub blobs: u64,
    /// Answers 503 and 507 after which the blob was sent again.
    pub refused: u64,
    /// Wall time.
    pub seconds: f64,
}

struct Shared {
    plan: Plan,
    content: Content,
    next: AtomicU64,
    bytes: AtomicU64,
    refused: AtomicU64,
}

impl Shared {
    fn new(plan: Plan) -> Self {
        let content = Content::new(plan.seed);
        let (next, bytes, refused) = (AtomicU64::new(plan.first), AtomicU64::new(0), AtomicU64::new(0));
        Self { plan, content, next, bytes, refused }
    }

    /// Number and size of the next blob, unless all is done.
    fn take(&self) -> Option<(u64, u64)> {
        let Plan { seed, size_bytes: (least, most), first, until_bytes, count, .. } = self.plan;
        if self.bytes.load(Ordering::Relaxed) >= until_bytes {
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let size = least + Rng::new(seed ^ number.wrapping_mul(0x9E37_79B9)).below(most - least + 1);
        (number - first < count).then_some((number, size))
    }

    fn store(&self, client: &mut Client, (number, size): (u64, u64)) -> Result<Stored> {
        let begin = Instant::now();
        loop {
            match client.put(&self.content, number, size)? {
                Put::Stored(digest) => {
                    self.bytes.fetch_add(size, Ordering::Relaxed);
                    return Ok(Stored { number, size, digest });
                }
                Put::Refused(status) if begin.elapsed() > REFUSED_MAX => {
                    return Err(format!("blob {number} of {size} bytes: {status} for {REFUSED_MAX:?}").into());
                }
                Put::Refused(_) => {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(RETRY);
                }
            }
        }
    }

    /// Runs `work` on every connection, each with its part of `stored`, and gathers what is stored then.
    fn run(
        self,
        stored: Vec<Stored>,
        work: impl Fn(&Self, &mut Client, &mut Vec<Stored>) -> Result<()> + Sync,
    ) -> Result<Outcome> {
        let begin = Instant::now();
        let (conns, address) = (self.plan.conns.max(1), self.plan.address);
        let mut parts: Vec<Vec<Stored>> = vec![Vec::new(); conns];
        for (at, one) in stored.into_iter().enumerate() {
            parts[at % conns].push(one);
        }
        let (me, work) = (&self, &work);
        let one = move |mut part: Vec<Stored>| -> std::result::Result<Vec<Stored>, String> {
            let worked = Client::connect(address).and_then(|mut client| work(me, &mut client, &mut part));
            worked.map(|()| part).map_err(|e| e.to_string())
        };
        let parts: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = parts.into_iter().map(|part| scope.spawn(move || one(part))).collect();
            threads.into_iter().map(|t| t.join().expect("a client does not panic")).collect()
        });
        let mut stored = parts.into_iter().collect::<std::result::Result<Vec<_>, _>>()?.concat();
        stored.sort_unstable_by_key(|s| s.number);
        let bytes = self.bytes.into_inner();
        let blobs = stored.iter().filter(|s| s.number >= self.plan.first).count() as u64;
        let seconds = begin.elapsed().as_secs_f64();
        Ok(Outcome { stored, bytes, blobs, refused: self.refused.into_inner(), seconds })
    }
}

/// Stores new blobs.
pub fn fill(plan: Plan) -> Result<Outcome> {
    Shared::new(plan).run(Vec::new(), |shared, client, part| {
        while let Some(next) = shared.take() {
            part.push(shared.store(client, next)?);
        }
        Ok(())
    })
}

/// Replaces blobs of `stored`, chosen at random, by new ones.
pub fn churn(plan: Plan, stored: Vec<Stored>) -> Result<Outcome> {
    if stored.len() < plan.conns {
        return Err(format!("{} blobs are too few for {} connections", stored.len(), plan.conns).into());
    }
    Shared::new(plan).run(stored, |shared, client, part| {
        let mut rng = Rng::new(plan.seed ^ part[0].number);
        while let Some(next) = shared.take() {
            let at = rng.below(part.len() as u64) as usize;
            client.delete(&part[at].digest)?;
            part[at] = shared.store(client, next)?;
        }
        Ok(())
    })
}
