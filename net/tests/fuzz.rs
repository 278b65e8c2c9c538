//! Every parser of what comes over the wire, under mutation. See `mutation`.

use mutation::{Mutator, fuzz};
use net::client::Url;
use net::http1::conditional::{if_match_holds, if_none_match_holds, if_range_holds, is_strong_tag};
use net::http1::{
    BodyLength, ChunkedDecoder, Head, HttpDate, Parsed, ParsedReply, Ranges, parse_content_range, parse_head,
    parse_http_date, parse_range, parse_reply, query,
};
use net::tokens::Tokens;

fn texts(golden: &[&str]) -> Vec<Vec<u8>> {
    golden.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// A head as a strict client would send it: the same lines, one after the other.
fn write_lines<'h>(first: &str, fields: impl Iterator<Item = (&'h [u8], &'h [u8])>) -> Vec<u8> {
    let mut out = first.as_bytes().to_vec();
    for (name, value) in fields {
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
    }
    out.extend_from_slice(b"\r\n\r\n");
    out
}

type Fields = Vec<(Vec<u8>, Vec<u8>)>;
/// What a request's head decides: path, query, authority, body, keep-alive, expect, fields.
type Meaning = (String, Option<String>, String, BodyLength, bool, bool, Fields);

fn meaning(head: &Head<'_>) -> Meaning {
    let fields = head.headers().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    let query = head.query.map(str::to_owned);
    let (path, authority) = (head.path.to_owned(), head.authority.to_owned());
    (path, query, authority, head.body, head.keep_alive, head.expect_continue, fields)
}

#[test]
fn heads_of_requests() {
    let golden = texts(&[
        "GET /blobs/sha256:00 HTTP/1.1\r\nHost: h\r\nRange: bytes=0-1, -5\r\nIf-None-Match: \"a\"\r\n\r\n",
        "PUT /blobs?ttl=7d&x=%20 HTTP/1.1\r\nHost: h:1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc",
        "POST http://h:1/p HTTP/1.1\r\nHost: h:1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
        "\r\nHEAD / HTTP/1.0\r\nConnection: keep-alive\r\nX:\r\n\r\n",
    ]);
    let mut mutator = Mutator::new(1, &golden);
    let decode = |bytes: &[u8]| {
        let Ok(Parsed::Complete(head)) = parse_head(bytes) else { return false };
        assert!(head.path.starts_with('/') && head.len_bytes <= bytes.len());
        let cut = mutator.below(head.len_bytes);
        assert!(!matches!(parse_head(&bytes[..cut]), Ok(Parsed::Complete(_))), "{cut} bytes are enough");
        let method = bytes[..head.len_bytes].trim_ascii_start().split(|&b| b == b' ').next();
        let method = String::from_utf8_lossy(method.expect("a method"));
        let first = format!("{method} {} HTTP/1.{}", head.target, head.minor_version);
        let again = write_lines(&first, head.headers());
        match parse_head(&again) {
            Ok(Parsed::Complete(same)) => {
                assert_eq!((same.method, same.minor_version), (head.method, head.minor_version));
                assert_eq!(meaning(&same), meaning(&head));
            }
            other => panic!("{other:?} for {}", again.escape_ascii()),
        }
        if let Some(query) = head.query {
            query::pairs(query).for_each(drop);
        }
        true
    };
    fuzz("request head", &golden, |_| {}, decode);
}

