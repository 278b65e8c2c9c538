//! What answers mean, as a table, and under mutation: no head makes us take bytes that were not asked for.

use super::super::validator::Validator;
use super::*;
use mutation::fuzz;
use net::http1::{ParsedReply, ReplyLength, parse_reply};

const NOW_S: u64 = 784_111_777;
const SLICE: u64 = 1 << 20;
const SIZE: u64 = 2_500_000;

fn version(tag: &str, size: u64) -> Version {
    Version { validator: Validator::Tag(tag.to_owned()), size }
}

fn first() -> Asked {
    Asked::First(FirstRun::From(0..SLICE))
}

fn second() -> Asked {
    Asked::Run(SLICE..2 * SLICE, version("\"a\"", SIZE))
}

fn revalidation() -> Asked {
    Asked::Revalidation(FirstRun::From(0..SLICE), version("\"a\"", SIZE))
}

/// `206 | A: b`: the meaning of a head.
fn means(asked: &Asked, text: &str) -> Meaning {
    let (status, fields) = text.split_once(" | ").unwrap_or((text, ""));
    let lines = fields.split(" | ").filter(|line| !line.is_empty());
    let pairs: Vec<(&str, &str)> = lines.map(|line| line.split_once(": ").expect("a field")).collect();
    let fields = Fields::of_pairs(&pairs);
    let length =
        fields.only("content-length").map(|value| String::from_utf8_lossy(value).parse().expect("a number"));
    meaning(
        asked,
        &Replied { status: status.parse().expect("a status"), fields: &fields, length, now_s: NOW_S },
    )
}

fn status(status: u16, retry_after_s: Option<u64>) -> Meaning {
    Meaning::Retry(Fault::Status { status, retry_after_s })
}

#[test]
fn answers_to_a_first_run() {
    use Meaning::{AskWhole, Beyond, Relay, Retry, Run};
    let whole = |version| Meaning::Whole { version, is_same: false };
    let small = || Run(0..5, version("\"a\"", 5));
    let table = [
        ("206 | Content-Range: bytes 0-1048575/2500000 | ETag: \"a\"", Run(0..SLICE, version("\"a\"", SIZE))),
        ("206 | Content-Range: bytes 0-4/5 | ETag: \"a\"", small()),
        ("206 | Content-Range: bytes 0-4/5 | ETag: \"a\" | Content-Length: 5", small()),
        ("206 | Content-Range: bytes 0-4/5 | ETag: \"a\" | Content-Encoding: identity", small()),
        ("206 | Content-Range: bytes 0-4/5 | ETag: \"a\" | Content-Length: 4", Retry(Fault::Short)),
        ("206 | Content-Range: bytes 0-3/5 | ETag: \"a\"", Retry(Fault::WrongRange)),
        ("206 | Content-Range: bytes 1-4/5 | ETag: \"a\"", Retry(Fault::WrongRange)),
        ("206 | Content-Range: bytes 0-1048576/2500000 | ETag: \"a\"", Retry(Fault::WrongRange)),
        ("206 | Content-Range: bytes 0-5/5 | ETag: \"a\"", Retry(Fault::WrongRange)),
        (
            "206 | Content-Range: bytes 0-4/5 | Content-Range: bytes 0-4/5 | ETag: \"a\"",
            Retry(Fault::WrongRange),
        ),
        ("206 | Content-Type: multipart/byteranges; boundary=x | ETag: \"a\"", Retry(Fault::WrongRange)),
        (
            "206 | Content-Range: bytes 0-4/5 | ETag: \"a\" | Content-Encoding: gzip",
            AskWhole(NotSliced::Encoded),
        ),
        ("206 | Content-Range: bytes 0-1048575/* | ETag: \"a\"", AskWhole(NotSliced::NoSize)),
        ("206 | Content-Range: bytes 0-4/5", AskWhole(NotSliced::NoValidator)),
        ("206 | Content-Range: bytes 0-4/5 | ETag: W/\"a\"", AskWhole(NotSliced::NoValidator)),
        ("200 | ETag: \"a\" | Content-Length: 5", whole(Some(version("\"a\"", 5)))),
        ("200 | ETag: \"a\"", whole(None)),
        ("200 | Content-Length: 5", whole(None)),
        ("200 | ETag: \"a\" | Content-Length: 5 | Content-Encoding: br", whole(None)),
        ("416 | Content-Range: bytes */0", Beyond(0)),
        ("416 | Content-Range: bytes */7", Retry(Fault::WrongRange)),
        ("416", AskWhole(NotSliced::NoSize)),
        ("304", Retry(Fault::Malformed)),
        ("301 | Location: /b", Relay),
        ("302", Relay),
        ("401", Relay),
        ("404", Relay),
        ("412", Relay),
        ("429 | Retry-After: 5", Relay),
        ("204", Relay),
        ("500", status(500, None)),
        ("503 | Retry-After: 5", status(503, Some(5))),
        ("503 | Retry-After: Sun, 06 Nov 1994 08:49:47 GMT", status(503, Some(10))),
        ("503 | Retry-After: Sun, 06 Nov 1994 08:49:17 GMT", status(503, Some(0))),
        ("503 | Retry-After: soon", status(503, None)),
    ];
    for (text, expected) in table {
        assert_eq!(means(&first(), text), expected, "{text}");
    }
    let beyond = Asked::First(FirstRun::From(SLICE..2 * SLICE));
    assert_eq!(means(&beyond, "416 | Content-Range: bytes */7"), Beyond(7));
    let last = Asked::First(FirstRun::Last(10));
    assert_eq!(
        means(&last, "206 | Content-Range: bytes 90-99/100 | ETag: \"a\""),
        Run(90..100, version("\"a\"", 100))
    );
    assert_eq!(means(&last, "206 | Content-Range: bytes 0-9/100 | ETag: \"a\""), Retry(Fault::WrongRange));
}

