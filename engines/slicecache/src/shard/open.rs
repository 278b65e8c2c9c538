//! Requests that arrive: which object they are of, and what they are answered. Called by `columns`.

use super::{Owner, Place};
use crate::api::{Ask, Head, Kept, Opened, Refused, Step};
use crate::live::{Live, Seat, State, Waits};
use crate::planted::{self, Bug};
use crate::state::cache_control::CacheControl;
use crate::state::fields::Fields;
use crate::state::fill::{Next, Reader, Source};
use crate::state::forward::of_fetch;
use crate::state::freshness::Use;
use crate::state::key::{Name, unknown_variant, variant};
use crate::state::object::{Act, Busy};
use crate::state::purge::Verdict;
use crate::state::ranges::Asked;
use crate::state::status::{Forwarded, Told};
use crate::state::validator::Representation;
use net::http1::Status;
use runtime::io::Io;
use runtime::oneshot::Oneshot;
use runtime::tier::EXTENT_BYTES;
use runtime::waiters::Waiters;
use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

/// Takes a reader back whose request is dropped before it has arrived.
struct Opening<'o, I: Io> {
    owner: &'o Owner<I>,
    reader: Reader,
}

impl<I: Io> Drop for Opening<'_, I> {
    fn drop(&mut self) {
        let mut readers = self.owner.readers.borrow_mut();
        if matches!(readers.get(&self.reader), Some(Place::Opening(_))) {
            readers.remove(&self.reader);
        }
    }
}

impl<I: Io> Owner<I> {
    /// A reader is about to open: from here on it may leave.
    pub fn expect(&self, reader: Reader) {
        self.readers.borrow_mut().insert(reader, Place::Opening(false));
    }

    /// What a request is answered whose reader is expected. It ends early with `Pass` when that has left: nobody hears of that.
    pub async fn open(&self, reader: Reader, ask: Arc<Ask>) -> Opened {
        let opening = Opening { owner: self, reader };
        self.learning.until(|| self.knows_purges.get()).await;
        let live = self.find(&ask).await;
        live.loading.until(|| live.is_loaded.get()).await;
        let opened = self.arrive(&live, reader, ask);
        drop(opening);
        match opened {
            Some(waiting) => waiting.await,
            None => Opened::Pass(None),
        }
    }

    /// The object of a request, as far as it can be told apart from others.
    async fn find(&self, ask: &Ask) -> Rc<Live<I>> {
        let known = self.varies.borrow().get(&ask.name).cloned();
        let vary = match known {
            Some(vary) => Some(vary),
            None => {
                let record = Box::pin(self.read_record(&ask.name, &ask.name)).await;
                // Who came at the same time may have been answered: the object stands under its own name by now.
                let learned = self.varies.borrow().get(&ask.name).cloned();
                if let (None, Some(entry)) = (&learned, &record)
                    && self.verdict_of(entry) != Verdict::Gone
                {
                    self.note_vary(ask.name, entry.vary.clone());
                }
                learned.or(record.map(|entry| entry.vary))
            }
        };
        let fields = Fields::of_pairs(&ask.lines);
        let name = match vary {
            None => unknown_variant(&ask.name, &fields),
            Some(vary) if vary.is_empty() => ask.name,
            Some(vary) => variant(&ask.name, &vary, &fields),
        };
        self.uses_total.set(self.uses_total.get() + 1);
        let known = self.objects.borrow().get(&name).cloned();
        let is_busy = |live: &Rc<Live<I>>| live.state.borrow().object.is_asking();
        let known = known.filter(|live| !(planted::is(Bug::SingleFlightBroken) && is_busy(live)));
        let live = known.unwrap_or_else(|| self.make(name, ask));
        live.used.set(self.uses_total.get());
        live
    }

    fn make(&self, name: Name, ask: &Ask) -> Rc<Live<I>> {
        self.maybe_trim();
        let lines = of_fetch(&Fields::of_pairs(&ask.lines));
        let live = Rc::new(Live {
            primary: ask.name,
            key: ask.key.clone(),
            upstream: self.upstreams[ask.origin].clone(),
            name: Cell::new(name),
            is_loaded: Cell::new(false),
            loading: Waiters::default(),
            is_current: Cell::new(true),
            is_released: Cell::new(false),
            asked: Cell::new(0),
            used: Cell::new(0),
            named: Cell::default(),
            state: RefCell::new(State::new(self.config.slicing(&ask.key.path), lines)),
        });
        self.objects.borrow_mut().insert(name, live.clone());
        self.spawn("slice-load", self.me().load(live.clone()));
        live
    }

    /// Why nothing is found: there is another variant, or, as far as is known, nothing.
    fn miss(&self, live: &Live<I>, fields: &Fields<'_>) -> Forwarded {
        let varies = self.varies.borrow();
        let vary = varies.get(&live.primary).filter(|vary| !vary.is_empty());
        let is_variant = |vary: &Vec<String>| live.name.get() == variant(&live.primary, vary, fields);
        if vary.is_some_and(is_variant) { Forwarded::VaryMiss } else { Forwarded::UriMiss }
    }

