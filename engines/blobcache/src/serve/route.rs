//! Heads → the engine's own requests. Pure.

use net::Refusal;
use net::http1::{Head, Method, Status, query};
use runtime::tier::{Digest, LIST_MAX};

/// A request understood.
#[derive(Debug, PartialEq, Eq)]
pub enum Routed {
    /// GET or HEAD of a blob; `None`: without conditions or ranges.
    Get(Digest, Option<Box<Conditions>>),
    /// Store a body, under this digest if one was named.
    Put(Option<Digest>, Lifetime),
    /// Delete a blob.
    Delete(Digest),
    /// Pull a blob from where the body says.
    Fetch(Lifetime),
    /// A page after a digest.
    List(Option<Digest>, usize),
}

/// How long a body is to be kept, as asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifetime {
    /// `?ttl=`: milliseconds from now.
    pub ttl_ms: Option<u64>,
    /// `?durability=none`: may be dropped from disk to make room; `sync`: not.
    pub evictable: Option<bool>,
    /// `?pin=true`: not dropped all the same.
    pub pinned: bool,
}

/// The fields that make a GET conditional or partial (RFC 9110 §13.1, §14.2).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// `Range`.
    pub range: Option<Vec<u8>>,
    /// `If-Range`.
    pub if_range: Option<Vec<u8>>,
    /// `If-None-Match`, all lines joined (RFC 9110 §5.3).
    pub if_none_match: Option<Vec<u8>>,
    /// `If-Match`, all lines joined.
    pub if_match: Option<Vec<u8>>,
}

const ALLOW_COLLECTION: &str = "GET, HEAD, PUT";
const ALLOW_BLOB: &str = "GET, HEAD, PUT, DELETE";

/// Understands a head, or says what is wrong with it.
pub fn route(head: &Head<'_>) -> Result<Routed, Refusal> {
    if matches!(head.method, Method::Purge | Method::Other) {
        return Err(Refusal::new(Status::NotImplemented, "unknown method"));
    }
    if head.path == "/blobs/fetch" {
        let lifetime = lifetime(head.query.unwrap_or(""))?;
        let is_post = head.method == Method::Post;
        return if is_post { Ok(Routed::Fetch(lifetime)) } else { Err(Refusal::method("POST")) };
    }
    if let Some(name) = head.path.strip_prefix("/blobs/") {
        let digest: Digest = name.parse().map_err(|_| {
            Refusal::new(Status::BadRequest, "a digest is sha256: followed by 64 lower-case hex digits")
        })?;
        if head.method == Method::Put {
            return Ok(Routed::Put(Some(digest), lifetime(head.query.unwrap_or(""))?));
        }
        refuse_query(head)?;
        return match head.method {
            Method::Get | Method::Head => Ok(Routed::Get(digest, conditions(head))),
            Method::Delete => Ok(Routed::Delete(digest)),
            _ => Err(Refusal::method(ALLOW_BLOB)),
        };
    }
    if head.path != "/blobs" {
        return Err(Refusal::new(Status::NotFound, "no such resource: blobs are under /blobs"));
    }
    match head.method {
        Method::Get | Method::Head => list(head.query.unwrap_or("")),
        Method::Put => Ok(Routed::Put(None, lifetime(head.query.unwrap_or(""))?)),
        _ => Err(Refusal::method(ALLOW_COLLECTION)),
    }
}

fn lifetime(query: &str) -> Result<Lifetime, Refusal> {
    let bad = |message| Refusal::new(Status::BadRequest, message);
    let mut found = Lifetime::default();
    let mut pin = None;
    for pair in query::pairs(query) {
        let (name, value) = pair.map_err(|_| bad("malformed query"))?;
        match &*name {
            "ttl" if found.ttl_ms.is_none() => {
                let ttl_ms = parse_ttl_ms(&value);
                found.ttl_ms = Some(ttl_ms.ok_or(bad("ttl is a number of s, m, h or d, such as 90s or 7d"))?);
            }
            "durability" if found.evictable.is_none() => {
                found.evictable = Some(match &*value {
                    "none" => true,
                    "sync" => false,
                    _ => return Err(bad("durability is sync or none")),
                });
            }
            "pin" if pin.is_none() => {
                found.pinned = match &*value {
                    "true" => true,
                    "false" => false,
                    _ => return Err(bad("pin is true or false")),
                };
                pin = Some(());
            }
            _ => return Err(bad("unknown or repeated query parameter: ttl, durability and pin are known")),
        }
    }
    Ok(found)
}

/// `90`, `90s`, `15m`, `12h`, `7d`; at most a thousand years, so that nothing overflows.
pub fn parse_ttl_ms(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(['s', 'm', 'h', 'd']);
    let seconds = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    let number: u64 = Some(digits).filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()?;
    let seconds = number.checked_mul(seconds).filter(|s| (1..=365_000 * 86_400).contains(s))?;
    Some(seconds * 1000)
}

fn refuse_query(head: &Head<'_>) -> Result<(), Refusal> {
    match head.query {
        None | Some("") => Ok(()),
        Some(_) => Err(Refusal::new(Status::BadRequest, "unknown query parameter")),
    }
}

