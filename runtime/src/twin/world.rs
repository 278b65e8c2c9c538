//! The simulated world: one thread, one seed, one clock that jumps. Runs tasks, polls inboxes and completes operations in an
//! order that the seed decides.
//!
//! Called by `io.rs`, `file.rs`, `conn.rs` to start operations and by the simulation to let time pass.
//!
//! Invariants
//! 1. Nothing here asks the machine for time, randomness or an address: the seed and the calls determine the run.
//! 2. An operation owns what it moves from its start to its completion, whether or not its future is still there.
//! 3. What belongs to a node (tasks, operations, inboxes) carries its [`Group`] and goes with it.

use super::disk::Disk;
use super::faults::{Fault, FaultPlan, Faults};
use super::network::Network;
use super::rng::Rng;
use super::tasks::Tasks;
use super::trace::Trace;
use crate::oneshot::{Oneshot, Waiting};
use crate::ring::Inbox;
use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

/// Whose a task or an operation is: a boot of a node, or [`OUTSIDE`].
pub(super) type Group = u32;
/// Clients, the network, and the simulation itself.
pub(super) const OUTSIDE: Group = 0;
/// When the world begins: 2026-01-01, in milliseconds since 1970.
const BEGIN_UNIX_MS: u64 = 1_767_225_600_000;
/// Running a task takes up to this long.
const STEP_NS_MAX: u64 = 2_000;
/// A task or an inbox that is slow waits up to this long.
const SLOW_NS_MAX: u64 = 20_000_000;
/// A jump of the calendar.
const JUMP_MS_MAX: u64 = 120_000;

type Action = Box<dyn FnOnce(&Rc<World>)>;

/// Something that happens at a certain time.
struct Event {
    due_ns: u64,
    number: u64,
    group: Group,
    action: Action,
}

impl PartialEq for Event {
    fn eq(&self, other: &Event) -> bool {
        self.number == other.number
    }
}
impl Eq for Event {}
impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Event) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Event {
    fn cmp(&self, other: &Event) -> std::cmp::Ordering {
        (self.due_ns, self.number).cmp(&(other.due_ns, other.number))
    }
}

/// The inboxes of a column and when they may be looked at again.
struct Mailbox {
    group: Group,
    inboxes: Rc<[Box<dyn Inbox>]>,
    not_before_ns: u64,
}

/// See the file's head.
pub(super) struct World {
    pub(super) disk: RefCell<Disk>,
    pub(super) network: RefCell<Network>,
    rng: RefCell<Rng>,
    faults: RefCell<Faults>,
    trace: RefCell<Trace>,
    tasks: Tasks,
    events: RefCell<BinaryHeap<Reverse<Event>>>,
    mailboxes: RefCell<Vec<Mailbox>>,
    now_ns: Cell<u64>,
    calendar_shift_ms: Cell<i64>,
    numbers: Cell<u64>,
    seed: u64,
}

impl World {
    pub(super) fn new(seed: u64, capacity_bytes: u64, plan: FaultPlan) -> Rc<World> {
        Rc::new(World {
            disk: RefCell::new(Disk::new(capacity_bytes)),
            network: RefCell::default(),
            rng: RefCell::new(Rng::new(seed)),
            faults: RefCell::new(Faults::new(plan)),
            trace: RefCell::new(Trace::new(seed)),
            tasks: Tasks::default(),
            events: RefCell::default(),
            mailboxes: RefCell::default(),
            now_ns: Cell::new(0),
            calendar_shift_ms: Cell::new(0),
            numbers: Cell::new(0),
            seed,
        })
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    pub(super) fn now_ns(&self) -> u64 {
        self.now_ns.get()
    }

    /// Of a world that has just begun.
    pub(super) fn set_now_ns(&self, now_ns: u64) {
        self.now_ns.set(now_ns);
    }

    pub(super) fn unix_ms(&self) -> u64 {
        if self.happens(Fault::ClockJump) {
            let by = self.draw(|rng| rng.below(2 * JUMP_MS_MAX)) as i64 - JUMP_MS_MAX as i64;
            self.calendar_shift_ms.set(self.calendar_shift_ms.get() + by);
        }
        self.calendar_ms()
    }

    pub(super) fn advance_calendar(&self, by_ms: u64) {
        self.note("advance", &[by_ms]);
        self.calendar_shift_ms.set(self.calendar_shift_ms.get() + by_ms as i64);
    }

    /// The date, without a chance that it jumps.
    pub(super) fn calendar_ms(&self) -> u64 {
        (BEGIN_UNIX_MS + self.now_ns() / 1_000_000).saturating_add_signed(self.calendar_shift_ms.get())
    }

    pub(super) fn draw<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        draw(&mut self.rng.borrow_mut())
    }

    pub(super) fn happens(&self, fault: Fault) -> bool {
        self.faults.borrow_mut().happens(fault, &mut self.rng.borrow_mut())
    }

    pub(super) fn faults<T>(&self, with: impl FnOnce(&mut Faults) -> T) -> T {
        with(&mut self.faults.borrow_mut())
    }

    pub(super) fn note(&self, kind: &str, numbers: &[u64]) {
        self.trace.borrow_mut().event(kind, numbers);
    }

    pub(super) fn trace(&self) -> (u64, u64) {
        self.trace.borrow().get()
    }

    fn next_number(&self) -> u64 {
        self.numbers.set(self.numbers.get() + 1);
        self.numbers.get()
    }

