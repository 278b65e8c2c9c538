//! A bounded number of places, taken at once or waited for. However many wait; `runtime::permits` bounds them.
//! Called by `fetch`.
//!
//! Invariant: at most as many places are out as were made.

use runtime::waiters::Waiters;
use std::cell::Cell;
use std::rc::Rc;

/// The places. Clones share them.
#[derive(Clone)]
pub struct Slots {
    free: Rc<Cell<usize>>,
    waiting: Rc<Waiters>,
}

/// One place, free again when dropped.
pub struct Slot(Slots);

impl Slots {
    pub fn new(count: usize) -> Slots {
        assert!(count > 0, "nobody would ever get a place");
        Slots { free: Rc::new(Cell::new(count)), waiting: Rc::default() }
    }

    pub fn try_take(&self) -> Option<Slot> {
        let left = self.free.get().checked_sub(1)?;
        self.free.set(left);
        Some(Slot(self.clone()))
    }

    pub async fn take(&self) -> Slot {
        self.waiting.until(|| self.free.get() > 0).await;
        self.try_take().expect("nothing came between")
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.free.set(self.0.free.get() + 1);
        // All of them look again: who gave up meanwhile keeps nobody waiting.
        self.0.waiting.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::task::{Context, Waker};

    #[test]
    fn a_waiter_that_gives_up_loses_no_place() {
        let slots = Slots::new(1);
        let cx = &mut Context::from_waker(Waker::noop());
        let held = slots.try_take().expect("free");
        let mut quitter = Box::pin(slots.take());
        assert!(quitter.as_mut().poll(cx).is_pending());
        drop(held);
        drop(quitter);
        assert!(slots.try_take().is_some());
    }
}
