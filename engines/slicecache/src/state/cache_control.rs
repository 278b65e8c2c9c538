//! Cache-Control of a request or a response (RFC 9111 §5.2, RFC 5861), and Pragma (§5.4).
//!
//! Read leniently where that is safe, strictly where it is not: an unknown directive is ignored (§5.2.3), a number that is
//! none counts as 0 (§4.2.1: "encouraged to consider responses that have invalid freshness information to be stale"), of two
//! numbers the smaller one holds, and a list that is malformed is one that forbids to store.

use super::fields::Fields;
use crate::limits::DIRECTIVES_MAX;

/// §1.2.2: the greatest number of seconds; what does not fit is this.
pub const DELTA_SECONDS_MAX: u64 = 1 << 31;

/// The directives that mean something to a shared cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheControl {
    /// There is a Cache-Control at all.
    pub is_given: bool,
    /// §5.2.1.5, §5.2.2.5; also a malformed list.
    pub no_store: bool,
    /// §5.2.1.4, §5.2.2.4; with field names too (the names are a refinement that a cache need not know).
    pub no_cache: bool,
    /// §5.2.2.7; with field names too.
    pub private: bool,
    /// §5.2.2.9
    pub public: bool,
    /// §5.2.2.2 and, for us the same, §5.2.2.8.
    pub must_revalidate: bool,
    /// §5.2.2.3
    pub must_understand: bool,
    /// §5.2.1.7
    pub only_if_cached: bool,
    /// §5.2.1.1, §5.2.2.1
    pub max_age_s: Option<u64>,
    /// §5.2.2.10
    pub s_maxage_s: Option<u64>,
    /// §5.2.1.3
    pub min_fresh_s: Option<u64>,
    /// §5.2.1.2; without a number: any staleness.
    pub max_stale_s: Option<u64>,
    /// RFC 5861 §3
    pub stale_while_revalidate_s: Option<u64>,
    /// RFC 5861 §4
    pub stale_if_error_s: Option<u64>,
}

impl CacheControl {
    /// That of a response.
    #[must_use]
    pub fn of_response(fields: &Fields<'_>) -> CacheControl {
        let mut found = CacheControl::default();
        for value in fields.all("cache-control") {
            found.read(value);
        }
        found
    }

    /// That of a request: `Pragma: no-cache` counts when there is no Cache-Control (§5.4).
    #[must_use]
    pub fn of_request(fields: &Fields<'_>) -> CacheControl {
        let mut found = CacheControl::of_response(fields);
        let is_asked = |value: &[u8]| {
            value.split(|&b| b == b',').any(|p| p.trim_ascii().eq_ignore_ascii_case(b"no-cache"))
        };
        found.no_cache |= !found.is_given && fields.all("pragma").any(is_asked);
        found
    }

    fn read(&mut self, value: &[u8]) {
        self.is_given = true;
        let mut directives = Directives { rest: value, left: DIRECTIVES_MAX };
        loop {
            match directives.next() {
                Ok(Some((name, argument))) => self.take(name, argument),
                Ok(None) => return,
                Err(Malformed) => {
                    self.no_store = true;
                    return;
                }
            }
        }
    }

    fn take(&mut self, name: &[u8], argument: Option<&[u8]>) {
        let seconds = argument.and_then(delta_seconds);
        match name.to_ascii_lowercase().as_slice() {
            b"no-store" => self.no_store = true,
            b"no-cache" => self.no_cache = true,
            b"private" => self.private = true,
            b"public" => self.public = true,
            b"must-revalidate" | b"proxy-revalidate" => self.must_revalidate = true,
            b"must-understand" => self.must_understand = true,
            b"only-if-cached" => self.only_if_cached = true,
            b"max-age" => least(&mut self.max_age_s, seconds.unwrap_or(0)),
            b"s-maxage" => least(&mut self.s_maxage_s, seconds.unwrap_or(0)),
            b"stale-while-revalidate" => least(&mut self.stale_while_revalidate_s, seconds.unwrap_or(0)),
            b"stale-if-error" => least(&mut self.stale_if_error_s, seconds.unwrap_or(0)),
            // Alone it has no bound; a number that is none is no permission.
            b"max-stale" if argument.is_none() => least(&mut self.max_stale_s, DELTA_SECONDS_MAX),
            b"max-stale" => least(&mut self.max_stale_s, seconds.unwrap_or(0)),
            // A number that is none asks for nothing.
            b"min-fresh" => self.min_fresh_s = self.min_fresh_s.max(seconds),
            _ => {}
        }
    }
}

