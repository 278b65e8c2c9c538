//! How far a fetch has come, and who waits for it: the meeting place of a job and those who want its blob, on one column.
//!
//! Called by `job` and by the proxy of another column's job (they tell), by `serve` and `mount` (they wait, read, and say what they
//! want to read). Plain state; a waiter is woken by every news.
//!
//! Invariants
//! 1. `written` and `sums` only grow within a generation; a restart is a new generation of nothing.
//! 2. The outcome is set once.
//! 3. A job is abandoned when its last [`Ticket`] is dropped and nothing holds it.

use super::PART_BYTES;
use super::readers::Readers;
use crate::api::{FetchError, Fetched};
use crate::metrics::FetchAhead;
use runtime::waiters::Waiters;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::ops::Range;
use std::path::PathBuf;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// How far it has come.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Counts beginnings: bytes of an earlier one are not part of this.
    pub generation: u32,
    /// Size of the blob, and the file that its bytes are written to. Not for small blobs nor those of unknown size.
    pub file: Option<(PathBuf, u64)>,
    /// Bytes at the front of the file that are written.
    pub written: u64,
    /// CRC32C of the blocks written; in news, of those that were not told before.
    pub sums: Vec<u32>,
    /// How it ended.
    pub outcome: Option<Result<Fetched, FetchError>>,
}

/// What a waiter has seen: it waits for anything else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Of [`Progress`].
    pub generation: u32,
    /// Whether `file` was known.
    pub has_file: bool,
    /// Of [`Progress`].
    pub written: u64,
    /// Sums seen.
    pub sums: usize,
}

impl Progress {
    /// What is seen by one who looks now.
    pub fn seen(&self) -> Seen {
        let Progress { generation, written, .. } = *self;
        Seen { generation, has_file: self.file.is_some(), written, sums: self.sums.len() }
    }

    /// What `seen` does not have.
    fn since(&self, seen: Seen) -> Progress {
        let known = if seen.generation == self.generation { seen.sums } else { 0 };
        Progress { sums: self.sums[known..].to_vec(), ..self.clone_without_sums() }
    }

    fn clone_without_sums(&self) -> Progress {
        Progress {
            generation: self.generation,
            file: self.file.clone(),
            written: self.written,
            sums: Vec::new(),
            outcome: self.outcome.clone(),
        }
    }
}

/// What the readers of a proxy's column want, for its job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Of [`Progress`].
    pub generation: u32,
    /// Somebody reads there.
    pub is_read: bool,
    /// Parts that were not told before.
    pub parts: Vec<u64>,
}

/// A fetch as this column sees it.
#[derive(Default)]
pub struct Watch {
    progress: RefCell<Progress>,
    waiting: Waiters,
    readers: Readers,
    tickets: Cell<usize>,
    holds: Cell<usize>,
    /// Of the job or proxy.
    teller: RefCell<Option<Waker>>,
}

impl Watch {
    /// That of a job; the default one is a proxy's.
    pub fn of_job(counts: FetchAhead) -> Watch {
        Watch { readers: Readers::of_job(counts), ..Watch::default() }
    }

    /// Wants the blob.
    pub fn join(self: &Rc<Self>) -> Ticket {
        self.tickets.set(self.tickets.get() + 1);
        Ticket { watch: self.clone(), reads: Cell::new(false) }
    }

    /// The job asks the origin for the part that begins there.
    pub fn on_asked(&self, start: u64) {
        self.readers.on_asked(start / PART_BYTES);
    }

    /// The work is done or given up: what is wanted from now on comes from what is stored, if it is.
    pub fn on_over(&self, is_stored: bool) {
        self.readers.on_over(is_stored);
    }

    /// Waits until the job, which knows that there are readers here if `told`, does not know what they want.
    pub async fn wish(&self, told: bool) -> Wish {
        let (is_read, parts) = self.readers.untold(told).await;
        Wish { generation: self.look(|p| p.generation), is_read, parts }
    }

    /// Looks at what there is; nothing is to be awaited inside.
    pub fn look<T>(&self, at: impl FnOnce(&Progress) -> T) -> T {
        at(&self.progress.borrow())
    }

