//! The owners of all columns, as seen from one: requests go to the owner of their object, directly or through the mesh.
//!
//! Called by `serve`. Invariants
//! 1. A reader's owner hears that it is over, or of its leaving.
//! 2. What is told arrives: it waits for its turn for as long as that takes, and no request that waits for an origin takes that.

mod leaving;

use crate::api::{Ask, Opened, Refused, Reply, Request, Step};
use crate::limits::{PURGES_WAITING_MAX, SITTING_MAX};
use crate::live::shard_of;
use crate::planted::{self, Bug};
use crate::shard::{Owner, PURGE_SHARD};
use crate::state::fill::Reader;
use crate::state::key::Name;
use crate::state::purge::{Names, Numbered, Purge};
use leaving::Leaving;
use net::http1::Status;
use runtime::call::{Caller, Letter, Respond};
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
    /// By column.
    leaving: RefCell<Vec<Leaving>>,
    purging: Cell<usize>,
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
            Request::Leave(readers) => {
                readers.into_iter().for_each(|reader| answering.leave(reader));
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
                // It may leave before its task has begun.
                if let Request::Open(reader, _) = &request {
                    answering.expect(*reader);
                }
                let owner = answering.clone();
                answering.spawn("slice-owner", async move { respond.answer(answer(&owner, request).await) });
            }
        };
        let (caller, inbox) = Caller::connect(port, handle);
        let leaving = RefCell::new((0..map.columns()).map(|_| Leaving::default()).collect());
        let columns = Rc::new_cyclic(|me| Columns {
            here,
            map,
            owner,
            caller,
            next_reader: Cell::new(0),
            readers: RefCell::default(),
            leaving,
            purging: Cell::new(0),
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
            self.tell_all(&Arc::new(numbered)).await;
        }
        for column in 0..self.map.columns() {
            self.ask(column, Request::Known).await;
        }
        Ok(())
    }

    /// Purges: on every column and on stable storage when this returns.
    ///
    /// # Errors
    /// It could not be written down: nothing was purged.
    pub async fn purge(&self, purge: Purge) -> Result<(), String> {
        if self.purging.get() >= PURGES_WAITING_MAX {
            return Err("too many purges wait to be written down".to_owned());
        }
        self.purging.set(self.purging.get() + 1);
        let me = self.me.upgrade().expect("it is being called");
        let (done, outcome) = Oneshot::new();
        // A task of its own: a client that goes away must not leave it half told.
        self.owner.spawn("slice-purge", async move {
            let column = me.map.owner(PURGE_SHARD);
            let Reply::Ordered(ordered) = me.ask(column, Request::Order(purge)).await else {
                unreachable!("an order has its own reply")
            };
            if let Ok(numbered) = &ordered {
                me.tell_all(numbered).await;
            }
            me.purging.set(me.purging.get() - 1);
            done.set(ordered.map(drop));
        });
        outcome.await
    }

    async fn tell_all(&self, numbered: &Arc<Numbered>) {
        let columns = if planted::is(Bug::PurgeOnOneColumn) { 1 } else { self.map.columns() };
        for column in 0..columns {
            self.ask(column, Request::Apply(numbered.clone())).await;
        }
    }

    /// What is stored of an object no longer holds.
    pub async fn invalidate(&self, name: Name, target: String) {
        let me = self.me.upgrade().expect("it is being called");
        let (done, over) = Oneshot::new();
        // A task of its own, as a purge is.
        self.owner.spawn("slice-invalidate", async move {
            let column = me.map.owner(shard_of(&name));
            let reply = me.ask(column, Request::Invalidate(name)).await;
            if matches!(reply, Reply::Invalidated(true)) {
                let purge = Purge { names: Names::Target(target), is_soft: false };
                if let Err(why) = me.purge(purge).await {
                    tracing::warn!(%why, "what an unsafe method changed may be served again after the next start");
                    me.ask(column, Request::Disown(name)).await;
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
            if let Reply::Snapshot(snapshot) = self.ask(column, Request::Scrape).await {
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

    /// Asks a column. It waits for its turn to do so, which comes: for what is prompt soon, for what waits for an origin when others
    /// have waited long enough.
    pub(crate) async fn ask(&self, column: usize, request: Request) -> Reply {
        match column == self.here {
            true => answer(&self.owner, request).await,
            false => self.caller.call_in_turn(request.kind(), column, request).await,
        }
    }

    /// A reader of another column's object is gone. Its number is free only when the owner knows.
    fn tell_left(&self, column: usize, reader: Reader) {
        if !self.leaving.borrow_mut()[column].add(reader) {
            return;
        }
        let me = self.me.upgrade().expect("it is being called");
        self.owner.spawn("slice-leave", async move {
            loop {
                let next = me.leaving.borrow_mut()[column].next();
                let Some(left) = next else { return };
                me.ask(column, Request::Leave(left.clone())).await;
                let mut readers = me.readers.borrow_mut();
                left.iter().for_each(|reader| _ = readers.remove(reader));
            }
        });
    }
}

async fn answer<I: Io>(owner: &Rc<Owner<I>>, request: Request) -> Reply {
    match request {
        Request::Open(reader, ask) => Reply::Opened(owner.open(reader, ask).await),
        Request::Next(reader, taken) => Reply::Step(owner.next(reader, taken).await),
        Request::Order(purge) => Reply::Ordered(owner.write_purge(purge).await.map(Arc::new)),
        Request::Leave(readers) => {
            readers.into_iter().for_each(|reader| owner.leave(reader));
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
        let (reader, columns) = (self.reader, &self.columns);
        if columns.readers.borrow().len() > SITTING_MAX {
            let why = "too many requests wait for another column";
            return Opened::Refused(Refused::new(Status::ServiceUnavailable, why));
        }
        self.is_over = false;
        let opened = if self.column == columns.here {
            columns.owner.expect(reader);
            columns.owner.open(reader, ask.clone()).await
        } else {
            // Boxed, as all that is rare or long on this way: a request moves its whole future several times.
            match Box::pin(columns.ask(self.column, Request::Open(reader, ask.clone()))).await {
                Reply::Opened(opened) => opened,
                _ => unreachable!("an open has its own reply"),
            }
        };
        self.is_over = !matches!(&opened, Opened::Answer(head) if head.is_read());
        opened
    }

    /// What comes next, once `taken` bytes of what was given before are sent.
    pub async fn next(&mut self, taken: u64) -> Step {
        let reader = self.reader;
        let Reply::Step(step) = self.columns.ask(self.column, Request::Next(reader, taken)).await else {
            unreachable!("a next has its own reply")
        };
        self.is_over = matches!(step, Step::Done | Step::Ended(_));
        step
    }

    /// What was given of a file could not be read.
    pub async fn lost(&self, digest: Digest) {
        let reader = self.reader;
        self.columns.ask(self.column, Request::Lost(reader, digest)).await;
    }
}

impl<I: Io> Drop for Sitting<I> {
    fn drop(&mut self) {
        let (columns, column, reader) = (&self.columns, self.column, self.reader);
        if !self.is_over && column != columns.here {
            return columns.tell_left(column, reader);
        }
        if !self.is_over {
            columns.owner.leave(reader);
        }
        columns.readers.borrow_mut().remove(&reader);
    }
}
