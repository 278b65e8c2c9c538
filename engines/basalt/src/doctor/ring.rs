//! io_uring: whether it works, and if not, which layer forbids it.
//!
//! `serve` refuses with the same words as `doctor` tells.

use runtime::probe::{self, RingError};

use super::Line;
use crate::error::Error;

const NEED: &str = "io_uring";

/// The line of `doctor`.
pub fn report() -> Line {
    match probe::io_uring() {
        Ok(ring) => Line::ok(NEED, format!("has all of {}", ring.operations.join(" "))),
        Err(error) => Line::missing(NEED, error.to_string(), cure(&error)).blocking_serve(),
    }
}

/// Why `serve` cannot start for want of io_uring, with the cure; exit code 69.
pub fn refusal(error: &RingError) -> Error {
    Error::kernel("cannot start").why(error).fix(cure(error))
}

fn cure(error: &RingError) -> &'static str {
    match error {
        RingError::Disabled(_) => "sysctl -w kernel.io_uring_disabled=0",
        RingError::Seccomp => {
            "docker run --security-opt seccomp=unconfined …, or a seccomp profile that allows \
             io_uring_setup, io_uring_enter and io_uring_register"
        }
        RingError::NoKernelSupport | RingError::Missing(_) => {
            "boot Linux 6.1 or newer with CONFIG_IO_URING=y"
        }
        RingError::Other(_) => "strace -f -e io_uring_setup basalt doctor",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_cure_and_exit_code() {
        let seccomp = refusal(&RingError::Seccomp);
        assert_eq!(seccomp.exit_code(), 69);
        assert!(seccomp.to_string().contains("seccomp=unconfined"));
        let disabled = refusal(&RingError::Disabled(2)).to_string();
        assert!(disabled.contains("sysctl -w kernel.io_uring_disabled=0"), "{disabled}");
    }
}