#[test]
fn answers_to_a_run_of_a_version() {
    use Meaning::{Changed, Refused, Retry, Run};
    let table = [
        (
            "206 | Content-Range: bytes 1048576-2097151/2500000 | ETag: \"a\"",
            Run(SLICE..2 * SLICE, version("\"a\"", SIZE)),
        ),
        ("206 | Content-Range: bytes 1048576-2097151/2500000 | ETag: \"b\"", Changed),
        ("206 | Content-Range: bytes 1048576-2097151/2500001 | ETag: \"a\"", Changed),
        ("206 | Content-Range: bytes 1048576-2097151/2500000 | ETag: W/\"a\"", Changed),
        ("206 | Content-Range: bytes 1048576-2097151/2500000", Changed),
        ("206 | Content-Range: bytes 1048576-2097151/* | ETag: \"a\"", Changed),
        (
            "206 | Content-Range: bytes 1048576-2097151/2500000 | ETag: \"a\" | Content-Encoding: gzip",
            Changed,
        ),
        ("206 | Content-Range: bytes 0-1048575/2500000 | ETag: \"a\"", Retry(Fault::WrongRange)),
        ("206 | Content-Range: bytes 1048576-2097150/2500000 | ETag: \"a\"", Retry(Fault::WrongRange)),
        ("206 | ETag: \"a\"", Retry(Fault::WrongRange)),
        (
            "206 | Content-Range: bytes 1048576-2097151/2500000 | ETag: \"a\" | Content-Length: 9",
            Retry(Fault::Short),
        ),
        (
            "200 | ETag: \"a\" | Content-Length: 2500000",
            Meaning::Whole { version: Some(version("\"a\"", SIZE)), is_same: true },
        ),
        ("200 | ETag: \"b\" | Content-Length: 2500000", Changed),
        ("200 | ETag: \"a\" | Content-Length: 2500001", Changed),
        ("200 | ETag: \"a\"", Changed),
        ("200 | ETag: \"a\" | Content-Length: 2500000 | Content-Encoding: gzip", Changed),
        ("304", Retry(Fault::Malformed)),
        ("412", Changed),
        ("416", Changed),
        ("416 | Content-Range: bytes */5", Changed),
        ("416 | Content-Range: bytes */2500000", Retry(Fault::WrongRange)),
        ("302 | Location: /b", Changed),
        ("404", Changed),
        ("410", Changed),
        ("204", Changed),
        ("403", Refused(403)),
        ("429 | Retry-After: 5", Refused(429)),
        ("502", status(502, None)),
        ("511", Refused(511)),
    ];
    for (text, expected) in table {
        assert_eq!(means(&second(), text), expected, "{text}");
    }
}

