//! Fetches blobs or parts of them in an order of its own and compares every byte with what was put.

use std::net::SocketAddr;
use std::ops::Range;

use super::store::Blob;
use crate::bench::pattern::Pattern;
use crate::bench::response::Response;
use crate::bench::sockets::{Answer, Question, Talk};

/// What to fetch next: which blob, and of it a part or the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Place in the blobs.
    pub blob: usize,
    /// Not empty, within the blob.
    pub part: Option<Range<u64>>,
}

/// Decides what comes next; `None`: nothing more.
pub type Order = Box<dyn FnMut(&[Blob]) -> Option<Fetch> + Send>;

/// What a connection is to hear.
#[derive(Default)]
struct Expected {
    response: Response,
    status: u16,
    number: u64,
    /// The next byte of the blob.
    at: u64,
    /// Bytes still to come.
    left: u64,
    bytes: u64,
}

/// The client.
pub struct Checking {
    host: String,
    pattern: Pattern,
    blobs: Vec<Blob>,
    order: Order,
    expected: Vec<Expected>,
    /// Questions asked and not answered.
    pub open: u64,
}

impl Checking {
    /// Fetches `blobs` in `order`.
    pub fn new(addr: SocketAddr, pattern: Pattern, blobs: Vec<Blob>, order: Order) -> Self {
        Self { host: addr.to_string(), pattern, blobs, order, expected: Vec::new(), open: 0 }
    }

    /// The blobs, to fetch them in another order.
    pub fn into_blobs(self) -> Vec<Blob> {
        self.blobs
    }
}

impl Talk for Checking {
    fn ask(&mut self, connection: usize) -> Option<Question> {
        let Fetch { blob, part } = (self.order)(&self.blobs)?;
        let Blob { number, size, digest } = &self.blobs[blob];
        let (range, status, part) = match part {
            Some(part) => (format!("Range: bytes={}-{}\r\n", part.start, part.end - 1), 206, part),
            None => (String::new(), 200, 0..*size),
        };
        let head = format!("GET /blobs/{digest} HTTP/1.1\r\nHost: {}\r\n{range}\r\n", self.host);
        if self.expected.len() <= connection {
            self.expected.resize_with(connection + 1, Expected::default);
        }
        let bytes = part.end - part.start;
        self.expected[connection] = Expected {
            response: Response::default(),
            status,
            number: *number,
            at: part.start,
            left: bytes,
            bytes,
        };
        self.open += 1;
        Some(Question { head: head.into_bytes(), ..Question::default() })
    }

    fn hear(&mut self, connection: usize, bytes: &[u8]) -> Result<Answer, String> {
        let Expected { response, status, number, at, left, bytes: all } = &mut self.expected[connection];
        let pattern = &self.pattern;
        let heard = response.hear_body(bytes, |head, part| {
            if head.status != *status || head.length != *all {
                let shown = String::from_utf8_lossy(&part[..part.len().min(200)]).into_owned();
                let (is, was) = (head.status, head.length);
                return Err(format!("status {is} with {was} bytes instead of {status} with {all}: {shown}"));
            }
            let wrong = |offset| format!("a wrong byte at {} of blob {number}", *at + offset as u64);
            pattern.check(Pattern::place(*number, *at), part).map_err(wrong)?;
            *at += part.len() as u64;
            *left -= part.len() as u64;
            Ok(())
        })?;
        Ok(match heard {
            None => Answer::Partial,
            Some(head) => {
                debug_assert_eq!(*left, 0, "a whole answer has all its bytes");
                self.open -= 1;
                Answer::Whole { bytes: *all, keep: head.keep }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::digest::Digest;

    fn asked(part: Option<Range<u64>>) -> (Checking, Pattern) {
        let pattern = Pattern::new(9);
        let addr = "127.0.0.1:9000".parse().expect("an address");
        let blob = Blob { number: 4, size: 100, digest: Digest::of_hash(&[1; 32]) };
        let order: Order = Box::new(move |_| Some(Fetch { blob: 0, part: part.clone() }));
        let mut talk = Checking::new(addr, pattern.clone(), vec![blob], order);
        let question = talk.ask(0).expect("a question");
        assert!(String::from_utf8_lossy(&question.head).starts_with("GET /blobs/sha256:0101"));
        (talk, pattern)
    }

    fn answer(pattern: &Pattern, status: &str, part: Range<u64>) -> Vec<u8> {
        let len = part.end - part.start;
        let mut bytes = format!("HTTP/1.1 {status}\r\nContent-Length: {len}\r\n\r\n").into_bytes();
        pattern.write(Pattern::place(4, part.start), len, &mut bytes).expect("a vector takes all");
        bytes
    }

    #[test]
    fn the_right_bytes_pass_and_a_flipped_bit_does_not() {
        for (part, status) in [(None, "200 OK"), (Some(30..60), "206 Partial Content")] {
            let (mut talk, pattern) = asked(part.clone());
            let part = part.unwrap_or(0..100);
            let good = answer(&pattern, status, part.clone());
            let whole = Answer::Whole { bytes: part.end - part.start, keep: true };
            assert_eq!(talk.hear(0, &good[..70]), Ok(Answer::Partial));
            assert_eq!((talk.hear(0, &good[70..]), talk.open), (Ok(whole), 0));
            talk.ask(0);
            let mut bad = good;
            *bad.last_mut().expect("a byte") ^= 1;
            let why = talk.hear(0, &bad).expect_err("refused");
            assert_eq!(why, format!("a wrong byte at {} of blob 4", part.end - 1));
        }
    }

    #[test]
    fn another_part_another_length_and_another_status_end_the_load() {
        for (status, part) in
            [("206 Partial Content", 31..61), ("206 Partial Content", 30..59), ("200 OK", 30..60)]
        {
            let (mut talk, pattern) = asked(Some(30..60));
            assert!(talk.hear(0, &answer(&pattern, status, part.clone())).is_err(), "{status} {part:?}");
        }
    }
}
