//! `a=b&c=d`: the query of a target or an urlencoded form (WHATWG URL §5.1, as Go's `url.ParseQuery` reads it).
//!
//! Called by the engines' `serve`. Decoded text is UTF-8; what needs no decoding is borrowed.

use std::borrow::Cow;

use super::limits::QUERY_PAIRS_MAX;
use super::response::Status;

/// Why a query was refused: the client's fault, 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// `%` without two hexadecimal digits.
    #[error("malformed percent-encoding in query")]
    Percent,
    /// The decoded bytes are no text.
    #[error("query is not UTF-8")]
    NotUtf8,
    /// More than `QUERY_PAIRS_MAX`.
    #[error("more than {QUERY_PAIRS_MAX} query parameters")]
    TooManyPairs,
}

impl QueryError {
    /// The status to answer with.
    #[must_use]
    pub fn status(self) -> Status {
        Status::BadRequest
    }
}

/// A decoded name and value.
pub type Pair<'q> = (Cow<'q, str>, Cow<'q, str>);

/// The pairs of `query` in order. `a` is `a` with an empty value; empty pieces (`a&&b`) are skipped. After the first
/// error the iterator ends.
pub fn pairs(query: &str) -> impl Iterator<Item = Result<Pair<'_>, QueryError>> {
    let mut pieces = query.split('&').filter(|piece| !piece.is_empty());
    let mut count = 0;
    let mut failed = false;
    std::iter::from_fn(move || {
        if failed {
            return None;
        }
        let piece = pieces.next()?;
        count += 1;
        let pair = if count > QUERY_PAIRS_MAX { Err(QueryError::TooManyPairs) } else { decode_pair(piece) };
        failed = pair.is_err();
        Some(pair)
    })
}

fn decode_pair(piece: &str) -> Result<Pair<'_>, QueryError> {
    let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
    Ok((decode(name)?, decode(value)?))
}

/// Replaces `+` by a space and `%XX` by its byte.
fn decode(text: &str) -> Result<Cow<'_, str>, QueryError> {
    let Some(plain_len) = text.bytes().position(|byte| byte == b'+' || byte == b'%') else {
        return Ok(Cow::Borrowed(text));
    };
    let mut out = Vec::with_capacity(text.len());
    out.extend_from_slice(&text.as_bytes()[..plain_len]);
    let mut rest = &text.as_bytes()[plain_len..];
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match (byte, tail) {
            (b'%', [high, low, after @ ..]) => {
                out.push(hex_digit(*high)? << 4 | hex_digit(*low)?);
                rest = after;
            }
            (b'%', _) => return Err(QueryError::Percent),
            (b'+', _) => out.push(b' '),
            (_, _) => out.push(*byte),
        }
    }
    String::from_utf8(out).map(Cow::Owned).map_err(|_| QueryError::NotUtf8)
}

fn hex_digit(byte: u8) -> Result<u8, QueryError> {
    match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        b'A'..=b'F' => Ok(byte - b'A' + 10),
        _ => Err(QueryError::Percent),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(query: &str) -> Result<Vec<(String, String)>, QueryError> {
        pairs(query).map(|pair| pair.map(|(name, value)| (name.into_owned(), value.into_owned()))).collect()
    }

    fn owned(list: &[(&str, &str)]) -> Result<Vec<(String, String)>, QueryError> {
        Ok(list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn plain_and_encoded() {
        assert_eq!(all(""), owned(&[]));
        assert_eq!(all("a=b&c=d"), owned(&[("a", "b"), ("c", "d")]));
        assert_eq!(all("&a&&b=&=c&"), owned(&[("a", ""), ("b", ""), ("", "c")]));
        assert_eq!(all("a=b=c"), owned(&[("a", "b=c")]));
        assert_eq!(
            all("match%5B%5D=up%7Bx%3d%22y%22%7D&q=1+2%2B3"),
            owned(&[("match[]", "up{x=\"y\"}"), ("q", "1 2+3")])
        );
        assert_eq!(all("a=%26%3D"), owned(&[("a", "&=")]));
        assert_eq!(all("a=%c3%bc"), owned(&[("a", "ü")]));
        assert!(matches!(pairs("a=b").next(), Some(Ok((Cow::Borrowed("a"), Cow::Borrowed("b"))))));
    }

    #[test]
    fn malformed() {
        for bad in ["%", "a=%", "a=%4", "a=%4&b", "a=%zz", "a=%+1", "a=%é1", "%g0=a"] {
            assert_eq!(all(bad), Err(QueryError::Percent), "{bad}");
        }
        assert_eq!(all("a=%ff"), Err(QueryError::NotUtf8));
        let mut after_error = pairs("a=%&b=c");
        assert_eq!(after_error.next(), Some(Err(QueryError::Percent)));
        assert_eq!(after_error.next(), None);
    }

    #[test]
    fn bounded() {
        let at_most = vec!["a"; QUERY_PAIRS_MAX].join("&");
        assert_eq!(all(&at_most).map(|list| list.len()), Ok(QUERY_PAIRS_MAX));
        assert_eq!(all(&(at_most + "&a")), Err(QueryError::TooManyPairs));
    }

    proptest! {
        #[test]
        fn what_was_encoded_comes_back(list in prop::collection::vec((any::<String>(), any::<String>()), 0..8)) {
            let encode = |text: &str| -> String { text.bytes().map(|byte| format!("%{byte:02X}")).collect() };
            let pieces: Vec<String> = list.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
            prop_assert_eq!(all(&pieces.join("&")), Ok(list));
        }

        #[test]
        fn nothing_panics(query in any::<String>()) {
            let _ = all(&query);
        }
    }
}
