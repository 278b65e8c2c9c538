//! Requests that wait on a column, and INTERRUPTs of them, which any column may have read.
//!
//! Called by `serve`. An INTERRUPT names a request and is sent once. It may come after the answer, and to a column that does not
//! know the request: then all are told. It may also come first: the request was delivered, and waits in an inlet or a ring to be
//! looked at. So what nobody knows is remembered for a while, and interrupts the request as it enters. (The kernel's own way, a
//! reply of EAGAIN, finds only requests of the same device and none of a ring.) No number is used twice on a connection: what is
//! remembered of a request that was answered already harms nobody.

use super::thread::{hush, ring};
use runtime::oneshot::{Oneshot, Waiting};
use runtime::ring::RingIo;
use rustix::event::{EventfdFlags, eventfd};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

/// INTERRUPTs that a column has yet to hear of; more are forgotten, and their callers wait for the answer.
const TOLD_MAX: usize = 4096;
/// INTERRUPTs that a column remembers for requests to come; the oldest go first. Far more than requests can be delivered and not
/// looked at.
const EARLY_MAX: usize = 4096;

/// Requests that wait on this column. As many as the kernel has under way.
#[derive(Default)]
pub(super) struct Pending {
    requests: RefCell<HashMap<u64, Oneshot<Cut>>>,
    early: RefCell<Early>,
}

/// Why a request ends before it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Its caller was interrupted.
    Interrupted,
    /// It kept others out (`crowd`).
    Crowded,
}

impl Cut {
    pub(super) fn errno(self) -> i32 {
        match self {
            Cut::Interrupted => EINTR,
            Cut::Crowded => EIO,
        }
    }
}

/// errno(3).
const EINTR: i32 = 4;
const EIO: i32 = 5;

/// INTERRUPTs that came before their requests, or after them.
#[derive(Default)]
struct Early {
    uniques: HashSet<u64>,
    /// As they came; those that were taken out, too.
    order: VecDeque<u64>,
}

impl Pending {
    /// From now on it can be cut off: that makes the future ready. It is so already if it was interrupted.
    pub(super) fn enter(&self, unique: u64) -> Waiting<Cut> {
        let (interrupt, interrupted) = Oneshot::new();
        if self.early.borrow_mut().uniques.remove(&unique) {
            interrupt.set(Cut::Interrupted);
            return interrupted;
        }
        let before = self.requests.borrow_mut().insert(unique, interrupt);
        assert!(before.is_none(), "request {unique} came twice");
        interrupted
    }

    /// It is answered.
    pub(super) fn leave(&self, unique: u64) {
        self.requests.borrow_mut().remove(&unique);
    }

    /// Whether it waits here.
    pub(super) fn interrupt(&self, unique: u64) -> bool {
        self.cut(unique, Cut::Interrupted)
    }

    /// The same for any reason.
    pub(super) fn cut(&self, unique: u64, why: Cut) -> bool {
        let requests = self.requests.borrow();
        let Some(interrupt) = requests.get(&unique) else { return false };
        interrupt.set(why);
        true
    }

    /// The same, and if it does not wait here yet, as soon as it does.
    pub(super) fn interrupt_or_remember(&self, unique: u64) {
        if !self.interrupt(unique) {
            self.early.borrow_mut().remember(unique);
        }
    }
}

impl Early {
    fn remember(&mut self, unique: u64) {
        if !self.uniques.insert(unique) {
            return;
        }
        self.order.push_back(unique);
        if self.order.len() > EARLY_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.uniques.remove(&oldest);
        }
    }
}

/// The way from column to column.
pub(super) struct Interrupts {
    columns: Vec<Told>,
}

struct Told {
    uniques: Mutex<Vec<u64>>,
    bell: Arc<OwnedFd>,
}

impl Interrupts {
    pub(super) fn new(columns: usize) -> io::Result<Interrupts> {
        let told = || {
            let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
            Ok(Told { uniques: Mutex::default(), bell })
        };
        Ok(Interrupts { columns: (0..columns).map(|_| told()).collect::<io::Result<_>>()? })
    }

    /// Tells all columns, the teller too: it may come to know the request later.
    pub(super) fn tell(&self, unique: u64) {
        for told in &self.columns {
            let uniques = &mut *told.uniques.lock().expect("nobody panics with it");
            if uniques.len() < TOLD_MAX {
                uniques.push(unique);
                ring(&told.bell);
            }
        }
    }

    /// Waits until a column was told something.
    pub(super) async fn told(&self, io: &RingIo, column: usize) {
        let bell = &self.columns[column].bell;
        // An eventfd of ours can always be polled; if not, callers wait for their answers.
        let _ = io.readable(bell.clone()).await;
        hush(bell);
    }

    /// What it was.
    pub(super) fn take(&self, column: usize) -> Vec<u64> {
        std::mem::take(&mut *self.columns[column].uniques.lock().expect("nobody panics with it"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Waker};

    #[test]
    fn what_waits_is_interrupted_and_what_is_answered_is_not() {
        let pending = Pending::default();
        let mut waiting = pin!(pending.enter(4));
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(cx).is_pending());
        assert!(!pending.interrupt(6));
        assert!(pending.interrupt(4));
        assert!(waiting.as_mut().poll(cx).is_ready());
        pending.leave(4);
        assert!(!pending.interrupt(4));
        assert!(pending.requests.borrow().is_empty(), "nothing is kept");
    }

    #[test]
    fn an_interrupt_that_comes_first_is_not_lost() {
        let pending = Pending::default();
        pending.interrupt_or_remember(4);
        pending.interrupt_or_remember(4);
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(pin!(pending.enter(4)).poll(cx).is_ready());
        pending.leave(4);
        assert!(pending.requests.borrow().is_empty() && pending.early.borrow().uniques.is_empty());
        let mut other = pin!(pending.enter(6));
        assert!(other.as_mut().poll(cx).is_pending());
        pending.interrupt_or_remember(6);
        assert!(other.as_mut().poll(cx).is_ready());
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_goes_first() {
        let pending = Pending::default();
        (0..=EARLY_MAX as u64).for_each(|n| pending.interrupt_or_remember(2 * n));
        let early = pending.early.borrow();
        assert_eq!((early.uniques.len(), early.order.len()), (EARLY_MAX, EARLY_MAX));
        assert!(!early.uniques.contains(&0) && early.uniques.contains(&2));
    }

    #[test]
    fn every_column_is_told_once() {
        let interrupts = Interrupts::new(2).expect("eventfds");
        interrupts.tell(8);
        assert_eq!((interrupts.take(0), interrupts.take(1), interrupts.take(1)), (vec![8], vec![8], vec![]));
    }
}
