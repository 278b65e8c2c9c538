//! Readers under way: what comes next for them, from memory as it comes or from the tier; how they leave. Called by `columns`.

use super::{Owner, Place};
use crate::api::{Opened, Step};
use crate::limits::{MEMORY_RETRY_NS, MEMORY_TRIES_MAX};
use crate::live::{Live, State};
use crate::state::fill::{Next, Reader, Source, Why};
use runtime::io::Io;
use runtime::oneshot::{Oneshot, Waiting};
use runtime::tier::{Digest, EXTENT_BYTES, Found, Object, ReadError};
use std::ops::Range;
use std::rc::Rc;

/// What there is for a reader.
enum Turn {
    Step(Step),
    /// So many bytes of this slice are in the tier.
    Tier(u64, Digest, Range<u64>),
    Wait(Waiting<()>),
}

impl<I: Io> Owner<I> {
    /// What comes next for a reader, who has sent `taken` bytes of what it was given.
    pub async fn next(&self, reader: Reader, taken: u64) -> Step {
        let live = match self.readers.borrow().get(&reader) {
            Some(Place::At(live)) => live.clone(),
            _ => return Step::Ended(Why::Failed),
        };
        let mut taken = taken;
        let mut tries = 0;
        loop {
            let turn = self.turn(&live, reader, std::mem::take(&mut taken));
            match turn {
                Turn::Step(step) => {
                    if matches!(step, Step::Done | Step::Ended(_)) {
                        self.maybe_release(&live);
                    }
                    return step;
                }
                Turn::Wait(waiting) => waiting.await,
                Turn::Tier(slice, digest, range) => match self.read(&digest, range).await {
                    Ok(Some(step)) => return step,
                    // No memory, or too much to do: it is there all the same.
                    Err(ReadError::Busy) if tries < MEMORY_TRIES_MAX => {
                        tries += 1;
                        self.io.sleep(MEMORY_RETRY_NS).await;
                    }
                    Ok(None) | Err(_) => self.on_lost(&live, slice),
                },
            }
        }
    }

    fn turn(&self, live: &Rc<Live<I>>, reader: Reader, taken: u64) -> Turn {
        let state = &mut *live.state.borrow_mut();
        let Some(seat) = state.seats.get(&reader) else { return Turn::Step(Step::Ended(Why::Failed)) };
        if let Some(why) = seat.ended {
            self.stand_up(state, reader);
            return Turn::Step(Step::Ended(why));
        }
        let Some((_, _, fill)) = state.object.fill() else {
            unreachable!("nobody told the reader that it ended")
        };
        let mut effects = Vec::new();
        if taken > 0 {
            fill.on_taken(reader, taken, &mut effects);
        }
        let next = fill.next(reader);
        let slices = *fill.slices();
        if next == Next::Done {
            fill.on_left(reader, &mut effects);
        }
        self.effects(live, state, effects);
        match next {
            Next::Done => {
                self.stand_up(state, reader);
                Turn::Step(Step::Done)
            }
            Next::Wait => {
                let (wake, waiting) = Oneshot::new();
                state.seats.get_mut(&reader).expect("just seen").wake = Some(wake);
                Turn::Wait(waiting)
            }
            Next::Bytes(slice, range, source) => {
                let start = slices.bytes(slice).start;
                let range = range.start - start..range.end - start;
                let number = state.known.as_ref().expect("of the version that is read").number;
                match self.step_now(live, state, (number, slice), range.clone(), source) {
                    Some(step) => Turn::Step(step),
                    None => Turn::Tier(slice, live.slice_digest(number, slice), range),
                }
            }
        }
    }

    /// A stretch of a slice, if it can be had without waiting.
    pub(super) fn step_now(
        &self,
        live: &Rc<Live<I>>,
        state: &State,
        (number, slice): (u64, u64),
        range: Range<u64>,
        source: Source,
    ) -> Option<Step> {
        if source == Source::Memory {
            self.metrics.memory_bytes.add(range.end - range.start);
            return Some(Step::Bytes(state.memory[&slice].cut(&range)));
        }
        let digest = live.slice_digest(number, slice);
        if let Some(found) = self.tier.get_held(&digest) {
            return self.step_of(found, &range);
        }
        let (start, range) = in_one_extent(range);
        let pages = self.tier.extent_held(&digest, &range)?;
        self.metrics.ram_bytes.add(range.end - range.start);
        Some(Step::Pages(pages, (range.start - start) as usize..(range.end - start) as usize))
    }

