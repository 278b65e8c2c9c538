//! The owners of all columns, as seen from one: requests go to the owner of their object, directly or through the mesh.
//!
//! Called by `serve`. Invariant: a reader's owner hears that it is over, or of its leaving.

use crate::api::{Ask, Opened, Refused, Reply, Request, Step};
use crate::limits::{MEMORY_RETRY_NS, MEMORY_TRIES_MAX};
use crate::live::shard_of;
use crate::planted::{self, Bug};
use crate::shard::{Owner, PURGE_SHARD};
use crate::state::fill::{Reader, Why};
use crate::state::key::Name;
use crate::state::purge::{Names, Numbered, Purge};
use net::http1::Status;
use runtime::call::{CallBusy, Caller, Letter, Respond};
use runtime::io::Io;
use runtime::mesh::Port;
use runtime::metrics::Snapshot;
use runtime::oneshot::Oneshot;
use runtime::ring::Inbox;
use runtime::shards::ShardMap;
use runtime::tier::Digest;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::{Rc, Weak};
use std::sync::Arc;

/// The number of a reader: the column that has the client, and a count.
const COUNT_BITS: u32 = 24;

/// See the head of this file.
pub struct Columns<I: Io> {
    here: usize,
    map: ShardMap,
    owner: Rc<Owner<I>>,
    caller: Caller<Request, Reply>,
    next_reader: Cell<u32>,
    readers: RefCell<BTreeSet<Reader>>,
    me: Weak<Columns<I>>,
}

impl<I: Io> Columns<I> {
    /// Connects column `here`. The inbox is for its driver.
    pub fn connect(
        here: usize,
        map: ShardMap,
        owner: Rc<Owner<I>>,
        port: Port<Letter<Request, Reply>>,
    ) -> (Rc<Columns<I>>, Box<dyn Inbox>) {
        assert!(map.columns() <= 1 << (32 - COUNT_BITS), "{} columns", map.columns());
        let answering = owner.clone();
        let handle = move |request, respond: Respond<Request, Reply>| match request {
            Request::Leave(reader) => {
                answering.leave(reader);
                respond.answer(Reply::Noted);
            }
            Request::Lost(reader, digest) => {
                answering.on_unreadable(reader, &digest);
                respond.answer(Reply::Noted);
            }
            Request::Apply(numbered) => {
                answering.apply(&numbered);
                respond.answer(Reply::Noted);
            }
            request => {
                let owner = answering.clone();
                answering.spawn("slice-owner", async move { respond.answer(answer(&owner, request).await) });
            }
        };
        let (caller, inbox) = Caller::connect(port, handle);
        let columns = Rc::new_cyclic(|me| Columns {
            here,
            map,
            owner,
            caller,
            next_reader: Cell::new(0),
            readers: RefCell::default(),
            me: me.clone(),
        });
        (columns, inbox)
    }

    /// This column's owner.
    pub fn local(&self) -> &Rc<Owner<I>> {
        &self.owner
    }

    /// Learns what was purged before this start, and tells all columns. Called once, on every column.
    ///
    /// # Errors
    /// It is not known what was purged.
    pub async fn learn_purges(&self) -> Result<(), String> {
        if self.map.owner(PURGE_SHARD) != self.here {
            return Ok(());
        }
        for numbered in self.owner.read_purges().await? {
            self.tell_all(Arc::new(numbered)).await?;
        }
        for column in 0..self.map.columns() {
            self.ask(column, || Request::Known).await;
        }
        Ok(())
    }

    /// Purges: on every column and on stable storage when this returns.
    ///
    /// # Errors
    /// It is not: nothing was purged.
    pub async fn purge(&self, purge: Purge) -> Result<(), String> {
        let me = self.me.upgrade().expect("it is being called");
        let (done, outcome) = Oneshot::new();
        // A task of its own: a client that goes away must not leave it half told.
        self.owner.spawn("slice-purge", async move {
            let column = me.map.owner(PURGE_SHARD);
            done.set(match me.ask(column, || Request::Order(purge.clone())).await {
                Some(Reply::Ordered(Ok(numbered))) => me.tell_all(numbered).await,
                Some(Reply::Ordered(Err(why))) => Err(why),
                _ => Err("too many requests wait for another column".to_owned()),
            });
        });
        outcome.await
    }

    async fn tell_all(&self, numbered: Arc<Numbered>) -> Result<(), String> {
        let columns = if planted::is(Bug::PurgeOnOneColumn) { 1 } else { self.map.columns() };
        for column in 0..columns {
            if self.ask(column, || Request::Apply(numbered.clone())).await.is_none() {
                return Err(format!("column {column} has not heard of it"));
            }
        }
        Ok(())
    }

    /// What is stored of an object no longer holds.
    pub async fn invalidate(&self, name: Name, target: String) {
        let me = self.me.upgrade().expect("it is being called");
        let (done, over) = Oneshot::new();
        // A task of its own, as a purge is.
        self.owner.spawn("slice-invalidate", async move {
            let column = me.map.owner(shard_of(&name));
            let reply = me.ask(column, || Request::Invalidate(name)).await;
            if matches!(reply, Some(Reply::Invalidated(true))) {
                let purge = Purge { names: Names::Target(target), is_soft: false };
                if let Err(why) = me.purge(purge).await {
                    tracing::warn!(%why, "what an unsafe method changed may be served again after the next start");
                    me.ask(column, || Request::Disown(name)).await;
                }
            }
            done.set(());
        });
        over.await;
    }

