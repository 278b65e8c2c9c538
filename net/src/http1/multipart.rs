//! The parts of a multipart/byteranges body (RFC 9110 §14.6), without the data.
//!
//! Called by the engines for `Ranges::Multi`. The body is prelude, data, prelude, data … closing; its length is known
//! before the first byte is read, so the response needs no chunking.

use std::ops::Range;

use super::limits::BOUNDARY_BYTES_MAX;
use super::response::push_content_range;

/// What stands around the ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Multipart {
    /// Value of the response's Content-Type.
    pub content_type: Vec<u8>,
    /// What goes before the bytes of each range, in order.
    pub preludes: Vec<Vec<u8>>,
    /// What goes after the last range.
    pub closing: Vec<u8>,
    /// Length of the whole body.
    pub content_length: u64,
}

impl Multipart {
    /// Builds the frame for `ranges` of a representation of `size` bytes and type `content_type`.
    ///
    /// `boundary` is 1 to 70 letters or digits that the caller drew at random: it must not occur in the data.
    #[must_use]
    pub fn new(content_type: &str, boundary: &str, ranges: &[Range<u64>], size: u64) -> Self {
        debug_assert!((1..=BOUNDARY_BYTES_MAX).contains(&boundary.len()), "boundary {boundary:?}");
        debug_assert!(boundary.bytes().all(|byte| byte.is_ascii_alphanumeric()), "boundary {boundary:?}");
        let preludes: Vec<Vec<u8>> = ranges
            .iter()
            .enumerate()
            .map(|(at, range)| {
                let mut out = Vec::with_capacity(128);
                // The CRLF before a delimiter belongs to it (RFC 2046 §5.1.1); before the first there is no data.
                out.extend_from_slice(if at == 0 { b"--" } else { b"\r\n--" });
                out.extend_from_slice(boundary.as_bytes());
                out.extend_from_slice(b"\r\ncontent-type: ");
                out.extend(
                    content_type.bytes().map(|byte| if byte.is_ascii_control() { b' ' } else { byte }),
                );
                out.extend_from_slice(b"\r\ncontent-range: ");
                push_content_range(&mut out, range, size);
                out.extend_from_slice(b"\r\n\r\n");
                out
            })
            .collect();
        let closing = [b"\r\n--", boundary.as_bytes(), b"--\r\n"].concat();
        let frame_bytes = preludes.iter().map(Vec::len).sum::<usize>() + closing.len();
        let data_bytes = ranges.iter().fold(0, |sum: u64, range| sum.saturating_add(range.end - range.start));
        Self {
            content_type: [b"multipart/byteranges; boundary=", boundary.as_bytes()].concat(),
            preludes,
            closing,
            content_length: data_bytes.saturating_add(frame_bytes as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_as_long_as_announced_and_reads_as_in_the_rfc() {
        let data = b"0123456789";
        let ranges = [7..10, 0..2];
        let parts = Multipart::new("text/plain", "THIS", &ranges, 10);
        let mut body = Vec::new();
        for (prelude, range) in parts.preludes.iter().zip(&ranges) {
            body.extend_from_slice(prelude);
            body.extend_from_slice(
                &data[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()],
            );
        }
        body.extend_from_slice(&parts.closing);
        assert_eq!(body.len() as u64, parts.content_length);
        let expected = "--THIS\r\ncontent-type: text/plain\r\ncontent-range: bytes 7-9/10\r\n\r\n789\
                        \r\n--THIS\r\ncontent-type: text/plain\r\ncontent-range: bytes 0-1/10\r\n\r\n01\r\n--THIS--\r\n";
        assert_eq!(String::from_utf8_lossy(&body), expected);
        assert_eq!(parts.content_type, b"multipart/byteranges; boundary=THIS");
    }

    #[test]
    fn a_type_from_an_origin_stays_in_its_line() {
        let parts = Multipart::new("a/b\r\nx: y", "B", std::slice::from_ref(&(0..1)), 1);
        assert!(parts.preludes[0].starts_with(b"--B\r\ncontent-type: a/b  x: y\r\n"));
    }
}
