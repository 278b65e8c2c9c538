//! How often a name was asked for lately: TinyLFU's sketch (Einziger, Friedman, Manes, ACM TOS 13(4), 2017). Pure.
//!
//! Called by `disk_policy`, which writes to a full disk only what is asked for again, or more often than what would go. A first
//! request is noted in a Bloom filter (the doorkeeper), further ones in a count-min sketch of 4-bit counters; after ten
//! requests per object all counters are halved and the doorkeeper is cleared, a few words with each request, so that no
//! request waits for all of them.
//!
//! Invariants
//! 1. Memory is fixed at `new`: 12 bytes per object, `OBJECTS_MAX` objects at most.
//! 2. An estimate is never below the requests since the last halving began, up to `ESTIMATE_MAX`.

const OBJECTS_MIN: usize = 1 << 10;
/// 48 MiB.
const OBJECTS_MAX: usize = 1 << 22;
const ROWS: usize = 4;
/// In a word of four bits each.
const COUNTERS_PER_WORD: usize = 16;
const COUNTER_MAX: u64 = 15;
/// What the doorkeeper and the counters say at most.
#[cfg(test)]
const ESTIMATE_MAX: u64 = COUNTER_MAX + 1;
/// Requests per object between halvings.
const SAMPLE_PER_OBJECT: u64 = 10;
/// While counters are halved: words per request.
const AGED_WORDS: usize = 64;
/// Odd, their bits even: one multiplication makes a row's place out of a name.
const MULTIPLIERS: [u64; ROWS + 1] = [
    0x9E37_79B9_7F4A_7C15,
    0xC2B2_AE3D_27D4_EB4F,
    0xD6E8_FEB8_6659_FD93,
    0xA076_1D64_78BD_642F,
    0xE703_7ED1_A0B4_28DB,
];

/// The sketch. Names are hashes already, seeded by the caller.
pub struct Admission {
    /// `ROWS` rows of counters, then the doorkeeper's bits.
    words: Box<[u64]>,
    counter_words: usize,
    /// A name's hash is shifted by this for its counter in a row.
    row_shift: u32,
    /// And by this for its word of the doorkeeper.
    door_shift: u32,
    requests: u64,
    sample: u64,
    /// Words up to here are aged; all of them when no halving is under way.
    aged: usize,
}

impl Admission {
    /// For about so many objects in the cache.
    pub fn new(objects: usize) -> Admission {
        let objects = objects.clamp(OBJECTS_MIN, OBJECTS_MAX).next_power_of_two();
        // Four counters of each row and 32 bits of the doorkeeper per object: it sees ten names per object.
        let (row_counters, door_bits) = (4 * objects, 32 * objects);
        let counter_words = ROWS * row_counters / COUNTERS_PER_WORD;
        let words = vec![0; counter_words + door_bits / 64].into_boxed_slice();
        let shift = |places: usize| 64 - places.trailing_zeros();
        Admission {
            aged: words.len(),
            words,
            counter_words,
            row_shift: shift(row_counters),
            door_shift: shift(door_bits / 64),
            requests: 0,
            sample: SAMPLE_PER_OBJECT * objects as u64,
        }
    }

    /// Counts a request.
    pub fn record(&mut self, name: u64) {
        let (word, bits) = self.door(name);
        if self.words[word] & bits != bits {
            self.words[word] |= bits;
        } else {
            self.count(name);
        }
        self.requests += 1;
        if self.requests >= self.sample {
            self.requests /= 2;
            self.aged = 0;
        }
        self.age();
    }

    /// How often a name was asked for lately; too much at times, never too little.
    pub fn estimate(&self, name: u64) -> u64 {
        let (word, bits) = self.door(name);
        self.counted(name) + u64::from(self.words[word] & bits == bits)
    }

