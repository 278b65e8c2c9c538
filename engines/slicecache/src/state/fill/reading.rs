//! The readers' side of `fill`: who reads what, what there is for them, where they stand, who is woken.

use super::{Busy, Effect, Fill, Next, Reader, Reading, Run, Slot, Source};
use crate::limits::READERS_MAX;
use std::ops::Range;

impl Fill {
    /// Of the slices that `parts` need: how many are held or in memory, and how many there are.
    #[must_use]
    pub fn counts(&self, parts: &[Range<u64>]) -> (u64, u64) {
        let is_here = |slot: &&Slot| matches!(slot, Slot::Held | Slot::Whole { .. });
        let each = |some: Range<u64>| self.slots.range(some).filter(|(_, slot)| is_here(slot)).count() as u64;
        let needed = self.needed(parts);
        let here = needed.iter().map(|some| self.here.count(some.clone(), each)).sum();
        (here, needed.iter().map(|some| some.end - some.start).sum())
    }

    /// Whether a slice that `parts` need is on its way already.
    #[must_use]
    pub fn any_comes(&self, parts: &[Range<u64>]) -> bool {
        let comes = |run: &Run| self.slices.holding(&(run.at..run.bytes.end));
        let needs = |coming: Range<u64>| {
            parts.iter().map(|part| self.slices.holding(part)).any(|needed| overlap(&needed, &coming))
        };
        self.runs.values().map(comes).any(needs)
    }

    /// The slices that `parts` need, each once.
    fn needed(&self, parts: &[Range<u64>]) -> Vec<Range<u64>> {
        let mut of_parts: Vec<Range<u64>> = parts.iter().map(|part| self.slices.holding(part)).collect();
        of_parts.sort_unstable_by_key(|slices| slices.start);
        let mut needed: Vec<Range<u64>> = Vec::with_capacity(of_parts.len());
        for slices in of_parts {
            match needed.last_mut() {
                Some(last) if slices.start <= last.end => last.end = last.end.max(slices.end),
                _ => needed.push(slices),
            }
        }
        needed
    }

    /// The slice that holds all of a range and is in the tier.
    #[must_use]
    pub fn held_by(&self, range: &Range<u64>) -> Option<u64> {
        let slice = self.slices.at(range.start);
        let is_whole = range.end <= self.slices.bytes(slice).end;
        (is_whole && self.slots.get(&slice) == Some(&Slot::Held)).then_some(slice)
    }

    /// A response reads `parts`, in that order. None is empty.
    ///
    /// # Errors
    /// There are too many readers.
    pub fn read(
        &mut self,
        reader: Reader,
        parts: Vec<Range<u64>>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Busy> {
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

    pub(super) fn remove(&mut self, reader: Reader, effects: &mut Vec<Effect>) {
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

    pub(super) fn waiting_in(&self, slice: u64) -> impl Iterator<Item = Reader> + '_ {
        self.waiting.range((slice, 0)..=(slice, Reader::MAX)).map(|(_, reader)| *reader)
    }

    /// Wakes who stands in a slice before `at`.
    pub(super) fn wake(&mut self, slice: u64, at: u64, effects: &mut Vec<Effect>) {
        let stands_at = |reader: &Reader| self.readers[reader].parts[0].start;
        let woken: Vec<Reader> = self.waiting_in(slice).filter(|reader| stands_at(reader) < at).collect();
        for reader in woken {
            self.waiting.remove(&(slice, reader));
            effects.push(Effect::Wake(reader));
        }
    }
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}
