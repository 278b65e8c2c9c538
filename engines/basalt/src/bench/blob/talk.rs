//! The three things said to a blob server: store, fetch, delete.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::bench::response::{Head, Response};
use crate::bench::sockets::{Answer, Question, Talk};
use crate::cli::digest::Digest;

/// Blobs that the load has stored and will delete.
#[derive(Clone, Debug, Default)]
pub struct Stored(Arc<Mutex<Vec<[u8; 32]>>>);

impl Stored {
    /// Notes one more.
    pub fn add(&self, digest: [u8; 32]) {
        let mut digests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        digests.push(digest);
    }

    /// Those so far.
    pub fn digests(&self) -> Vec<Digest> {
        let digests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        digests.iter().map(Digest::of_hash).collect()
    }

    /// Those so far, once.
    pub fn take(&self) -> Vec<[u8; 32]> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Answers by connection.
#[derive(Default)]
struct Responses(Vec<Response>);

impl Responses {
    fn begin(&mut self, connection: usize) {
        if self.0.len() <= connection {
            self.0.resize_with(connection + 1, Response::default);
        }
        self.0[connection].reset();
    }

    /// The whole answer, if its status is `status`.
    fn hear(&mut self, connection: usize, bytes: &[u8], status: u16) -> Result<Option<Head>, String> {
        let head = self.0[connection].hear(bytes)?;
        match head {
            Some(head) if head.status != status => {
                let shown = String::from_utf8_lossy(bytes);
                let last = shown.lines().last().unwrap_or_default();
                Err(format!("status {} instead of {status}: {last}", head.status))
            }
            head => Ok(head),
        }
    }
}

/// Stores blobs that no server has seen.
pub struct Putting {
    head: Vec<u8>,
    body: Arc<[u8]>,
    size: u64,
    /// Makes blobs differ between runs and from each other.
    seed: u64,
    asked: u64,
    count: Option<u64>,
    stored: Stored,
    responses: Responses,
}

impl Putting {
    /// Blobs of `size` bytes, `count` of them or as many as there is time for.
    pub fn new(addr: SocketAddr, size: u64, count: Option<u64>, stored: Stored) -> Self {
        let head = format!("PUT /blobs HTTP/1.1\r\nHost: {addr}\r\nContent-Length: {size}\r\n\r\n");
        let mut word = 0x9E37_79B9_7F4A_7C15u64;
        let body = (0..size).map(|_| {
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
            word as u8
        });
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            head: head.into_bytes(),
            body: body.collect(),
            size,
            seed: since.unwrap_or_default().as_nanos() as u64,
            asked: 0,
            count,
            stored,
            responses: Responses::default(),
        }
    }

    /// 16 bytes that are different for each blob; a shorter blob has fewer.
    fn mark(&self) -> [u8; 16] {
        let mut mark = [0; 16];
        mark[..8].copy_from_slice(&self.asked.to_le_bytes());
        mark[8..].copy_from_slice(&self.seed.to_le_bytes());
        mark
    }
}

impl Talk for Putting {
    fn ask(&mut self, connection: usize) -> Option<Question> {
        if self.count == Some(self.asked) {
            return None;
        }
        let mark = self.mark();
        let marked = mark.len().min(self.body.len());
        self.asked += 1;
        self.responses.begin(connection);
        Some(Question {
            head: [&self.head, &mark[..marked]].concat(),
            shared: Some(self.body.clone()),
            shared_from: marked,
        })
    }

    fn hear(&mut self, connection: usize, bytes: &[u8]) -> Result<Answer, String> {
        let Some(head) = self.responses.hear(connection, bytes, 201)? else {
            return Ok(Answer::Partial);
        };
        let digest = head.location.ok_or("a 201 without the Location of a blob")?;
        self.stored.add(digest);
        Ok(Answer::Whole { bytes: self.size, keep: head.keep })
    }
}

/// Fetches blobs in turn.
pub struct Getting {
    requests: Vec<Vec<u8>>,
    next: usize,
    size: Option<u64>,
    responses: Responses,
}