    /// `None`: the reader has left.
    fn arrive(
        &self,
        live: &Rc<Live<I>>,
        reader: Reader,
        ask: Arc<Ask>,
    ) -> Option<runtime::oneshot::Waiting<Opened>> {
        let place = self.readers.borrow_mut().insert(reader, Place::At(live.clone()));
        if let Some(Place::Opening(true)) | None = place {
            self.readers.borrow_mut().remove(&reader);
            return None;
        }
        live.asked.set(live.asked.get() + 1);
        let fields = Fields::of_pairs(&ask.lines);
        let control = CacheControl::of_request(&fields);
        let state = &mut *live.state.borrow_mut();
        let first = state.object.first_run(fields.only("range"));
        state.joined = self.purges.borrow().generation();
        let (give, waiting) = Oneshot::new();
        if state.passes_now(self.now_s()) && !control.only_if_cached {
            self.readers.borrow_mut().remove(&reader);
            give.set(Opened::Pass(state.not_stored));
            return Some(waiting);
        }
        let is_kept = state.object.kept().is_some();
        let forwarded = match state.object.fill() {
            None if !is_kept => self.miss(live, &fields),
            _ if control.no_cache => Forwarded::Request,
            _ => Forwarded::Stale,
        };
        let (mut acts, is_collapsed) = (Vec::new(), state.object.is_asking());
        state
            .waiting
            .insert(reader, Waits { ask, give, forwarded: Some(forwarded), is_collapsed, status: None });
        match state.object.on_arrived(reader, &control, first, self.now_s(), &mut acts) {
            Ok(()) => {
                let is_answered = acts.iter().any(|act| {
                    matches!(act, Act::Answer(other, _) | Act::AnswerKept(other, _) if *other == reader)
                });
                if let Some(waits) = state.waiting.get_mut(&reader).filter(|_| is_answered) {
                    waits.forwarded = None;
                }
                self.act(live, state, acts, None);
            }
            Err(Busy) => {
                let why = "too many requests wait for this object";
                self.refuse(state, reader, Refused::new(Status::ServiceUnavailable, why));
            }
        }
        Some(waiting)
    }

    /// Answers from the version that holds, now: later another one may.
    pub(super) fn answer(&self, live: &Rc<Live<I>>, state: &mut State, reader: Reader, good_for: Use) {
        let Some(waits) = state.waiting.remove(&reader) else { return };
        let Waits { ask, give, forwarded, is_collapsed, status } = waits;
        let (Some(known), Some((version, freshness, fill))) = (state.known.clone(), state.object.fill())
        else {
            unreachable!("answered from a version that holds")
        };
        let (size, freshness, now_s) = (version.size, *freshness, self.now_s());
        let (fields, stored) = (Fields::of_pairs(&ask.lines), Fields::of_pairs(&known.lines));
        let content_type = stored.only("content-type").unwrap_or(b"application/octet-stream");
        let asked = Asked {
            method: ask.method,
            fields: &fields,
            representation: Representation::of(&stored, freshness.response_s),
            size,
            content_type: &String::from_utf8_lossy(content_type),
            now_s,
        };
        let is_several = fields.only("range").is_some_and(|range| range.contains(&b','));
        let random = if is_several { [self.io.random(), self.io.random()] } else { [0; 2] };
        let answer = asked.answer(random);
        let (slices_here, slices) = fill.counts(&answer.ranges);
        if is_coalesced(is_collapsed, forwarded, fill.any_comes(&answer.ranges)) {
            self.metrics.coalesced.inc();
        }
        let is_missing = slices_here < slices;
        let told = Told {
            slices_here,
            slices,
            is_stale: good_for != Use::Fresh,
            forwarded: forwarded.or(is_missing.then_some(Forwarded::Partial)),
            forwarded_status: forwarded.and(status.or(state.asked.status)),
            is_collapsed,
            // What is stale came of no answer; and what is not asked for often enough is not stored.
            is_stored: (if forwarded.is_some() { good_for == Use::Fresh } else { is_missing })
                && live.asked.get() >= self.config.uses_min
                && live.is_current.get(),
            ttl_s: Some(freshness.ttl_s(now_s)),
            not_stored: None,
        };
        self.metrics.outcomes.count(told.outcome());
        let age_s = freshness.age_s(now_s);
        let (lines, first, whole, is_whole) = (known.lines, None, None, false);
        let mut head = Box::new(Head { answer, size, lines, age_s, told, first, is_whole, whole });
        if head.answer.ranges.is_empty() {
            self.readers.borrow_mut().remove(&reader);
            return give.set(Opened::Answer(head));
        }
        if let Some(step) = self.all_now(live, state, &head.answer.ranges) {
            // What is pinned stays, whatever becomes of the version: of such a reader nobody needs to know.
            self.readers.borrow_mut().remove(&reader);
            (head.first, head.is_whole) = (Some(step), true);
            return give.set(Opened::Answer(head));
        }
        let (_, _, fill) = state.object.fill().expect("seen above");
        let mut effects = Vec::new();
        if fill.read(reader, head.answer.ranges.clone(), &mut effects).is_err() {
            self.readers.borrow_mut().remove(&reader);
            let why = "too many requests read this object";
            return give.set(Opened::Refused(Refused::new(Status::ServiceUnavailable, why)));
        }
        state.seats.insert(reader, Seat::default());
        self.effects(live, state, effects);
        head.first = self.held_now(live, state, reader);
        give.set(Opened::Answer(head));
    }