fn conditions(head: &Head<'_>) -> Option<Box<Conditions>> {
    let mut found = Conditions::default();
    let mut any = false;
    for (name, value) in head.headers() {
        let field = match name.len() {
            5 if name.eq_ignore_ascii_case(b"range") => &mut found.range,
            8 if name.eq_ignore_ascii_case(b"if-range") => &mut found.if_range,
            8 if name.eq_ignore_ascii_case(b"if-match") => &mut found.if_match,
            13 if name.eq_ignore_ascii_case(b"if-none-match") => &mut found.if_none_match,
            _ => continue,
        };
        any = true;
        match field {
            Some(before) => {
                before.extend_from_slice(b", ");
                before.extend_from_slice(value);
            }
            None => *field = Some(value.to_vec()),
        }
    }
    any.then(|| Box::new(found))
}

fn list(query: &str) -> Result<Routed, Refusal> {
    let bad = |message| Refusal::new(Status::BadRequest, message);
    let (mut after, mut limit) = (None, None);
    for pair in query::pairs(query) {
        let (name, value) = pair.map_err(|_| bad("malformed query"))?;
        match &*name {
            "after" if after.is_none() => {
                after = Some(value.parse().map_err(|_| bad("after is not a digest"))?);
            }
            "limit" if limit.is_none() => {
                let number = Some(&*value).filter(|v| v.bytes().all(|b| b.is_ascii_digit()));
                limit = number.and_then(|v| v.parse().ok()).filter(|n| (1..=LIST_MAX).contains(n));
                if limit.is_none() {
                    return Err(bad("limit is a number from 1 to 1000"));
                }
            }
            _ => return Err(bad("unknown or repeated query parameter: after and limit are known")),
        }
    }
    Ok(Routed::List(after, limit.unwrap_or(LIST_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use net::http1::{Parsed, parse_head};

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn routed(line: &str, fields: &str) -> Result<Routed, u16> {
        let text = format!("{line} HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        match parse_head(text.as_bytes()) {
            Ok(Parsed::Complete(head)) => route(&head).map_err(|r| r.status.code()),
            _ => panic!("not a head: {text}"),
        }
    }

    #[test]
    fn requests_are_understood() {
        let digest: Digest = format!("sha256:{HEX}").parse().expect("valid");
        let blob = format!("/blobs/sha256:{HEX}");
        assert_eq!(routed(&format!("GET {blob}"), ""), Ok(Routed::Get(digest, None)));
        assert_eq!(routed("PUT /blobs", "Content-Length: 0\r\n"), Ok(Routed::Put(None, Lifetime::default())));
        assert_eq!(routed(&format!("DELETE {blob}"), ""), Ok(Routed::Delete(digest)));
        let lifetime = Lifetime { ttl_ms: Some(7_200_000), evictable: Some(true), pinned: true };
        assert_eq!(
            routed("PUT /blobs?ttl=2h&durability=none&pin=true", "Content-Length: 0\r\n"),
            Ok(Routed::Put(None, lifetime))
        );
        let fetch = |query| routed(&format!("POST /blobs/fetch{query}"), "Content-Length: 2\r\n");
        assert_eq!(fetch(""), Ok(Routed::Fetch(Lifetime::default())));
        let lifetime = Lifetime { ttl_ms: Some(90_000), evictable: Some(false), pinned: false };
        assert_eq!(fetch("?ttl=90s&durability=sync"), Ok(Routed::Fetch(lifetime)));
        assert_eq!(routed("GET /blobs", ""), Ok(Routed::List(None, 1000)));
        assert_eq!(
            routed(&format!("GET /blobs?after=sha256%3A{HEX}&limit=7"), ""),
            Ok(Routed::List(Some(digest), 7))
        );
        let Ok(Routed::Get(_, Some(c))) = routed(
            &format!("GET {blob}"),
            "Range: bytes=0-1\r\nIf-None-Match: \"a\"\r\nif-none-match: \"b\"\r\n",
        ) else {
            panic!("has conditions")
        };
        assert_eq!(c.if_none_match.as_deref(), Some(&b"\"a\", \"b\""[..]));
    }

    #[test]
    fn the_rest_is_refused() {
        for (line, status) in [
            ("GET /", 404),
            ("GET /blob", 404),
            ("GET /blobs/", 400),
            ("GET /blobs/sha256:ABC", 400),
            ("GET /blobs/md5:00", 400),
            ("DELETE /blobs", 405),
            ("PATCH /blobs", 501),
            ("GET /blobs/fetch", 405),
            ("POST /blobs/fetch?x=1", 400),
            ("POST /blobs/fetch?durability=sync&durability=sync", 400),
            ("POST /blobs", 405),
            ("PUT /blobs?ttl=0", 400),
            ("PUT /blobs?ttl=5x", 400),
            ("PUT /blobs?ttl=5&ttl=5", 400),
            ("PUT /blobs?ttl=99999999999999999999", 400),
            ("PUT /blobs?durability=fast", 400),
            ("PUT /blobs?pin=yes", 400),
            ("PUT /blobs?other=1", 400),
            ("GET /blobs?limit=0", 400),
            ("GET /blobs?limit=1001", 400),
            ("GET /blobs?limit=+5", 400),
            ("GET /blobs?limit=", 400),
            ("GET /blobs?after=x", 400),
            ("GET /blobs?limit=1&limit=2", 400),
            ("GET /blobs?other=1", 400),
        ] {
            assert_eq!(routed(line, "Content-Length: 0\r\n"), Err(status), "{line}");
        }
    }
}
