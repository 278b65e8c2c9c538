//! What the load generator and the probes in `src/bin` share: pinning, CPU accounting, memory, sockets, arguments.
//!
//! Nothing here may come from the server's crates: a probe that runs our own code would move with what it judges.
#![allow(unsafe_code)]

pub mod args;
pub mod blobs;
pub mod body;
pub mod cache;
pub mod cpu;

pub mod load;
pub mod mem;
pub mod net;
pub mod rng;

/// The error of every program here: it is printed and the program ends with 1.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Turns the `-1` of a system call into the error that `errno` names, prefixed with what was tried.
pub fn check(what: &str, returned: i64) -> Result<i64> {
    if returned >= 0 {
        return Ok(returned);
    }
    Err(format!("{what}: {}", std::io::Error::last_os_error()).into())
}

/// The value at `quantile` (0..=1) of `values`, which are sorted here; 0 for none.
#[must_use]
pub fn quantile(values: &mut [f64], quantile: f64) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    values.sort_by(f64::total_cmp);
    let at = (quantile * (values.len() - 1) as f64).round() as usize;
    values[at.min(values.len() - 1)]
}

/// Opens `path` for O_DIRECT writes with its first `len` bytes written before, so that a write only overwrites.
pub fn overwritable(path: &str, len: u64) -> Result<std::fs::File> {
    use std::os::unix::fs::{FileExt, OpenOptionsExt};
    let plain = std::fs::File::options().write(true).create(true).truncate(false).open(path)?;
    let zeros = vec![0u8; 1 << 20];
    for chunk in plain.metadata()?.len() >> 20..len >> 20 {
        plain.write_all_at(&zeros, chunk << 20)?;
    }
    plain.sync_all()?;
    Ok(std::fs::File::options().write(true).custom_flags(libc::O_DIRECT).open(path)?)
}
