//! A memory cgroup of our own, below the one we run in, in either version of the interface.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::node::Node;
use crate::skip;

/// A memory limit that processes can be put under. Removed when dropped.
#[derive(Debug)]
pub struct MemoryCgroup {
    dir: PathBuf,
    kills_file: &'static str,
    limit_bytes: u64,
}

impl MemoryCgroup {
    /// Makes one, or none where `BASALT_SKIP` has `cgroup`.
    pub fn or_skip(limit_bytes: u64) -> Option<Self> {
        match Self::new(limit_bytes) {
            Ok(group) => Some(group),
            Err(why) => {
                skip::told_to_skip("cgroup", &format!("no memory cgroup: {why}"));
                None
            }
        }
    }

    /// Makes one, or says why this machine does not let us.
    fn new(limit_bytes: u64) -> Result<Self, String> {
        let own = fs::read_to_string("/proc/self/cgroup").map_err(|e| e.to_string())?;
        let one = own.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let is_memory = parts.next()?.split(',').any(|name| name == "memory");
            is_memory.then(|| parts.next())?
        });
        match one {
            Some(own) => Self::version_1(own, limit_bytes),
            None => Self::version_2(limit_bytes),
        }
    }

    fn version_1(own: &str, limit_bytes: u64) -> Result<Self, String> {
        let root = Path::new("/sys/fs/cgroup/memory");
        let parent = root.join(own.trim_start_matches('/'));
        let parent = if parent.is_dir() { parent } else { root.to_owned() };
        let group = Self::make(&parent, "memory.oom_control", limit_bytes)?;
        group.write("memory.limit_in_bytes", limit_bytes)?;
        Ok(group)
    }

    /// A group with processes cannot have limited children, so this one is made at the root.
    fn version_2(limit_bytes: u64) -> Result<Self, String> {
        let root = Path::new("/sys/fs/cgroup");
        fs::write(root.join("cgroup.subtree_control"), "+memory")
            .map_err(|e| format!("cgroup.subtree_control: {e}"))?;
        let group = Self::make(root, "memory.events", limit_bytes)?;
        group.write("memory.max", limit_bytes)?;
        // No file on machines without swap.
        group.write("memory.swap.max", 0).ok();
        Ok(group)
    }

    fn make(parent: &Path, kills_file: &'static str, limit_bytes: u64) -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = parent.join(format!("basalt-test-{}-{number}", process::id()));
        fs::create_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        Ok(Self { dir, kills_file, limit_bytes })
    }

    fn write(&self, file: &str, value: u64) -> Result<(), String> {
        let path = self.dir.join(file);
        fs::write(&path, value.to_string()).map_err(|e| format!("{}: {e}", path.display()))
    }

    /// A shell script that puts itself into the group and executes its arguments.
    pub fn entry(&self) -> String {
        let procs = self.dir.join("cgroup.procs");
        format!("echo $$ > {} && exec \"$@\"", procs.display())
    }

    /// A node in here was never larger than the limit, and the kernel killed nothing.
    pub fn must_have_held(&self, node: &Node, what: &str) {
        assert_eq!(self.kills(), 0, "{what}: the kernel killed for memory");
        let peak = node.status_bytes("VmHWM");
        eprintln!("{what}: {} MiB resident at the peak", peak >> 20);
        assert!(peak <= self.limit_bytes, "{what}: {} MiB resident at the peak", peak >> 20);
    }

    /// How often the kernel killed a process for memory in here.
    fn kills(&self) -> u64 {
        let text = fs::read_to_string(self.dir.join(self.kills_file)).expect("the group's events");
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|n| n.trim().parse().ok()).expect("oom_kill")
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        // The kernel needs a moment after the last process has gone.
        for _ in 0..100 {
            if fs::remove_dir(&self.dir).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        eprintln!("{} could not be removed", self.dir.display());
    }
}
