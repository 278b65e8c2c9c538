//! What this machine and the control group around us allow: memory and kernel version.
//!
//! Used by the configuration (the default of `--memory`) and by `doctor`. Reading is best effort: a file
//! that is absent is a limit that does not exist. Parsing is separate from reading, so it is tested alone.

use std::fs;
use std::path::{Path, PathBuf};

/// Where version 1 and 2 control groups are mounted by every distribution.
const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// Version 1 spells "no limit" as the largest page-aligned i64; anything this large is no limit.
const CGROUP_V1_NO_LIMIT_BYTES: u64 = 1 << 60;

/// The memory a process may use here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryCeiling {
    /// RAM of the machine.
    pub ram_bytes: u64,
    /// The tightest memory limit of our control group and those above it.
    pub cgroup_bytes: Option<u64>,
}

impl MemoryCeiling {
    /// Reads `/proc/meminfo` and the control groups.
    pub fn read() -> Result<Self, String> {
        let meminfo = fs::read_to_string("/proc/meminfo")
            .map_err(|error| format!("cannot read /proc/meminfo: {error}"))?;
        let ram_bytes = parse_mem_total_bytes(&meminfo).ok_or("no MemTotal line in /proc/meminfo")?;
        Ok(Self { ram_bytes, cgroup_bytes: cgroup_memory_bytes() })
    }

    /// The smaller of the two.
    pub fn bytes(self) -> u64 {
        self.cgroup_bytes.map_or(self.ram_bytes, |limit| limit.min(self.ram_bytes))
    }
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn parse_mem_total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The tightest memory limit of our control group and its ancestors.
pub fn cgroup_memory_bytes() -> Option<u64> {
    let limits = cgroup_dirs("memory").into_iter().filter_map(|dir| {
        let v2 = fs::read_to_string(dir.join("memory.max"));
        let text = v2.or_else(|_| fs::read_to_string(dir.join("memory.limit_in_bytes"))).ok()?;
        parse_memory_limit_bytes(&text)
    });
    limits.min()
}

fn parse_memory_limit_bytes(text: &str) -> Option<u64> {
    let bytes = text.trim().parse().ok()?; // "max" is no number: no limit
    (bytes < CGROUP_V1_NO_LIMIT_BYTES).then_some(bytes)
}

/// The directories of our control group and its ancestors for one controller, innermost first.
fn cgroup_dirs(controller: &str) -> Vec<PathBuf> {
    let Ok(membership) = fs::read_to_string("/proc/self/cgroup") else {
        return Vec::new();
    };
    parse_cgroup_dirs(&membership, controller, Path::new(CGROUP_ROOT))
}

/// Lines are `ID:CONTROLLERS:PATH`; version 2 is the line with no controllers.
fn parse_cgroup_dirs(membership: &str, controller: &str, root: &Path) -> Vec<PathBuf> {
    let mut dirs = Vec::new();
    for line in membership.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let mount = match controllers {
            "" => root.to_path_buf(),
            list if list.split(',').any(|name| name == controller) => root.join(controller),
            _ => continue,
        };
        let inner = Path::new(path.trim_start_matches('/'));
        dirs.extend(inner.ancestors().map(|ancestor| mount.join(ancestor)));
    }
    dirs
}

/// The running kernel's version, `(6, 18)` for `6.18.44-arch1`.
pub fn kernel_version() -> Option<(u32, u32)> {
    parse_kernel_version(&kernel_release())
}

/// The running kernel's release as `uname -r` prints it.
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

fn parse_kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// The nearest of `path` and its ancestors that exists: where a directory yet to be made will lie.
pub fn nearest_existing(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let existing = absolute.ancestors().find(|ancestor| ancestor.exists());
    existing.unwrap_or(Path::new("/")).to_path_buf()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_gives_bytes() {
        let meminfo = "MemTotal:       24643584 kB\nMemFree: 1 kB\n";
        assert_eq!(parse_mem_total_bytes(meminfo), Some(24_643_584 * 1024));
        assert_eq!(parse_mem_total_bytes("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn the_smaller_of_ram_and_cgroup_counts() {
        let limited = MemoryCeiling { ram_bytes: 100, cgroup_bytes: Some(40) };
        let loose = MemoryCeiling { ram_bytes: 100, cgroup_bytes: Some(400) };
        let free = MemoryCeiling { ram_bytes: 100, cgroup_bytes: None };
        assert_eq!([limited, loose, free].map(MemoryCeiling::bytes), [40, 100, 100]);
    }

    #[test]
    fn no_limit_is_spelled_two_ways() {
        assert_eq!(parse_memory_limit_bytes("max\n"), None);
        assert_eq!(parse_memory_limit_bytes("9223372036854771712\n"), None);
        assert_eq!(parse_memory_limit_bytes("1073741824\n"), Some(1 << 30));
    }

    #[test]
    fn control_groups_are_walked_to_the_root() {
        let root = Path::new("/cg");
        let dirs = parse_cgroup_dirs("0::/a/b\n", "memory", root);
        assert_eq!(dirs, ["/cg/a/b", "/cg/a", "/cg"].map(PathBuf::from));
        let dirs = parse_cgroup_dirs("4:cpu,cpuacct:/x\n5:memory:/\n", "cpu", root);
        assert_eq!(dirs, ["/cg/cpu/x", "/cg/cpu"].map(PathBuf::from));
        assert_eq!(parse_cgroup_dirs("5:memory:/\n", "memory", root), [PathBuf::from("/cg/memory")]);
    }

    #[test]
    fn kernel_releases_are_read() {
        assert_eq!(parse_kernel_version("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(parse_kernel_version("5.4"), Some((5, 4)));
        assert_eq!(parse_kernel_version("plan9"), None);
    }
}
