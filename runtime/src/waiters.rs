//! Tasks of one column that wait for something which happens to all of them at once: that the node stops, that a stage is reached.
//!
//! Called by `column`, and by whoever has such an event of its own. Futures of it are polled beside others, again and again, for as
//! long as the node lives, so invariant: of each there is one waker at most, and none once it is dropped. (The executor counts
//! wakers in 16 bits, and whether two are the same cannot be relied on to be seen.)

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// Those who wait.
#[derive(Default)]
pub struct Waiters {
    wakers: RefCell<BTreeMap<u64, Waker>>,
    next: Cell<u64>,
}

/// The place of one of them, which it leaves when it is dropped.
struct Place<'w> {
    waiters: &'w Waiters,
    number: u64,
}

impl Waiters {
    /// Waits until `has_happened`; looks again when woken.
    pub async fn until(&self, has_happened: impl Fn() -> bool) {
        let number = self.next.replace(self.next.get() + 1);
        let place = Place { waiters: self, number };
        poll_fn(|cx| {
            if has_happened() {
                return Poll::Ready(());
            }
            self.wakers.borrow_mut().insert(place.number, cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Lets all look again.
    pub fn wake(&self) {
        self.wakers.take().into_values().for_each(Waker::wake);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiters.wakers.borrow_mut().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Wake};

    struct Counted;

    impl Wake for Counted {
        fn wake(self: Arc<Counted>) {}
    }

    #[test]
    fn however_often_it_is_polled_one_waker_is_kept_and_none_after_it() {
        let (waiters, happened, counted) = (Waiters::default(), Cell::new(false), Arc::new(Counted));
        let waker = Waker::from(counted.clone());
        let cx = &mut Context::from_waker(&waker);
        let before = Arc::strong_count(&counted);
        {
            let mut stays = pin!(waiters.until(|| happened.get()));
            for _ in 0..70_000 {
                assert!(stays.as_mut().poll(cx).is_pending());
                assert!(pin!(waiters.until(|| happened.get())).poll(cx).is_pending(), "it is dropped");
                assert_eq!(Arc::strong_count(&counted), before + 1);
            }
            waiters.wake();
            assert_eq!(Arc::strong_count(&counted), before);
            assert!(stays.as_mut().poll(cx).is_pending(), "it has not happened");
            happened.set(true);
            assert!(stays.as_mut().poll(cx).is_ready());
        }
        assert_eq!(Arc::strong_count(&counted), before);
    }
}
