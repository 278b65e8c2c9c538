//! Which slice is needed how soon: the windows of all readers, counted, and of them the missing slices in the order to fetch them.
//!
//! Called by `fill`. Distance 0: somebody stands in it; 1: somebody needs it next, and so on. A slice whose last fetch failed is
//! *doubted*: it is fetched again only when somebody stands in it.
//!
//! Invariant: a slice is in the queue, once, under its distance, exactly if it was last filed as missing, is wanted, and is
//! not doubted or has distance 0.

use crate::limits::{AHEAD_SLICES_MAX, READERS_MAX};
use std::collections::{BTreeMap, BTreeSet};

const DISTANCES: usize = AHEAD_SLICES_MAX + 1;
const _: () = assert!(READERS_MAX <= u16::MAX as usize && DISTANCES <= u8::MAX as usize);

#[derive(Debug, Default)]
struct Want {
    /// How many readers need it at each distance.
    readers: [u16; DISTANCES],
    /// Where it is in the queue.
    filed: Option<u8>,
}

impl Want {
    fn distance(&self) -> Option<u8> {
        let at = self.readers.iter().position(|count| *count > 0)?;
        Some(u8::try_from(at).expect("DISTANCES fits"))
    }
}

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Wants {
    wants: BTreeMap<u64, Want>,
    queue: BTreeSet<(u8, u64)>,
    doubted: BTreeSet<u64>,
}

impl Wants {
    /// A reader's window was `before` and is `after`. Every slice of both is to be filed then.
    pub fn shift(&mut self, before: &[u64], after: &[u64]) {
        for (distance, slice) in before.iter().enumerate() {
            let want = self.wants.get_mut(slice).expect("a slice of a window");
            want.readers[distance] -= 1;
        }
        for (distance, slice) in after.iter().enumerate() {
            self.wants.entry(*slice).or_default().readers[distance] += 1;
        }
    }

    /// Puts a slice where it belongs, or takes it out.
    pub fn file(&mut self, slice: u64, is_missing: bool) {
        let Some(want) = self.wants.get_mut(&slice) else { return };
        if let Some(distance) = want.filed.take() {
            self.queue.remove(&(distance, slice));
        }
        match want.distance() {
            None => {
                self.wants.remove(&slice);
            }
            Some(distance) if is_missing && (distance == 0 || !self.doubted.contains(&slice)) => {
                want.filed = Some(distance);
                self.queue.insert((distance, slice));
            }
            Some(_) => {}
        }
    }

    /// The missing slice that is needed soonest, and its distance.
    pub fn first(&self) -> Option<(u8, u64)> {
        self.queue.first().copied()
    }

    /// How soon a slice is needed; `None`: by nobody.
    pub fn distance(&self, slice: u64) -> Option<u8> {
        self.wants.get(&slice).and_then(Want::distance)
    }

    /// It is missing, since its fetch failed.
    pub fn doubt(&mut self, slice: u64) {
        self.doubted.insert(slice);
        self.file(slice, true);
    }

    /// It was fetched.
    pub fn trust(&mut self, slice: u64) {
        self.doubted.remove(&slice);
    }

    /// No slice is doubted any more.
    pub fn trust_all(&mut self) {
        debug_assert!(self.wants.is_empty());
        self.doubted.clear();
    }

    /// What the queue should be, for the check of the invariants.
    #[cfg(any(test, debug_assertions))]
    pub fn is_filed_right(&self, is_missing: impl Fn(u64) -> bool) -> bool {
        let wanted = self.wants.iter().filter_map(|(slice, want)| Some((want.distance()?, *slice)));
        let belongs = |(distance, slice): &(u8, u64)| {
            is_missing(*slice) && (*distance == 0 || !self.doubted.contains(slice))
        };
        let right: BTreeSet<(u8, u64)> = wanted.filter(belongs).collect();
        right == self.queue && self.wants.values().all(|want| want.distance().is_some())
    }

    /// Of the windows of readers, for the same.
    #[cfg(any(test, debug_assertions))]
    pub fn counts(&self) -> usize {
        self.wants
            .values()
            .map(|want| want.readers.iter().map(|count| usize::from(*count)).sum::<usize>())
            .sum()
    }
}
