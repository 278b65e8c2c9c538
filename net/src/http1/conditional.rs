//! Preconditions on entity tags and dates (RFC 9110 §8.8, §13).
//!
//! Called by the engines, in the order of RFC 9110 §13.2.2: If-Match, or If-Unmodified-Since without it (else 412),
//! If-None-Match, or If-Modified-Since without it (else 304 for GET and HEAD, 412 otherwise), then If-Range before Range. What
//! has no Last-Modified, as blobs, has no conditions on dates.
//! `current` is the entity tag as sent in ETag, quotes included; `None` means that nothing is stored.
//!
//! A list that is malformed ends where the damage begins: what was read before it counts.

use super::date::parse_http_date;
use super::grammar::is_ows;

/// An entity tag: whether it is weak, and its opaque part with quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct EntityTag<'v> {
    weak: bool,
    opaque: &'v [u8],
}

/// RFC 9110 §8.8.3.2, strong comparison: "two entity tags are equivalent if both are not weak and their opaque-tags
/// match character-by-character".
#[must_use]
pub fn strong_match(one: &[u8], other: &[u8]) -> bool {
    match (whole_tag(one), whole_tag(other)) {
        (Some(one), Some(other)) => !one.weak && !other.weak && one.opaque == other.opaque,
        _ => false,
    }
}

/// RFC 9110 §13.1.1: true for `*` if anything is stored, or if a listed tag matches strongly. False: 412.
#[must_use]
pub fn if_match_holds(value: &[u8], current: Option<&[u8]>) -> bool {
    let Some(current) = current else { return false };
    value == b"*"
        || whole_tag(current).is_some_and(|current| tags(value).any(|tag| !tag.weak && tag == current))
}

/// RFC 9110 §13.1.2: false for `*` if anything is stored, or if a listed tag matches weakly.
#[must_use]
pub fn if_none_match_holds(value: &[u8], current: Option<&[u8]>) -> bool {
    let Some(current) = current else { return true };
    let listed =
        || whole_tag(current).is_some_and(|current| tags(value).any(|tag| tag.opaque == current.opaque));
    value != b"*" && !listed()
}

/// RFC 9110 §13.1.3: false (304) if it was not modified after the date. A date that is none holds.
#[must_use]
pub fn if_modified_since_holds(value: &[u8], last_modified_s: u64, now_s: u64) -> bool {
    parse_http_date(value, now_s).is_none_or(|since_s| last_modified_s > since_s)
}

/// RFC 9110 §13.1.4: false (412) if it was modified after the date. A date that is none holds.
#[must_use]
pub fn if_unmodified_since_holds(value: &[u8], last_modified_s: u64, now_s: u64) -> bool {
    parse_http_date(value, now_s).is_none_or(|since_s| last_modified_s <= since_s)
}

/// RFC 9110 §13.1.5: whether Range is to be heeded, for an If-Range that holds a date: exactly that of Last-Modified, and this
/// one a strong validator, which the caller knows.
#[must_use]
pub fn if_range_date_holds(value: &[u8], last_modified_s: u64, now_s: u64) -> bool {
    parse_http_date(value, now_s) == Some(last_modified_s)
}

/// Whether `text` is one strong entity tag and nothing else.
#[must_use]
pub fn is_strong_tag(text: &[u8]) -> bool {
    whole_tag(text).is_some_and(|tag| !tag.weak)
}

/// RFC 9110 §13.1.5: whether Range is to be heeded. Strong comparison; a date never matches.
#[must_use]
pub fn if_range_holds(value: &[u8], current: &[u8]) -> bool {
    strong_match(value, current)
}

/// `entity-tag = [ %s"W/" ] DQUOTE *etagc DQUOTE` at the start of `text`, and what follows it.
fn leading_tag(text: &[u8]) -> Option<(EntityTag<'_>, &[u8])> {
    let (weak, quoted) = match text.strip_prefix(b"W/") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let inner = quoted.strip_prefix(b"\"")?;
    // etagc = %x21 / %x23-7E / obs-text: a comma may be part of a tag, a space may not.
    let end = inner.iter().position(|&byte| byte <= b' ' || byte == b'"' || byte == 0x7f)?;
    if inner[end] != b'"' {
        return None;
    }
    let (opaque, rest) = quoted.split_at(end + 2);
    Some((EntityTag { weak, opaque }, rest))
}

fn whole_tag(text: &[u8]) -> Option<EntityTag<'_>> {
    leading_tag(text).and_then(|(tag, rest)| rest.is_empty().then_some(tag))
}

