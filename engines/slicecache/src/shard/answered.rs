//! What comes of requests to the origin: answers, bytes, failures; and of stores. Called by the tasks of `fetch` and `store`.

use super::Owner;
use crate::api::Refused;
use crate::fetch::Got;
use crate::limits::{PASSES_S, VARIES_MAX};
use crate::live::{Known, Live, Slice, State};
use crate::planted::{self, Bug};
use crate::room::Taken;
use crate::state::fields::Fields;
use crate::state::fill::{Effect, Fetch, Reader, Why};
use crate::state::forward::{Line, refreshed};
use crate::state::freshness::{Exchanged, Freshness, NotStored, Use};
use crate::state::key::{Name, variant};
use crate::state::object::{Act, Validated};
use crate::state::purge::{Entry, Generation, Verdict};
use crate::state::status::{RECEIVED, RECEIVED_BY_DEFAULT};
use crate::state::subreply::{Meaning, forbids};
use bytes::Bytes;
use net::http1::{HttpDate, Method};
use runtime::io::Io;
use std::rc::Rc;

impl<I: Io> Owner<I> {
    /// The origin answered a question.
    pub(crate) fn on_answer(&self, live: &Rc<Live<I>>, got: Got<I>) {
        {
            let state = &mut *live.state.borrow_mut();
            state.asked.status = Some(got.reply.head.status);
            let lines = self.lines_of(state, &got);
            let freshness = self.freshness(state, &lines, &got);
            state.not_stored = freshness.err();
            let generation = state.asked.generation;
            let next = freshness.ok().and_then(|_| self.next_known(state, lines, &got.meaning, generation));
            state.next = next;
            let mut acts = Vec::new();
            if state.next.as_ref().is_some_and(|next| self.is_outdated(live, state, next)) {
                state.next = None;
                state.object.on_outdated(&mut acts);
            } else {
                if let Some(vary) = state.next.as_ref().map(|next| next.vary.clone()) {
                    self.settle_name(live, state, vary);
                }
                state.object.on_answer(got.meaning.clone(), freshness, &mut acts);
            }
            if acts.iter().any(|act| matches!(act, Act::Pass(_))) {
                state.passes_until_s = self.now_s() + PASSES_S;
            }
            let is_forbidden = matches!(got.meaning, Meaning::Refused(status) if forbids(status));
            self.act(live, state, acts, Some(got));
            state.next = None;
            if is_forbidden {
                self.record_again(live, state);
            }
            self.drop_unknown(state);
        }
        self.maybe_release(live);
    }

    /// The fields of what the answer is of: those of the answer, or, of one that says that nothing has changed, those that are
    /// stored with its own in their place.
    pub(crate) fn lines_of(&self, state: &State, got: &Got<I>) -> Vec<Line> {
        let fields = Fields::of_reply(&got.reply.head);
        let mut lines: Vec<Line> = match &state.known {
            Some(known) if got.reply.head.status == 304 => {
                let mut lines = refreshed(&known.lines, &fields);
                // Not stored, and of weight for how old it is now.
                lines.extend(fields.all("age").map(|age| (b"age".to_vec(), age.to_vec())));
                lines
            }
            _ => fields.lines().map(|(name, value)| (name.to_vec(), value.to_vec())).collect(),
        };
        // RFC 9110 §6.6.1: a recipient with a clock that receives an answer without a Date records when it came.
        if !fields.has("date") {
            lines.retain(|(name, _)| !name.eq_ignore_ascii_case(b"date"));
            lines.push((b"date".to_vec(), HttpDate::at(got.response_s).as_bytes().to_vec()));
        }
        if got.reply.head.version() != RECEIVED_BY_DEFAULT && got.reply.head.status != 304 {
            lines.push((RECEIVED.as_bytes().to_vec(), got.reply.head.version().into()));
        }
        lines
    }

