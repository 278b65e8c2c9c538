//! Errors of a device or a ring: those that pass are waited out, but not for ever; any other ends the connection.
//!
//! Called by the loops that serve (`device`, `rings`, `thread`). An error counts as another one if nothing was wrong for a while.

use std::io::{self, ErrorKind};

/// Between two tries: at first, and at most.
const PAUSE_MIN_NS: u64 = 1_000_000;
const PAUSE_MAX_NS: u64 = 256_000_000;
/// An error that lasts so long does not pass.
const PATIENCE_NS: u64 = 10_000_000_000;
/// After so long without one the next error is another.
const WELL_NS: u64 = 2 * PAUSE_MAX_NS;

/// How long a loop has been in trouble.
#[derive(Default)]
pub(super) struct Patience {
    trouble: Option<Trouble>,
}

struct Trouble {
    since_ns: u64,
    /// When the loop went on after the last error.
    until_ns: u64,
    pause_ns: u64,
}

impl Patience {
    /// How long to wait before the loop goes on; `None`: it is the end.
    pub(super) fn on_error(&mut self, error: &io::Error, now_ns: u64) -> Option<u64> {
        if !passes(error) {
            return None;
        }
        let last = self.trouble.take().filter(|trouble| now_ns < trouble.until_ns + WELL_NS);
        let (since_ns, pause_ns) = match last {
            Some(trouble) => (trouble.since_ns, (trouble.pause_ns * 2).min(PAUSE_MAX_NS)),
            None => (now_ns, PAUSE_MIN_NS),
        };
        if now_ns >= since_ns + PATIENCE_NS {
            return None;
        }
        self.trouble = Some(Trouble { since_ns, until_ns: now_ns + pause_ns, pause_ns });
        Some(pause_ns)
    }
}

/// Whether the same call may succeed later.
fn passes(error: &io::Error) -> bool {
    let kinds =
        [ErrorKind::WouldBlock, ErrorKind::Interrupted, ErrorKind::OutOfMemory, ErrorKind::ResourceBusy];
    kinds.contains(&error.kind()) || error.raw_os_error() == Some(ENOBUFS)
}

/// errno(3).
const ENOBUFS: i32 = 105;

#[cfg(test)]
mod tests {
    use super::*;

    fn error(errno: i32) -> io::Error {
        io::Error::from_raw_os_error(errno)
    }

    #[test]
    fn only_what_may_pass_is_waited_out() {
        for errno in [4, 11, 12, 16, ENOBUFS] {
            assert_eq!(Patience::default().on_error(&error(errno), 5), Some(PAUSE_MIN_NS), "errno {errno}");
        }
        for errno in [1, 5, 9, 14, 22] {
            assert_eq!(Patience::default().on_error(&error(errno), 5), None, "errno {errno}");
        }
    }

    #[test]
    fn patience_ends_and_comes_back_when_nothing_was_wrong_for_a_while() {
        let (mut patience, mut now_ns) = (Patience::default(), 7);
        let mut tries = 0;
        while let Some(pause_ns) = patience.on_error(&error(12), now_ns) {
            assert!(pause_ns <= PAUSE_MAX_NS);
            now_ns += pause_ns;
            tries += 1;
        }
        assert!((7 + PATIENCE_NS..=7 + PATIENCE_NS + PAUSE_MAX_NS).contains(&now_ns), "{now_ns}");
        assert!((10..100).contains(&tries), "{tries} tries");
        assert_eq!(patience.on_error(&error(12), now_ns), Some(PAUSE_MIN_NS), "it began anew");
        let now_ns = now_ns + PAUSE_MIN_NS;
        assert_eq!(patience.on_error(&error(12), now_ns), Some(2 * PAUSE_MIN_NS));
        assert_eq!(patience.on_error(&error(12), now_ns + 2 * PAUSE_MIN_NS + WELL_NS), Some(PAUSE_MIN_NS));
    }
}
