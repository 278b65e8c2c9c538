//! GETs of objects behind a caching proxy.

use std::net::SocketAddr;
use std::ops::Range;

use crate::bench::pattern::Pattern;
use crate::bench::response::Response;
use crate::bench::sockets::{Answer, Question, Talk};
use crate::error::Error;

/// Multiples of it lie evenly spread, whatever they are divided by (2⁶⁴ over the golden ratio).
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// Something to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// With its query, if it has one.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// What its bytes are, with an origin of our own.
    number: u64,
}

impl Object {
    /// One of our own origin.
    pub fn of_origin(number: u64, size: u64) -> Self {
        Self { path: format!("/{size}/{number}"), size, number }
    }

    /// One that a server has: it is asked for its size.
    pub fn of_server(addr: SocketAddr, path: &str) -> Result<Self, Error> {
        let failed = |why: String| Error::runtime(format!("cannot fetch {path} from {addr}")).why(why);
        let answer = ureq::head(format!("http://{addr}{path}")).config().proxy(None).build().call();
        let answer = answer.map_err(|error| failed(error.to_string()))?;
        let length =
            answer.headers().get("content-length").and_then(|value| value.to_str().ok()?.parse().ok());
        let size = length.ok_or_else(|| failed("it does not say how long it is".to_owned()))?;
        Ok(Self { path: path.to_owned(), size, number: 0 })
    }

    /// Its name with something added that makes it another one to a cache.
    fn cold_path(&self, mark: &str) -> String {
        let sign = if self.path.contains('?') { '&' } else { '?' };
        format!("{}{sign}basalt-bench={mark}", self.path)
    }
}

/// What is asked for, and when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// All objects in turn, so many times.
    Rounds(usize),
    /// All objects in turn, whole or a range of so many bytes anywhere, for ever.
    Hot(Option<u64>),
    /// The same, each time under a name that was never used, with a number of this run.
    Cold(Option<u64>, u64),
}

#[derive(Default)]
struct Expected {
    response: Response,
    status: u16,
    number: u64,
    /// The next byte of the object.
    at: u64,
    bytes: u64,
}

/// The client.
pub struct Getting {
    host: String,
    objects: Vec<Object>,
    order: Order,
    /// What the bytes must be, if that is known.
    pattern: Option<Pattern>,
    asked: u64,
    expected: Vec<Expected>,
}

impl Getting {
    /// Fetches `objects` in `order`.
    pub fn new(addr: SocketAddr, objects: Vec<Object>, order: Order, pattern: Option<Pattern>) -> Self {
        Self { host: addr.to_string(), objects, order, pattern, asked: 0, expected: Vec::new() }
    }

    /// Where the range of this question lies.
    fn part(&self, size: u64, range_bytes: u64) -> Range<u64> {
        let begin = self.asked.wrapping_mul(STEP) % (size - range_bytes + 1);
        begin..begin + range_bytes
    }
}

impl Talk for Getting {
    fn ask(&mut self, connection: usize) -> Option<Question> {
        let count = self.objects.len() as u64;
        if matches!(self.order, Order::Rounds(rounds) if self.asked >= rounds as u64 * count) {
            return None;
        }
        let object = &self.objects[(self.asked % count) as usize];
        let (range_bytes, path) = match self.order {
            Order::Rounds(_) => (None, object.path.clone()),
            Order::Hot(range_bytes) => (range_bytes, object.path.clone()),
            Order::Cold(range_bytes, seed) => {
                (range_bytes, object.cold_path(&format!("{seed}-{}", self.asked)))
            }
        };
        let (status, part, field) = match range_bytes {
            None => (200, 0..object.size, String::new()),
            Some(bytes) => {
                let part = self.part(object.size, bytes);
                let field = format!("Range: bytes={}-{}\r\n", part.start, part.end - 1);
                (206, part, field)
            }
        };
        let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{field}\r\n", self.host);
        if self.expected.len() <= connection {
            self.expected.resize_with(connection + 1, Expected::default);
        }
        let (response, number) = (Response::default(), object.number);
        self.expected[connection] =
            Expected { response, status, number, at: part.start, bytes: part.end - part.start };
        self.asked += 1;
        Some(Question { head: head.into_bytes(), ..Question::default() })
    }

