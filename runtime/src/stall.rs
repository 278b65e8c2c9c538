//! The stall detector: counts, by task name, every poll that kept its column from other work for 10 ms or more.
//!
//! Called by `RingIo::spawn`, which wraps every task, and by the driver before it sleeps. What counts is the wall time of a poll
//! less the time in it that the thread wanted to run and did not, because another thread or the hypervisor's other guests had
//! its CPU: a busy neighbour is not our stall. The kernel counts the wait for other threads; not that for other guests, but a
//! thread that never slept of itself ran or wanted to run, so that both are what is left of the wall time after its CPU time.
//! All are taken from samples: one at the beginning of each poll would cost more than many polls do, so the thread's usage is
//! one from at most [`SAMPLE_NS`] before and after the last time the column slept, and its waiting one from at most
//! [`SAMPLE_NS`] before.

use crate::clock::Clock;
use crate::usage::{Usage, Waited};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// A poll of this many nanoseconds or more is a stall.
pub const STALL_NS: u64 = 10_000_000;
/// A poll is charged, or let off, at most this much of what came before it.
const SAMPLE_NS: u64 = 500_000;

/// Stalls of one column.
#[derive(Clone, Default)]
pub struct Stalls {
    inner: Rc<Counts>,
}

#[derive(Default)]
struct Counts {
    clock: Clock,
    by_name: RefCell<BTreeMap<&'static str, u64>>,
    sample: Cell<Sample>,
    waited: OnceCell<Waited>,
    waited_sample: Cell<WaitedSample>,
    /// There is a sample, and the column has not slept since.
    is_awake: Cell<bool>,
    /// Polls under way, one inside the other: a new task is polled at once.
    depth: Cell<u32>,
}

#[derive(Clone, Copy, Default)]
struct WaitedSample {
    at_ns: u64,
    total_ns: u64,
}

#[derive(Clone, Copy, Default)]
struct Sample {
    at_ns: u64,
    usage: Usage,
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

    /// The column goes to sleep for want of work.
    pub(crate) fn on_sleep(&self) {
        self.inner.is_awake.set(false);
    }

    /// The time a poll begins. What is polled inside another's poll keeps the other's sample.
    fn before_poll(&self) -> u64 {
        let now_ns = self.inner.clock.now_ns();
        let is_due = !self.inner.is_awake.get() || now_ns - self.inner.sample.get().at_ns > SAMPLE_NS;
        if is_due && self.inner.depth.get() == 0 {
            self.sample(now_ns);
            if now_ns - self.inner.waited_sample.get().at_ns > SAMPLE_NS {
                let total_ns = self.waited_ns();
                self.inner.waited_sample.set(WaitedSample { at_ns: now_ns, total_ns });
            }
        }
        self.inner.depth.set(self.inner.depth.get() + 1);
        now_ns
    }

    fn after_poll(&self, name: &'static str, begin_ns: u64) {
        self.inner.depth.set(self.inner.depth.get() - 1);
        let now_ns = self.inner.clock.now_ns();
        let wall_ns = now_ns - begin_ns;
        if wall_ns >= STALL_NS {
            self.on_slow_poll(name, wall_ns, now_ns);
        }
    }

    fn sample(&self, at_ns: u64) {
        self.inner.sample.set(Sample { at_ns, usage: Usage::now() });
        self.inner.is_awake.set(true);
    }

    fn waited_ns(&self) -> u64 {
        self.inner.waited.get_or_init(Waited::of_this_thread).total_ns()
    }

    fn on_slow_poll(&self, name: &'static str, wall_ns: u64, now_ns: u64) {
        let (before, usage) = (self.inner.sample.get(), Usage::now());
        let ran_ns = usage.cpu_ns - before.usage.cpu_ns;
        let has_slept = usage.slept_total > before.usage.slept_total;
        let waited_ns = self.waited_ns() - self.inner.waited_sample.get().total_ns;
        let missed_ns = if has_slept { 0 } else { (now_ns - before.at_ns).saturating_sub(ran_ns) };
        let stalled_ns = wall_ns.saturating_sub(waited_ns.max(missed_ns));
        if stalled_ns < STALL_NS {
            return;
        }
        *self.inner.by_name.borrow_mut().entry(name).or_insert(0) += 1;
        let (ms, cpu_ms, waited_ms) = (stalled_ns / 1_000_000, ran_ns / 1_000_000, waited_ns / 1_000_000);
        tracing::warn!(task = name, ms, cpu_ms, waited_ms, has_slept, "task kept its column from other work");
    }
}

