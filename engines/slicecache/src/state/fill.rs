//! One version of an object: which slices are held, which come, who waits for what, and what to fetch next. Shared by all that
//! read it.
//!
//! Called by `object` and by the loop that waits: events in, [`Effect`]s out. A slice is *missing*, then *coming* (one fetch brings
//! it), then *whole* (in memory, on its way to the tier), then *held* (in the tier). A reader stands at a byte and takes what
//! is there of the slice that it stands in, also while that comes. Its *window* is that slice and the next ones that it will need;
//! `wants` knows of all windows which slice is needed how soon.
//!
//! Invariants, checked after each event where debug assertions are on
//! 1. A slice is brought by at most one fetch at a time; at most `runs_max` fetches are under way.
//! 2. What a reader is given is held or was received: never a byte beyond.
//! 3. When a fetch begins, no more slices are in memory, this one included, than `ahead_max` and one for each reader.
//! 4. Somebody stands in a missing slice only while as many fetches are under way as may be, or memory is full of slices
//!    that are about to be held: so everybody gets on.
//! 5. When the version ends, everybody who reads it ends, and nothing of it is left.

mod wants;

use super::slices::Slices;
use crate::limits::{AHEAD_SLICES_MAX, READERS_MAX, RESPONSE_BYTES_MAX};
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

