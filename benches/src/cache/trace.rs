//! Request streams that imitate public traces: what is asked for, in which order, and how large it is.
//!
//! The traces themselves are gigabytes; each generator here has the traits for which its model is quoted, at a size that
//! a test can run. Deterministic: a stream depends on nothing but its seed.

use super::zipf::{Zipf, unit};
use crate::rng::Rng;

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Names the object.
    pub key: u64,
    /// Its size; always the same for the same key.
    pub bytes: u32,
}

/// The streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trace {
    /// Independent draws by Zipf's law with exponent 1.0 over a million objects: the yardstick of most cache papers.
    /// Sizes even between 1 and 32 KiB.
    Zipf,
    /// ARC's P1 (Megiddo and Modha, FAST '03; a workstation's disk, months long): re-references near in time with a heavy
    /// tail, mixed with sequential scans of which most are never repeated. Sizes 512 B to 16 KiB.
    ArcP1,
    /// A cluster of Twitter's in-memory caches (Yang, Yue, Rashmi, OSDI '20): Zipf's law with an exponent above one and
    /// many keys that are asked for once and never again; small values (median 230 B) with a wide spread.
    Twitter,
    /// A CDN (Song, Berger, Li, Lloyd: LRB, NSDI '20; Berger, Sitaraman, Harchol-Balter: AdaptSize, NSDI '17): Zipf's law
    /// with an exponent below one, objects that go out of fashion while new ones come, and a Pareto tail of sizes.
    Cdn,
    /// LIRS's loop and pools (Jiang and Zhang, SIGMETRICS '02: `cs`, `glimpse`, `multi1`): files read from end to end again
    /// and again, one after the other, beside random reads of a hot set. LRU's worst case. Sizes 4 to 8 KiB.
    Loop,
}

impl Trace {
    /// Every stream.
    pub const ALL: [Trace; 5] = [Trace::Zipf, Trace::ArcP1, Trace::Twitter, Trace::Cdn, Trace::Loop];

    /// As printed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Trace::Zipf => "zipf 1.0, 1 M objects",
            Trace::ArcP1 => "ARC P1-like",
            Trace::Twitter => "Twitter-like",
            Trace::Cdn => "CDN-like",
            Trace::Loop => "LIRS loops",
        }
    }

    /// The first `count` requests.
    #[must_use]
    pub fn requests(self, count: usize, seed: u64) -> Vec<Request> {
        let mut rng = Rng::new(seed);
        let keys = match self {
            Trace::Zipf => zipf(count, &mut rng),
            Trace::ArcP1 => arc_p1(count, &mut rng),
            Trace::Twitter => twitter(count, &mut rng),
            Trace::Cdn => cdn(count, &mut rng),
            Trace::Loop => loops(count, &mut rng),
        };
        keys.into_iter().map(|key| Request { key, bytes: self.bytes(key) }).collect()
    }

    /// The size of an object: drawn from its key, so that it never changes.
    fn bytes(self, key: u64) -> u32 {
        let mut rng = Rng::new(key ^ 0x5eed_0f51_2e5a_11d5);
        rng.next_u64();
        let u = unit(&mut rng);
        let bytes = match self {
            Trace::Zipf => 1024.0 + u * 31.0 * 1024.0,
            Trace::ArcP1 => f64::from(512u32 << (u * 6.0) as u32),
            // Log-normal by twelve even numbers; sigma 1.2.
            Trace::Twitter => {
                let normal = (0..12).map(|_| unit(&mut rng)).sum::<f64>() - 6.0;
                (230.0 * (1.2 * normal).exp()).clamp(16.0, 65536.0)
            }
            // Pareto with exponent 1.1 from 2 KiB to 1 MiB.
            Trace::Cdn => (2048.0 * (1.0 - u).powf(-1.0 / 1.1)).min(1048576.0),
            Trace::Loop => 4096.0 + u * 4096.0,
        };
        bytes as u32
    }
}

fn zipf(count: usize, rng: &mut Rng) -> Vec<u64> {
    let zipf = Zipf::new(1_000_000, 1.0);
    (0..count).map(|_| zipf.rank(rng)).collect()
}

