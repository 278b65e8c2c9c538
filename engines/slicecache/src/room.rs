//! A bounded number of bytes, or of places, taken before something begins and given back when it is dropped. Called by whatever holds
//! memory or works at the disk.
//!
//! Invariant: no more is out than there is, except that somebody who wants more than all of it gets it when nothing is out.

use runtime::waiters::Waiters;
use std::cell::Cell;
use std::rc::Rc;

struct Inner {
    free: Cell<u64>,
    all: u64,
    waiting: Waiters,
}

/// What there is. Clones share it.
#[derive(Clone)]
pub struct Room(Rc<Inner>);

/// A part of it.
pub struct Taken {
    room: Room,
    amount: u64,
}

impl Room {
    /// So much.
    #[must_use]
    pub fn new(all: u64) -> Room {
        assert!(all > 0, "nobody would ever get any");
        Room(Rc::new(Inner { free: Cell::new(all), all, waiting: Waiters::default() }))
    }

    /// Waits for `amount`. Who is dropped meanwhile has taken nothing.
    pub async fn take(&self, amount: u64) -> Taken {
        let amount = amount.min(self.0.all);
        self.0.waiting.until(|| self.0.free.get() >= amount).await;
        self.0.free.set(self.0.free.get() - amount);
        Taken { room: self.clone(), amount }
    }

    /// What is not out.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.0.free.get()
    }

    /// What is out.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.0.all - self.0.free.get()
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let inner = &self.room.0;
        inner.free.set(inner.free.get() + self.amount);
        inner.waiting.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    #[test]
    fn what_is_given_back_goes_to_who_waits() {
        let (room, cx) = (Room::new(10), &mut Context::from_waker(Waker::noop()));
        let Poll::Ready(first) = pin!(room.take(8)).poll(cx) else { panic!("there is enough") };
        let mut second = Box::pin(room.take(50));
        let mut quitter = Box::pin(room.take(3));
        assert!(second.as_mut().poll(cx).is_pending() && quitter.as_mut().poll(cx).is_pending());
        drop(quitter);
        drop(first);
        let Poll::Ready(all) = second.as_mut().poll(cx) else { panic!("all of it is free") };
        assert!(pin!(room.take(1)).poll(cx).is_pending());
        assert_eq!((room.left(), room.taken()), (0, 10));
        drop(all);
        assert_eq!((room.left(), room.taken()), (10, 0));
        assert!(pin!(room.take(10)).poll(cx).is_ready());
    }
}