    fn tell(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.progress.borrow_mut());
        self.waiting.wake();
    }

    /// The file is there.
    pub fn begin(&self, path: PathBuf, size: u64) {
        self.tell(|p| p.file = Some((path, size)));
    }

    /// More bytes are written; `sums` are those of all blocks so far, those of written ones first.
    pub fn advance(&self, written: u64, sums: &[u32]) {
        self.tell(|p| {
            assert!(written >= p.written, "{written} bytes written after {}", p.written);
            p.written = written;
            let known = p.sums.len();
            p.sums.extend_from_slice(&sums[known..]);
        });
    }

    /// What there is counts no more.
    pub fn restart(&self) {
        self.readers.on_over(false);
        self.tell(|p| *p = Progress { generation: p.generation + 1, ..Progress::default() });
    }

    /// It is over.
    pub fn end(&self, outcome: Result<Fetched, FetchError>) {
        self.tell(|p| {
            assert!(p.outcome.is_none(), "a fetch ended twice");
            p.outcome = Some(outcome);
        });
    }

    /// Takes over the news of the job that this stands for.
    pub fn apply(&self, news: Progress) {
        self.tell(|p| {
            let Progress { generation, file, written, sums, outcome } = news;
            if generation != p.generation {
                self.readers.on_over(false);
                *p = Progress { generation, ..Progress::default() };
            }
            p.sums.extend(sums);
            (p.file, p.written, p.outcome) = (file, written, outcome);
        });
    }

    /// Waits for something that `seen` has not.
    pub async fn news(&self, seen: Seen) -> Progress {
        self.changed(seen).await;
        self.progress.borrow().since(seen)
    }

    /// As [`Watch::news`], without the news.
    pub async fn changed(&self, seen: Seen) {
        let has_changed = || self.look(|p| p.outcome.is_some() || p.seen() != seen);
        self.waiting.until(has_changed).await;
    }

    /// The job does what must not be left half done: it is not abandoned as long as this is held. To be dropped by the job
    /// itself, which then looks whether it is abandoned.
    pub fn hold(&self) -> Hold<'_> {
        self.holds.set(self.holds.get() + 1);
        Hold(self)
    }

    /// Waits until nobody wants the blob any more and nothing holds it.
    pub async fn abandoned(&self) {
        poll_fn(|cx| {
            if self.tickets.get() == 0 && self.holds.get() == 0 {
                return Poll::Ready(());
            }
            *self.teller.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// The job must not be dropped now.
pub struct Hold<'w>(&'w Watch);

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.holds.set(self.0.holds.get() - 1);
    }
}

/// Somebody wants the blob.
pub struct Ticket {
    watch: Rc<Watch>,
    /// He reads it while it comes.
    reads: Cell<bool>,
}

impl std::ops::Deref for Ticket {
    type Target = Watch;
    fn deref(&self) -> &Watch {
        &self.watch
    }
}

impl Ticket {
    /// What it waits for.
    pub fn watch(&self) -> Rc<Watch> {
        self.watch.clone()
    }

    /// Reads the blob while it comes, beginning with what he does not know yet.
    pub fn read(&self) {
        self.set_reads(true);
    }

    /// Reads these bytes next, which are within the blob.
    pub fn wants(&self, range: Range<u64>) {
        self.read();
        let parts = range.start / PART_BYTES..range.end.div_ceil(PART_BYTES);
        parts.for_each(|part| self.readers.on_wanted(part));
    }

    /// Those for whom it stands wish this.
    pub fn on_wish(&self, wish: Wish) {
        self.set_reads(wish.is_read);
        if wish.generation == self.look(|p| p.generation) {
            wish.parts.into_iter().for_each(|part| self.readers.on_wanted(part));
        }
    }

    fn set_reads(&self, reads: bool) {
        match (self.reads.replace(reads), reads) {
            (false, true) => self.readers.on_came(),
            (true, false) => self.readers.on_left(),
            _ => {}
        }
    }

