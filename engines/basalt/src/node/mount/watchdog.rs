//! A thread that ends the mounts of a node whose columns have stopped: a reader of a mount that nobody serves cannot even be
//! killed.
//!
//! Called by `node::mount`. Requests have deadlines of their own (`blobcache::mount::DEADLINE_NS`), kept by the columns; this is
//! for when a column itself does not run any more. The kernel's own timeout, where it has one, comes later.

use crate::error::Error;
use fuse_lowlevel::mount::Mounted;
use runtime::column::Column;
use runtime::io::Io;
use runtime::ring::RingIo;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A column beats so often.
const BEAT_NS: u64 = 1_000_000_000;
/// One that has not for so long is taken for dead.
const SILENCE_MAX: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_secs(1);

/// Counts that columns move while they run.
pub(super) struct Pulse {
    beats: Vec<AtomicU64>,
}

impl Pulse {
    pub(super) fn new(columns: usize) -> Pulse {
        Pulse { beats: (0..columns).map(|_| AtomicU64::new(0)).collect() }
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

/// When each column was last seen to live.
struct Watch {
    seen: Vec<(u64, Instant)>,
}

impl Watch {
    fn new(counts: Vec<u64>, now: Instant) -> Watch {
        Watch { seen: counts.into_iter().map(|count| (count, now)).collect() }
    }

    /// A column that has been silent for too long.
    fn look(&mut self, counts: &[u64], now: Instant) -> Option<usize> {
        for (seen, &count) in self.seen.iter_mut().zip(counts) {
            if seen.0 != count {
                *seen = (count, now);
            }
        }
        self.seen.iter().position(|&(_, at)| now.duration_since(at) >= SILENCE_MAX)
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
            while !over.load(Ordering::Acquire) {
                std::thread::sleep(LOOK);
                if let Some(column) = watch.look(&pulse.counts(), Instant::now()) {
                    abort(column, &mounted);
                    return;
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

fn abort(column: usize, mounted: &[Arc<Mutex<Mounted>>]) {
    for mounted in mounted {
        let mounted = &mut *mounted.lock().expect("nobody panics with it");
        let directory = mounted.directory().display().to_string();
        tracing::error!(
            column,
            directory,
            "a column has stopped: the mount is ended, its readers get errors"
        );
        if let Err(error) = mounted.abort().and_then(|()| mounted.unmount()) {
            tracing::error!(directory, %error, "the mount could not be ended");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_silence_of_a_minute_counts() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut watch = Watch::new(vec![0, 0], start);
        assert_eq!(watch.look(&[1, 1], after(30)), None);
        assert_eq!(watch.look(&[2, 1], after(89)), None);
        assert_eq!(watch.look(&[3, 1], after(91)), Some(1), "silent since 30");
    }
}
