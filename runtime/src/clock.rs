//! Monotonic and wall clock of a column. Called by everything that measures; units in the names.

use quanta::{Clock as Tsc, Instant};
use std::time::{SystemTime, UNIX_EPOCH};

/// A cheap monotonic clock (time-stamp counter, calibrated once per process).
#[derive(Clone)]
pub struct Clock {
    tsc: Tsc,
    start: Instant,
}

impl Clock {
    /// Calibrates; takes some milliseconds the first time in a process.
    pub fn new() -> Clock {
        let tsc = Tsc::new();
        let start = tsc.now();
        Clock { tsc, start }
    }

    /// Nanoseconds since this clock was made.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        self.tsc.now().duration_since(self.start).as_nanos() as u64
    }

    /// Milliseconds since the Unix epoch.
    pub fn unix_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        since.as_millis() as u64
    }
}

impl Default for Clock {
    fn default() -> Self {
        Clock::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_and_near_wall_time() {
        let c = Clock::new();
        let (a, wall) = (c.now_ns(), std::time::Instant::now());
        std::thread::sleep(std::time::Duration::from_millis(20));
        let (tsc, std) = (c.now_ns() - a, wall.elapsed().as_nanos() as u64);
        assert!(tsc.abs_diff(std) < 2_000_000, "clock drifts: {tsc} ns against {std} ns");
    }
}
