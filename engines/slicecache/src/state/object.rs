//! One object: which version holds, whether it must be asked about, and who waits for that. One request asks for all who wait.
//!
//! Called by the loop that waits, on the object's owner: a request arrives, an origin's head has come and been given its
//! [`Meaning`], a request for it failed. Out come [`Act`]s. What a version is filled with is `fill`'s, which is reached through
//! [`Object::fill`].
//!
//! Invariants
//! 1. At most one first run or revalidation is under way, and one is whenever somebody waits.
//! 2. Who is answered is answered from the version that holds at that moment; it reads that version's fill.
//! 3. What must not be stored is shared with nobody who waits for it, and what is stored with those only for whom it may be used again
//!    without asking (RFC 9111 §4): the others ask for themselves, all at once, whether the version holds.
//! 4. When the version changes, the old one's fill has ended before the new one's begins.
//!
//! After a purge the owner forgets the object: who reads it finishes, and what is still fetched for them is of the old generation.

use super::cache_control::CacheControl;
use super::fill::{Effect, Fetch, Fill, Reader};
use super::freshness::{Freshness, NotStored, Use};
use super::slices::{Concurrency, FirstRun, SliceSize, Slices};
use super::subreply::{Asked, Meaning, forbids};
use super::validator::Version;
use crate::limits::{READERS_MAX, SLICES_MAX, WHOLE_BYTES_MAX};
use std::collections::BTreeMap;
use std::ops::Range;

/// What the caller is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Ask the origin; its answer, or that there is none, comes back as [`Object::on_answer`] or [`Object::on_failed`].
    Ask(Asked),
    /// Ask the origin for this request alone whether the version still holds; what it says comes back as [`Object::on_validated`].
    Validate(Reader, Asked),
    /// Answer this request from the version that holds: its ranges, then [`Fill::read`].
    Answer(Reader, Use),
    /// Answer this request with the answer that is kept whole.
    AnswerKept(Reader, Use),
    /// 504: it wants nothing from the origin (RFC 9111 §5.2.1.7).
    RefuseOnlyIfCached(Reader),
    /// Pass this request through to the origin: there is nothing to slice.
    Pass(Reader),
    /// 502, 503 or 504: the origin fails.
    Fail(Reader),
    /// The body of the answer fills these slices, as this fetch; bytes of it before and behind them are dropped.
    Adopt(Fetch, Range<u64>),
    /// The body of the answer is of no use.
    DropBody,
    /// Of the version's fill.
    Fill(Effect),
}

/// More than [`READERS_MAX`] wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

/// How an object is sliced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slicing {
    /// The size of slices.
    pub slice_size: SliceSize,
    /// Objects below this size are one slice.
    pub whole_below: u64,
    /// Fetches at a time.
    pub concurrency: Concurrency,
}

impl Slicing {
    /// What is asked for first of an object of which nothing is known. All of one that is one slice comes with its answer, if it is
    /// asked for from its beginning.
    fn first_run(&self, range: Option<&[u8]>) -> FirstRun {
        match FirstRun::new(range, self.slice_size) {
            FirstRun::From(run) if run.start == 0 => FirstRun::From(0..run.end.max(self.whole_below)),
            first => first,
        }
    }

    fn slices(&self, size: u64) -> Slices {
        if size < self.whole_below { Slices::whole(size) } else { Slices::new(size, self.slice_size) }
    }
}

#[derive(Debug)]
struct Known {
    version: Version,
    freshness: Freshness,
    fill: Fill,
}

#[derive(Debug)]
struct Waiting {
    reader: Reader,
    /// It may be answered with what is stale when the origin fails.
    if_error: bool,
    control: CacheControl,
}

/// A request for which alone the origin is asked.
#[derive(Debug)]
struct Alone {
    if_error: bool,
    /// Of the version that it is asked about.
    epoch: u64,
}

/// What the origin said of a version to one request alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validated {
    /// It holds.
    Holds(Freshness),
    /// The origin refuses the request, with this status.
    Refused(u16),
    /// Something else, which is the client's to hear.
    Otherwise,
    /// Nothing, after all retries.
    Failed,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Object {
    slicing: Slicing,
    known: Option<Known>,
    /// Of an answer that the caller keeps whole; there is no version then.
    kept: Option<Freshness>,
    /// The question that is under way is the first one's.
    waiting: Vec<Waiting>,
    alone: BTreeMap<Reader, Alone>,
    is_asking: bool,
    next_fetch: Fetch,
    epoch: u64,
    /// The version of which the origin last said that it is no more.
    denied: Option<Version>,
    sends_preconditions: bool,
}