/// A task under watch.
pub struct Watched<F> {
    name: &'static str,
    stalls: Stalls,
    task: Pin<Box<F>>,
}

impl<F> Watched<F> {
    pub(crate) fn new(name: &'static str, stalls: Stalls, task: F) -> Watched<F> {
        Watched { name, stalls, task: Box::pin(task) }
    }
}

impl<F: Future<Output = ()>> Future for Watched<F> {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let begin_ns = self.stalls.before_poll();
        let polled = self.task.as_mut().poll(cx);
        self.stalls.after_poll(self.name, begin_ns);
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Waker;
    use std::time::{Duration, Instant};

    fn poll_once(stalls: &Stalls, name: &'static str, work: impl FnOnce()) {
        let mut work = Some(work);
        let task = std::future::poll_fn(move |_| {
            if let Some(w) = work.take() {
                w();
            }
            Poll::Ready(())
        });
        let mut watched = Watched::new(name, stalls.clone(), task);
        let _ = Pin::new(&mut watched).poll(&mut Context::from_waker(Waker::noop()));
    }

    fn work_for(cpu: Duration) {
        let before = Usage::now();
        while Usage::now().cpu_ns - before.cpu_ns < cpu.as_nanos() as u64 {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn a_planted_sleep_or_work_is_caught_by_name_and_quick_polls_are_not() {
        let stalls = Stalls::default();
        poll_once(&stalls, "quick", || ());
        poll_once(&stalls, "some work", || work_for(Duration::from_millis(1)));
        assert_eq!(stalls.total(), 0);
        poll_once(&stalls, "sleeper", || std::thread::sleep(Duration::from_millis(40)));
        assert_eq!(stalls.by_name().get("sleeper"), Some(&1));
        poll_once(&stalls, "worker", || work_for(Duration::from_millis(40)));
        assert_eq!(stalls.by_name().get("worker"), Some(&1));
        assert_eq!(stalls.total(), 2);
    }

    /// With so many threads on its CPU, a little work takes long.
    #[test]
    fn what_waits_for_its_cpu_is_not_counted() {
        const OTHERS: usize = 12;
        let own = rustix::thread::sched_getaffinity(None).expect("own CPUs");
        let cpu = (0..rustix::thread::CpuSet::MAX_CPU).find(|&cpu| own.is_set(cpu)).expect("a CPU");
        let pin = move || {
            let mut one = rustix::thread::CpuSet::new();
            one.set(cpu);
            rustix::thread::sched_setaffinity(None, &one).expect("own CPU");
        };
        let is_over = AtomicBool::new(false);
        let (stalls, slowest) = std::thread::scope(|scope| {
            let others = || {
                pin();
                while !is_over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            };
            (0..OTHERS).for_each(|_| drop(scope.spawn(others)));
            let measured = scope.spawn(|| {
                pin();
                let (stalls, begin) = (Stalls::default(), Instant::now());
                let mut slowest = Duration::ZERO;
                while begin.elapsed() < Duration::from_secs(2) {
                    let begin = Instant::now();
                    poll_once(&stalls, "unlucky", || {
                        work_for(Duration::from_millis(4));
                        // So short that it is no stall; what was waited for the CPU is none either.
                        std::thread::sleep(Duration::from_micros(100));
                        poll_once(&stalls, "made by it", || ());
                    });
                    slowest = slowest.max(begin.elapsed());
                }
                (stalls.total(), slowest)
            });
            let measured = measured.join().expect("no panic");
            is_over.store(true, Ordering::Relaxed);
            measured
        });
        assert!(slowest >= 2 * Duration::from_nanos(STALL_NS), "it did not have to wait: {slowest:?}");
        assert_eq!(stalls, 0, "the slowest took {slowest:?}");
    }
}
