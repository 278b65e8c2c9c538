//! Ranges: the table, and random sets against a model that thinks in single bytes.

use proptest::prelude::*;

use super::*;

#[test]
fn single_ranges() {
    use Ranges::{None, Single, Unsatisfiable};
    let cases: [(&str, u64, Ranges); 36] = [
        ("bytes=0-0", 10, Single(0..1)),
        ("bytes=0-9", 10, Single(0..10)),
        ("bytes=0-10", 10, Single(0..10)),
        ("bytes=3-", 10, Single(3..10)),
        ("bytes=9-", 10, Single(9..10)),
        ("bytes=10-", 10, Unsatisfiable),
        ("bytes=10-20", 10, Unsatisfiable),
        ("bytes=-3", 10, Single(7..10)),
        ("bytes=-10", 10, Single(0..10)),
        ("bytes=-11", 10, Single(0..10)),
        ("bytes=-0", 10, Unsatisfiable),
        ("bytes=-", 10, None),
        ("bytes=", 10, None),
        ("bytes", 10, None),
        ("", 10, None),
        ("bytes=5-4", 10, None),
        ("bytes=50-40", 10, None),
        ("bytes=a-b", 10, None),
        ("bytes=0x1-2", 10, None),
        ("bytes=1-2-3", 10, None),
        ("bytes=1-+2", 10, None),
        ("bytes=--1", 10, None),
        ("bytes=1", 10, None),
        ("bytes 0-1", 10, None),
        ("bytes =0-1", 10, None),
        ("items=0-1", 10, None),
        ("BYTES=0-1", 10, Single(0..2)),
        ("bytes=0-0", 0, Unsatisfiable),
        ("bytes=0-", 0, Unsatisfiable),
        ("bytes=-1", 0, Unsatisfiable),
        ("bytes=0-99999999999999999999999", 10, Single(0..10)),
        ("bytes=99999999999999999999999-", 10, Unsatisfiable),
        ("bytes=99999999999999999999999-", u64::MAX, Unsatisfiable),
        ("bytes=-99999999999999999999999", 10, Single(0..10)),
        ("bytes=18446744073709551614-", u64::MAX, Single(u64::MAX - 1..u64::MAX)),
        ("bytes=0-18446744073709551615", u64::MAX, Single(0..u64::MAX)),
    ];
    for (value, size, expected) in cases {
        assert_eq!(parse_range(value.as_bytes(), size), expected, "{value} of {size}");
    }
}

#[test]
fn sets() {
    use Ranges::{Multi, None, Single, Unsatisfiable};
    let cases: [(&str, Ranges); 19] = [
        ("bytes=0-0,500-599", Multi(vec![0..1, 500..600])),
        ("bytes=500-599,0-0", Multi(vec![500..600, 0..1])),
        ("bytes=0-0 ,\t-1", Multi(vec![0..1, 999..1000])),
        ("bytes=,0-0,,-1,", Multi(vec![0..1, 999..1000])),
        ("bytes=0-0,", Single(0..1)),
        ("bytes=,", None),
        ("bytes=0-0,x", None),
        ("bytes=0-0,9-8", None),
        ("bytes=0-0,2000-", Single(0..1)),
        ("bytes=2000-,3000-", Unsatisfiable),
        ("bytes=0-9,10-19", Single(0..20)),
        ("bytes=10-19,0-9", Single(0..20)),
        ("bytes=0-9,5-19", Single(0..20)),
        ("bytes=0-9,89-99", Single(0..100)),              // gap of 79
        ("bytes=0-9,90-99", Multi(vec![0..10, 90..100])), // gap of 80
        ("bytes=500-509,0-9,520-529", Multi(vec![500..530, 0..10])),
        ("bytes=0-9,5-19,15-29", Unsatisfiable),        // three overlap
        ("bytes=0-9,5-19,500-599,550-", Unsatisfiable), // two pairs are four
        ("bytes=0-999,5-5,700-700", Unsatisfiable),     // two inside a third
    ];
    for (value, expected) in cases {
        assert_eq!(parse_range(value.as_bytes(), 1000), expected, "{value}");
    }
}

fn set_of(ranges: impl Iterator<Item = (u64, u64)>) -> Vec<u8> {
    let parts: Vec<String> = ranges.map(|(first, last)| format!("{first}-{last}")).collect();
    format!("bytes={}", parts.join(",")).into_bytes()
}

