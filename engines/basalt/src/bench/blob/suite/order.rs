//! Orders in which a suite fetches its blobs. Repeatable: the same choices in every run.

use std::time::{Duration, Instant};

use super::checking::{Fetch, Order};
use super::store::Blob;

/// Every blob, whole, in turn: once, or again and again.
pub fn in_turn(again: bool) -> Order {
    let mut next = 0;
    Box::new(move |blobs: &[Blob]| {
        if next == blobs.len() && again {
            next = 0;
        }
        next += 1;
        (next <= blobs.len()).then(|| Fetch { blob: next - 1, part: None })
    })
}

/// Every blob, whole, in turn, until `time` is over: a blob begun in time is fetched to its end, so that even one that takes
/// longer than that is measured.
pub fn in_turn_for(time: Duration) -> Order {
    let mut end = None;
    let mut next = in_turn(true);
    Box::new(move |blobs: &[Blob]| {
        let end = *end.get_or_insert_with(|| Instant::now() + time);
        (Instant::now() < end).then(|| next(blobs)).flatten()
    })
}

/// Every blob once, from its beginning to its end, by parts of `part_bytes`.
pub fn by_parts(part_bytes: u64) -> Order {
    let (mut blob, mut at) = (0, 0);
    Box::new(move |blobs: &[Blob]| {
        while at >= blobs.get(blob)?.size {
            (blob, at) = (blob + 1, 0);
        }
        let end = (at + part_bytes).min(blobs[blob].size);
        let part = std::mem::replace(&mut at, end)..end;
        Some(Fetch { blob, part: Some(part) })
    })
}

/// Any blob, whole.
pub fn anywhere() -> Order {
    let mut random = Random(1);
    Box::new(move |blobs: &[Blob]| {
        Some(Fetch { blob: random.below(blobs.len() as u64) as usize, part: None })
    })
}

/// Parts of `min` to `max` bytes anywhere, short ones as likely as long ones in each power of two.
pub fn parts(min: u64, max: u64) -> Order {
    let mut random = Random(2);
    Box::new(move |blobs: &[Blob]| {
        let blob = random.below(blobs.len() as u64) as usize;
        let size = blobs[blob].size;
        let len = random.size(min, max).min(size);
        let start = random.below(size - len + 1);
        Some(Fetch { blob, part: Some(start..start + len) })
    })
}

/// The nth blob 1/n as often as the first (Zipf, exponent 1).
pub fn by_popularity() -> Order {
    let mut random = Random(3);
    let mut sums: Vec<f64> = Vec::new();
    Box::new(move |blobs: &[Blob]| {
        if sums.len() != blobs.len() {
            sums = (1..=blobs.len()).scan(0.0, |sum, rank| Some(add(sum, 1.0 / rank as f64))).collect();
        }
        let point = random.fraction() * sums.last()?;
        Some(Fetch { blob: sums.partition_point(|&sum| sum <= point).min(blobs.len() - 1), part: None })
    })
}

fn add(sum: &mut f64, more: f64) -> f64 {
    *sum += more;
    *sum
}

/// `count` sizes of `min` to `max` bytes.
pub fn sizes(count: usize, min: u64, max: u64) -> Vec<u64> {
    let mut random = Random(4);
    (0..count).map(|_| random.size(min, max)).collect()
}

/// A stream of numbers (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    /// In 0..1.
    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn size(&mut self, min: u64, max: u64) -> u64 {
        let (low, high) = ((min as f64).ln(), (max as f64).ln());
        ((low + (high - low) * self.fraction()).exp() as u64).clamp(min, max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::digest::Digest;

    fn blobs(sizes: &[u64]) -> Vec<Blob> {
        let blob = |(number, &size)| Blob { number, size, digest: Digest::of_hash(&[0; 32]) };
        (0..).zip(sizes).map(blob).collect()
    }

    #[test]
    fn parts_in_order_cover_every_blob_once() {
        let blobs = blobs(&[10, 4, 1]);
        let mut order = by_parts(4);
        let got: Vec<_> =
            std::iter::from_fn(|| order(&blobs)).map(|f| (f.blob, f.part.expect("a part"))).collect();
        assert_eq!(got, [(0, 0..4), (0, 4..8), (0, 8..10), (1, 0..4), (2, 0..1)]);
    }

    #[test]
    fn in_turn_ends_or_begins_again() {
        let blobs = blobs(&[1, 1]);
        let take = |mut order: Order| (0..5).map_while(|_| order(&blobs)).map(|f| f.blob).collect::<Vec<_>>();
        assert_eq!(take(in_turn(false)), [0, 1]);
        assert_eq!(take(in_turn(true)), [0, 1, 0, 1, 0]);
        let mut brief = in_turn_for(Duration::from_millis(1));
        assert!(brief(&blobs).is_some(), "one at least");
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(brief(&blobs), None);
    }

    #[test]
    fn random_parts_stay_inside() {
        let blobs = blobs(&[1000, 5000]);
        let mut order = parts(100, 2000);
        for _ in 0..1000 {
            let fetch = order(&blobs).expect("endless");
            let part = fetch.part.expect("a part");
            assert!(part.end <= blobs[fetch.blob].size && (100..=2000).contains(&(part.end - part.start)));
        }
    }

    #[test]
    fn the_first_is_as_popular_as_zipf_says() {
        let blobs = blobs(&[1; 1000]);
        let mut order = by_popularity();
        let mut counts = vec![0u32; 1000];
        (0..200_000).for_each(|_| counts[order(&blobs).expect("endless").blob] += 1);
        // 200,000 over the harmonic number of 1,000, which is 7.485.
        assert!((26_000..27_500).contains(&counts[0]), "{}", counts[0]);
        assert!((12_900..13_900).contains(&counts[1]) && counts[999] < 60, "{} {}", counts[1], counts[999]);
    }
}
