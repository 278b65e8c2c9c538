//! The standard `process_*` metrics, named as Prometheus' own client libraries name them.
//!
//! Caller: the ops listener, once per scrape, beside [`render`](super::render). Reads procfs: some tens of
//! microseconds, but the kernel may walk the descriptor table, so it runs on the blocking pool.
//! Units: as in the names; CPU time is user plus system over all threads.

use std::{fmt::Display, fmt::Write as _, fs, io};

use rustix::{
    param::{clock_ticks_per_second, page_size},
    process::{Resource, getrlimit},
};

use super::text::write_head;

/// This process at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProcessStats {
    /// User and system time of all threads.
    pub cpu_seconds: f64,
    /// Pages in RAM.
    pub resident_memory_bytes: u64,
    /// Mapped addresses.
    pub virtual_memory_bytes: u64,
    /// RLIMIT_AS; `None` when unlimited.
    pub virtual_memory_max_bytes: Option<u64>,
    /// Descriptors in use.
    pub open_fds: u64,
    /// RLIMIT_NOFILE, soft; `None` when unlimited.
    pub max_fds: Option<u64>,
    /// Since the Unix epoch.
    pub start_time_seconds: f64,
}

impl ProcessStats {
    /// Asks the kernel. Blocks on procfs.
    pub fn read() -> io::Result<ProcessStats> {
        let ticks_per_second = clock_ticks_per_second() as f64;
        let stat = parse_stat(&fs::read_to_string("/proc/self/stat")?)?;
        let boot_seconds = parse_boot_time(&fs::read_to_string("/proc/stat")?)?;
        Ok(ProcessStats {
            cpu_seconds: stat.cpu_ticks as f64 / ticks_per_second,
            resident_memory_bytes: stat.resident_pages * page_size() as u64,
            virtual_memory_bytes: stat.virtual_bytes,
            virtual_memory_max_bytes: getrlimit(Resource::As).current,
            open_fds: open_fds()?,
            max_fds: getrlimit(Resource::Nofile).current,
            start_time_seconds: boot_seconds as f64 + stat.start_ticks as f64 / ticks_per_second,
        })
    }

    /// Appends the families to `out`, which holds whole families of other names.
    pub fn render(&self, out: &mut String) {
        let unlimited = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
        write_one(
            out,
            ("process_cpu_seconds_total", "counter"),
            "Total user and system CPU time spent in seconds.",
            self.cpu_seconds,
        );
        write_one(
            out,
            ("process_max_fds", "gauge"),
            "Maximum number of open file descriptors.",
            unlimited(self.max_fds),
        );
        write_one(out, ("process_open_fds", "gauge"), "Number of open file descriptors.", self.open_fds);
        write_one(
            out,
            ("process_resident_memory_bytes", "gauge"),
            "Resident memory size in bytes.",
            self.resident_memory_bytes,
        );
        write_one(
            out,
            ("process_start_time_seconds", "gauge"),
            "Start time of the process since unix epoch in seconds.",
            self.start_time_seconds,
        );
        write_one(
            out,
            ("process_virtual_memory_bytes", "gauge"),
            "Virtual memory size in bytes.",
            self.virtual_memory_bytes,
        );
        write_one(
            out,
            ("process_virtual_memory_max_bytes", "gauge"),
            "Maximum amount of virtual memory available in bytes.",
            unlimited(self.virtual_memory_max_bytes),
        );
    }
}

/// A family of one sample without labels.
fn write_one(out: &mut String, (name, kind): (&str, &str), help: &str, value: impl Display) {
    assert!(name.starts_with("process_"));
    assert_eq!(name.ends_with("_total"), kind == "counter");
    write_head(out, name, help, kind);
    writeln!(out, "{name} {value}").expect("a String takes all");
}

struct Stat {
    cpu_ticks: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

/// /proc/self/stat: numbers by position (proc_pid_stat(5), counted from 1), after a name that may hold anything.
fn parse_stat(text: &str) -> io::Result<Stat> {
    const FIRST_AFTER_NAME: usize = 3;
    let (_, after_name) =
        text.rsplit_once(')').ok_or_else(|| malformed("/proc/self/stat", "no process name"))?;
    let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
    let field = |number: usize| {
        let value = fields.get(number - FIRST_AFTER_NAME).and_then(|v| v.parse::<u64>().ok());
        value.ok_or_else(|| malformed("/proc/self/stat", &format!("field {number}")))
    };
    Ok(Stat {
        cpu_ticks: field(14)? + field(15)?,
        start_ticks: field(22)?,
        virtual_bytes: field(23)?,
        resident_pages: field(24)?,
    })
}

/// /proc/stat: the line `btime SECONDS`.
fn parse_boot_time(text: &str) -> io::Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("btime "));
    line.and_then(|seconds| seconds.trim().parse().ok()).ok_or_else(|| malformed("/proc/stat", "no btime"))
}

/// The folder's size is the number of descriptors since Linux 6.2, and 0 before.
fn open_fds() -> io::Result<u64> {
    const FOLDER: &str = "/proc/self/fd";
    let size = fs::metadata(FOLDER)?.len();
    if size > 0 {
        return Ok(size);
    }
    // One of the entries is the descriptor of the listing itself.
    Ok((fs::read_dir(FOLDER)?.count() as u64).saturating_sub(1))
}

fn malformed(path: &str, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{path}: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_plausible() {
        let stats = ProcessStats::read().expect("procfs is mounted");
        assert!(stats.resident_memory_bytes > 100_000);
        assert!(stats.virtual_memory_bytes >= stats.resident_memory_bytes);
        assert!((3..100_000).contains(&stats.open_fds));
        assert!(stats.start_time_seconds > 1.6e9);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        assert!(stats.start_time_seconds < now.expect("after 1970").as_secs_f64() + 2.0);
    }

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let text =
            "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 11 22 0 0 20 0 1 0 4242 1048576 64 1844674407 1";
        let stat = parse_stat(text).expect("well-formed");
        assert_eq!((stat.cpu_ticks, stat.start_ticks), (33, 4242));
        assert_eq!((stat.virtual_bytes, stat.resident_pages), (1_048_576, 64));
        assert!(parse_stat("7 (a) S 1").is_err());
        assert!(parse_stat("").is_err());
    }

    #[test]
    fn boot_time_is_found() {
        assert_eq!(parse_boot_time("cpu 1 2\nbtime 1700000000\nx 1\n").expect("there"), 1_700_000_000);
        assert!(parse_boot_time("cpu 1\n").is_err());
    }

    #[test]
    fn every_family_is_written_once() {
        let mut out = String::new();
        ProcessStats::read().expect("procfs is mounted").render(&mut out);
        assert_eq!(out.matches("# TYPE ").count(), 7);
        assert_eq!(out.lines().count(), 21);
        assert!(out.contains("\nprocess_open_fds "));
    }
}