impl Object {
    /// Nothing is known of it.
    #[must_use]
    pub fn new(slicing: Slicing) -> Object {
        Object {
            slicing,
            known: None,
            kept: None,
            waiting: Vec::new(),
            alone: BTreeMap::new(),
            is_asking: false,
            next_fetch: 0,
            epoch: 0,
            denied: None,
            sends_preconditions: true,
        }
    }

    /// A version of which `held` slices, of the size that they had when they were stored, are in the tier.
    #[must_use]
    pub fn stored(
        slicing: Slicing,
        (version, slice_bytes): (Version, u64),
        freshness: Freshness,
        held: impl IntoIterator<Item = u64>,
    ) -> Object {
        let mut object = Object::new(slicing);
        let fill = object.new_fill(Slices { size: version.size, slice_bytes }, held);
        object.known = Some(Known { version, freshness, fill });
        object
    }

    /// The version that holds, its freshness and what fills it.
    pub fn fill(&mut self) -> Option<(&Version, &Freshness, &mut Fill)> {
        self.known.as_mut().map(|known| (&known.version, &known.freshness, &mut known.fill))
    }

    /// Counts the versions that ended. What the caller began for a fill is of use only while this is the same.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether requests for slices carry [`super::validator::Validator::precondition`]. An origin that denied a version and then
    /// sent that very one evaluates conditions wrongly: its answers are checked all the same, so it goes without.
    #[must_use]
    pub fn sends_preconditions(&self) -> bool {
        self.sends_preconditions
    }

    /// The first run that suits a client's Range.
    #[must_use]
    pub fn first_run(&self, range: Option<&[u8]>) -> FirstRun {
        self.slicing.first_run(range)
    }

    /// A request for the object; `first` is the first run that suits its Range.
    ///
    /// # Errors
    /// Too many wait.
    pub fn on_arrived(
        &mut self,
        reader: Reader,
        control: &CacheControl,
        first: FirstRun,
        now_s: u64,
        acts: &mut Vec<Act>,
    ) -> Result<(), Busy> {
        let freshness = self.known.as_ref().map(|known| &known.freshness).or(self.kept.as_ref());
        let good_for = freshness.map(|freshness| freshness.good_for(control, now_s));
        match good_for {
            Some(good @ (Use::Fresh | Use::Stale)) => acts.push(self.answered(reader, good)),
            Some(good @ Use::StaleWhileRevalidate) => {
                acts.push(self.answered(reader, good));
                self.maybe_ask(first, acts);
            }
            Some(Use::OnlyIfCached) => acts.push(Act::RefuseOnlyIfCached(reader)),
            None if control.only_if_cached => acts.push(Act::RefuseOnlyIfCached(reader)),
            None => self.wait(Waiting { reader, if_error: false, control: *control }, first, acts)?,
            Some(Use::Revalidate { if_error }) => {
                self.wait(Waiting { reader, if_error, control: *control }, first, acts)?;
            }
        }
        self.check();
        Ok(())
    }

    /// A client that waited is gone.
    pub fn on_left(&mut self, reader: Reader) {
        self.waiting.retain(|waiting| waiting.reader != reader);
        self.alone.remove(&reader);
    }

    /// The origin answered what [`Act::Ask`] asked. `freshness` is that of the answer, or why it must not be stored: then it must not
    /// be shared either, and everybody asks for himself.
    pub fn on_answer(
        &mut self,
        meaning: Meaning,
        freshness: Result<Freshness, NotStored>,
        acts: &mut Vec<Act>,
    ) {
        assert!(self.is_asking, "an answer that nobody asked for");
        self.is_asking = false;
        self.kept = None;
        match (meaning, freshness) {
            (Meaning::Run(run, version), Ok(freshness)) => {
                let slices = self.slicing.slices(version.size);
                self.on_version(&run, version, slices, freshness, acts);
            }
            (Meaning::Whole { version: Some(version), is_same: false }, Ok(freshness))
                if version.size <= WHOLE_BYTES_MAX =>
            {
                let slices = Slices::whole(version.size);
                self.on_version(&(0..version.size), version, slices, freshness, acts);
            }
            (Meaning::NotModified | Meaning::Whole { is_same: true, .. }, Ok(freshness)) => {
                self.on_same(freshness, acts);
            }
            (Meaning::Run(..) | Meaning::NotModified | Meaning::Whole { is_same: true, .. }, Err(_)) => {
                acts.push(Act::DropBody);
                self.pass_all(acts);
            }
            // Who asked for more than there is will be told so once size and validator are known.
            (Meaning::Beyond(size), _) if size > 0 => {
                self.maybe_ask(self.slicing.first_run(Some(b"bytes=-1")), acts);
            }
            // Whether it is empty, and what else there is to know, its own answer says.
            (Meaning::Beyond(_), _) => self.maybe_ask(FirstRun::Whole, acts),
            (Meaning::Changed, _) => self.on_changed(acts),
            (Meaning::Refused(status), _) => self.on_refused(status, acts),
            (Meaning::Retry(_), _) => panic!("a retry is the caller's, until it is one too many"),
            (Meaning::AskWhole(_) | Meaning::Relay | Meaning::Whole { .. }, _) => {
                self.pass_all(acts);
            }
        }
        self.check();
    }

