//! Pinning, and who used how much CPU. Times are seconds.
//!
//! On a kernel without `CONFIG_IRQ_TIME_ACCOUNTING` a process's own time already holds the softirq work that ran in its
//! context, and `/proc/stat` counts that work a second time by ticks. The three figures (process, softirq, busy) are
//! therefore reported apart; a sum says that it is one.

use std::fs;

use crate::{Result, check};

/// Pins the calling thread to `core`.
pub fn pin(core: usize) -> Result<()> {
    // SAFETY: a zeroed cpu_set_t is a valid empty set, and the kernel only reads it.
    let returned = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    check(&format!("pin to core {core}"), i64::from(returned)).map(|_| ())
}

fn ticks_per_second() -> f64 {
    // SAFETY: sysconf only reads a constant.
    (unsafe { libc::sysconf(libc::_SC_CLK_TCK) }) as f64
}

/// User plus system time of the calling process.
#[must_use]
pub fn own_seconds() -> f64 {
    // SAFETY: getrusage fills the struct it is given.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let micros = usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
    (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) as f64 + micros as f64 * 1e-6
}

/// User plus system time of `pid` with all its threads and of its living children, each to 10 ms.
pub fn process_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).map_err(|e| format!("process {pid}: {e}"))?;
    let after_name = stat.rfind(')').ok_or("no name in /proc/PID/stat")?;
    let fields: Vec<&str> = stat[after_name + 1..].split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok()).ok_or("short /proc/PID/stat");
    let mut seconds = (ticks(11)? + ticks(12)?) / ticks_per_second();
    for child in children(pid) {
        seconds += process_seconds(child).unwrap_or(0.0);
    }
    Ok(seconds)
}

fn children(pid: u32) -> Vec<u32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok())
        .flat_map(|list| list.split_whitespace().filter_map(|p| p.parse().ok()).collect::<Vec<u32>>())
        .collect()
}

/// What one core did since boot.
#[derive(Clone, Copy, Debug, Default)]
pub struct CoreSeconds {
    /// Time in user mode, nice included.
    pub user: f64,
    /// Time in the kernel for a process.
    pub system: f64,
    /// Hard interrupts.
    pub irq: f64,
    /// Soft interrupts, by tick.
    pub softirq: f64,
    /// Taken by the hypervisor.
    pub steal: f64,
    /// Idle, waiting for I/O included.
    pub idle: f64,
}

impl CoreSeconds {
    /// Reads the line of `core` from `/proc/stat`.
    pub fn read(core: usize) -> Result<Self> {
        let stat = fs::read_to_string("/proc/stat")?;
        let name = format!("cpu{core} ");
        let line =
            stat.lines().find(|line| line.starts_with(&name)).ok_or_else(|| format!("no core {core}"))?;
        let hz = ticks_per_second();
        let t: Vec<f64> =
            line.split_whitespace().skip(1).map(|f| f.parse::<f64>().unwrap_or(0.0) / hz).collect();
        if t.len() < 8 {
            return Err("short /proc/stat".into());
        }
        Ok(Self { user: t[0] + t[1], system: t[2], idle: t[3] + t[4], irq: t[5], softirq: t[6], steal: t[7] })
    }

    /// What the core did since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            user: self.user - earlier.user,
            system: self.system - earlier.system,
            irq: self.irq - earlier.irq,
            softirq: self.softirq - earlier.softirq,
            steal: self.steal - earlier.steal,
            idle: self.idle - earlier.idle,
        }
    }

    /// Everything that was not idle, whoever did it.
    #[must_use]
    pub fn busy(&self) -> f64 {
        self.user + self.system + self.irq + self.softirq
    }
}
