//! `slice_patterns`: regular expressions of which one must be found in a path for it to be sliced. None: all paths are.
//!
//! The expressions are those of the `regex` crate, which takes time linear in the path whatever the pattern; their compiled
//! size is bounded. Look-around and back-references are refused.

use crate::limits::{PATTERN_BYTES_MAX, PATTERNS_MAX};
use regex::{RegexSet, RegexSetBuilder};

/// What all patterns together may take compiled.
const COMPILED_BYTES_MAX: usize = 1 << 20;

/// Patterns that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    /// Too many, or too long.
    #[error("slice_patterns are at most {PATTERNS_MAX}, each of at most {PATTERN_BYTES_MAX} bytes")]
    TooMuch,
    /// No regular expression, or one that becomes too large.
    #[error("slice_patterns: {0}")]
    Syntax(String),
}

/// The paths that are sliced.
#[derive(Clone, Debug)]
pub struct Patterns {
    set: Option<RegexSet>,
}

impl Patterns {
    /// All paths.
    #[must_use]
    pub fn all() -> Patterns {
        Patterns { set: None }
    }

    /// Paths in which one of `patterns` is found; all if there is none.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn new(patterns: &[impl AsRef<str>]) -> Result<Patterns, BadPattern> {
        if patterns.is_empty() {
            return Ok(Patterns::all());
        }
        if patterns.len() > PATTERNS_MAX || patterns.iter().any(|p| p.as_ref().len() > PATTERN_BYTES_MAX) {
            return Err(BadPattern::TooMuch);
        }
        let set = RegexSetBuilder::new(patterns).size_limit(COMPILED_BYTES_MAX).build();
        set.map(|set| Patterns { set: Some(set) }).map_err(|e| BadPattern::Syntax(e.to_string()))
    }

    /// Whether a path is sliced.
    #[must_use]
    pub fn hold(&self, path: &str) -> bool {
        self.set.as_ref().is_none_or(|set| set.is_match(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_sliced_if_one_is_found_in_it() {
        let none: [&str; 0] = [];
        assert!(Patterns::new(&none).expect("fine").hold("/x"));
        let patterns = Patterns::new(&["^/videos/.*\\.(mp4|mkv)$", "^/large/.*", "-v[0-9]+"]).expect("fine");
        for (path, is_sliced) in [
            ("/videos/a/b.mp4", true),
            ("/videos/a.mp4x", false),
            ("/x/videos/a.mp4", false),
            ("/large/", true),
            ("/larger", false),
            ("/pkg-v12.deb", true),
            ("/", false),
        ] {
            assert_eq!(patterns.hold(path), is_sliced, "{path}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        assert!(matches!(Patterns::new(&["("]), Err(BadPattern::Syntax(why)) if why.contains('(')));
        assert!(matches!(Patterns::new(&["^/(?!small).*"]), Err(BadPattern::Syntax(_))));
        assert!(matches!(Patterns::new(&["((a{100}){100}){100}"]), Err(BadPattern::Syntax(_))));
        assert_eq!(Patterns::new(&vec!["a"; PATTERNS_MAX + 1]).err(), Some(BadPattern::TooMuch));
        assert_eq!(Patterns::new(&["a".repeat(PATTERN_BYTES_MAX + 1)]).err(), Some(BadPattern::TooMuch));
    }
}
