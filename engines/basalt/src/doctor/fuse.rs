//! FUSE, for the mount: the device, and the two faster ways to serve it. Nothing here keeps `serve` from starting.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::Line;
use super::machine::{CAP_SYS_ADMIN, has_capability};
use crate::config::Settings;
use crate::machine::kernel_version;
use crate::node::choose_cpus;
use crate::node::mount::{Trial, try_rungs};

const DEVICE: &str = "/dev/fuse";
const ENABLE_URING: &str = "/sys/module/fuse/parameters/enable_uring";

/// The first kernels with each.
const PASSTHROUGH_KERNEL_MIN: (u32, u32) = (6, 9);
const URING_KERNEL_MIN: (u32, u32) = (6, 14);

/// One line for each need.
pub fn report(settings: &Settings) -> Vec<Line> {
    let version = kernel_version().unwrap_or_default();
    let enable_uring = fs::read_to_string(ENABLE_URING).ok();
    let (rung, not_given) = match trial(settings) {
        Ok(trial) => (rung(&trial), trial.not_given),
        Err(why) => {
            let fix = "run as root, or install fusermount3";
            (Line::missing("fuse rung", format!("a mount cannot be made: {why}"), fix), Vec::new())
        }
    };
    vec![
        device(),
        passthrough(version, has_capability(CAP_SYS_ADMIN), &not_given),
        over_uring(version, enable_uring.as_deref(), Path::new("/sys/module/fuse").exists()),
        rung,
    ]
}

/// What `serve --mount` takes if nothing is forced: by trying it, on a directory that is there only for that.
fn trial(settings: &Settings) -> Result<Trial, String> {
    let cpus = choose_cpus(settings).map_err(|e| e.to_string())?;
    let directory = std::env::temp_dir().join(format!("basalt-doctor-{}", std::process::id()));
    fs::create_dir(&directory).map_err(|e| format!("{}: {e}", directory.display()))?;
    let tried = try_rungs(&directory, settings, &cpus);
    // Only what is empty and not mounted on.
    let _ = fs::remove_dir(&directory);
    tried
}

fn rung(trial: &Trial) -> Line {
    let taken = format!("{} (--fuse-rung auto)", trial.transport.name());
    match trial.passed_over.as_str() {
        "" => Line::ok("fuse rung", taken),
        why => Line::ok("fuse rung", format!("{taken}; {why}")),
    }
}

fn device() -> Line {
    let need = "fuse";
    match File::options().read(true).write(true).open(DEVICE) {
        Ok(_) => Line::ok(need, DEVICE),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let fix = "modprobe fuse; in a container: docker run --device /dev/fuse --cap-add SYS_ADMIN …";
            Line::missing(need, format!("no {DEVICE}: no mount"), fix)
        }
        Err(error) => {
            let detail = format!("{DEVICE} cannot be opened: {error}: no mount");
            Line::missing(need, detail, format!("chmod 666 {DEVICE}"))
        }
    }
}

fn passthrough(version: (u32, u32), is_admin: bool, not_given: &[String]) -> Line {
    let need = "fuse passthrough";
    if version < PASSTHROUGH_KERNEL_MIN {
        return Line::missing(need, "the kernel is older than 6.9", "boot Linux 6.9 or newer");
    }
    if !is_admin {
        let detail = "needs CAP_SYS_ADMIN, which we have not: reads go through us";
        return Line::degraded(need, detail, "AmbientCapabilities=CAP_SYS_ADMIN in the unit");
    }
    if !not_given.is_empty() {
        return Line::degraded(need, not_given.join("; "), "put the data directory on ext4 or xfs");
    }
    Line::ok(need, "kernel 6.9 or newer, CAP_SYS_ADMIN")
}

fn over_uring(version: (u32, u32), enable_uring: Option<&str>, is_loaded: bool) -> Line {
    let need = "fuse over io_uring";
    match enable_uring.map(str::trim) {
        _ if version < URING_KERNEL_MIN => {
            Line::missing(need, "the kernel is older than 6.14", "boot Linux 6.14 or newer")
        }
        Some("Y" | "1") => Line::ok(need, "enabled"),
        Some(_) => Line::degraded(need, "switched off", format!("echo Y > {ENABLE_URING}")),
        None if is_loaded => {
            let fix = "boot a kernel with CONFIG_FUSE_IO_URING=y";
            Line::missing(need, "not built into this kernel", fix)
        }
        None => Line::missing(need, "the fuse module is not loaded", "modprobe fuse enable_uring=1"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn kernels_and_switches_are_told_apart() {
        let uring = |version, switch| over_uring(version, switch, true).status;
        assert_eq!(uring((6, 14), Some("Y\n")), Status::Ok);
        assert_eq!(uring((6, 14), Some("N\n")), Status::Degraded);
        assert_eq!(uring((6, 14), None), Status::Missing);
        assert_eq!(uring((6, 13), Some("Y\n")), Status::Missing);
        assert_eq!(passthrough((6, 9), true, &[]).status, Status::Ok);
        assert_eq!(passthrough((6, 9), false, &[]).status, Status::Degraded);
        assert_eq!(passthrough((6, 9), true, &["passthrough of /data: why".into()]).status, Status::Degraded);
        assert_eq!(passthrough((6, 1), true, &[]).status, Status::Missing);
    }
}
