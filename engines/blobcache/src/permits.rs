//! A bounded number of things under way, and a bounded queue of those that wait their turn. Called by `serve`.
//!
//! Invariants
//! 1. At most `most` permits are out.
//! 2. At most [`WAITING_MAX`] wait, first come first served; one more is told "busy" at once.

use runtime::oneshot::Oneshot;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

/// Requests that wait for a permit on one column.
pub const WAITING_MAX: usize = 1024;

/// Permits of one column.
pub struct Permits {
    free: Cell<usize>,
    waiting: RefCell<VecDeque<Oneshot<()>>>,
}

impl Permits {
    /// `most` permits, all free.
    pub fn new(most: usize) -> Permits {
        assert!(most > 0, "nobody would ever get a permit");
        Permits { free: Cell::new(most), waiting: RefCell::default() }
    }

    /// Waits for a permit; `None` when too many wait already.
    pub async fn acquire(&self) -> Option<Permit<'_>> {
        if self.free.get() > 0 {
            self.free.set(self.free.get() - 1);
            return Some(Permit(self));
        }
        let turn = {
            let mut waiting = self.waiting.borrow_mut();
            if waiting.len() >= WAITING_MAX {
                return None;
            }
            let (give, turn) = Oneshot::new();
            waiting.push_back(give);
            turn
        };
        // A task waits to its end, so a permit handed over is always taken.
        turn.await;
        Some(Permit(self))
    }
}

/// One permit.
pub struct Permit<'p>(&'p Permits);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        match self.0.waiting.borrow_mut().pop_front() {
            Some(next) => next.set(()),
            None => self.0.free.set(self.0.free.get() + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::task::{Context, Poll, Waker};

    #[test]
    fn permits_go_to_those_who_waited() {
        let permits = Permits::new(1);
        let cx = &mut Context::from_waker(Waker::noop());
        let poll = |f: &mut std::pin::Pin<Box<dyn Future<Output = Option<Permit<'_>>> + '_>>,
                    cx: &mut Context<'_>| match f.as_mut().poll(cx) {
            Poll::Ready(p) => Some(p.is_some()),
            Poll::Pending => None,
        };
        let mut first = Box::pin(permits.acquire());
        let Poll::Ready(Some(held)) = first.as_mut().poll(cx) else { panic!("a permit is free") };
        let mut second: std::pin::Pin<Box<dyn Future<Output = _> + '_>> = Box::pin(permits.acquire());
        assert_eq!(poll(&mut second, cx), None);
        drop(held);
        assert_eq!(poll(&mut second, cx), Some(true));
    }
}
