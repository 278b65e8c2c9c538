//! Random requests, their prefixes and mutations, and random bytes.

use proptest::prelude::*;

use super::tests::head;
use super::*;

/// Requests as clients send them.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let start = prop::sample::select(vec!["", "\r\n"]);
    let request_line = prop::sample::select(vec![
        "GET / HTTP/1.1",
        "PUT /blobs?x=%20 HTTP/1.1",
        "HEAD http://h:1/p HTTP/1.0",
        "POST /write HTTP/1.1",
    ]);
    let framing = prop::sample::select(vec![
        "",
        "Content-Length: 3\r\n",
        "Expect: 100-continue\r\nContent-Length: 9\r\n",
    ]);
    let field = prop::sample::select(vec![
        "Accept: */*\r\n",
        "Connection: close\r\n",
        "Range: bytes=0-1, -5\r\n",
        "X:\r\n",
        "If-None-Match: \"a\" \t\r\n",
    ]);
    (start, request_line, framing, prop::collection::vec(field, 0..8)).prop_map(
        |(start, request_line, framing, fields)| {
            format!("{start}{request_line}\r\nHost: h\r\n{framing}{}\r\n", fields.concat()).into_bytes()
        },
    )
}

/// The verdict on every prefix: `Partial` up to one length, then the same complete head or refused for good.
fn check_prefixes(bytes: &[u8]) {
    let mut end: Option<Result<usize, ()>> = None;
    for len in 0..=bytes.len() {
        let now = match parse_head(&bytes[..len]) {
            Ok(Parsed::Partial) => None,
            Ok(Parsed::Complete(head)) => Some(Ok(head.len_bytes)),
            Err(_) => Some(Err(())),
        };
        assert!(end.is_none() || now == end, "{len}: {now:?} after {end:?}");
        if let (None, Some(Ok(head_len))) = (end, now) {
            assert_eq!(head_len, len, "complete with its last byte");
            assert!(head_may_end(&bytes[..len], len - 1));
        }
        end = now;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_prefix_of_a_request_is_partial(bytes in request()) {
        for len in 0..bytes.len() {
            prop_assert!(matches!(parse_head(&bytes[..len]), Ok(Parsed::Partial)), "{len}");
        }
        prop_assert_eq!(head(&bytes).len_bytes, bytes.len());
        check_prefixes(&bytes);
    }

    #[test]
    fn a_refusal_never_heals(mut bytes in request(), at: prop::sample::Index, byte in prop::sample::select(b"\r\n :\0a\xff1/".to_vec())) {
        *at.get_mut(&mut bytes) = byte;
        check_prefixes(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn random_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_head(&bytes);
    }

    #[test]
    fn what_is_accepted_after_mutations_is_strict(
        mut bytes in request(),
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
        let Ok(Parsed::Complete(head)) = parse_head(&bytes) else { return Ok(()) };
        let lines: Vec<&[u8]> = bytes[..head.len_bytes].split(|&byte| byte == b'\n').collect();
        // Every line ends in CR, no other CR, no control; the last two lines are the empty one and what follows it.
        for text in &lines[..lines.len() - 1] {
            prop_assert_eq!(text.iter().position(|&byte| byte == b'\r'), Some(text.len() - 1));
            prop_assert!(text[..text.len() - 1].iter().all(|&byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f)));
            prop_assert!(!text.starts_with(b" ") && !text.starts_with(b"\t"));
        }
        let skipped = usize::from(bytes.starts_with(b"\r\n"));
        prop_assert_eq!(head.headers().count(), lines.len() - 3 - skipped);
        // The fields are those a reader by lines and colons finds.
        for ((name, value), text) in head.headers().zip(&lines[1 + skipped..]) {
            let colon = text.iter().position(|&byte| byte == b':').unwrap();
            prop_assert_eq!(name, &text[..colon]);
            prop_assert_eq!(value, text[colon + 1..].trim_ascii());
        }
        let count = |wanted: &str| head.headers().filter(|(name, _)| name.eq_ignore_ascii_case(wanted.as_bytes())).count();
        prop_assert!(count("host") == 1 || (head.minor_version == 0 && count("host") == 0));
        let framed = count("content-length") + count("transfer-encoding");
        prop_assert!(framed <= 1);
        prop_assert_eq!(framed == 0, head.body == BodyLength::None);
    }
}
