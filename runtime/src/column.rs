//! Columns: one pinned executor per CPU with its ring, arena and inboxes; started together, stopped together.
//!
//! Called by the node. `start` runs `set_up` on every column; only when all have succeeded do their bodies run (an
//! orderly start fails whole, with the reason). Stopping is a message: bodies see it through [`Column::stopped`].
//!
//! Invariants
//! 1. Every column's thread runs on its CPU and nowhere else, and so does its blocking pool.
//! 2. No body runs before every set-up has succeeded.
//! 3. A column that fails at run time reports once and the node stops the rest.

use crate::buffer::Arena;
use crate::clock::Clock;
use crate::io::Io;
use crate::mesh::Doorbell;
use crate::ring::{Inbox, Ring, RingIo, Traffic, drive, settle};
use crate::stall::Stalls;
use crate::waiters::Waiters;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;
use thread::{PREEMPT, Thread};

pub(crate) use pulse::Pulse;

mod pulse;
mod thread;

/// Submission queue entries: more in flight are submitted in turns.
const RING_ENTRIES: u32 = 1024;
/// 4 MiB of provided buffers a column; an idle connection holds none.
const RECEIVE_BUFFERS: u16 = 512;
const RECEIVE_BYTES: u32 = 8192;
/// A column whose first task has not run by then is roused, and again after as long.
const ROUSE_AFTER: Duration = Duration::from_millis(50);

/// What to start.
#[derive(Clone, Debug)]
pub struct Plan {
    /// One column each.
    pub cpus: Vec<usize>,
    /// Memory of each column.
    pub arena_bytes: usize,
    /// How long a column looks for more work before it sleeps.
    pub spin_ns: u64,
}

/// A column from the inside, on the real machine or on the twin.
#[derive(Clone)]
pub struct Column<I: Io = RingIo> {
    /// Number of this column, from 0.
    pub index: usize,
    /// The machine.
    pub io: I,
    stalls: Stalls,
    inboxes: Rc<LateInboxes>,
    life: Rc<Life>,
    failures: Sender<Report>,
}

/// The work of a column after its set-up.
pub type Body = Pin<Box<dyn Future<Output = ()>>>;

/// What a column tells the node.
#[derive(Debug)]
pub enum Report {
    /// Set-up is done.
    Ready(usize),
    /// The column cannot go on: its number and the reason.
    Failed(usize, String),
}

pub(crate) const STARTING: u8 = 0;
pub(crate) const RUNNING: u8 = 1;
pub(crate) const STOPPING: u8 = 2;
/// Stopped before all columns were set up.
pub(crate) const ABANDONED: u8 = 3;

/// Stops a node. Once it has run its columns all have their part in the end, also those that had not seen yet that it runs: the
/// others wait for them.
pub(crate) fn stop(stage: &AtomicU8) {
    let next = |stage: u8| Some(if stage == STARTING { ABANDONED } else { stage.max(STOPPING) });
    // It always gives a next one.
    let _ = stage.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
}

impl<I: Io> Column<I> {
    /// Column `index` over `io`, and the inboxes that whoever drives it has to poll.
    pub(crate) fn new(
        index: usize,
        io: I,
        stalls: Stalls,
        stage: Arc<AtomicU8>,
        failures: Sender<Report>,
    ) -> (Column<I>, Rc<[Box<dyn Inbox>]>) {
        let life = Rc::new(Life { shared: stage, seen: Cell::new(STARTING), waiting: Waiters::default() });
        let inboxes = Rc::new(LateInboxes::default());
        let polled: Rc<[Box<dyn Inbox>]> =
            Rc::new([Box::new(LifeInbox(life.clone())), Box::new(SharedInboxes(inboxes.clone()))]);
        (Column { index, io, stalls, inboxes, life, failures }, polled)
    }

    /// Runs `set_up`, and its body once the node runs.
    pub(crate) async fn live<F>(self, set_up: impl FnOnce(Column<I>) -> F) -> Result<(), String>
    where
        F: Future<Output = Result<Body, String>>,
    {
        let body = set_up(self.clone()).await?;
        let _ = self.failures.send(Report::Ready(self.index));
        self.life.reached(RUNNING).await;
        if self.life.stage() != ABANDONED {
            body.await;
        }
        Ok(())
    }

