//! The kernel's cpulist syntax: `0-3,8`, with strides `10-14:2` and groups `0-31:2/4`.
//!
//! Callers: the command line (`--cpuset`), [`cpus`](crate::cpus) for `/sys/devices/system/cpu/*`.
//! Units: logical CPU numbers as the kernel counts them, 0 to [`CPUS_MAX`] - 1.
//! Invariants: a list is sorted and holds each CPU once; `parse(list.to_string())` is the list again; a
//! parse allocates nothing that grows with its input.

use std::{fmt, str::FromStr};

/// CPU numbers are below this; also the longest list.
pub const CPUS_MAX: u32 = 4096;

const WORD_BITS: u32 = u64::BITS;

/// A set of CPUs, in ascending order. Displays in canonical form: `0-3,8`, and nothing if empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CpuList {
    cpus: Vec<u32>,
}

/// What is wrong with a cpulist, naming the piece between commas that is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CpuListError {
    /// Nothing at all.
    #[error("the CPU list is empty; write CPU numbers and ranges such as 0-3,8")]
    Empty,
    /// Two commas in a row, or one at an end.
    #[error("empty piece in CPU list \"{list}\": a comma has no CPU on one side")]
    EmptyPiece {
        /// The whole list, shortened.
        list: String,
    },
    /// Not a number where one belongs.
    #[error("\"{number}\" in CPU list piece \"{piece}\" is not a CPU number")]
    NotANumber {
        /// The piece at fault, shortened.
        piece: String,
        /// The part of it that is not a number, shortened.
        number: String,
    },
    /// A CPU number that no kernel has.
    #[error(
        "CPU {number} in CPU list piece \"{piece}\" is too large: the largest is {}",
        CPUS_MAX - 1
    )]
    TooLarge {
        /// The piece at fault, shortened.
        piece: String,
        /// The number at fault, shortened.
        number: String,
    },
    /// `3-1`.
    #[error("range \"{piece}\" in the CPU list runs backwards")]
    Backwards {
        /// The piece at fault, shortened.
        piece: String,
    },
    /// `5:2`, `0-7:0`, `0-7:0/4` or `0-7:5/4`.
    #[error(
        "bad step in CPU list piece \"{piece}\": write FIRST-LAST:STRIDE or FIRST-LAST:USED/GROUP with 1 <= USED <= GROUP"
    )]
    BadStep {
        /// The piece at fault, shortened.
        piece: String,
    },
}

impl CpuList {
    /// How many CPUs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cpus.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cpus.is_empty()
    }

    /// Whether `cpu` is in the list.
    #[must_use]
    pub fn contains(&self, cpu: u32) -> bool {
        self.cpus.binary_search(&cpu).is_ok()
    }

    /// The CPUs in ascending order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = u32> + '_ {
        self.cpus.iter().copied()
    }

    /// The CPUs in ascending order.
    #[must_use]
    pub fn as_slice(&self) -> &[u32] {
        &self.cpus
    }

    /// The CPUs that are in both lists.
    #[must_use]
    pub fn intersection(&self, other: &CpuList) -> CpuList {
        self.iter().filter(|&cpu| other.contains(cpu)).collect()
    }

    /// The CPUs of this list that are not in `other`.
    #[must_use]
    pub fn difference(&self, other: &CpuList) -> CpuList {
        self.iter().filter(|&cpu| !other.contains(cpu)).collect()
    }

    /// The first `count` CPUs.
    #[must_use]
    pub fn first(&self, count: usize) -> CpuList {
        self.iter().take(count).collect()
    }
}

impl FromIterator<u32> for CpuList {
    /// Panics on a number of [`CPUS_MAX`] or above: such numbers do not come from outside by this way.
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        let mut set = CpuSet::default();
        for cpu in cpus {
            assert!(cpu < CPUS_MAX, "CPU {cpu} is above {}", CPUS_MAX - 1);
            set.insert(cpu);
        }
        set.into_list()
    }
}

impl FromStr for CpuList {
    type Err = CpuListError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text)
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for run in self.cpus.chunk_by(|a, b| a + 1 == *b) {
            let (first, last) = (run[0], run[run.len() - 1]);
            assert!(first <= last && last < CPUS_MAX);
            if first == last {
                write!(f, "{separator}{first}")?;
            } else {
                write!(f, "{separator}{first}-{last}")?;
            }
            separator = ",";
        }
        Ok(())
    }
}

/// Reads a cpulist. White space around it (a sysfs newline) is ignored, inside it is an error.
pub fn parse(text: &str) -> Result<CpuList, CpuListError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(CpuListError::Empty);
    }
    let mut set = CpuSet::default();
    for piece in text.split(',') {
        if piece.is_empty() {
            let list = shortened(text);
            return Err(CpuListError::EmptyPiece { list });
        }
        parse_piece(piece, &mut set)?;
    }
    let list = set.into_list();
    assert!(!list.is_empty(), "every piece names a CPU");
    Ok(list)
}

