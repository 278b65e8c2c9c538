//! Answers that are kept whole in memory beside the slices in the tier: errors and redirects that may be stored, small objects whose
//! versions cannot be told apart or whose length nobody states. Called by `fetch`, which reads them, and by `shard`.
//!
//! Invariants
//! 1. One is at most [`KEPT_BYTES_MAX`] of body long, all of a column are [`KEPT_BYTES_ALL_MAX`] with their fields; what has no room is
//!    not kept.
//! 2. Nobody waits longer than [`KEPT_WAIT_NS`] for the end of a body; one that has no end in sight, or would be of no use later, is
//!    not waited for.
//! 3. An error that a client's own fields may have provoked is kept for clients that send the same.

use crate::fetch::Got;
use crate::limits::{KEPT_BYTES_ALL_MAX, KEPT_BYTES_MAX, KEPT_WAIT_NS, PASSED_PIECE_BYTES};
use crate::live::{Live, State};
use crate::shard::Owner;
use crate::state::fields::Fields;
use crate::state::forward::Line;
use crate::state::freshness::Freshness;
use crate::state::key::unknown_variant;
use crate::state::purge::Generation;
use crate::state::subreply::may_keep;
use bytes::Bytes;
use runtime::io::Io;
use runtime::patience::within;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

/// Bytes of a column's memory for answers that are kept.
#[derive(Clone, Default)]
pub(crate) struct Shelf(Rc<Cell<u64>>);

/// A place on it, given back when it is dropped.
pub(crate) struct Place {
    shelf: Shelf,
    bytes: u64,
}

impl Shelf {
    /// `None`: there is no more room.
    pub fn try_take(&self, bytes: u64) -> Option<Place> {
        let all = self.0.get() + bytes;
        if all > KEPT_BYTES_ALL_MAX {
            return None;
        }
        self.0.set(all);
        Some(Place { shelf: self.clone(), bytes })
    }

    /// Bytes in use.
    pub fn bytes(&self) -> u64 {
        self.0.get()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shelf.0.set(self.shelf.0.get() - self.bytes);
    }
}

/// An answer that is kept.
pub(crate) struct Kept {
    pub status: u16,
    pub lines: Arc<Vec<Line>>,
    pub body: Bytes,
    pub generation: Generation,
    pub tags: Vec<String>,
    /// Held as long as it is kept.
    pub _place: Place,
}

/// A body that was read to its end, and room for it.
pub(crate) struct Body {
    pub bytes: Bytes,
    pub place: Place,
}

impl<I: Io> Owner<I> {
    /// Reads the body of an answer that may be kept whole. `None`: it may not, it is too large or too slow, or it broke off.
    pub(crate) async fn keep(&self, live: &Live<I>, got: &mut Got<I>) -> Option<Body> {
        if !self.may_be_kept(live, got) {
            return None;
        }
        within(&self.io, KEPT_WAIT_NS, self.read_whole(got)).await?
    }

    async fn read_whole(&self, got: &mut Got<I>) -> Option<Body> {
        let mut buf = self.buffer(PASSED_PIECE_BYTES).await?;
        let mut body = Vec::new();
        while !got.reply.has_ended() {
            let (count, read, back) = got.reply.read_some(buf, PASSED_PIECE_BYTES).await;
            buf = back;
            read.ok()?;
            if body.len() + count > KEPT_BYTES_MAX {
                return None;
            }
            body.extend_from_slice(&buf[..count]);
            self.metrics.origin_bytes.add(count as u64);
        }
        body.shrink_to_fit();
        let fields: usize = got.reply.head.headers().map(|(name, value)| name.len() + value.len()).sum();
        let place = self.shelf.try_take((body.len() + fields) as u64)?;
        Some(Body { bytes: body.into(), place })
    }

    fn may_be_kept(&self, live: &Live<I>, got: &Got<I>) -> bool {
        let state = live.state.borrow();
        let (fields, length) = (Fields::of_reply(&got.reply.head), got.reply.length());
        // A body that may go on for ever is waited for only if it can be served again without asking.
        let is_of_use = |freshness: Freshness| length.is_some() || freshness.may_be_served_unasked();
        may_keep(&got.meaning, &fields, length)
            && self.freshness(&state, &self.lines_of(&state, got), got).is_ok_and(is_of_use)
            && !(got.reply.head.status >= 400 && may_be_provoked(live, &state))
    }

    /// What an answer that was read to its end becomes.
    pub(crate) fn on_kept(&self, live: &Rc<Live<I>>, got: Got<I>, body: Body) {
        {
            let state = &mut *live.state.borrow_mut();
            let status = got.reply.head.status;
            state.asked.status = Some(status);
            let lines = self.lines_of(state, &got);
            let freshness = self.freshness(state, &lines, &got);
            let known = self.known_of(state, lines);
            let (Ok(freshness), Some(known)) = (freshness, known) else {
                unreachable!("it was judged so before its body was read")
            };
            let mut acts = Vec::new();
            if self.is_outdated(live, state, &known) {
                state.object.on_outdated(&mut acts);
            } else {
                if status < 400 {
                    self.settle_name(live, state, known.vary.clone());
                }
                state.object.on_kept(freshness, &mut acts);
                let Body { bytes, place } = body;
                let (lines, generation, tags) = (known.lines, known.generation, known.tags);
                state.kept = Some(Kept { status, lines, body: bytes, generation, tags, _place: place });
            }
            self.act(live, state, acts, None);
            self.drop_unknown(state);
        }
        self.maybe_release(live);
    }
}

/// Whether other clients would have been answered otherwise: the object does not stand under all that its fetch carried.
fn may_be_provoked<I: Io>(live: &Live<I>, state: &State) -> bool {
    let is_keyed = live.name.get() == unknown_variant(&live.primary, &Fields::of_pairs(&state.lines));
    !is_keyed && !state.lines.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shelf_is_bounded_and_places_come_back() {
        let shelf = Shelf::default();
        let first = shelf.try_take(KEPT_BYTES_ALL_MAX - 10).expect("room");
        assert!(shelf.try_take(11).is_none());
        let second = shelf.try_take(10).expect("room");
        assert_eq!((second.bytes, shelf.bytes()), (10, KEPT_BYTES_ALL_MAX));
        drop(first);
        assert_eq!(shelf.bytes(), 10);
        drop(second);
        assert_eq!(shelf.bytes(), 0);
    }
}
