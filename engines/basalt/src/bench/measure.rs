//! When measuring begins and ends, and what is recorded meanwhile.
//!
//! The main thread keeps the time ([`Pace::keep`]); loads on any thread look at the phase once per operation and hand each
//! latency to a [`Recorder`], which drops those outside the measured time.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::error::Error;

/// Two digits: 1 % of a latency, in a table small enough for the second-level cache.
const DIGITS: u8 = 2;
const LATENCY_NS_MAX: u64 = 600_000_000_000;

/// Before it, the phase is 0: warming up.
const MEASURING: u8 = 1;
const DONE: u8 = 2;

/// Where in the run we are; shared by all threads of a load.
#[derive(Clone, Debug, Default)]
pub struct Phase(Arc<AtomicU8>);

impl Phase {
    /// Latencies count.
    #[inline]
    pub fn is_measuring(&self) -> bool {
        self.0.load(Ordering::Relaxed) == MEASURING
    }

    /// Start nothing more.
    #[inline]
    pub fn is_done(&self) -> bool {
        self.0.load(Ordering::Relaxed) == DONE
    }

    /// A run of which all is measured.
    pub fn all() -> Self {
        Self(Arc::new(AtomicU8::new(MEASURING)))
    }

    /// Ends the run, wherever it is.
    pub fn end(&self) {
        self.0.store(DONE, Ordering::Relaxed);
    }
}

/// The measured time, and the CPU time that this process spent in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Window {
    /// Wall time.
    pub seconds: f64,
    /// User and system time of all threads.
    pub cpu_seconds: f64,
    /// That of the server, if it is one of our own.
    pub server_cpu_seconds: Option<f64>,
}

impl Window {
    /// Takes in another one: together they measured the same load.
    pub fn add(&mut self, other: Self) {
        self.seconds += other.seconds;
        self.cpu_seconds += other.cpu_seconds;
        self.server_cpu_seconds = self.server_cpu_seconds.zip(other.server_cpu_seconds).map(|(a, b)| a + b);
    }

    /// Measures `run` from its beginning to its end: a load that asks each of its questions once.
    pub fn around<T>(run: impl FnOnce() -> T) -> (Window, T) {
        let (begin, cpu) = (Instant::now(), cpu_seconds());
        let outcome = run();
        let (seconds, cpu_seconds) = (begin.elapsed().as_secs_f64(), cpu_seconds() - cpu);
        (Window { seconds, cpu_seconds, server_cpu_seconds: None }, outcome)
    }
}

/// How long to warm up and to measure.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    measure: Duration,
    /// The process whose CPU time is measured too.
    server: Option<u32>,
}

impl Pace {
    /// Measures for `seconds`, after a tenth of it.
    pub fn new(seconds: u64) -> Self {
        Self { measure: Duration::from_secs(seconds), server: None }
    }

    /// Measures the CPU time of that process too.
    pub fn watching(self, server: u32) -> Self {
        Self { server: Some(server), ..self }
    }

    /// The time before measuring begins.
    pub fn warm_up(self) -> Duration {
        self.measure / 10
    }

    /// Moves `phase` on in time. `wait` sleeps that long, or fails when the load has failed.
    pub fn keep(
        self,
        phase: &Phase,
        mut wait: impl FnMut(Duration) -> Result<(), Error>,
    ) -> Result<Window, Error> {
        let warm = wait(self.warm_up());
        let of_server = || self.server.map_or(0.0, |server| process_cpu_seconds(&server.to_string()));
        let (begin, cpu, server_cpu) = (Instant::now(), cpu_seconds(), of_server());
        phase.0.store(MEASURING, Ordering::Relaxed);
        let measured = warm.and_then(|()| wait(self.measure));
        phase.end();
        let (seconds, cpu_seconds) = (begin.elapsed().as_secs_f64(), cpu_seconds() - cpu);
        let server_cpu_seconds = self.server.map(|_| of_server() - server_cpu);
        let window = Window { seconds, cpu_seconds, server_cpu_seconds };
        measured.map(|()| window)
    }
}

/// Latencies and bytes of operations, as one thread saw them.
#[derive(Clone, Debug)]
pub struct Recorder {
    phase: Phase,
    latency: Histogram<u64>,
    first_byte: Histogram<u64>,
    bytes: u64,
}

impl Recorder {
    /// Records while `phase` is measuring.
    pub fn new(phase: Phase) -> Self {
        let latency = Histogram::new_with_bounds(1, LATENCY_NS_MAX, DIGITS)
            .expect("constant bounds that a histogram has");
        Self { phase, first_byte: latency.clone(), latency, bytes: 0 }
    }

    /// One operation ended.
    #[inline]
    pub fn record(&mut self, latency_ns: u64, bytes: u64) {
        if self.phase.is_measuring() {
            self.latency.saturating_record(latency_ns.max(1));
            self.bytes += bytes;
        }
    }

    /// The first bytes of an answer came.
    #[inline]
    pub fn record_first_byte(&mut self, since_ns: u64) {
        if self.phase.is_measuring() {
            self.first_byte.saturating_record(since_ns.max(1));
        }
    }

    /// Takes in what another thread recorded.
    pub fn add(&mut self, other: &Self) {
        // Same bounds: cannot fail.
        let _ = self.latency.add(&other.latency);
        let _ = self.first_byte.add(&other.first_byte);
        self.bytes += other.bytes;
    }

    /// Nanoseconds by quantile, and how many operations there were.
    pub fn latency(&self) -> &Histogram<u64> {
        &self.latency
    }

    /// Nanoseconds to the first byte by quantile, where a load sees it.
    pub fn first_byte(&self) -> &Histogram<u64> {
        &self.first_byte
    }

    /// Bytes moved.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// User and system time of this process so far. Threads that have ended count.
fn cpu_seconds() -> f64 {
    process_cpu_seconds("self")
}

/// That of any process by its number; 0 when it is gone.
fn process_cpu_seconds(process: &str) -> f64 {
    let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
    fs::read_to_string(format!("/proc/{process}/stat"))
        .ok()
        .and_then(|stat| parse_cpu_ticks(&stat))
        .map_or(0.0, |ticks| ticks as f64 / ticks_per_second)
}

/// Fields 14 and 15, counted after the command, which may hold anything.
fn parse_cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_measured_time_counts() {
        let phase = Phase::default();
        let mut recorder = Recorder::new(phase.clone());
        recorder.record(10, 1);
        let window = Pace::new(1).keep(&phase.clone(), |time| {
            recorder.record(1000, 4096);
            std::thread::sleep(time / 50);
            Ok(())
        });
        recorder.record(10, 1);
        assert!(window.is_ok_and(|w| w.seconds >= 0.02) && phase.is_done());
        assert_eq!((recorder.latency().len(), recorder.bytes()), (1, 4096));
    }

    #[test]
    fn a_load_that_fails_ends_the_run() {
        let phase = Phase::default();
        let kept = Pace::new(1).keep(&phase, |_| Err(Error::runtime("broken")));
        assert!(kept.is_err() && phase.is_done());
    }

    #[test]
    fn cpu_time_is_found_behind_any_command() {
        let stat = "7 (a) b) c) R 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20";
        assert_eq!(parse_cpu_ticks(stat), Some(300));
        assert_eq!(parse_cpu_ticks("7 (x"), None);
        assert!(cpu_seconds() >= 0.0);
    }
}
