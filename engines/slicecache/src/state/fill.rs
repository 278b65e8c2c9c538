//! One version of an object: which slices are held, which come, who waits for what, and what to fetch next. Shared by all that
//! read it.
//!
//! Called by `object` and by the loop that waits: events in, [`Effect`]s out. A slice is *missing*, then *coming* (one fetch brings
//! it), then *whole* (in memory, on its way to the tier), then *held* (in the tier). A reader stands at a byte and takes what
//! is there of the slice that it stands in, also while that comes. Its *window* is that slice and the next ones that it will need;
//! `wants` knows of all windows which slice is needed how soon.
//!
//! `reading` has the events of readers, `fetching` those of fetches, this file those of the tier and the whole.
//!
//! Invariants, checked after each event where debug assertions are on, and in tests
//! 1. A slice is brought by at most one fetch at a time; at most `runs_max` fetches are under way.
//! 2. What a reader is given is held or was received: never a byte beyond.
//! 3. When a fetch begins, no more slices are in memory, this one included, than `ahead_max` and one for each reader.
//! 4. Somebody stands in a missing slice only while as many fetches are under way as may be, or memory is full of slices
//!    that are about to be held: so everybody gets on.
//! 5. When the version ends, everybody who reads it ends, and nothing of it is left.

mod fetching;
mod here;
mod reading;
mod wants;

use super::slices::Slices;
use crate::limits::{AHEAD_SLICES_MAX, RESPONSE_BYTES_MAX};
use here::Here;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use wants::Wants;

/// Names a response that reads the object; given by the caller, unique in the object.
pub type Reader = u32;
/// Names a request to the origin; never used twice.
pub type Fetch = u64;

/// What the caller is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask the origin for a run.
    Start(Fetch, Range<u64>),
    /// Its bytes are of no more use.
    Cancel(Fetch),
    /// A slice is whole: put it into the tier, then say [`Fill::on_stored`] or [`Fill::on_not_stored`].
    Store(u64),
    /// The bytes of a slice need not stay in memory.
    Forget(u64),
    /// A slice in the tier is of no more use.
    Drop(u64),
    /// There is something for [`Fill::next`].
    Wake(Reader),
    /// A response ends here; the reader is gone.
    End(Reader, Why),
}

/// Why a response ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The origin has another version.
    Changed,
    /// The slice that it waits for could not be fetched.
    Failed,
    /// The origin refuses to give it.
    Refused,
}

/// What there is for a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// These bytes, of one slice.
    Bytes(u64, Range<u64>, Source),
    /// Nothing yet; [`Effect::Wake`] follows.
    Wait,
    /// It has all of it.
    Done,
}

/// Where bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// In memory: received from the origin.
    Memory,
    /// In the tier. If it is not there any more: [`Fill::on_lost`].
    Tier,
}

/// More than [`crate::limits::READERS_MAX`] read the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Coming(Fetch),
    /// Not stored yet, or the tier did not take it.
    Whole {
        is_storing: bool,
    },
    Held,
}

#[derive(Debug)]
struct Reading {
    /// What is left; the first one begins where the reader stands. None is empty.
    parts: VecDeque<Range<u64>>,
    window: Vec<u64>,
}

