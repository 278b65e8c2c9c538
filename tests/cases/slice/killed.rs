//! kill -9 while slices are fetched, stored, purged and read: no wrong byte before or after, and what was purged stays purged.
//! `BASALT_KILLS` sets how often.

use super::{MIB, proxy};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tests::content::{self, Rng, fill};
use tests::http::{Conn, Fault, Reply, Request};
use tests::origin::{Object, Origin};
use tests::scale;

const KILLS: u64 = 20;
const READERS: u64 = 4;
const PATHS: usize = 12;
/// Answers that must have come before a kill.
const ANSWERS_MIN: u64 = 40;
const LOAD_DEADLINE: Duration = Duration::from_secs(30);

/// A name of the origin, and what is known of its versions: each has a number, which is its tag and the seed of its bytes.
struct Subject {
    path: String,
    size: usize,
    /// The version that the origin has.
    newest: AtomicU64,
    /// Nothing older may be served to who asks now: a purge of it was answered.
    oldest: AtomicU64,
}

impl Subject {
    fn new(at: usize) -> Subject {
        let size = [900, 70_000, MIB + 1, 3 * MIB, 5 * MIB + 77][at % 5];
        let (newest, oldest) = (AtomicU64::new(1), AtomicU64::new(1));
        Subject { path: format!("/k/{at}"), size, newest, oldest }
    }

    fn seed(&self, version: u64) -> u64 {
        version << 32 | self.size as u64
    }

    /// The origin has another version from now on.
    fn renew(&self, origin: &Origin) {
        let version = self.newest.load(Ordering::SeqCst) + 1;
        self.put(origin, version);
        self.newest.store(version, Ordering::SeqCst);
    }

    fn put(&self, origin: &Origin, version: u64) {
        let body = content::bytes(self.seed(version), self.size);
        let fields = "Cache-Control: max-age=36000\r\nSurrogate-Key: all\r\n".to_owned();
        origin.put(&self.path, Object { etag: format!("\"{version}\""), fields, ..Object::new(body) });
    }

    /// Panics unless an answer is of one version that may be served, and so far right.
    fn must_be_right(&self, reply: &Reply, (from, got): (usize, &[u8]), oldest: u64, context: &str) {
        let tag = reply.header("etag").expect("tagged").trim_matches('"');
        let version: u64 = tag.parse().expect("a version");
        assert!(version >= oldest, "{} {context}: {version} was purged, {oldest} is the oldest", self.path);
        let mut expected = vec![0; got.len()];
        fill(self.seed(version), from as u64, &mut expected);
        assert!(got == expected, "{} {context}: a wrong byte from {from} on", self.path);
    }
}

/// What came of reading a stretch.
#[derive(PartialEq, Eq)]
enum Got {
    All,
    /// An error instead: the version that was begun with is no more.
    Refused,
    /// The connection is gone.
    Cut,
}

fn read(conn: &mut Conn, subject: &Subject, range: (usize, usize), context: &str) -> Got {
    let oldest = subject.oldest.load(Ordering::SeqCst);
    let field = format!("bytes={}-{}", range.0, range.1 - 1);
    let request = Request::new("GET", subject.path.as_str()).header("Range", field);
    if conn.send(&request.to_bytes()).is_err() {
        return Got::Cut;
    }
    let Ok(head) = conn.receive_head() else { return Got::Cut };
    if head.status == 502 {
        return if drain(conn, &head).is_some() { Got::Refused } else { Got::Cut };
    }
    assert_eq!(head.status, 206, "{} {context}: {:?}", subject.path, head.headers);
    let length: usize = head.header("content-length").and_then(|l| l.parse().ok()).expect("a length");
    assert_eq!(length, range.1 - range.0, "{context}");
    let mut got = Vec::with_capacity(length);
    while got.len() < length {
        match conn.receive_some(length - got.len()) {
            Ok(part) if !part.is_empty() => got.extend(part),
            // Cut: by the kill, or because the version changed.
            Ok(_) | Err(Fault::Closed | Fault::Cut) => break,
            Err(fault) => panic!("{context}: {fault}"),
        }
    }
    subject.must_be_right(&head, (range.0, &got), oldest, context);
    if got.len() == length { Got::All } else { Got::Cut }
}

