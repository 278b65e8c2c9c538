//! A column's thread: an executor that is pinned to a CPU, and the cure for one that falls asleep before its first task.
//!
//! Called by `column`. glommio 0.9 may park with runnable tasks (`ring/driver.rs` says why). The driver's timers end such a
//! sleep, but none is set before the first task has run: a thread that loses its CPU for the preempt timer's millisecond just
//! then would sleep for ever. So whoever waits for columns to start rouses those that have not begun: a signal makes the
//! wait in the kernel return, and the executor looks again.

use super::pulse::Pulse;
use glommio::{CpuSet, LocalExecutorBuilder, Placement, PoolPlacement};
use std::future::Future;
use std::os::unix::thread::JoinHandleExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};
use std::thread::JoinHandle;
use std::time::Duration;

/// glommio's own rings only carry the wake-up read and its timers.
const GLOMMIO_RING_DEPTH: usize = 128;
/// So that the disk reads one extent while the one before is verified; both run on the column's CPU.
const BLOCKING_THREADS: usize = 2;
/// A task that only yields starves timers until the preempt timer fires: keep it short.
pub(super) const PREEMPT: Duration = Duration::from_millis(1);
/// Nothing else uses it, and whoever sends it by mistake does no harm: by default it is ignored.
pub(super) const ROUSE: libc::c_int = libc::SIGURG;

/// A running column, from outside.
pub(super) struct Thread {
    handle: JoinHandle<()>,
    begun: Arc<AtomicBool>,
}

impl Thread {
    /// Runs what `main` makes on a new thread on `cpu`, which lets its tasks run for `preempt` between two looks for events.
    /// `failed` is told when there can be no executor.
    pub(super) fn start<F: Future<Output = ()> + 'static>(
        name: &str,
        cpu: usize,
        (preempt, pulse): (Duration, Arc<Pulse>),
        main: impl FnOnce() -> F + Send + 'static,
        failed: impl FnOnce(String) + Send + 'static,
    ) -> Result<Thread, String> {
        handle_rouse();
        let cpus = CpuSet::online().map_err(|e| format!("the CPUs that are online: {e}"))?;
        let cpus = cpus.filter(|location| location.cpu == cpu);
        let builder = LocalExecutorBuilder::new(Placement::Fixed(cpu))
            .blocking_thread_pool_placement(PoolPlacement::Custom(vec![cpus; BLOCKING_THREADS]))
            .preempt_timer(preempt)
            // glommio's own buffers are not used; this is the least it takes, and memlock limits do not matter then.
            .io_memory(64 << 10)
            .ring_depth(GLOMMIO_RING_DEPTH);
        let begun = Arc::new(AtomicBool::new(false));
        let begins = begun.clone();
        let run = move || {
            let _alive = pulse.begin();
            match builder.make() {
                Ok(executor) => executor.run(async move {
                    begins.store(true, Ordering::Release);
                    main().await;
                }),
                Err(e) => {
                    begins.store(true, Ordering::Release);
                    failed(e.to_string());
                }
            }
        };
        let handle = std::thread::Builder::new().name(name.into()).spawn(run).map_err(|e| e.to_string())?;
        Ok(Thread { handle, begun })
    }

    /// Wakes the executor if its first task has not run; to be called again and again while it has not.
    pub(super) fn rouse(&self) {
        if self.begun.load(Ordering::Acquire) {
            return;
        }
        // SAFETY: the thread has not been joined, since its handle is here, so its pthread_t is valid even if it has ended.
        // The signal has a handler, set before the thread was made.
        let failed = unsafe { libc::pthread_kill(self.handle.as_pthread_t(), ROUSE) };
        assert!(failed == 0 || failed == libc::ESRCH, "signalling a column: errno {failed}");
    }

    /// Waits for its end.
    pub(super) fn join(self) {
        // A panic has been printed by the thread itself.
        let _ = self.handle.join();
    }
}

extern "C" fn interrupt_only(_: libc::c_int) {}

/// An ignored signal would interrupt nothing, and so would one whose calls are restarted.
fn handle_rouse() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: all zeros is a valid sigaction (no flags, an empty mask); the handler does nothing, so it is
        // async-signal-safe; the old action is not asked for.
        let failed = unsafe {
            let mut action = std::mem::zeroed::<libc::sigaction>();
            action.sa_sigaction = interrupt_only as extern "C" fn(libc::c_int) as usize;
            libc::sigaction(ROUSE, &action, std::ptr::null_mut())
        };
        assert_eq!(failed, 0, "SIGURG can be handled");
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::time::Instant;

    const STARTS: usize = 5;
    const PATIENCE: Duration = Duration::from_secs(60);

    /// Starts a thread whose executor looks for tasks with `preempt` on its timer; returns how often it had to be roused.
    fn signals_to_start(preempt: Duration) -> usize {
        let (begin, mut signals) = (Instant::now(), 0);
        let (done, ended) = channel();
        let main = move || async move { done.send(()).expect("the test waits") };
        let pulse = Arc::new(Pulse::default());
        let thread = Thread::start("test", 0, (preempt, pulse), main, |e| panic!("{e}")).expect("starts");
        while let Err(e) = ended.recv_timeout(Duration::from_millis(5)) {
            assert_eq!(e, RecvTimeoutError::Timeout, "with {preempt:?}");
            assert!(begin.elapsed() < PATIENCE, "asleep after {signals} signals, with {preempt:?}");
            signals += 1;
            thread.rouse();
        }
        thread.join();
        signals
    }

    /// A timer that is over before the first look, as if the thread had lost its CPU. How short that is depends on the
    /// machine: it is made shorter until it hits.
    #[test]
    fn a_thread_that_sleeps_before_its_first_task_is_roused() {
        let timers = (1..=60).rev().map(Duration::from_micros);
        let hit = timers.flat_map(|preempt| [preempt; STARTS]).find(|&preempt| signals_to_start(preempt) > 0);
        assert!(hit.is_some(), "no executor fell asleep: the cure is not needed any more, or not tested");
    }

    /// A task that only yields, for a while; how often its column had to be roused until that was over.
    fn signals_to_yield(preempt: Duration) -> u64 {
        let pulse = Arc::new(Pulse::default());
        super::super::pulse::watch(std::slice::from_ref(&pulse), Duration::from_millis(5)).expect("a thread");
        let (beating, begin) = (pulse.clone(), Instant::now());
        let (done, ended) = channel();
        let main = move || async move {
            while begin.elapsed() < Duration::from_millis(100) {
                beating.beat();
                glommio::executor().yield_now().await;
            }
            done.send(()).expect("the test waits");
        };
        let thread = Thread::start("test", 0, (preempt, pulse.clone()), main, |e| panic!("{e}"));
        let thread = thread.expect("starts");
        assert!(
            ended.recv_timeout(PATIENCE).is_ok(),
            "asleep after {} signals, with {preempt:?}",
            pulse.roused()
        );
        thread.join();
        pulse.roused()
    }

    /// As above: the timer is made shorter until the column falls asleep with work to do, which without a signal has no end.
    #[test]
    fn a_column_that_falls_asleep_with_work_to_do_is_roused() {
        let timers = (1..=60).rev().map(Duration::from_micros);
        assert!(timers.into_iter().any(|preempt| signals_to_yield(preempt) > 0), "no executor fell asleep");
    }
}