    /// Forgets the inboxes: what they hold may hold this column.
    pub(crate) fn close(&self) {
        self.inboxes.0.borrow_mut().clear();
    }

    /// Polls that kept this column from other work.
    pub fn stalls(&self) -> &Stalls {
        &self.stalls
    }

    /// Adds a queue that the driver drains from now on.
    pub fn add_inbox(&self, inbox: Box<dyn Inbox>) {
        self.inboxes.0.borrow_mut().push(inbox);
    }

    /// Waits until the node stops.
    pub async fn stopped(&self) {
        self.life.reached(STOPPING).await;
    }

    /// True once the node stops: finish what is under way, take nothing new.
    pub fn is_stopping(&self) -> bool {
        self.life.stage() >= STOPPING
    }

    /// Reports that this column cannot go on (a failed sync, say). The node stops and exits with the reason.
    pub fn fail(&self, reason: String) {
        tracing::error!(column = self.index, %reason, "column failed");
        let _ = self.failures.send(Report::Failed(self.index, reason));
    }
}

/// Inboxes registered while the driver runs.
#[derive(Default)]
struct LateInboxes(RefCell<Vec<Box<dyn Inbox>>>);

struct SharedInboxes(Rc<LateInboxes>);

impl Inbox for SharedInboxes {
    fn poll(&self) -> usize {
        self.0.0.borrow().iter().map(|i| i.poll()).sum()
    }
    fn is_empty(&self) -> bool {
        self.0.0.borrow().iter().all(|i| i.is_empty())
    }
    fn traffic(&self) -> Traffic {
        self.0.0.borrow().iter().map(|i| i.traffic()).sum()
    }
}

/// The stage of life of the node, as seen by a column.
struct Life {
    shared: Arc<AtomicU8>,
    seen: Cell<u8>,
    waiting: Waiters,
}

impl Life {
    fn stage(&self) -> u8 {
        self.shared.load(Ordering::Acquire)
    }

    async fn reached(&self, stage: u8) {
        self.waiting.until(|| self.stage() >= stage).await;
    }
}

struct LifeInbox(Rc<Life>);

impl Inbox for LifeInbox {
    fn poll(&self) -> usize {
        let stage = self.0.stage();
        if self.0.seen.replace(stage) == stage {
            return 0;
        }
        self.0.waiting.wake();
        1
    }
    fn is_empty(&self) -> bool {
        self.0.stage() == self.0.seen.get()
    }
}

/// The running columns, from outside.
pub struct Columns {
    threads: Vec<Thread>,
    life: Arc<AtomicU8>,
    bells: Vec<Arc<Doorbell>>,
    reports: Receiver<Report>,
    pulses: Vec<Arc<Pulse>>,
}

/// Starts a column per CPU of `plan`. `bells[k]` is what other columns ring to wake column `k`.
///
/// # Errors
/// The reason of the first column that could not start; none is left running.
pub fn start<S, F>(plan: &Plan, bells: Vec<Arc<Doorbell>>, set_up: S) -> Result<Columns, String>
where
    S: Fn(Column) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Body, String>> + 'static,
{
    assert_eq!(plan.cpus.len(), bells.len(), "one doorbell a column");
    let (send, reports) = channel();
    let life = Arc::new(AtomicU8::new(STARTING));
    let pulses: Vec<Arc<Pulse>> = plan.cpus.iter().map(|_| Arc::default()).collect();
    pulse::watch(&pulses, pulse::PERIOD).map_err(|e| format!("a thread beside the columns: {e}"))?;
    let mut columns = Columns { threads: Vec::new(), life, bells, reports, pulses };
    for (index, &cpu) in plan.cpus.iter().enumerate() {
        let spawned = spawn(index, cpu, plan, &columns, send.clone(), set_up.clone());
        match spawned {
            Ok(thread) => columns.threads.push(thread),
            Err(reason) => {
                columns.stop();
                columns.join();
                return Err(reason);
            }
        }
    }
    // Only columns report from here on: that all have ended is seen.
    drop(send);
    if let Err(reason) = columns.all_ready() {
        columns.stop();
        columns.join();
        return Err(reason);
    }
    columns.set_stage(RUNNING);
    Ok(columns)
}

