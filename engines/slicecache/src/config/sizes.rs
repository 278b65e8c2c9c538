//! Slice sizes by prefix of the path, where they are to be other than `slice_size`; the longest prefix holds.
//!
//! Invariant: prefixes are distinct and begin and end at a slash, as those of origins.

use crate::limits::PATH_SIZES_MAX;

/// Why sizes by prefix cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPathSize {
    /// Not `/…`, or there already.
    #[error("{0}: the prefix begins with / and is given once")]
    Prefix(String),
    /// Too many.
    #[error("at most {PATH_SIZES_MAX} prefixes have a size of their own")]
    TooMany,
}

/// The sizes, the longest prefix first; `None`: `auto`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathSizes {
    sizes: Vec<(String, Option<u64>)>,
}

impl PathSizes {
    /// Of prefixes and what holds below them.
    ///
    /// # Errors
    /// What is wrong with the prefixes; sizes are judged by `Config::faults`.
    pub fn new(given: impl IntoIterator<Item = (String, Option<u64>)>) -> Result<PathSizes, BadPathSize> {
        let mut sizes: Vec<(String, Option<u64>)> = Vec::new();
        for (mut prefix, bytes) in given {
            if !prefix.ends_with('/') {
                prefix.push('/');
            }
            if !prefix.starts_with('/') || sizes.iter().any(|(other, _)| *other == prefix) {
                return Err(BadPathSize::Prefix(prefix));
            }
            sizes.push((prefix, bytes));
        }
        if sizes.len() > PATH_SIZES_MAX {
            return Err(BadPathSize::TooMany);
        }
        sizes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Ok(PathSizes { sizes })
    }

    /// What holds for a normalised path, if it is something of its own.
    #[must_use]
    pub fn of_path(&self, path: &str) -> Option<Option<u64>> {
        let has =
            |prefix: &String| path.starts_with(prefix.as_str()) || prefix.strip_suffix('/') == Some(path);
        self.sizes.iter().find(|(prefix, _)| has(prefix)).map(|(_, bytes)| *bytes)
    }

    /// All sizes in bytes.
    pub(super) fn bytes(&self) -> impl Iterator<Item = u64> {
        self.sizes.iter().filter_map(|(_, bytes)| *bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(given: &[(&str, Option<u64>)]) -> Result<PathSizes, BadPathSize> {
        PathSizes::new(given.iter().map(|(prefix, bytes)| ((*prefix).to_owned(), *bytes)))
    }

    #[test]
    fn the_longest_prefix_holds() {
        let sizes = sizes(&[("/a", Some(1)), ("/a/b/", None), ("/c/", Some(3))]).expect("three");
        for (path, expected) in [
            ("/a", Some(Some(1))),
            ("/a/x", Some(Some(1))),
            ("/ab", None),
            ("/a/b", Some(None)),
            ("/a/b/c", Some(None)),
            ("/a/bc", Some(Some(1))),
            ("/c/x", Some(Some(3))),
            ("/", None),
        ] {
            assert_eq!(sizes.of_path(path), expected, "{path}");
        }
        assert_eq!(sizes.bytes().collect::<Vec<_>>(), [1, 3]);
        assert_eq!(PathSizes::default().of_path("/"), None);
        let all = self::sizes(&[("/", Some(7))]).expect("one");
        assert_eq!((all.of_path("/"), all.of_path("/x")), (Some(Some(7)), Some(Some(7))));
    }

    #[test]
    fn prefixes_that_cannot_be_used_are_refused() {
        assert_eq!(sizes(&[("a/", None)]), Err(BadPathSize::Prefix("a/".to_owned())));
        assert_eq!(sizes(&[("", None), ("/", None)]), Err(BadPathSize::Prefix("/".to_owned())));
        assert_eq!(sizes(&[("/a", None), ("/a/", None)]), Err(BadPathSize::Prefix("/a/".to_owned())));
        let many = (0..=PATH_SIZES_MAX).map(|at| (format!("/{at}"), None));
        assert_eq!(PathSizes::new(many), Err(BadPathSize::TooMany));
    }
}
