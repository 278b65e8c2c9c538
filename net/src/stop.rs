//! The news that no more requests are taken, by a server or over one connection, for those that wait for something else. Called
//! by `server` and `http2`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};

/// Said once, heard by all.
#[derive(Default)]
pub(crate) struct Stop {
    is_said: Cell<bool>,
    next: Cell<u64>,
    waiting: RefCell<BTreeMap<u64, Waker>>,
}

impl Stop {
    pub(crate) fn is_said(&self) -> bool {
        self.is_said.get()
    }

    pub(crate) fn say(&self) {
        self.is_said.set(true);
        std::mem::take(&mut *self.waiting.borrow_mut()).into_values().for_each(Waker::wake);
    }

    /// One who waits to hear it.
    pub(crate) fn listen(&self) -> Listening<'_> {
        let id = self.next.get();
        self.next.set(id + 1);
        Listening { stop: self, id }
    }
}

/// Forgotten when dropped.
pub(crate) struct Listening<'s> {
    stop: &'s Stop,
    id: u64,
}

impl Listening<'_> {
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.stop.is_said() {
            return Poll::Ready(());
        }
        let mut waiting = self.stop.waiting.borrow_mut();
        if !waiting.get(&self.id).is_some_and(|waker| waker.will_wake(cx.waker())) {
            waiting.insert(self.id, cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.stop.waiting.borrow_mut().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_hears_it_and_who_has_left_is_forgotten() {
        let stop = Stop::default();
        let (stays, leaves) = (stop.listen(), stop.listen());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(stays.poll(&mut cx).is_pending() && leaves.poll(&mut cx).is_pending());
        drop(leaves);
        assert_eq!(stop.waiting.borrow().len(), 1);
        stop.say();
        assert!(stays.poll(&mut cx).is_ready() && stop.waiting.borrow().is_empty());
    }
}
