//! The Range field for byte ranges (RFC 9110 §14).
//!
//! Called by the engines for GET with the size of what they would send. Invariants of the result:
//! 1. Every range is non-empty and within `0..size`.
//! 2. The ranges of `Multi` are at least two, disjoint, and `RANGE_PART_OVERHEAD_BYTES` or more apart; they stand in
//!    the order asked for.

use std::ops::Range;

use super::grammar::{decimal_saturating, list_elements};
use super::limits::{
    RANGE_OVERLAPS_MAX, RANGE_PART_OVERHEAD_BYTES, RANGE_PARTS_MAX, RANGE_SMALL_UNORDERED_MAX,
};

/// What a Range field asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ranges {
    /// Unknown unit or invalid: answer as if there were no Range field (RFC 9110 §14.2).
    None,
    /// 416 with `Content-Range: bytes */size`.
    Unsatisfiable,
    /// 206 with one Content-Range.
    Single(Range<u64>),
    /// 206 with multipart/byteranges.
    Multi(Vec<Range<u64>>),
}

/// One element of the list, against a size.
enum Part {
    Invalid,
    Unsatisfiable,
    Bytes(Range<u64>),
}

/// Reads the value of a Range field for a representation of `size` bytes.
#[must_use]
pub fn parse_range(value: &[u8], size: u64) -> Ranges {
    // RFC 9110 §14.1: range unit names are case-insensitive.
    let Some((unit, set)) = value.split_at_checked(6) else {
        return Ranges::None;
    };
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return Ranges::None;
    }
    if !set.contains(&b',') {
        return match parse_part(set, size) {
            Part::Invalid => Ranges::None,
            Part::Unsatisfiable => Ranges::Unsatisfiable,
            Part::Bytes(range) => Ranges::Single(range),
        };
    }
    parse_set(set, size)
}

fn parse_set(set: &[u8], size: u64) -> Ranges {
    let mut elements = 0;
    let mut parts_given = false;
    let mut ranges = Vec::new();
    for element in list_elements(set) {
        elements += 1;
        // RFC 9110 §5.6.1.2: "a reasonable number of empty list elements" is ignored; they count towards the bound.
        if element.is_empty() {
            continue;
        }
        parts_given = true;
        match parse_part(element, size) {
            Part::Invalid => return Ranges::None,
            Part::Bytes(range) if elements <= RANGE_PARTS_MAX => ranges.push(range),
            Part::Bytes(_) | Part::Unsatisfiable => {}
        }
    }
    if !parts_given {
        return Ranges::None;
    }
    if elements > RANGE_PARTS_MAX || is_abusive(&ranges) {
        return Ranges::Unsatisfiable;
    }
    let mut parts = coalesce(ranges);
    match parts.len() {
        0 => Ranges::Unsatisfiable,
        1 => Ranges::Single(parts.remove(0)),
        _ => Ranges::Multi(parts),
    }
}

/// `int-range = first-pos "-" [ last-pos ]`, `suffix-range = "-" suffix-length` (RFC 9110 §14.1.1).
fn parse_part(element: &[u8], size: u64) -> Part {
    let Some(dash) = element.iter().position(|&byte| byte == b'-') else {
        return Part::Invalid;
    };
    let (first, last) = (&element[..dash], &element[dash + 1..]);
    if first.is_empty() {
        return match decimal_saturating(last).map(|suffix| suffix.value.min(size)) {
            None => Part::Invalid,
            Some(0) => Part::Unsatisfiable,
            Some(length) => Part::Bytes(size - length..size),
        };
    }
    let Some(first) = decimal_saturating(first).map(|first| first.value) else {
        return Part::Invalid;
    };
    let last = match last {
        [] => u64::MAX,
        digits => match decimal_saturating(digits) {
            // "An int-range is invalid if the last-pos value is present and less than first-pos."
            Some(last) if last.value >= first => last.value,
            _ => return Part::Invalid,
        },
    };
    // A first-pos that does not fit in 64 bits is u64::MAX here, and no size is above that.
    if first >= size {
        return Part::Unsatisfiable;
    }
    Part::Bytes(first..last.min(size - 1) + 1)
}

/// RFC 9110 §14.2: a server may reject "more than two overlapping ranges, or a set of many small ranges that are not
/// listed in ascending order, since these are indications of either a broken client or a deliberate denial-of-service
/// attack" (§17.15). Small: shorter than the overhead of a part, or nearer than that to the next one.
fn is_abusive(ranges: &[Range<u64>]) -> bool {
    let ascending = ranges.is_sorted_by_key(|range| range.start);
    let mut sorted: Vec<&Range<u64>> = ranges.iter().collect();
    sorted.sort_unstable_by_key(|range| (range.start, range.end));
    let mut overlapping = 0;
    let mut small = 0;
    let mut end_max = 0;
    for (at, range) in sorted.iter().enumerate() {
        let next_start = sorted.get(at + 1).map_or(u64::MAX, |next| next.start);
        overlapping += usize::from(range.start < end_max || next_start < range.end);
        let near_next = next_start.saturating_sub(range.end) < RANGE_PART_OVERHEAD_BYTES;
        small += usize::from(range.end - range.start < RANGE_PART_OVERHEAD_BYTES || near_next);
        end_max = end_max.max(range.end);
    }
    overlapping > RANGE_OVERLAPS_MAX || (small > RANGE_SMALL_UNORDERED_MAX && !ascending)
}

/// RFC 9110 §15.3.7.2: a server "MAY coalesce any of the ranges that overlap, or that are separated by a gap that is
/// smaller than the overhead of sending multiple parts, regardless of the order". A merged part stands where the
/// first of its ranges stood.
fn coalesce(ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut sorted: Vec<(usize, Range<u64>)> = ranges.into_iter().enumerate().collect();
    sorted.sort_unstable_by_key(|(_, range)| range.start);
    let mut merged: Vec<(usize, Range<u64>)> = Vec::with_capacity(sorted.len());
    for (order, range) in sorted {
        match merged.last_mut() {
            Some((first, last)) if range.start < last.end.saturating_add(RANGE_PART_OVERHEAD_BYTES) => {
                *first = order.min(*first);
                last.end = last.end.max(range.end);
            }
            _ => merged.push((order, range)),
        }
    }
    merged.sort_unstable_by_key(|(order, _)| *order);
    merged.into_iter().map(|(_, range)| range).collect()
}

#[cfg(test)]
mod tests;
