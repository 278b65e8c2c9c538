//! Requests that say nothing but what they want: a GET without a body, a condition, credentials or a wish about caches. Pure.
//!
//! Called by `serve` before anything of a head is copied. All that the long way reads of a request is in [`DECIDES`], in `FORWARDED`
//! of `forward` (by which variants are told apart), or Range.

use net::http1::{BodyLength, Head, Method};

/// Fields that decide what a request is answered.
const DECIDES: [&str; 9] = [
    "authorization",
    "cache-control",
    "cookie",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "pragma",
];

/// What such a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain<'h> {
    /// As the client spells it.
    pub target: &'h str,
    /// Its only Range.
    pub range: Option<&'h [u8]>,
}

/// What a plain request wants; `None`: it is not plain.
#[must_use]
pub fn plain<'h>(head: &Head<'h>) -> Option<Plain<'h>> {
    if head.method != Method::Get || !matches!(head.body, BodyLength::None) {
        return None;
    }
    let mut range = None;
    for (name, value) in head.headers() {
        if name.eq_ignore_ascii_case(b"range") {
            if range.replace(value).is_some() {
                return None;
            }
        } else if DECIDES.iter().any(|decides| decides.as_bytes().eq_ignore_ascii_case(name)) {
            return None;
        }
    }
    Some(Plain { target: head.target, range })
}

#[cfg(test)]
mod tests {
    use super::*;
    use net::http1::{Parsed, parse_head};

    fn is_plain(method: &str, fields: &str) -> bool {
        let text = format!("{method} /a?b HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        let Ok(Parsed::Complete(head)) = parse_head(text.as_bytes()) else { panic!("not a head: {text}") };
        let plain = plain(&head);
        assert!(plain.is_none_or(|plain| plain.target == "/a?b"));
        plain.is_some()
    }

    #[test]
    fn only_a_get_that_wishes_nothing_is_plain() {
        assert!(is_plain("GET", "") && is_plain("GET", "Accept: */*\r\nUser-Agent: a\r\nX-A: b\r\n"));
        assert!(is_plain("GET", "Range: bytes=0-1\r\n"));
        assert!(!is_plain("GET", "Range: bytes=0-1\r\nrange: bytes=2-3\r\n"));
        assert!(!is_plain("HEAD", "") && !is_plain("PURGE", "") && !is_plain("POST", ""));
        assert!(!is_plain("GET", "Content-Length: 1\r\n"));
        for name in DECIDES {
            assert!(!is_plain("GET", &format!("{}: x\r\n", name.to_ascii_uppercase())), "{name}");
        }
    }

    #[test]
    fn the_range_is_given_as_it_is() {
        let text = b"GET / HTTP/1.1\r\nHost: h\r\nRange:  bytes=1-2 \r\n\r\n";
        let Ok(Parsed::Complete(head)) = parse_head(text) else { panic!("a head") };
        assert_eq!(plain(&head).and_then(|plain| plain.range), Some(&b"bytes=1-2"[..]));
    }
}
