//! The head of a response, as far as a load generator cares: status, length, whether the connection stays.

use crate::Result;

/// A complete response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// `Content-Length`, if there was one.
    pub content_length: Option<u64>,
    /// Whether the server said `Connection: close`.
    pub close: bool,
    /// Bytes of the head, its empty line included.
    pub bytes: usize,
}

impl Head {
    /// Parses the head at the start of `bytes`; `None` while it is incomplete.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>> {
        let Some(end) = find_end(bytes) else {
            return if bytes.len() > 8192 { Err("a response head above 8 KiB".into()) } else { Ok(None) };
        };
        if end < 12 || !bytes.starts_with(b"HTTP/1.") {
            return Err("not an HTTP/1 response".into());
        }
        let digit = |at: usize| u16::from(bytes[at].wrapping_sub(b'0'));
        let mut head = Self {
            status: digit(9) * 100 + digit(10) * 10 + digit(11),
            content_length: None,
            close: false,
            bytes: end,
        };
        for line in bytes[..end].split(|&b| b == b'\n').skip(1) {
            if let Some(value) = value_of(line, b"content-length:") {
                head.content_length = std::str::from_utf8(value).ok().and_then(|v| v.trim().parse().ok());
            } else if let Some(value) = value_of(line, b"connection:") {
                head.close = value.trim_ascii().eq_ignore_ascii_case(b"close");
            }
        }
        Ok(Some(head))
    }
}

fn find_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4)
}

fn value_of<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    let matches = line.len() > name.len() && line[..name.len()].eq_ignore_ascii_case(name);
    matches.then(|| &line[name.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_is_read_when_complete() {
        let text = b"HTTP/1.1 206 Partial Content\r\nServer: x\r\ncontent-LENGTH: 13\r\nConnection: Close\r\n\r\nbody";
        for cut in 0..text.len() - 4 {
            assert_eq!(Head::parse(&text[..cut]).unwrap(), None, "cut at {cut}");
        }
        let head = Head::parse(text).unwrap().unwrap();
        assert_eq!(head, Head { status: 206, content_length: Some(13), close: true, bytes: text.len() - 4 });
    }

    #[test]
    fn something_else_is_an_error() {
        assert!(Head::parse(b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n").is_err());
    }
}