    /// Has `action` happen at `due_ns`, unless its group is gone by then.
    pub(super) fn at(&self, due_ns: u64, group: Group, action: impl FnOnce(&Rc<World>) + 'static) {
        let number = self.next_number();
        let event = Event { due_ns, number, group, action: Box::new(action) };
        self.events.borrow_mut().push(Reverse(event));
    }

    /// Starts an operation that completes in `takes_ns`; what `run` returns is the future's. When that is gone by then, the
    /// operation is done or has been cancelled, as on the ring.
    pub(super) fn operation<T: 'static>(
        &self,
        takes_ns: u64,
        group: Group,
        run: impl FnOnce(&Rc<World>) -> T + 'static,
    ) -> Waiting<T> {
        let (done, waiting) = Oneshot::new();
        self.at(self.now_ns() + takes_ns, group, move |world| {
            if done.is_awaited() || world.draw(|rng| rng.below(2) == 0) {
                done.set(run(world));
            }
        });
        waiting
    }

    pub(super) fn spawn(&self, group: Group, name: &'static str, task: Pin<Box<dyn Future<Output = ()>>>) {
        self.note("spawn", &[u64::from(group), u64::from(crc32c::crc32c(name.as_bytes()))]);
        self.tasks.add(group, task);
    }

    pub(super) fn add_mailbox(&self, group: Group, inboxes: Rc<[Box<dyn Inbox>]>) {
        self.mailboxes.borrow_mut().push(Mailbox { group, inboxes, not_before_ns: 0 });
    }

    /// Lets one thing happen. False: nothing is left to happen, ever.
    pub(super) fn step(self: &Rc<World>) -> bool {
        self.complete_due();
        let (ready, mail) = (self.tasks.ready(), self.ready_mailboxes());
        if ready + mail.len() == 0 {
            return self.jump();
        }
        let pick = self.draw(|rng| rng.below((ready + mail.len()) as u64)) as usize;
        if pick < ready {
            self.run_task(pick);
        } else {
            self.poll_mailbox(mail[pick - ready]);
        }
        let took_ns = self.draw(|rng| rng.within(1, STEP_NS_MAX));
        self.now_ns.set(self.now_ns() + took_ns);
        true
    }

    fn complete_due(self: &Rc<World>) {
        loop {
            let due = {
                let mut events = self.events.borrow_mut();
                match events.peek() {
                    Some(Reverse(event)) if event.due_ns <= self.now_ns() => events.pop(),
                    _ => return,
                }
            };
            let Some(Reverse(event)) = due else { return };
            self.note("event", &[event.number, event.due_ns]);
            (event.action)(self);
        }
    }

    fn run_task(self: &Rc<World>, pick: usize) {
        let Some(id) = self.tasks.take_ready(pick) else { return };
        if self.happens(Fault::SlowTask) {
            let until_ns = self.now_ns() + self.draw(|rng| rng.within(1, SLOW_NS_MAX));
            self.at(until_ns, OUTSIDE, move |world| world.tasks.make_ready(id));
            return;
        }
        self.note("run", &[id, self.now_ns()]);
        self.tasks.run(id);
    }

    fn ready_mailboxes(&self) -> Vec<usize> {
        let boxes = self.mailboxes.borrow();
        let has_mail = |b: &Mailbox| b.inboxes.iter().any(|i| !i.is_empty());
        let ready = boxes.iter().enumerate().filter(|(_, b)| b.not_before_ns <= self.now_ns() && has_mail(b));
        ready.map(|(at, _)| at).collect()
    }

    fn poll_mailbox(&self, at: usize) {
        let slow = self.happens(Fault::SlowTask);
        let wait_ns = self.draw(|rng| rng.below(if slow { SLOW_NS_MAX } else { STEP_NS_MAX }));
        let inboxes = {
            let mailbox = &mut self.mailboxes.borrow_mut()[at];
            mailbox.not_before_ns = self.now_ns() + wait_ns;
            mailbox.inboxes.clone()
        };
        if !slow {
            let handled = inboxes.iter().map(|i| i.poll()).sum::<usize>();
            self.note("mail", &[at as u64, handled as u64, self.now_ns()]);
        }
    }

    /// Nothing can run now: on to the next moment at which something can.
    fn jump(&self) -> bool {
        let event = self.events.borrow().peek().map(|Reverse(e)| e.due_ns);
        let boxes = self.mailboxes.borrow();
        let with_mail = boxes.iter().filter(|b| b.inboxes.iter().any(|i| !i.is_empty()));
        let next = with_mail.map(|b| b.not_before_ns).chain(event).min();
        let Some(next_ns) = next else { return false };
        self.now_ns.set(self.now_ns().max(next_ns));
        true
    }

    /// Ends a group: its tasks are dropped; each of its operations under way is still done or not, as `finish` says.
    pub(super) fn end_group(self: &Rc<World>, group: Group, mut finish: impl FnMut(&mut Rng) -> bool) {
        self.note("end", &[u64::from(group), self.now_ns()]);
        self.mailboxes.borrow_mut().retain(|b| b.group != group);
        self.tasks.end_group(group);
        let mut events = std::mem::take(&mut *self.events.borrow_mut()).into_sorted_vec();
        // Ascending by `Reverse`: the last is the earliest.
        events.reverse();
        for Reverse(event) in events {
            if event.group != group {
                self.events.borrow_mut().push(Reverse(event));
            } else if self.draw(&mut finish) {
                (event.action)(self);
            }
        }
        // What an operation that was still done has started in turn (a link's second half) is not.
        self.events.borrow_mut().retain(|Reverse(e)| e.group != group);
        self.tasks.end_group(group);
    }
}
