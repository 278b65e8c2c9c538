//! One connection on one column: requests → the engine → replies, however they come and go.
//!
//! Called by the transports (`device`, `rings`, `thread`), which bring requests and say where their replies go. What the engine
//! can answer at once is answered in the same poll; the rest waits in a task of its own, where an INTERRUPT ends it.
//!
//! Invariants
//! 1. Every request that wants a reply gets exactly one, and what was begun for a reply that nobody took is undone (`Answer`).
//! 2. Of a request that waits only what it needs is kept: the buffer it came in is free at once.

use super::backing;
use super::interrupts::{Cut, Pending};
use super::patience::Patience;
use super::rings::Rings;
use super::{Connection, Transport, device, rings, thread};
use blobcache::mount::nodes::{Hooks, nodes_within};
use blobcache::mount::{Answer, Begun, Later, Mount, Options};
use fuse_lowlevel::device::{Device, Sent};
use fuse_lowlevel::uring::{EntryId, Queues};
use fuse_lowlevel::{Malformed, Operation, Reply, Request};
use futures_lite::future::or;
use runtime::column::Column;
use runtime::io::Io;
use runtime::ring::RingIo;
use runtime::waiters::Waiters;
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

/// How long requests under way may take once nothing new is taken.
const DRAIN_NS: u64 = 5_000_000_000;
const DRAIN_LOOK_NS: u64 = 10_000_000;

/// Where a reply goes.
#[derive(Clone)]
pub(super) enum Target {
    /// To the device that the request was read from.
    Device(Arc<Device>),
    /// Into the entry that it came in.
    Entry(Rc<Rings>, EntryId),
}

/// A connection as one column serves it.
pub(super) struct Served {
    pub(super) io: RingIo,
    pub(super) connection: Connection,
    mount: Rc<Mount<RingIo>>,
    pending: Pending,
    under_way: Cell<usize>,
    stop: Stop,
}

/// What is to be done about a request, by its number.
#[allow(
    clippy::large_enum_variant,
    reason = "one lives for a call, on the stack; a box would be an allocation a request"
)]
pub(super) enum Step {
    /// Nobody waits for a reply.
    Nothing,
    /// It is not understood: the errno.
    Refuse(u64, i32),
    /// It is answered, once the kernel was given the file that the answer may name.
    Answer(u64, Answer<RingIo>),
    /// It has to wait.
    Later(u64, Later),
}

/// Says once, to all loops, that nothing new is to be taken.
#[derive(Default)]
struct Stop {
    is_set: Cell<bool>,
    waiting: Waiters,
}

/// The mounts of a column, for whoever starts and stops it.
#[derive(Default)]
pub struct Attached {
    set_up: Vec<SetUp>,
    served: RefCell<Vec<Rc<Served>>>,
}

/// A connection that this column will serve, once all columns are set up.
struct SetUp {
    connection: Connection,
    column: Column<RingIo>,
    columns: Rc<blobcache::Columns<RingIo>>,
    /// Its part of FUSE's rings, registered.
    queues: RefCell<Option<Queues>>,
}

/// Prepares a column to serve the connections.
pub(in super::super) fn attach(
    connections: &[Connection],
    column: &Column<RingIo>,
    columns: &Rc<blobcache::Columns<RingIo>>,
) -> Result<Attached, String> {
    let mut attached = Attached::default();
    for connection in connections {
        connection.own(column.index, columns);
        let queues = connection.ladder.register(&connection.device, column.index);
        let queues = queues.map_err(|e| format!("the mount on column {}: {e}", column.index))?;
        let (connection, column, columns) = (connection.clone(), column.clone(), columns.clone());
        attached.set_up.push(SetUp { connection, column, columns, queues: RefCell::new(queues) });
    }
    Ok(attached)
}

impl Connection {
    /// What its requests find on a column that owns blobs.
    fn own(&self, column: usize, columns: &blobcache::Columns<RingIo>) {
        let (device, pruner, given) = (self.device.clone(), self.pruner.clone(), self.given.clone());
        let hooks = Hooks {
            is_given: Rc::new(move |file| given.has(file)),
            close_backing: Rc::new(move |id| backing::close(&device, id)),
            ttl_ms: self.ttl_ms,
            disk_reads_max: self.disk_reads_max,
            prune: Rc::new(move |nodes| pruner.prune(column, nodes)),
            nodes_max: nodes_within(self.nodes_bytes / columns.count() as u64),
        };
        Mount::own(columns, self.number, hooks);
    }
}

