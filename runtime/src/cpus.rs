//! Which CPUs get a column: a pure choice, and the view of the machine it is made from.
//!
//! Callers: `serve` at start ([`MachineView::read`], then [`choose`]); `doctor`, which shows the same view.
//! Units: CPUs; a cgroup quota is CPU time per time, so 1.5 means one and a half CPUs.
//! Invariants: a choice is not empty and lies within present, online and affinity; `choose` reads nothing.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use crate::cpulist::{self, CPUS_MAX, CpuList};

const SYSFS_CPU: &str = "/sys/devices/system/cpu";
const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// What the machine and our place in it offer.
#[derive(Clone, Debug, PartialEq)]
pub struct MachineView {
    /// CPUs that are plugged in.
    pub present: CpuList,
    /// CPUs that run; a subset of `present`.
    pub online: CpuList,
    /// CPUs that this process may run on (sched_setaffinity, cpuset cgroup).
    pub affinity: CpuList,
    /// The tightest cgroup quota above us, in CPUs; `None` without one.
    pub cgroup_quota_cpus: Option<f64>,
}

/// The CPUs that get a column each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Never empty.
    pub cpus: CpuList,
    /// To be logged once at start.
    pub warning: Option<String>,
}

/// Why there is no choice. The offending CPUs are named.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CpuError {
    /// Listed, but no such CPU is plugged in.
    #[error("CPU {cpus} of the CPU list is absent: this machine has {present}")]
    Absent {
        /// The listed CPUs at fault.
        cpus: CpuList,
        /// What there is.
        present: CpuList,
    },
    /// Listed, but switched off.
    #[error(
        "CPU {cpus} of the CPU list is offline: online are {online}; echo 1 > {SYSFS_CPU}/cpuN/online brings CPU N back"
    )]
    Offline {
        /// The listed CPUs at fault.
        cpus: CpuList,
        /// What there is.
        online: CpuList,
    },
    /// Listed, but closed to this process.
    #[error(
        "CPU {cpus} of the CPU list is outside the affinity mask {affinity}, set by taskset, a cpuset cgroup or CPUAffinity="
    )]
    OutsideAffinity {
        /// The listed CPUs at fault.
        cpus: CpuList,
        /// What we may use.
        affinity: CpuList,
    },
    /// No CPU is both online and in the mask, or the list given is empty.
    #[error("no CPU to run on: online are \"{online}\", the affinity mask is \"{affinity}\"")]
    Nothing {
        /// CPUs that run.
        online: CpuList,
        /// CPUs that we may use.
        affinity: CpuList,
    },
}

/// Decides. An `explicit` list is obeyed to the letter or refused; without one it is the mask's online CPUs,
/// the first ones up to the cgroup quota rounded up.
pub fn choose(explicit: Option<&CpuList>, view: &MachineView) -> Result<Choice, CpuError> {
    let quota = view.cgroup_quota_cpus;
    assert!(quota.is_none_or(|cpus| cpus.is_finite() && cpus > 0.0), "a quota is a positive number of CPUs");
    let choice = match explicit {
        Some(list) => {
            check(list, view)?;
            let above = quota.filter(|&cpus| list.len() as f64 > cpus.ceil());
            let warning = above.map(|cpus| {
                format!(
                    "{} CPUs are listed but the cgroup's quota is {cpus:.2}: the columns will be throttled",
                    list.len()
                )
            });
            Choice { cpus: list.clone(), warning }
        }
        None => {
            let usable = view.affinity.intersection(&view.online);
            let at_most = quota.map_or(usize::MAX, |cpus| cpus.ceil() as usize);
            Choice { cpus: usable.first(at_most), warning: None }
        }
    };
    if choice.cpus.is_empty() {
        let (online, affinity) = (view.online.clone(), view.affinity.clone());
        return Err(CpuError::Nothing { online, affinity });
    }
    Ok(choice)
}

/// Every listed CPU is present, online and ours.
fn check(list: &CpuList, view: &MachineView) -> Result<(), CpuError> {
    let cpus = list.difference(&view.present);
    if !cpus.is_empty() {
        let present = view.present.clone();
        return Err(CpuError::Absent { cpus, present });
    }
    let cpus = list.difference(&view.online);
    if !cpus.is_empty() {
        let online = view.online.clone();
        return Err(CpuError::Offline { cpus, online });
    }
    let cpus = list.difference(&view.affinity);
    if !cpus.is_empty() {
        let affinity = view.affinity.clone();
        return Err(CpuError::OutsideAffinity { cpus, affinity });
    }
    Ok(())
}

