//! One object that is in use: its state, and around it what the state only has numbers for: bytes in memory, readers that wait,
//! requests to the origin that can be called off, what is sent and stored of the version that holds.
//!
//! Called by `shard` and its parts. Nothing here waits.

use crate::api::{Ask, Opened};
use crate::kept::Kept;
use crate::log::entry::Entry;
use crate::room::Taken;
use crate::state::fields::Fields;
use crate::state::fill::{Fetch, Reader, Why};
use crate::state::forward::{Line, of_answer};
use crate::state::freshness::NotStored;
use crate::state::key::{CacheKey, Name, slice_name, vary_names};
use crate::state::object::{Object, Slicing};
use crate::state::purge::{Generation, tags_of};
use crate::state::status::Forwarded;
use crate::upstream::Upstream;
use bytes::Bytes;
use runtime::io::Io;
use runtime::oneshot::Oneshot;
use runtime::shards::Shard as ShardNumber;
use runtime::tier::Digest;
use runtime::waiters::Waiters;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

/// An object. Held by the owner's map as long as it is current, and by the tasks that work for it.
pub struct Live<I: Io> {
    /// Without the fields that select a variant.
    pub primary: Name,
    /// What it is.
    pub key: CacheKey,
    /// Where it comes from.
    pub upstream: Rc<Upstream<I>>,
    /// Where it stands in the owner's map; its record's name. Changes once, when it is known on which fields answers depend.
    pub name: Cell<Name>,
    /// What is in the tier has been looked at.
    pub is_loaded: Cell<bool>,
    /// Those who wait for that.
    pub loading: Waiters,
    /// It was neither purged nor replaced: what it fetches may be stored.
    pub is_current: Cell<bool>,
    /// It is not current, and what was stored of it is on its way out.
    pub is_released: Cell<bool>,
    /// Requests for it since it is in use.
    pub asked: Cell<u64>,
    /// When it was used last, in the order of uses.
    pub used: Cell<u64>,
    /// The slice whose name was asked for last: of a small object the same each time.
    pub named: Cell<Option<((u64, u64), Digest)>>,
    pub(crate) state: RefCell<State>,
}

/// What changes of it.
pub(crate) struct State {
    pub object: Object,
    /// What fetches carry of a client's fields.
    pub lines: Vec<Line>,
    /// When the question that is under way began.
    pub asked: Asked,
    /// When the last request came.
    pub joined: Generation,
    /// Of the version that holds.
    pub known: Option<Known>,
    /// Of the one that is about to hold.
    pub next: Option<Known>,
    /// What is kept whole instead of a version.
    pub kept: Option<Kept>,
    /// What could not be stored passes by the cache until then.
    pub passes_until_s: u64,
    /// Why the last answer could not be stored.
    pub not_stored: Option<NotStored>,
    pub memory: BTreeMap<u64, Slice>,
    pub waiting: BTreeMap<Reader, Waits>,
    pub seats: BTreeMap<Reader, Seat>,
    pub cancels: BTreeMap<Fetch, Oneshot<()>>,
    pub record: Recorded,
    /// The last question failed so.
    pub failed: Option<crate::api::Refused>,
}

/// A question to the origin.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asked {
    pub generation: Generation,
    pub status: Option<u16>,
}

/// What is known of a version beside what the state knows.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub number: u64,
    pub generation: Generation,
    pub lines: Arc<Vec<Line>>,
    pub tags: Vec<String>,
    pub vary: Vec<String>,
}

impl Known {
    /// Of an answer that may be stored. `None`: it may not, after all.
    pub fn of(lines: Vec<Line>, number: u64, generation: Generation) -> Option<Known> {
        let fields = Fields::of_pairs(&lines);
        let (tags, vary) = (tags_of(&fields)?, vary_names(&fields)?);
        let lines = Arc::new(of_answer(&fields));
        Some(Known { number, generation, lines, tags, vary })
    }
}

/// A slice in memory, in the pieces in which it came.
#[derive(Default)]
pub(crate) struct Slice {
    pub pieces: Vec<Bytes>,
    pub bytes: u64,
    pub room: Option<Rc<Taken>>,
}

impl Slice {
    /// The pieces of `range`, which lies in what came. Both count from the slice's first byte.
    pub fn cut(&self, range: &Range<u64>) -> Vec<Bytes> {
        assert!(range.end <= self.bytes, "{range:?} of {} bytes that came", self.bytes);
        let mut cut = Vec::new();
        let mut at = 0;
        for piece in &self.pieces {
            let end = at + piece.len() as u64;
            let (from, to) = (range.start.max(at), range.end.min(end));
            if from < to {
                cut.push(piece.slice((from - at) as usize..(to - at) as usize));
            }
            at = end;
        }
        cut
    }
}

