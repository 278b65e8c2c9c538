//! Fetches from origins: one per URL or digest however many ask, on any column.
//!
//! | file | holds |
//! |---|---|
//! | `job`, `part`, `retry` | one fetch; one range of it; what is tried again |
//! | `window`, `sink` | parts in order and in bounded memory; hashing and storing |
//! | `watch` | how far it has come, and who waits |
//! | `readers`, `ahead` | who reads what of it while it comes; parts asked for ahead of them, for the counters |
//!
//! Called by `serve` (wants a blob) and by `shard` (other columns' requests). A fetch runs on the column that owns its key.
//! Another column that wants it has a proxy: one task that joins it over the mesh, asks for news, and tells those who wait
//! there; so a thousand waiting clients are one call under way per column.
//!
//! A fetch pulls the whole blob, whichever part of it a reader asked for, in the order of its bytes and four parts at a time: SHA-256
//! takes bytes in that order only, and no answer ends before the digest is known to be right. Ahead of its reader it is bounded by the
//! window in memory and by the blob's size on disk, which is taken of the quota first.
//!
//! Invariants
//! 1. At most one job per key runs on its owner, at most one proxy on each other column.
//! 2. A job that nobody waits for stops and stores nothing, unless its last byte came and was verified: then it is stored.
//! 3. At most [`FETCHES_KNOWN_MAX`] jobs and proxies are known to a column.

mod ahead;
mod job;
mod part;
mod readers;
mod retry;
mod sink;
mod watch;
mod window;

pub use watch::{Progress, Seen, Ticket, Wish};
pub use window::HEAD_BUFFERS_MAX;

use crate::api::{FetchError, FetchKey, Fetched, Joined, Reply, Request, Whence};
use crate::limits::{FETCHES_KNOWN_MAX, Limits};
use crate::shard::Columns;
use job::Job;
use net::client::{Client, Url};
use runtime::io::Io;
use runtime::permits::Permits;
use runtime::shards::Shard;
use runtime::tier::{Digest, Keep};
use sha2::{Digest as _, Sha256};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::rc::{Rc, Weak};
use std::task::Poll;
use watch::Watch;

/// What is asked of an origin at a time.
pub const PART_BYTES: u64 = 4 << 20;

const TELL_RETRY_NS: u64 = 10_000_000;

impl FetchKey {
    /// Whose column runs it.
    pub fn shard(&self) -> Shard {
        match self {
            FetchKey::Digest(digest) => digest.shard(),
            FetchKey::Url(url) => Shard(Sha256::digest(url)[0]),
        }
    }
}

/// What became of the wish for a blob.
pub enum Wanted {
    /// It is stored.
    Stored(Fetched),
    /// It is on its way.
    Coming(Ticket),
    /// Nobody knows where it comes from.
    Unknown,
    /// Too many fetches are under way.
    Busy,
}

/// The fetches that a column knows.
pub struct Fetches<I: Io> {
    client: Client<I>,
    columns: OnceCell<Weak<Columns<I>>>,
    known: RefCell<HashMap<FetchKey, Rc<Watch>>>,
    /// Other columns' places in jobs of this one.
    joined: RefCell<HashMap<u64, (Rc<Watch>, Ticket)>>,
    next_joined: Cell<u64>,
    running: Permits,
    pages: Permits,
}

impl<I: Io> Fetches<I> {
    /// None under way; `client` asks the origins.
    pub fn new(client: Client<I>, limits: &Limits) -> Fetches<I> {
        Fetches {
            client,
            columns: OnceCell::new(),
            known: RefCell::default(),
            joined: RefCell::default(),
            next_joined: Cell::new(0),
            running: Permits::new(limits.fetches_max),
            pages: Permits::new(limits.fetch_pages_max),
        }
    }

    /// Connects it to the other columns, once.
    pub fn attach(&self, columns: &Rc<Columns<I>>) {
        assert!(self.columns.set(Rc::downgrade(columns)).is_ok(), "attached twice");
    }

    fn columns(&self) -> Rc<Columns<I>> {
        self.columns.get().and_then(Weak::upgrade).expect("columns outlive their requests")
    }

