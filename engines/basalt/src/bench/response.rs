//! The least of HTTP/1.1 that the clients of `bench` need: status, length, and where the answer ends.

/// Heads longer than this are refused.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Reads one answer after another on one connection.
#[derive(Clone, Debug, Default)]
pub struct Response {
    head: Vec<u8>,
    parsed: Option<Head>,
    body_left: u64,
}

/// What the head said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Status code.
    pub status: u16,
    /// Bytes of the body.
    pub length: u64,
    /// The connection stays open.
    pub keep: bool,
    /// The digest that `Location` names.
    pub location: Option<[u8; 32]>,
}

impl Response {
    /// Takes in bytes; the head once the answer is whole.
    pub fn hear(&mut self, bytes: &[u8]) -> Result<Option<Head>, String> {
        self.hear_body(bytes, |_, _| Ok(()))
    }

    /// As [`Response::hear`]; what of the bytes is body goes to `look`, which may refuse it.
    pub fn hear_body(
        &mut self,
        mut bytes: &[u8],
        mut look: impl FnMut(&Head, &[u8]) -> Result<(), String>,
    ) -> Result<Option<Head>, String> {
        if self.parsed.is_none() {
            let before = self.head.len();
            self.head.extend_from_slice(&bytes[..bytes.len().min(HEAD_BYTES_MAX)]);
            let from = before.saturating_sub(3);
            let Some(end) = find(&self.head[from..], b"\r\n\r\n").map(|at| from + at + 4) else {
                if self.head.len() > HEAD_BYTES_MAX {
                    return Err("the answer's head is too long".into());
                }
                return Ok(None);
            };
            let head = parse(&self.head[..end])?;
            bytes = &bytes[end - before..];
            self.head.clear();
            self.body_left = head.length;
            self.parsed = Some(head);
        }
        self.body_left = self
            .body_left
            .checked_sub(bytes.len() as u64)
            .ok_or("the answer is longer than its Content-Length")?;
        if let Some(head) = &self.parsed {
            look(head, bytes)?;
        }
        match self.body_left {
            0 => Ok(self.parsed.take()),
            _ => Ok(None),
        }
    }

    /// Forgets an answer cut short: the question is asked again.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn parse(head: &[u8]) -> Result<Head, String> {
    let text = std::str::from_utf8(head).map_err(|_| "the answer's head is not text")?;
    let mut lines = text.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let status = status_line
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .ok_or_else(|| format!("not an HTTP/1.1 answer: {status_line}"))?;
    let mut parsed = Head { status, keep: true, ..Head::default() };
    let mut length = None;
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.parse().ok();
        } else if name.eq_ignore_ascii_case("connection") {
            parsed.keep = !value.eq_ignore_ascii_case("close");
        } else if name.eq_ignore_ascii_case("location") {
            parsed.location = digest_of(value);
        }
    }
    let has_none = status == 204;
    parsed.length = length
        .or(has_none.then_some(0))
        .ok_or_else(|| format!("an answer without Content-Length: {status_line}"))?;
    Ok(parsed)
}

/// The digest at the end of `…/sha256:<hex>`.
fn digest_of(location: &str) -> Option<[u8; 32]> {
    let hex = location.rsplit_once("sha256:")?.1;
    let mut digest = [0; 32];
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).ok()?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 201 Created\r\nLocation: /blobs/sha256:000102030405060708090a0b0c0d0e0f\
        101112131415161718191a1b1c1d1e1f\r\ncontent-length: 5\r\n\r\nhello";

    #[test]
    fn an_answer_is_whole_however_it_is_cut() {
        for cut in 0..ANSWER.len() {
            let mut response = Response::default();
            if cut > 0 {
                assert_eq!(response.hear(&ANSWER[..cut]), Ok(None), "cut at {cut}");
            }
            let head = response.hear(&ANSWER[cut..]).expect("reads").expect("whole");
            assert_eq!((head.status, head.length, head.keep), (201, 5, true));
            assert!(head.location.is_some_and(|d| d[..3] == [0, 1, 2] && d[31] == 31));
        }
    }

    #[test]
    fn the_body_is_seen_whole_however_it_is_cut() {
        for cut in 0..ANSWER.len() {
            let (mut response, mut body) = (Response::default(), Vec::new());
            for part in [&ANSWER[..cut], &ANSWER[cut..]] {
                let heard = response.hear_body(part, |head, bytes| {
                    assert_eq!(head.status, 201);
                    body.extend_from_slice(bytes);
                    Ok(())
                });
                assert!(heard.is_ok());
            }
            assert_eq!(body, b"hello", "cut at {cut}");
        }
    }

    #[test]
    fn answers_follow_each_other() {
        let mut response = Response::default();
        for _ in 0..3 {
            assert!(response.hear(ANSWER).is_ok_and(|head| head.is_some()));
            let gone = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
            let head = response.hear(gone).expect("reads").expect("whole");
            assert_eq!((head.status, head.length, head.keep), (204, 0, false));
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let refused = |bytes: &[u8]| Response::default().hear(bytes).is_err();
        assert!(refused(b"SSH-2.0-x\r\n\r\n"));
        assert!(refused(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"));
        assert!(refused(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab"));
        assert!(
            refused(&[b'x'; HEAD_BYTES_MAX + 4096].repeat(2)) || {
                let mut response = Response::default();
                (0..20).any(|_| response.hear(&[b'x'; 4096]).is_err())
            }
        );
    }
}
