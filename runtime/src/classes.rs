//! Which disk operation of a column starts next on a device: the classes of [`crate::io::Class`] in one bounded queue.
//!
//! Called by `ring/queue.rs` for every operation on a file. Pure: no clock, no I/O, no waiting.
//!
//! Invariants
//! 1. What is in flight of a class and of all below it never passes that class' cap ([`Limits`]), in operations or bytes.
//!    Hence the last operations of a column are kept for Raft syncs, and lower classes never fill the device's queue.
//! 2. Within a class operations start in the order in which they came.
//! 3. A waiting Raft sync starts before anything else; what it waits for is already in flight. Raft syncs in flight have
//!    a cap of their own, so that they cannot stop the rest.
//! 4. Every class progresses: one that waits is *overdue* when others have started `turns` times the cost of its first
//!    operation meanwhile, and then goes before all but Raft; of several overdue classes the lowest goes first. The cost
//!    stands for device time, so these are shares of it. Together they leave more than half to the foreground.
//! 5. Room that the operation whose turn it is waits for goes to no class at or below the cap that it meets.
//!
//! Units: bytes; cost in operations of 4 KiB, about.

use crate::io::Class;
use std::collections::VecDeque;

mod limits;
#[cfg(test)]
mod tests;

pub use limits::{CLASSES, Limits};

/// One operation on a file moves at most this much, so that none hogs the device queue. Every class may have so much in flight; what
/// the kernel reads at one go may be longer ([`Scheduler::bytes_max`]).
pub const OPERATION_BYTES_MAX: u32 = 1 << 20;
/// Reads that wait in one class: two for each connection that a column takes.
pub const READS_WAITING_MAX: usize = 32 << 10;
/// Operations of any kind that wait in one class. More than reads may take: a refused write would stop a log.
pub const WAITING_MAX: usize = 2 * READS_WAITING_MAX;
/// Bytes that cost as much as beginning an operation does (4 KiB take 11 us, 1 MiB 370 us at depth 32).
const BYTES_PER_COST: u32 = 32 << 10;
/// How often its own cost a waiting class lets pass, by class. Raft never waits its turn, the foreground never needs one.
const TURNS: [u64; CLASSES] = [0, 0, 4, 8, 16, 32];

impl Class {
    /// All, the most urgent first.
    pub const ALL: [Class; CLASSES] =
        [Class::RaftSync, Class::Foreground, Class::TsdbSync, Class::Fill, Class::Compaction, Class::Scrub];

    /// As labels of metrics name it.
    pub const fn name(self) -> &'static str {
        match self {
            Class::RaftSync => "raft_sync",
            Class::Foreground => "foreground",
            Class::TsdbSync => "tsdb_sync",
            Class::Fill => "fill",
            Class::Compaction => "compaction",
            Class::Scrub => "scrub",
        }
    }

    /// Those that may have to wait for their turn.
    fn that_take_turns() -> impl DoubleEndedIterator<Item = Class> {
        Class::ALL.into_iter().filter(|&class| TURNS[class as usize] > 0)
    }
}

/// Operations and bytes in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Operations.
    pub operations: u32,
    /// Bytes that they move.
    pub bytes: u64,
}

/// Names an operation that waits, within its class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

struct Waiting<T> {
    ticket: Ticket,
    bytes: u32,
    what: T,
}

/// The queue of one column for one device. `T` is what to wake when an operation may start.
pub struct Scheduler<T> {
    limits: Limits,
    /// In flight of this class and of all below it.
    in_flight: [Load; CLASSES],
    waiting: [VecDeque<Waiting<T>>; CLASSES],
    waiting_count: usize,
    /// What others have started while this class waited since it last started one.
    passed_cost: [u64; CLASSES],
    next_ticket: u64,
}

fn cost(bytes: u32) -> u64 {
    u64::from(1 + bytes / BYTES_PER_COST)
}

impl<T> Scheduler<T> {
    /// Nothing in flight, nothing waiting.
    pub fn new(limits: Limits) -> Scheduler<T> {
        Scheduler {
            limits,
            in_flight: Default::default(),
            waiting: std::array::from_fn(|_| VecDeque::new()),
            waiting_count: 0,
            passed_cost: [0; CLASSES],
            next_ticket: 0,
        }
    }