    /// Wants what `key` names, on this column, whoever owns it. What a fetch brings that begins now is kept as `keep` says.
    pub async fn want(&self, key: FetchKey, whence: Whence, keep: Keep) -> Wanted {
        let columns = self.columns();
        if let Some(watch) = self.known.borrow().get(&key) {
            columns.local().metrics.fetch_joined.inc();
            return Wanted::Coming(watch.join());
        }
        if self.known.borrow().len() >= FETCHES_KNOWN_MAX {
            return Wanted::Busy;
        }
        let owner = columns.owner_of(key.shard());
        if owner == columns.here() {
            // What is stored is known once its shard has been read; that failing is the end of the node.
            if let FetchKey::Digest(digest) = &key
                && columns.local().tier.load(digest).await.is_err()
            {
                return Wanted::Busy;
            }
            return self.want_here(key, whence, keep);
        }
        let joined = match columns.ask_column(owner, Request::Fetch(key.clone(), whence, keep)).await {
            Ok(Reply::Joined(joined)) => joined,
            Ok(_) => unreachable!("a fetch has its own reply"),
            Err(_) => Joined::Busy,
        };
        match joined {
            Joined::Stored(size) => stored(&key, size),
            Joined::Unknown => Wanted::Unknown,
            Joined::Busy => Wanted::Busy,
            Joined::Job(number) => {
                // Another client of this column may have been faster; then the place just taken is one too many.
                let faster = self.known.borrow().get(&key).map(Watch::join);
                match faster {
                    Some(ticket) => {
                        leave(&columns, owner, number).await;
                        Wanted::Coming(ticket)
                    }
                    None => Wanted::Coming(self.stand_in(columns, key, owner, number)),
                }
            }
        }
    }

    /// On the owner.
    fn want_here(&self, key: FetchKey, whence: Whence, keep: Keep) -> Wanted {
        let columns = self.columns();
        let metrics = &columns.local().metrics;
        if let Some(watch) = self.known.borrow().get(&key) {
            metrics.fetch_joined.inc();
            return Wanted::Coming(watch.join());
        }
        let expected = match &key {
            FetchKey::Digest(digest) => Some(*digest),
            FetchKey::Url(_) => None,
        };
        let tier = &columns.local().tier;
        if let Some((digest, size)) = expected.and_then(|d| Some((d, tier.whole_size(&d)?))) {
            return Wanted::Stored(Fetched { digest, size });
        }
        if self.known.borrow().len() >= FETCHES_KNOWN_MAX {
            return Wanted::Busy;
        }
        let url = match whence {
            Whence::Url(url) => url,
            Whence::Remembered => {
                let Some(url) = expected.and_then(|d| tier.origin(&d)) else { return Wanted::Unknown };
                metrics.refetches.inc();
                url
            }
        };
        // What is remembered was checked when it was given, by this build or another one.
        let Ok(url) = Url::parse(&url) else { return Wanted::Unknown };
        metrics.fetches.inc();
        Wanted::Coming(self.start(columns.clone(), key, (url, expected), keep))
    }

    fn start(
        &self,
        columns: Rc<Columns<I>>,
        key: FetchKey,
        (url, expected): (Url, Option<Digest>),
        keep: Keep,
    ) -> Ticket {
        let watch = Rc::new(Watch::of_job(columns.local().metrics.fetch_ahead.clone()));
        let ticket = watch.join();
        self.known.borrow_mut().insert(key.clone(), watch.clone());
        let io = columns.local().io().clone();
        io.spawn("fetch", async move {
            let me = &columns.local().fetches;
            let run = async {
                let _permit = me.running.wait().await;
                let job = Job {
                    columns: &columns,
                    client: &me.client,
                    pages: &me.pages,
                    watch: &watch,
                    url: url.clone(),
                    expected,
                    keep,
                };
                job.run().await
            };
            let outcome = unless_abandoned(run, &watch).await;
            watch.on_over(matches!(outcome, Some(Ok(_))));
            // Whoever comes from now on finds the blob, or begins anew.
            me.known.borrow_mut().remove(&key);
            me.on_outcome(&columns, &url, expected, outcome.as_ref()).await;
            watch.end(outcome.unwrap_or(Err(FetchError::Busy)));
        });
        ticket
    }

    async fn on_outcome(
        &self,
        columns: &Columns<I>,
        url: &Url,
        expected: Option<Digest>,
        outcome: Option<&Result<Fetched, FetchError>>,
    ) {
        match outcome {
            Some(Ok(Fetched { digest, size })) => {
                tracing::debug!(url = %url.without_query(), %digest, size, "fetched");
                // Not remembered, it is a 404 after an eviction.
                let _ = columns.ask(digest, Request::Remember(*digest, url.to_string())).await;
            }
            Some(Err(error)) => {
                columns.local().metrics.fetch_failures.inc();
                tracing::warn!(url = %url.without_query(), %error, "a fetch failed");
                if let (Some(expected), FetchError::Mismatch(_)) = (expected, error) {
                    let forgotten = columns.local().tier.forget_origin(expected, &url.to_string()).await;
                    if let Err(error) = forgotten {
                        tracing::warn!(%expected, %error, "an origin that has something else stays known");
                    }
                }
            }
            None => {
                tracing::info!(url = %url.without_query(), "a fetch stopped: nobody waits for it any more")
            }
        }
    }

