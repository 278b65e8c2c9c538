//! Waiting, but not for ever. Called by the engines and by `net`.

use crate::io::Io;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

/// What `work` gives, or `None` when that takes longer than `wait_ns`. `work` is dropped then, or goes on where it was given by
/// reference.
pub async fn within<I: Io, T>(io: &I, wait_ns: u64, work: impl Future<Output = T>) -> Option<T> {
    let (mut work, mut late) = (pin!(work), pin!(io.sleep(wait_ns)));
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => late.as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// As [`within`], up to a time of [`Io::now_ns`].
pub async fn before<I: Io, T>(io: &I, until_ns: u64, work: impl Future<Output = T>) -> Option<T> {
    within(io, until_ns.saturating_sub(io.now_ns()), work).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::twin::{FaultPlan, Twin};
    use std::cell::RefCell;
    use std::rc::Rc;

    const MILLI_NS: u64 = 1_000_000;
    const SECOND_NS: u64 = 1_000_000_000;

    /// What `work` on a machine of its own leaves behind.
    fn run<I: Future<Output = Vec<Option<u64>>> + 'static>(
        work: impl FnOnce(crate::twin::TwinIo) -> I,
    ) -> Vec<Option<u64>> {
        let twin = Twin::new(1, 1 << 20, FaultPlan::none());
        let left: Rc<RefCell<Option<Vec<_>>>> = Rc::default();
        let (work, leaves) = (work(twin.outside()), left.clone());
        twin.outside().spawn("work", async move { *leaves.borrow_mut() = Some(work.await) });
        twin.run_until(10 * SECOND_NS, || left.borrow().is_some());
        left.take().expect("done in time")
    }

    async fn takes(io: &impl Io, ns: u64) -> u64 {
        io.sleep(ns).await;
        ns
    }

    #[test]
    fn what_takes_longer_is_not_waited_for() {
        let seen = run(|io| async move {
            let soon = within(&io, SECOND_NS, takes(&io, MILLI_NS)).await;
            let late = within(&io, MILLI_NS, takes(&io, SECOND_NS)).await;
            let already = before(&io, io.now_ns() - MILLI_NS, takes(&io, SECOND_NS)).await;
            vec![soon, late, already]
        });
        assert_eq!(seen, [Some(MILLI_NS), None, None]);
    }

    #[test]
    fn what_is_given_by_reference_goes_on() {
        let seen = run(|io| async move {
            let mut work = pin!(takes(&io, SECOND_NS));
            let first = within(&io, MILLI_NS, work.as_mut()).await;
            vec![first, within(&io, 2 * SECOND_NS, work.as_mut()).await]
        });
        assert_eq!(seen, [None, Some(SECOND_NS)]);
    }
}
