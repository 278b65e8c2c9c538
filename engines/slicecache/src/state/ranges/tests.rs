//! Conditions and ranges as tables; random requests against the bytes themselves.

#![expect(clippy::single_range_in_vec_init, reason = "one range is what is meant")]

use super::*;
use proptest::prelude::*;

/// Sun, 06 Nov 1994 08:49:37 GMT; the object was modified a second before.
const NOW_S: u64 = 784_111_777;
const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
const LATER: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const EARLIER: &str = "Sun, 06 Nov 1994 08:49:35 GMT";

fn stored(etag: Option<&[u8]>) -> Representation<'_> {
    Representation { etag, last_modified_s: Some(NOW_S - 1), is_modified_strong: true }
}

fn answer(method: Method, representation: Representation<'_>, size: u64, pairs: &[(&str, &str)]) -> Answer {
    let fields = Fields::of_pairs(pairs);
    let asked =
        Asked { method, fields: &fields, representation, size, content_type: "text/plain", now_s: NOW_S };
    asked.answer([1, 2])
}

fn get(pairs: &[(&str, &str)]) -> (Status, Vec<Range<u64>>) {
    let answer = answer(Method::Get, stored(Some(b"\"a\"")), 1000, pairs);
    (answer.status, answer.ranges)
}

const R: (&str, &str) = ("Range", "bytes=0-9");

/// Fields, and what they get.
type Case = (&'static [(&'static str, &'static str)], (Status, Vec<Range<u64>>));

#[test]
fn conditions_in_the_order_of_section_13_2_2() {
    let whole = || (Status::Ok, vec![0..1000]);
    let part = || (Status::PartialContent, vec![0..10]);
    let unmodified = || (Status::NotModified, vec![]);
    let failed = || (Status::PreconditionFailed, vec![]);
    let table: [Case; 29] = [
        (&[], whole()),
        (&[R], part()),
        (&[R, R], whole()),
        (&[("If-Match", "\"a\"")], whole()),
        (&[("If-Match", "*")], whole()),
        (&[("If-Match", "\"b\"")], failed()),
        (&[("If-Match", "\"b\""), ("If-None-Match", "\"a\"")], failed()),
        (&[("If-Match", "\"a\""), ("If-Unmodified-Since", EARLIER)], whole()),
        (&[("If-Unmodified-Since", EARLIER)], failed()),
        (&[("If-Unmodified-Since", MODIFIED)], whole()),
        (&[("If-Unmodified-Since", "x")], whole()),
        (&[("If-None-Match", "\"a\"")], unmodified()),
        (&[("If-None-Match", "W/\"a\"")], unmodified()),
        (&[("If-None-Match", "*")], unmodified()),
        (&[("If-None-Match", "\"b\""), ("If-None-Match", "\"a\"")], unmodified()),
        (&[("If-None-Match", "\"b\""), ("If-Modified-Since", LATER)], whole()),
        (&[("If-Modified-Since", MODIFIED)], unmodified()),
        (&[("If-Modified-Since", EARLIER)], whole()),
        (&[("If-None-Match", "\"a\""), R], unmodified()),
        (&[("If-Range", "\"a\""), R], part()),
        (&[("If-Range", "\"b\""), R], whole()),
        (&[("If-Range", "W/\"a\""), R], whole()),
        (&[("If-Range", MODIFIED), R], part()),
        (&[("If-Range", LATER), R], whole()),
        (&[("If-Range", EARLIER), R], whole()),
        (&[("If-Range", "\"a\""), ("If-Range", "\"a\""), R], whole()),
        (&[("If-Range", ""), R], whole()),
        (&[("Range", "bytes=1000-")], (Status::RangeNotSatisfiable, vec![])),
        (&[("If-Range", "\"b\""), ("Range", "bytes=1000-")], whole()),
    ];
    for (pairs, expected) in table {
        assert_eq!(get(pairs), expected, "{pairs:?}");
    }
}

#[test]
fn without_a_tag_or_a_strong_date() {
    let of = |representation, pairs: &[(&str, &str)]| answer(Method::Get, representation, 1000, pairs).status;
    assert_eq!(of(stored(None), &[("If-None-Match", "\"\"")]), Status::Ok);
    assert_eq!(of(stored(None), &[("If-None-Match", "*")]), Status::NotModified);
    assert_eq!(of(stored(None), &[("If-Match", "*")]), Status::Ok);
    assert_eq!(of(stored(None), &[("If-Range", "\"a\""), R]), Status::Ok);
    let weak = Representation { is_modified_strong: false, ..stored(None) };
    assert_eq!(of(weak, &[("If-Range", MODIFIED), R]), Status::Ok);
    assert_eq!(of(weak, &[("If-Modified-Since", MODIFIED)]), Status::NotModified);
    let dateless = Representation { last_modified_s: None, ..stored(None) };
    assert_eq!(of(dateless, &[("If-Modified-Since", MODIFIED)]), Status::Ok);
    assert_eq!(of(dateless, &[("If-Unmodified-Since", EARLIER)]), Status::Ok);
}

#[test]
fn head_has_the_length_of_the_whole_and_no_bytes() {
    let head = answer(Method::Head, stored(Some(b"\"a\"")), 1000, &[R]);
    assert_eq!((head.status, head.body_bytes, head.ranges.len()), (Status::Ok, 1000, 0));
}

#[test]
fn an_empty_object() {
    let of = |pairs: &[(&str, &str)]| answer(Method::Get, stored(None), 0, pairs);
    assert_eq!((of(&[]).status, of(&[]).ranges.len()), (Status::Ok, 0));
    assert_eq!(of(&[R]).status, Status::RangeNotSatisfiable);
}

#[test]
fn several_ranges_are_framed() {
    let several = answer(Method::Get, stored(None), 1000, &[("Range", "bytes=-1,0-9,100-199")]);
    assert_eq!(several.ranges, [999..1000, 0..10, 100..200]);
    let multipart = several.multipart.expect("framed");
    let boundary = b"multipart/byteranges; boundary=00000000000000010000000000000002";
    assert_eq!(multipart.content_type, boundary);
    let abusive = answer(Method::Get, stored(None), 1000, &[("Range", "bytes=0-9,5-19,15-29")]);
    assert_eq!(abusive.status, Status::RangeNotSatisfiable);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_announced_is_what_is_framed(
        size in 0..3000_u64,
        specs in prop::collection::vec((prop::option::of(0..3000_u64), prop::option::of(0..400_u64)), 0..6),
        is_head in any::<bool>(),
    ) {
        let text: Vec<String> = specs.iter().map(|(first, more)| match (first, more) {
            (Some(first), Some(more)) => format!("{first}-{}", first + more),
            (Some(first), None) => format!("{first}-"),
            (None, Some(length)) => format!("-{length}"),
            (None, None) => "-1".to_owned(),
        }).collect();
        let value = format!("bytes={}", text.join(","));
        let method = if is_head { Method::Head } else { Method::Get };
        let answer = answer(method, stored(None), size, &[("Range", &value)]);
        let data: u64 = answer.ranges.iter().map(|range| range.end - range.start).sum();
        let frame = answer.multipart.iter().map(|m| m.preludes.iter().map(Vec::len).sum::<usize>() + m.closing.len());
        let frame: usize = frame.sum();
        prop_assert!(answer.ranges.iter().all(|range| range.start < range.end && range.end <= size));
        prop_assert_eq!(answer.multipart.is_some(), answer.ranges.len() > 1);
        if is_head {
            prop_assert_eq!((answer.body_bytes, data), (size, 0));
        } else {
            prop_assert_eq!(answer.body_bytes, data + frame as u64);
        }
    }
}
