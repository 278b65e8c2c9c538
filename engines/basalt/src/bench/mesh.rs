//! Loads the mesh between two columns: round trips of one message (latency), then messages one way (throughput).
//!
//! Polling, both columns look for messages all the time; asleep, each message wakes its receiver. Latency and operations
//! are of the round trips; `messages_per_second` is one way.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use runtime::clock::Clock;
use runtime::column::Plan;
use runtime::io::Io;
use runtime::mesh::{Inbox as Lanes, Outbox, Port, mesh};
use runtime::ring::Inbox;

use super::columns::{self, Loader};
use super::measure::{Pace, Phase};
use super::report::Report;
use crate::cli::bench::BenchMesh;
use crate::error::Error;

const LANE_CAPACITY: usize = 1024;
/// Messages handled before the driver looks at the ring again.
const POLL_BUDGET: usize = 256;
/// A polling column does not sleep between two messages.
const POLLING_SPIN_NS: u64 = 1_000_000_000;

/// Runs the load.
pub fn run(args: &BenchMesh) -> Result<Report, Error> {
    let mut cpus = columns::choose_cpus(args.run.cpuset.as_deref())?;
    cpus.truncate(2);
    if cpus.len() < 2 {
        return Err(Error::usage("a mesh needs two CPUs").fix("basalt bench mesh --cpuset 0,1"));
    }
    let plan = Plan { arena_bytes: 1 << 20, spin_ns: if args.asleep { 0 } else { POLLING_SPIN_NS }, cpus };
    let pace = Pace::new(args.run.seconds);
    let bells = columns::doorbells(2)?;
    let ports = Ports::new(mesh(2, LANE_CAPACITY, &bells));
    let (window, trips) = columns::run(&plan, bells, pace, move |loader| round_trips(loader, ports.clone()))?;
    let bells = columns::doorbells(2)?;
    let ports = Ports::new(mesh(2, LANE_CAPACITY, &bells));
    let received = Arc::new(AtomicU64::new(0));
    let count = received.clone();
    let (one_way, _) =
        columns::run(&plan, bells, pace, move |loader| stream(loader, ports.clone(), count.clone()))?;
    let title = format!(
        "mesh between CPUs {} and {}, {}",
        plan.cpus[0],
        plan.cpus[1],
        if args.asleep { "asleep" } else { "polling" }
    );
    let messages = received.load(Ordering::Relaxed) as f64;
    Ok(Report::new(title, window, &trips)
        .with("messages_per_second", messages / one_way.seconds)
        .with("message_cpu_ns", one_way.cpu_seconds * 1e9 / messages.max(1.0)))
}

/// The ends of a mesh on their way to their columns.
#[derive(Clone)]
struct Ports(Arc<Mutex<Vec<Option<Port<u64>>>>>);

impl Ports {
    fn new(ports: Vec<Port<u64>>) -> Self {
        Self(Arc::new(Mutex::new(ports.into_iter().map(Some).collect())))
    }

    fn take(&self, column: usize) -> Result<(Outbox<u64>, Lanes<u64>), String> {
        let mut ports = self.0.lock().map_err(|_| "another column panicked")?;
        let port = ports.get_mut(column).and_then(Option::take);
        Ok(port.ok_or("this column has its port already")?.split())
    }
}

/// An inbox whose messages go to `handle`.
struct Handler<H> {
    lanes: RefCell<Lanes<u64>>,
    handle: RefCell<H>,
}

impl<H: FnMut(u64)> Inbox for Handler<H> {
    fn poll(&self) -> usize {
        let handle = &mut *self.handle.borrow_mut();
        self.lanes.borrow_mut().poll(POLL_BUDGET, |_from, message| handle(message))
    }

    fn is_empty(&self) -> bool {
        self.lanes.borrow().is_empty()
    }
}

fn add_handler(loader: &Loader, lanes: Lanes<u64>, handle: impl FnMut(u64) + 'static) {
    loader.column.add_inbox(Box::new(Handler { lanes: RefCell::new(lanes), handle: RefCell::new(handle) }));
}

/// Column 0 sends a message, column 1 sends it back, over and over; both from their drivers, as replies are sent.
async fn round_trips(loader: Loader, ports: Ports) -> Result<(), String> {
    let (outbox, lanes) = ports.take(loader.column.index)?;
    if loader.column.index == 1 {
        add_handler(&loader, lanes, move |message| must_send(&outbox, 0, message));
        loader.column.stopped().await;
        return Ok(());
    }
    let outbox = Rc::new(outbox);
    let (clock, replies) = (Clock::new(), outbox.clone());
    let sent_ns = Rc::new(Cell::new(clock.now_ns()));
    let recording = loader.clone();
    add_handler(&loader, lanes, move |message| {
        let now_ns = clock.now_ns();
        recording.recorder().record(now_ns.saturating_sub(sent_ns.replace(now_ns)), 8);
        if !recording.phase.is_done() {
            must_send(&replies, 1, message + 1);
        }
    });
    must_send(&outbox, 1, 0);
    loader.column.stopped().await;
    Ok(())
}

/// One message is under way at most.
fn must_send(outbox: &Outbox<u64>, to: usize, message: u64) {
    let sent = outbox.try_send(to, message);
    assert!(sent.is_ok(), "a lane of {LANE_CAPACITY} has room for one");
}

/// Column 0 sends as fast as column 1 takes; what arrives must be complete and in order.
async fn stream(loader: Loader, ports: Ports, received: Arc<AtomicU64>) -> Result<(), String> {
    let (outbox, lanes) = ports.take(loader.column.index)?;
    if loader.column.index == 0 {
        return send_all(&loader, &outbox).await;
    }
    let (phase, mut next) = (loader.phase.clone(), 0u64);
    let mut counted = Counted::new(phase, received);
    add_handler(&loader, lanes, move |message| {
        assert_eq!(message, next, "a message was lost, doubled or overtaken");
        next += 1;
        counted.add_one();
    });
    loader.column.stopped().await;
    Ok(())
}

async fn send_all(loader: &Loader, outbox: &Outbox<u64>) -> Result<(), String> {
    let mut message = 0;
    while !loader.phase.is_done() {
        while outbox.try_send(1, message).is_ok() {
            message += 1;
        }
        loader.column.io.yield_now().await;
    }
    Ok(())
}

/// Counts while measuring, and tells the others now and then.
struct Counted {
    phase: Phase,
    here: u64,
    shared: Arc<AtomicU64>,
}

impl Counted {
    fn new(phase: Phase, shared: Arc<AtomicU64>) -> Self {
        Self { phase, here: 0, shared }
    }

    #[inline]
    fn add_one(&mut self) {
        self.here += 1;
        if self.here.is_multiple_of(POLL_BUDGET as u64) && self.phase.is_measuring() {
            self.shared.fetch_add(POLL_BUDGET as u64, Ordering::Relaxed);
        }
    }
}