    /// The word of a name's two bits in the doorkeeper, and the bits.
    fn door(&self, name: u64) -> (usize, u64) {
        let hash = name.wrapping_mul(MULTIPLIERS[ROWS]);
        let bits = 1 << (hash >> 8 & 63) | 1 << (hash >> 14 & 63);
        (self.counter_words + (hash >> self.door_shift) as usize, bits)
    }

    /// The word of a name's counter in a row, and how far it is shifted there.
    fn counter(&self, name: u64, row: usize) -> (usize, usize) {
        let place = (name.wrapping_mul(MULTIPLIERS[row]) >> self.row_shift) as usize;
        (row * (self.counter_words / ROWS) + place / COUNTERS_PER_WORD, place % COUNTERS_PER_WORD * 4)
    }

    fn counted(&self, name: u64) -> u64 {
        let counters = (0..ROWS).map(|row| self.counter(name, row));
        counters.map(|(word, shift)| self.words[word] >> shift & COUNTER_MAX).min().expect("there are rows")
    }

    /// Only the lowest of its counters: the others are too high for another name's sake.
    fn count(&mut self, name: u64) {
        let lowest = self.counted(name);
        if lowest == COUNTER_MAX {
            return;
        }
        for row in 0..ROWS {
            let (word, shift) = self.counter(name, row);
            if self.words[word] >> shift & COUNTER_MAX == lowest {
                self.words[word] += 1 << shift;
            }
        }
    }

    fn age(&mut self) {
        let end = (self.aged + AGED_WORDS).min(self.words.len());
        for at in self.aged..end {
            // Each counter's lowest bit would move into its neighbour's highest.
            let halved = self.words[at] >> 1 & 0x7777_7777_7777_7777;
            self.words[at] = if at < self.counter_words { halved } else { 0 };
        }
        self.aged = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// A hash (SplitMix64's), as names are.
    fn name(n: u64) -> u64 {
        let a = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let b = (a ^ a >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let c = (b ^ b >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        c ^ c >> 31
    }

    #[test]
    fn frequent_names_stand_out_and_fade() {
        let mut admission = Admission::new(OBJECTS_MIN);
        (0..10).for_each(|_| admission.record(1));
        assert_eq!(admission.estimate(1), 10);
        assert_eq!(admission.estimate(2), 0);
        // Two samples of names that come once each: what was frequent fades.
        (10..10 + admission.sample).for_each(|n| admission.record(name(n)));
        let later = admission.estimate(1);
        assert!((5..=7).contains(&later), "{later} of 10");
        (0..3 * admission.sample).for_each(|n| admission.record(name(n + 1_000_000)));
        assert!(admission.estimate(1) <= 3, "{}", admission.estimate(1));
    }

    #[test]
    fn few_of_the_names_asked_for_once_look_like_more() {
        let mut admission = Admission::new(4096);
        let once = admission.sample - 1;
        (1..=once).for_each(|n| admission.record(name(n)));
        let wrong = (1..=once).filter(|&n| admission.estimate(name(n)) > 1).count();
        assert!((wrong as u64) < once / 8, "{wrong} of {once}");
    }

    #[test]
    fn memory_is_fixed_and_bounded() {
        assert_eq!(Admission::new(1 << 16).words.len() * 8, 12 << 16);
        assert_eq!(Admission::new(usize::MAX).words.len() * 8, 12 * OBJECTS_MAX);
    }

    proptest! {
        #[test]
        fn never_below_a_true_count(names in prop::collection::vec(0u64..300, 1..2000)) {
            let mut admission = Admission::new(OBJECTS_MIN);
            let mut counts: HashMap<u64, u64> = HashMap::new();
            for name in names {
                let name = self::name(name);
                admission.record(name);
                *counts.entry(name).or_default() += 1;
            }
            for (name, count) in counts {
                prop_assert!(admission.estimate(name) >= count.min(ESTIMATE_MAX));
                prop_assert!(admission.estimate(name) <= ESTIMATE_MAX);
            }
        }
    }
}
