//! Signs of life of a column, and a thread that rouses one that shows none.
//!
//! glommio 0.9 may park with runnable tasks (`ring/driver.rs` says why). The driver's timers end such a sleep, unless all of them
//! ran out together while the thread had no CPU: with thousands of busy threads beside it that can take seconds, and the sleep
//! that follows has no end. A driver beats in every turn, at least ten times a second when it rests; one that has not for a
//! [`PERIOD`] gets a signal, which makes the wait in the kernel return, and the executor looks again. Who merely works for so
//! long, or waits for its CPU, is not harmed: what a signal may interrupt is tried again.
//!
//! Invariant: a thread is signalled only while it is alive: it says that it ends under the same lock.

use super::thread::ROUSE;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

/// Without a beat for so long a column is roused.
pub(super) const PERIOD: Duration = Duration::from_secs(1);

/// One column's.
#[derive(Default)]
pub(crate) struct Pulse {
    beats: AtomicU64,
    roused_total: AtomicU64,
    /// The thread, while it is alive.
    thread: Mutex<Option<libc::pthread_t>>,
}

/// The calling thread is alive until this is dropped.
pub(super) struct Alive(Arc<Pulse>);

impl Pulse {
    /// Another turn of the driver.
    #[inline]
    pub(crate) fn beat(&self) {
        // Only its own thread writes it.
        self.beats.store(self.beats.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Says that the calling thread is the one to rouse.
    pub(super) fn begin(self: &Arc<Pulse>) -> Alive {
        // SAFETY: it has no preconditions.
        let me = unsafe { libc::pthread_self() };
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(me);
        Alive(self.clone())
    }

    /// How often it was signalled.
    #[cfg(test)]
    pub(super) fn roused(&self) -> u64 {
        self.roused_total.load(Ordering::Relaxed)
    }

    /// Signals the thread, if it is alive.
    fn rouse(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = *thread {
            self.roused_total.fetch_add(1, Ordering::Relaxed);
            // SAFETY: the thread is alive: it takes this lock before it ends. The signal has a handler, set before the thread was made.
            let failed = unsafe { libc::pthread_kill(thread, ROUSE) };
            assert!(failed == 0 || failed == libc::ESRCH, "signalling a column: errno {failed}");
        }
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        *self.0.thread.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Starts the thread that watches `pulses`, as long as one of them is there.
pub(super) fn watch(pulses: &[Arc<Pulse>], period: Duration) -> std::io::Result<()> {
    let mut watched: Vec<(Weak<Pulse>, u64)> =
        pulses.iter().map(|pulse| (Arc::downgrade(pulse), u64::MAX)).collect();
    let watching = move || {
        while !watched.is_empty() {
            thread::sleep(period);
            watched.retain_mut(|(pulse, seen)| {
                let Some(pulse) = pulse.upgrade() else { return false };
                let beats = pulse.beats.load(Ordering::Relaxed);
                if beats == *seen {
                    pulse.rouse();
                }
                *seen = beats;
                true
            });
        }
    };
    thread::Builder::new().name("pulse".into()).stack_size(64 << 10).spawn(watching).map(drop)
}