/// Three of five requests repeat an earlier one, the distance by a Pareto law; the others belong to scans of 64 to 4,096
/// blocks, one in four of which begins where an earlier scan began.
fn arc_p1(count: usize, rng: &mut Rng) -> Vec<u64> {
    let mut keys: Vec<u64> = Vec::with_capacity(count);
    let mut starts = vec![0u64];
    let (mut fresh, mut scan) = (0u64, 0u64..0u64);
    while keys.len() < count {
        let distance = (4.0 * (1.0 - unit(rng)).powf(-1.0 / 0.35)) as usize;
        if rng.below(5) < 3 && distance <= keys.len() {
            keys.push(keys[keys.len() - distance]);
            continue;
        }
        if scan.is_empty() {
            let blocks = 64 + rng.below(4033);
            let start =
                if rng.below(4) == 0 { starts[rng.below(starts.len() as u64) as usize] } else { fresh };
            scan = start..start + blocks;
            fresh = fresh.max(scan.end);
            starts.push(start);
        }
        keys.extend(scan.next());
    }
    keys
}

/// One request in six is for a key of its own; the others are by Zipf's law (1.1) over 400,000 keys.
fn twitter(count: usize, rng: &mut Rng) -> Vec<u64> {
    const KEYS: u64 = 400_000;
    let zipf = Zipf::new(KEYS, 1.1);
    let mut once = KEYS;
    (0..count)
        .map(|_| {
            if rng.below(6) == 0 {
                once += 1;
                return once;
            }
            zipf.rank(rng)
        })
        .collect()
}

/// Zipf's law (0.85) over the ranks of a catalogue of 200,000 objects; every tenth request a rank is given to a new object,
/// so that the popular of today are forgotten tomorrow.
fn cdn(count: usize, rng: &mut Rng) -> Vec<u64> {
    const CATALOGUE: u64 = 200_000;
    let zipf = Zipf::new(CATALOGUE, 0.85);
    let mut objects: Vec<u64> = (0..CATALOGUE).collect();
    let mut newest = CATALOGUE;
    (0..count)
        .map(|n| {
            if n % 10 == 0 {
                let rank = rng.below(CATALOGUE) as usize;
                objects[rank] = newest;
                newest += 1;
            }
            objects[zipf.rank(rng) as usize]
        })
        .collect()
}

/// Forty files of 250 to 8,000 blocks: one at a time is read two to nine times in a row. Every third request goes to a
/// pool of 4,000 hot blocks, the lower half of it three times as often.
fn loops(count: usize, rng: &mut Rng) -> Vec<u64> {
    const POOL: u64 = 4_000;
    let mut files = Vec::new();
    let mut end = POOL;
    for _ in 0..40 {
        let blocks = 250 * (1 + rng.below(32));
        files.push(end..end + blocks);
        end += blocks;
    }
    let mut keys = Vec::with_capacity(count);
    while keys.len() < count {
        let file = files[rng.below(files.len() as u64) as usize].clone();
        for _ in 0..2 + rng.below(8) {
            for block in file.clone() {
                keys.push(block);
                if rng.below(2) == 0 {
                    let half = if rng.below(4) < 3 { 0 } else { POOL / 2 };
                    keys.push(half + rng.below(POOL / 2));
                }
            }
        }
    }
    keys.truncate(count);
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    const COUNT: usize = 200_000;

    #[test]
    fn one_seed_one_stream() {
        for trace in Trace::ALL {
            let requests = trace.requests(5_000, 3);
            assert_eq!(requests, trace.requests(5_000, 3), "{}", trace.name());
            assert_ne!(requests, trace.requests(5_000, 4), "{}", trace.name());
            let sizes: HashMap<u64, u32> = requests.iter().map(|r| (r.key, r.bytes)).collect();
            assert!(requests.iter().all(|r| sizes[&r.key] == r.bytes && r.bytes > 0), "{}", trace.name());
        }
    }

    /// The share of objects that are asked for once is the trait that separates these traces.
    #[test]
    fn one_hit_wonders_are_as_many_as_in_the_models() {
        let share = |trace: Trace| {
            let mut counts: HashMap<u64, u32> = HashMap::new();
            trace.requests(COUNT, 1).iter().for_each(|r| *counts.entry(r.key).or_default() += 1);
            counts.values().filter(|&&n| n == 1).count() as f64 / counts.len() as f64
        };
        assert!(share(Trace::Twitter) > 0.6, "{}", share(Trace::Twitter));
        assert!((0.4..0.8).contains(&share(Trace::Cdn)), "{}", share(Trace::Cdn));
        assert!((0.2..0.7).contains(&share(Trace::ArcP1)), "{}", share(Trace::ArcP1));
        assert!(share(Trace::Loop) < 0.1, "{}", share(Trace::Loop));
    }
}