    /// Tells those who wait on this column what happens on the owner's.
    fn stand_in(&self, columns: Rc<Columns<I>>, key: FetchKey, owner: usize, number: u64) -> Ticket {
        let watch = Rc::new(Watch::default());
        let ticket = watch.join();
        self.known.borrow_mut().insert(key.clone(), watch.clone());
        let io = columns.local().io().clone();
        io.spawn("fetch-proxy", async move {
            let relay = async {
                loop {
                    let seen = watch.look(Progress::seen);
                    match columns.ask_column(owner, Request::FetchNews(number, seen)).await {
                        Ok(Reply::News(Some(news))) if news.outcome.is_some() => return Some(*news),
                        Ok(Reply::News(Some(news))) => watch.apply(*news),
                        Ok(Reply::News(None)) => return None,
                        Ok(_) => unreachable!("news have their own reply"),
                        Err(_) => return None,
                    }
                }
            };
            let work = beside(tell_wishes(&columns, owner, number, &watch), relay);
            let news = unless_abandoned(work, &watch).await.flatten();
            columns.local().fetches.known.borrow_mut().remove(&key);
            match news {
                Some(news) => watch.apply(news),
                None => watch.end(Err(FetchError::Busy)),
            }
            leave(&columns, owner, number).await;
        });
        ticket
    }

    /// Another column wants what `key` names.
    pub fn join(&self, key: FetchKey, whence: Whence, keep: Keep) -> Joined {
        match self.want_here(key, whence, keep) {
            Wanted::Stored(fetched) => Joined::Stored(fetched.size),
            Wanted::Unknown => Joined::Unknown,
            Wanted::Busy => Joined::Busy,
            Wanted::Coming(ticket) => {
                let number = self.next_joined.get();
                self.next_joined.set(number + 1);
                self.joined.borrow_mut().insert(number, (ticket.watch(), ticket));
                Joined::Job(number)
            }
        }
    }

    /// News for another column.
    pub async fn news(&self, number: u64, seen: Seen) -> Option<Box<Progress>> {
        let watch = self.joined.borrow().get(&number).map(|(watch, _)| watch.clone())?;
        Some(Box::new(watch.news(seen).await))
    }

    /// What another column's readers want.
    pub fn on_wish(&self, number: u64, wish: Wish) {
        if let Some((_, ticket)) = self.joined.borrow().get(&number) {
            ticket.on_wish(wish);
        }
    }

    /// Another column has had enough.
    pub fn leave(&self, number: u64) {
        let left = self.joined.borrow_mut().remove(&number);
        drop(left);
    }
}

fn stored(key: &FetchKey, size: u64) -> Wanted {
    match key {
        FetchKey::Digest(digest) => Wanted::Stored(Fetched { digest: *digest, size }),
        FetchKey::Url(_) => unreachable!("only a digest is known to be stored"),
    }
}

/// A place that is not given back would keep its job going for nobody, so a busy owner is asked until it listens.
async fn leave<I: Io>(columns: &Columns<I>, owner: usize, number: u64) {
    while columns.ask_column(owner, Request::FetchLeave(number)).await.is_err() {
        columns.local().io().sleep(TELL_RETRY_NS).await;
    }
}

/// Tells the owner what is read here, as long as it is polled.
async fn tell_wishes<I: Io>(columns: &Columns<I>, owner: usize, number: u64, watch: &Watch) -> Infallible {
    let mut told = false;
    loop {
        let wish = watch.wish(told).await;
        told = wish.is_read;
        while columns.ask_column(owner, Request::FetchWish(number, wish.clone())).await.is_err() {
            columns.local().io().sleep(TELL_RETRY_NS).await;
        }
    }
}

/// What `work` gives; `endless` goes on until then.
async fn beside<T>(endless: impl Future<Output = Infallible>, work: impl Future<Output = T>) -> T {
    let (mut endless, mut work) = (std::pin::pin!(endless), std::pin::pin!(work));
    poll_fn(|cx| match endless.as_mut().poll(cx) {
        Poll::Ready(never) => match never {},
        Poll::Pending => work.as_mut().poll(cx),
    })
    .await
}

/// What `work` gives; `None` when it was given up because nobody waits. Nothing is awaited between that and the answer.
async fn unless_abandoned<T>(work: impl Future<Output = T>, watch: &Watch) -> Option<T> {
    let (mut work, mut abandoned) = (std::pin::pin!(work), std::pin::pin!(watch.abandoned()));
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => abandoned.as_mut().poll(cx).map(|()| None),
    })
    .await
}
