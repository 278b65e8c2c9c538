//! The one source of chance in a simulation: splitmix64 (Steele, Lea, Flood 2014), a state of 64 bits. Called by everything
//! in the twin; nothing there asks the machine for randomness.

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Repeatable choices.
#[derive(Clone, Debug)]
pub struct Rng(u64);

/// Scatters the bits of a number.
pub fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Rng {
    /// The choices that `seed` names.
    pub fn new(seed: u64) -> Rng {
        Rng(mix(seed ^ GOLDEN))
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        assert!(limit > 0, "no number is below 0");
        self.any() % limit
    }

    /// A number of `from..=to`.
    pub fn within(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }

    /// True `ppm` times in a million.
    pub fn chance(&mut self, ppm: u32) -> bool {
        // The draw is made even for 0: a rate that changes does not move every later choice.
        self.below(1_000_000) < u64::from(ppm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_repeat_and_spread() {
        let (mut a, mut b) = (Rng::new(7), Rng::new(7));
        let drawn: Vec<u64> = (0..1000).map(|_| a.below(10)).collect();
        assert_eq!(drawn, (0..1000).map(|_| b.below(10)).collect::<Vec<_>>());
        assert!((0..10).all(|n| (60..140).contains(&drawn.iter().filter(|&&d| d == n).count())));
        assert_eq!((0..10_000).filter(|_| a.chance(0)).count(), 0);
        assert_eq!((0..10_000).filter(|_| a.chance(1_000_000)).count(), 10_000);
    }
}