fn least(place: &mut Option<u64>, seconds: u64) {
    *place = Some(place.map_or(seconds, |before| before.min(seconds)));
}

/// §1.2.2: `delta-seconds = 1*DIGIT`.
#[must_use]
pub fn delta_seconds(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: u64, digit: &u8| (sum * 10 + u64::from(digit - b'0')).min(DELTA_SECONDS_MAX);
    Some(text.iter().fold(0, add))
}

struct Malformed;

/// Name and argument.
type Directive<'v> = (&'v [u8], Option<&'v [u8]>);

/// `1#( token [ "=" ( token / quoted-string ) ] )`, empty elements between.
struct Directives<'v> {
    rest: &'v [u8],
    left: usize,
}

impl<'v> Directives<'v> {
    fn next(&mut self) -> Result<Option<Directive<'v>>, Malformed> {
        while let [b' ' | b'\t' | b',', tail @ ..] = self.rest {
            self.rest = tail;
        }
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.left = self.left.checked_sub(1).ok_or(Malformed)?;
        let name = self.token()?;
        let argument = match self.rest {
            [b'=', b'"', tail @ ..] => Some(self.quoted(tail)?),
            [b'=', tail @ ..] => {
                self.rest = tail;
                Some(self.token()?)
            }
            _ => None,
        };
        self.rest = self.rest.trim_ascii_start();
        match self.rest.first() {
            None | Some(b',') => Ok(Some((name, argument))),
            Some(_) => Err(Malformed),
        }
    }

    fn token(&mut self) -> Result<&'v [u8], Malformed> {
        let is_end = |&byte: &u8| matches!(byte, b' ' | b'\t' | b',' | b'=' | b'"' | b';');
        let len = self.rest.iter().position(is_end).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(len);
        self.rest = rest;
        if token.is_empty() { Err(Malformed) } else { Ok(token) }
    }

    /// What is between the quotes; an escape in it is left as it stands, since no argument that we read has one.
    fn quoted(&mut self, inner: &'v [u8]) -> Result<&'v [u8], Malformed> {
        let mut at = 0;
        while let Some(&byte) = inner.get(at) {
            match byte {
                b'"' => {
                    self.rest = &inner[at + 1..];
                    return Ok(&inner[..at]);
                }
                b'\\' => at += 2,
                _ => at += 1,
            }
        }
        Err(Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(value: &str) -> CacheControl {
        CacheControl::of_response(&Fields::of_pairs(&[("Cache-Control", value)]))
    }

    fn given() -> CacheControl {
        CacheControl { is_given: true, ..CacheControl::default() }
    }

    #[test]
    fn directives() {
        let table = [
            ("", given()),
            ("no-store", CacheControl { no_store: true, ..given() }),
            ("NO-Cache=\"set-cookie, x\"", CacheControl { no_cache: true, ..given() }),
            ("private=x", CacheControl { private: true, ..given() }),
            (", ,public ,", CacheControl { public: true, ..given() }),
            ("proxy-revalidate", CacheControl { must_revalidate: true, ..given() }),
            ("must-revalidate", CacheControl { must_revalidate: true, ..given() }),
            ("must-understand", CacheControl { must_understand: true, ..given() }),
            ("only-if-cached", CacheControl { only_if_cached: true, ..given() }),
            ("max-age=10", CacheControl { max_age_s: Some(10), ..given() }),
            ("max-age=\"10\"", CacheControl { max_age_s: Some(10), ..given() }),
            ("max-age=10, max-age=5, max-age=7", CacheControl { max_age_s: Some(5), ..given() }),
            ("max-age=-1", CacheControl { max_age_s: Some(0), ..given() }),
            ("max-age=1.5", CacheControl { max_age_s: Some(0), ..given() }),
            ("max-age", CacheControl { max_age_s: Some(0), ..given() }),
            ("max-age=99999999999999999999", CacheControl { max_age_s: Some(1 << 31), ..given() }),
            ("s-maxage=1,x-max-age=2", CacheControl { s_maxage_s: Some(1), ..given() }),
            ("max-stale", CacheControl { max_stale_s: Some(1 << 31), ..given() }),
            ("max-stale=5", CacheControl { max_stale_s: Some(5), ..given() }),
            ("max-stale=x", CacheControl { max_stale_s: Some(0), ..given() }),
            ("min-fresh=5, min-fresh=x", CacheControl { min_fresh_s: Some(5), ..given() }),
            ("stale-while-revalidate=3", CacheControl { stale_while_revalidate_s: Some(3), ..given() }),
            ("stale-if-error=4", CacheControl { stale_if_error_s: Some(4), ..given() }),
            ("x=\"no-store\", y=\"\\\"no-store\"", given()),
        ];
        for (value, expected) in table {
            assert_eq!(read(value), expected, "{value}");
        }
    }

    #[test]
    fn a_malformed_list_forbids_to_store() {
        for bad in
            ["max-age=\"10", "max-age=10; public", "=", "max-age==1", "public public", "a=\"b\"c", "\""]
        {
            assert!(read(bad).no_store, "{bad}");
        }
        let many = vec!["x"; DIRECTIVES_MAX];
        assert!(!read(&many.join(",")).no_store);
        assert!(read(&[many.join(","), "x".to_owned()].join(",")).no_store);
    }

    #[test]
    fn several_lines_are_one_list_and_pragma_counts_for_requests_alone() {
        let pairs = [("cache-control", "max-age=3"), ("Cache-Control", "no-cache")];
        let both = CacheControl::of_response(&Fields::of_pairs(&pairs));
        assert_eq!(both, CacheControl { max_age_s: Some(3), no_cache: true, ..given() });
        let pragma = [("Pragma", "x, No-Cache")];
        assert!(CacheControl::of_request(&Fields::of_pairs(&pragma)).no_cache);
        assert!(!CacheControl::of_response(&Fields::of_pairs(&pragma)).no_cache);
        let covered = [("Pragma", "no-cache"), ("Cache-Control", "max-age=3")];
        assert!(!CacheControl::of_request(&Fields::of_pairs(&covered)).no_cache);
    }

    /// Whatever the bytes: no number is above the greatest one, and a list that is taken says the same when it comes twice.
    #[test]
    fn directives_under_mutation() {
        let golden =
            ["max-age=10, s-maxage=\"20\", public", "no-cache=\"a, b\", private", "max-stale, min-fresh=3"];
        let golden = golden.map(|text| text.as_bytes().to_vec());
        mutation::fuzz(
            "Cache-Control",
            &golden,
            |_| {},
            |bytes| {
                let once = CacheControl::of_request(&Fields::of_pairs(&[("Cache-Control", bytes)]));
                let numbers = [once.max_age_s, once.s_maxage_s, once.min_fresh_s, once.max_stale_s];
                assert!(numbers.into_iter().flatten().all(|seconds| seconds <= DELTA_SECONDS_MAX));
                let twice = [("Cache-Control", bytes), ("cache-control", bytes)];
                assert_eq!(CacheControl::of_request(&Fields::of_pairs(&twice)), once);
                !once.no_store
            },
        );
    }

    proptest! {
        #[test]
        fn order_and_spaces_mean_nothing(
            mut list in prop::collection::vec(prop::sample::select(vec![
                "no-cache", "max-age=7", "max-age=9", "public", "s-maxage=\"4\"", "x=y", "stale-if-error=8", "",
            ]), 0..8),
            commas in prop::sample::select(vec![",", " , ", ",,", "\t,"]),
        ) {
            let one = read(&list.join(","));
            list.reverse();
            prop_assert_eq!(one, read(&list.join(commas)));
        }
    }
}
