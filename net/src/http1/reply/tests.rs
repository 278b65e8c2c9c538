//! Answers as origins send them, answers that nobody should send, and random ones.

use super::*;
use proptest::prelude::*;

fn head(text: &str) -> Result<ReplyHead, ReplyError> {
    match parse_reply(text.as_bytes()) {
        Ok(ParsedReply::Complete(head)) => Ok(head),
        Ok(ParsedReply::Partial) => panic!("not a whole head: {text:?}"),
        Err(e) => Err(e),
    }
}

#[test]
fn framing_follows_rfc_9112() {
    let length = |text: &str| head(text).map(|h| (h.length, h.keep_alive));
    let line = "HTTP/1.1 200 OK\r\n";
    assert_eq!(length(&format!("{line}Content-Length: 5\r\n\r\nhello")), Ok((ReplyLength::Length(5), true)));
    assert_eq!(
        length(&format!("{line}Transfer-Encoding: Chunked\r\n\r\n")),
        Ok((ReplyLength::Chunked, true))
    );
    assert_eq!(length(&format!("{line}\r\n")), Ok((ReplyLength::UntilClose, false)));
    assert_eq!(
        length(&format!("{line}Connection: close\r\nContent-Length: 0\r\n\r\n")),
        Ok((ReplyLength::Length(0), false))
    );
    assert_eq!(length("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n"), Ok((ReplyLength::Length(1), false)));
    for bodiless in ["100 Continue", "204 No Content", "304 Not Modified"] {
        assert_eq!(
            length(&format!("HTTP/1.1 {bodiless}\r\nContent-Length: 5\r\n\r\n")).map(|l| l.0),
            Ok(ReplyLength::Length(0))
        );
    }
    assert!(length("HTTP/1.1 200\r\nContent-Length: 1\r\n\r\n").is_ok(), "no reason phrase");
}

#[test]
fn what_could_be_framed_in_two_ways_is_refused() {
    let line = "HTTP/1.1 200 OK\r\n";
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length:\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked;x=1\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Content-Length : 5\r\n",
        "X: a\r\n b\r\nContent-Length: 5\r\n",
        "X: a\nContent-Length: 5\r\n",
        "X\r\n",
        "X: a\0b\r\n",
    ] {
        assert!(head(&format!("{line}{fields}\r\n")).is_err(), "{fields:?}");
    }
    for text in [
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "http/1.1 200 OK\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "HTTP/1.1 200 OK\n\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n\n",
        "<html>",
    ] {
        assert!(parse_reply(text.as_bytes()).is_err(), "{text:?}");
    }
}

#[test]
fn heads_are_bounded() {
    let many = "X: a\r\n".repeat(REPLY_FIELDS_MAX + 1);
    assert_eq!(head(&format!("HTTP/1.1 200 OK\r\n{many}\r\n")), Err(ReplyError::TooManyFields));
    let long = "a".repeat(REPLY_HEAD_BYTES_MAX);
    assert_eq!(
        parse_reply(format!("HTTP/1.1 200 OK\r\nX: {long}").as_bytes()).map(|_| ()),
        Err(ReplyError::TooLarge)
    );
}

#[test]
fn a_field_that_comes_twice_has_no_value() {
    let head = head("HTTP/1.1 200 OK\r\nETag: \"a\"\r\nX: 1\r\netag: \"b\"\r\n\r\n").expect("a head");
    assert_eq!((head.header("etag"), head.header("x")), (None, Some(&b"1"[..])));
}

#[test]
fn content_ranges() {
    let range = |first, last, size| Some(ContentRange { range: Some((first, last)), size });
    assert_eq!(parse_content_range(b"bytes 0-9/10"), range(0, 9, Some(10)));
    assert_eq!(parse_content_range(b"Bytes 5-5/*"), range(5, 5, None));
    assert_eq!(parse_content_range(b"bytes */0"), Some(ContentRange { range: None, size: Some(0) }));
    for bad in [
        "",
        "bytes",
        "bytes 0-9",
        "bytes 9-0/10",
        "bytes 0-10/10",
        "bytes */*",
        "items 0-9/10",
        "bytes=0-9/10",
        "bytes 0-9/10 ",
        "bytes -9/10",
        "bytes 0-99999999999999999999/*",
    ] {
        assert_eq!(parse_content_range(bad.as_bytes()), None, "{bad}");
    }
}

fn reply() -> impl Strategy<Value = Vec<u8>> {
    let line = prop::sample::select(vec!["HTTP/1.1 200 OK", "HTTP/1.1 206 ", "HTTP/1.0 404 Not Found"]);
    let framing = prop::sample::select(vec!["", "Content-Length: 3\r\n"]);
    let field = prop::sample::select(vec![
        "ETag: \"a\"\r\n",
        "Connection: close\r\n",
        "Content-Range: bytes 0-2/3\r\n",
        "X: \t\r\n",
    ]);
    (line, framing, prop::collection::vec(field, 0..8)).prop_map(|(line, framing, fields)| {
        format!("{line}\r\n{framing}{}\r\n", fields.concat()).into_bytes()
    })
}

/// `Partial` up to one length, then the same head or a refusal for good.
fn check_prefixes(bytes: &[u8]) {
    let mut end: Option<Result<usize, ()>> = None;
    for len in 0..=bytes.len() {
        let now = match parse_reply(&bytes[..len]) {
            Ok(ParsedReply::Partial) => None,
            Ok(ParsedReply::Complete(head)) => Some(Ok(head.len_bytes)),
            Err(_) => Some(Err(())),
        };
        assert!(end.is_none() || now == end, "{len}: {now:?} after {end:?}");
        end = now;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_prefix_of_an_answer_is_partial(bytes in reply()) {
        for len in 0..bytes.len() {
            prop_assert!(matches!(parse_reply(&bytes[..len]), Ok(ParsedReply::Partial)), "{}", len);
        }
        check_prefixes(&bytes);
    }

    #[test]
    fn random_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse_reply(&bytes);
        let _ = parse_content_range(&bytes);
    }

    #[test]
    fn what_is_accepted_after_mutations_is_strict(
        mut bytes in reply(),
        mutations in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 1..4),
    ) {
        for (at, byte, kind) in mutations {
            let byte = if byte < 128 { b"\r\n\t :,;\0/"[usize::from(byte) % 9] } else { byte };
            match kind {
                0 => *at.get_mut(&mut bytes) = byte,
                1 => bytes.insert(at.index(bytes.len()), byte),
                _ => drop(bytes.remove(at.index(bytes.len()))),
            }
        }
        check_prefixes(&bytes);
        let Ok(ParsedReply::Complete(head)) = parse_reply(&bytes) else { return Ok(()) };
        let lines: Vec<&[u8]> = bytes[..head.len_bytes].split(|&byte| byte == b'\n').collect();
        for text in &lines[..lines.len() - 1] {
            prop_assert_eq!(text.iter().position(|&byte| byte == b'\r'), Some(text.len() - 1));
            prop_assert!(!text.starts_with(b" ") && !text.starts_with(b"\t"));
        }
        prop_assert_eq!(head.headers().count(), lines.len() - 3);
        for ((name, value), text) in head.headers().zip(&lines[1..]) {
            let colon = text.iter().position(|&byte| byte == b':').unwrap();
            prop_assert_eq!(name.as_bytes(), &text[..colon]);
            prop_assert_eq!(value, text[colon + 1..].trim_ascii());
        }
    }
}
