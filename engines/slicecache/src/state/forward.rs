//! Which fields go where: from a client to the origin, and from an origin's answer into the store and to clients. And which requests
//! pass by the cache.
//!
//! What is shared must not depend on what one client sent: a fetch whose answer may be stored carries [`FORWARDED`] of the client's
//! fields and nothing else, and where the answer depends on those (Vary) so does the key. Fields that nobody keys, method overrides
//! and the like never reach the origin in such a fetch. What passes by the cache carries all that is the client's to send.

use super::cache_control::CacheControl;
use super::fields::Fields;
use super::freshness::NotStored;
use net::http1::{BodyLength, Method};

/// The fields of a client that a fetch carries. `vary_names` knows that no others are sent.
pub const FORWARDED: [&str; 3] = ["accept", "accept-language", "origin"];

/// RFC 9110 §7.6.1, and the two of §11.7 that are for the next hop alone: of one connection, never forwarded nor stored (RFC 9111
/// §3.1).
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "proxy-connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
];

/// Fields of a request that we write ourselves.
const OURS_OF_REQUEST: [&str; 4] = ["host", "content-length", "expect", "via"];

/// Fields of an answer that we write ourselves. To Via and Cache-Status we add.
const OURS_OF_ANSWER: [&str; 5] = ["content-length", "content-range", "accept-ranges", "age", "x-cache"];

/// RFC 9111 §3.2: what a 304 does not replace of what is stored: it describes a body that did not come.
const OF_BODY: [&str; 4] = ["content-encoding", "content-type", "content-md5", "etag"];

/// Why a request passes by the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bypassed {
    /// Neither GET nor HEAD.
    Method,
    /// A GET with a body: what it means is between client and origin.
    Body,
    /// It is for one client: Authorization or Cookie.
    Private,
    /// RFC 9111 §5.2.1.5
    NoStore,
    /// The path is not among those that are sliced.
    Pattern,
    /// What the origin has of it cannot be sliced or stored, lately at least; and why, if that is a rule for what is stored.
    NotStored(Option<NotStored>),
}

/// Whether a request passes by the cache.
#[must_use]
pub fn why_bypassed(
    method: Method,
    body: BodyLength,
    fields: &Fields<'_>,
    control: &CacheControl,
    is_sliced: bool,
) -> Option<Bypassed> {
    if !matches!(method, Method::Get | Method::Head) {
        return Some(Bypassed::Method);
    }
    if !matches!(body, BodyLength::None | BodyLength::Length(0)) {
        return Some(Bypassed::Body);
    }
    if fields.has("authorization") || fields.has("cookie") {
        return Some(Bypassed::Private);
    }
    if control.no_store {
        return Some(Bypassed::NoStore);
    }
    (!is_sliced).then_some(Bypassed::Pattern)
}

/// A field that is sent on or kept.
pub type Line = (Vec<u8>, Vec<u8>);

/// What a fetch carries whose answer may be stored.
#[must_use]
pub fn of_fetch(request: &Fields<'_>) -> Vec<Line> {
    let line = |name: &str| Some((name.as_bytes().to_vec(), request.joined(name)?.into_owned()));
    FORWARDED.into_iter().filter_map(line).collect()
}

/// What a request carries that passes by the cache.
#[must_use]
pub fn of_passed_request(request: &Fields<'_>) -> Vec<Line> {
    kept(request, &OURS_OF_REQUEST)
}

/// What of an answer is stored and sent: all but what is of one connection, and what we write ourselves.
#[must_use]
pub fn of_answer(response: &Fields<'_>) -> Vec<Line> {
    kept(response, &OURS_OF_ANSWER)
}

/// What of an answer is sent that passes by the cache: all but what is of one connection, how its body is framed, and those to which
/// we add.
#[must_use]
pub fn of_passed_answer(response: &Fields<'_>) -> Vec<Line> {
    kept(response, &["content-length", "via", "cache-status", "x-cache"])
}

/// RFC 9111 §3.2: what is stored once a 304 has come. Each field of it replaces all of that name.
#[must_use]
pub fn refreshed(stored: &[Line], response: &Fields<'_>) -> Vec<Line> {
    let mut new = of_answer(response);
    new.retain(|(name, _)| !is_one_of(name, &OF_BODY));
    let is_replaced = |(name, _): &&Line| new.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
    let mut lines: Vec<Line> = stored.iter().filter(|line| !is_replaced(line)).cloned().collect();
    lines.append(&mut new);
    lines
}

fn kept(fields: &Fields<'_>, ours: &[&str]) -> Vec<Line> {
    let of_connection = fields.joined("connection").unwrap_or_default();
    let is_listed = |name: &[u8]| {
        of_connection.split(|&b| b == b',').any(|listed| listed.trim_ascii().eq_ignore_ascii_case(name))
    };
    let is_kept = |(name, _): &(&[u8], &[u8])| {
        !is_one_of(name, &HOP_BY_HOP) && !is_one_of(name, ours) && !is_listed(name)
    };
    fields.lines().filter(is_kept).map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}

