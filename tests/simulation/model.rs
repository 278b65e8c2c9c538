//! What each blob may be after everything that was asked and answered. Pure; told by `workload`, asked by it and by `run`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use tests::content::{self, Digest};

/// A blob of the workload: a digest and the bytes behind it, which its number determines.
#[derive(Debug)]
pub struct Blob {
    pub number: u64,
    pub size: usize,
    pub digest: Digest,
}

impl Blob {
    pub fn new(seed: u64, number: u64, size: usize) -> Blob {
        let number = seed.wrapping_mul(1_000_003).wrapping_add(number);
        let digest = Digest::of(&content::bytes(number, size));
        Blob { number, size, digest }
    }

    pub fn bytes(&self) -> Vec<u8> {
        content::bytes(self.number, self.size)
    }

    /// Whether `part` is what the blob has at `from`.
    pub fn is_at(&self, from: usize, part: &[u8]) -> bool {
        let mut wanted = vec![0; part.len()];
        content::fill(self.number, from as u64, &mut wanted);
        from + part.len() <= self.size && wanted == part
    }
}

/// A date that never comes.
pub const NEVER_MS: u64 = u64::MAX;

/// The date, how often it has jumped, and the boot of the node.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moment {
    pub unix_ms: u64,
    pub jumps: u64,
    pub boot: u64,
}

/// What a put asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    pub ttl_ms: Option<u64>,
    pub evictable: bool,
    pub pinned: bool,
}

impl Asked {
    fn may_be_dropped(self) -> bool {
        self.evictable && !self.pinned
    }

    fn end_ms(self, at: Moment) -> u64 {
        self.ttl_ms.map_or(NEVER_MS, |ttl_ms| at.unix_ms + ttl_ms)
    }
}

/// What is known of a blob.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// It must be there before this date; [`NEVER_MS`]: always; 0: it need not be.
    must_ms: u64,
    /// It must not be there after this date; [`NEVER_MS`]: it may always be; 0: it is not there.
    gone_ms: u64,
    /// Jumps of the calendar when that was said: dates said before a jump mean nothing after it.
    jumps: u64,
    /// The boot in which a request about it was never answered: the node may yet do it, as long as it runs.
    doubt: Option<u64>,
}

impl State {
    /// As it is at a moment: without the dates that a jump has made void.
    fn at(mut self, now: Moment) -> State {
        if self.jumps != now.jumps {
            self.must_ms = if self.must_ms == NEVER_MS { NEVER_MS } else { 0 };
            self.gone_ms = if self.gone_ms == 0 { 0 } else { NEVER_MS };
            self.jumps = now.jumps;
        }
        self.doubt = self.doubt.filter(|&boot| boot == now.boot);
        self
    }

    fn may_be(mut self) -> State {
        self.must_ms = 0;
        self.gone_ms = NEVER_MS;
        self
    }

    /// Whether it was stored for good.
    pub fn is_for_good(self) -> bool {
        self.must_ms == NEVER_MS
    }

    /// Whether it was deleted, or never stored.
    pub fn is_absent(self) -> bool {
        self.gone_ms == 0
    }
}

/// All blobs.
#[derive(Clone, Default)]
pub struct Model {
    states: BTreeMap<u64, State>,
    /// What was asked and answered of each blob, for who has to understand a violation.
    history: BTreeMap<u64, Vec<String>>,
    /// The first promise that was broken.
    pub violation: Option<String>,
    /// Requests finished.
    pub operations: u64,
    /// Answers that were not whole, or said that something is wrong with the node.
    pub failures: u64,
    /// What is stored may have been lost: a disk lied or a bit flipped.
    pub may_lose: bool,
    /// Blobs that were lost then.
    pub lost: u64,
    /// Blobs that cannot be read at rest are noted here, to be judged by who asked for that: otherwise they are a violation.
    pub unreadable: Option<BTreeSet<u64>>,
    /// Blobs that were not there when they were last looked for.
    pub missing: BTreeSet<u64>,
}

pub type SharedModel = Rc<RefCell<Model>>;

impl Model {
    pub fn state(&self, number: u64) -> State {
        self.states.get(&number).copied().unwrap_or_default()
    }

    fn update(&mut self, number: u64, now: Moment, what: &str, change: impl FnOnce(State) -> State) {
        let Moment { unix_ms, boot, .. } = now;
        self.history.entry(number).or_default().push(format!("boot {boot} {}: {what}", unix_ms % 10_000_000));
        let state = change(self.state(number).at(now));
        // Nothing is known for sure while an unanswered request may still be done.
        let state = if state.doubt.is_some() { state.may_be() } else { state };
        self.states.insert(number, state);
    }

