//! What this thread has had of its CPU (getrusage(2), about 0.25 µs a look), and how long it waited for one (proc(5), `schedstat`,
//! about 1 µs).

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};

/// Totals since the thread began.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// User and system time, without what a hypervisor took away.
    pub(crate) cpu_ns: u64,
    /// How often it slept of itself: a call that waited.
    pub(crate) slept_total: u64,
    /// How often it was made to give its CPU to another.
    pub(crate) given_up_total: u64,
}

impl Usage {
    pub(crate) fn now() -> Usage {
        // SAFETY: all zeros is a valid rusage, and getrusage writes nothing but the one it is given.
        let (failed, usage) = unsafe {
            let mut usage = std::mem::zeroed::<libc::rusage>();
            (libc::getrusage(libc::RUSAGE_THREAD, &mut usage), usage)
        };
        assert_eq!(failed, 0, "a thread may ask for its own usage");
        Usage {
            cpu_ns: ns(usage.ru_utime) + ns(usage.ru_stime),
            slept_total: usage.ru_nvcsw as u64,
            given_up_total: usage.ru_nivcsw as u64,
        }
    }
}

fn ns(time: libc::timeval) -> u64 {
    time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1_000
}

/// How long a thread was runnable and had no CPU.
pub(crate) struct Waited {
    schedstat: Option<OwnedFd>,
}

impl Waited {
    /// Of the calling thread. A kernel that does not count it says 0.
    pub(crate) fn of_this_thread() -> Waited {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        Waited { schedstat: rustix::fs::open("/proc/thread-self/schedstat", flags, Mode::empty()).ok() }
    }

    /// Nanoseconds in all: the second of three numbers.
    pub(crate) fn total_ns(&self) -> u64 {
        let Some(file) = &self.schedstat else { return 0 };
        let mut text = [0; 80];
        let Ok(len) = rustix::io::pread(file, &mut text, 0) else { return 0 };
        let text = std::str::from_utf8(&text[..len]).unwrap_or_default();
        text.split(' ').nth(1).and_then(|waited| waited.parse().ok()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn work_is_cpu_time_and_sleep_is_counted() {
        let before = Usage::now();
        std::thread::sleep(Duration::from_millis(20));
        let slept = Usage::now();
        assert!(slept.slept_total > before.slept_total);
        assert!(slept.cpu_ns - before.cpu_ns < 10_000_000, "sleep is no work");
        let begin = Instant::now();
        // However often it has to give its CPU to another.
        while Usage::now().cpu_ns - slept.cpu_ns < 20_000_000 {
            assert!(begin.elapsed() < Duration::from_secs(60), "work is counted");
        }
        assert!(begin.elapsed() >= Duration::from_millis(20));
    }
}