#[derive(Debug)]
struct Run {
    /// Whole slices.
    bytes: Range<u64>,
    /// The next byte.
    at: u64,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Fill {
    slices: Slices,
    runs_max: usize,
    ahead_max: usize,
    /// Those that are not missing.
    slots: BTreeMap<u64, Slot>,
    /// Those that are held or whole.
    here: Here,
    /// Those in memory: coming and whole.
    buffered: BTreeSet<u64>,
    readers: BTreeMap<Reader, Reading>,
    /// By the slice they stand in.
    waiting: BTreeSet<(u64, Reader)>,
    runs: BTreeMap<Fetch, Run>,
    wants: Wants,
    next_fetch: Fetch,
}

impl Fill {
    /// Of a version of which `held` are in the tier. Its fetches are numbered from `next_fetch`.
    #[must_use]
    pub fn new(
        slices: Slices,
        runs_max: usize,
        held: impl IntoIterator<Item = u64>,
        next_fetch: Fetch,
    ) -> Fill {
        let in_memory = usize::try_from(RESPONSE_BYTES_MAX / slices.slice_bytes).unwrap_or(usize::MAX);
        let ahead_max = runs_max.min(AHEAD_SLICES_MAX).min(in_memory.saturating_sub(1));
        let slots: BTreeMap<u64, Slot> = held.into_iter().map(|slice| (slice, Slot::Held)).collect();
        assert!(runs_max > 0 && slots.keys().all(|slice| *slice < slices.count()));
        let (here, readers, runs) = (slots.keys().copied().collect(), BTreeMap::new(), BTreeMap::new());
        let (buffered, waiting, wants) = (BTreeSet::new(), BTreeSet::new(), Wants::default());
        Fill { slices, runs_max, ahead_max, slots, here, buffered, readers, waiting, runs, wants, next_fetch }
    }

    /// The slices.
    #[must_use]
    pub fn slices(&self) -> &Slices {
        &self.slices
    }

    /// The number that the next fetch gets.
    #[must_use]
    pub fn next_fetch(&self) -> Fetch {
        self.next_fetch
    }

    /// A slice is in the tier.
    pub fn on_stored(&mut self, slice: u64, effects: &mut Vec<Effect>) {
        let before = self.slots.insert(slice, Slot::Held);
        assert_eq!(before, Some(Slot::Whole { is_storing: true }), "slice {slice} was not being stored");
        self.buffered.remove(&slice);
        effects.push(Effect::Forget(slice));
        self.pump(effects);
        self.check();
    }

    /// The tier did not take a slice: it stays in memory as long as it is in somebody's window.
    pub fn on_not_stored(&mut self, slice: u64, effects: &mut Vec<Effect>) {
        let before = self.slots.insert(slice, Slot::Whole { is_storing: false });
        assert_eq!(before, Some(Slot::Whole { is_storing: true }), "slice {slice} was not being stored");
        self.maybe_forget(slice, effects);
        self.pump(effects);
        self.check();
    }

    /// A slice is not in the tier any more: evicted, damaged, or on a disk that is out.
    pub fn on_lost(&mut self, slice: u64, effects: &mut Vec<Effect>) {
        if self.slots.get(&slice) == Some(&Slot::Held) {
            self.slots.remove(&slice);
            self.here.remove(slice);
            self.wants.file(slice, true);
            self.pump(effects);
        }
        self.check();
    }

    /// The version ends, and everything of it.
    pub fn end(self, effects: &mut Vec<Effect>) {
        effects.extend(self.runs.keys().map(|fetch| Effect::Cancel(*fetch)));
        effects.extend(self.readers.keys().map(|reader| Effect::End(*reader, Why::Changed)));
        effects.extend(self.slots.iter().map(|(slice, slot)| match slot {
            Slot::Held => Effect::Drop(*slice),
            Slot::Coming(_) | Slot::Whole { .. } => Effect::Forget(*slice),
        }));
    }

    /// Whether nobody reads it and nothing is under way: it may be let go of and made again from what is held.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.readers.is_empty() && self.buffered.is_empty()
    }

    fn maybe_forget(&mut self, slice: u64, effects: &mut Vec<Effect>) {
        let is_not_taken = self.slots.get(&slice) == Some(&Slot::Whole { is_storing: false });
        if is_not_taken && self.wants.distance(slice).is_none() {
            self.forget(slice, effects);
        }
    }

    fn forget(&mut self, slice: u64, effects: &mut Vec<Effect>) {
        self.slots.remove(&slice);
        self.here.remove(slice);
        self.buffered.remove(&slice);
        self.wants.file(slice, true);
        effects.push(Effect::Forget(slice));
    }

    fn check(&self) {
        #[cfg(any(test, debug_assertions))]
        check::check(self);
    }
}

#[cfg(any(test, debug_assertions))]
mod check;
#[cfg(test)]
mod tests;
