//! Requests to an origin: asked, judged, tried again, their bodies received. Called by `shard`, which spawns one task for each.
//!
//! Invariants
//! 1. Nothing of an answer is used before `state::subreply` has said what it means.
//! 2. A task that was called off is dropped before it is polled again: what it does to an object's fill is of the version it was
//!    begun for.

use crate::api::Refused;
use crate::limits::{FIRST_PIECE_BYTES, MEMORY_RETRY_NS, MEMORY_TRIES_MAX, PIECE_BYTES};
use crate::live::Live;
use crate::room::Taken;
use crate::shard::Owner;
use crate::state::fields::Fields;
use crate::state::fill::Fetch;
use crate::state::forward::Line;
use crate::state::retry::{Fault, Tries};
use crate::state::slices::range_field;
use crate::state::status::via;
use crate::state::subreply::{Asked, Meaning, Replied, meaning};
use crate::upstream::{Closed, Turn, Upstream, fault_of, is_trouble};
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
            Asked::First(first) => line("Range", &first.field()),
            Asked::Run(run, version) => {
                line("Range", &range_field(run));
                if sends_preconditions {
                    let (name, value) = version.validator.precondition();
                    line(name, &value);
                }
            }
            Asked::Revalidation(first, version) => {
                line("Range", &first.field());
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
        match self.ask(&live.upstream, &words, &asked, &mut Tries::default()).await {
            Ok(got) => self.on_answer(&live, got),
            Err(refused) => self.on_question_failed(&live, refused),
        }
    }

    /// Asks until there is an answer that means something, or one failure too many.
    async fn ask(
        &self,
        upstream: &Rc<Upstream<I>>,
        words: &Words,
        asked: &Asked,
        tries: &mut Tries,
    ) -> Result<Got<I>, Refused> {
        loop {
            let fault = match self.ask_once(upstream, words, asked).await {
                Ok(got) => {
                    upstream.budget.borrow_mut().on_success();
                    return Ok(got);
                }
                Err(Failed::Closed(closed)) => return Err(refused_by(closed)),
                Err(Failed::Fault(fault)) => fault,
            };
            self.again(upstream, tries, fault).await.map_err(|()| refused_after(fault))?;
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
    ) -> Result<Got<I>, Failed> {
        let mut turn = upstream.turn(!matches!(asked, Asked::Run(..))).await.map_err(Failed::Closed)?;
        self.metrics.subrequests.inc();
        let begin_ns = self.io.now_ns();
        let request_s = self.now_s();
        let url = upstream.url_of(&words.target);
        let reply = upstream.client.ask(&Ask { method: "GET", url: &url, fields: &words.lines }).await;
        let reply = match reply {
            Ok(reply) => reply,
            Err(e) => {
                turn.on_outcome(false);
                tracing::debug!(url = %url.without_query(), error = %e, "no answer");
                return Err(Failed::Fault(fault_of(&e)));
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
            Meaning::Retry(fault) => Err(Failed::Fault(fault)),
            meaning => Ok(Got { reply, meaning, request_s, response_s, turn }),
        }
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
                return self.on_fetch_failed(&live, fetch);
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
            let (at, asked) = (rest.start, Asked::Run(rest, version.clone()));
            let words = Words::new(&live.key.target(), &state.lines, &asked, sends_preconditions);
            (asked, words, at)
        };
        match self.ask(&live.upstream, &words, &asked, tries).await {
            Ok(got) if matches!(got.meaning, Meaning::Run(..)) => return Some((got, at)),
            Ok(Got { meaning: Meaning::Refused(_), .. }) | Err(_) => self.on_fetch_failed(live, fetch),
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

enum Failed {
    Closed(Closed),
    Fault(Fault),
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
