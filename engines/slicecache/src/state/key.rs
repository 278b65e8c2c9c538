//! What is one object: the key under which answers are stored (RFC 9111 §2), the fields that select one (Vary, §4.1), and the
//! names that slices and records have in the tier.
//!
//! The key is what the origin is asked for: the target that comes out of here is also the one that is sent, so that two spellings
//! of a URL that share an entry cannot get different answers.

use super::fields::Fields;
use super::forward::FORWARDED;
use crate::planted::{self, Bug};
use sha2::{Digest as _, Sha256};

/// A name in the tier.
pub type Name = [u8; 32];

/// A target that cannot be a key: 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the path has a % without two hexadecimal digits")]
pub struct BadTarget;

/// What is stored under one key: method GET, of an origin, a normalised path and query.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheKey {
    /// `http` or `https`, and the host with the port unless it is the scheme's: of the origin, not as the client spelled it.
    pub origin: String,
    /// The path, normalised; starts with `/`.
    pub path: String,
    /// The query as it came.
    pub query: Option<String>,
}

impl CacheKey {
    /// The key of a request for `path` and `query` that goes to `origin`. HEAD has the key of GET.
    ///
    /// # Errors
    /// The path is malformed.
    pub fn new(origin: &str, path: &str, query: Option<&str>) -> Result<CacheKey, BadTarget> {
        debug_assert!(path.starts_with('/'));
        let path = normalised(path)?;
        Ok(CacheKey { origin: origin.to_owned(), path, query: query.map(str::to_owned) })
    }

    /// What is sent to the origin.
    #[must_use]
    pub fn target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }

    /// The name of the object's record.
    #[must_use]
    pub fn name(&self) -> Name {
        let query = self.query.as_ref().map(|query| query.as_bytes());
        let is_given: &[u8] = if query.is_some() { b"?" } else { b"" };
        digest(
            b"slicecache object",
            &[self.origin.as_bytes(), self.path.as_bytes(), is_given, query.unwrap_or(b"")],
        )
    }
}

/// The name of what `object` is for requests whose `names` fields are those of `request` (§4.1).
#[must_use]
pub fn variant(object: &Name, names: &[String], request: &Fields<'_>) -> Name {
    let mut parts = vec![object.to_vec()];
    for name in names {
        // Absent in both requests is a match; absent and empty are not the same.
        let value = request.joined(name);
        parts.push(name.clone().into_bytes());
        parts.push(if value.is_some() { b"1".to_vec() } else { b"0".to_vec() });
        parts.push(value.map_or_else(Vec::new, |value| spaced_once(&value)));
    }
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    digest(b"slicecache variant", &parts)
}

/// The name of what `object` is as long as nobody knows on which fields its answers depend: for requests that are alike in all that
/// a fetch carries. No variant of any answer has it.
#[must_use]
pub fn unknown_variant(object: &Name, request: &Fields<'_>) -> Name {
    let mut names: Vec<String> = FORWARDED.into_iter().map(str::to_owned).collect();
    names.push("?".to_owned());
    variant(object, &names, request)
}

/// The name of a slice. `version` is drawn anew for each version of an object, so that slices of two never share a name.
#[must_use]
pub fn slice_name(object: &Name, version: u64, slice: u64) -> Name {
    digest(b"slicecache slice", &[object, &version.to_le_bytes(), &slice.to_le_bytes()])
}

