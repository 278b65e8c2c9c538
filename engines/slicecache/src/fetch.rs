//! Requests to an origin: asked, judged, tried again, their bodies received. Called by `shard`, which spawns one task for each.
//!
//! Invariants
//! 1. Nothing of an answer is used before `state::subreply` has said what it means.
//! 2. A task that was called off is dropped before it is polled again: what it does to an object's fill is of the version it was
//!    begun for.

use crate::api::Refused;
use crate::limits::{
    FIRST_PIECE_BYTES, MEMORY_RETRY_NS, MEMORY_TRIES_MAX, PIECE_BYTES, SMALL_BYTES_MAX, WHOLE_BYTES_MAX,
};
use crate::live::Live;
use crate::planted::{self, Bug};
use crate::room::Taken;
use crate::shard::Owner;
use crate::state::fields::Fields;
use crate::state::fill::{Fetch, Reader, Why};
use crate::state::forward::Line;
use crate::state::purge::Generation;
use crate::state::retry::{Fault, Tries};
use crate::state::slices::range_field;
use crate::state::status::via;
use crate::state::subreply::{Asked, Meaning, Replied, meaning};
use crate::upstream::{Closed, Turn, Upstream, fault_of, is_trouble, is_trouble_of};
use net::client::{Ask, Reply};
use net::http1::Status;
use runtime::buffer::Buffer;
use runtime::io::Io;
use std::rc::Rc;

/// An answer and what it means.
pub(crate) struct Got<I: Io> {
    pub reply: Reply<I>,
    pub meaning: Meaning,
    pub request_s: u64,
    pub response_s: u64,
    /// Held as long as the body comes.
    pub turn: Turn<I>,
}

/// What is asked, in words of HTTP.
struct Words {
    target: String,
    lines: Vec<Line>,
}

impl Words {
    fn new(target: &str, forwarded: &[Line], asked: &Asked, sends_preconditions: bool) -> Words {
        let mut lines = forwarded.to_vec();
        let mut line = |name: &str, value: &str| lines.push((name.into(), value.into()));
        match asked {
            Asked::First(first) => {
                if let Some(range) = first.field() {
                    line("Range", &range);
                }
            }
            Asked::Run(run, version) => {
                line("Range", &range_field(run));
                if sends_preconditions {
                    let (name, value) = version.validator.precondition();
                    line(name, &value);
                }
            }
            Asked::Revalidation(first, version) => {
                if let Some(range) = first.field() {
                    line("Range", &range);
                }
                let (name, value) = version.validator.revalidation();
                line(name, &value);
            }
        }
        // What is stored are the bytes themselves.
        line("Accept-Encoding", "identity");
        line("User-Agent", concat!("basalt/", env!("CARGO_PKG_VERSION")));
        line("Via", &String::from_utf8_lossy(&via("1.1", None)));
        Words { target: target.to_owned(), lines }
    }
}

impl<I: Io> Owner<I> {
    /// Asks what an object's state wants to know, and tells it.
    pub(crate) async fn question(self: Rc<Self>, live: Rc<Live<I>>, asked: Asked) {
        let words = {
            let state = live.state.borrow();
            Words::new(&live.key.target(), &state.lines, &asked, true)
        };
        let (mut got, refused) = match self.ask(&live.upstream, &words, &asked, &mut Tries::default()).await {
            Ok(got) => (got, None),
            Err(Unanswered { refused, last: Some(got) }) => (got, Some(refused)),
            Err(Unanswered { refused, last: None }) => return self.on_question_failed(&live, refused),
        };
        match (self.keep(&live, &mut got).await, refused) {
            (Some(body), _) => self.on_kept(&live, got, body),
            (None, Some(refused)) => self.on_question_failed(&live, refused),
            (None, None) => self.on_answer(&live, got),
        }
    }

    /// Asks for one request alone whether the version still holds.
    pub(crate) async fn validate(
        self: Rc<Self>,
        live: Rc<Live<I>>,
        reader: Reader,
        asked: Asked,
        generation: Generation,
    ) {
        let words = Words::new(&live.key.target(), &live.state.borrow().lines, &asked, true);
        let answer = self.ask(&live.upstream, &words, &asked, &mut Tries::default()).await;
        self.on_validated(&live, reader, generation, answer.map_err(|unanswered| unanswered.refused));
    }

    /// Asks until there is an answer that means something, or one failure too many.
    async fn ask(
        &self,
        upstream: &Rc<Upstream<I>>,
        words: &Words,
        asked: &Asked,
        tries: &mut Tries,
    ) -> Result<Got<I>, Unanswered<I>> {
        loop {
            let (fault, last) = match self.ask_once(upstream, words, asked).await {
                Ok(got) => {
                    upstream.budget.borrow_mut().on_success();
                    return Ok(got);
                }
                Err(Failed::Closed(closed)) => {
                    return Err(Unanswered { refused: refused_by(closed), last: None });
                }
                Err(Failed::Fault(fault, last)) => (fault, last),
            };
            if self.again(upstream, tries, fault).await.is_err() {
                return Err(Unanswered { refused: refused_after(fault), last: last.map(|got| *got) });
            }
        }
    }

