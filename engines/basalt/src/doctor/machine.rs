//! The kernel's version, CPUs, memory, and the limits of this process.

use std::fs;

use runtime::{cpulist, cpus};
use rustix::process::{Resource, getrlimit};

use super::Line;
use crate::config::Settings;
use crate::config::size::Bytes;
use crate::machine::{self, MemoryCeiling};

/// The oldest kernel with what the ring uses: multishot receive and task work that waits for us.
const KERNEL_MIN: (u32, u32) = (6, 1);

/// Below this the arena cannot be registered with the ring.
const MEMLOCK_BYTES_MIN: u64 = 64 << 20;

/// Fewer descriptors than this and connections run out before memory does.
const OPEN_FILES_MIN: u64 = 65_536;

/// Bits of the effective capabilities in `/proc/self/status` (include/uapi/linux/capability.h).
const CAP_IPC_LOCK: u32 = 14;
/// May open FUSE files that the kernel passes through.
pub const CAP_SYS_ADMIN: u32 = 21;

/// One line for each need.
pub fn report(settings: &Settings) -> Vec<Line> {
    let memlock = getrlimit(Resource::Memlock).current;
    vec![
        kernel(machine::kernel_version(), &machine::kernel_release()),
        cpus(settings),
        memory(settings),
        memlock_line(memlock, has_capability(CAP_IPC_LOCK)),
        open_files(getrlimit(Resource::Nofile).maximum),
    ]
}

fn kernel(version: Option<(u32, u32)>, release: &str) -> Line {
    match version {
        Some(version) if version >= KERNEL_MIN => Line::ok("kernel", release),
        _ => {
            let (major, minor) = KERNEL_MIN;
            let detail = format!("{release} is older than {major}.{minor}");
            Line::missing("kernel", detail, "boot Linux 6.1 or newer").blocking_serve()
        }
    }
}

fn cpus(settings: &Settings) -> Line {
    let refused = |why: String| Line::missing("cpus", why, "name others with --cpuset").blocking_serve();
    let view = match cpus::MachineView::read() {
        Ok(view) => view,
        Err(error) => return refused(error.to_string()),
    };
    let list = match settings.cpuset.as_deref().map(cpulist::parse).transpose() {
        Ok(list) => list,
        Err(error) => return refused(error.to_string()),
    };
    let quota = view.cgroup_quota_cpus.map_or("none".to_owned(), |cpus| format!("{cpus:.2}"));
    match cpus::choose(list.as_ref(), &view) {
        Ok(choice) => {
            let detail = format!(
                "columns on {}; online {}, affinity {}, cgroup quota {quota}",
                choice.cpus, view.online, view.affinity
            );
            match choice.warning {
                Some(warning) => Line::degraded("cpus", format!("{detail}; {warning}"), "list fewer"),
                None => Line::ok("cpus", detail),
            }
        }
        Err(error) => refused(error.to_string()),
    }
}

fn memory(settings: &Settings) -> Line {
    let Ok(ceiling) = MemoryCeiling::read() else {
        return Line::degraded("memory", "cannot read /proc/meminfo", "mount -t proc proc /proc");
    };
    let cgroup = ceiling.cgroup_bytes.map_or("none".to_owned(), |bytes| Bytes(bytes).to_string());
    let (budget, ram) = (Bytes(settings.memory_bytes), Bytes(ceiling.ram_bytes));
    Line::ok("memory", format!("budget {budget}; RAM {ram}, cgroup limit {cgroup}"))
}

fn memlock_line(limit_bytes: Option<u64>, is_exempt: bool) -> Line {
    match limit_bytes {
        None => Line::ok("memlock", "unlimited"),
        Some(bytes) if is_exempt => Line::ok("memlock", format!("{}, exempt by CAP_IPC_LOCK", Bytes(bytes))),
        Some(bytes) if bytes >= MEMLOCK_BYTES_MIN => Line::ok("memlock", Bytes(bytes).to_string()),
        Some(bytes) => {
            let detail = format!("{}: arena unregistered, page cache not pinned", Bytes(bytes));
            Line::degraded("memlock", detail, "ulimit -l unlimited, or LimitMEMLOCK=infinity in the unit")
        }
    }
}

fn open_files(limit: Option<u64>) -> Line {
    match limit {
        Some(files) if files < OPEN_FILES_MIN => Line::degraded(
            "open files",
            format!("{files} at most"),
            "ulimit -n 1048576, or LimitNOFILE=1048576 in the unit",
        ),
        limit => {
            let limit = limit.map_or("unlimited".to_owned(), |files| format!("{files} at most"));
            Line::ok("open files", limit)
        }
    }
}

/// Whether this process has a capability; not when that cannot be read.
pub fn has_capability(bit: u32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    parse_capabilities(&status) >> bit & 1 == 1
}

fn parse_capabilities(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn an_old_kernel_keeps_serve_from_starting() {
        assert!(kernel(Some((5, 15)), "5.15.0").blocks_serve);
        assert_eq!(kernel(Some((6, 1)), "6.1.0").status, Status::Ok);
    }

    #[test]
    fn little_memlock_degrades_unless_exempt() {
        let status = [
            memlock_line(Some(8 << 20), false),
            memlock_line(Some(8 << 20), true),
            memlock_line(Some(64 << 20), false),
            memlock_line(None, false),
        ]
        .map(|line| line.status);
        assert_eq!(status, [Status::Degraded, Status::Ok, Status::Ok, Status::Ok]);
    }

    #[test]
    fn capabilities_are_read_as_hex() {
        let status = "Name:\tx\nCapEff:\t0000000000004000\n";
        assert_eq!(parse_capabilities(status), 1 << CAP_IPC_LOCK);
        assert_eq!(parse_capabilities(""), 0);
    }
}