fn is_one_of(name: &[u8], names: &[&str]) -> bool {
    names.iter().any(|other| other.as_bytes().eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::key::vary_names;

    fn text(lines: Vec<Line>) -> Vec<String> {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        lines.into_iter().map(|(name, value)| format!("{}: {}", text(name), text(value))).collect()
    }

    #[test]
    fn what_passes_by_the_cache() {
        let why = |method, body, pairs: &[(&str, &str)], is_sliced| {
            let fields = Fields::of_pairs(pairs);
            why_bypassed(method, body, &fields, &CacheControl::of_request(&fields), is_sliced)
        };
        let none = BodyLength::None;
        assert_eq!(why(Method::Get, none, &[("Range", "bytes=0-1")], true), None);
        assert_eq!(why(Method::Head, BodyLength::Length(0), &[], true), None);
        for method in [Method::Post, Method::Put, Method::Delete, Method::Options, Method::Other] {
            assert_eq!(why(method, none, &[], true), Some(Bypassed::Method));
        }
        assert_eq!(why(Method::Get, BodyLength::Length(1), &[], true), Some(Bypassed::Body));
        assert_eq!(why(Method::Get, BodyLength::Chunked, &[], true), Some(Bypassed::Body));
        assert_eq!(why(Method::Get, none, &[("authorization", "x")], true), Some(Bypassed::Private));
        assert_eq!(why(Method::Get, none, &[("Cookie", "a=b")], true), Some(Bypassed::Private));
        assert_eq!(why(Method::Get, none, &[("Cache-Control", "no-store")], true), Some(Bypassed::NoStore));
        assert_eq!(why(Method::Get, none, &[], false), Some(Bypassed::Pattern));
    }

    /// The list of the cache-poisoning papers: none of these reaches the origin in a fetch that others share.
    #[test]
    fn what_nobody_keys_is_not_sent() {
        let pairs = [
            ("Accept", "a"),
            ("accept", "b"),
            ("Accept-Encoding", "br"),
            ("X-Forwarded-Host", "evil"),
            ("X-Forwarded-Scheme", "http"),
            ("X-HTTP-Method-Override", "DELETE"),
            ("X-Original-URL", "/admin"),
            ("X-Oversized", "aaaa"),
            ("User-Agent", "u"),
            ("Range", "bytes=0-1"),
            ("If-None-Match", "\"a\""),
            ("Origin", "http://o"),
        ];
        let sent = text(of_fetch(&Fields::of_pairs(&pairs)));
        assert_eq!(sent, ["accept: a, b", "origin: http://o"]);
        let vary = [("Vary", "Accept, Accept-Language, Origin, Accept-Encoding, User-Agent, Cookie")];
        let names = vary_names(&Fields::of_pairs(&vary)).expect("fine");
        assert_eq!(names, FORWARDED, "the key covers what is sent");
    }

    #[test]
    fn what_is_of_one_connection_stays_there() {
        let pairs = [
            ("Connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("Keep-Alive", "5"),
            ("TE", "trailers"),
            ("Proxy-Authorization", "x"),
            ("Upgrade", "h2c"),
            ("Host", "h"),
            ("Cookie", "a=b"),
            ("Via", "1.1 x"),
        ];
        assert_eq!(text(of_passed_request(&Fields::of_pairs(&pairs))), ["Cookie: a=b"]);
        let pairs = [
            ("Connection", "x-hop"),
            ("X-Hop", "1"),
            ("Transfer-Encoding", "chunked"),
            ("Content-Length", "5"),
            ("Content-Range", "bytes 0-4/5"),
            ("Age", "5"),
            ("ETag", "\"a\""),
            ("Cache-Control", "max-age=5"),
        ];
        let kept = text(of_answer(&Fields::of_pairs(&pairs)));
        assert_eq!(kept, ["ETag: \"a\"", "Cache-Control: max-age=5"]);
    }

    #[test]
    fn what_a_304_replaces() {
        let stored = [("ETag", "\"a\""), ("cache-control", "max-age=5"), ("X", "1"), ("x", "2"), ("Y", "3")];
        let stored: Vec<Line> = stored.map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec())).into();
        let of_304 =
            [("Cache-Control", "max-age=9"), ("X", "4"), ("Content-Type", "text/html"), ("Age", "1")];
        let now = text(refreshed(&stored, &Fields::of_pairs(&of_304)));
        assert_eq!(now, ["ETag: \"a\"", "Y: 3", "Cache-Control: max-age=9", "X: 4"]);
    }
}