    /// There is an answer, to a question from before a purge that hits it: who waits may have come after that, so it is asked again.
    pub fn on_outdated(&mut self, acts: &mut Vec<Act>) {
        assert!(self.is_asking, "nobody asked");
        self.is_asking = false;
        acts.push(Act::DropBody);
        if !self.waiting.is_empty() {
            self.maybe_ask(self.slicing.first_run(None), acts);
        }
        self.check();
    }

    /// The origin's answer is kept whole by the caller, and is what there is of the object.
    pub fn on_kept(&mut self, freshness: Freshness, acts: &mut Vec<Act>) {
        assert!(self.is_asking, "an answer that nobody asked for");
        self.is_asking = false;
        self.forget(acts);
        self.kept = Some(freshness);
        self.answer_all(freshness, acts);
        self.check();
    }

    /// Whether there is an answer that the caller keeps whole, and its freshness.
    #[must_use]
    pub fn kept(&self) -> Option<&Freshness> {
        self.kept.as_ref()
    }

    /// There is no answer, after all retries.
    pub fn on_failed(&mut self, acts: &mut Vec<Act>) {
        assert!(self.is_asking, "nobody asked");
        self.is_asking = false;
        self.give_up(acts);
        self.check();
    }

    /// A request for slices showed that the version is no more. Who reads it ends.
    pub fn on_changed(&mut self, acts: &mut Vec<Act>) {
        if let Some(known) = &self.known {
            self.denied = Some(known.version.clone());
        }
        self.forget(acts);
        if !self.waiting.is_empty() {
            self.maybe_ask(self.slicing.first_run(None), acts);
        }
        self.check();
    }

    /// The origin was asked for one request alone. Of another version than the one that it was asked about nothing is known.
    pub fn on_validated(&mut self, reader: Reader, validated: Validated, acts: &mut Vec<Act>) {
        let Some(Alone { if_error, epoch }) = self.alone.remove(&reader) else { return };
        let known = self.known.as_mut().filter(|_| epoch == self.epoch);
        acts.push(match (validated, known) {
            (Validated::Holds(freshness), Some(known)) => {
                known.freshness = freshness;
                Act::Answer(reader, Use::Fresh)
            }
            (Validated::Failed, Some(_)) if if_error => Act::Answer(reader, Use::Stale),
            (Validated::Failed, _) => Act::Fail(reader),
            (Validated::Refused(status), Some(_)) => {
                self.note_refused(status);
                Act::Pass(reader)
            }
            _ => Act::Pass(reader),
        });
        self.check();
    }

    /// Whether a first run or a revalidation is under way.
    #[must_use]
    pub fn is_asking(&self) -> bool {
        self.is_asking
    }

    /// It is to be asked about before it is served again.
    pub fn on_soft_purge(&mut self) {
        if let Some(known) = &mut self.known {
            known.freshness = known.freshness.expired();
        }
        self.kept = self.kept.map(Freshness::expired);
    }

    fn wait(&mut self, waiting: Waiting, first: FirstRun, acts: &mut Vec<Act>) -> Result<(), Busy> {
        if self.waiting.len() + self.alone.len() >= READERS_MAX {
            return Err(Busy);
        }
        debug_assert!(self.waiting.iter().all(|other| other.reader != waiting.reader));
        self.waiting.push(waiting);
        self.maybe_ask(first, acts);
        Ok(())
    }

    fn maybe_ask(&mut self, first: FirstRun, acts: &mut Vec<Act>) {
        if self.is_asking {
            return;
        }
        self.is_asking = true;
        acts.push(Act::Ask(match &self.known {
            Some(known) => Asked::Revalidation(first, known.version.clone()),
            None => Asked::First(first),
        }));
    }