    /// Waits for the next try; an error: there is none.
    async fn again(&self, upstream: &Upstream<I>, tries: &mut Tries, fault: Fault) -> Result<(), ()> {
        let (max, random) = (self.config.retries_max, self.io.random());
        let wait_ns = tries.again(fault, max, &mut upstream.budget.borrow_mut(), random);
        tracing::debug!(origin = %upstream.url.without_query(), ?fault, ?wait_ns, "a request to the origin failed");
        match wait_ns {
            None => Err(()),
            Some(wait_ns) => {
                self.metrics.retries.inc();
                self.io.sleep(wait_ns).await;
                Ok(())
            }
        }
    }

    async fn ask_once(
        &self,
        upstream: &Rc<Upstream<I>>,
        words: &Words,
        asked: &Asked,
    ) -> Result<Got<I>, Failed<I>> {
        let mut turn = upstream.turn(is_small(asked)).await.map_err(Failed::Closed)?;
        self.metrics.subrequests.inc();
        let begin_ns = self.io.now_ns();
        let request_s = self.now_s();
        let url = upstream.url_of(&words.target);
        let reply = upstream.client.ask(&Ask { method: "GET", url: &url, fields: &words.lines }).await;
        let reply = match reply {
            Ok(reply) => reply,
            Err(e) => {
                turn.on_outcome(!is_trouble_of(&e));
                tracing::debug!(url = %url.without_query(), error = %e, "no answer");
                return Err(Failed::Fault(fault_of(&e), None));
            }
        };
        self.metrics.subrequest_seconds.record(self.io.now_ns() - begin_ns);
        let response_s = self.now_s();
        let status = reply.head.status;
        let meaning = {
            let (fields, length) = (Fields::of_reply(&reply.head), reply.length());
            meaning(asked, &Replied { status, fields: &fields, length, now_s: response_s })
        };
        turn.on_outcome(!is_trouble(status));
        match meaning {
            Meaning::Retry(fault) => {
                let last = self.is_kept_after_tries(asked, fault);
                let meaning = Meaning::Relay;
                let last = last.then(|| Box::new(Got { reply, meaning, request_s, response_s, turn }));
                Err(Failed::Fault(fault, last))
            }
            meaning => Ok(Got { reply, meaning, request_s, response_s, turn }),
        }
    }

    /// Whether an error with which the origin answers to the last is kept instead of ours.
    fn is_kept_after_tries(&self, asked: &Asked, fault: Fault) -> bool {
        let Fault::Status { status: said, .. } = fault else { return false };
        let is_set = self.lifetimes.negative_s.iter().any(|(status, _)| *status == said);
        is_set && matches!(asked, Asked::First(_))
    }

    /// Brings a run of a version, from an answer that is there already or by asking, as often as it takes.
    pub(crate) async fn bring(
        self: Rc<Self>,
        live: Rc<Live<I>>,
        fetch: Fetch,
        adopted: Option<(Got<I>, u64)>,
    ) {
        let Some(run) = rest(&live, fetch) else { return };
        let room = Rc::new(self.memory.take(run.end - run.start).await);
        let (mut tries, mut adopted) = (Tries::default(), adopted);
        loop {
            let (got, at) = match adopted.take() {
                Some(adopted) => adopted,
                None => match self.ask_for_rest(&live, fetch, &mut tries).await {
                    Some(asked) => asked,
                    None => return,
                },
            };
            let before = rest(&live, fetch);
            let Err(fault) = self.receive(&live, fetch, got, at, &room).await else { return };
            if rest(&live, fetch) != before {
                tries.on_progress();
            }
            if self.again(&live.upstream, &mut tries, fault).await.is_err() {
                return self.on_fetch_failed(&live, fetch, Why::Failed);
            }
        }
    }

    async fn ask_for_rest(&self, live: &Rc<Live<I>>, fetch: Fetch, tries: &mut Tries) -> Option<(Got<I>, u64)>
    where
        Self: 'static,
    {
        let (asked, words, at) = {
            let state = &mut *live.state.borrow_mut();
            let sends_preconditions = state.object.sends_preconditions();
            let (version, _, fill) = state.object.fill()?;
            let rest = fill.rest(fetch)?;
            let at = rest.start;
            let is_late =
                planted::is(Bug::RetryByteLate) && fill.slices().at(at) * fill.slices().slice_bytes != at;
            let asked =
                Asked::Run(if is_late { at + 1..rest.end.max(at + 2) } else { rest }, version.clone());
            let words = Words::new(&live.key.target(), &state.lines, &asked, sends_preconditions);
            (asked, words, at)
        };
        match self.ask(&live.upstream, &words, &asked, tries).await {
            Ok(got) if matches!(got.meaning, Meaning::Run(..)) => return Some((got, at)),
            // Its origin gives no ranges: what lies before is skipped.
            Ok(got)
                if matches!(got.meaning, Meaning::Whole { is_same: true, .. }) && at <= WHOLE_BYTES_MAX =>
            {
                return Some((got, 0));
            }
            Ok(Got { meaning: Meaning::Refused(_), .. }) => self.on_fetch_failed(live, fetch, Why::Refused),
            Err(_) => self.on_fetch_failed(live, fetch, Why::Failed),
            Ok(_) => self.on_changed(live),
        }
        None
    }