fn drain(conn: &mut Conn, head: &Reply) -> Option<()> {
    let mut left: usize = head.header("content-length")?.parse().ok()?;
    while left > 0 {
        left -= conn.receive_some(left).ok().filter(|part| !part.is_empty())?.len();
    }
    Some(())
}

fn draw(rng: &mut Rng, size: usize) -> (usize, usize) {
    let from = rng.below(size as u64) as usize;
    (from, (from + rng.size(1, 2 << 20)).min(size))
}

fn read_on(
    addr: SocketAddr,
    subjects: &[Subject],
    mut rng: Rng,
    (answers, is_over): (&AtomicU64, &AtomicBool),
    context: &str,
) {
    while !is_over.load(Ordering::Relaxed) {
        let Ok(mut conn) = Conn::try_open(addr) else { return };
        loop {
            let subject = &subjects[rng.below(subjects.len() as u64) as usize];
            match read(&mut conn, subject, draw(&mut rng, subject.size), context) {
                Got::All => answers.fetch_add(1, Ordering::Relaxed),
                Got::Refused => continue,
                Got::Cut => break,
            };
        }
    }
}

/// New versions and purges of the old ones, until the node is gone.
fn purge_on(addr: SocketAddr, origin: &Origin, subjects: &[Subject], mut rng: Rng) {
    let Ok(mut conn) = Conn::try_open(addr) else { return };
    loop {
        thread::sleep(Duration::from_millis(10 + rng.below(60)));
        let one = &subjects[rng.below(subjects.len() as u64) as usize];
        let (request, purged): (_, &[Subject]) = match rng.below(8) {
            0 => (Request::new("PURGE", "/k/*"), subjects),
            1 => (Request::new("PURGE", "/").header("Surrogate-Key", "all"), subjects),
            _ => (Request::new("PURGE", one.path.as_str()), std::slice::from_ref(one)),
        };
        one.renew(origin);
        let newest: Vec<u64> = purged.iter().map(|subject| subject.newest.load(Ordering::SeqCst)).collect();
        let Ok(reply) = conn.try_call(&request) else { return };
        reply.must_be(200);
        for (subject, version) in purged.iter().zip(newest) {
            subject.oldest.store(version, Ordering::SeqCst);
        }
    }
}

#[test]
fn after_kills_under_load_no_byte_is_wrong_and_what_is_purged_stays_purged() {
    let seed = content::run_seed();
    let mut rng = Rng::new(seed);
    let origin = Origin::start();
    let subjects: Vec<Subject> = (0..PATHS).map(Subject::new).collect();
    subjects.iter().for_each(|subject| subject.put(&origin, 1));
    let mut node = proxy(&origin).start();
    for round in 1..=scale::count("BASALT_KILLS", KILLS) {
        let context = format!("BASALT_TEST_SEED={seed} round {round}");
        let (answers, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            let addr = node.setup.slice;
            for _ in 0..READERS {
                let (own, shared, subjects) = (Rng::new(rng.any()), (&answers, &is_over), &subjects);
                let context = &context;
                scope.spawn(move || read_on(addr, subjects, own, shared, context));
            }
            let (own, origin, subjects) = (Rng::new(rng.any()), &origin, &subjects);
            scope.spawn(move || purge_on(addr, origin, subjects, own));
            let begin = Instant::now();
            while answers.load(Ordering::Relaxed) < ANSWERS_MIN && begin.elapsed() < LOAD_DEADLINE {
                thread::sleep(Duration::from_millis(1));
            }
            thread::sleep(Duration::from_millis(rng.below(300)));
            is_over.store(true, Ordering::Relaxed);
            node.kill();
        });
        let count = answers.into_inner();
        assert!(count >= ANSWERS_MIN, "{context}: only {count} answers before the kill");
        node = node.start_again();
        // All of each, from wherever it is by now. That it changed before the kill may be noticed only now, once.
        for subject in &subjects {
            let whole = || read(&mut node.slice(), subject, (0, subject.size), &context);
            assert!(
                whole() == Got::All || whole() == Got::All,
                "{} {context}: twice no answer",
                subject.path
            );
        }
    }
}
