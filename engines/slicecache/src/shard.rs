//! The owner of a column's objects: takes events (requests, bytes, answers, what became of a store), asks the state, does what it says.
//!
//! Called by `columns` for requests of every column, and by its own tasks (`fetch`, `store`). `open`, `read` and `purges` have the
//! requests' side, `hot` its short cut, `answered` the origin's, `sweep` what purges leave behind, `drops` what versions leave; here is
//! what both need.
//!
//! Invariants
//! 1. A state is never borrowed across an await, nor when a task begins: tasks yield before their first step.
//! 2. Whatever a state says is done, in its order.

mod answered;
mod drops;
mod hot;
mod open;
mod purges;
mod read;
mod sweep;

pub use hot::HotAnswer;
pub use purges::PURGE_SHARD;

use crate::api::Opened;
use crate::config::Config;
use crate::fetch::Got;
use crate::kept::Shelf;
use crate::limits::{OBJECTS_MAX, READ_BYTES, STORES_PART};
use crate::live::{Asked, Live, Recorded, State};
use crate::metrics::{Held, Metrics, Seen};
use crate::room::Room;
use crate::state::fill::{Effect, Fetch, Reader};
use crate::state::freshness::Lifetimes;
use crate::state::key::Name;
use crate::state::object::Act;
use crate::state::passed::Passed;
use crate::state::purge::Purges;
use crate::state::subreply;
use crate::upstream::Upstream;
use net::client::Client;
use net::http1::Status;
use runtime::io::Io;
use runtime::metrics::Snapshot;
use runtime::oneshot::Oneshot;
use runtime::tier::{Shard, WRITE_BYTES};
use runtime::turns::Turns;
use runtime::waiters::Waiters;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};

/// Makes room for so many bytes in the tier, on all columns; says whether there may be some now.
pub type MakeRoom = Box<dyn Fn(u64) -> Pin<Box<dyn Future<Output = bool>>>>;

/// Where a reader is.
enum Place<I: Io> {
    /// Its object is being looked for; `true`: it has left meanwhile.
    Opening(bool),
    At(Rc<Live<I>>),
}

/// The objects of one column.
pub struct Owner<I: Io> {
    pub(crate) io: I,
    pub(crate) tier: Shard<I>,
    pub(crate) config: Config,
    pub(crate) upstreams: Vec<Rc<Upstream<I>>>,
    client: Client<I>,
    /// What is counted.
    pub metrics: Metrics,
    pub(crate) memory: Room,
    pub(crate) stores: Room,
    pub(crate) reads: Turns,
    pub(crate) shelf: Shelf,
    pub(crate) make_room: MakeRoom,
    pub(crate) files_total: Cell<u64>,
    pub(crate) purges: RefCell<Purges>,
    pub(crate) lifetimes: Lifetimes,
    /// What was purged is known.
    knows_purges: Cell<bool>,
    learning: Waiters,
    records: RefCell<purges::Records>,
    objects: RefCell<BTreeMap<Name, Rc<Live<I>>>>,
    varies: RefCell<BTreeMap<Name, Vec<String>>>,
    readers: RefCell<BTreeMap<Reader, Place<I>>>,
    hot: RefCell<hot::Hot>,
    uses_total: Cell<u64>,
    sweeping: Cell<sweep::Sweeping>,
    drops: RefCell<drops::Drops>,
    pub(crate) disowned: RefCell<purges::Disowned>,
    pub(crate) passed: RefCell<Passed>,
    me: Weak<Owner<I>>,
}

impl<I: Io> Owner<I> {
    /// The owner of what `tier` holds. `io_bytes`: for all buffers. Half of it is for slices that come, the rest for putting them into
    /// the tier, for reads from disk and for what is passed through.
    pub fn new(
        io: &I,
        tier: Shard<I>,
        config: Config,
        client: &Client<I>,
        (io_bytes, make_room): (u64, MakeRoom),
        metrics: Metrics,
    ) -> Rc<Owner<I>> {
        let connections_max = config.upstreams.connections_max as usize;
        let upstreams = config.origins.iter();
        let upstreams =
            upstreams.map(|origin| Upstream::new(io, client.clone(), origin.url.clone(), connections_max));
        let upstreams = upstreams.collect();
        let reads_max = usize::try_from((io_bytes / 8 / READ_BYTES).max(1)).unwrap_or(usize::MAX);
        let negative_s = config.negative_s.clone();
        let lifetimes = Lifetimes { cache_ttl_s: config.cache_ttl_s, negative_s };
        Rc::new_cyclic(|me| Owner {
            io: io.clone(),
            tier,
            config,
            upstreams,
            client: client.clone(),
            metrics,
            memory: Room::new((io_bytes / 2).max(1)),
            stores: Room::new((io_bytes / STORES_PART / WRITE_BYTES as u64).max(1)),
            reads: Turns::new(reads_max, reads_max),
            shelf: Shelf::default(),
            make_room,
            files_total: Cell::new(0),
            purges: RefCell::default(),
            lifetimes,
            knows_purges: Cell::new(false),
            learning: Waiters::default(),
            records: RefCell::default(),
            objects: RefCell::default(),
            varies: RefCell::default(),
            readers: RefCell::default(),
            hot: RefCell::default(),
            uses_total: Cell::new(0),
            sweeping: Cell::default(),
            drops: RefCell::default(),
            disowned: RefCell::default(),
            passed: RefCell::default(),
            me: me.clone(),
        })
    }

