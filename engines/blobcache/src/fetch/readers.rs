//! Those who read a blob while it is fetched, on one column: whether there are any, and which parts they want. Part of `watch`.
//!
//! On the job's column they are counted against what was asked for ahead of them. On another column they are kept until the
//! proxy tells the job, by a call of its own beside the one that waits for news: the last part may be wanted when the only news
//! to come is the end. Each part is told once by each column, so that a job hears as many of them as the blob has.
//!
//! Who waits for `POST /blobs/fetch` is no reader.

use super::ahead::{Ahead, Want};
use crate::metrics::FetchAhead;
use runtime::waiters::Waiters;
use std::cell::{Cell, RefCell};

/// Readers of one column.
#[derive(Default)]
pub struct Readers {
    /// Of a job; a proxy has none.
    counts: Option<FetchAhead>,
    ahead: RefCell<Ahead>,
    following: Cell<usize>,
    /// Parts that the job was not told of yet.
    untold: RefCell<Vec<u64>>,
    news: Waiters,
}

impl Readers {
    /// Those of the job itself, and of its proxies.
    pub fn of_job(counts: FetchAhead) -> Readers {
        Readers { counts: Some(counts), ..Readers::default() }
    }

    /// There is one more.
    pub fn on_came(&self) {
        self.following.set(self.following.get() + 1);
        self.news.wake();
    }

    /// There is one less.
    pub fn on_left(&self) {
        self.following.set(self.following.get() - 1);
        self.news.wake();
    }

    fn are_there(&self) -> bool {
        self.following.get() > 0
    }

    /// One wants bytes of a part.
    pub fn on_wanted(&self, part: u64) {
        let want = self.ahead.borrow_mut().on_wanted(part);
        match (&self.counts, want) {
            (Some(counts), Want::Hit) => counts.hits.inc(),
            (None, Want::New) => {
                self.untold.borrow_mut().push(part);
                self.news.wake();
            }
            _ => {}
        }
    }

    /// The job asks the origin for a part.
    pub fn on_asked(&self, part: u64) {
        let is_ahead = self.ahead.borrow_mut().on_asked(part, self.are_there());
        if let (Some(counts), true) = (&self.counts, is_ahead) {
            counts.issued.inc();
        }
    }

    /// The fetch is over, or begins anew.
    pub fn on_over(&self, is_stored: bool) {
        let wasted = self.ahead.borrow_mut().on_over(is_stored);
        self.untold.take();
        if let Some(counts) = &self.counts {
            counts.wasted.add(wasted as u64);
        }
    }

    /// Waits until there is something to tell the job, which knows that there are readers if `told`: whether there are any now,
    /// and parts that they want.
    pub async fn untold(&self, told: bool) -> (bool, Vec<u64>) {
        self.news.until(|| self.are_there() != told || !self.untold.borrow().is_empty()).await;
        (self.are_there(), self.untold.take())
    }
}
