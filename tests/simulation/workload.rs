//! Clients that do anything at random. Each has blobs of its own, on which its requests follow each other; it reads those of
//! others too. Everything that is asked and answered is told to the model.

use crate::client::{Client, Cut, Reply};
use crate::model::{Asked, Blob, Moment, SharedModel};
use runtime::io::Io;
use runtime::twin::{Fault, Rng, TwinIo, Watch};
use std::cell::Cell;
use std::rc::Rc;
use tests::http::chunked;

/// Wait before the next try when nobody answers.
const RETRY_NS: u64 = 20_000_000;
const TTL_S_MAX: u64 = 60;

/// What clients share.
pub struct Shared {
    pub model: SharedModel,
    /// By owner.
    pub blobs: Rc<Vec<Vec<Blob>>>,
    pub stop: Cell<bool>,
    pub running: Cell<usize>,
    /// Any error answer is a broken promise: nothing goes wrong in this run.
    pub strict: Cell<bool>,
    /// Clients wait up to this long before a request, now and then.
    pub think_ns: u64,
    /// Of a hundred requests, so many are deletions.
    pub deletions: u64,
    /// Boots so far.
    pub boot: Cell<u64>,
    pub watch: Watch,
}

impl Shared {
    fn now(&self) -> Moment {
        Moment {
            unix_ms: self.watch.unix_ms(),
            jumps: self.watch.counted(Fault::ClockJump),
            boot: self.boot.get(),
        }
    }
}

/// One client at work.
pub struct Worker {
    pub io: TwinIo,
    client: Client,
    shared: Rc<Shared>,
    me: usize,
    rng: Rng,
    has_failed: bool,
}

/// Starts client `me`; it goes on until told to stop.
pub fn spawn(io: &TwinIo, shared: &Rc<Shared>, me: usize, seed: u64) {
    let worker = Worker::new(io, shared, me, seed);
    shared.running.set(shared.running.get() + 1);
    io.spawn("client", worker.work());
}

type Answer = Result<Reply, Cut>;

impl Worker {
    /// A client that owns the blobs of `me`.
    pub fn new(io: &TwinIo, shared: &Rc<Shared>, me: usize, seed: u64) -> Worker {
        Worker {
            io: io.clone(),
            client: Client::new(io.clone()),
            shared: shared.clone(),
            me,
            rng: Rng::new(seed ^ (me as u64 + 1).wrapping_mul(0x1234_5677)),
            has_failed: false,
        }
    }

    async fn work(mut self) {
        while !self.shared.stop.get() && self.shared.model.borrow().violation.is_none() {
            let own = self.rng.below(self.shared.blobs[self.me].len() as u64) as usize;
            if self.shared.think_ns > 0 && self.rng.below(4) == 0 {
                let think_ns = self.rng.below(self.shared.think_ns);
                self.io.sleep(think_ns).await;
            }
            let first = 92 - self.shared.deletions;
            match self.rng.below(100) {
                0..40 => self.put(own).await,
                40..45 => self.put_wrong(own).await,
                at if at < first => self.get(own).await,
                at if at < 92 => self.delete(own).await,
                92..96 => self.list().await,
                _ => self.get_other().await,
            }
            // What nobody answered is no operation.
            let failed = std::mem::take(&mut self.has_failed);
            self.shared.model.borrow_mut().operations += u64::from(!failed);
        }
        self.shared.running.set(self.shared.running.get() - 1);
    }

    fn violate(&self, what: String) {
        self.shared.model.borrow_mut().violate(what);
    }

    /// An answer that is no answer to the question: the node is in trouble, which only trouble explains.
    async fn failed(&mut self, line: &str, answer: &Answer) {
        self.shared.model.borrow_mut().failures += 1;
        self.has_failed = true;
        match answer {
            Ok(Reply { status: status @ (500 | 503 | 507 | 400 | 408), body, .. }) => {
                if self.shared.strict.get() && *status != 507 {
                    self.violate(format!("{line}: {status}: {}", String::from_utf8_lossy(body)));
                }
            }
            Ok(reply) => self.violate(format!("{line}: answered {}", reply.status)),
            Err(_) => {}
        }
        self.io.sleep(RETRY_NS).await;
    }