#[test]
fn sets_are_bounded() {
    let far_apart = |count: u64| set_of((0..count).map(|at| (at * 1000, at * 1000)));
    assert!(matches!(parse_range(&far_apart(64), 100_000), Ranges::Multi(parts) if parts.len() == 64));
    assert_eq!(parse_range(&far_apart(65), 100_000), Ranges::Unsatisfiable);
    let commas = [&b"bytes=0-0"[..], &[b','; 64]].concat();
    assert_eq!(parse_range(&commas, 10), Ranges::Unsatisfiable);
    assert_eq!(parse_range(&[&far_apart(65)[..], b",x"].concat(), 100_000), Ranges::None);
    let small_backwards = |count: u64| set_of((0..count).rev().map(|at| (at * 1000, at * 1000)));
    assert!(matches!(parse_range(&small_backwards(16), 100_000), Ranges::Multi(parts) if parts.len() == 16));
    assert_eq!(parse_range(&small_backwards(17), 100_000), Ranges::Unsatisfiable);
    let large_backwards = set_of((0..30).rev().map(|at| (at * 1000, at * 1000 + 500)));
    assert!(matches!(parse_range(&large_backwards, 100_000), Ranges::Multi(parts) if parts.len() == 30));
    let near_backwards = set_of((0..30).rev().map(|at| (at * 1000, at * 1000 + 950)));
    assert_eq!(parse_range(&near_backwards, 100_000), Ranges::Unsatisfiable);
}

/// The same rules, said with one flag per byte of a small representation.
fn model(specs: &[(Option<u64>, Option<u64>)], size: u64) -> Ranges {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for spec in specs {
        let wanted: Vec<u64> = match *spec {
            (Some(first), Some(last)) if last < first => return Ranges::None,
            (None, None) => return Ranges::None,
            (Some(first), last) => {
                (0..size).filter(|&at| at >= first && last.is_none_or(|last| at <= last)).collect()
            }
            (None, Some(length)) => (0..size).filter(|&at| at + length >= size).collect(),
        };
        if let (Some(first), Some(last)) = (wanted.first(), wanted.last()) {
            ranges.push(*first..last + 1);
        }
    }
    let overlaps = |one: &Range<u64>, other: &Range<u64>| one.clone().any(|at| other.contains(&at));
    let overlapping = (0..ranges.len())
        .filter(|&one| (0..ranges.len()).any(|other| other != one && overlaps(&ranges[one], &ranges[other])))
        .count();
    if specs.len() > 64 || overlapping > 2 || ranges.is_empty() {
        return Ranges::Unsatisfiable;
    }
    let mut sent: Vec<bool> = (0..size).map(|at| ranges.iter().any(|range| range.contains(&at))).collect();
    let mut last_sent: Option<usize> = None;
    for at in 0..sent.len() {
        if sent[at] {
            if let Some(last) = last_sent.filter(|last| at - last - 1 < 80) {
                sent[last..at].fill(true);
            }
            last_sent = Some(at);
        }
    }
    let mut parts: Vec<Range<u64>> = Vec::new();
    for range in &ranges {
        let mut start = usize::try_from(range.start).unwrap();
        let mut end = start;
        while start > 0 && sent[start - 1] {
            start -= 1;
        }
        while end < sent.len() && sent[end] {
            end += 1;
        }
        let part = start as u64..end as u64;
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    if parts.len() == 1 { Ranges::Single(parts.remove(0)) } else { Ranges::Multi(parts) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn sets_equal_the_model(
        specs in prop::collection::vec((prop::option::weighted(0.9, 0..2000_u64), prop::option::weighted(0.95, 0..300_u64)), 1..9),
        size in 0..2000_u64,
    ) {
        // The second number is a length after the first, so that most specs are valid.
        let specs: Vec<_> = specs.into_iter().map(|(first, more)| match (first, more) {
            (Some(first), Some(more)) => (Some(first), Some((first + more).saturating_sub(3))),
            spec => spec,
        }).collect();
        let number = |number: &Option<u64>| number.map_or(String::new(), |number| number.to_string());
        let parts: Vec<String> = specs.iter().map(|(first, last)| format!("{}-{}", number(first), number(last))).collect();
        let value = format!("bytes={}", parts.join(","));
        prop_assert_eq!(parse_range(value.as_bytes(), size), model(&specs, size), "{} of {}", value, size);
    }

    #[test]
    fn any_value_gives_ranges_that_keep_the_invariants(
        tail in prop::collection::vec(prop::sample::select(b"0123456789-, ".to_vec()), 0..80), size in any::<u64>(),
    ) {
        let parts = match parse_range(&[b"bytes=", &tail[..]].concat(), size) {
            Ranges::None | Ranges::Unsatisfiable => return Ok(()),
            Ranges::Single(range) => vec![range],
            Ranges::Multi(parts) => { prop_assert!(parts.len() >= 2); parts }
        };
        let mut sorted = parts;
        sorted.sort_unstable_by_key(|range| range.start);
        prop_assert!(sorted.iter().all(|range| range.start < range.end && range.end <= size));
        prop_assert!(sorted.windows(2).all(|pair| pair[1].start - pair[0].end >= RANGE_PART_OVERHEAD_BYTES));
    }
}
