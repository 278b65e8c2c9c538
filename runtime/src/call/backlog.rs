//! The sending end of a column, with what found its lane full: kept in order, and sent as soon as the other column has made room.
//!
//! Called by `call` alone. A sender never waits for a lane, and a column takes what others send whatever it could not send itself:
//! so two columns that send each other more than their lanes hold get on.
//!
//! Invariant: to one column everything goes in the order in which it was given. `call` bounds how much that is.

use crate::mesh::Outbox;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

/// See the head of this file.
pub(super) struct Backlog<M> {
    outbox: Outbox<M>,
    /// By target column.
    kept: RefCell<Vec<VecDeque<M>>>,
    kept_total: Cell<usize>,
}

impl<M: Send> Backlog<M> {
    pub fn new(outbox: Outbox<M>) -> Backlog<M> {
        let kept = RefCell::new((0..outbox.columns()).map(|_| VecDeque::new()).collect());
        Backlog { outbox, kept, kept_total: Cell::new(0) }
    }

    pub fn columns(&self) -> usize {
        self.outbox.columns()
    }

    /// Sends a message to column `to`, now or later.
    pub fn send(&self, to: usize, message: M) {
        let message = match self.kept_total.get() {
            0 => match self.outbox.try_send(to, message) {
                Ok(()) => return,
                Err(back) => back,
            },
            _ => message,
        };
        self.kept.borrow_mut()[to].push_back(message);
        self.kept_total.set(self.kept_total.get() + 1);
    }

    /// Sends what there is room for by now; how much that was.
    pub fn flush(&self) -> usize {
        if self.is_empty() {
            return 0;
        }
        let mut sent = 0;
        for (to, kept) in self.kept.borrow_mut().iter_mut().enumerate() {
            while let Some(message) = kept.pop_front() {
                if let Err(back) = self.outbox.try_send(to, message) {
                    kept.push_front(back);
                    break;
                }
                sent += 1;
            }
            // A crowd leaves no memory behind.
            if kept.is_empty() && kept.capacity() > 0 {
                *kept = VecDeque::new();
            }
        }
        self.kept_total.set(self.kept_total.get() - sent);
        sent
    }

    /// Nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.kept_total.get() == 0
    }
}
