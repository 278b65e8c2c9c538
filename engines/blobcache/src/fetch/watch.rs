//! How far a fetch has come, and who waits for it: the meeting place of a job and those who want its blob, on one column.
//!
//! Called by `job` and by the proxy of another column's job (they tell), by `serve` (waits, reads). Plain state; a waiter is
//! woken by every news.
//!
//! Invariants
//! 1. `written` and `sums` only grow within a generation; a restart is a new generation of nothing.
//! 2. The outcome is set once.
//! 3. A job is abandoned when its last [`Ticket`] is dropped and nothing holds it.

use crate::api::{FetchError, Fetched};
use runtime::waiters::Waiters;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
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

/// A fetch as this column sees it.
#[derive(Default)]
pub struct Watch {
    progress: RefCell<Progress>,
    waiting: Waiters,
    tickets: Cell<usize>,
    holds: Cell<usize>,
    /// Of the job or proxy.
    teller: RefCell<Option<Waker>>,
}

impl Watch {
    /// Wants the blob.
    pub fn join(self: &Rc<Self>) -> Ticket {
        self.tickets.set(self.tickets.get() + 1);
        Ticket(self.clone())
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
pub struct Ticket(Rc<Watch>);

impl std::ops::Deref for Ticket {
    type Target = Watch;
    fn deref(&self) -> &Watch {
        &self.0
    }
}

impl Ticket {
    /// What it waits for.
    pub fn watch(&self) -> Rc<Watch> {
        self.0.clone()
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
        let left = self.0.tickets.get() - 1;
        self.0.tickets.set(left);
        if left == 0
            && let Some(teller) = self.0.teller.take()
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