    fn on_version(
        &mut self,
        run: &Range<u64>,
        version: Version,
        slices: Slices,
        freshness: Freshness,
        acts: &mut Vec<Act>,
    ) {
        debug_assert!(run.start <= run.end && run.end <= version.size && slices.size == version.size);
        self.forget(acts);
        self.sends_preconditions &= self.denied.take().as_ref() != Some(&version);
        if slices.count() > SLICES_MAX {
            acts.push(Act::DropBody);
            self.pass_all(acts);
            return;
        }
        let mut fill = self.new_fill(slices, []);
        acts.push(match fill.adopt(run) {
            Some((fetch, bytes)) => Act::Adopt(fetch, bytes),
            None => Act::DropBody,
        });
        self.known = Some(Known { version, freshness, fill });
        self.answer_all(freshness, acts);
    }

    /// The version still holds.
    fn on_same(&mut self, freshness: Freshness, acts: &mut Vec<Act>) {
        acts.push(Act::DropBody);
        match &mut self.known {
            Some(known) => {
                known.freshness = freshness;
                self.answer_all(freshness, acts);
            }
            // A slice showed meanwhile that the version is no more.
            None => self.on_changed(acts),
        }
    }

    /// There is nothing to share, and what there was ends.
    fn pass_all(&mut self, acts: &mut Vec<Act>) {
        self.forget(acts);
        acts.extend(self.waiting.drain(..).map(|waiting| Act::Pass(waiting.reader)));
    }

    /// What the origin says is for those who asked, though the version may be as it was. One that it forbids now is not served
    /// again, however stale it may be, until the origin says that it may be.
    fn on_refused(&mut self, status: u16, acts: &mut Vec<Act>) {
        self.note_refused(status);
        acts.extend(self.waiting.drain(..).map(|waiting| Act::Pass(waiting.reader)));
    }

    /// The origin fails: stale answers for those who may have them.
    fn give_up(&mut self, acts: &mut Vec<Act>) {
        let (is_known, is_kept) = (self.known.is_some(), self.kept.is_some());
        acts.extend(self.waiting.drain(..).map(|waiting| match waiting {
            Waiting { reader, if_error: true, .. } if is_known => Act::Answer(reader, Use::Stale),
            Waiting { reader, if_error: true, .. } if is_kept => Act::AnswerKept(reader, Use::Stale),
            Waiting { reader, .. } => Act::Fail(reader),
        }));
    }

    fn note_refused(&mut self, status: u16) {
        if let Some(known) = self.known.as_mut().filter(|_| forbids(status)) {
            known.freshness = known.freshness.forbidden();
        }
    }

    /// The first one has the answer to its own question; what that is good for says whether it is one to the others.
    fn answer_all(&mut self, freshness: Freshness, acts: &mut Vec<Act>) {
        for (at, Waiting { reader, control, .. }) in std::mem::take(&mut self.waiting).into_iter().enumerate()
        {
            let good_for =
                if at == 0 { Use::Fresh } else { freshness.good_for(&control, freshness.response_s) };
            acts.push(match good_for {
                Use::Revalidate { if_error } => self.ask_alone(reader, if_error),
                good_for => self.answered(reader, good_for),
            });
        }
    }

    fn ask_alone(&mut self, reader: Reader, if_error: bool) -> Act {
        let Some(known) = &self.known else { return Act::Pass(reader) };
        self.alone.insert(reader, Alone { if_error, epoch: self.epoch });
        let first = self.slicing.first_run(None);
        Act::Validate(reader, Asked::Revalidation(first, known.version.clone()))
    }

    fn answered(&self, reader: Reader, good_for: Use) -> Act {
        match self.known {
            Some(_) => Act::Answer(reader, good_for),
            None => Act::AnswerKept(reader, good_for),
        }
    }

    /// Ends the version.
    fn forget(&mut self, acts: &mut Vec<Act>) {
        if let Some(known) = self.known.take() {
            self.next_fetch = known.fill.next_fetch();
            self.epoch += 1;
            let mut effects = Vec::new();
            known.fill.end(&mut effects);
            acts.extend(effects.into_iter().map(Act::Fill));
        }
    }

    fn new_fill(&self, slices: Slices, held: impl IntoIterator<Item = u64>) -> Fill {
        let runs_max = self.slicing.concurrency.runs_max(slices.slice_bytes);
        Fill::new(slices, runs_max, held, self.next_fetch)
    }

    fn check(&self) {
        debug_assert!(self.waiting.is_empty() || self.is_asking, "somebody waits and nobody asks");
        debug_assert!(self.known.is_none() || self.kept.is_none(), "two answers");
    }
}

#[cfg(test)]
mod tests;