    /// Receives a body whose next byte is the object's byte `at`.
    async fn receive(
        &self,
        live: &Rc<Live<I>>,
        fetch: Fetch,
        got: Got<I>,
        mut at: u64,
        room: &Rc<Taken>,
    ) -> Result<(), Fault> {
        let Got { mut reply, turn: _turn, .. } = got;
        while let Some(wanted) = wanted(live, fetch, at) {
            let len = usize::try_from(wanted.bytes).expect("at most a piece");
            let buf = self.buffer(len).await.ok_or(Fault::Reset)?;
            let (count, read, buf) = reply.read(buf, 0, len).await;
            let (count, read) =
                if planted::is(Bug::ShortBodyAccepted) { (len, Ok(())) } else { (count, read) };
            self.metrics.origin_bytes.add(count as u64);
            if count > 0 && !wanted.is_skipped {
                self.on_bytes(live, (fetch, wanted.slice), buf.into_shared(count), room);
            }
            at += count as u64;
            read.map_err(|e| fault_of(&e))?;
            if count < len {
                return Err(Fault::Short);
            }
        }
        Ok(())
    }

    /// Waits a while for memory.
    pub(crate) async fn buffer(&self, len: usize) -> Option<Buffer> {
        for _ in 0..MEMORY_TRIES_MAX {
            if let Some(buf) = self.io.buffer(len) {
                return Some(buf);
            }
            self.tier.make_room();
            self.io.sleep(MEMORY_RETRY_NS).await;
        }
        None
    }
}

enum Failed<I: Io> {
    Closed(Closed),
    /// With the answer, if it may be kept.
    Fault(Fault, Option<Box<Got<I>>>),
}

/// All tries are used up.
struct Unanswered<I: Io> {
    refused: Refused,
    /// The last answer, an error that may be kept.
    last: Option<Got<I>>,
}

/// Whether a request may go before others: all for a small object do, and the first for one of which nothing is known, unless the place
/// that it asks for lies in large ones only.
fn is_small(asked: &Asked) -> bool {
    match asked {
        Asked::First(first) => first.start() < SMALL_BYTES_MAX,
        Asked::Revalidation(_, version) | Asked::Run(_, version) => version.size <= SMALL_BYTES_MAX,
    }
}

/// The next bytes of a body to receive.
struct Wanted {
    slice: u64,
    bytes: u64,
    /// They lie before what is of use.
    is_skipped: bool,
}

fn rest<I: Io>(live: &Live<I>, fetch: Fetch) -> Option<std::ops::Range<u64>> {
    live.state.borrow_mut().object.fill().and_then(|(_, _, fill)| fill.rest(fetch))
}

fn wanted<I: Io>(live: &Live<I>, fetch: Fetch, at: u64) -> Option<Wanted> {
    let state = &mut *live.state.borrow_mut();
    let (_, _, fill) = state.object.fill()?;
    let rest = fill.rest(fetch)?;
    if at < rest.start {
        return Some(Wanted { slice: 0, bytes: (rest.start - at).min(PIECE_BYTES as u64), is_skipped: true });
    }
    assert_eq!(at, rest.start, "a body that goes on where nobody wants it");
    let slice = fill.slices().at(at);
    let bounds = fill.slices().bytes(slice);
    let piece = if at == bounds.start { FIRST_PIECE_BYTES } else { PIECE_BYTES };
    let bytes = (bounds.end.min(rest.end) - at).min(piece as u64);
    Some(Wanted { slice, bytes, is_skipped: false })
}

fn refused_by(closed: Closed) -> Refused {
    Refused::new(
        Status::ServiceUnavailable,
        match closed {
            Closed::Busy => "too many requests wait for the origin",
            Closed::Open => "the origin fails and is left alone for a while",
        },
    )
}

fn refused_after(fault: Fault) -> Refused {
    match fault {
        Fault::Timeout => Refused::new(Status::GatewayTimeout, "the origin took too long"),
        Fault::Connect => Refused::new(Status::BadGateway, "the origin cannot be reached"),
        Fault::Status { .. } => Refused::new(Status::BadGateway, "the origin fails"),
        Fault::Reset | Fault::Short => Refused::new(Status::BadGateway, "the origin's answer broke off"),
        Fault::WrongRange | Fault::Malformed => {
            Refused::new(Status::BadGateway, "the origin's answer cannot be used")
        }
    }
}
