//! What stands around the state: requests under way, memory, tier, clients, clock. It does what effects say, in any order.

use super::client::Client;
use super::origin::{Origin, Reply, tag};
use super::rng::Rng;
use net::http1::Method;
use slicecache::limits::SLICE_BYTES_MIN;
use slicecache::state::cache_control::CacheControl;
use slicecache::state::fields::Fields;
use slicecache::state::fill::{Effect, Fetch, Next, Reader, Source, Why};
use slicecache::state::freshness::{Exchanged, Freshness, Lifetimes, NotStored, Use};
use slicecache::state::object::{Act, Object, Slicing, Validated};
use slicecache::state::ranges;
use slicecache::state::retry::{Fault, RetryBudget, Tries};
use slicecache::state::slices::{Concurrency, FirstRun, SliceSize, Slices};
use slicecache::state::subreply::{Asked, Meaning, Replied, meaning};
use slicecache::state::validator::{Representation, Validator};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

const S: u64 = SLICE_BYTES_MIN;
const SLICING: Slicing =
    Slicing { slice_size: SliceSize::Fixed(S), whole_below: 0, concurrency: Concurrency::Fixed(4) };
const RETRIES_MAX: u32 = 2;

/// What happened, so that a run that shows nothing is seen.
#[derive(Default)]
pub struct Seen {
    pub served: u64,
    pub cut: u64,
    pub failed: u64,
    pub passed: u64,
    pub stale: u64,
    pub unsatisfied: u64,
    pub versions: u64,
    pub from_tier: u64,
    pub alone: u64,
}

impl Seen {
    pub fn add(&mut self, other: &Seen) {
        self.served += other.served;
        self.cut += other.cut;
        self.failed += other.failed;
        self.passed += other.passed;
        self.stale += other.stale;
        self.unsatisfied += other.unsatisfied;
        self.versions += other.versions;
        self.from_tier += other.from_tier;
        self.alone += other.alone;
    }

    pub fn assert_rich(&self, seeds: u64) {
        let all = [self.served, self.cut, self.failed, self.passed, self.stale, self.unsatisfied, self.alone];
        assert!(all.iter().all(|count| *count > seeds / 20), "{all:?}");
        assert!(self.versions > seeds && self.from_tier > seeds, "{} {}", self.versions, self.from_tier);
    }
}

/// Bytes of a slice in memory or in the tier: which ones really came, one after the other.
type Bytes = Vec<(Range<u64>, u64)>;

enum For {
    Question,
    Alone(Reader),
    Fill(Fetch),
}

struct Request {
    what: For,
    asked: Asked,
    tries: Tries,
    /// The body, once a head was understood, and of it what is of use.
    body: Option<(Reply, Range<u64>)>,
}