impl SetUp {
    /// Serves the connection, as is known by now.
    fn start(&self) -> io::Result<Rc<Served>> {
        let SetUp { connection, column, .. } = self;
        let transport = connection.ladder.transport();
        let served = Served::new(connection.clone(), column, self.columns.clone());
        // Of rings that another column could not have nothing is kept.
        let queues = self.queues.take();
        match transport {
            Transport::Rings(shape) => {
                if column.index == 0 {
                    connection.device.set_nonblocking()?;
                    device::start(&served, connection.device.clone());
                }
                queues.map_or(Ok(()), |queues| rings::start(&served, queues, shape))?;
            }
            Transport::Clones => device::start(&served, Arc::new(connection.ladder.take_clone(column.index))),
            Transport::Thread => thread::start(&served, column.index)?,
        }
        served.clone().hear_interrupts(column.index);
        if column.index == 0 {
            connection.announce();
        }
        Ok(served)
    }
}

impl Attached {
    /// Serves the connections from now on; not before all columns are set up.
    pub(in super::super) fn start(&self) {
        for set_up in &self.set_up {
            match set_up.start() {
                Ok(served) => self.served.borrow_mut().push(served),
                Err(e) => set_up.column.fail(format!("the mount on column {}: {e}", set_up.column.index)),
            }
        }
        if let Some(first) = self.set_up.first() {
            first.connection.pulse.beat_on(&first.column);
        }
    }

    /// Takes nothing new, and waits for what is under way.
    pub(in super::super) async fn drain(&self) {
        let all = self.served.borrow().clone();
        for served in &all {
            served.stop.set();
        }
        for served in &all {
            let due_ns = served.io.now_ns() + DRAIN_NS;
            while served.under_way.get() > 0 && served.io.now_ns() < due_ns {
                served.io.sleep(DRAIN_LOOK_NS).await;
            }
        }
    }
}

impl Served {
    fn new(
        connection: Connection,
        column: &Column<RingIo>,
        columns: Rc<blobcache::Columns<RingIo>>,
    ) -> Rc<Served> {
        let options = Options {
            connection: connection.number,
            kind: connection.kind,
            looks: connection.looks,
            rung: connection.ladder.transport().name(),
        };
        Rc::new(Served {
            io: column.io.clone(),
            mount: Mount::new(columns, options),
            connection,
            pending: Pending::default(),
            under_way: Cell::new(0),
            stop: Stop::default(),
        })
    }

    /// What is to be done about a request. Borrows nothing of it, so that its memory can take the reply.
    pub(super) fn begin(self: &Rc<Self>, request: Result<Request<'_>, Malformed>) -> Step {
        let request = match request {
            Ok(request) => request,
            Err(malformed) => {
                tracing::warn!(%malformed, "a request of the kernel is not understood");
                return malformed
                    .answer()
                    .map_or(Step::Nothing, |(unique, errno)| Step::Refuse(unique, errno));
            }
        };
        if let Operation::Interrupt { unique } = request.operation {
            if !self.pending.interrupt(unique) {
                self.connection.interrupts.tell(unique);
            }
            return Step::Nothing;
        }
        match self.mount.begin(&request) {
            Begun::Done(answer) => Step::Answer(request.unique, answer),
            Begun::Later(later) => Step::Later(request.unique, later),
        }
    }

    /// Does it.
    pub(super) fn go_on(self: &Rc<Self>, step: Step, target: Target) {
        match step {
            Step::Nothing => {}
            Step::Refuse(unique, errno) => {
                target.send(unique, &Reply::Error(errno));
            }
            Step::Answer(unique, answer) if answer.backing_file().is_none() => send(answer, unique, &target),
            Step::Answer(unique, answer) => {
                self.spawn(unique, target, async move |me| me.with_backing(answer).await);
            }
            Step::Later(unique, later) => {
                self.spawn(unique, target, async move |me| me.finish(later).await);
            }
        }
    }