    pub fn violate(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    /// What is known of all blobs; equal models demand the same of a disk.
    pub fn demands(&self) -> String {
        format!("{:?}", self.states)
    }

    /// The last that happened to a blob.
    pub fn history_of(&self, number: u64) -> String {
        let lines = self.history.get(&number).map(Vec::as_slice).unwrap_or_default();
        lines[lines.len().saturating_sub(12)..].iter().map(|line| format!("\n    {line}")).collect()
    }

    /// A put is asked for: it may be done from now on.
    pub fn put_asked(&mut self, number: u64, asked: Asked, now: Moment) {
        let gone = |state: State| State { gone_ms: state.gone_ms.max(asked.end_ms(now)), ..state };
        self.update(number, now, &format!("put {asked:?}"), gone);
    }

    /// It was acknowledged: kept as well as it was, and as well as was asked.
    pub fn put_done(&mut self, number: u64, asked: Asked, (begin, end): (Moment, Moment)) {
        self.update(number, end, "stored", |state| {
            let gone_ms = state.gone_ms.max(asked.end_ms(end));
            let timed = asked.ttl_ms.is_some();
            let void = asked.may_be_dropped() || (timed && begin.jumps != end.jumps);
            let must_ms = if void { state.must_ms } else { state.must_ms.max(asked.end_ms(begin)) };
            let gone_ms = if timed && begin.jumps != end.jumps { NEVER_MS } else { gone_ms };
            State { must_ms, gone_ms, ..state }
        });
    }

    /// A deletion is asked for: it may be done from now on.
    pub fn delete_asked(&mut self, number: u64, now: Moment) {
        self.update(number, now, "delete", |state| State { must_ms: 0, ..state });
    }

    /// It was acknowledged.
    pub fn delete_done(&mut self, number: u64, now: Moment) {
        self.update(number, now, "deleted", |state| State { must_ms: 0, gone_ms: 0, ..state });
    }

    /// The node said that there is nothing to delete. An expired blob comes back when the calendar does, which may have been
    /// ahead when the node looked.
    pub fn delete_missed(&mut self, number: u64, (asked, now): (Moment, Moment)) {
        self.update(number, now, "nothing to delete", |state| {
            let gone_ms = state.gone_ms.min(now.unix_ms.max(asked.unix_ms));
            State { must_ms: 0, gone_ms, ..state }
        });
    }

    /// A request that changes something was never answered.
    pub fn unanswered(&mut self, number: u64, now: Moment) {
        self.update(number, now, "unanswered", |state| State { doubt: Some(now.boot), ..state });
    }

    /// The last that was said of a blob may be lost.
    pub fn forgive(&mut self, number: u64) {
        let state = self.state(number).may_be();
        self.states.insert(number, state);
    }

    /// A blob cannot be read on a node to which nothing happens.
    pub fn unreadable(&mut self, blob: &Blob) {
        if let Some(noted) = &mut self.unreadable {
            noted.insert(blob.number);
        } else if !self.may_lose {
            let history = self.history_of(blob.number);
            self.violate(format!("{} ({} bytes) cannot be read at rest{history}", blob.digest, blob.size));
        }
    }

    /// A blob was found, or not, by a request for it that began and ended at these dates.
    pub fn seen(&mut self, blob: &Blob, found: bool, when: (Moment, Moment)) {
        self.looked(blob, (found, "there"), when);
    }

    /// The same of a request for all blobs.
    pub fn listed(&mut self, blob: &Blob, found: bool, when: (Moment, Moment)) {
        self.looked(blob, (found, "listed"), when);
    }

    fn looked(&mut self, blob: &Blob, (found, what): (bool, &str), (begin, end): (Moment, Moment)) {
        if found {
            self.missing.remove(&blob.number);
        } else {
            self.missing.insert(blob.number);
        }
        let state = self.state(blob.number).at(end);
        let wrong = match (state, found) {
            (State { gone_ms: 0, .. }, true) => Some("it was deleted, or never stored"),
            (State { must_ms: NEVER_MS, .. }, false) => Some("it was acknowledged as stored for good"),
            (State { must_ms, .. }, false) if end.unix_ms < must_ms => Some("its time is not over"),
            (State { gone_ms, .. }, true) if begin.unix_ms > gone_ms => Some("its time is over"),
            _ => None,
        };
        let Some(why) = wrong else { return };
        if self.may_lose {
            self.lost += 1;
            self.update(blob.number, end, "lost, or back", State::may_be);
            return;
        }
        let is = if found { "is" } else { "is not" };
        let history = self.history_of(blob.number);
        self.violate(format!("{} ({} bytes) {is} {what}: {why}{history}", blob.digest, blob.size));
    }
}