    /// Other limits from now on. What is in flight stays, so it may be beyond them for a while.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        for class in Class::ALL {
            let most = self.bytes_max(class);
            // Or it would wait for ever.
            self.waiting[class as usize].iter_mut().for_each(|w| w.bytes = w.bytes.min(most));
        }
    }

    /// The longest operation of a class: with it all of what the class and those below may have in flight is.
    pub fn bytes_max(&self, class: Class) -> u32 {
        u32::try_from(self.limits.cap(class as usize).bytes).unwrap_or(u32::MAX)
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Starts an operation if nothing waits and it fits: counted in flight until [`Scheduler::end`]. The hot path.
    #[inline]
    pub fn start_now(&mut self, class: Class, bytes: u32) -> bool {
        if self.waiting_count > 0 || self.fits(class, bytes).is_err() {
            return false;
        }
        self.count_started(class, bytes);
        true
    }

    /// Queues an operation; [`Scheduler::start_next`] gives `what` back when it may start, which may be at once.
    ///
    /// # Errors
    /// `waiting_max` operations of this class wait.
    pub fn wait(&mut self, class: Class, bytes: u32, waiting_max: usize, what: T) -> Result<Ticket, T> {
        assert!(bytes <= self.bytes_max(class), "an operation of {bytes} bytes fits no limit");
        let queue = &mut self.waiting[class as usize];
        if queue.len() >= waiting_max {
            return Err(what);
        }
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        queue.push_back(Waiting { ticket, bytes, what });
        self.waiting_count += 1;
        Ok(ticket)
    }

    /// Takes an operation that nobody wants any more out of the queue; `None` when it has started.
    pub fn cancel(&mut self, class: Class, ticket: Ticket) -> Option<T> {
        let queue = &mut self.waiting[class as usize];
        let at = queue.binary_search_by_key(&ticket, |w| w.ticket).ok()?;
        let waiting = queue.remove(at)?;
        self.waiting_count -= 1;
        if self.waiting[class as usize].is_empty() {
            self.passed_cost[class as usize] = 0;
        }
        Some(waiting.what)
    }

    /// Starts the next operation that may: its class, its bytes and whom to tell. To be called until it gives `None`, after
    /// everything that queues, ends or cancels.
    pub fn start_next(&mut self) -> Option<(Class, u32, T)> {
        let class = self.next_class()?;
        let started = self.waiting[class as usize].pop_front()?;
        self.waiting_count -= 1;
        self.count_started(class, started.bytes);
        for other in Class::that_take_turns() {
            if other != class && !self.waiting[other as usize].is_empty() {
                self.passed_cost[other as usize] += cost(started.bytes);
            }
        }
        self.passed_cost[class as usize] = 0;
        Some((class, started.bytes, started.what))
    }

    /// An operation that was started has completed.
    #[inline]
    pub fn end(&mut self, class: Class, bytes: u32) {
        for load in &mut self.in_flight[..=class as usize] {
            assert!(load.operations > 0 && load.bytes >= u64::from(bytes), "an end without a start");
            load.operations -= 1;
            load.bytes -= u64::from(bytes);
        }
    }

    /// Whether [`Scheduler::start_next`] can have anything to say.
    #[inline]
    pub fn has_waiting(&self) -> bool {
        self.waiting_count > 0
    }

    /// Operations of this class that wait.
    pub fn waiting(&self, class: Class) -> usize {
        self.waiting[class as usize].len()
    }

    /// In flight of this class alone.
    pub fn in_flight(&self, class: Class) -> Load {
        let with_below = self.in_flight[class as usize];
        let below = self.in_flight.get(class as usize + 1).copied().unwrap_or_default();
        Load { operations: with_below.operations - below.operations, bytes: with_below.bytes - below.bytes }
    }

    #[inline]
    fn count_started(&mut self, class: Class, bytes: u32) {
        for load in &mut self.in_flight[..=class as usize] {
            load.operations += 1;
            load.bytes += u64::from(bytes);
        }
    }

    /// The error is the level of the cap in the way; `CLASSES` for one that is in nobody else's way.
    #[inline]
    fn fits(&self, class: Class, bytes: u32) -> Result<(), usize> {
        for (level, load) in self.in_flight[..=class as usize].iter().enumerate() {
            let cap = self.limits.cap(level);
            if load.operations >= cap.operations || load.bytes + u64::from(bytes) > cap.bytes {
                return Err(level);
            }
        }
        if class == Class::RaftSync && self.in_flight(class).operations >= self.limits.raft_operations() {
            return Err(CLASSES);
        }
        Ok(())
    }

    fn is_overdue(&self, class: Class) -> bool {
        self.waiting[class as usize].front().is_some_and(|first| {
            self.passed_cost[class as usize] >= TURNS[class as usize] * cost(first.bytes)
        })
    }

    fn next_class(&self) -> Option<Class> {
        if self.waiting_count == 0 {
            return None;
        }
        let overdue = Class::that_take_turns().rev().filter(|&class| self.is_overdue(class));
        let order = std::iter::once(Class::RaftSync).chain(overdue).chain(Class::ALL);
        // From this level on, room is kept for one that came before in the order.
        let mut kept = CLASSES;
        for class in order {
            let Some(first) = self.waiting[class as usize].front() else { continue };
            if class as usize >= kept {
                continue;
            }
            match self.fits(class, first.bytes) {
                Ok(()) => return Some(class),
                Err(level) => kept = kept.min(level),
            }
        }
        None
    }
}
