//! What this machine's io_uring can do, or which layer forbids it. Called by `doctor` and before the node starts.

use io_uring::{IoUring, Probe, opcode};
use std::io;

/// Why there is no ring.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// The kernel was built without it or is older than 5.1.
    #[error("this kernel has no io_uring (ENOSYS): Linux 6.1 or newer is needed")]
    NoKernelSupport,
    /// The sysctl forbids it.
    #[error("io_uring is switched off by the sysctl kernel.io_uring_disabled={0}")]
    Disabled(u8),
    /// A seccomp filter forbids it: the default profile of Docker and containerd does.
    #[error(
        "io_uring is forbidden by a seccomp filter (EPERM although kernel.io_uring_disabled is 0): Docker's and containerd's default profiles do this"
    )]
    Seccomp,
    /// Operations we use are missing.
    #[error("this kernel's io_uring lacks {0}: Linux 6.1 or newer is needed")]
    Missing(&'static str),
    /// Anything else.
    #[error("io_uring_setup failed: {0}")]
    Other(String),
}

/// A working ring.
#[derive(Debug, Clone)]
pub struct RingReport {
    /// Names of the operations in use, all present.
    pub operations: Vec<&'static str>,
}

/// Sets up a small ring and asks for each operation we use.
pub fn io_uring() -> Result<RingReport, RingError> {
    let ring: io::Result<IoUring> =
        IoUring::builder().setup_coop_taskrun().setup_taskrun_flag().setup_single_issuer().build(8);
    let ring = ring.map_err(|e| cause(&e))?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(|e| RingError::Other(e.to_string()))?;
    let used = [
        ("READ", opcode::Read::CODE),
        ("WRITE", opcode::Write::CODE),
        ("FSYNC", opcode::Fsync::CODE),
        ("FALLOCATE", opcode::Fallocate::CODE),
        ("OPENAT", opcode::OpenAt::CODE),
        ("CLOSE", opcode::Close::CODE),
        ("RENAMEAT", opcode::RenameAt::CODE),
        ("UNLINKAT", opcode::UnlinkAt::CODE),
        ("RECV", opcode::Recv::CODE),
        ("POLL_ADD", opcode::PollAdd::CODE),
        ("ACCEPT", opcode::Accept::CODE),
        ("ASYNC_CANCEL", opcode::AsyncCancel::CODE),
    ];
    match used.iter().find(|(_, code)| !probe.is_supported(*code)) {
        Some((name, _)) => Err(RingError::Missing(name)),
        None => Ok(RingReport { operations: used.iter().map(|(name, _)| *name).collect() }),
    }
}

fn cause(e: &io::Error) -> RingError {
    match e.raw_os_error() {
        Some(libc::ENOSYS) => RingError::NoKernelSupport,
        Some(libc::EPERM) => {
            let sysctl = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
            match sysctl.trim().parse() {
                Ok(level @ 1..) => RingError::Disabled(level),
                _ => RingError::Seccomp,
            }
        }
        // Flags of 6.0 and 6.1 are refused by older kernels.
        Some(libc::EINVAL) => RingError::Missing("COOP_TASKRUN or SINGLE_ISSUER"),
        _ => RingError::Other(e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_apart() {
        assert_eq!(cause(&io::Error::from_raw_os_error(libc::ENOSYS)), RingError::NoKernelSupport);
        assert!(matches!(
            cause(&io::Error::from_raw_os_error(libc::EPERM)),
            RingError::Seccomp | RingError::Disabled(_)
        ));
        assert!(io_uring().is_ok(), "this machine runs the tests of a ring");
    }
}