    /// How it ended.
    pub async fn outcome(&self) -> Result<Fetched, FetchError> {
        loop {
            let (seen, outcome) = self.look(|p| (p.seen(), p.outcome.clone()));
            match outcome {
                Some(outcome) => return outcome,
                None => self.changed(seen).await,
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.set_reads(false);
        let left = self.tickets.get() - 1;
        self.tickets.set(left);
        if left == 0
            && let Some(teller) = self.teller.take()
        {
            teller.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::task::Context;

    #[test]
    fn a_proxy_sees_what_the_job_tells() {
        let (job, proxy) = (Rc::new(Watch::default()), Rc::new(Watch::default()));
        let relay = || {
            let cx = &mut Context::from_waker(Waker::noop());
            let mut news = Box::pin(job.news(proxy.look(Progress::seen)));
            match news.as_mut().poll(cx) {
                Poll::Ready(news) => {
                    proxy.apply(news);
                    true
                }
                Poll::Pending => false,
            }
        };
        assert!(!relay());
        job.begin("a".into(), 200_000);
        job.advance(131_072, &[1, 2]);
        assert!(relay() && !relay());
        assert_eq!(proxy.look(|p| (p.written, p.sums.clone())), (131_072, vec![1, 2]));
        job.advance(131_072, &[1, 2, 3]);
        assert!(relay());
        assert_eq!(proxy.look(|p| p.sums.clone()), [1, 2, 3]);
        job.restart();
        job.begin("b".into(), 100_000);
        job.advance(65_536, &[9]);
        assert!(relay());
        assert_eq!(
            proxy.look(|p| (p.generation, p.file.clone(), p.sums.clone())),
            (1, Some(("b".into(), 100_000)), vec![9])
        );
    }

    /// What a proxy has to tell its job, if there is something.
    fn untold(proxy: &Watch, told: bool) -> Option<Wish> {
        let cx = &mut Context::from_waker(Waker::noop());
        match std::pin::pin!(proxy.wish(told)).poll(cx) {
            Poll::Ready(wish) => Some(wish),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_job_hears_what_the_readers_of_a_proxy_want() {
        let counts = FetchAhead::default();
        let seen = || (counts.issued.get(), counts.hits.get(), counts.wasted.get());
        let (job, proxy) = (Rc::new(Watch::of_job(counts.clone())), Rc::new(Watch::default()));
        let (place, reader, other) = (job.join(), proxy.join(), proxy.join());
        let ask = |parts: Range<u64>| parts.for_each(|part| job.on_asked(part * PART_BYTES));
        ask(0..2);
        assert_eq!((untold(&proxy, false), seen()), (None, (0, 0, 0)), "nobody reads");
        reader.read();
        place.on_wish(untold(&proxy, false).expect("a reader came"));
        ask(2..5);
        assert_eq!((untold(&proxy, true), seen()), (None, (3, 0, 0)));
        reader.wants(PART_BYTES - 1..3 * PART_BYTES);
        other.wants(0..3 * PART_BYTES);
        let wish = untold(&proxy, true).expect("parts are wanted");
        assert_eq!(wish.parts, [0, 1, 2], "each once");
        place.on_wish(wish);
        assert_eq!((untold(&proxy, true), seen()), (None, (3, 1, 0)));
        // What is wanted of a version that is no more counts for nothing.
        job.restart();
        assert_eq!(seen(), (3, 1, 2));
        ask(0..4);
        reader.wants(3 * PART_BYTES..3 * PART_BYTES + 1);
        place.on_wish(untold(&proxy, true).expect("a part is wanted"));
        assert_eq!(seen(), (6, 1, 2));
        proxy.apply(Progress { generation: 1, ..Progress::default() });
        reader.wants(3 * PART_BYTES..3 * PART_BYTES + 1);
        place.on_wish(untold(&proxy, true).expect("a part is wanted"));
        assert_eq!(seen(), (6, 2, 2));
        drop((reader, other));
        let wish = untold(&proxy, true).expect("they left");
        assert_eq!((wish.is_read, wish.parts.len()), (false, 0));
        place.on_wish(wish);
        ask(4..5);
        job.on_over(true);
        assert_eq!(seen(), (6, 2, 2));
    }

    #[test]
    fn the_last_ticket_abandons() {
        let cx = &mut Context::from_waker(Waker::noop());
        let watch = Rc::new(Watch::default());
        let (one, two) = (watch.join(), watch.join());
        let mut abandoned = Box::pin(watch.abandoned());
        drop(one);
        assert!(abandoned.as_mut().poll(cx).is_pending());
        let hold = watch.hold();
        drop(two);
        assert!(abandoned.as_mut().poll(cx).is_pending(), "abandoned while it is held");
        drop(hold);
        assert!(abandoned.as_mut().poll(cx).is_ready());
    }
}
