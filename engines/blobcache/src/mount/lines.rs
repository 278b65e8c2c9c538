//! Lines of the log about what failed: of which one was written a moment ago. Pure.
//!
//! Called by `wait`. The kernel asks more than once for what fails, so that each blob has one line in [`QUIET_NS`]. Of a blob
//! that cannot be looked up there is no node: its name is what the line is about.
//!
//! Units: monotonic nanoseconds.

use runtime::tier::Digest;
use std::collections::VecDeque;
use std::fmt;

/// What has its line has no other for so long.
pub const QUIET_NS: u64 = 10_000_000_000;
/// Lines in that time.
pub const QUIET_MAX: usize = 64;

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// A node.
    Node(u64),
    /// A name.
    Blob(Digest),
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            About::Node(node) => write!(f, "node {node}"),
            About::Blob(digest) => write!(f, "the name of {digest}"),
        }
    }
}

/// Lines of late.
#[derive(Default)]
pub struct Lines(VecDeque<(About, u64)>);

impl Lines {
    /// Whether a line is to be written now; it counts as written then.
    pub fn is_due(&mut self, about: About, now_ns: u64) -> bool {
        self.0.retain(|&(_, at_ns)| now_ns < at_ns + QUIET_NS);
        let is_due = self.0.len() < QUIET_MAX && self.0.iter().all(|&(known, _)| known != about);
        if is_due {
            self.0.push_back((about, now_ns));
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_line_once_in_a_while_and_all_of_them_not_too_many() {
        let mut lines = Lines::default();
        let names = [1, 2].map(|n| About::Blob(Digest([n; 32])));
        for about in [names[0], names[1], About::Node(600), About::Node(700)] {
            assert!(lines.is_due(about, 5) && !lines.is_due(about, 4 + QUIET_NS), "{about}");
        }
        assert!(lines.is_due(names[0], 5 + QUIET_NS) && !lines.is_due(names[0], 6 + QUIET_NS));
        let due = (0..1000).filter(|&node| lines.is_due(About::Node(node), 6 + QUIET_NS)).count();
        assert_eq!(due, QUIET_MAX - 1);
    }
}