/// One piece: `N`, `A-B`, `A-B:STRIDE`, `A-B:USED/GROUP`.
fn parse_piece(piece: &str, set: &mut CpuSet) -> Result<(), CpuListError> {
    let bad_step = || CpuListError::BadStep { piece: shortened(piece) };
    let (range, step) = match piece.split_once(':') {
        Some((range, step)) => (range, Some(step)),
        None => (piece, None),
    };
    let Some((first, last)) = range.split_once('-') else {
        let cpu = number(range, piece)?;
        if step.is_some() {
            return Err(bad_step());
        }
        set.insert(cpu);
        return Ok(());
    };
    let (first, last) = (number(first, piece)?, number(last, piece)?);
    if first > last {
        let piece = shortened(piece);
        return Err(CpuListError::Backwards { piece });
    }
    let (used, group) = match step {
        None => (1, 1),
        Some(step) => match step.split_once('/') {
            None => (1, number(step, piece)?),
            Some((used, group)) => (number(used, piece)?, number(group, piece)?),
        },
    };
    if used == 0 || used > group {
        return Err(bad_step());
    }
    for cpu in (first..=last).filter(|cpu| (cpu - first) % group < used) {
        set.insert(cpu);
    }
    Ok(())
}

/// A decimal number below [`CPUS_MAX`]; no sign, no white space.
fn number(text: &str, piece: &str) -> Result<u32, CpuListError> {
    let (number, piece) = (shortened(text), shortened(piece));
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(CpuListError::NotANumber { piece, number });
    }
    match text.parse::<u32>() {
        Ok(value) if value < CPUS_MAX => Ok(value),
        // All digits, so the only error left is overflow.
        _ => Err(CpuListError::TooLarge { piece, number }),
    }
}

/// Text from outside, fit for an error message.
fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 40;
    let mut short: String = text.chars().take(CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// A bitmap: what keeps a list sorted, free of repeats and bounded while it is put together.
struct CpuSet {
    words: [u64; (CPUS_MAX / WORD_BITS) as usize],
}

impl Default for CpuSet {
    fn default() -> Self {
        Self { words: [0; (CPUS_MAX / WORD_BITS) as usize] }
    }
}

impl CpuSet {
    fn insert(&mut self, cpu: u32) {
        assert!(cpu < CPUS_MAX);
        self.words[(cpu / WORD_BITS) as usize] |= 1 << (cpu % WORD_BITS);
    }

    fn into_list(self) -> CpuList {
        let has = |cpu: &u32| self.words[(cpu / WORD_BITS) as usize] >> (cpu % WORD_BITS) & 1 == 1;
        let cpus: Vec<u32> = (0..CPUS_MAX).filter(has).collect();
        assert!(cpus.is_sorted());
        CpuList { cpus }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(text: &str) -> String {
        parse(text).expect(text).to_string()
    }

    fn refused(text: &str) -> String {
        parse(text).expect_err(text).to_string()
    }

    #[test]
    fn reads_what_the_kernel_writes_and_takes() {
        assert_eq!(canonical("0\n"), "0");
        assert_eq!(canonical("0-3,8,10-14:2"), "0-3,8,10,12,14");
        assert_eq!(canonical("0-31:2/4"), "0-1,4-5,8-9,12-13,16-17,20-21,24-25,28-29");
        assert_eq!(canonical("8,3,1,2,3,0-1"), "0-3,8");
        assert_eq!(canonical("0-4095").len(), "0-4095".len());
        assert_eq!(CpuList::default().to_string(), "");
    }

    #[test]
    fn an_error_names_the_piece() {
        assert!(refused(" \n").contains("is empty"));
        assert!(refused("0,,1").contains("\"0,,1\""));
        assert!(refused("0,x,1").contains("\"x\" in CPU list piece \"x\""));
        assert!(refused("0,1- 2").contains("\" 2\" in CPU list piece \"1- 2\""));
        assert!(refused("-1").contains("\"\" in CPU list piece \"-1\""));
        assert!(refused("0-4096").contains("CPU 4096 in CPU list piece \"0-4096\""));
        assert!(refused("99999999999").contains("the largest is 4095"));
        assert!(refused("0,3-1").contains("\"3-1\""));
        for step in ["5:2", "0-7:0", "0-7:0/4", "0-7:5/4"] {
            assert!(refused(step).contains("bad step"), "{step}");
        }
        assert!(refused(&"9".repeat(10_000)).len() < 300);
    }

    #[test]
    fn sets_combine() {
        let (a, b) = (parse("0-5").expect("ok"), parse("4-8").expect("ok"));
        assert_eq!(a.intersection(&b).to_string(), "4-5");
        assert_eq!(a.difference(&b).to_string(), "0-3");
        assert_eq!(a.first(2).as_slice(), [0, 1]);
        assert!(a.contains(5) && !a.contains(6));
    }

    proptest! {
        #[test]
        fn display_is_read_back(cpus in prop::collection::vec(0..CPUS_MAX, 1..64)) {
            let list: CpuList = cpus.iter().copied().collect();
            prop_assert_eq!(parse(&list.to_string()), Ok(list.clone()));
            prop_assert!(cpus.iter().all(|&cpu| list.contains(cpu)));
        }

        #[test]
        fn no_text_panics(text in "[-0-9,:/ x]{0,24}") {
            if let Ok(list) = parse(&text) {
                prop_assert_eq!(parse(&list.to_string()), Ok(list));
            }
        }
    }
}
