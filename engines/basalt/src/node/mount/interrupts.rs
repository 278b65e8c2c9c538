//! Requests that wait on a column, and INTERRUPTs of them, which any column may have read.
//!
//! Called by `serve`. An INTERRUPT names a request; it may come before or after its answer, and to a column that does not know
//! it: then all others are told. One that nobody knows is answered already.

use super::thread::{hush, ring};
use runtime::oneshot::{Oneshot, Waiting};
use runtime::ring::RingIo;
use rustix::event::{EventfdFlags, eventfd};
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

/// INTERRUPTs that a column has yet to hear of; more are forgotten, and their callers wait for the answer.
const TOLD_MAX: usize = 4096;

/// Requests that wait on this column. As many as the kernel has under way.
#[derive(Default)]
pub(super) struct Pending {
    requests: RefCell<HashMap<u64, Oneshot<()>>>,
}

impl Pending {
    /// From now on it can be interrupted: that makes the future ready.
    pub(super) fn enter(&self, unique: u64) -> Waiting<()> {
        let (interrupt, interrupted) = Oneshot::new();
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
        let requests = self.requests.borrow();
        let Some(interrupt) = requests.get(&unique) else { return false };
        interrupt.set(());
        true
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
    fn every_column_is_told_once() {
        let interrupts = Interrupts::new(2).expect("eventfds");
        interrupts.tell(8);
        assert_eq!((interrupts.take(0), interrupts.take(1), interrupts.take(1)), (vec![8], vec![8], vec![]));
    }
}
