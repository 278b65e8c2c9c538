//! The disk queue of a column for one device: every operation on a file takes a [`Permit`] before it goes into the ring.
//!
//! Called by `file.rs`. What starts next is decided in [`crate::classes`]; here is the waiting for it.
//!
//! Invariants
//! 1. A permit belongs to the operation, not to the future that waits for it: it ends with the completion, also when the
//!    future was dropped before (the slot keeps it with the memory it lent).
//! 2. A future dropped while it waits leaves the queue, and what waited behind it is looked at.
//! 3. When nothing waits and there is room, a permit costs a few additions: no clock, no allocation.

use crate::classes::{Limits, Scheduler, Ticket};
use crate::clock::Clock;
use crate::io::Class;
use crate::metrics::Sample;
use crate::oneshot::Oneshot;
pub(super) use devices::DiskQueues;
use figures::Figures;
use std::cell::RefCell;
use std::io;
use std::rc::Rc;

mod devices;
mod figures;
#[cfg(test)]
mod tests;

/// See the module.
pub(super) struct DiskQueue {
    scheduler: RefCell<Scheduler<Grant>>,
    figures: Figures,
    clock: Clock,
}

/// Whom to tell, and since when it waits.
struct Grant {
    give: Oneshot<Permit>,
    since_ns: u64,
}

/// An operation may be in flight; until dropped it counts as being so.
pub(super) struct Permit {
    queue: Rc<DiskQueue>,
    class: Class,
    bytes: u32,
}

impl Drop for Permit {
    #[inline]
    fn drop(&mut self) {
        let has_waiting = {
            let mut scheduler = self.queue.scheduler.borrow_mut();
            scheduler.end(self.class, self.bytes);
            scheduler.has_waiting()
        };
        if has_waiting {
            self.queue.start_waiting();
        }
    }
}

/// A place in the queue, given up when dropped.
struct Place<'q> {
    queue: &'q Rc<DiskQueue>,
    class: Class,
    ticket: Ticket,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let left = self.queue.scheduler.borrow_mut().cancel(self.class, self.ticket);
        if left.is_some() {
            self.queue.start_waiting();
        }
    }
}

impl DiskQueue {
    pub(super) fn new(disk: &str) -> Rc<DiskQueue> {
        Rc::new(DiskQueue {
            scheduler: RefCell::new(Scheduler::new(Limits::default())),
            figures: Figures::new(disk),
            clock: Clock::new(),
        })
    }

    pub(super) fn set_limits(self: &Rc<Self>, limits: Limits) {
        self.scheduler.borrow_mut().set_limits(limits);
        self.start_waiting();
    }

    /// A permit for an operation of `bytes` bytes, when its turn has come.
    ///
    /// # Errors
    /// `ResourceBusy`: `waiting_max` operations of this class wait already.
    #[inline]
    pub(super) async fn start(
        self: &Rc<Self>,
        class: Class,
        bytes: u32,
        waiting_max: usize,
    ) -> io::Result<Permit> {
        if self.scheduler.borrow_mut().start_now(class, bytes) {
            return Ok(self.permit(class, bytes));
        }
        self.wait(class, bytes, waiting_max).await
    }

    /// As [`DiskQueue::start`], for what the kernel reads at one go and may be longer than a class is allowed: then it takes all of
    /// that. It counts with all its bytes.
    pub(super) async fn start_long(
        self: &Rc<Self>,
        class: Class,
        bytes: u64,
        waiting_max: usize,
    ) -> io::Result<Permit> {
        let most = self.scheduler.borrow().bytes_max(class);
        let permit = self.start(class, bytes.min(u64::from(most)) as u32, waiting_max).await?;
        self.figures.count_bytes(class, bytes - u64::from(permit.bytes));
        Ok(permit)
    }

    #[inline]
    fn permit(self: &Rc<Self>, class: Class, bytes: u32) -> Permit {
        self.figures.count(class, bytes);
        Permit { queue: self.clone(), class, bytes }
    }

    async fn wait(self: &Rc<Self>, class: Class, bytes: u32, waiting_max: usize) -> io::Result<Permit> {
        let (give, granted) = Oneshot::new();
        let grant = Grant { give, since_ns: self.clock.now_ns() };
        let queued = self.scheduler.borrow_mut().wait(class, bytes, waiting_max, grant);
        let Ok(ticket) = queued else {
            return Err(io::ErrorKind::ResourceBusy.into());
        };
        let _place = Place { queue: self, class, ticket };
        self.start_waiting();
        Ok(granted.await)
    }

    /// Starts what may start.
    fn start_waiting(self: &Rc<Self>) {
        loop {
            let next = self.scheduler.borrow_mut().start_next();
            let Some((class, bytes, grant)) = next else { return };
            self.figures.on_waited(class, self.clock.now_ns().saturating_sub(grant.since_ns));
            grant.give.set(self.permit(class, bytes));
        }
    }

    /// What can be seen of it.
    pub(super) fn samples(&self) -> Vec<Sample> {
        self.figures.samples(&self.scheduler.borrow())
    }
}