    /// The counts of all columns.
    pub async fn scrape(&self) -> Vec<Snapshot> {
        let mut snapshots = Vec::with_capacity(self.map.columns());
        for column in 0..self.map.columns() {
            if let Some(Reply::Snapshot(snapshot)) = self.ask(column, || Request::Scrape).await {
                snapshots.push(*snapshot);
            }
        }
        snapshots
    }

    /// A reader of an object of that name.
    pub fn sit(&self, name: &Name) -> Sitting<I> {
        let column = self.map.owner(shard_of(name));
        let mut readers = self.readers.borrow_mut();
        let reader = loop {
            let count = self.next_reader.replace((self.next_reader.get() + 1) % (1 << COUNT_BITS));
            let reader = ((self.here as u32) << COUNT_BITS) | count;
            if readers.insert(reader) {
                break reader;
            }
        };
        let columns = self.me.upgrade().expect("it is being called");
        Sitting { columns, column, reader, is_over: true }
    }

    /// How many columns there are.
    pub(crate) fn count(&self) -> usize {
        self.map.columns()
    }

    /// Asks a column; waits while too much is under way. `None`: for too long.
    pub(crate) async fn ask(&self, column: usize, request: impl Fn() -> Request) -> Option<Reply> {
        if column == self.here {
            return Some(answer(&self.owner, request()).await);
        }
        let mut request = request();
        for _ in 0..MEMORY_TRIES_MAX {
            match self.caller.call(column, request) {
                Ok(reply) => return Some(reply.await),
                Err(CallBusy(back)) => request = back,
            }
            self.owner.io.sleep(MEMORY_RETRY_NS).await;
        }
        None
    }
}

async fn answer<I: Io>(owner: &Rc<Owner<I>>, request: Request) -> Reply {
    match request {
        Request::Open(reader, ask) => Reply::Opened(owner.open(reader, ask).await),
        Request::Next(reader, taken) => Reply::Step(owner.next(reader, taken).await),
        Request::Order(purge) => Reply::Ordered(owner.write_purge(purge).await.map(Arc::new)),
        Request::Leave(reader) => {
            owner.leave(reader);
            Reply::Noted
        }
        Request::Lost(reader, digest) => {
            owner.on_unreadable(reader, &digest);
            Reply::Noted
        }
        Request::Apply(numbered) => {
            owner.apply(&numbered);
            Reply::Noted
        }
        Request::Disown(name) => {
            owner.disown(&name);
            Reply::Noted
        }
        Request::Known => {
            owner.on_purges_known();
            Reply::Noted
        }
        Request::Health(origin, is_up) => {
            owner.upstreams[origin].on_health(is_up);
            Reply::Noted
        }
        Request::Scrape => Reply::Snapshot(Box::new(owner.snapshot())),
        Request::Invalidate(name) => Reply::Invalidated(owner.invalidate(&name).await),
    }
}

/// A reader as the column sees it that has the client. Its owner hears when it is dropped before it is over.
pub struct Sitting<I: Io> {
    columns: Rc<Columns<I>>,
    column: usize,
    reader: Reader,
    is_over: bool,
}

impl<I: Io> Sitting<I> {
    /// What to answer.
    pub async fn open(&mut self, ask: &Arc<Ask>) -> Opened {
        self.is_over = false;
        let reader = self.reader;
        let opened = if self.column == self.columns.here {
            self.columns.owner.open(reader, ask.clone()).await
        } else {
            // Boxed, as all that is rare or long on this way: a request moves its whole future several times.
            match Box::pin(self.columns.ask(self.column, || Request::Open(reader, ask.clone()))).await {
                Some(Reply::Opened(opened)) => opened,
                Some(_) => unreachable!("an open has its own reply"),
                None => {
                    let why = "too many requests wait for another column";
                    Opened::Refused(Refused::new(Status::ServiceUnavailable, why))
                }
            }
        };
        self.is_over = !matches!(&opened, Opened::Answer(head) if head.is_read());
        opened
    }

    /// What comes next, once `taken` bytes of what was given before are sent.
    pub async fn next(&mut self, taken: u64) -> Step {
        let reader = self.reader;
        let step = match self.columns.ask(self.column, || Request::Next(reader, taken)).await {
            Some(Reply::Step(step)) => step,
            Some(_) => unreachable!("a next has its own reply"),
            None => return Step::Ended(Why::Failed),
        };
        self.is_over = matches!(step, Step::Done | Step::Ended(_));
        step
    }

    /// What was given of a file could not be read.
    pub async fn lost(&self, digest: Digest) {
        let reader = self.reader;
        self.columns.ask(self.column, || Request::Lost(reader, digest)).await;
    }
}

impl<I: Io> Drop for Sitting<I> {
    fn drop(&mut self) {
        let (columns, column, reader) = (self.columns.clone(), self.column, self.reader);
        if self.is_over {
            columns.readers.borrow_mut().remove(&reader);
        } else if column == columns.here {
            columns.owner.leave(reader);
            columns.readers.borrow_mut().remove(&reader);
        } else {
            let owner = columns.owner.clone();
            owner.spawn("slice-leave", async move {
                // Its number is free only when the owner knows.
                if columns.ask(column, || Request::Leave(reader)).await.is_some() {
                    columns.readers.borrow_mut().remove(&reader);
                }
            });
        }
    }
}
