//! `slice_patterns`: regular expressions of which one must be found in a path for it to be sliced (none: all paths are), and, each
//! behind a `!`, those of which none may be found in it. An expression that begins with that character begins with `\!` here.
//!
//! The expressions are those of the `regex` crate, which takes time linear in the path whatever the pattern; their compiled
//! size is bounded. Look-around and back-references are refused.

use crate::limits::{PATTERN_BYTES_MAX, PATTERNS_MAX};
use regex::{RegexSet, RegexSetBuilder};

/// Stands before an expression that excludes.
const NOT: char = '!';
/// What all patterns of a kind may take compiled together.
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
    wanted: Option<RegexSet>,
    unwanted: Option<RegexSet>,
}

impl Patterns {
    /// All paths.
    #[must_use]
    pub fn all() -> Patterns {
        Patterns { wanted: None, unwanted: None }
    }

    /// Paths in which one of `patterns` is found (any, if all of them exclude) and none of those that exclude.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn new(patterns: &[impl AsRef<str>]) -> Result<Patterns, BadPattern> {
        if patterns.len() > PATTERNS_MAX || patterns.iter().any(|p| p.as_ref().len() > PATTERN_BYTES_MAX) {
            return Err(BadPattern::TooMuch);
        }
        let patterns = patterns.iter().map(AsRef::as_ref);
        let (unwanted, wanted): (Vec<&str>, Vec<&str>) = patterns.partition(|p| p.starts_with(NOT));
        Ok(Patterns { wanted: set(wanted)?, unwanted: set(unwanted.iter().map(|p| &p[NOT.len_utf8()..]))? })
    }

    /// Whether a path is sliced.
    #[must_use]
    pub fn hold(&self, path: &str) -> bool {
        self.wanted.as_ref().is_none_or(|set| set.is_match(path))
            && self.unwanted.as_ref().is_none_or(|set| !set.is_match(path))
    }
}

fn set<'p>(patterns: impl IntoIterator<Item = &'p str>) -> Result<Option<RegexSet>, BadPattern> {
    let set = RegexSetBuilder::new(patterns).size_limit(COMPILED_BYTES_MAX).build();
    let set = set.map_err(|e| BadPattern::Syntax(e.to_string()))?;
    Ok((!set.is_empty()).then_some(set))
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
    fn a_path_is_not_sliced_if_one_that_excludes_is_found_in_it() {
        let hold = |patterns: &[&str], path: &str| Patterns::new(patterns).expect("fine").hold(path);
        for (path, expected) in
            [("/a/x.mp4", [true, true]), ("/a/x.m3u8", [false, false]), ("/b/x.mp4", [true, false])]
        {
            let of = [&["!\\.m3u8$"][..], &["!\\.m3u8$", "^/a/", "!x!"]];
            assert_eq!(of.map(|patterns| hold(patterns, path)), expected, "{path}");
        }
        assert!(hold(&["\\!"], "/wow!") && !hold(&["\\!"], "/wow"));
        assert!(matches!(Patterns::new(&["!("]), Err(BadPattern::Syntax(_))));
        assert!(!hold(&["!"], "/"), "nothing is found anywhere");
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
