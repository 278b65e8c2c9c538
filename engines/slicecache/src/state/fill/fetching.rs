//! The origin's side of `fill`: which fetch begins next, what comes of it, what is left when it fails.

use super::{Effect, Fetch, Fill, Reader, Run, Slot, Why};
use std::ops::Range;

impl Fill {
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
                self.here.add(slice);
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
    pub(super) fn pump(&mut self, effects: &mut Vec<Effect>) {
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
    pub(super) fn ahead(&self) -> usize {
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

    /// When nobody reads, what failed may go better for the next ones.
    pub(super) fn maybe_trust(&mut self) {
        if self.readers.is_empty() {
            self.wants.trust_all();
        }
    }
}
