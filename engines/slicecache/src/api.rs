//! Requests to the owner of an object, and its replies: plain data that travels between columns.
//!
//! A response is a *reader* of its object. Its number is drawn by the column that has the client, unique on the node, so that the
//! column can take its request back before the owner has answered.

use crate::state::fill::{Reader, Why};
use crate::state::forward::Line;
use crate::state::freshness::NotStored;
use crate::state::key::{CacheKey, Name};
use crate::state::purge::{Numbered, Purge};
use crate::state::ranges::Answer;
use crate::state::status::Told;
use bytes::Bytes;
use net::http1::{Method, Status};
use runtime::call::Kind;
use runtime::metrics::Snapshot;
use runtime::resident::Resident;
use runtime::tier::{Digest, Object, Pinned};
use std::ops::Range;
use std::sync::Arc;

/// A client's request, as far as the owner needs it.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Of the object.
    pub key: CacheKey,
    /// Its name, without the fields that select a variant.
    pub name: Name,
    /// Which of the origins has it.
    pub origin: usize,
    /// GET or HEAD.
    pub method: Method,
    /// The client's fields.
    pub lines: Vec<Line>,
}

/// Asked of the owning column.
#[derive(Debug)]
pub enum Request {
    /// What to answer.
    Open(Reader, Arc<Ask>),
    /// What comes next for a reader, who has sent so many bytes of what it was given.
    Next(Reader, u64),
    /// These readers are gone.
    Leave(Vec<Reader>),
    /// What was given of a slice in the tier could not be read.
    Lost(Reader, Digest),
    /// An answer to an unsafe method said that what is stored of this name no longer holds (RFC 9111 §4.4).
    Invalidate(Name),
    /// The same, and it could be neither deleted nor purged.
    Disown(Name),
    /// An order to purge, to be written down and obeyed everywhere. To the column that numbers them.
    Order(Purge),
    /// An order that is written down.
    Apply(Arc<Numbered>),
    /// All orders of earlier starts were told.
    Known,
    /// What probes of an origin say: it is up, or down.
    Health(usize, bool),
    /// Counts, for the ops listener.
    Scrape,
}

impl Request {
    /// How soon it is answered.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            // They wait for an origin, or for the disk.
            Request::Open(..) | Request::Next(..) | Request::Invalidate(_) | Request::Order(_) => Kind::Long,
            Request::Leave(_)
            | Request::Lost(..)
            | Request::Disown(_)
            | Request::Apply(_)
            | Request::Known
            | Request::Health(..)
            | Request::Scrape => Kind::Prompt,
        }
    }
}

/// The owner's answer.
pub enum Reply {
    /// To `Open`.
    Opened(Opened),
    /// To `Next`.
    Step(Step),
    /// To `Invalidate`: whether there may be variants in the tier that nobody here knows of.
    Invalidated(bool),
    /// To `Order`: as it was written down, or why it was not.
    Ordered(Result<Arc<Numbered>, String>),
    /// To `Scrape`.
    Snapshot(Box<Snapshot>),
    /// To all others.
    Noted,
}

/// What is to become of a request.
pub enum Opened {
    /// This.
    Answer(Box<Head>),
    /// What is kept whole, of another status than 200.
    Kept(Box<Kept>),
    /// It is passed through to the origin; why what came is not stored, if it was that.
    Pass(Option<NotStored>),
    /// It fails.
    Refused(Refused),
}

/// How a request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The status.
    pub status: Status,
    /// Why, for a person.
    pub why: &'static str,
}

impl Refused {
    /// With a status of ours.
    #[must_use]
    pub fn new(status: Status, why: &'static str) -> Refused {
        Refused { status, why }
    }
}

/// The head of an answer; its ranges are read by [`Request::Next`] if there are any.
pub struct Head {
    /// Status, ranges, length.
    pub answer: Answer,
    /// Of the whole object.
    pub size: u64,
    /// The stored fields.
    pub lines: Arc<Vec<Line>>,
    /// How old it is.
    pub age_s: u64,
    /// How it came about.
    pub told: Told,
    /// What comes first, if it was there at once.
    pub first: Option<Step>,
    /// That is all there is: nobody reads on.
    pub is_whole: bool,
    /// All of the object, if it is kept whole: then nothing is read by [`Request::Next`].
    pub whole: Option<Bytes>,
}

impl Head {
    /// Whether its ranges are read step by step.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.whole.is_none() && !self.is_whole && !self.answer.ranges.is_empty()
    }
}

/// An answer that is kept whole.
pub struct Kept {
    /// Its status.
    pub status: u16,
    /// The stored fields.
    pub lines: Arc<Vec<Line>>,
    /// The body.
    pub body: Bytes,
    /// How old it is.
    pub age_s: u64,
    /// How it came about.
    pub told: Told,
}

/// What comes next for a reader.
pub enum Step {
    /// These bytes.
    Bytes(Vec<Bytes>),
    /// A stretch of pinned pages.
    Pages(Resident, Range<usize>),
    /// A stretch of a small object in pinned pages.
    Pinned(Pinned, Range<usize>),
    /// A stretch of an object file, to be read from disk.
    Disk(Digest, Object, Range<u64>),
    /// That was all.
    Done,
    /// It ends here.
    Ended(Why),
}