    /// Answers with what is kept whole.
    pub(super) fn answer_kept(&self, state: &mut State, reader: Reader, good_for: Use) {
        let Some(Waits { ask, give, forwarded, is_collapsed, .. }) = state.waiting.remove(&reader) else {
            return;
        };
        self.readers.borrow_mut().remove(&reader);
        if is_coalesced(is_collapsed, forwarded, false) {
            self.metrics.coalesced.inc();
        }
        let (Some(kept), Some(freshness)) = (&state.kept, state.object.kept()) else {
            unreachable!("answered with what is kept")
        };
        let now_s = self.now_s();
        let told = Told {
            slices_here: 0,
            slices: 0,
            is_stale: good_for != Use::Fresh,
            forwarded,
            forwarded_status: forwarded.and(state.asked.status),
            is_collapsed,
            is_stored: forwarded.is_some() && good_for == Use::Fresh,
            ttl_s: Some(freshness.ttl_s(now_s)),
            not_stored: None,
        };
        self.metrics.outcomes.count(told.outcome());
        let (status, lines, body, age_s) =
            (kept.status, kept.lines.clone(), kept.body.clone(), freshness.age_s(now_s));
        if status != 200 {
            return give.set(Opened::Kept(Box::new(Kept { status, lines, body, age_s, told })));
        }
        let (fields, stored) = (Fields::of_pairs(&ask.lines), Fields::of_pairs(&lines));
        let size = body.len() as u64;
        let content_type = stored.only("content-type").unwrap_or(b"application/octet-stream");
        let asked = Asked {
            method: ask.method,
            fields: &fields,
            representation: Representation::of(&stored, freshness.response_s),
            size,
            content_type: &String::from_utf8_lossy(content_type),
            now_s,
        };
        let answer = asked.answer([self.io.random(), self.io.random()]);
        self.metrics.ram_bytes.add(answer.ranges.iter().map(|range| range.end - range.start).sum());
        let (first, whole, is_whole) = (None, Some(body), false);
        let head = Head { answer, size, lines, age_s, told, first, is_whole, whole };
        give.set(Opened::Answer(Box::new(head)));
    }

    /// All of an answer, if RAM has it in one piece.
    pub(super) fn all_now(
        &self,
        live: &Rc<Live<I>>,
        state: &mut State,
        ranges: &[Range<u64>],
    ) -> Option<Step> {
        let [range] = ranges else { return None };
        let number = state.known.as_ref()?.number;
        let (_, _, fill) = state.object.fill()?;
        let slice = fill.held_by(range)?;
        let start = fill.slices().bytes(slice).start;
        let range = range.start - start..range.end - start;
        let is_one_extent = range.start / EXTENT_BYTES as u64 == (range.end - 1) / EXTENT_BYTES as u64;
        is_one_extent.then(|| self.step_now(live, state, (number, slice), range, Source::Tier)).flatten()
    }

    /// The first bytes, if RAM has them.
    fn held_now(&self, live: &Rc<Live<I>>, state: &mut State, reader: Reader) -> Option<Step> {
        let number = state.known.as_ref()?.number;
        let (_, _, fill) = state.object.fill()?;
        let Next::Bytes(slice, range, source) = fill.next(reader) else { return None };
        let start = fill.slices().bytes(slice).start;
        let range = range.start - start..range.end - start;
        self.step_now(live, state, (number, slice), range, source)
    }

    pub(super) fn give(&self, state: &mut State, reader: Reader, opened: Opened) {
        self.readers.borrow_mut().remove(&reader);
        if let Some(waits) = state.waiting.remove(&reader) {
            waits.give.set(opened);
        }
    }

    pub(super) fn refuse(&self, state: &mut State, reader: Reader, refused: Refused) {
        self.give(state, reader, Opened::Refused(refused));
    }

    /// The origin failed.
    pub(super) fn fail(&self, state: &mut State, reader: Reader) {
        let why = "the origin does not answer";
        let refused = state.failed.unwrap_or_else(|| Refused::new(Status::BadGateway, why));
        self.refuse(state, reader, refused);
    }
}

/// Whether a request shares what another one asked the origin for: the question that it waited for, or, if it waited for none, slices.
fn is_coalesced(is_collapsed: bool, forwarded: Option<Forwarded>, any_comes: bool) -> bool {
    match forwarded {
        Some(_) => is_collapsed,
        None => any_comes,
    }
}
