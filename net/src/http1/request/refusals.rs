//! Heads that are refused, and with which status: request smuggling, malformed lines, bounds.

use super::tests::head;
use super::*;

/// `GET / HTTP/1.1` with these lines after Host.
fn get(lines: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n\r\n").into_bytes()
}

/// A request line with a Host field.
fn line(request_line: &str) -> Vec<u8> {
    format!("{request_line}\r\nHost: h\r\n\r\n").into_bytes()
}

#[rustfmt::skip]
const FRAMING_FIELDS: &[(u16, &str, &str)] = &[
    (400, "CL and TE", "Content-Length: 5\r\nTransfer-Encoding: chunked"),
    (400, "TE and CL", "Transfer-Encoding: chunked\r\nContent-Length: 5"),
    (400, "CL and unknown TE", "Content-Length: 5\r\nTransfer-Encoding: x"),
    (400, "CL twice, equal", "Content-Length: 5\r\nContent-Length: 5"),
    (400, "CL twice, different", "Content-Length: 5\r\ncontent-length: 6"),
    (400, "CL list, equal", "Content-Length: 5, 5"),
    (400, "CL list, different", "Content-Length: 5,6"),
    (400, "CL empty", "Content-Length:"),
    (400, "CL plus", "Content-Length: +5"),
    (400, "CL minus", "Content-Length: -5"),
    (400, "CL hex", "Content-Length: 0x5"),
    (400, "CL inner space", "Content-Length: 5 5"),
    (400, "CL fraction", "Content-Length: 5.0"),
    (400, "CL exponent", "Content-Length: 1e1"),
    (400, "CL overflow", "Content-Length: 18446744073709551616"),
    (400, "CL quoted", "Content-Length: \"5\""),
    (400, "TE chunked twice", "Transfer-Encoding: chunked, chunked"),
    (400, "TE chunked on two lines", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
    (400, "TE chunked not last", "Transfer-Encoding: chunked, gzip"),
    (400, "TE chunked then identity", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
    (400, "TE empty", "Transfer-Encoding:"),
    (400, "TE empty element", "Transfer-Encoding: chunked,"),
    (400, "TE leading comma", "Transfer-Encoding: ,chunked"),
    (400, "TE parameter on chunked", "Transfer-Encoding: chunked;q=1"),
    (400, "TE parameter after space", "Transfer-Encoding: chunked ;q=1"),
    (400, "TE quoted", "Transfer-Encoding: \"chunked\""),
    (400, "TE vertical tab", "Transfer-Encoding: \u{b}chunked"),
    (400, "TE no-break space", "Transfer-Encoding: \u{a0}chunked"),
    (400, "TE two words", "Transfer-Encoding: x chunked"),
    (501, "TE gzip before chunked", "Transfer-Encoding: gzip, chunked"),
    (501, "TE gzip on its own line", "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked"),
    (501, "TE identity", "Transfer-Encoding: identity"),
    (501, "TE unknown", "Transfer-Encoding: xchunked"),
    (501, "TE unknown with parameter", "Transfer-Encoding: x;q=\"1\""),
    (400, "Host twice", "Host: h"),
    (400, "Host twice, other case", "HOST: g"),
    (417, "unknown expectation", "Expect: 200-ok"),
    (417, "one expectation unknown", "Expect: 100-continue, x"),
    (417, "empty expectation", "Expect:"),
    (400, "unknown expectation, bad CL", "Expect: x\r\nContent-Length: x"),
];

#[test]
fn refusals_by_framing_field() {
    check(FRAMING_FIELDS, get);
}

#[rustfmt::skip]
const FIELD_LINES: &[(u16, &str, &str)] = &[
    (400, "space before colon", "Content-Length : 5"),
    (400, "tab before colon", "a\t: b"),
    (400, "space in name", "a b: c"),
    (400, "no colon", "abc"),
    (400, "empty name", ": a"),
    (400, "folded line", "a: b\r\n c"),
    (400, "folded with tab", "a: b\r\n\tTransfer-Encoding: chunked"),
    (400, "folded only spaces", "a: b\r\n \r\nc: d"),
    (400, "bare LF after a value", "a: b\nc: d"),
    (400, "bare LF after an empty value", "a:\nc: d"),
    (400, "bare LF after spaces", "a: \t\nc: d"),
    (400, "bare LF after trailing space", "a: b \nc: d"),
    (400, "bare LF twice", "a: b\n\nGET /x HTTP/1.1"),
    (400, "bare CR in a value", "a: b\rc"),
    (400, "bare CR before CRLF", "a: b\r\r\nc: d"),
    (400, "bare CR in a name", "a\r: b"),
    (400, "LF in a name", "a\n: b"),
    (400, "NUL in a value", "a: b\0c"),
    (400, "NUL in a name", "a\0: b"),
    (400, "BEL in a value", "a: \u{7}"),
    (400, "DEL in a value", "a: b\u{7f}"),
    (400, "not ASCII in a name", "ü: b"),
    (400, "slash in a name", "a/b: c"),
    (400, "quote in a name", "\"a\": c"),
    (400, "bracket in a name", "a[]: c"),
];

#[test]
fn refusals_by_line() {
    check(FIELD_LINES, get);
}

#[rustfmt::skip]
const REQUEST_LINES: &[(u16, &str, &str)] = &[
    (400, "two spaces before the target", "GET  / HTTP/1.1"),
    (400, "two spaces after the target", "GET /  HTTP/1.1"),
    (400, "space in the target", "GET /a b HTTP/1.1"),
    (400, "tabs for spaces", "GET\t/\tHTTP/1.1"),
    (400, "leading space", " GET / HTTP/1.1"),
    (400, "trailing space", "GET / HTTP/1.1 "),
    (400, "no target", "GET HTTP/1.1"),
    (400, "HTTP/0.9", "GET /"),
    (400, "no method", "/ HTTP/1.1"),
    (400, "method with a colon", "GE:T / HTTP/1.1"),
    (400, "method with a NUL", "GE\0T / HTTP/1.1"),
    (400, "NUL in the target", "GET /\0 HTTP/1.1"),
    (400, "control in the target", "GET /\u{1f} HTTP/1.1"),
    (400, "fragment", "GET /a#b HTTP/1.1"),
    (400, "not ASCII", "GET /ü HTTP/1.1"),
    (400, "relative target", "GET a HTTP/1.1"),
    (400, "asterisk", "OPTIONS * HTTP/1.1"),
    (400, "authority", "CONNECT h:443 HTTP/1.1"),
    (400, "other scheme", "GET ftp://h/ HTTP/1.1"),
    (400, "absolute without host", "GET http:///x HTTP/1.1"),
    (400, "absolute with userinfo", "GET http://u:p@h/ HTTP/1.1"),
    (400, "version in lower case", "GET / http/1.1"),
    (400, "version without minor", "GET / HTTP/1"),
    (400, "version with letters", "GET / HTTP/x.y"),
    (400, "version with more digits", "GET / HTTP/1.10"),
    (400, "bare LF", "GET / HTTP/1.1\nX: y"),
    (400, "bare CR", "GET / HTTP/1.1\rX: y"),
    (400, "two CR", "GET / HTTP/1.1\r"),
    (400, "space before the first field", "GET / HTTP/1.1\r\n X: y"),
    (400, "two leading empty lines", "\r\n\r\nGET / HTTP/1.1"),
    (400, "leading LF", "\nGET / HTTP/1.1"),
    (400, "leading CRLF LF", "\r\n\nGET / HTTP/1.1"),
    (400, "leading CR", "\rGET / HTTP/1.1"),
    (400, "TLS", "\u{16}\u{3}\u{1}\u{2}\0\u{1}"),
    (505, "HTTP/2 preface", "PRI * HTTP/2.0"),
    (505, "HTTP/1.2", "GET / HTTP/1.2"),
    (505, "HTTP/0.9 spelled out", "GET / HTTP/0.9"),
    (505, "HTTP/3.0", "GET / HTTP/3.0"),
];

#[test]
fn refusals_by_request_line() {
    let long = |len: usize| format!("GET /{} HTTP/1.1", "a".repeat(len - 1));
    let (longest, too_long) = (long(TARGET_BYTES_MAX), long(TARGET_BYTES_MAX + 1));
    assert!(parse_head(&line(&longest)).is_ok());
    check(REQUEST_LINES, line);
    check(&[(414, "long target", &too_long)], line);
}

#[rustfmt::skip]
const WHOLE_HEADS: &[(u16, &str, &str)] = &[
    (400, "no Host in 1.1", "GET / HTTP/1.1\r\n\r\n"),
    (400, "no Host with absolute-form", "GET http://h/ HTTP/1.1\r\n\r\n"),
    (400, "two Hosts in 1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"),
    (400, "Host list", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
    (400, "Host with userinfo", "GET / HTTP/1.1\r\nHost: u@h\r\n\r\n"),
    (400, "Host with a path", "GET / HTTP/1.1\r\nHost: h/x\r\n\r\n"),
    (400, "Host with a bad port", "GET / HTTP/1.1\r\nHost: h:x\r\n\r\n"),
    (400, "Host not ASCII", "GET / HTTP/1.1\r\nHost: ü\r\n\r\n"),
    (400, "TE in 1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    (400, "unknown TE in 1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: x\r\n\r\n"),
    (400, "only LF", "GET / HTTP/1.1\nHost: h\n\n"),
    (400, "LF ends the head", "GET / HTTP/1.1\r\nHost: h\r\n\n"),
    (400, "LF ends the last field", "GET / HTTP/1.1\r\nHost: h\n\r\n"),
    (400, "LF ends a head without fields", "GET / HTTP/1.0\r\n\n"),
    (400, "CR ends the head", "GET / HTTP/1.1\r\nHost: h\r\n\rX"),
];

#[test]
fn refusals_of_whole_heads() {
    let fields = |count: usize| format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "a: b\r\n".repeat(count - 1));
    let sized = |len: usize| format!("GET / HTTP/1.1\r\nHost: h\r\na: {}\r\n\r\n", "b".repeat(len - 32));
    assert_eq!(head(fields(HEADERS_MAX).as_bytes()).headers().count(), HEADERS_MAX);
    assert_eq!(head(sized(HEAD_BYTES_MAX).as_bytes()).len_bytes, HEAD_BYTES_MAX);
    let (many, large) = (fields(HEADERS_MAX + 1), sized(HEAD_BYTES_MAX + 1));
    let endless_target = format!("GET /{}", "a".repeat(TARGET_BYTES_MAX));
    let endless_method = "A".repeat(HEAD_BYTES_MAX);
    let bounds: &[(u16, &str, &str)] = &[
        (414, "target without end", &endless_target),
        (431, "method without end", &endless_method),
        (431, "65 fields", &many),
        (431, "head too large", &large),
        (431, "head too large, unfinished", &large[..HEAD_BYTES_MAX]),
    ];
    check(bounds, as_is);
    check(WHOLE_HEADS, as_is);
}

fn as_is(head: &str) -> Vec<u8> {
    head.as_bytes().to_vec()
}

fn check(table: &[(u16, &str, &str)], wrap: impl Fn(&str) -> Vec<u8>) {
    for (status, name, text) in table {
        match parse_head(&wrap(text)) {
            Err(error) => assert_eq!(error.status().code(), *status, "{name}: {error}"),
            Ok(parsed) => panic!("{name}: {parsed:?}"),
        }
    }
}
