//! Ranks by Zipf's law: rank r is drawn with a probability proportional to r^-s.
//!
//! Rejection-inversion (Hörmann and Derflinger, ACM TOMACS 6(3), 1996): exact, without a table, in constant time.

use crate::rng::Rng;

/// The distribution over `0..count`.
#[derive(Clone, Debug)]
pub struct Zipf {
    exponent: f64,
    count: f64,
    integral_first: f64,
    integral_last: f64,
    shortcut: f64,
}

impl Zipf {
    /// `count` ranks, at least one; `exponent` is positive.
    #[must_use]
    pub fn new(count: u64, exponent: f64) -> Zipf {
        assert!(count > 0 && exponent > 0.0);
        let mut zipf =
            Zipf { exponent, count: count as f64, integral_first: 0.0, integral_last: 0.0, shortcut: 0.0 };
        zipf.integral_first = zipf.integral(1.5) - 1.0;
        zipf.integral_last = zipf.integral(zipf.count + 0.5);
        zipf.shortcut = 2.0 - zipf.inverse(zipf.integral(2.5) - zipf.density(2.0));
        zipf
    }

    /// A rank, 0 the most popular.
    pub fn rank(&self, rng: &mut Rng) -> u64 {
        loop {
            let u = self.integral_last + unit(rng) * (self.integral_first - self.integral_last);
            let x = self.inverse(u);
            let k = x.round().clamp(1.0, self.count);
            if k - x <= self.shortcut || u >= self.integral(k + 0.5) - self.density(k) {
                return k as u64 - 1;
            }
        }
    }

    fn density(&self, x: f64) -> f64 {
        x.powf(-self.exponent)
    }

    fn integral(&self, x: f64) -> f64 {
        let log = x.ln();
        let t = log * (1.0 - self.exponent);
        if t.abs() < 1e-8 { log * (1.0 + t / 2.0) } else { log * (t.exp_m1() / t) }
    }

    fn inverse(&self, u: f64) -> f64 {
        let t = (u * (1.0 - self.exponent)).max(-1.0);
        let log = if t.abs() < 1e-8 { u * (1.0 - t / 2.0) } else { u * (t.ln_1p() / t) };
        log.exp()
    }
}

/// Evenly in `0..1`.
pub(super) fn unit(rng: &mut Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_follow_the_law() {
        for exponent in [0.8, 1.0, 1.2] {
            let (zipf, mut rng) = (Zipf::new(1000, exponent), Rng::new(7));
            let mut counts = [0u32; 1000];
            (0..400_000).for_each(|_| counts[zipf.rank(&mut rng) as usize] += 1);
            let all: f64 = (1..=1000).map(|r| f64::from(r).powf(-exponent)).sum();
            for rank in [1usize, 2, 3, 10, 50] {
                let expected = 400_000.0 * (rank as f64).powf(-exponent) / all;
                let seen = f64::from(counts[rank - 1]);
                assert!((seen / expected - 1.0).abs() < 0.1, "rank {rank}: {seen}, expected {expected:.0}");
            }
        }
    }
}