impl MachineView {
    /// Asks this machine. Blocks on sysfs and procfs: call it before any column runs.
    pub fn read() -> io::Result<MachineView> {
        let proc_cgroup = read_if_there(Path::new("/proc/self/cgroup"))?.unwrap_or_default();
        Ok(MachineView {
            present: read_cpulist(&Path::new(SYSFS_CPU).join("present"))?,
            online: read_cpulist(&Path::new(SYSFS_CPU).join("online"))?,
            affinity: affinity()?,
            cgroup_quota_cpus: quota_cpus(&proc_cgroup, Path::new(CGROUP_ROOT))?,
        })
    }
}

fn affinity() -> io::Result<CpuList> {
    let mask = rustix::thread::sched_getaffinity(None)?;
    let cpus = 0..rustix::thread::CpuSet::MAX_CPU.min(CPUS_MAX as usize);
    Ok(cpus.filter(|&cpu| mask.is_set(cpu)).map(|cpu| cpu as u32).collect())
}

fn read_cpulist(path: &Path) -> io::Result<CpuList> {
    let named = |error: String| io::Error::other(format!("{}: {error}", path.display()));
    let text = fs::read_to_string(path).map_err(|e| io::Error::new(e.kind(), named(e.to_string())))?;
    cpulist::parse(&text).map_err(|e| named(e.to_string()))
}

/// The content of a small file, `None` if it does not exist.
fn read_if_there(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(io::Error::new(e.kind(), format!("{}: {e}", path.display()))),
    }
}

/// The smallest quota on the way from our cgroups up to the root, over v2 and v1 hierarchies.
/// `proc_cgroup` is the text of /proc/self/cgroup, `root` the place of the cgroup mounts.
fn quota_cpus(proc_cgroup: &str, root: &Path) -> io::Result<Option<f64>> {
    let mut tightest: Option<f64> = None;
    for line in proc_cgroup.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_id), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let v2 = controllers.is_empty();
        if !v2 && !controllers.split(',').any(|controller| controller == "cpu") {
            continue;
        }
        // v2 stands alone or, on hybrid machines, beside v1; v1 is mounted under its controllers' names.
        let mounts: &[PathBuf] = &if v2 {
            [root.to_path_buf(), root.join("unified")]
        } else {
            [root.join(controllers), root.join("cpu")]
        };
        for mount in mounts {
            for folder in folders_up_to(mount, path) {
                let quota = if v2 { quota_v2(&folder)? } else { quota_v1(&folder)? };
                tightest = match (tightest, quota) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
            }
        }
    }
    assert!(tightest.is_none_or(|cpus| cpus.is_finite() && cpus > 0.0));
    Ok(tightest)
}

/// `mount/path` and its parents up to `mount`. A path from outside our cgroup namespace (`/../x`) or not
/// visible in our mount (a container's) has no folder of its own here: the mount's root stands for it.
fn folders_up_to(mount: &Path, path: &str) -> Vec<PathBuf> {
    let mut names = Vec::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::ParentDir => {
                names.clear();
                break;
            }
            _ => {}
        }
    }
    let upwards = (0..=names.len()).rev();
    upwards.map(|depth| mount.join(names[..depth].iter().collect::<PathBuf>())).collect()
}

/// cgroup v2: `cpu.max` holds "MICROSECONDS|max PERIOD".
fn quota_v2(folder: &Path) -> io::Result<Option<f64>> {
    let Some(text) = read_if_there(&folder.join("cpu.max"))? else {
        return Ok(None);
    };
    let mut fields = text.split_whitespace();
    Ok(ratio(fields.next(), fields.next()))
}

/// cgroup v1: two files; a quota of -1 means none.
fn quota_v1(folder: &Path) -> io::Result<Option<f64>> {
    let quota = read_if_there(&folder.join("cpu.cfs_quota_us"))?;
    let period = read_if_there(&folder.join("cpu.cfs_period_us"))?;
    Ok(ratio(quota.as_deref().map(str::trim), period.as_deref().map(str::trim)))
}