    fn lifetime(&mut self) -> Asked {
        let ttl_ms = Some(self.rng.within(1, TTL_S_MAX) * 1000);
        match self.rng.below(20) {
            0..4 => Asked { ttl_ms, ..Asked::default() },
            4 | 5 => Asked { evictable: true, ..Asked::default() },
            6 => Asked { evictable: true, pinned: true, ..Asked::default() },
            7 => Asked { ttl_ms, evictable: true, pinned: false },
            8 => Asked { ttl_ms, pinned: true, ..Asked::default() },
            _ => Asked::default(),
        }
    }

    async fn put(&mut self, own: usize) {
        let asked = self.lifetime();
        self.put_as(own, asked).await;
    }

    /// Stores a blob to be kept as asked.
    pub async fn put_as(&mut self, own: usize, asked: Asked) {
        let shared = self.shared.clone();
        let blob = &shared.blobs[self.me][own];
        let named = self.rng.below(2) == 0;
        let query = query(asked);
        let target = if named { blob.digest.path() } else { "/blobs".to_owned() };
        let line = format!("PUT {target}{query}");
        let bytes = blob.bytes();
        let begin = self.shared.now();
        shared.model.borrow_mut().put_asked(blob.number, asked, begin);
        let answer = if self.rng.below(4) == 0 {
            let part = self.rng.within(1, bytes.len() as u64) as usize;
            let body = chunked(&bytes, part.max(bytes.len() / 50 + 1));
            self.client.call(&line, "Transfer-Encoding: chunked\r\n", &body).await
        } else {
            let fields = format!("Content-Length: {}\r\n", bytes.len());
            self.client.call(&line, &fields, &bytes).await
        };
        let end = self.shared.now();
        match answer {
            Ok(Reply { status: 201, body, .. }) => {
                let wanted = format!("{{\"digest\":\"{}\",\"size\":{}}}\n", blob.digest, blob.size);
                if body != wanted.as_bytes() {
                    self.violate(format!("{line}: {}", String::from_utf8_lossy(&body)));
                }
                shared.model.borrow_mut().put_done(blob.number, asked, (begin, end));
            }
            other => self.failed_change(blob.number, &line, &other).await,
        }
    }

    /// As [`Worker::failed`], of a request that may yet be done.
    async fn failed_change(&mut self, number: u64, line: &str, answer: &Answer) {
        if answer.is_err() {
            self.shared.model.borrow_mut().unanswered(number, self.shared.now());
        }
        self.failed(line, answer).await;
    }