/// More than [`READERS_MAX`] read the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Coming(Fetch),
    /// Not stored yet, or the tier did not take it.
    Whole { is_storing: bool },
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
    pub fn new(slices: Slices, runs_max: usize, held: impl IntoIterator<Item = u64>, next_fetch: Fetch) -> Fill {
        let in_memory = usize::try_from(RESPONSE_BYTES_MAX / slices.slice_bytes).unwrap_or(usize::MAX);
        let ahead_max = runs_max.min(AHEAD_SLICES_MAX).min(in_memory.saturating_sub(1));
        let slots: BTreeMap<u64, Slot> = held.into_iter().map(|slice| (slice, Slot::Held)).collect();
        assert!(runs_max > 0 && slots.keys().all(|slice| *slice < slices.count()));
        let (readers, runs) = (BTreeMap::new(), BTreeMap::new());
        let (buffered, waiting, wants) = (BTreeSet::new(), BTreeSet::new(), Wants::default());
        Fill { slices, runs_max, ahead_max, slots, buffered, readers, waiting, runs, wants, next_fetch }
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

    /// Of the slices that `parts` need: how many are held or in memory, and how many there are.
    #[must_use]
    pub fn counts(&self, parts: &[Range<u64>]) -> (u64, u64) {
        let needed: BTreeSet<u64> = parts.iter().flat_map(|part| self.slices.holding(part)).collect();
        let here = needed.iter().filter(|slice| {
            matches!(self.slots.get(slice), Some(Slot::Held | Slot::Whole { .. }))
        });
        (here.count() as u64, needed.len() as u64)
    }

    /// Takes the first run, whose answer told the version, for a fetch of the slices that lie wholly in it. `None`: there are
    /// none, its bytes are of no use. Nothing was read or fetched before.
    pub fn adopt(&mut self, run: &Range<u64>) -> Option<(Fetch, Range<u64>)> {
        assert!(self.runs.is_empty() && self.slots.is_empty(), "a first run comes first");
        let whole = self.slices.within(run);
        if whole.is_empty() {
            return None;
        }
        let bytes = self.slices.bytes(whole.start).start..self.slices.bytes(whole.end - 1).end;
        let fetch = self.begin(whole, bytes.clone());
        self.check();
        Some((fetch, bytes))
    }

    /// A response reads `parts`, in that order. None is empty.
    ///
    /// # Errors
    /// There are too many readers.
    pub fn read(&mut self, reader: Reader, parts: Vec<Range<u64>>, effects: &mut Vec<Effect>) -> Result<(), Busy> {
        assert!(!self.readers.contains_key(&reader), "reader {reader} reads already");
        assert!(parts.iter().all(|part| part.start < part.end && part.end <= self.slices.size));
        if self.readers.len() >= READERS_MAX {
            return Err(Busy);
        }
        self.readers.insert(reader, Reading { parts: parts.into(), window: Vec::new() });
        self.move_window(reader, effects);
        self.pump(effects);
        self.check();
        Ok(())
    }

    /// What there is for a reader.
    pub fn next(&mut self, reader: Reader) -> Next {
        let reading = self.readers.get(&reader).expect("a reader that reads");
        let Some(part) = reading.parts.front() else { return Next::Done };
        let slice = self.slices.at(part.start);
        let end = part.end.min(self.slices.bytes(slice).end);
        let (end, source) = match self.slots.get(&slice) {
            Some(Slot::Held) => (end, Source::Tier),
            Some(Slot::Whole { .. }) => (end, Source::Memory),
            Some(Slot::Coming(fetch)) => (end.min(self.runs[fetch].at), Source::Memory),
            None => (part.start, Source::Memory),
        };
        if end > part.start {
            return Next::Bytes(slice, part.start..end, source);
        }
        self.waiting.insert((slice, reader));
        Next::Wait
    }

    /// A reader has taken so many bytes of what [`Fill::next`] gave it.
    pub fn on_taken(&mut self, reader: Reader, bytes: u64, effects: &mut Vec<Effect>) {
        let reading = self.readers.get_mut(&reader).expect("a reader that reads");
        let part = reading.parts.front_mut().expect("a reader that was given something");
        let slice = self.slices.at(part.start);
        part.start += bytes;
        assert!(part.start <= part.end.min(self.slices.bytes(slice).end), "more than it was given");
        if part.start == part.end {
            reading.parts.pop_front();
        }
        let stands_in = reading.parts.front().map(|part| self.slices.at(part.start));
        if stands_in != Some(slice) {
            self.move_window(reader, effects);
            self.pump(effects);
        }
        self.check();
    }

    /// A response is over, or its client is gone.
    pub fn on_left(&mut self, reader: Reader, effects: &mut Vec<Effect>) {
        self.remove(reader, effects);
        self.maybe_trust();
        self.pump(effects);
        self.check();
    }

    /// So many bytes more came for a run.
    pub fn on_received(&mut self, fetch: Fetch, bytes: u64, effects: &mut Vec<Effect>) {
        let run = self.runs.get_mut(&fetch).expect("a fetch under way");
        let from = run.at;
        run.at += bytes;
        assert!(bytes > 0 && run.at <= run.bytes.end, "more than was asked for");
        let (at, is_over) = (run.at, run.at == run.bytes.end);
        for slice in self.slices.holding(&(from..at)) {
            if self.slices.bytes(slice).end <= at {
                self.slots.insert(slice, Slot::Whole { is_storing: true });
                self.wants.trust(slice);
                effects.push(Effect::Store(slice));
            }
            self.wake(slice, at, effects);
        }
        if is_over {
            self.runs.remove(&fetch);
            self.pump(effects);
        }
        self.check();
    }

    /// What is left of a run: after a failure, where to resume.
    #[must_use]
    pub fn rest(&self, fetch: Fetch) -> Option<Range<u64>> {
        self.runs.get(&fetch).map(|run| run.at..run.bytes.end)
    }

    /// A run failed for good. Who waits for its slices ends; the others may ask for them again when they get there.
    pub fn on_failed(&mut self, fetch: Fetch, effects: &mut Vec<Effect>) {
        let run = self.runs.remove(&fetch).expect("a fetch under way");
        for slice in self.slices.holding(&(run.at..run.bytes.end)) {
            assert_eq!(self.slots.remove(&slice), Some(Slot::Coming(fetch)));
            self.buffered.remove(&slice);
            effects.push(Effect::Forget(slice));
            let ended: Vec<Reader> = self.waiting_in(slice).collect();
            for reader in ended {
                self.remove(reader, effects);
                effects.push(Effect::End(reader, Why::Failed));
            }
            self.wants.doubt(slice);
        }
        self.maybe_trust();
        self.pump(effects);
        self.check();
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

    fn begin(&mut self, slices: Range<u64>, bytes: Range<u64>) -> Fetch {
        let fetch = self.next_fetch;
        self.next_fetch += 1;
        for slice in slices {
            let before = self.slots.insert(slice, Slot::Coming(fetch));
            assert_eq!(before, None, "slice {slice} is fetched twice");
            self.buffered.insert(slice);
            self.wants.file(slice, false);
        }
        self.runs.insert(fetch, Run { at: bytes.start, bytes });
        fetch
    }

    /// Begins what may begin: what somebody stands in first, then what is needed soonest.
    fn pump(&mut self, effects: &mut Vec<Effect>) {
        while self.runs.len() < self.runs_max {
            let Some((distance, slice)) = self.wants.first() else { return };
            let ahead = self.ahead();
            let has_room = if distance == 0 { ahead <= self.ahead_max } else { ahead < self.ahead_max };
            if !has_room {
                if distance == 0 && self.give_up_one(effects) {
                    continue;
                }
                return;
            }
            let bytes = self.slices.bytes(slice);
            let fetch = self.begin(slice..slice + 1, bytes.clone());
            assert!(self.buffered.len() <= self.ahead_max + self.readers.len(), "too much in memory");
            effects.push(Effect::Start(fetch, bytes));
        }
    }

    /// Slices in memory that nobody stands in.
    fn ahead(&self) -> usize {
        self.buffered.iter().filter(|slice| self.wants.distance(**slice) != Some(0)).count()
    }

    /// Somebody stands before a missing slice: what the tier did not take and is needed last goes.
    fn give_up_one(&mut self, effects: &mut Vec<Effect>) -> bool {
        let not_taken = |slice: &&u64| self.slots.get(slice) == Some(&Slot::Whole { is_storing: false });
        let by_distance = |slice: &&u64| self.wants.distance(**slice);
        let ahead = self.buffered.iter().filter(not_taken).filter(|slice| by_distance(slice) != Some(0));
        let Some(slice) = ahead.max_by_key(by_distance).copied() else { return false };
        self.forget(slice, effects);
        true
    }

    fn maybe_forget(&mut self, slice: u64, effects: &mut Vec<Effect>) {
        let is_not_taken = self.slots.get(&slice) == Some(&Slot::Whole { is_storing: false });
        if is_not_taken && self.wants.distance(slice).is_none() {
            self.forget(slice, effects);
        }
    }

    fn forget(&mut self, slice: u64, effects: &mut Vec<Effect>) {
        self.slots.remove(&slice);
        self.buffered.remove(&slice);
        self.wants.file(slice, true);
        effects.push(Effect::Forget(slice));
    }

    fn remove(&mut self, reader: Reader, effects: &mut Vec<Effect>) {
        let reading = self.readers.get_mut(&reader).expect("a reader that reads");
        if let Some(part) = reading.parts.front() {
            self.waiting.remove(&(self.slices.at(part.start), reader));
        }
        reading.parts.clear();
        self.move_window(reader, effects);
        self.readers.remove(&reader);
    }

    /// After the reader moved: its window is that of where it stands.
    fn move_window(&mut self, reader: Reader, effects: &mut Vec<Effect>) {
        let reading = self.readers.get_mut(&reader).expect("a reader that reads");
        let mut window = Vec::with_capacity(self.ahead_max + 1);
        for slice in reading.parts.iter().flat_map(|part| self.slices.holding(part)) {
            if window.len() > self.ahead_max {
                break;
            }
            if !window.contains(&slice) {
                window.push(slice);
            }
        }
        let before = std::mem::replace(&mut reading.window, window.clone());
        self.wants.shift(&before, &window);
        for slice in before.into_iter().chain(window) {
            self.wants.file(slice, !self.slots.contains_key(&slice));
            self.maybe_forget(slice, effects);
        }
    }

    /// When nobody reads, what failed may go better for the next ones.
    fn maybe_trust(&mut self) {
        if self.readers.is_empty() {
            self.wants.trust_all();
        }
    }

    fn waiting_in(&self, slice: u64) -> impl Iterator<Item = Reader> + '_ {
        self.waiting.range((slice, 0)..=(slice, Reader::MAX)).map(|(_, reader)| *reader)
    }

    /// Wakes who stands in a slice before `at`.
    fn wake(&mut self, slice: u64, at: u64, effects: &mut Vec<Effect>) {
        let stands_at = |reader: &Reader| self.readers[reader].parts[0].start;
        let woken: Vec<Reader> = self.waiting_in(slice).filter(|reader| stands_at(reader) < at).collect();
        for reader in woken {
            self.waiting.remove(&(slice, reader));
            effects.push(Effect::Wake(reader));
        }
    }

    fn check(&self) {
        #[cfg(debug_assertions)]
        check::check(self);
    }
}

#[cfg(debug_assertions)]
mod check;
#[cfg(test)]
mod tests;
