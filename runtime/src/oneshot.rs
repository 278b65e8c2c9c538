//! One value from one task to another of the same column.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

struct Slot<T> {
    value: Option<T>,
    waker: Option<Waker>,
}

/// The giving end.
pub struct Oneshot<T> {
    slot: Rc<RefCell<Slot<T>>>,
}

/// The waiting end.
pub struct Waiting<T> {
    slot: Rc<RefCell<Slot<T>>>,
}

impl<T> Oneshot<T> {
    /// Both ends.
    #[allow(clippy::new_ret_no_self, reason = "it makes a pair")]
    pub fn new() -> (Oneshot<T>, Waiting<T>) {
        let slot = Rc::new(RefCell::new(Slot { value: None, waker: None }));
        (Oneshot { slot: slot.clone() }, Waiting { slot })
    }

    /// Whether anybody still waits for the value.
    pub(crate) fn is_awaited(&self) -> bool {
        Rc::strong_count(&self.slot) > 1
    }

    /// Gives the value; a later one replaces an earlier one that was not taken.
    pub fn set(&self, value: T) {
        let mut slot = self.slot.borrow_mut();
        slot.value = Some(value);
        if let Some(waker) = slot.waker.take() {
            waker.wake();
        }
    }
}

impl<T> Future for Waiting<T> {
    type Output = T;
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let mut slot = self.slot.borrow_mut();
        match slot.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                slot.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