    pub(crate) fn me(&self) -> Rc<Owner<I>> {
        self.me.upgrade().expect("it is being called")
    }

    pub(crate) fn now_s(&self) -> u64 {
        self.io.unix_ms() / 1000
    }

    /// Begins a task that finds no state borrowed: some executors poll a new task at once.
    pub(crate) fn spawn(&self, name: &'static str, work: impl Future<Output = ()> + 'static) {
        let io = self.io.clone();
        self.io.spawn(name, async move {
            io.yield_now().await;
            work.await;
        });
    }

    /// Does what an object says. `got`: the answer that it says it of.
    pub(crate) fn act(&self, live: &Rc<Live<I>>, state: &mut State, acts: Vec<Act>, got: Option<Got<I>>) {
        let mut got = got;
        for act in acts {
            if matches!(act, Act::Adopt(..) | Act::DropBody | Act::Answer(..)) {
                self.take_next(live, state);
            }
            match act {
                Act::Ask(asked) => {
                    let generation = self.purges.borrow().generation();
                    state.asked = Asked { generation, status: None };
                    self.spawn("slice-question", self.me().question(live.clone(), asked));
                }
                Act::Validate(reader, asked) => self.begin_validation(live, state, reader, asked),
                Act::Answer(reader, good_for) => self.answer(live, state, reader, good_for),
                Act::AnswerKept(reader, good_for) => self.answer_kept(state, reader, good_for),
                Act::RefuseOnlyIfCached(reader) => {
                    let why = "it is not here, and nothing else is wanted";
                    self.refuse(state, reader, crate::api::Refused::new(Status::GatewayTimeout, why));
                }
                Act::Pass(reader) => self.give(state, reader, Opened::Pass(state.not_stored)),
                Act::Fail(reader) => self.fail(state, reader),
                Act::Adopt(fetch, _) => {
                    if let Some(got) = got.take() {
                        self.adopt(live, state, fetch, got);
                    }
                }
                Act::DropBody => drop(got.take()),
                Act::Fill(effect) => self.effect(live, state, effect),
            }
        }
    }

    fn effects(&self, live: &Rc<Live<I>>, state: &mut State, effects: Vec<Effect>) {
        effects.into_iter().for_each(|effect| self.effect(live, state, effect));
    }

    fn effect(&self, live: &Rc<Live<I>>, state: &mut State, effect: Effect) {
        match effect {
            Effect::Start(fetch, _) => self.begin(live, state, fetch, None),
            Effect::Cancel(fetch) => {
                if let Some(cancel) = state.cancels.remove(&fetch) {
                    cancel.set(());
                }
            }
            Effect::Store(slice) => {
                let epoch = state.object.epoch();
                self.spawn("slice-store", self.me().store(live.clone(), epoch, slice));
            }
            Effect::Forget(slice) => drop(state.memory.remove(&slice)),
            Effect::Drop(slice) => {
                if let Some(known) = &state.known {
                    self.drop_slices(live.primary, known.number, slice..slice + 1);
                }
            }
            Effect::Wake(reader) => {
                if let Some(seat) = state.seats.get_mut(&reader) {
                    seat.wake();
                }
            }
            Effect::End(reader, why) => {
                if let Some(seat) = state.seats.get_mut(&reader) {
                    seat.ended = Some(why);
                    seat.wake();
                }
            }
        }
    }

    /// Begins a question for one request alone.
    fn begin_validation(
        &self,
        live: &Rc<Live<I>>,
        state: &mut State,
        reader: Reader,
        asked: subreply::Asked,
    ) {
        if let Some(waits) = state.waiting.get_mut(&reader) {
            waits.is_collapsed = false;
        }
        let generation = self.purges.borrow().generation();
        self.spawn("slice-validation", self.me().validate(live.clone(), reader, asked, generation));
    }

    /// Begins a fetch that can be called off.
    fn begin(&self, live: &Rc<Live<I>>, state: &mut State, fetch: Fetch, adopted: Option<(Got<I>, u64)>) {
        let (cancel, cancelled) = Oneshot::new();
        state.cancels.insert(fetch, cancel);
        let (me, live) = (self.me(), live.clone());
        self.spawn("slice-fetch", async move {
            let work = std::pin::pin!(me.clone().bring(live.clone(), fetch, adopted));
            either(cancelled, work).await;
            live.state.borrow_mut().cancels.remove(&fetch);
            me.maybe_release(&live);
        });
    }

