//! Whether this kernel does FUSE over io_uring, and how many queues it wants.

use std::io;

/// Whether the module parameter `fuse.enable_uring` is on: off by default, and without it INIT does not offer the flag.
pub fn enabled() -> bool {
    std::fs::read("/sys/module/fuse/parameters/enable_uring").is_ok_and(|value| value.starts_with(b"Y"))
}

/// CPUs that could ever be online: queue ids are below it, and each needs an entry before the first request is served.
pub fn possible_cpus() -> io::Result<u16> {
    let list = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    count(list.trim()).ok_or_else(|| io::Error::other(format!("the list of possible CPUs reads {list:?}")))
}

/// `0-3,8` has five.
fn count(list: &str) -> Option<u16> {
    let mut total = 0u16;
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
        total = total.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_counted() {
        assert_eq!(count("0"), Some(1));
        assert_eq!(count("0-1"), Some(2));
        assert_eq!(count("0-3,8"), Some(5));
        assert_eq!(count(""), None);
        assert_eq!(count("3-0"), None);
        assert_eq!(count("0-65535"), None);
    }

    #[test]
    fn this_machine_has_cpus() {
        assert!(possible_cpus().unwrap() > 0);
    }
}
