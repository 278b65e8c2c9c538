//! A bounded number of things under way on a column, and a queue of those that wait their turn. Called by the engines and `turns`.
//!
//! Invariants
//! 1. At most `most` permits are out.
//! 2. First come first served. [`Permits::acquire`] lets at most [`WAITING_MAX`] wait, one more is told "busy" at once; who
//!    calls [`Permits::wait`] is counted elsewhere.
//! 3. Who gives up waiting takes no permit along.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// Tasks of one column that wait for a permit.
pub const WAITING_MAX: usize = 1024;

/// Permits of one column.
pub struct Permits {
    most: usize,
    free: Cell<usize>,
    /// In the order in which they came.
    waiting: RefCell<BTreeMap<u64, Waker>>,
    next: Cell<u64>,
}

/// One permit, free again when it is dropped.
pub struct Permit<'p>(&'p Permits);

/// A place in the queue, left when it is dropped.
struct Place<'p> {
    permits: &'p Permits,
    number: u64,
}

impl Permits {
    /// `most` permits, all free.
    #[must_use]
    pub fn new(most: usize) -> Permits {
        assert!(most > 0, "nobody would ever get a permit");
        Permits { most, free: Cell::new(most), waiting: RefCell::default(), next: Cell::new(0) }
    }

    /// Waits for a permit; `None` when too many wait already.
    pub async fn acquire(&self) -> Option<Permit<'_>> {
        if self.waiting.borrow().len() >= WAITING_MAX {
            return None;
        }
        Some(self.wait().await)
    }

    /// Waits for a permit, however many wait.
    pub async fn wait(&self) -> Permit<'_> {
        if let Some(permit) = self.try_acquire() {
            return permit;
        }
        let place = Place { permits: self, number: self.next.replace(self.next.get() + 1) };
        poll_fn(|cx| {
            let mut waiting = self.waiting.borrow_mut();
            let is_first = waiting.first_key_value().is_none_or(|(&first, _)| first >= place.number);
            if is_first && self.free.get() > 0 {
                return Poll::Ready(self.take());
            }
            waiting.insert(place.number, cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// A permit, if one is free and nobody waits for it.
    pub fn try_acquire(&self) -> Option<Permit<'_>> {
        (self.free.get() > 0 && !self.has_waiting()).then(|| self.take())
    }

    /// Whether somebody waits.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.borrow().is_empty()
    }

    /// How many are out.
    pub fn out(&self) -> usize {
        self.most - self.free.get()
    }

    fn take(&self) -> Permit<'_> {
        self.free.set(self.free.get() - 1);
        Permit(self)
    }

    fn wake_first(&self) {
        if self.free.get() > 0
            && let Some((_, first)) = self.waiting.borrow().first_key_value()
        {
            first.wake_by_ref();
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.free.set(self.0.free.get() + 1);
        assert!(self.0.free.get() <= self.0.most, "a permit that was never out");
        self.0.wake_first();
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.permits.waiting.borrow_mut().remove(&self.number);
        // There may be more than one permit, and who leaves may have been woken for one.
        self.permits.wake_first();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::task::{Context, Wake};

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Woken>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    type Acquiring<'p> = Pin<Box<dyn Future<Output = Option<Permit<'p>>> + 'p>>;

    /// The permit, once it is there.
    fn poll<'p>(acquiring: &mut Acquiring<'p>, woken: &Arc<Woken>) -> Option<Permit<'p>> {
        match acquiring.as_mut().poll(&mut Context::from_waker(&Waker::from(woken.clone()))) {
            Poll::Ready(permit) => Some(permit.expect("few wait")),
            Poll::Pending => None,
        }
    }

    fn acquiring(permits: &Permits) -> (Acquiring<'_>, Arc<Woken>) {
        (Box::pin(permits.acquire()), Arc::default())
    }

    #[test]
    fn permits_go_to_those_who_waited_in_their_order() {
        let permits = Permits::new(1);
        let held = permits.try_acquire().expect("free");
        let (mut first, first_woken) = acquiring(&permits);
        let (mut second, second_woken) = acquiring(&permits);
        assert!(poll(&mut first, &first_woken).is_none() && poll(&mut second, &second_woken).is_none());
        drop(held);
        assert_eq!(
            (first_woken.0.load(Relaxed), second_woken.0.load(Relaxed)),
            (1, 0),
            "one permit, one is woken"
        );
        assert!(
            permits.try_acquire().is_none() && poll(&mut second, &second_woken).is_none(),
            "no overtaking"
        );
        let held = poll(&mut first, &first_woken).expect("its turn");
        assert_eq!(permits.out(), 1);
        drop(held);
        assert!(poll(&mut second, &second_woken).is_some());
        drop((first, second));
        assert!(!permits.has_waiting() && permits.out() == 0);
    }

    #[test]
    fn who_gives_up_after_being_woken_lets_the_next_know() {
        let permits = Permits::new(2);
        let held = (permits.try_acquire(), permits.try_acquire());
        let (mut quitter, quitter_woken) = acquiring(&permits);
        let (mut next, next_woken) = acquiring(&permits);
        let (mut last, last_woken) = acquiring(&permits);
        assert!(poll(&mut quitter, &quitter_woken).is_none());
        assert!(poll(&mut next, &next_woken).is_none() && poll(&mut last, &last_woken).is_none());
        drop(held);
        drop(quitter);
        assert!(next_woken.0.load(Relaxed) > 0);
        let _held = poll(&mut next, &next_woken).expect("a permit is free");
        drop(next);
        assert!(last_woken.0.load(Relaxed) > 0, "the second permit");
        assert!(poll(&mut last, &last_woken).is_some());
    }

    #[test]
    fn the_queue_is_bounded() {
        let permits = Permits::new(1);
        let _held = permits.try_acquire();
        let mut queue: Vec<_> = (0..WAITING_MAX).map(|_| acquiring(&permits)).collect();
        assert!(queue.iter_mut().all(|(waiting, woken)| poll(waiting, woken).is_none()));
        let mut one_more: Acquiring<'_> = Box::pin(permits.acquire());
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(matches!(one_more.as_mut().poll(cx), Poll::Ready(None)));
    }
}