    fn step_of(&self, found: Found, range: &Range<u64>) -> Option<Step> {
        let (from, to) = (range.start as usize, range.end as usize);
        let (step, is_read) = match found {
            Found::Packed(bytes) => (Step::Bytes(Vec::from([bytes.slice(from..to)])), false),
            Found::Read(bytes) => (Step::Bytes(Vec::from([bytes.slice(from..to)])), true),
            Found::Pinned(pinned) => {
                let at = pinned.from + from..pinned.from + to;
                (Step::Pinned(pinned, at), false)
            }
            Found::Object(_) => return None,
        };
        let counter = if is_read { &self.metrics.disk_bytes } else { &self.metrics.ram_bytes };
        counter.add(range.end - range.start);
        Some(step)
    }

    /// A stretch of a slice in the tier, at most to the end of an extent. `None`: it is not there.
    async fn read(&self, digest: &Digest, range: Range<u64>) -> Result<Option<Step>, ReadError> {
        let Some(found) = self.tier.get(digest).await? else { return Ok(None) };
        let Found::Object(object) = found else { return Ok(self.step_of(found, &range)) };
        let (start, range) = in_one_extent(range);
        self.read_extent(digest, object, range, start).await.map(Some)
    }

    async fn read_extent(
        &self,
        digest: &Digest,
        object: Object,
        range: Range<u64>,
        start: u64,
    ) -> Result<Step, ReadError> {
        let bytes = range.end - range.start;
        Ok(match self.tier.extent(digest, &object, &range).await {
            Some(extent) => {
                self.metrics.ram_bytes.add(bytes);
                Step::Pages(extent.pages, (range.start - start) as usize..(range.end - start) as usize)
            }
            None => {
                self.metrics.disk_bytes.add(bytes);
                Step::Disk(*digest, object, range)
            }
        })
    }

    /// A slice is not in the tier any more, or cannot be read: it is missing from now on.
    fn on_lost(&self, live: &Rc<Live<I>>, slice: u64) {
        let state = &mut *live.state.borrow_mut();
        let mut effects = Vec::new();
        if let Some((_, _, fill)) = state.object.fill() {
            fill.on_lost(slice, &mut effects);
        }
        self.effects(live, state, effects);
    }

    /// A reader could not read the file of a slice that it was given: gone, or damaged.
    pub fn on_unreadable(&self, reader: Reader, digest: &Digest) {
        let live = match self.readers.borrow().get(&reader) {
            Some(Place::At(live)) => live.clone(),
            _ => return,
        };
        if self.tier.size(digest).is_some() {
            self.tier.on_damaged(digest);
        }
        let slice = {
            let state = &mut *live.state.borrow_mut();
            let number = state.known.as_ref().map(|known| known.number);
            let next = match state.object.fill() {
                Some((_, _, fill)) if state.seats.get(&reader).is_some_and(|seat| seat.ended.is_none()) => {
                    fill.next(reader)
                }
                _ => return,
            };
            match (next, number) {
                (Next::Bytes(slice, ..), Some(number)) if live.slice_digest(number, slice) == *digest => {
                    slice
                }
                _ => return,
            }
        };
        self.on_lost(&live, slice);
    }

    /// A reader is gone, wherever it is.
    pub fn leave(&self, reader: Reader) {
        let live = match self.readers.borrow_mut().get_mut(&reader) {
            Some(Place::At(live)) => live.clone(),
            Some(Place::Opening(has_left)) => {
                *has_left = true;
                return;
            }
            None => return,
        };
        {
            let state = &mut *live.state.borrow_mut();
            self.readers.borrow_mut().remove(&reader);
            if let Some(waits) = state.waiting.remove(&reader) {
                // Its request may come from another column, and stays there until it is answered.
                waits.give.set(Opened::Pass(state.not_stored));
                state.object.on_left(reader);
            }
            let mut effects = Vec::new();
            if let Some(mut seat) = state.seats.remove(&reader) {
                seat.wake();
                if let (None, Some((_, _, fill))) = (seat.ended, state.object.fill()) {
                    fill.on_left(reader, &mut effects);
                }
            }
            self.effects(&live, state, effects);
        }
        self.maybe_release(&live);
    }

    fn stand_up(&self, state: &mut State, reader: Reader) {
        state.seats.remove(&reader);
        self.readers.borrow_mut().remove(&reader);
    }
}

/// The extent in which a stretch begins, and how much of the stretch is in it.
fn in_one_extent(range: Range<u64>) -> (u64, Range<u64>) {
    let extent_bytes = EXTENT_BYTES as u64;
    let start = range.start / extent_bytes * extent_bytes;
    (start, range.start..range.end.min(start + extent_bytes))
}