    /// The version about to hold does from here on.
    fn take_next(&self, live: &Rc<Live<I>>, state: &mut State) {
        let Some(next) = state.next.take() else { return };
        let is_same = state.known.as_ref().is_some_and(|known| known.number == next.number);
        state.known = Some(next);
        state.record = match state.record {
            Recorded::Writing { .. } => Recorded::Writing { is_stale: true },
            Recorded::Yes if is_same => {
                self.begin_record(live, state);
                state.record
            }
            _ => Recorded::No,
        };
    }

    fn begin_record(&self, live: &Rc<Live<I>>, state: &mut State) {
        state.record = Recorded::Writing { is_stale: false };
        let (me, live) = (self.me(), live.clone());
        self.spawn("slice-record", async move {
            me.clone().record(live.clone()).await;
            me.maybe_release(&live);
        });
    }

    /// There is something stored that a record makes findable.
    fn maybe_record(&self, live: &Rc<Live<I>>, state: &mut State) {
        if state.record == Recorded::No && live.is_current.get() {
            self.begin_record(live, state);
        }
    }

    /// The record under a name is gone, which was not of whoever has that name now.
    pub(crate) fn rewrite_record(&self, name: &Name) {
        let Some(live) = self.objects.borrow().get(name).cloned() else { return };
        self.record_again(&live, &mut live.state.borrow_mut());
    }

    /// What the record says is no longer so.
    pub(crate) fn record_again(&self, live: &Rc<Live<I>>, state: &mut State) {
        match state.record {
            Recorded::Yes => self.begin_record(live, state),
            Recorded::Writing { .. } => state.record = Recorded::Writing { is_stale: true },
            Recorded::No => {}
        }
    }

    /// Nobody new finds the object, and nothing of it is stored any more.
    pub(crate) fn forget(&self, live: &Rc<Live<I>>) {
        live.is_current.set(false);
        let mut objects = self.objects.borrow_mut();
        if objects.get(&live.name.get()).is_some_and(|other| Rc::ptr_eq(other, live)) {
            objects.remove(&live.name.get());
        }
    }

    /// What is stored of an object that was forgotten goes with the last one who reads it.
    pub(crate) fn maybe_release(&self, live: &Rc<Live<I>>) {
        let state = &mut *live.state.borrow_mut();
        if live.is_current.get() || live.is_released.get() || !state.is_idle() {
            return;
        }
        let Some(number) = state.known.as_ref().map(|known| known.number) else { return };
        let Some((_, _, fill)) = state.object.fill() else { return };
        // Who found it before and arrives only now meets slices that are gone, and has them fetched.
        live.is_released.set(true);
        let (primary, count) = (live.primary, fill.slices().count());
        self.drop_slices(primary, number, 0..count);
    }

    /// Lets go of half of the objects that nobody uses when there are too many, those first that were not used for longest.
    fn maybe_trim(&self) {
        let mut objects = self.objects.borrow_mut();
        if objects.len() < OBJECTS_MAX {
            return;
        }
        let is_idle = |live: &Rc<Live<I>>| live.is_loaded.get() && live.state.borrow_mut().is_idle();
        let mut idle: Vec<(u64, Name)> = objects
            .iter()
            .filter(|(_, live)| is_idle(live))
            .map(|(name, live)| (live.used.get(), *name))
            .collect();
        idle.sort_unstable();
        for (_, name) in &idle[..idle.len().div_ceil(2)] {
            objects.remove(name);
        }
    }

    /// What there is to see of the column.
    pub fn snapshot(&self) -> Snapshot {
        let stored = self.tier.stats();
        let requests = self.upstreams.iter().map(|upstream| upstream.requests());
        self.metrics.snapshot(&Seen {
            objects: self.objects.borrow().len(),
            held: Held {
                readers: self.readers.borrow().len() as u64,
                memory_bytes: self.memory.taken(),
                stores: self.stores.taken(),
                reads: self.reads.out() as u64,
            },
            entries: (stored.private_objects, stored.private_bytes, stored.private_evictions),
            kept_bytes: self.shelf.bytes(),
            connections: self.client.connections(),
            requests: requests.fold((0, 0), |(way, wait), (w, q)| (way + w, wait + q)),
        })
    }
}

/// Runs `work` until it is done or called off.
async fn either(cancelled: impl Future<Output = ()>, mut work: Pin<&mut impl Future<Output = ()>>) {
    let mut cancelled = std::pin::pin!(cancelled);
    std::future::poll_fn(|cx| match cancelled.as_mut().poll(cx) {
        std::task::Poll::Ready(()) => std::task::Poll::Ready(()),
        std::task::Poll::Pending => work.as_mut().poll(cx),
    })
    .await;
}