/// CPUs from two counts of microseconds; `None` when there is no limit ("max", -1) or no such number.
fn ratio(quota: Option<&str>, period: Option<&str>) -> Option<f64> {
    let quota: u64 = quota?.parse().ok()?;
    let period: u64 = period?.parse().ok()?;
    (quota > 0 && period > 0).then(|| quota as f64 / period as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> CpuList {
        cpulist::parse(text).expect(text)
    }

    fn view(quota: Option<f64>) -> MachineView {
        MachineView {
            present: list("0-7"),
            online: list("0-6"),
            affinity: list("0-5,7"),
            cgroup_quota_cpus: quota,
        }
    }

    #[test]
    fn an_explicit_cpu_that_cannot_be_had_is_named_with_the_reason() {
        let refused = |text: &str| choose(Some(&list(text)), &view(None)).expect_err(text).to_string();
        assert!(refused("0,8-9").contains("CPU 8-9 of the CPU list is absent"));
        assert!(refused("1,7").contains("CPU 7 of the CPU list is offline"));
        assert!(refused("5-6").contains("CPU 6 of the CPU list is outside the affinity mask 0-5,7"));
    }

    #[test]
    fn without_a_list_mask_and_quota_decide() {
        let cpus = |quota| choose(None, &view(quota)).expect("there are CPUs").cpus.to_string();
        assert_eq!(cpus(None), "0-5");
        assert_eq!(cpus(Some(0.1)), "0");
        assert_eq!(cpus(Some(2.0)), "0-1");
        assert_eq!(cpus(Some(2.5)), "0-2");
        assert_eq!(cpus(Some(100.0)), "0-5");
    }

    #[test]
    fn an_explicit_list_above_the_quota_is_obeyed_with_a_warning() {
        let choice = choose(Some(&list("0-3")), &view(Some(1.5))).expect("they are there");
        assert_eq!(choice.cpus, list("0-3"));
        assert!(choice.warning.expect("a warning").contains("1.50"));
        let choice = choose(Some(&list("2-3")), &view(Some(1.5))).expect("they are there");
        assert_eq!(choice.warning, None);
    }

    #[test]
    fn no_cpu_at_all_is_an_error() {
        let mut nowhere = view(None);
        nowhere.affinity = list("7");
        assert!(choose(None, &nowhere).expect_err("7 is offline").to_string().contains("no CPU"));
        assert!(choose(Some(&CpuList::default()), &view(None)).is_err());
    }

    #[test]
    fn this_machine_can_be_read() {
        let view = MachineView::read().expect("sysfs and procfs are there");
        assert!(view.online.difference(&view.present).is_empty());
        assert!(!choose(None, &view).expect("we run somewhere").cpus.is_empty());
    }

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a file in a folder")).expect("a temporary folder");
        fs::write(path, text).expect("a temporary file");
    }

    #[test]
    fn the_tightest_v2_quota_up_to_the_root_counts() {
        let root = tempfile::tempdir().expect("a temporary folder");
        put(root.path(), "cpu.max", "max 100000\n");
        put(root.path(), "a/cpu.max", "150000 100000\n");
        put(root.path(), "a/b/cpu.max", "400000 100000\n");
        let quota = |text: &str| quota_cpus(text, root.path()).expect("readable");
        assert_eq!(quota("0::/a/b\n"), Some(1.5));
        assert_eq!(quota("0::/\n"), None);
        assert_eq!(quota("0::/../a\n"), None);
        assert_eq!(quota("0::/a/unseen\n"), Some(1.5));
        assert_eq!(quota(""), None);
    }

    #[test]
    fn v1_and_hybrid_quotas_count() {
        let root = tempfile::tempdir().expect("a temporary folder");
        put(root.path(), "cpu,cpuacct/x/cpu.cfs_quota_us", "250000\n");
        put(root.path(), "cpu,cpuacct/x/cpu.cfs_period_us", "100000\n");
        put(root.path(), "cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
        put(root.path(), "cpu,cpuacct/cpu.cfs_period_us", "100000\n");
        put(root.path(), "unified/x/cpu.max", "300000 100000\n");
        let quota = |text: &str| quota_cpus(text, root.path()).expect("readable");
        assert_eq!(quota("3:cpu,cpuacct:/x\n2:cpuset:/y\n0::/x\n"), Some(2.5));
        assert_eq!(quota("3:cpu,cpuacct:/\n"), None);
        assert_eq!(quota("2:cpuset:/x\n0::/x\n"), Some(3.0));
    }
}