#[test]
fn answers_to_a_revalidation() {
    use Meaning::{Changed, NotModified, Refused, Retry, Run};
    let table = [
        ("304", NotModified),
        ("304 | ETag: \"a\"", NotModified),
        ("304 | ETag: \"b\"", Changed),
        ("304 | Last-Modified: Sun, 06 Nov 1994 08:49:36 GMT", NotModified),
        ("206 | Content-Range: bytes 0-1048575/2500000 | ETag: \"a\"", NotModified),
        ("206 | Content-Range: bytes 0-4/5 | ETag: \"b\"", Run(0..5, version("\"b\"", 5))),
        ("206 | Content-Range: bytes 1-4/5 | ETag: \"b\"", Retry(Fault::WrongRange)),
        (
            "200 | ETag: \"a\" | Content-Length: 2500000",
            Meaning::Whole { version: Some(version("\"a\"", SIZE)), is_same: true },
        ),
        ("200 | ETag: \"b\" | Content-Length: 5", Changed),
        ("416 | Content-Range: bytes */0", Changed),
        ("412", Changed),
        ("404", Changed),
        ("301 | Location: /b", Changed),
        ("401", Refused(401)),
        ("403", Refused(403)),
        ("425", Refused(425)),
        ("429", Refused(429)),
        ("451", Refused(451)),
        ("501", Refused(501)),
        ("505", Refused(505)),
        ("599", Refused(599)),
        ("500", status(500, None)),
        ("502", status(502, None)),
        ("503 | Retry-After: 5", status(503, Some(5))),
        ("504", status(504, None)),
    ];
    for (text, expected) in table {
        assert_eq!(means(&revalidation(), text), expected, "{text}");
    }
}

/// Heads bent at random, through the parser that reads them from the wire.
#[test]
fn no_head_makes_other_bytes_of_what_was_asked_for() {
    let heads = [
        "206 Partial Content\r\nContent-Range: bytes 1048576-2097151/2500000\r\nETag: \"a\"\r\nContent-Length: 1048576\r\n\r\n",
        "206 Partial Content\r\nContent-Range: bytes 0-1048575/2500000\r\nETag: \"a\"\r\nContent-Length: 1048576\r\n\r\n",
        "200 OK\r\nETag: \"a\"\r\nContent-Length: 2500000\r\n\r\n",
        "416 No\r\nContent-Range: bytes */2500000\r\n\r\n",
    ];
    let golden: Vec<Vec<u8>> = heads.map(|head| format!("HTTP/1.1 {head}").into_bytes()).into();
    fuzz(
        "answer to a run",
        &golden,
        |_| {},
        |bytes| {
            let Ok(ParsedReply::Complete(head)) = parse_reply(bytes) else { return false };
            let fields = Fields::of_reply(&head);
            let length = match head.length {
                ReplyLength::Length(length) => Some(length),
                _ => None,
            };
            let replied = Replied { status: head.status, fields: &fields, length, now_s: NOW_S };
            match meaning(&second(), &replied) {
                Meaning::Run(run, of) => {
                    assert_eq!((run, of), (SLICE..2 * SLICE, version("\"a\"", SIZE)));
                    assert!(head.status == 206 && length.is_none_or(|length| length == SLICE));
                }
                Meaning::Whole { version: of, is_same } => {
                    assert_eq!((of, is_same), (Some(version("\"a\"", SIZE)), true));
                }
                Meaning::NotModified | Meaning::AskWhole(_) | Meaning::Beyond(_) | Meaning::Relay => {
                    panic!("not an answer to a run")
                }
                Meaning::Changed | Meaning::Refused(_) | Meaning::Retry(_) => {}
            }
            if let Meaning::Run(run, of) = meaning(&first(), &replied) {
                assert!(run.start == 0 && run.end == of.size.min(SLICE));
            }
            true
        },
    );
}
