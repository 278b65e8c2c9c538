//! Mutation fuzzing without an engine: golden inputs of a decoder are bent, their checksums repaired so that what stands behind
//! them is reached, and what comes out must be refused or decoded, never a panic or memory without bound.
//!
//! Called by the `fuzz` tests of each crate that decodes bytes from outside. Each run does the same fixed seeds and one fresh one,
//! [`CASES`] mutations each; `FUZZ_SECONDS=n` goes on with further seeds for that long. A failure prints the seed and the
//! input; `BASALT_TEST_SEED=<seed>` repeats it.

#![forbid(unsafe_code)]

use std::env;
use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Mutated inputs of each seed.
pub const CASES: u32 = 20_000;
/// Address space that one run may take: a length field of 32 bits believed takes more.
pub const ALLOCATED_BYTES_MAX: u64 = 2 << 30;
const FIXED_SEEDS: [u64; 2] = [1, 2];
/// An input grows to this and no further.
const INPUT_BYTES_MAX: usize = 256 << 10;
/// Half of the mutations are before this.
const HEAD_BYTES: usize = 256;
const PRINTED_BYTES_MAX: usize = 4096;

/// Feeds `decode` with mutations of `golden`. It says whether it took an input, and panics where a promise is broken.
/// Three of four inputs are `repair`ed first. All of `golden` must be taken, and some mutations be taken, some refused.
pub fn fuzz(
    name: &str,
    golden: &[Vec<u8>],
    repair: impl Fn(&mut Vec<u8>),
    mut decode: impl FnMut(&[u8]) -> bool,
) {
    for (at, input) in golden.iter().enumerate() {
        let _told = Told { name, seed: 0, input };
        assert!(decode(input), "{name}: golden input {at} is refused");
    }
    let before = address_space_max_bytes();
    let due = Instant::now() + Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(0));
    let fresh = number("BASALT_TEST_SEED").unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(3, |d| d.as_nanos() as u64 & 0xffff_ffff)
    });
    let (mut taken, mut refused) = (0, 0);
    for seed in FIXED_SEEDS.into_iter().chain(fresh..) {
        if seed > fresh && Instant::now() >= due {
            break;
        }
        let mut mutator = Mutator::new(seed, golden);
        for _ in 0..CASES {
            let mut input = mutator.next();
            if mutator.below(4) > 0 {
                repair(&mut input);
            }
            let _told = Told { name, seed, input: &input };
            if decode(&input) { taken += 1 } else { refused += 1 }
        }
    }
    assert!(taken > 0 && refused > 0, "{name}: {taken} taken, {refused} refused: nothing was tried");
    let grown = address_space_max_bytes() - before;
    assert!(grown < ALLOCATED_BYTES_MAX, "{name}: {grown} bytes of address space were taken");
}

/// Says how to repeat a failure.
struct Told<'i> {
    name: &'i str,
    seed: u64,
    input: &'i [u8],
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let shown = &self.input[..self.input.len().min(PRINTED_BYTES_MAX)];
            eprintln!(
                "{}: BASALT_TEST_SEED={} repeats it: \"{}\"",
                self.name,
                self.seed,
                shown.escape_ascii()
            );
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")))
}

/// The most that this process ever had.
fn address_space_max_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("procfs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
    let kib = peak.and_then(|value| value.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.expect("VmPeak in kB") << 10
}

/// Bends inputs, the same way for the same seed.
pub struct Mutator<'g> {
    golden: &'g [Vec<u8>],
    state: u64,
}

impl<'g> Mutator<'g> {
    /// Mutations of `golden`, which is not empty.
    pub fn new(seed: u64, golden: &'g [Vec<u8>]) -> Mutator<'g> {
        assert!(!golden.is_empty());
        Mutator { golden, state: seed }
    }

    /// SplitMix64.
    fn any(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ self.state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.any() % limit as u64) as usize
    }

