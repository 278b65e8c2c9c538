//! The stall detector: counts, by task name, every poll that kept its column from other work for 10 ms or more.
//!
//! Called by `RingIo::spawn`, which wraps every task. The wall time of a poll less the time the thread waited for a CPU in
//! it (its run-queue delay since the last sample) is what counts: a busy neighbour is not our stall.

use crate::clock::Clock;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// A poll of this many nanoseconds or more is a stall.
pub const STALL_NS: u64 = 10_000_000;

/// Stalls of one column.
#[derive(Clone, Default)]
pub struct Stalls {
    inner: Rc<Counts>,
}

#[derive(Default)]
struct Counts {
    by_name: RefCell<BTreeMap<&'static str, u64>>,
    run_delay_ns: Cell<u64>,
}

impl Stalls {
    /// Stalls so far, by task name.
    pub fn by_name(&self) -> BTreeMap<&'static str, u64> {
        self.inner.by_name.borrow().clone()
    }

    /// All stalls so far.
    pub fn total(&self) -> u64 {
        self.inner.by_name.borrow().values().sum()
    }

    /// Takes note of how long the thread has waited for its CPU so far; called a few times a second when busy, so that a
    /// long poll is charged little of what came before it.
    pub fn sample_run_delay(&self) -> u64 {
        let now = run_delay_ns().unwrap_or(0);
        now - self.inner.run_delay_ns.replace(now).min(now)
    }

    fn on_slow_poll(&self, name: &'static str, wall_ns: u64) {
        let stalled_ns = wall_ns.saturating_sub(self.sample_run_delay());
        if stalled_ns < STALL_NS {
            return;
        }
        *self.inner.by_name.borrow_mut().entry(name).or_insert(0) += 1;
        tracing::warn!(task = name, ms = stalled_ns / 1_000_000, "task kept its column from other work");
    }
}

/// Nanoseconds this thread has been ready but not running (second field of schedstat).
fn run_delay_ns() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// A task under watch.
pub struct Watched<F> {
    name: &'static str,
    stalls: Stalls,
    clock: Clock,
    task: Pin<Box<F>>,
}

impl<F> Watched<F> {
    pub(crate) fn new(name: &'static str, stalls: Stalls, clock: Clock, task: F) -> Watched<F> {
        Watched { name, stalls, clock, task: Box::pin(task) }
    }
}

impl<F: Future<Output = ()>> Future for Watched<F> {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let start = self.clock.now_ns();
        let polled = self.task.as_mut().poll(cx);
        let wall_ns = self.clock.now_ns() - start;
        if wall_ns >= STALL_NS {
            self.stalls.on_slow_poll(self.name, wall_ns);
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;
    use std::time::Duration;

    fn poll_once(stalls: &Stalls, name: &'static str, work: impl FnOnce()) {
        let mut work = Some(work);
        let task = std::future::poll_fn(move |_| {
            if let Some(w) = work.take() {
                w();
            }
            Poll::Ready(())
        });
        let mut watched = Watched::new(name, stalls.clone(), Clock::new(), task);
        let _ = Pin::new(&mut watched).poll(&mut Context::from_waker(Waker::noop()));
    }

    #[test]
    fn a_planted_sleep_is_caught_by_name_and_quick_polls_are_not() {
        let stalls = Stalls::default();
        stalls.sample_run_delay();
        poll_once(&stalls, "quick", || ());
        assert_eq!(stalls.total(), 0);
        poll_once(&stalls, "sleeper", || std::thread::sleep(Duration::from_millis(40)));
        assert_eq!(stalls.by_name().get("sleeper"), Some(&1));
    }
}