    pub(crate) fn freshness(
        &self,
        state: &State,
        lines: &[Line],
        got: &Got<I>,
    ) -> Result<Freshness, NotStored> {
        let (request, response) = (Fields::of_pairs(&state.lines), Fields::of_pairs(lines));
        let status = got.reply.head.status;
        let exchanged = Exchanged {
            method: Method::Get,
            request: &request,
            // A 304 is judged as what it refreshes.
            status: if status == 304 { 200 } else { status },
            response: &response,
            request_s: got.request_s,
            response_s: got.response_s,
        };
        Freshness::if_stored(&exchanged, &self.lifetimes)
    }

    /// `generation`: in which its question began.
    fn next_known(
        &self,
        state: &State,
        lines: Vec<Line>,
        meaning: &Meaning,
        generation: Generation,
    ) -> Option<Known> {
        let number = match meaning {
            Meaning::Run(..) if planted::is(Bug::VersionNumberReused) => 1,
            Meaning::Run(..) | Meaning::Whole { is_same: false, version: Some(_) } => self.io.random(),
            Meaning::NotModified | Meaning::Whole { is_same: true, .. } => state.known.as_ref()?.number,
            _ => return None,
        };
        let is_late = planted::is(Bug::GenerationLate);
        let generation = if is_late { self.purges.borrow().generation() } else { generation };
        Known::of(lines, number, generation)
    }

    /// What is known of an answer that is not in slices.
    pub(crate) fn known_of(&self, state: &State, lines: Vec<Line>) -> Option<Known> {
        Known::of(lines, 0, state.asked.generation)
    }

    /// It was purged, softly or not, since its question began, and somebody may wait for it who came after that. Who waits for an
    /// object that nobody finds any more came before it was forgotten, but a soft purge may lie between its question and him.
    pub(crate) fn is_outdated(&self, live: &Live<I>, state: &State, next: &Known) -> bool {
        if !live.is_current.get() && state.joined <= next.generation {
            return false;
        }
        let target = live.key.target();
        let entry = Entry { generation: next.generation, target: &target, tags: &next.tags };
        self.purges.borrow().verdict(&entry) != Verdict::Keep
    }

    /// It is known on which fields answers depend: the object stands under the name of those that it was asked for with.
    pub(crate) fn settle_name(&self, live: &Rc<Live<I>>, state: &State, vary: Vec<String>) {
        let name: Name = match vary.is_empty() {
            true => live.primary,
            false => variant(&live.primary, &vary, &Fields::of_pairs(&state.lines)),
        };
        self.note_vary(live.primary, vary);
        if name == live.name.get() || !live.is_current.get() {
            return;
        }
        let is_taken = self.objects.borrow().contains_key(&name);
        self.forget(live);
        if !is_taken {
            live.name.set(name);
            live.is_current.set(true);
            self.objects.borrow_mut().insert(name, live.clone());
        }
    }

    pub(super) fn note_vary(&self, primary: Name, vary: Vec<String>) {
        let mut varies = self.varies.borrow_mut();
        if varies.len() >= VARIES_MAX {
            varies.clear();
        }
        varies.insert(primary, vary);
    }

    /// The origin was asked for one request alone.
    pub(crate) fn on_validated(
        &self,
        live: &Rc<Live<I>>,
        reader: Reader,
        generation: Generation,
        answer: Result<Got<I>, Refused>,
    ) {
        {
            let state = &mut *live.state.borrow_mut();
            let validated = match answer {
                Ok(got) => self.validated(live, state, (reader, generation), &got),
                Err(refused) => {
                    self.metrics.failures.inc();
                    state.failed = Some(refused);
                    Validated::Failed
                }
            };
            let mut acts = Vec::new();
            state.object.on_validated(reader, validated, &mut acts);
            if !acts.iter().any(|act| matches!(act, Act::Answer(_, Use::Fresh))) {
                state.next = None;
            }
            self.act(live, state, acts, None);
            if let Validated::Refused(status) = validated
                && forbids(status)
            {
                self.record_again(live, state);
            }
        }
        self.maybe_release(live);
    }