/// Of parts with their lengths, so that no two lists of parts are the same bytes.
fn digest(kind: &[u8], parts: &[&[u8]]) -> Name {
    let mut hash = Sha256::new();
    for part in std::iter::once(&kind).chain(parts) {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// The fields that Vary names, in lower case, in order, each once. `None`: `*`, or no field name. Fields that no fetch carries are
/// left out: to the origin they are absent, whatever the client sent.
#[must_use]
pub fn vary_names(response: &Fields<'_>) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for value in response.all("vary") {
        for name in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            let is_name = name.iter().all(|&b| b.is_ascii_alphanumeric() || b"!#$%&'+-.^_`|~".contains(&b));
            if !is_name {
                return None;
            }
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            let is_sent = FORWARDED.contains(&name.as_str()) && !planted::is(Bug::VaryIgnored);
            if is_sent && !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names.sort_unstable();
    Some(names)
}

/// Whitespace around the elements of a list and runs of it mean nothing (§4.1: "normalizing both header field values").
fn spaced_once(value: &[u8]) -> Vec<u8> {
    let words = |element: &[u8]| {
        let words: Vec<&[u8]> =
            element.split(|b| b" \t".contains(b)).filter(|word| !word.is_empty()).collect();
        words.join(&b' ')
    };
    let elements: Vec<Vec<u8>> = value.split(|&b| b == b',').map(words).collect();
    elements.join(&b',')
}

/// RFC 3986 §6.2.2: hexadecimal digits in capitals, what need not be encoded decoded, dot segments removed. `%2F` stays: it is not
/// a separator.
fn normalised(path: &str) -> Result<String, BadTarget> {
    let decoded = decode_unreserved(path)?;
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = decoded.split('/').skip(1).collect();
    let (last, before) = segments.split_last().expect("split gives two pieces when there is a slash");
    for segment in before {
        match *segment {
            "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    match *last {
        "." => kept.push(""),
        ".." => {
            kept.pop();
            kept.push("");
        }
        segment => kept.push(segment),
    }
    Ok(format!("/{}", kept.join("/")))
}

fn decode_unreserved(path: &str) -> Result<String, BadTarget> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let digits = rest.get(at + 1..at + 3).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        let digits = digits.ok_or(BadTarget)?;
        let byte = u8::from_str_radix(digits, 16).expect("two hexadecimal digits");
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push_str(&digits.to_ascii_uppercase());
        }
        rest = &rest[at + 3..];
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(path: &str) -> Result<String, BadTarget> {
        CacheKey::new("http://o", path, None).map(|key| key.path)
    }

    /// Whatever Vary holds: the names are of those that are sent, in order, each once; and a list says the same when it comes twice.
    #[test]
    fn vary_under_mutation() {
        let golden = ["Accept, Origin", "accept-language,, X-Any", ""].map(|text| text.as_bytes().to_vec());
        let decode = |bytes: &[u8]| {
            let once = vary_names(&Fields::of_pairs(&[("Vary", bytes)]));
            assert_eq!(vary_names(&Fields::of_pairs(&[("vary", bytes), ("Vary", bytes)])), once);
            let Some(names) = once else { return false };
            assert!(names.is_sorted() && names.iter().all(|name| FORWARDED.contains(&name.as_str())));
            assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
            true
        };
        mutation::fuzz("Vary", &golden, |_| {}, decode);
    }

    #[test]
    fn paths_are_normalised() {
        for (spelled, normal) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a//b", "/a//b"),
            ("/%61%2d%7E%5f", "/a-~_"),
            ("/%2f%2F%c3%bc", "/%2F%2F%C3%BC"),
            ("/a/./b/../c", "/a/c"),
            ("/a/%2e%2E/c", "/c"),
            ("/a/.", "/a/"),
            ("/a/..", "/"),
            ("/..", "/"),
            ("/../../etc", "/etc"),
            ("/a/...", "/a/..."),
            ("/a/b/", "/a/b/"),
            ("/A", "/A"),
        ] {
            assert_eq!(path(spelled).as_deref(), Ok(normal), "{spelled}");
        }
        for bad in ["/%", "/%4", "/%g0", "/a%4/"] {
            assert_eq!(path(bad), Err(BadTarget), "{bad}");
        }
    }

    #[test]
    fn keys_differ_where_answers_may() {
        let name = |origin, path, query| CacheKey::new(origin, path, query).expect("valid").name();
        let names = [
            name("http://o", "/a", None),
            name("https://o", "/a", None),
            name("http://o:81", "/a", None),
            name("http://o", "/a", Some("")),
            name("http://o", "/a", Some("b")),
            name("http://o", "/a", Some("B")),
            name("http://o/a", "/", None),
            name("http://o", "/a/", None),
        ];
        for (at, one) in names.iter().enumerate() {
            assert!(!names[..at].contains(one), "{at}");
        }
        assert_eq!(name("http://o", "/%61", None), names[0]);
        let key = CacheKey::new("http://o", "/a/./b", Some("q=/./")).expect("valid");
        assert_eq!(key.target(), "/a/b?q=/./");
    }

    #[test]
    fn vary_section_4_1() {
        let of = |value: &str| vary_names(&Fields::of_pairs(&[("Vary", value)]));
        assert_eq!(of(""), Some(vec![]));
        let both = Some(vec!["accept".to_owned(), "origin".to_owned()]);
        assert_eq!(of("Origin, accept,, ORIGIN, Accept-Encoding, User-Agent"), both);
        assert_eq!((of("*"), of("accept, *"), of("a b")), (None, None, None));
    }

    #[test]
    fn variants_differ_by_the_fields_named() {
        let names = ["accept-language".to_owned()];
        let of = |pairs: &[(&str, &str)]| variant(&[7; 32], &names, &Fields::of_pairs(pairs));
        let one = of(&[("Accept-Language", "de, en;q=0.5"), ("X", "1")]);
        assert_eq!(one, of(&[("accept-language", "de"), ("Accept-Language", " en;q=0.5 "), ("X", "2")]));
        assert_eq!(one, of(&[("accept-language", "de ,\ten;q=0.5")]));
        assert_ne!(one, of(&[("accept-language", "en;q=0.5, de")]));
        assert_ne!(of(&[]), of(&[("accept-language", "")]));
        assert_ne!(one, variant(&[8; 32], &names, &Fields::of_pairs(&[("Accept-Language", "de, en;q=0.5")])));
    }

    #[test]
    fn slices_of_two_versions_have_two_names() {
        assert_ne!(slice_name(&[1; 32], 1, 0), slice_name(&[1; 32], 2, 0));
        assert_ne!(slice_name(&[1; 32], 1, 0), slice_name(&[1; 32], 1, 1));
        assert_ne!(slice_name(&[1; 32], 1, 0), slice_name(&[2; 32], 1, 0));
    }

    proptest! {
        #[test]
        fn normal_paths_stay_as_they_are(text in "[/.%a-c2eEfF0-9~]{0,24}") {
            if let Ok(once) = path(&format!("/{text}")) {
                prop_assert!(once.starts_with('/') && !once.contains("/../") && !once.contains("/./"), "{}", once);
                prop_assert_eq!(path(&once), Ok(once));
            }
        }
    }
}