fn spawn<S, F>(
    index: usize,
    cpu: usize,
    plan: &Plan,
    columns: &Columns,
    failures: Sender<Report>,
    set_up: S,
) -> Result<Thread, String>
where
    S: Fn(Column) -> F + Send + 'static,
    F: Future<Output = Result<Body, String>> + 'static,
{
    let (bell, life, pulse) =
        (columns.bells[index].clone(), columns.life.clone(), columns.pulses[index].clone());
    let beating = pulse.clone();
    let (arena_bytes, spin_ns) = (plan.arena_bytes, plan.spin_ns);
    let unstarted = failures.clone();
    let main = move || async move {
        let plan = (arena_bytes, spin_ns, beating);
        if let Err(reason) = column_main(index, bell, life, plan, failures.clone(), set_up).await {
            let _ = failures.send(Report::Failed(index, reason));
        }
    };
    let failed = move |e| {
        let reason = format!("column {index} on CPU {cpu} could not start: {e}");
        let _ = unstarted.send(Report::Failed(index, reason));
    };
    Thread::start(&format!("column-{index}"), cpu, (PREEMPT, pulse), main, failed)
}

async fn column_main<S, F>(
    index: usize,
    bell: Arc<Doorbell>,
    life: Arc<AtomicU8>,
    (arena_bytes, spin_ns, pulse): (usize, u64, Arc<Pulse>),
    failures: Sender<Report>,
    set_up: S,
) -> Result<(), String>
where
    S: Fn(Column) -> F,
    F: Future<Output = Result<Body, String>>,
{
    let ring = Ring::new(RING_ENTRIES, RECEIVE_BUFFERS, RECEIVE_BYTES, bell.fd().as_raw_fd())
        .map_err(|e| format!("column {index}: io_uring: {e}"))?;
    let arena = Arena::warmed(arena_bytes)
        .map_err(|e| format!("column {index}: {arena_bytes} bytes of memory: {e}"))?;
    let stop = Rc::new(Cell::new(false));
    let stalls = Stalls::default();
    let io = RingIo::new(ring.clone(), arena, Clock::new(), stalls.clone());
    let (column, polled) = Column::new(index, io, stalls.clone(), life, failures);
    let driver = drive(ring.clone(), (bell, pulse), polled, spin_ns, stalls, stop.clone());
    let driver = glommio::spawn_local(driver).detach();
    let outcome = column.live(set_up).await;
    settle(&ring).await;
    stop.set(true);
    ring.kick();
    driver.await;
    outcome
}

impl Columns {
    /// Waits until every column is set up.
    fn all_ready(&self) -> Result<(), String> {
        let mut ready = 0;
        while ready < self.threads.len() {
            match self.reports.recv_timeout(ROUSE_AFTER) {
                Ok(Report::Ready(_)) => ready += 1,
                Ok(Report::Failed(_, reason)) => return Err(reason),
                Err(RecvTimeoutError::Timeout) => self.threads.iter().for_each(Thread::rouse),
                Err(RecvTimeoutError::Disconnected) => return Err("a column died while starting".into()),
            }
        }
        Ok(())
    }

    fn set_stage(&self, stage: u8) {
        self.life.fetch_max(stage, Ordering::AcqRel);
        self.wake();
    }

    fn wake(&self) {
        self.bells.iter().for_each(|b| b.wake());
    }

    /// Asks every column to drain.
    pub fn stop(&self) {
        stop(&self.life);
        self.wake();
    }

    /// The reports of columns that fail while running. They can be taken once.
    pub fn take_reports(&mut self) -> Receiver<Report> {
        std::mem::replace(&mut self.reports, channel().1)
    }

    /// Waits for every column to end.
    pub fn join(self) {
        self.threads.into_iter().for_each(Thread::join);
    }
}