/// The tags of a list, up to its end or the first damage.
fn tags(value: &[u8]) -> impl Iterator<Item = EntityTag<'_>> {
    let mut rest = value;
    let mut separated = true;
    std::iter::from_fn(move || {
        while let [first, tail @ ..] = rest
            && (is_ows(*first) || *first == b',')
        {
            separated |= *first == b',';
            rest = tail;
        }
        let (tag, tail) = leading_tag(rest).filter(|_| separated)?;
        rest = tail;
        separated = false;
        Some(tag)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Option<&[u8]> = Some(b"\"a\"");

    #[test]
    fn strong_comparison() {
        // The table of RFC 9110 §8.8.3.2, with weak comparison through If-None-Match.
        let table: [(&[u8], &[u8], bool, bool); 4] = [
            (b"W/\"1\"", b"W/\"1\"", false, true),
            (b"W/\"1\"", b"W/\"2\"", false, false),
            (b"W/\"1\"", b"\"1\"", false, true),
            (b"\"1\"", b"\"1\"", true, true),
        ];
        for (one, other, strong, weak) in table {
            assert_eq!(strong_match(one, other), strong, "{one:?}");
            assert_eq!(!if_none_match_holds(one, Some(other)), weak, "{one:?}");
        }
        for bad in [&b"1"[..], b"", b"\"", b"w/\"1\"", b"\"1\" ", b"\"1", b"*"] {
            assert!(!strong_match(bad, bad), "{bad:?}");
        }
    }

    #[test]
    fn if_none_match() {
        for hit in [
            &b"\"a\""[..],
            b"*",
            b"W/\"a\"",
            b"\"b\", \"a\"",
            b"\"b\",\"a\"",
            b",, \"b\" ,\t\"a\"",
            b"\"x,y\", \"a\"",
            b"\"a\" junk",
        ] {
            assert!(!if_none_match_holds(hit, A), "{hit:?}");
            assert!(if_none_match_holds(hit, None), "{hit:?}");
        }
        for miss in [
            &b""[..],
            b"\"b\"",
            b"a",
            b"\"A\"",
            b"\"b\" \"a\"",
            b"\"b,\"a\"",
            b"junk, \"a\"",
            b"\"x, \"a\"",
            b"*, \"b\"",
            b"w/\"a\"",
        ] {
            assert!(if_none_match_holds(miss, A), "{miss:?}");
        }
    }

    #[test]
    fn if_match() {
        assert!(if_match_holds(b"*", A));
        assert!(!if_match_holds(b"*", None));
        assert!(!if_match_holds(b"\"a\"", None));
        assert!(if_match_holds(b"\"b\", \"a\"", A));
        assert!(!if_match_holds(b"W/\"a\"", A));
        assert!(!if_match_holds(b"\"b\"", A));
        assert!(!if_match_holds(b"W/\"a\"", Some(b"W/\"a\"")));
    }

    #[test]
    fn if_range() {
        assert!(if_range_holds(b"\"a\"", b"\"a\""));
        for miss in [&b"W/\"a\""[..], b"\"b\"", b"Sun, 06 Nov 1994 08:49:37 GMT", b"\"a\", \"b\"", b"*", b""]
        {
            assert!(!if_range_holds(miss, b"\"a\""), "{miss:?}");
        }
    }

    #[test]
    fn conditions_on_dates() {
        // 2026-11-21; the example of the RFC is 784,111,777.
        const NOW_S: u64 = 1_795_219_200;
        let date = b"Sun, 06 Nov 1994 08:49:37 GMT";
        for (last_modified_s, is_after) in [(784_111_776, false), (784_111_777, false), (784_111_778, true)] {
            assert_eq!(if_modified_since_holds(date, last_modified_s, NOW_S), is_after);
            assert_eq!(if_unmodified_since_holds(date, last_modified_s, NOW_S), !is_after);
            let is_same = last_modified_s == 784_111_777;
            assert_eq!(if_range_date_holds(date, last_modified_s, NOW_S), is_same);
        }
        for bad in [&b"yesterday"[..], b"", b"\"a\""] {
            assert!(
                if_modified_since_holds(bad, 0, NOW_S) && if_unmodified_since_holds(bad, u64::MAX, NOW_S)
            );
            assert!(!if_range_date_holds(bad, 0, NOW_S));
        }
    }

    #[test]
    fn strong_tags() {
        assert!(is_strong_tag(b"\"a\"") && is_strong_tag(b"\"\""));
        for not in [&b"W/\"a\""[..], b"a", b"\"a\"x", b"", b"*"] {
            assert!(!is_strong_tag(not), "{not:?}");
        }
    }
}
