//! What each blob may be after everything that was asked and answered. Pure; told by `workload`, asked by it and by `run`.

use std::cell::RefCell;
use std::collections::BTreeMap;
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

/// What may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Never stored, or deleted, and acknowledged.
    Absent,
    /// Stored for good, and acknowledged.
    Present,
    /// Stored until a date between these two, if the calendar never jumped (`jumps` so far).
    Until { from_ms: u64, to_ms: u64, jumps: u64 },
    /// Whole or not there: an answer was missing, or it may be evicted.
    Maybe,
}

/// All blobs.
#[derive(Default)]
pub struct Model {
    pub states: BTreeMap<u64, State>,
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
}

pub type SharedModel = Rc<RefCell<Model>>;

impl Model {
    pub fn state(&self, number: u64) -> State {
        self.states.get(&number).copied().unwrap_or(State::Absent)
    }

    pub fn set(&mut self, number: u64, state: State) {
        self.states.insert(number, state);
    }

    pub fn violate(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    /// A put is asked for and may be done from now on; what was known before.
    pub fn put_unknown(&mut self, number: u64) -> State {
        let before = self.state(number);
        if before != State::Present {
            self.set(number, State::Maybe);
        }
        before
    }

    /// That put was acknowledged.
    pub fn put_done(&mut self, number: u64, before: State, kept: State) {
        let now = match (before, kept) {
            (State::Present, _) | (_, State::Present) => State::Present,
            // Kept as long as the longer of both asks; whichever that is, it is not known to be gone.
            (State::Absent, kept) => kept,
            _ => State::Maybe,
        };
        self.set(number, now);
    }

    /// A blob was found, or not, by a request that began and ended at these dates.
    pub fn seen(&mut self, blob: &Blob, found: bool, (begin_ms, end_ms, jumps): (u64, u64, u64)) {
        let wrong = match (self.state(blob.number), found) {
            (State::Absent, true) => Some("it was deleted, or never stored"),
            (State::Present, false) => Some("it was acknowledged as stored for good"),
            (State::Until { from_ms, jumps: then, .. }, false) if jumps == then && end_ms < from_ms => {
                Some("its time is not over")
            }
            (State::Until { to_ms, jumps: then, .. }, true) if jumps == then && begin_ms > to_ms => {
                Some("its time is over")
            }
            _ => None,
        };
        let Some(why) = wrong else { return };
        if self.may_lose {
            self.lost += 1;
            self.set(blob.number, State::Maybe);
            return;
        }
        let is = if found { "is there" } else { "is not there" };
        self.violate(format!("{} ({} bytes) {is}: {why}", blob.digest, blob.size));
    }
}
