//! FUSE, for the mount: the device, and the two faster ways to serve it. Nothing here keeps `serve` from starting.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::Line;
use super::machine::{CAP_SYS_ADMIN, has_capability};
use crate::config::Settings;
use crate::machine::kernel_version;
use crate::node::choose_cpus;
use crate::node::mount::try_rungs;

const DEVICE: &str = "/dev/fuse";
const ENABLE_URING: &str = "/sys/module/fuse/parameters/enable_uring";

/// The first kernels with each.
const PASSTHROUGH_KERNEL_MIN: (u32, u32) = (6, 9);
const URING_KERNEL_MIN: (u32, u32) = (6, 14);

/// One line for each need.
pub fn report(settings: &Settings) -> Vec<Line> {
    let version = kernel_version().unwrap_or_default();
    let enable_uring = fs::read_to_string(ENABLE_URING).ok();
    vec![
        device(),
        passthrough(version, has_capability(CAP_SYS_ADMIN)),
        over_uring(version, enable_uring.as_deref(), Path::new("/sys/module/fuse").exists()),
        rung(settings),
    ]
}

/// What `serve --mount` takes if nothing is forced: by trying it, on a directory that is there only for that.
fn rung(settings: &Settings) -> Line {
    let need = "fuse rung";
    let directory = std::env::temp_dir().join(format!("basalt-doctor-{}", std::process::id()));
    let made = fs::create_dir(&directory).map_err(|e| format!("{}: {e}", directory.display()));
    let tried = made.and_then(|()| {
        let cpus = choose_cpus(settings).map_err(|e| e.to_string());
        let tried = cpus.and_then(|cpus| try_rungs(&directory, settings, &cpus));
        // Only what is empty and not mounted on.
        let _ = fs::remove_dir(&directory);
        tried
    });
    match tried {
        Ok((rung, passed_over)) if passed_over.is_empty() => {
            Line::ok(need, format!("{} (--fuse-rung auto)", rung.name()))
        }
        Ok((rung, passed_over)) => {
            Line::ok(need, format!("{} (--fuse-rung auto); {passed_over}", rung.name()))
        }
        Err(why) => Line::missing(
            need,
            format!("a mount cannot be made: {why}"),
            "run as root, or install fusermount3",
        ),
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

fn passthrough(version: (u32, u32), is_admin: bool) -> Line {
    let need = "fuse passthrough";
    if version < PASSTHROUGH_KERNEL_MIN {
        return Line::missing(need, "the kernel is older than 6.9", "boot Linux 6.9 or newer");
    }
    if !is_admin {
        let detail = "needs CAP_SYS_ADMIN, which we have not: reads go through us";
        return Line::degraded(need, detail, "AmbientCapabilities=CAP_SYS_ADMIN in the unit");
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
        assert_eq!(passthrough((6, 9), true).status, Status::Ok);
        assert_eq!(passthrough((6, 9), false).status, Status::Degraded);
        assert_eq!(passthrough((6, 1), true).status, Status::Missing);
    }
}