    /// One of the inputs, bent one to four times.
    #[expect(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> Vec<u8> {
        let golden = self.golden;
        let mut input = golden[self.below(golden.len())].clone();
        for _ in 0..=self.below(4) {
            self.bend(&mut input);
        }
        input.truncate(INPUT_BYTES_MAX);
        input
    }

    fn bend(&mut self, input: &mut Vec<u8>) {
        let (from, to) = self.range(input.len());
        match self.below(9) {
            0 if !input.is_empty() => input[from.min(to - 1)] ^= 1 << self.below(8),
            1 if !input.is_empty() => input[from.min(to - 1)] = self.byte(),
            2 => self.overwrite_number(input, from),
            3 => input.truncate(to),
            4 => {
                let byte = self.byte();
                input.insert(from, byte);
            }
            5 => drop(input.drain(from..to)),
            6 => {
                let piece = input[from..to].to_vec();
                input.splice(from..from, piece);
            }
            7 => self.splice(input, from),
            _ => self.replace_digits(input),
        }
    }

    /// Not empty unless the input is; short ones are as likely as long ones, and those near the start, where heads are, more so.
    fn range(&mut self, len: usize) -> (usize, usize) {
        if len == 0 {
            return (0, 0);
        }
        let from = if self.below(2) == 0 { self.below(len) } else { self.below(len.min(HEAD_BYTES)) };
        let longest = 1 << self.below(len.ilog2() as usize + 1);
        (from, (from + 1 + self.below(longest)).min(len))
    }

    fn byte(&mut self) -> u8 {
        const TELLING: [u8; 14] =
            [0, 1, 0x7f, 0x80, 0xff, b'\r', b'\n', b' ', b':', b',', b'-', b'/', b'"', b'%'];
        if self.below(2) == 0 { self.any() as u8 } else { TELLING[self.below(TELLING.len())] }
    }

    /// A number at which something may change.
    fn telling_number(&mut self) -> u64 {
        let near = (1u64 << self.below(64)).wrapping_add(self.below(3) as u64).wrapping_sub(1);
        match self.below(4) {
            0 => self.below(256) as u64,
            1 => u64::MAX - self.below(2) as u64,
            2 => near,
            _ => self.any(),
        }
    }

    /// A length, offset, count or sequence, little-endian, of 2, 4 or 8 bytes; on its boundary as often as not.
    fn overwrite_number(&mut self, input: &mut [u8], at: usize) {
        let width = [2, 4, 8][self.below(3)];
        let at = if self.below(4) > 0 { at / width * width } else { at };
        let number = self.telling_number().to_le_bytes();
        if let Some(field) = input.get_mut(at..at + width) {
            field.copy_from_slice(&number[..width]);
        }
    }

    /// The end of another input in place of its own, or a piece of it in between.
    fn splice(&mut self, input: &mut Vec<u8>, at: usize) {
        let golden = self.golden;
        let other = &golden[self.below(golden.len())];
        let (from, to) = self.range(other.len());
        if self.below(2) == 0 {
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        } else {
            input.splice(at..at, other[from..to].iter().copied());
        }
    }

    /// A run of decimal or hexadecimal digits becomes another number.
    fn replace_digits(&mut self, input: &mut Vec<u8>) {
        let starts: Vec<usize> = (0..input.len())
            .filter(|&at| input[at].is_ascii_digit() && (at == 0 || !input[at - 1].is_ascii_digit()))
            .collect();
        if starts.is_empty() {
            return;
        }
        let from = starts[self.below(starts.len())];
        let len = input[from..].iter().take_while(|b| b.is_ascii_digit()).count();
        let number = self.telling_number();
        let text = match self.below(3) {
            0 => format!("{number:x}"),
            1 => format!("{number}{number}"),
            _ => number.to_string(),
        };
        input.splice(from..from + len, text.into_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;

    fn golden() -> Vec<Vec<u8>> {
        vec![b"one 1234 two".to_vec(), vec![], vec![7; 300]]
    }

    #[test]
    fn a_seed_names_its_mutations() {
        let golden = golden();
        let of = |seed| {
            let mut mutator = Mutator::new(seed, &golden);
            (0..500).map(|_| mutator.next()).collect::<Vec<_>>()
        };
        assert_eq!(of(5), of(5));
        assert_ne!(of(5), of(6));
        let changed = of(5).iter().filter(|input| !golden.contains(input)).count();
        assert!(changed > 300, "{changed} of 500 differ");
    }

    /// A bug behind a checksum is found within the cases of one run, and so is memory without bound.
    #[test]
    fn planted_bugs_are_found() {
        let sum = |bytes: &[u8]| bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        let golden = [vec![3, 0, 0, 0, 9, 9, 9, 30]];
        let repair = |input: &mut Vec<u8>| {
            if let Some((last, rest)) = input.split_last_mut() {
                *last = sum(rest);
            }
        };
        let length = |input: &[u8]| {
            let (last, rest) = input.split_last()?;
            (*last == sum(rest) && rest.len() >= 4)
                .then(|| u32::from_le_bytes([rest[0], rest[1], rest[2], rest[3]]))
        };
        let believing = |input: &[u8]| length(input).is_some_and(|len| input[4..].len() > len as usize);
        fuzz("sound", &golden, repair, believing);
        let trusting = |input: &[u8]| {
            length(input).is_some_and(|len| input[4..4 + len as usize].iter().all(|&byte| byte == 9))
        };
        assert!(std::panic::catch_unwind(|| fuzz("out of bounds", &golden, repair, trusting)).is_err());
        let hoarding = |input: &[u8]| {
            length(input)
                .is_some_and(|len| black_box(Vec::<u8>::with_capacity(len as usize)).capacity() < 100)
        };
        assert!(std::panic::catch_unwind(|| fuzz("too much memory", &golden, repair, hoarding)).is_err());
    }
}
