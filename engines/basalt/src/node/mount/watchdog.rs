//! A thread that ends the mounts, and then the node, when a column does not run any more: a reader of a mount that nobody serves
//! cannot even be killed. It also ends the one connection that a column cannot serve any more, and the node goes on.
//!
//! Called by `node::mount`. Requests have deadlines of their own (`blobcache::mount::DEADLINE_NS`), kept by the columns; this is
//! for when a column itself stands still. The kernel's own timeout, where it has one, comes later.
//!
//! The mounts are ended first, as a thread that sleeps in the kernel keeps the process, and with it the devices. Then the node
//! ends without a drain: a column that stands cannot drain, a request that waits in the ring of its thread goes only with that
//! thread, and who is not root may have no other way to end a mount. Whoever started the node starts it anew, mounts and all.
//! What was acknowledged is on disk.

use crate::error::Error;
use blobcache::mount::ask::CONNECTIONS_MAX;
use fuse_lowlevel::mount::Mounted;
use runtime::column::Column;
use runtime::io::Io;
use runtime::ring::RingIo;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A column beats so often.
const BEAT_NS: u64 = 1_000_000_000;
/// One that has not for so long is taken for dead.
const SILENCE_MAX: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_secs(1);
/// What counts of the time between two looks. A process that was stopped, or a machine that slept, was silent as a whole.
const LOOK_MAX: Duration = Duration::from_secs(5);

/// Counts that columns move while they run, and the connections that they cannot serve any more.
pub(super) struct Pulse {
    beats: Vec<AtomicU64>,
    lost: [AtomicBool; CONNECTIONS_MAX],
}

impl Pulse {
    pub(super) fn new(columns: usize) -> Pulse {
        Pulse { beats: (0..columns).map(|_| AtomicU64::new(0)).collect(), lost: Default::default() }
    }

    /// The connection is to be ended: part of its requests are heard by nobody.
    pub(super) fn lose(&self, connection: usize, error: &io::Error) {
        if !self.lost[connection].swap(true, Ordering::AcqRel) {
            tracing::error!(connection, %error, "a mount cannot be served any more: its readers get errors");
        }
    }

    /// Beats from now on, on this column.
    pub(super) fn beat_on(self: &Arc<Pulse>, column: &Column<RingIo>) {
        let (pulse, me) = (self.clone(), column.clone());
        column.io.spawn("mount-pulse", async move {
            // A drain is shorter than the silence that counts.
            while !me.is_stopping() {
                pulse.beats[me.index].fetch_add(1, Ordering::Relaxed);
                me.io.sleep(BEAT_NS).await;
            }
        });
    }

    fn counts(&self) -> Vec<u64> {
        self.beats.iter().map(|beat| beat.load(Ordering::Relaxed)).collect()
    }
}

/// For how long each column was silent.
struct Watch {
    columns: Vec<(u64, Duration)>,
    looked: Instant,
}

impl Watch {
    fn new(counts: Vec<u64>, now: Instant) -> Watch {
        Watch { columns: counts.into_iter().map(|count| (count, Duration::ZERO)).collect(), looked: now }
    }

    /// A column that has been silent for too long.
    fn look(&mut self, counts: &[u64], now: Instant) -> Option<usize> {
        let passed = now.duration_since(self.looked).min(LOOK_MAX);
        self.looked = now;
        for ((known, silent), &count) in self.columns.iter_mut().zip(counts) {
            *silent = if *known == count { *silent + passed } else { Duration::ZERO };
            *known = count;
        }
        self.columns.iter().position(|&(_, silent)| silent >= SILENCE_MAX)
    }
}

/// The thread. Dropping it ends it within a second.
pub(super) struct Watchdog {
    is_over: Arc<AtomicBool>,
}

impl Watchdog {
    pub(super) fn start(pulse: Arc<Pulse>, mounted: Vec<Arc<Mutex<Mounted>>>) -> Result<Watchdog, Error> {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        let watch = move || {
            let mut watch = Watch::new(pulse.counts(), Instant::now());
            let mut aborted = [false; CONNECTIONS_MAX];
            while !over.load(Ordering::Acquire) {
                std::thread::sleep(LOOK);
                for (number, mounted) in mounted.iter().enumerate() {
                    let is_lost = pulse.lost[number].load(Ordering::Acquire);
                    if is_lost && !std::mem::replace(&mut aborted[number], true) {
                        abort(&mounted.lock().expect("nobody panics with it"));
                    }
                }
                if let Some(column) = watch.look(&pulse.counts(), Instant::now()) {
                    end(column, &mounted);
                }
            }
        };
        std::thread::Builder::new()
            .name("mount-watchdog".into())
            .spawn(watch)
            .map_err(|e| Error::runtime("no thread for the mounts' watchdog").why(e))?;
        Ok(Watchdog { is_over })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
    }
}

/// Ends a connection, which stays mounted: a directory that is empty of a sudden would tell its readers worse.
fn abort(mounted: &Mounted) {
    if let Err(error) = mounted.abort() {
        tracing::warn!(directory = %mounted.directory().display(), %error, "not aborted");
    }
}

/// Ends the mounts and the node.
fn end(column: usize, mounted: &[Arc<Mutex<Mounted>>]) -> ! {
    tracing::error!(
        column,
        silent_s = SILENCE_MAX.as_secs(),
        "a column does not run any more: the mounts are ended, their readers get errors, and the node ends"
    );
    for mounted in mounted {
        let mounted = &mut *mounted.lock().expect("nobody panics with it");
        // Each in its own right: who may not abort may still unmount.
        abort(mounted);
        if let Err(error) = mounted.unmount() {
            tracing::warn!(directory = %mounted.directory().display(), %error, "not unmounted");
        }
    }
    std::process::exit(i32::from(Error::runtime("a column does not run any more").exit_code()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_silence_of_a_minute_counts() {
        let mut now = Instant::now();
        let mut watch = Watch::new(vec![0, 0], now);
        for second in 1..60 {
            now += LOOK;
            assert_eq!(watch.look(&[second, 0], now), None, "second {second}");
        }
        now += LOOK;
        assert_eq!(watch.look(&[60, 1], now), None, "it beats again");
        for second in 1..60 {
            now += LOOK;
            assert_eq!(watch.look(&[60 + second, 1], now), None, "second {second}");
        }
        assert_eq!(watch.look(&[120, 1], now + LOOK), Some(1));
    }

    #[test]
    fn a_process_that_was_stopped_is_given_time_to_beat() {
        let begin = Instant::now();
        let mut watch = Watch::new(vec![7], begin);
        assert_eq!(watch.look(&[7], begin + Duration::from_secs(3600)), None);
        assert_eq!(watch.look(&[8], begin + Duration::from_secs(3601)), None);
    }
}