#[test]
fn heads_of_answers() {
    let golden = texts(&[
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"v1\"\r\nDate: x\r\n\r\nhello",
        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-4/9\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n",
        "HTTP/1.1 304\r\n\r\n",
        "HTTP/1.1 302 Found\r\nLocation: http://h/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    ]);
    let mut mutator = Mutator::new(1, &golden);
    let decode = |bytes: &[u8]| {
        let Ok(ParsedReply::Complete(head)) = parse_reply(bytes) else { return false };
        assert!(head.len_bytes <= bytes.len() && (100..=999).contains(&head.status));
        let cut = mutator.below(head.len_bytes);
        assert!(
            !matches!(parse_reply(&bytes[..cut]), Ok(ParsedReply::Complete(_))),
            "{cut} bytes are enough"
        );
        let first = format!("HTTP/1.{} {} ", char::from(bytes[7]), head.status);
        let again = write_lines(&first, head.headers().map(|(name, value)| (name.as_bytes(), value)));
        let Ok(ParsedReply::Complete(same)) = parse_reply(&again) else {
            panic!("refused: {}", again.escape_ascii())
        };
        assert_eq!((same.status, same.length, same.keep_alive), (head.status, head.length, head.keep_alive));
        assert!(same.headers().eq(head.headers()));
        true
    };
    fuzz("reply head", &golden, |_| {}, decode);
}

/// The data of a chunked body fed in pieces, and how much of the input it takes; `None`: refused or not over.
fn unchunk(bytes: &[u8], mut piece: impl FnMut() -> usize) -> Option<(Vec<u8>, usize)> {
    let (mut decoder, mut data) = (ChunkedDecoder::new(), Vec::new());
    let (mut at, mut end) = (0, 0);
    while at < bytes.len() {
        if at == end {
            end = bytes.len().min(at + piece());
        }
        let step = decoder.decode(&bytes[at..end]).ok()?;
        assert!(step.data.end <= step.consumed && step.consumed <= end - at, "{step:?}");
        assert!(step.consumed > 0 || step.done, "it stands still");
        data.extend_from_slice(&bytes[at..end][step.data]);
        at += step.consumed;
        if step.done {
            return Some((data, at));
        }
    }
    None
}

#[test]
fn chunked_bodies() {
    let golden = texts(&[
        "5\r\nhello\r\n1;a=b\r\n!\r\n0\r\n\r\n",
        "0\r\na: b\r\nc:\r\n\r\nGET",
        "00A ; x=\"y\"\r\n0123456789\r\n000\r\n\r\n",
    ]);
    let mut mutator = Mutator::new(1, &golden);
    let decode = |bytes: &[u8]| {
        let whole = unchunk(bytes, || bytes.len());
        assert_eq!(unchunk(bytes, || 1), whole, "byte by byte");
        assert_eq!(unchunk(bytes, || 1 + mutator.below(16)), whole, "in pieces");
        let Some((data, used)) = whole else { return false };
        assert!(data.len() < used);
        let chunk = match data.len() {
            0 => Vec::new(),
            len => [format!("{len:x}\r\n").as_bytes(), &data, b"\r\n"].concat(),
        };
        let again = [&chunk[..], b"0\r\n\r\n"].concat();
        assert_eq!(unchunk(&again, || again.len()), Some((data, again.len())));
        true
    };
    fuzz("chunked body", &golden, |_| {}, decode);
}

#[test]
fn ranges() {
    const OVERHEAD_BYTES: u64 = 80;
    let golden =
        texts(&["bytes=0-99", "bytes=-7", "bytes=5-", "bytes=0-99, 5000-5199 ,,-7", "BYTES=900-1000"]);
    let sizes = [0, 1, 1000, 1 << 40, u64::MAX];
    let mut mutator = Mutator::new(1, &golden);
    let decode = |bytes: &[u8]| {
        let size = sizes[mutator.below(sizes.len())];
        let ranges = match parse_range(bytes, size) {
            Ranges::None => return false,
            Ranges::Unsatisfiable => return true,
            Ranges::Single(range) => vec![range],
            Ranges::Multi(ranges) => {
                assert!(ranges.len() > 1);
                ranges
            }
        };
        assert!(ranges.iter().all(|r| r.start < r.end && r.end <= size), "{ranges:?} of {size}");
        let mut sorted = ranges.clone();
        sorted.sort_unstable_by_key(|range| range.start);
        let is_apart = |pair: &[std::ops::Range<u64>]| pair[1].start - pair[0].end >= OVERHEAD_BYTES;
        assert!(sorted.windows(2).all(is_apart), "{ranges:?}");
        let written: Vec<String> = ranges.iter().map(|r| format!("{}-{}", r.start, r.end - 1)).collect();
        match parse_range(format!("bytes={}", written.join(",")).as_bytes(), size) {
            Ranges::Single(range) => assert_eq!(ranges, [range]),
            Ranges::Multi(same) => assert_eq!(ranges, same),
            other => panic!("{other:?} for {written:?}"),
        }
        true
    };
    fuzz("range", &golden, |_| {}, decode);
}

#[test]
fn content_ranges() {
    let golden = texts(&["bytes 0-4/9", "bytes */9", "bytes 5-9/*", "BYTES 0-0/1"]);
    let decode = |bytes: &[u8]| {
        let Some(found) = parse_content_range(bytes) else { return false };
        let range = found.range.map_or("*".to_owned(), |(first, last)| format!("{first}-{last}"));
        let size = found.size.map_or("*".to_owned(), |size| size.to_string());
        assert_eq!(parse_content_range(format!("bytes {range}/{size}").as_bytes()), Some(found));
        let holds = |(first, last)| first <= last && found.size.is_none_or(|size| last < size);
        assert!(found.range.is_none_or(holds), "{found:?}");
        // A client counts the bytes from it.
        assert!(found.range.is_none_or(|(_, last)| last.checked_add(1).is_some()), "{found:?}");
        true
    };
    fuzz("content range", &golden, |_| {}, decode);
}

#[test]
fn urls_and_where_they_lead() {
    let golden = texts(&[
        "http://h/a/b/../c?d=%20",
        "HTTPS://H:8443?q",
        "http://[::1]:81/x",
        "http://127.0.0.1:9000/",
        "http://h",
    ]);
    let references = texts(&["../../g?y#s", "//h:1/x", "/g/./..", "?y", "https://z:1/y", "a:b", ""]);
    let mut mutator = Mutator::new(1, &references);
    let decode = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        let Ok(url) = Url::parse(&text) else { return false };
        assert!(url.target.starts_with('/') && url.port > 0 && !url.host.is_empty(), "{url:?}");
        assert_eq!(Url::parse(&url.to_string()).as_ref(), Ok(&url));
        assert!(url.to_string().starts_with(&url.without_query()));
        let reference = mutator.next();
        if let Ok(led) = url.join(&String::from_utf8_lossy(&reference)) {
            assert_eq!(Url::parse(&led.to_string()), Ok(led));
        }
        true
    };
    fuzz("URL", &golden, |_| {}, decode);
}

#[test]
fn dates() {
    const NOW_S: u64 = 1_795_219_200;
    let golden = texts(&[
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
    ]);
    let decode = |bytes: &[u8]| {
        let Some(seconds) = parse_http_date(bytes, NOW_S) else { return false };
        assert_eq!(parse_http_date(HttpDate::at(seconds).as_bytes(), NOW_S), Some(seconds));
        true
    };
    fuzz("date", &golden, |_| {}, decode);
}

#[test]
fn lists_of_entity_tags() {
    let golden = texts(&["\"a\"", "*", "\"b\", W/\"a\" ,\"c,d\"", "W/\"\",, \"a\"", "\t\"a\",\"b"]);
    let decode = |bytes: &[u8]| {
        assert!(!if_match_holds(bytes, None) && if_none_match_holds(bytes, None), "nothing is stored");
        for current in [&b"\"a\""[..], b"W/\"a\"", b"\"c,d\"", b"\"\""] {
            let is_listed = !if_none_match_holds(bytes, Some(current));
            // What matches strongly matches weakly.
            assert!(is_listed || !if_match_holds(bytes, Some(current)));
            let is_weak = current.starts_with(b"W/");
            assert!(bytes == b"*" || !is_weak || !if_match_holds(bytes, Some(current)));
        }
        assert_eq!(is_strong_tag(bytes), if_range_holds(bytes, bytes));
        !if_none_match_holds(bytes, Some(b"\"a\""))
    };
    fuzz("entity tags", &golden, |_| {}, decode);
}

#[test]
fn files_of_tokens() {
    const LISTENERS: [&str; 3] = ["blob", "slice", "ops"];
    let golden = texts(&["blob abc\nslice A-z._~+/==\n", "# none\n\n  ops x1\r\n", "ops a\nops b\nblob c"]);
    let decode = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        let Ok(tokens) = Tokens::parse(&text, &LISTENERS) else { return false };
        for listener in LISTENERS {
            let is_named =
                text.lines().any(|line| line.trim().split_ascii_whitespace().next() == Some(listener));
            assert_eq!(tokens.has(listener), is_named, "{listener} of {text:?}");
        }
        true
    };
    fuzz("tokens", &golden, |_| {}, decode);
}