impl Getting {
    /// Of `size` bytes each; `None`: as many as the first answer has.
    pub fn new(addr: SocketAddr, digests: &[Digest], size: Option<u64>) -> Self {
        let request = |digest| format!("GET /blobs/{digest} HTTP/1.1\r\nHost: {addr}\r\n\r\n");
        Self {
            requests: digests.iter().map(|d| request(d).into_bytes()).collect(),
            next: 0,
            size,
            responses: Responses::default(),
        }
    }

    /// Bytes of each blob, once known.
    pub fn size(&self) -> Option<u64> {
        self.size
    }
}

impl Talk for Getting {
    fn ask(&mut self, connection: usize) -> Option<Question> {
        let head = self.requests.get(self.next)?.clone();
        self.next = (self.next + 1) % self.requests.len();
        self.responses.begin(connection);
        Some(Question { head, ..Question::default() })
    }

    fn hear(&mut self, connection: usize, bytes: &[u8]) -> Result<Answer, String> {
        let Some(head) = self.responses.hear(connection, bytes, 200)? else {
            return Ok(Answer::Partial);
        };
        let size = *self.size.get_or_insert(head.length);
        if head.length != size {
            return Err(format!("a blob of {size} bytes came as {}", head.length));
        }
        Ok(Answer::Whole { bytes: size, keep: head.keep })
    }
}

/// Deletes what the load stored.
pub struct Deleting {
    host: String,
    digests: Vec<[u8; 32]>,
    responses: Responses,
}

impl Deleting {
    /// Deletes `digests`, each once, however often they were stored.
    pub fn new(addr: SocketAddr, mut digests: Vec<[u8; 32]>) -> Self {
        digests.sort_unstable();
        digests.dedup();
        Self { host: addr.to_string(), digests, responses: Responses::default() }
    }
}

impl Talk for Deleting {
    fn ask(&mut self, connection: usize) -> Option<Question> {
        let digest = Digest::of_hash(&self.digests.pop()?);
        let head = format!("DELETE /blobs/{digest} HTTP/1.1\r\nHost: {}\r\n\r\n", self.host);
        self.responses.begin(connection);
        Some(Question { head: head.into_bytes(), ..Question::default() })
    }

    fn hear(&mut self, connection: usize, bytes: &[u8]) -> Result<Answer, String> {
        let head = self.responses.hear(connection, bytes, 204)?;
        Ok(head.map_or(Answer::Partial, |head| Answer::Whole { bytes: 0, keep: head.keep }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr() -> SocketAddr {
        "127.0.0.1:9000".parse().expect("an address")
    }

    #[test]
    fn every_blob_put_is_another_and_has_its_size() {
        let mut talk = Putting::new(addr(), 100, Some(2), Stored::default());
        let bodies: Vec<Vec<u8>> = std::iter::from_fn(|| talk.ask(0))
            .map(|question| {
                let head = String::from_utf8_lossy(&question.head).into_owned();
                assert!(
                    head.starts_with("PUT /blobs HTTP/1.1\r\n") && head.contains("Content-Length: 100\r\n")
                );
                let at = question.head.windows(4).position(|w| w == b"\r\n\r\n").expect("an end") + 4;
                let shared = question.shared.expect("a body");
                [&question.head[at..], &shared[question.shared_from..]].concat()
            })
            .collect();
        assert!(bodies.len() == 2 && bodies[0] != bodies[1]);
        assert!(bodies.iter().all(|body| body.len() == 100));
        let mut tiny = Putting::new(addr(), 1, Some(1), Stored::default());
        assert!(tiny.ask(0).is_some_and(|q| q.head.ends_with(b"\r\n\r\n\0") && q.shared_from == 1));
    }

    #[test]
    fn wrong_status_and_wrong_size_end_the_load() {
        let digests = [Digest::of_hash(&[1; 32])];
        let mut talk = Getting::new(addr(), &digests, Some(2));
        talk.ask(0);
        assert!(talk.hear(0, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").is_err());
        talk.ask(0);
        assert!(talk.hear(0, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc").is_err());
        talk.ask(0);
        let whole = Answer::Whole { bytes: 2, keep: true };
        assert_eq!(talk.hear(0, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"), Ok(whole));
    }

    #[test]
    fn a_blob_stored_twice_is_deleted_once() {
        let mut talk = Deleting::new(addr(), vec![[1; 32], [2; 32], [1; 32]]);
        assert_eq!(std::iter::from_fn(|| talk.ask(0)).count(), 2);
    }
}
