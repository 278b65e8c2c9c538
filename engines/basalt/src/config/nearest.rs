//! The nearest known name to one that was mistyped.

/// The name of `known` with the smallest edit distance to `typed`; the first of equals.
pub fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known.into_iter().min_by_key(|name| edit_distance(typed, name))
}

/// Insertions, deletions, substitutions and swaps of neighbours that turn `from` into `to`
/// (optimal string alignment). Compared as bytes: key names are ASCII.
pub fn edit_distance(from: &str, to: &str) -> usize {
    let (from, to) = (from.as_bytes(), to.as_bytes());
    let mut before = vec![0; to.len() + 1];
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for i in 1..=from.len() {
        let mut row = vec![i; to.len() + 1];
        for j in 1..=to.len() {
            let substituted = above[j - 1] + usize::from(from[i - 1] != to[j - 1]);
            row[j] = substituted.min(above[j] + 1).min(row[j - 1] + 1);
            let swapped = i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1];
            if swapped {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_edits_and_swaps() {
        let pairs =
            [("", "", 0), ("", "abc", 3), ("memory", "memroy", 1), ("cpuset", "cpus", 2), ("ab", "cd", 2)];
        for (from, to, distance) in pairs {
            assert_eq!(edit_distance(from, to), distance, "{from} {to}");
            assert_eq!(edit_distance(to, from), distance, "{to} {from}");
        }
    }

    #[test]
    fn the_nearest_name_wins() {
        let known = ["memory", "cpuset", "blob-listen", "ops-listen"];
        assert_eq!(nearest("memroy", known), Some("memory"));
        assert_eq!(nearest("blob_listen", known), Some("blob-listen"));
        assert_eq!(nearest("blob.listen", known), Some("blob-listen"));
        assert_eq!(nearest("x", []), None);
    }
}
