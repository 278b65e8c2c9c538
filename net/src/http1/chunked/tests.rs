//! Chunked bodies: the table of refusals, the bounds, and every split against a naive decoder.

use proptest::prelude::*;

use super::*;

/// Feeds `pieces` one after the other; returns the data and how many bytes were left over, `None` while unfinished.
fn run(pieces: &[&[u8]]) -> Result<(Vec<u8>, Option<usize>), ChunkError> {
    let mut decoder = ChunkedDecoder::new();
    let mut data = Vec::new();
    let mut done = false;
    let mut left = 0;
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() && !done {
            let step = decoder.decode(rest)?;
            assert!(step.consumed > 0 && step.data.end <= step.consumed);
            data.extend_from_slice(&rest[step.data.clone()]);
            rest = &rest[step.consumed..];
            done = step.done;
        }
        left += rest.len();
    }
    Ok((data, done.then_some(left)))
}

/// The obvious decoder over the whole input, without bounds: `Ok(None)` if it is cut short.
fn naive(mut rest: &[u8]) -> Result<Option<(Vec<u8>, usize)>, ()> {
    fn line<'i>(rest: &mut &'i [u8]) -> Result<Option<&'i [u8]>, ()> {
        let end = rest.iter().position(|&byte| byte != b'\t' && (byte < b' ' || byte == 0x7f));
        let Some(end) = end else { return Ok(None) };
        match &rest[end..] {
            [b'\r', b'\n', ..] => {}
            [b'\r'] => return Ok(None),
            _ => return Err(()),
        }
        let line = &rest[..end];
        *rest = &rest[end + 2..];
        Ok(Some(line))
    }
    let mut data = Vec::new();
    loop {
        let Some(size_line) = line(&mut rest)? else {
            return Ok(None);
        };
        let size_line = String::from_utf8_lossy(size_line);
        let (size, extension) =
            size_line.split_at(size_line.find([';', ' ', '\t']).unwrap_or(size_line.len()));
        if !extension.is_empty() && !extension.trim_start_matches([' ', '\t']).starts_with(';') {
            return Err(());
        }
        if size.is_empty() || size.len() > 16 || !size.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(());
        }
        let size = u64::from_str_radix(size, 16).map_err(|_| ())?;
        if size == 0 {
            break;
        }
        let Some((chunk, tail)) = usize::try_from(size).ok().and_then(|size| rest.split_at_checked(size))
        else {
            return Ok(None);
        };
        data.extend_from_slice(chunk);
        match tail {
            [b'\r', b'\n', after @ ..] => rest = after,
            [] | [b'\r'] => return Ok(None),
            _ => return Err(()),
        }
    }
    loop {
        match line(&mut rest)? {
            None => return Ok(None),
            Some([]) => return Ok(Some((data, rest.len()))),
            Some(field) => {
                let colon = field.iter().position(|&byte| byte == b':').ok_or(())?;
                if colon == 0 || !field[..colon].iter().all(|&byte| is_token_byte(byte)) {
                    return Err(());
                }
            }
        }
    }
}

