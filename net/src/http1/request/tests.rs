//! Heads that are accepted, and what is read from them.

use super::*;

/// The head at the start of `bytes`, which must be there.
pub(super) fn head(bytes: &[u8]) -> Head<'_> {
    match parse_head(bytes) {
        Ok(Parsed::Complete(head)) => head,
        other => panic!("{:?}: {}", other, bytes.escape_ascii()),
    }
}

const FULL: &[u8] =
    b"PUT /blobs/x?a=b&c HTTP/1.1\r\nHost: h:9000\r\nuser-agent: curl/8\r\nEmpty:\r\nSpaced: \t v w \t\r\n\
    content-LENGTH: 12\r\nExpect: 100-Continue\r\nConnection: keep-alive, Upgrade\r\n\r\n";

#[test]
fn the_common_get() {
    let bytes = b"GET /blobs/sha256:00 HTTP/1.1\r\nHost: localhost:9000\r\nUser-Agent: wrk\r\nAccept: */*\r\n\r\nnext";
    let head = head(bytes);
    assert_eq!(
        (head.method, head.path, head.query, head.minor_version),
        (Method::Get, "/blobs/sha256:00", None, 1)
    );
    assert_eq!((head.authority, head.target), ("localhost:9000", "/blobs/sha256:00"));
    assert_eq!((head.body, head.keep_alive, head.expect_continue), (BodyLength::None, true, false));
    assert_eq!(&bytes[head.len_bytes..], b"next");
    assert_eq!(head.header("USER-agent"), Some(&b"wrk"[..]));
    assert_eq!(head.header("user-agen"), None);
    assert_eq!(head.header(""), None);
}

#[test]
fn a_full_put() {
    let head = head(FULL);
    assert_eq!((head.method, head.path, head.query), (Method::Put, "/blobs/x", Some("a=b&c")));
    assert_eq!((head.body, head.expect_continue, head.keep_alive), (BodyLength::Length(12), true, true));
    assert_eq!(head.header("empty"), Some(&b""[..]));
    assert_eq!(head.header("spaced"), Some(&b"v w"[..]));
    assert_eq!(head.len_bytes, FULL.len());
    let names: Vec<&[u8]> = head.headers().map(|(name, _)| name).collect();
    let expected =
        [&b"Host"[..], b"user-agent", b"Empty", b"Spaced", b"content-LENGTH", b"Expect", b"Connection"];
    assert_eq!(names, expected);
}

#[test]
fn methods_are_case_sensitive() {
    use Method::{Delete, Get, Head, Options, Other, Post, Put};
    for (token, method) in [
        ("GET", Get),
        ("HEAD", Head),
        ("PUT", Put),
        ("POST", Post),
        ("DELETE", Delete),
        ("OPTIONS", Options),
        ("get", Other),
        ("PATCH", Other),
        ("GETX", Other),
        ("X!#$%&'*+-.^_`|~9", Other),
    ] {
        assert_eq!(
            head(format!("{token} / HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).method,
            method,
            "{token}"
        );
    }
}

#[test]
fn framing_and_persistence() {
    use BodyLength::{Chunked, Length, None};
    // fields after Host, minor version → body, keep-alive, expect-continue
    let cases: [(&str, u8, BodyLength, bool, bool); 19] = [
        ("", 1, None, true, false),
        ("", 0, None, false, false),
        ("Connection: close\r\n", 1, None, false, false),
        ("Connection: x, CLOSE ,y\r\n", 1, None, false, false),
        ("Connection: closed\r\n", 1, None, true, false),
        ("Connection: keep-alive\r\nConnection: close\r\n", 1, None, false, false),
        ("Connection: Keep-Alive\r\n", 0, None, true, false),
        ("Connection: keep-alive, close\r\n", 0, None, false, false),
        ("Content-Length: 0\r\n", 1, Length(0), true, false),
        ("Content-Length: 007\r\n", 1, Length(7), true, false),
        ("Content-Length: 18446744073709551615\r\n", 1, Length(u64::MAX), true, false),
        ("Content-Length: 5\r\n", 0, Length(5), false, false),
        ("Transfer-Encoding: chunked\r\n", 1, Chunked, true, false),
        ("tRANSFER-eNCODING:\tChUnKeD \r\n", 1, Chunked, true, false),
        ("Expect: 100-continue\r\nContent-Length: 5\r\n", 1, Length(5), true, true),
        ("Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", 1, Chunked, true, true),
        ("Expect: 100-continue\r\nContent-Length: 0\r\n", 1, Length(0), true, false),
        ("Expect: 100-continue\r\n", 1, None, true, false),
        ("Expect: 100-continue, x\r\nContent-Length: 5\r\n", 0, Length(5), false, false),
    ];
    for (fields, minor, body, keep_alive, expect_continue) in cases {
        let bytes = format!("POST / HTTP/1.{minor}\r\nHost: h\r\n{fields}\r\n");
        let head = head(bytes.as_bytes());
        assert_eq!(
            (head.body, head.keep_alive, head.expect_continue),
            (body, keep_alive, expect_continue),
            "{bytes}"
        );
    }
}

#[test]
fn tolerated() {
    assert_eq!(head(b"\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n").len_bytes, 29);
    assert_eq!(head(b"\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n").header("host"), Some(&b"h"[..]));
    assert_eq!(head(b"GET / HTTP/1.0\r\n\r\n").authority, "");
    assert_eq!(head(b"GET / HTTP/1.1\r\nHost:\r\n\r\n").authority, "");
    assert_eq!(head(b"GET / HTTP/1.1\r\nHost: h\r\nx: \xff\xfe\r\n\r\n").header("x"), Some(&b"\xff\xfe"[..]));
    // RFC 9112 §3.2.2: the authority of an absolute-form target goes before the Host field.
    let bytes = b"GET http://a:1/p?q HTTP/1.1\r\nHost: b\r\n\r\n";
    assert_eq!((head(bytes).authority, head(bytes).path, head(bytes).query), ("a:1", "/p", Some("q")));
}

#[test]
fn a_version_cut_short_waits() {
    for prefix in ["GET / ", "GET / H", "GET / HTTP/", "GET / HTTP/2", "GET / HTTP/1.", "GET / HTTP/2."] {
        assert!(matches!(parse_head(prefix.as_bytes()), Ok(Parsed::Partial)), "{prefix}");
    }
    assert_eq!(parse_head(b"GET / HTTX").unwrap_err(), HeadError::RequestLine);
}