/// A request that waits for an answer.
pub(crate) struct Waits {
    pub ask: Arc<Ask>,
    pub give: Oneshot<Opened>,
    /// Why the origin was asked for it.
    pub forwarded: Option<Forwarded>,
    /// Somebody else's question was its own.
    pub is_collapsed: bool,
    /// What the origin said when it was asked for this request alone.
    pub status: Option<u16>,
}

/// A reader.
#[derive(Default)]
pub(crate) struct Seat {
    pub wake: Option<Oneshot<()>>,
    pub ended: Option<Why>,
}

impl Seat {
    pub fn wake(&mut self) {
        if let Some(wake) = self.wake.take() {
            wake.set(());
        }
    }
}

/// How the record in the tier stands to what is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Recorded {
    /// There is none of this version.
    #[default]
    No,
    /// It says what is known.
    Yes,
    /// It is being written, and what is known has changed since or not.
    Writing { is_stale: bool },
}

impl State {
    pub fn new(slicing: Slicing, lines: Vec<Line>) -> State {
        State {
            object: Object::new(slicing),
            lines,
            asked: Asked::default(),
            joined: Generation::default(),
            known: None,
            next: None,
            kept: None,
            passes_until_s: 0,
            not_stored: None,
            memory: BTreeMap::new(),
            waiting: BTreeMap::new(),
            seats: BTreeMap::new(),
            cancels: BTreeMap::new(),
            record: Recorded::No,
            failed: None,
        }
    }

    /// What is to be written down.
    pub fn entry(&mut self, target: &str) -> Option<Entry> {
        let known = self.known.clone()?;
        let (version, freshness, fill) = self.object.fill()?;
        Some(Entry {
            generation: known.generation,
            number: known.number,
            target: target.to_owned(),
            status: 200,
            version: version.clone(),
            slice_bytes: fill.slices().slice_bytes,
            freshness: *freshness,
            tags: known.tags,
            vary: known.vary,
            lines: known.lines.to_vec(),
        })
    }

    /// Whether a request passes by the cache at once: lately the object could not be stored.
    pub fn passes_now(&mut self, now_s: u64) -> bool {
        let is_unknown = self.object.fill().is_none() && self.object.kept().is_none();
        is_unknown && !self.object.is_asking() && now_s < self.passes_until_s
    }

    /// Whether nobody is served by it and nothing is under way.
    pub fn is_idle(&mut self) -> bool {
        let is_filling = self.object.fill().is_some_and(|(_, _, fill)| !fill.is_idle());
        let is_writing = matches!(self.record, Recorded::Writing { .. });
        self.waiting.is_empty()
            && self.seats.is_empty()
            && !is_filling
            && !is_writing
            && !self.object.is_asking()
    }
}

impl<I: Io> Live<I> {
    /// The name of a slice of a version in the tier.
    pub fn slice_digest(&self, number: u64, slice: u64) -> Digest {
        match self.named.get() {
            Some((named, digest)) if named == (number, slice) => digest,
            _ => {
                let digest = slice_digest(&self.primary, number, slice);
                self.named.set(Some(((number, slice), digest)));
                digest
            }
        }
    }
}

/// All that there is of an object in the tier is on one shard: that of its name.
pub fn shard_of(primary: &Name) -> ShardNumber {
    ShardNumber(primary[0])
}

/// The name of a record in the tier.
pub fn record_digest(primary: &Name, name: &Name) -> Digest {
    Digest::private(shard_of(primary), name)
}

/// The name of a slice in the tier.
pub fn slice_digest(primary: &Name, number: u64, slice: u64) -> Digest {
    Digest::private(shard_of(primary), &slice_name(primary, number, slice))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_cut_where_its_pieces_end() {
        let pieces = Vec::from([&b"abc"[..], b"d", b"efgh"].map(Bytes::from_static));
        let slice = Slice { pieces, bytes: 8, room: None };
        for (range, expected) in
            [(0..8, "abc d efgh"), (1..5, "bc d e"), (3..4, "d"), (7..8, "h"), (2..2, "")]
        {
            let cut: Vec<String> =
                slice.cut(&range).iter().map(|piece| String::from_utf8_lossy(piece).into_owned()).collect();
            assert_eq!(cut.join(" "), expected, "{range:?}");
        }
    }
}