#[test]
fn well_formed_bodies() {
    let cases: [(&[u8], &[u8], usize); 9] = [
        (b"0\r\n\r\n", b"", 0),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello", 0),
        (b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nGET /", b"hello world", 5),
        (b"a\r\n0123456789\r\n00\r\n\r\n", b"0123456789", 0),
        (b"0000000000000001\r\nx\r\n0\r\n\r\n", b"x", 0),
        (b"2;name=value\r\n\r\n\r\n0;last\r\n\r\n", b"\r\n", 0),
        (b"1 ;a=\"b;c\"\r\nx\r\n0\r\n\r\n", b"x", 0),
        (b"1\r\nx\r\n0\r\nchecksum: 1\r\nempty:\r\n\r\n", b"x", 0),
        (b"1\r\nx\r\n0\r\n\r\n\r\n", b"x", 2),
    ];
    for (input, data, left) in cases {
        assert_eq!(run(&[input]), Ok((data.to_vec(), Some(left))), "{:?}", input.escape_ascii().to_string());
    }
}

#[test]
fn refused_bodies() {
    use ChunkError::{Extension, LineEnd, Size, Trailer};
    let cases: [(&str, ChunkError, &[u8]); 28] = [
        ("empty size", Size, b"\r\nx"),
        ("only an extension", Size, b";a\r\n"),
        ("leading space", Size, b" 5\r\nhello\r\n"),
        ("sign", Size, b"+5\r\nhello\r\n"),
        ("negative", Size, b"-5\r\nhello\r\n"),
        ("0x", Size, b"0x5\r\nhello\r\n"),
        ("underscore", Size, b"1_0\r\n"),
        ("no hex", Size, b"g\r\n"),
        ("17 digits", Size, b"00000000000000005\r\nhello\r\n"),
        ("overflow", Size, b"10000000000000000\r\n"),
        ("bare LF after size", Size, b"5\nhello\r\n0\r\n\r\n"),
        ("bare CR after size", LineEnd, b"5\rhello\r\n"),
        ("NUL in size", Size, b"5\0\r\nhello"),
        ("space then CRLF", Extension, b"5 \r\nhello\r\n"),
        ("space then digit", Extension, b"5 5\r\nhello\r\n"),
        ("bare LF in extension", Extension, b"5;a\nhello\r\n"),
        ("bare CR in extension", LineEnd, b"5;a\rb\r\nhello\r\n"),
        ("NUL in extension", Extension, b"5;a\0\r\nhello\r\n"),
        ("data longer than size", LineEnd, b"5\r\nhello!\r\n"),
        ("data shorter than size", LineEnd, b"5\r\nhell\r\n\r\n"),
        ("bare LF after data", LineEnd, b"5\r\nhello\n0\r\n\r\n"),
        ("bare CR after data", LineEnd, b"5\r\nhello\r0\r\n\r\n"),
        ("bare LF ends the body", Trailer, b"0\r\n\n"),
        ("no CRLF at the end", Trailer, b"0\r\nGET / HTTP/1.1\r\n"),
        ("bare LF after a trailer", LineEnd, b"0\r\na: b\n\r\n"),
        ("folded trailer", Trailer, b"0\r\na: b\r\n c\r\n\r\n"),
        ("space before the colon", Trailer, b"0\r\na : b\r\n\r\n"),
        ("CR without LF at the end", LineEnd, b"0\r\n\rX"),
    ];
    for (name, error, input) in cases {
        assert_eq!(run(&[input]).unwrap_err(), error, "{name}");
        assert_eq!(error.status().code(), 400, "{name}");
        let single: Vec<&[u8]> = input.chunks(1).collect();
        assert_eq!(run(&single).unwrap_err(), error, "{name}, byte by byte");
    }
}

#[test]
fn a_refused_body_stays_refused() {
    let mut decoder = ChunkedDecoder::new();
    assert_eq!(decoder.decode(b"x"), Err(ChunkError::Size));
    assert_eq!(decoder.decode(b"5\r\nhello\r\n"), Err(ChunkError::Size));
}

#[test]
fn a_finished_body_takes_nothing_more() {
    let mut decoder = ChunkedDecoder::new();
    assert_eq!(decoder.decode(b"0\r\n\r\nGET"), Ok(Step { consumed: 5, data: 5..5, done: true }));
    assert_eq!(decoder.decode(b"GET"), Ok(Step { consumed: 0, data: 0..0, done: true }));
}

#[test]
fn the_largest_size_is_taken_at_its_word() {
    let mut decoder = ChunkedDecoder::new();
    assert_eq!(
        decoder.decode(b"ffffffffffffffff\r\nab"),
        Ok(Step { consumed: 20, data: 18..20, done: false })
    );
    assert_eq!(decoder.remaining_bytes, u64::MAX - 2);
}

#[test]
fn extensions_are_bounded() {
    let chunk =
        |extension_bytes: usize| [b"1;", "e".repeat(extension_bytes - 1).as_bytes(), b"\r\nx\r\n"].concat();
    assert!(run(&[&chunk(CHUNK_EXTENSION_BYTES_MAX)]).is_ok());
    assert_eq!(run(&[&chunk(CHUNK_EXTENSION_BYTES_MAX + 1)]).unwrap_err(), ChunkError::ExtensionTooLong);
    let spaces = [b"1", " ".repeat(CHUNK_EXTENSION_BYTES_MAX + 1).as_bytes()].concat();
    assert_eq!(run(&[&spaces]).unwrap_err(), ChunkError::ExtensionTooLong);
    let count = CHUNK_EXTENSIONS_TOTAL_BYTES_MAX / CHUNK_EXTENSION_BYTES_MAX;
    let full = chunk(CHUNK_EXTENSION_BYTES_MAX).repeat(count);
    assert!(run(&[&full]).is_ok());
    assert_eq!(run(&[&full, b"1;\r\n"]).unwrap_err(), ChunkError::ExtensionTooLong);
}

#[test]
fn trailers_are_bounded() {
    let body =
        |trailer_bytes: usize| [b"0\r\na:", "b".repeat(trailer_bytes - 4).as_bytes(), b"\r\n\r\n"].concat();
    assert_eq!(run(&[&body(TRAILER_BYTES_MAX)]), Ok((vec![], Some(0))));
    assert_eq!(run(&[&body(TRAILER_BYTES_MAX + 1)]).unwrap_err(), ChunkError::TrailerTooLarge);
    assert_eq!(ChunkError::TrailerTooLarge.status().code(), 431);
}

/// A body as a client might send it, now and then with one byte changed.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let extension = prop::sample::select(vec!["", ";a", ";a=b", " ; a=\"b\"", ";"]);
    let chunk = (prop::collection::vec(any::<u8>(), 1..40), extension);
    let trailer = prop::sample::select(vec!["", "a: b\r\n", "a:\r\nb: c \r\n"]);
    let mutation =
        prop::option::of((any::<prop::sample::Index>(), prop::sample::select(b"\r\n0 ;:aG\0\x80".to_vec())));
    (prop::collection::vec(chunk, 0..6), trailer, mutation).prop_map(|(chunks, trailer, mutation)| {
        let mut wire = Vec::new();
        for (data, extension) in chunks {
            wire.extend_from_slice(format!("{:x}{extension}\r\n", data.len()).as_bytes());
            wire.extend_from_slice(&data);
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(format!("0\r\n{trailer}\r\nnext").as_bytes());
        if let Some((at, byte)) = mutation {
            *at.get_mut(&mut wire) = byte;
        }
        wire
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn any_split_equals_the_naive_decoder(wire in body(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8)) {
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
        at.extend([0, wire.len()]);
        at.sort_unstable();
        let pieces: Vec<&[u8]> = at.windows(2).map(|pair| &wire[pair[0]..pair[1]]).collect();
        let got = run(&pieces);
        match naive(&wire) {
            Ok(Some((data, left))) => prop_assert_eq!(got, Ok((data, Some(left)))),
            // The decoder may refuse a cut body earlier than the naive one, which waits for whole lines.
            Ok(None) => prop_assert!(got.is_err() || got.is_ok_and(|(_, left)| left.is_none())),
            Err(()) => prop_assert!(got.is_err()),
        }
    }

    #[test]
    fn nothing_panics(wire in prop::collection::vec(prop::sample::select(b"\r\n019afG;: =\"\0\xff".to_vec()), 0..64)) {
        let whole = run(&[&wire]);
        let single: Vec<&[u8]> = wire.chunks(1).collect();
        prop_assert_eq!(run(&single), whole);
    }
}
