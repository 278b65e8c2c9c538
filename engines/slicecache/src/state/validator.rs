//! What tells two versions of an object apart: a strong entity tag, else Last-Modified, and the size beside it (RFC 9110 §8.8).
//!
//! Called with each answer of an origin. Invariant: two answers whose [`Version`]s are equal may be put together byte by byte; an
//! answer without a version never may.

use super::fields::Fields;
use net::http1::conditional::is_strong_tag;
use net::http1::{HttpDate, parse_http_date};

/// What a message says of the representation that it carries a part of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Representation<'f> {
    /// ETag as sent, weak or strong.
    pub etag: Option<&'f [u8]>,
    /// Last-Modified.
    pub last_modified_s: Option<u64>,
    /// §8.8.2.2: it was modified a second or more before it was sent, so that a second change shows.
    pub is_modified_strong: bool,
}

impl<'f> Representation<'f> {
    /// Of an answer that came at `response_s`.
    #[must_use]
    pub fn of(fields: &Fields<'f>, response_s: u64) -> Representation<'f> {
        let date = |name| fields.only(name).and_then(|value| parse_http_date(value, response_s));
        let sent_s = date("date").unwrap_or(response_s);
        let last_modified_s = date("last-modified");
        Representation {
            etag: fields.only("etag"),
            last_modified_s,
            is_modified_strong: last_modified_s.is_some_and(|modified_s| modified_s < sent_s),
        }
    }

    /// Its validator; `None`: versions cannot be told apart, so it is not sliced.
    #[must_use]
    pub fn validator(&self) -> Option<Validator> {
        let text = |tag: &[u8]| Some(String::from_utf8_lossy(tag).into_owned()).filter(|_| tag.is_ascii());
        let tag = self.etag.and_then(text);
        if let Some(strong) = tag.clone().filter(|tag| is_strong_tag(tag.as_bytes())) {
            return Some(Validator::Tag(strong));
        }
        let modified_s = self.last_modified_s.filter(|_| self.is_modified_strong)?;
        let weak_tag = tag.filter(|tag| tag.strip_prefix("W/").is_some_and(|t| is_strong_tag(t.as_bytes())));
        Some(Validator::Modified { modified_s, weak_tag })
    }
}

/// Tells versions apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Validator {
    /// A strong entity tag, quotes included.
    Tag(String),
    /// Last-Modified that is a strong validator.
    Modified {
        /// Seconds since 1970.
        modified_s: u64,
        /// A weak tag beside it: when it changes, something did.
        weak_tag: Option<String>,
    },
}

impl Validator {
    /// The field by which a request for a slice asks for this version or nothing (§13.1.1, §13.1.4): of another one the origin
    /// then sends no byte that nobody wants.
    #[must_use]
    pub fn precondition(&self) -> (&'static str, String) {
        match self {
            Validator::Tag(tag) => ("If-Match", tag.clone()),
            Validator::Modified { modified_s, .. } => ("If-Unmodified-Since", date(*modified_s)),
        }
    }

    /// The field by which a request asks whether there is another version (RFC 9111 §4.3.1).
    #[must_use]
    pub fn revalidation(&self) -> (&'static str, String) {
        match self {
            Validator::Tag(tag) | Validator::Modified { weak_tag: Some(tag), .. } => {
                ("If-None-Match", tag.clone())
            }
            Validator::Modified { modified_s, .. } => ("If-Modified-Since", date(*modified_s)),
        }
    }
}

fn date(seconds: u64) -> String {
    String::from_utf8_lossy(HttpDate::at(seconds).as_bytes()).into_owned()
}

/// One state of an object. All bytes of a response are of one of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// See [`Validator`].
    pub validator: Validator,
    /// Of the whole object.
    pub size: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: u64 = 784_111_777;
    const MODIFIED: (&str, &str) = ("Last-Modified", "Sun, 06 Nov 1994 08:49:36 GMT");

    fn validator(pairs: &[(&str, &str)]) -> Option<Validator> {
        Representation::of(&Fields::of_pairs(pairs), NOW_S).validator()
    }

    fn modified(weak_tag: Option<&str>) -> Option<Validator> {
        Some(Validator::Modified { modified_s: NOW_S - 1, weak_tag: weak_tag.map(str::to_owned) })
    }

    #[test]
    fn the_strongest_validator_is_taken() {
        let tag = |text: &str| Some(Validator::Tag(text.to_owned()));
        for (pairs, expected) in [
            (&[("ETag", "\"a\""), MODIFIED][..], tag("\"a\"")),
            (&[("ETag", "W/\"a\""), MODIFIED], modified(Some("W/\"a\""))),
            (&[("ETag", "a"), MODIFIED], modified(None)),
            (&[("ETag", "\"ü\""), MODIFIED], modified(None)),
            (&[("ETag", "\"a\""), ("ETag", "\"b\""), MODIFIED], modified(None)),
            (&[MODIFIED], modified(None)),
            (&[MODIFIED, ("Date", "Sun, 06 Nov 1994 08:49:37 GMT")], modified(None)),
            // §8.8.2.2: it may change again in the same second.
            (&[MODIFIED, ("Date", "Sun, 06 Nov 1994 08:49:36 GMT")], None),
            (&[("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")], None),
            (&[("Last-Modified", "today")], None),
            (&[("ETag", "W/\"a\"")], None),
            (&[], None),
        ] {
            assert_eq!(validator(pairs), expected, "{pairs:?}");
        }
    }

    #[test]
    fn what_is_asked_with_it() {
        let tag = Validator::Tag("\"a\"".to_owned());
        assert_eq!(tag.precondition(), ("If-Match", "\"a\"".to_owned()));
        assert_eq!(tag.revalidation(), ("If-None-Match", "\"a\"".to_owned()));
        let date = || "Sun, 06 Nov 1994 08:49:36 GMT".to_owned();
        let plain = modified(None).expect("one");
        assert_eq!(plain.precondition(), ("If-Unmodified-Since", date()));
        assert_eq!(plain.revalidation(), ("If-Modified-Since", date()));
        let weak = modified(Some("W/\"a\"")).expect("one");
        assert_eq!(weak.precondition(), ("If-Unmodified-Since", date()));
        assert_eq!(weak.revalidation(), ("If-None-Match", "W/\"a\"".to_owned()));
        assert_ne!(weak, plain);
    }
}