pub struct World {
    rng: Rng,
    origin: Origin,
    object: Object,
    budget: RetryBudget,
    requests: Vec<Request>,
    memory: BTreeMap<u64, Bytes>,
    tier: BTreeMap<u64, Bytes>,
    storing: BTreeSet<(u64, u64)>,
    clients: BTreeMap<Reader, Client>,
    next_reader: Reader,
    now_s: u64,
    pub seen: Seen,
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut rng = Rng(seed);
        let origin =
            Origin { version: 0, sizes: vec![1 + rng.below(9 * S)], is_honest: false, is_down: false };
        World {
            rng,
            origin,
            object: Object::new(SLICING),
            budget: RetryBudget::new(),
            requests: Vec::new(),
            memory: BTreeMap::new(),
            tier: BTreeMap::new(),
            storing: BTreeSet::new(),
            clients: BTreeMap::new(),
            next_reader: 0,
            now_s: 1_000_000,
            seen: Seen::default(),
        }
    }

    pub fn step(&mut self) {
        match self.rng.below(20) {
            0..=2 => self.arrive(),
            3..=8 => self.progress(),
            9..=11 => self.store(),
            12..=16 => self.read(),
            17 => {
                self.now_s += self.rng.below(6);
                self.origin.is_down = self.rng.once_in(5);
            }
            18 if self.rng.once_in(6) => self.change(),
            18 => self.lose(),
            _ => self.leave(),
        }
    }

    /// The origin is honest from now on: everybody is served or has been told, and nothing is left.
    pub fn settle(&mut self) {
        (self.origin.is_honest, self.origin.is_down) = (true, false);
        for _ in 0..100_000 {
            if self.clients.is_empty() && self.requests.is_empty() && self.storing.is_empty() {
                break;
            }
            self.budget = RetryBudget::new();
            self.progress();
            self.store();
            self.read();
        }
        assert!(self.clients.is_empty() && self.requests.is_empty(), "somebody waits for ever");
        assert!(self.memory.is_empty(), "memory is left behind");
        let served = self.seen.served;
        // What was true, or believed, before may end the first one; the next one heals.
        for _ in 0..2 {
            self.arrive_with(None);
            for _ in 0..1000 {
                self.progress();
                self.store();
                self.read();
            }
        }
        assert!(self.seen.served > served && self.clients.is_empty(), "the cache does not heal");
    }

    fn arrive(&mut self) {
        let at = self.rng.below(10 * S);
        let length = 1 + self.rng.below(4 * S);
        let range = match self.rng.below(8) {
            0 | 1 => None,
            2 => Some(format!("bytes={at}-")),
            3 => Some(format!("bytes=-{length}")),
            4 => Some(format!("bytes={at}-{},0-9", at + length)),
            _ => Some(format!("bytes={at}-{}", at + length)),
        };
        self.arrive_with(range);
    }

    fn arrive_with(&mut self, range: Option<String>) {
        let reader = self.next_reader;
        self.next_reader += 1;
        let first = FirstRun::new(range.as_deref().map(str::as_bytes), SLICING.slice_size);
        self.clients.insert(reader, Client { range, answered: None, is_asleep: false });
        let mut acts = Vec::new();
        let control = CacheControl { no_cache: self.rng.once_in(8), ..CacheControl::default() };
        self.object.on_arrived(reader, &control, first, self.now_s, &mut acts).expect("few");
        self.act(acts, None);
    }

    fn act(&mut self, acts: Vec<Act>, mut reply: Option<Reply>) {
        for act in acts {
            match act {
                Act::Ask(asked) => self.request(For::Question, asked),
                Act::Validate(reader, asked) => {
                    self.seen.alone += 1;
                    self.request(For::Alone(reader), asked);
                }
                Act::Answer(reader, good_for) => {
                    self.seen.stale += u64::from(good_for != Use::Fresh);
                    self.answer(reader);
                }
                Act::Pass(reader) => {
                    self.clients.remove(&reader);
                    self.seen.passed += 1;
                }
                Act::Fail(reader) => {
                    self.clients.remove(&reader);
                    self.seen.failed += 1;
                }
                Act::AnswerKept(..) => panic!("nothing is kept whole here"),
                Act::RefuseOnlyIfCached(_) => panic!("nobody asked for that"),
                Act::Adopt(fetch, useful) => {
                    let reply = reply.take().expect("the answer's body");
                    let (version, ..) = self.object.fill().expect("just adopted");
                    let asked = Asked::Run(useful.clone(), version.clone());
                    let body = Some((reply, useful));
                    self.seen.versions += 1;
                    self.requests.push(Request {
                        what: For::Fill(fetch),
                        asked,
                        tries: Tries::default(),
                        body,
                    });
                }
                Act::DropBody => drop(reply.take()),
                Act::Fill(effect) => self.effect(effect),
            }
        }
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Start(fetch, run) => {
                let (version, ..) = self.object.fill().expect("a fill that fetches");
                let asked = Asked::Run(run, version.clone());
                self.request(For::Fill(fetch), asked);
            }
            Effect::Cancel(fetch) => {
                self.requests.retain(|request| !matches!(request.what, For::Fill(f) if f == fetch));
            }
            Effect::Store(slice) => {
                assert!(self.storing.insert((self.object.epoch(), slice)));
            }
            Effect::Forget(slice) => drop(self.memory.remove(&slice)),
            Effect::Drop(slice) => drop(self.tier.remove(&slice)),
            Effect::Wake(reader) => self.clients.get_mut(&reader).expect("a client").is_asleep = false,
            Effect::End(reader, why) => {
                self.clients.remove(&reader);
                match why {
                    Why::Changed => self.seen.cut += 1,
                    Why::Failed | Why::Refused => self.seen.failed += 1,
                }
            }
        }
    }

    fn effects(&mut self, effects: Vec<Effect>) {
        effects.into_iter().for_each(|effect| self.effect(effect));
    }

    fn request(&mut self, what: For, asked: Asked) {
        self.requests.push(Request { what, asked, tries: Tries::default(), body: None });
    }

    /// The client's answer, from the version that holds.
    fn answer(&mut self, reader: Reader) {
        let range = self.clients[&reader].range.clone();
        let pairs: Vec<(&str, &str)> = range.iter().map(|range| ("Range", range.as_str())).collect();
        let (version, _, fill) = self.object.fill().expect("answered from a version");
        let Validator::Tag(etag) = version.validator.clone() else { panic!("only tags here") };
        let number =
            (0..=self.origin.version).find(|number| tag(*number) == etag).expect("a version there was");
        // A size that is a lie shows when the end is fetched, not before.
        let lie = version.size - self.origin.sizes[number as usize];
        assert!(lie <= 1, "{lie}");
        let version = version.clone();
        let fields = Fields::of_pairs(&pairs);
        let representation = Representation { etag: Some(etag.as_bytes()), ..Representation::default() };
        let (size, now_s) = (version.size, self.now_s);
        let asked = ranges::Asked {
            method: Method::Get,
            fields: &fields,
            representation,
            size,
            content_type: "a/b",
            now_s,
        };
        let answer = asked.answer([1, 2]);
        if answer.ranges.is_empty() {
            self.seen.unsatisfied += 1;
            self.clients.remove(&reader);
            return;
        }
        let mut effects = Vec::new();
        fill.read(reader, answer.ranges.clone(), &mut effects).expect("few");
        let client = self.clients.get_mut(&reader).expect("a client");
        client.answered = Some((version, number, answer.ranges.into()));
        self.effects(effects);
    }

    /// Something comes from the origin for one of the requests.
    fn progress(&mut self) {
        if self.requests.is_empty() {
            return;
        }
        let at = self.rng.below(self.requests.len() as u64) as usize;
        let request = self.requests.swap_remove(at);
        match request.body {
            None => self.head(request),
            Some(_) => self.body(request),
        }
    }

    fn head(&mut self, mut request: Request) {
        let Some(reply) = self.origin.answer(&request.asked, &mut self.rng) else {
            return self.retry(request, Fault::Reset);
        };
        let fields = Fields::of_pairs(&reply.fields);
        let length = (reply.status != 304).then_some(reply.body.end - reply.body.start);
        let replied = Replied { status: reply.status, fields: &fields, length, now_s: self.now_s };
        let meaning = meaning(&request.asked, &replied);
        // A 304 is judged as what it refreshes.
        let freshness = self.freshness(&fields, if reply.status == 304 { 200 } else { reply.status });
        match (&request.what, meaning) {
            (_, Meaning::Retry(fault)) => self.retry(request, fault),
            (For::Question, meaning) => {
                let mut acts = Vec::new();
                self.object.on_answer(meaning, freshness, &mut acts);
                self.act(acts, Some(reply));
            }
            (For::Alone(reader), meaning) => {
                let validated = match (meaning, freshness) {
                    (Meaning::NotModified | Meaning::Whole { is_same: true, .. }, Ok(freshness)) => {
                        Validated::Holds(freshness)
                    }
                    (Meaning::Refused(status), _) => Validated::Refused(status),
                    _ => Validated::Otherwise,
                };
                self.validated(*reader, validated);
            }
            (For::Fill(_), Meaning::Run(run, _)) => {
                assert_eq!(run, reply.body);
                request.body = Some((reply, run));
                self.requests.push(request);
            }
            (For::Fill(fetch), Meaning::Whole { is_same: true, .. }) => {
                let (_, _, fill) = self.object.fill().expect("it was not cancelled");
                let rest = fill.rest(*fetch).expect("under way");
                request.body = Some((reply, rest));
                self.requests.push(request);
            }
            (For::Fill(fetch), Meaning::Refused(_)) => self.fail(*fetch),
            (For::Fill(fetch), _) => {
                let fetch = *fetch;
                let mut acts = Vec::new();
                self.object.on_changed(&mut acts);
                assert!(acts.contains(&Act::Fill(Effect::Cancel(fetch))));
                self.act(acts, None);
            }
        }
    }

    fn freshness(&self, fields: &Fields<'_>, status: u16) -> Result<Freshness, NotStored> {
        let none: [(&str, &str); 0] = [];
        let request = Fields::of_pairs(&none);
        let (request_s, response_s) = (self.now_s, self.now_s);
        let exchanged = Exchanged {
            method: Method::Get,
            request: &request,
            status,
            response: fields,
            request_s,
            response_s,
        };
        Freshness::if_stored(&exchanged, &Lifetimes { cache_ttl_s: Some(5), negative_s: Vec::new() })
    }

    fn retry(&mut self, mut request: Request, fault: Fault) {
        let again = request.tries.again(fault, RETRIES_MAX, &mut self.budget, self.rng.any());
        match (&request.what, again) {
            (For::Question, None) => {
                let mut acts = Vec::new();
                self.object.on_failed(&mut acts);
                self.act(acts, None);
            }
            (For::Alone(reader), None) => self.validated(*reader, Validated::Failed),
            (For::Fill(fetch), None) => self.fail(*fetch),
            (For::Question | For::Alone(_), Some(_)) => self.requests.push(request),
            (For::Fill(fetch), Some(_)) => {
                let (version, _, fill) = self.object.fill().expect("it was not cancelled");
                request.asked = Asked::Run(fill.rest(*fetch).expect("under way"), version.clone());
                request.body = None;
                self.requests.push(request);
            }
        }
    }

    fn validated(&mut self, reader: Reader, validated: Validated) {
        let mut acts = Vec::new();
        self.object.on_validated(reader, validated, &mut acts);
        self.act(acts, None);
    }

    fn fail(&mut self, fetch: Fetch) {
        let mut effects = Vec::new();
        let (_, _, fill) = self.object.fill().expect("it was not cancelled");
        fill.on_failed(fetch, &mut effects);
        self.effects(effects);
    }

    /// A piece of a body comes; what is before or behind what is of use is dropped.
    fn body(&mut self, mut request: Request) {
        let (reply, useful) = request.body.as_mut().expect("a body");
        let For::Fill(fetch) = request.what else { panic!("a question has no body of its own") };
        if reply.breaks_after == 0 {
            return self.retry(request, Fault::Short);
        }
        let most = if self.rng.once_in(2) { S } else { 2 * S };
        let piece = (1 + self.rng.below(most)).min(reply.breaks_after);
        let came = reply.body.start..reply.body.start + piece;
        reply.body.start = came.end;
        reply.breaks_after -= piece;
        let kept = came.start.max(useful.start)..came.end.min(useful.end);
        let is_over = reply.body.start >= useful.end;
        if kept.start < kept.end {
            let version = reply.version;
            let slices: Slices = *self.object.fill().expect("it was not cancelled").2.slices();
            let mut at = kept.start;
            while at < kept.end {
                let end = kept.end.min(slices.bytes(slices.at(at)).end);
                self.memory.entry(slices.at(at)).or_default().push((at..end, version));
                at = end;
            }
            request.tries.on_progress();
            let mut effects = Vec::new();
            let (_, _, fill) = self.object.fill().expect("it was not cancelled");
            fill.on_received(fetch, kept.end - kept.start, &mut effects);
            self.effects(effects);
        }
        if !is_over {
            self.requests.push(request);
        }
    }

    fn store(&mut self) {
        let all: Vec<(u64, u64)> = self.storing.iter().copied().collect();
        let Some((epoch, slice)) = self.rng.pick(&all) else { return };
        self.storing.remove(&(epoch, slice));
        if epoch != self.object.epoch() {
            return;
        }
        let is_taken = !self.rng.once_in(5);
        if is_taken {
            let bytes = self.memory[&slice].clone();
            self.tier.insert(slice, bytes);
        }
        let mut effects = Vec::new();
        let (_, _, fill) = self.object.fill().expect("the same epoch");
        if is_taken {
            fill.on_stored(slice, &mut effects);
        } else {
            fill.on_not_stored(slice, &mut effects);
        }
        self.effects(effects);
    }

    fn read(&mut self) {
        let awake = |(reader, client): (&Reader, &Client)| {
            (client.answered.is_some() && !client.is_asleep).then_some(*reader)
        };
        let awake: Vec<Reader> = self.clients.iter().filter_map(awake).collect();
        let Some(reader) = self.rng.pick(&awake) else { return };
        let (_, _, fill) = self.object.fill().expect("somebody reads it");
        let mut effects = Vec::new();
        match fill.next(reader) {
            Next::Wait => self.clients.get_mut(&reader).expect("a client").is_asleep = true,
            Next::Done => {
                fill.on_left(reader, &mut effects);
                let client = self.clients.remove(&reader).expect("a client");
                assert!(client.answered.expect("answered").2.is_empty(), "it is done before it has all");
                self.seen.served += 1;
            }
            Next::Bytes(slice, range, source) => {
                self.seen.from_tier += u64::from(source == Source::Tier);
                let store = if source == Source::Tier { &self.tier } else { &self.memory };
                let client = self.clients.get_mut(&reader).expect("a client");
                give(&store[&slice], &range, client);
                fill.on_taken(reader, range.end - range.start, &mut effects);
            }
        }
        self.effects(effects);
    }

    fn change(&mut self) {
        let size = 1 + self.rng.below(9 * S);
        self.origin.change(size);
    }

    fn lose(&mut self) {
        let all: Vec<u64> = self.tier.keys().copied().collect();
        if let Some(slice) = self.rng.pick(&all)
            && let Some((_, _, fill)) = self.object.fill()
        {
            let mut effects = Vec::new();
            self.tier.remove(&slice);
            fill.on_lost(slice, &mut effects);
            self.effects(effects);
        }
    }

    fn leave(&mut self) {
        let all: Vec<Reader> = self.clients.keys().copied().collect();
        let Some(reader) = self.rng.pick(&all).filter(|_| self.rng.once_in(4)) else { return };
        let client = self.clients.remove(&reader).expect("a client");
        let mut effects = Vec::new();
        match client.answered {
            None => self.object.on_left(reader),
            Some(_) => {
                let (_, _, fill) = self.object.fill().expect("somebody reads it");
                fill.on_left(reader, &mut effects);
            }
        }
        self.effects(effects);
    }
}

/// Gives a client the bytes of a range from what a slice holds: all of them, in order, from where they belong.
fn give(bytes: &Bytes, range: &Range<u64>, client: &mut Client) {
    let mut at = range.start;
    for (came, version) in bytes {
        if came.start <= at && at < came.end {
            let end = came.end.min(range.end);
            client.take(&(at..end), *version);
            at = end;
        }
    }
    assert_eq!(at, range.end, "bytes that never came");
}