    fn validated(
        &self,
        live: &Rc<Live<I>>,
        state: &mut State,
        (reader, generation): (Reader, Generation),
        got: &Got<I>,
    ) -> Validated {
        if let Some(waits) = state.waiting.get_mut(&reader) {
            waits.status = Some(got.reply.head.status);
        }
        match got.meaning {
            Meaning::NotModified | Meaning::Whole { is_same: true, .. } => {}
            Meaning::Refused(status) => return Validated::Refused(status),
            _ => return Validated::Otherwise,
        }
        let lines = self.lines_of(state, got);
        let Ok(freshness) = self.freshness(state, &lines, got) else { return Validated::Otherwise };
        match self.next_known(state, lines, &got.meaning, generation) {
            Some(next) if !self.is_outdated(live, state, &next) => {
                state.next = Some(next);
                Validated::Holds(freshness)
            }
            _ => Validated::Otherwise,
        }
    }

    /// There is no answer, after all tries.
    pub(crate) fn on_question_failed(&self, live: &Rc<Live<I>>, refused: Refused) {
        {
            self.metrics.failures.inc();
            let state = &mut *live.state.borrow_mut();
            state.failed = Some(refused);
            let mut acts = Vec::new();
            state.object.on_failed(&mut acts);
            self.act(live, state, acts, None);
        }
        self.maybe_release(live);
    }

    /// The body of an answer fills the first slices of its version.
    pub(super) fn adopt(&self, live: &Rc<Live<I>>, state: &mut State, fetch: Fetch, got: Got<I>) {
        let at = match &got.meaning {
            Meaning::Run(run, _) => run.start,
            Meaning::Whole { .. } => 0,
            other => panic!("{other:?} has no bytes to adopt"),
        };
        self.begin(live, state, fetch, Some((got, at)));
    }

    /// A request for slices showed that the version is no more.
    pub(crate) fn on_changed(&self, live: &Rc<Live<I>>) {
        let state = &mut *live.state.borrow_mut();
        let mut acts = Vec::new();
        state.object.on_changed(&mut acts);
        self.act(live, state, acts, None);
        self.drop_unknown(state);
    }

    pub(crate) fn drop_unknown(&self, state: &mut State) {
        if state.object.fill().is_none() {
            state.known = None;
        }
        if state.object.kept().is_none() {
            state.kept = None;
        }
    }

    /// Bytes of a slice came, in their order.
    pub(crate) fn on_bytes(
        &self,
        live: &Rc<Live<I>>,
        (fetch, slice): (Fetch, u64),
        bytes: Bytes,
        room: &Rc<Taken>,
    ) {
        let state = &mut *live.state.borrow_mut();
        let count = bytes.len() as u64;
        let Slice { pieces, bytes: sum, room: place } = state.memory.entry(slice).or_default();
        pieces.push(bytes);
        *sum += count;
        place.get_or_insert_with(|| room.clone());
        let mut effects = Vec::new();
        let (_, _, fill) = state.object.fill().expect("the fetch was not called off");
        fill.on_received(fetch, count, &mut effects);
        self.effects(live, state, effects);
    }

    /// A fetch brings no more: the origin fails, or refuses.
    pub(crate) fn on_fetch_failed(&self, live: &Rc<Live<I>>, fetch: Fetch, why: Why) {
        self.metrics.failures.inc();
        let state = &mut *live.state.borrow_mut();
        let mut effects = Vec::new();
        let (_, _, fill) = state.object.fill().expect("the fetch was not called off");
        fill.on_failed(fetch, &mut effects);
        for effect in &mut effects {
            if let Effect::End(_, ended) = effect {
                *ended = why;
            }
        }
        self.effects(live, state, effects);
    }

    /// A slice is in the tier, or is not taken.
    pub(crate) fn on_stored(&self, live: &Rc<Live<I>>, epoch: u64, slice: u64, is_stored: bool) {
        {
            let state = &mut *live.state.borrow_mut();
            if state.object.epoch() != epoch {
                return;
            }
            let mut effects = Vec::new();
            let (_, _, fill) = state.object.fill().expect("of the same epoch");
            if is_stored {
                fill.on_stored(slice, &mut effects);
            } else {
                fill.on_not_stored(slice, &mut effects);
            }
            self.effects(live, state, effects);
            if is_stored {
                self.maybe_record(live, state);
            }
        }
        self.maybe_release(live);
    }
}