    /// A body that is not what its name says: refused, and nothing changes.
    async fn put_wrong(&mut self, own: usize) {
        let shared = self.shared.clone();
        let blob = &shared.blobs[self.me][own];
        let mut bytes = blob.bytes();
        let at = self.rng.below(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << self.rng.below(8);
        let line = format!("PUT {}", blob.digest.path());
        let fields = format!("Content-Length: {}\r\n", bytes.len());
        match self.client.call(&line, &fields, &bytes).await {
            Ok(Reply { status: 422, .. }) => {}
            other => self.failed(&line, &other).await,
        }
    }

    pub async fn get(&mut self, own: usize) {
        let shared = self.shared.clone();
        let blob = &shared.blobs[self.me][own];
        let begin = self.shared.now();
        let found = self.fetch(blob).await;
        let end = self.shared.now();
        if let Some(found) = found {
            shared.model.borrow_mut().seen(blob, found, (begin, end));
        }
    }

    /// Reads a blob of another client: whatever happens to it meanwhile, its bytes are right.
    async fn get_other(&mut self) {
        let shared = self.shared.clone();
        let other = &shared.blobs[self.rng.below(shared.blobs.len() as u64) as usize];
        let at = self.rng.below(other.len() as u64) as usize;
        let _ = self.fetch(&other[at]).await;
    }

    /// GET, HEAD or a range; whether it was found, if that was said. Every byte is checked.
    async fn fetch(&mut self, blob: &Blob) -> Option<bool> {
        let path = blob.digest.path();
        let kind = self.rng.below(5);
        let (from, to) = {
            let a = self.rng.below(blob.size as u64) as usize;
            let b = self.rng.below(blob.size as u64) as usize;
            (a.min(b), a.max(b))
        };
        let (line, fields, from, size) = match kind {
            0 => (format!("HEAD {path}"), String::new(), 0, 0),
            1 | 2 => (format!("GET {path}"), format!("Range: bytes={from}-{to}\r\n"), from, to - from + 1),
            _ => (format!("GET {path}"), String::new(), 0, blob.size),
        };
        let answer = self.client.call(&line, &fields, &[]).await;
        let wrong = |part: &[u8]| !blob.is_at(from, part);
        match &answer {
            Ok(Reply { status: 200 | 206, body, headers }) => {
                let whole = headers.get("content-length").map(String::as_str) == Some(&blob.size.to_string());
                if body.len() != size || wrong(body) || (kind == 0 && !whole) {
                    self.violate(format!("{line} {fields}: a wrong byte served, or a wrong length"));
                }
                Some(true)
            }
            Ok(Reply { status: 404, .. }) => Some(false),
            Err(Cut { status: Some(200 | 206), body }) => {
                if wrong(body) {
                    self.violate(format!("{line} {fields}: a wrong byte served before the end"));
                }
                self.failed(&line, &answer).await;
                None
            }
            _ => {
                self.failed(&line, &answer).await;
                None
            }
        }
    }

    pub async fn delete(&mut self, own: usize) {
        let shared = self.shared.clone();
        let blob = &shared.blobs[self.me][own];
        let line = format!("DELETE {}", blob.digest.path());
        let before = shared.model.borrow().state(blob.number);
        let asked = shared.now();
        shared.model.borrow_mut().delete_asked(blob.number, asked);
        let answer = self.client.call(&line, "", &[]).await;
        let now = shared.now();
        match answer {
            Ok(Reply { status: 204, .. }) => {
                if before.is_absent() && !shared.model.borrow().may_lose {
                    let history = shared.model.borrow().history_of(blob.number);
                    self.violate(format!("{line}: deleted what was not there{history}"));
                }
                shared.model.borrow_mut().delete_done(blob.number, now);
            }
            Ok(Reply { status: 404, .. }) => {
                if before.is_for_good() && !shared.model.borrow().may_lose {
                    let history = shared.model.borrow().history_of(blob.number);
                    self.violate(format!("{line}: 404 for a blob stored for good{history}"));
                }
                shared.model.borrow_mut().delete_missed(blob.number, (asked, now));
            }
            other => self.failed_change(blob.number, &line, &other).await,
        }
    }

    /// All pages: own blobs are in them as the model says.
    async fn list(&mut self) {
        let shared = self.shared.clone();
        let begin = self.shared.now();
        let limit = self.rng.within(3, 200);
        let (mut after, mut listed) = (String::new(), Vec::new());
        loop {
            let line = format!("GET /blobs?limit={limit}{after}");
            let reply = match self.client.call(&line, "", &[]).await {
                Ok(reply) if reply.status == 200 => reply,
                other => return self.failed(&line, &other).await,
            };
            let page: serde_json::Value = serde_json::from_slice(&reply.body).expect("JSON");
            for item in page["blobs"].as_array().expect("a list") {
                let digest = item["digest"].as_str().expect("a digest").to_owned();
                listed.push((digest, item["size"].as_u64().expect("a size")));
            }
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        let end = self.shared.now();
        if !listed.is_sorted_by(|a, b| a.0 < b.0) {
            self.violate("the listing is not in digest order, or names a blob twice".to_owned());
        }
        for blob in &shared.blobs[self.me] {
            let found = listed.binary_search_by(|(digest, _)| digest.cmp(&blob.digest.0));
            if found.is_ok_and(|at| listed[at].1 != blob.size as u64) {
                self.violate(format!("the listing has a wrong size for {}", blob.digest));
            }
            shared.model.borrow_mut().listed(blob, found.is_ok(), (begin, end));
        }
    }
}

fn query(asked: Asked) -> String {
    let ttl = asked.ttl_ms.map(|ms| format!("ttl={}s", ms / 1000));
    let durability = asked.evictable.then(|| "durability=none".to_owned());
    let pin = asked.pinned.then(|| "pin=true".to_owned());
    let parts: Vec<String> = ttl.into_iter().chain(durability).chain(pin).collect();
    if parts.is_empty() { String::new() } else { format!("?{}", parts.join("&")) }
}

/// Every blob, one after the other, on a node to which nothing happens: the last word.
pub async fn check_all(io: TwinIo, shared: Rc<Shared>) {
    let mut worker = Worker::new(&io, &shared, 0, 1);
    for owner in 0..shared.blobs.len() {
        worker.me = owner;
        for own in 0..shared.blobs[owner].len() {
            let failures = shared.model.borrow().failures;
            worker.get(own).await;
            let model = &mut *shared.model.borrow_mut();
            if model.failures > failures {
                model.unreadable(&shared.blobs[owner][own]);
            }
        }
        worker.list().await;
    }
}