    fn spawn<F>(self: &Rc<Self>, unique: u64, target: Target, answer: F)
    where
        F: AsyncFnOnce(Rc<Self>) -> Answer<RingIo> + 'static,
    {
        self.under_way.set(self.under_way.get() + 1);
        let me = self.clone();
        let cut = self.pending.enter(unique);
        target.occupy(unique, self.io.now_ns());
        self.io.spawn("mount-request", async move {
            let answered = async { Ok(answer(me.clone()).await) };
            let cut_off = async { Err(cut.await) };
            match or(answered, cut_off).await {
                Ok(answer) => send(answer, unique, &target),
                Err(cut) => {
                    target.send(unique, &Reply::Error(cut.errno()));
                }
            }
            target.leave(unique);
            me.pending.leave(unique);
            me.under_way.set(me.under_way.get() - 1);
        });
    }

    async fn finish(self: Rc<Self>, later: Later) -> Answer<RingIo> {
        let answer = self.mount.finish(later).await;
        self.with_backing(answer).await
    }

    /// Gives the kernel the file that the answer is to name, if it is to name one.
    async fn with_backing(self: Rc<Self>, answer: Answer<RingIo>) -> Answer<RingIo> {
        let Some(path) = answer.backing_file().map(ToOwned::to_owned) else { return answer };
        let made = backing::make(&self.io, &self.connection.device, &path).await;
        self.mount.on_backing(answer, made).await
    }

    /// A request that keeps others out ends.
    pub(super) fn end_crowded(&self, unique: u64) {
        self.pending.cut(unique, Cut::Crowded);
    }

    /// INTERRUPTs that another column read.
    fn hear_interrupts(self: Rc<Self>, column: usize) {
        let io = self.io.clone();
        io.spawn("mount-interrupts", async move {
            let interrupts = self.connection.interrupts.clone();
            while self.until_stopped(interrupts.told(&self.io, column)).await.is_some() {
                for unique in interrupts.take(column) {
                    self.pending.interrupt_or_remember(unique);
                }
            }
        });
    }

    /// Runs a loop, and runs it again as long as what ends it may pass.
    pub(super) async fn persist(&self, run: impl AsyncFn() -> io::Result<()>) -> io::Result<()> {
        let mut patience = Patience::default();
        loop {
            let Err(error) = run().await else { return Ok(()) };
            let pause_ns = patience.on_error(&error, self.io.now_ns()).ok_or(error)?;
            self.io.sleep(pause_ns).await;
        }
    }

    /// The connection is over: unmounted, or aborted; or it is, as it cannot be served any more.
    pub(super) fn on_ended(&self, ended: io::Result<()>) {
        if let Err(error) = ended {
            self.connection.pulse.lose(self.connection.number, &error);
        }
        self.mount.end();
    }

    /// Nothing new is to be taken.
    pub(super) fn is_stopping(&self) -> bool {
        self.stop.is_set.get()
    }

    /// What the future gives, or nothing when the column stops.
    pub(super) async fn until_stopped<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        or(async { Some(future.await) }, async {
            self.stop.wait().await;
            None
        })
        .await
    }
}

fn send(answer: Answer<RingIo>, unique: u64, target: &Target) {
    answer.send(|reply| target.send(unique, reply));
}

impl Target {
    /// Whether the kernel took it.
    fn send(&self, unique: u64, reply: &Reply<'_>) -> bool {
        let encoded = reply.encode(unique);
        match self {
            Target::Device(device) => match device.send(encoded.head(), &[encoded.body()]) {
                Ok(sent) => sent == Sent::Delivered,
                Err(error) => {
                    tracing::warn!(%error, "the kernel refused a reply");
                    // It still waits: no reply is worse than an error.
                    let failed = Reply::Error(EIO).encode(unique);
                    let _ = device.send(failed.head(), &[]);
                    false
                }
            },
            Target::Entry(rings, entry) => rings.commit(*entry, &encoded),
        }
    }

    /// Answers what cannot be understood at all: not even its number.
    pub(super) fn refuse(&self) {
        self.send(0, &Reply::Error(EIO));
    }

    /// Where the reply goes something is taken up until then.
    fn occupy(&self, unique: u64, now_ns: u64) {
        if let Target::Entry(rings, entry) = self {
            rings.occupy(*entry, unique, now_ns);
        }
    }

    /// No more. Replies that were put aside to go together go now.
    fn leave(&self, unique: u64) {
        if let Target::Entry(rings, entry) = self {
            rings.leave(*entry, unique);
            rings.submit();
        }
    }
}

/// errno(3).
const EIO: i32 = 5;

impl Stop {
    fn set(&self) {
        self.is_set.set(true);
        self.waiting.wake();
    }

    async fn wait(&self) {
        self.waiting.until(|| self.is_set.get()).await;
    }
}