    fn hear(&mut self, connection: usize, bytes: &[u8]) -> Result<Answer, String> {
        let Expected { response, status, number, at, bytes: all } = &mut self.expected[connection];
        let pattern = &self.pattern;
        let heard = response.hear_body(bytes, |head, part| {
            if head.status != *status || head.length != *all {
                let shown = String::from_utf8_lossy(&part[..part.len().min(200)]).into_owned();
                let (is, with) = (head.status, head.length);
                return Err(format!("status {is} with {with} bytes instead of {status} with {all}: {shown}"));
            }
            if let Some(pattern) = pattern {
                let wrong = |offset| format!("a wrong byte at {} of object {number}", *at + offset as u64);
                pattern.check(Pattern::place(*number, *at), part).map_err(wrong)?;
            }
            *at += part.len() as u64;
            Ok(())
        })?;
        Ok(heard.map_or(Answer::Partial, |head| Answer::Whole { bytes: *all, keep: head.keep }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talk(order: Order) -> Getting {
        let addr = "127.0.0.1:8080".parse().expect("an address");
        let objects = vec![Object::of_origin(0, 100), Object { path: "/x?y".into(), size: 100, number: 1 }];
        Getting::new(addr, objects, order, Some(Pattern::new(7)))
    }

    fn asked(talk: &mut Getting) -> Option<String> {
        talk.ask(0).map(|question| String::from_utf8(question.head).expect("text"))
    }

    #[test]
    fn rounds_end_and_cold_names_are_never_the_same() {
        let mut rounds = talk(Order::Rounds(2));
        let heads: Vec<String> = std::iter::from_fn(|| asked(&mut rounds)).collect();
        assert!(heads.len() == 4 && heads[0] == heads[2] && heads[0].starts_with("GET /100/0 HTTP/1.1\r\n"));
        let mut cold = talk(Order::Cold(None, 5));
        let heads: Vec<String> = (0..3).filter_map(|_| asked(&mut cold)).collect();
        assert!(heads[0].starts_with("GET /100/0?basalt-bench=5-0 "), "{heads:?}");
        assert!(
            heads[1].starts_with("GET /x?y&basalt-bench=5-1 ") && heads[2].contains("=5-2 "),
            "{heads:?}"
        );
    }

    #[test]
    fn ranges_lie_within_their_object_and_differ() {
        let mut hot = talk(Order::Hot(Some(10)));
        let ranges: std::collections::BTreeSet<String> = (0..50)
            .filter_map(|_| {
                Some(asked(&mut hot)?.lines().find(|line| line.starts_with("Range: "))?.to_owned())
            })
            .collect();
        assert!(ranges.len() > 20, "{ranges:?}");
        for range in ranges {
            let (begin, last) = range.trim_start_matches("Range: bytes=").split_once('-').expect("two");
            let (begin, last): (u64, u64) = (begin.parse().expect("one"), last.parse().expect("one"));
            assert!(last < 100 && last - begin == 9, "{range}");
        }
    }

    #[test]
    fn a_wrong_byte_status_or_length_ends_the_load() {
        let pattern = Pattern::new(7);
        let answer = |status: &str, len: u64| {
            let mut bytes = format!("HTTP/1.1 {status}\r\nContent-Length: {len}\r\n\r\n").into_bytes();
            pattern.write(Pattern::place(0, 0), len, &mut bytes).expect("a vector takes all");
            bytes
        };
        let heard = |bytes: &[u8]| {
            let mut talk = talk(Order::Hot(None));
            talk.ask(0);
            talk.hear(0, bytes)
        };
        let good = answer("200 OK", 100);
        assert_eq!(heard(&good), Ok(Answer::Whole { bytes: 100, keep: true }));
        let mut bad = good;
        *bad.last_mut().expect("a byte") ^= 1;
        assert_eq!(heard(&bad), Err("a wrong byte at 99 of object 0".to_owned()));
        assert!(heard(&answer("200 OK", 99)).is_err() && heard(&answer("206 Partial Content", 100)).is_err());
    }
}
