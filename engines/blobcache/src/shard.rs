//! The owner of a column's blobs, and the way to the owners on other columns.
//!
//! Called by `serve` directly when this column owns the blob, through the mesh when another does.

use crate::api::{Joined, Reply, Request};
use crate::fetch::Fetches;
use crate::metrics::Metrics;
use crate::mount::ask::CONNECTIONS_MAX;
use crate::mount::nodes::{Hooks, Nodes};
use runtime::call::{CallBusy, Caller, Letter, Respond};
use runtime::io::{Class, Io};
use runtime::mesh::Port;
use runtime::metrics::Sample;
use runtime::ring::Inbox;
use runtime::shards::{Shard as ShardNumber, ShardMap};
use runtime::tier::{Digest, NeverReady, ObjectWriter, PutError, Shard, Stretch};
use std::cell::{Cell, OnceCell};
use std::rc::{Rc, Weak};

/// Dropped at once when the disk is full and nothing says how large a blob is: a segment's worth.
pub const EVICT_BYTES: u64 = 64 << 20;

/// The blobs of one column.
pub struct Owner<I: Io> {
    io: I,
    /// Where they are kept.
    pub tier: Shard<I>,
    /// What is counted.
    pub metrics: Metrics,
    /// What is fetched from origins.
    pub fetches: Fetches<I>,
    seen: Seen,
    /// By connection of the mounts.
    nodes: [OnceCell<Nodes<I>>; CONNECTIONS_MAX],
    me: Weak<Owner<I>>,
}

/// What a scrape shows of the column beside the engine's own counts.
pub struct Seen {
    /// Polls that took too long.
    pub stalls: Box<dyn Fn() -> u64>,
    /// The runtime's own samples.
    pub more: Box<dyn Fn() -> Vec<Sample>>,
}

impl<I: Io> Owner<I> {
    /// The owner of what `tier` holds.
    pub fn new(io: I, tier: Shard<I>, metrics: Metrics, fetches: Fetches<I>, seen: Seen) -> Rc<Owner<I>> {
        let nodes = [const { OnceCell::new() }; CONNECTIONS_MAX];
        Rc::new_cyclic(|me| Owner { io, tier, metrics, fetches, seen, nodes, me: me.clone() })
    }

    /// Itself, for tasks that go on.
    pub(crate) fn me(&self) -> Rc<Owner<I>> {
        self.me.upgrade().expect("it is being called")
    }

    /// There is such a connection of a mount from here on.
    pub(crate) fn mount(&self, connection: usize, hooks: Hooks) {
        let nodes = Nodes::new(connection, hooks);
        assert!(self.nodes[connection].set(nodes).is_ok(), "connection {connection} is there already");
    }

    /// What this column owns of a connection, if there is one.
    pub(crate) fn nodes(&self, connection: usize) -> Option<&Nodes<I>> {
        self.nodes[connection].get()
    }

    fn count_mounts(&self) {
        let mut held = [0; 4];
        for nodes in self.nodes.iter().filter_map(OnceCell::get) {
            held.iter_mut().zip(nodes.counts()).for_each(|(sum, count)| *sum += count);
        }
        self.metrics.mount.refresh(held);
    }

    /// The machine.
    pub fn io(&self) -> &I {
        &self.io
    }

    /// Answers at once what needs no waiting; gives the request back otherwise.
    fn answer_now(&self, request: Request) -> Result<Reply, Request> {
        if !self.tier.is_ready() && !matches!(request, Request::Scrape | Request::Node(..)) {
            return Err(request);
        }
        self.answer_known(request)
    }

    /// As [`Owner::answer_now`], once what the request is about has been read from disk.
    fn answer_known(&self, request: Request) -> Result<Reply, Request> {
        match request {
            Request::Get(digest) => match self.tier.get_held(&digest) {
                Some(found) => Ok(Reply::Found(Ok(Some(found)))),
                None => Err(Request::Get(digest)),
            },
            Request::Size(digest) => Ok(Reply::Size(self.tier.size(&digest))),
            Request::Extent { digest, read, object } => match self.tier.stretch(&digest, &object, &read) {
                Stretch::Held(extent) => Ok(Reply::Extent(Some(extent))),
                Stretch::Coming => Err(Request::Extent { digest, read, object }),
                Stretch::Disk => Ok(Reply::Extent(None)),
            },
            Request::Evictable => Ok(Reply::Evictable(self.tier.evictable_bytes())),
            Request::List(after, limit) => {
                let all = self.tier.knows_all();
                Ok(Reply::Page(all.then(|| self.tier.list(after.as_ref(), limit))))
            }
            Request::Fetch(key, whence, keep) => Ok(Reply::Joined(self.fetches.join(key, whence, keep))),
            Request::FetchWish(number, wish) => {
                self.fetches.on_wish(number, wish);
                Ok(Reply::Noted)
            }
            Request::FetchLeave(number) => {
                self.fetches.leave(number);
                Ok(Reply::Noted)
            }
            Request::Damaged(digest) => {
                self.tier.on_damaged(&digest);
                Ok(Reply::Noted)
            }
            Request::Node(connection, request) => self
                .node_now(connection, request)
                .map(Reply::Node)
                .map_err(|request| Request::Node(connection, request)),
            Request::Scrape => {
                self.count_mounts();
                let (stats, stalls) = (self.tier.stats(), (self.seen.stalls)());
                let mut snapshot = self.metrics.snapshot(&stats, stalls, self.io.now_ns());
                snapshot.samples.extend((self.seen.more)());
                Ok(Reply::Snapshot(Box::new(snapshot)))
            }
            other => Err(other),
        }
    }

    /// Reads wait for their own shard, everything else for all that recovery has yet to read. Refuses what it will never know.
    async fn know(&self, request: &Request) -> Result<(), Reply> {
        match request {
            // A mount's waits for what it needs.
            Request::Scrape | Request::Node(..) => Ok(()),
            Request::Get(digest) | Request::Size(digest) | Request::Extent { digest, .. } => {
                self.tier.load(digest).await.map_err(|e| Reply::Found(Err(e)))
            }
            _ => self.tier.ready().await.map_err(|never| unready(request, never)),
        }
    }

    /// Answers.
    async fn answer(&self, request: Request) -> Reply {
        if let Err(refusal) = self.know(&request).await {
            return refusal;
        }
        match self.answer_known(request) {
            Ok(reply) => reply,
            Err(Request::Get(digest)) => Reply::Found(self.tier.get(&digest).await),
            Err(Request::Extent { digest, read, object }) => {
                Reply::Extent(self.tier.await_extent(&digest, &object, &read).await)
            }
            Err(Request::PutPacked(digest, data, keep)) => {
                Reply::Stored(self.tier.put_packed(digest, data, keep).await)
            }
            Err(Request::EvictFromDisk(bytes)) => Reply::Evicted(self.tier.evict_from_disk(bytes).await),
            Err(Request::Commit(digest, incoming, keep)) => {
                Reply::Stored(self.tier.commit_object(digest, incoming, keep).await)
            }
            Err(Request::Delete(digest)) => {
                self.before_delete(&digest).await;
                Reply::Deleted(self.tier.delete(digest).await)
            }
            Err(Request::Node(connection, request)) => {
                Reply::Node(Box::pin(self.node(connection, request)).await)
            }
            Err(Request::Keep(digest, keep)) => Reply::Kept(self.tier.keep(digest, keep).await),
            Err(Request::Remember(digest, url)) => {
                if let Err(error) = self.tier.remember_origin(digest, &url).await {
                    tracing::warn!(%digest, %error, "where it came from is not kept: evicted, it is a 404");
                }
                Reply::Noted
            }
            Err(Request::FetchNews(number, seen)) => Reply::News(self.fetches.news(number, seen).await),
            Err(_) => unreachable!("answered at once"),
        }
    }
}

/// The answer to a request that needs all of the index.
fn unready(request: &Request, never: NeverReady) -> Reply {
    let stopped = || PutError::Stopped(never.to_string());
    match request {
        Request::PutPacked(..) | Request::Commit(..) => Reply::Stored(Err(stopped())),
        Request::Delete(_) => Reply::Deleted(Err(stopped())),
        Request::Keep(..) => Reply::Kept(Err(stopped())),
        Request::EvictFromDisk(_) => Reply::Evicted(Err(stopped())),
        Request::Evictable => Reply::Evictable(0),
        Request::List(..) => Reply::Page(None),
        Request::Fetch(..) => Reply::Joined(Joined::Busy),
        Request::FetchNews(..) => Reply::News(None),
        Request::FetchWish(..) | Request::FetchLeave(_) | Request::Damaged(_) | Request::Remember(..) => {
            Reply::Noted
        }
        Request::Get(_) | Request::Size(_) | Request::Extent { .. } | Request::Node(..) | Request::Scrape => {
            unreachable!("these do not wait for all of it")
        }
    }
}

/// The owners of all columns, as seen from one.
pub struct Columns<I: Io> {
    here: usize,
    map: ShardMap,
    owner: Rc<Owner<I>>,
    caller: Caller<Request, Reply>,
    incoming_total: Cell<u64>,
}

impl<I: Io> Columns<I> {
    /// Connects column `here`. The inbox is for its driver.
    pub fn connect(
        here: usize,
        map: ShardMap,
        owner: Rc<Owner<I>>,
        port: Port<Letter<Request, Reply>>,
    ) -> (Rc<Columns<I>>, Box<dyn Inbox>) {
        let answering = owner.clone();
        let handle = move |request, respond: Respond<Request, Reply>| match answering.answer_now(request) {
            Ok(reply) => respond.answer(reply),
            Err(request) => {
                let owner = answering.clone();
                answering.io.spawn("owner", async move { respond.answer(owner.answer(request).await) });
            }
        };
        let (caller, inbox) = Caller::connect(port, handle);
        let columns = Rc::new(Columns { here, map, owner, caller, incoming_total: Cell::new(0) });
        columns.owner.fetches.attach(&columns);
        (columns, inbox)
    }

    /// This column's owner.
    pub fn local(&self) -> &Rc<Owner<I>> {
        &self.owner
    }

    /// The owner's part on this column, if it is the one.
    #[inline]
    pub fn owner_here(&self, digest: &Digest) -> Option<&Owner<I>> {
        (self.map.owner(digest.shard()) == self.here).then_some(&*self.owner)
    }

    /// Asks the owner of a blob.
    pub async fn ask(&self, digest: &Digest, request: Request) -> Result<Reply, CallBusy> {
        self.ask_column(self.map.owner(digest.shard()), request).await
    }

    /// Asks a column.
    pub async fn ask_column(&self, column: usize, request: Request) -> Result<Reply, CallBusy> {
        if column == self.here {
            return Ok(self.owner.answer(request).await);
        }
        match self.caller.call(column, request) {
            Ok(reply) => Ok(reply.await),
            Err(CallBusy(Request::Commit(_, incoming, _))) => {
                self.owner.tier.discard(incoming).await;
                Err(CallBusy(()))
            }
            Err(CallBusy(_)) => Err(CallBusy(())),
        }
    }

    /// As [`Columns::ask_column`], of what does not wait behind a full lane but comes back.
    pub async fn ask_column_back(&self, column: usize, request: Request) -> Result<Reply, Request> {
        if column == self.here {
            return Ok(self.owner.answer(request).await);
        }
        match self.caller.call(column, request) {
            Ok(reply) => Ok(reply.await),
            Err(CallBusy(request)) => Err(request),
        }
    }

    /// Asks the owner of a shard, if it is here and need not wait; gives the request back otherwise.
    pub fn ask_now(&self, shard: ShardNumber, request: Request) -> Result<Reply, Request> {
        if self.map.owner(shard) == self.here { self.owner.answer_now(request) } else { Err(request) }
    }

    /// The number of this column.
    pub fn here(&self) -> usize {
        self.here
    }

    /// The column that owns a shard.
    pub fn owner_of(&self, shard: ShardNumber) -> usize {
        self.map.owner(shard)
    }

    /// Begins to receive a larger blob on this column, written as `class`, and makes room for it if that can help.
    pub async fn begin_object(&self, length: Option<u64>, class: Class) -> Result<ObjectWriter<I>, PutError> {
        let tier = &self.owner.tier;
        // Nothing new is stored before all that is there is known.
        tier.ready().await.map_err(|never| PutError::Stopped(never.to_string()))?;
        let created = tier.begin_object(self.next_incoming(), length, class).await;
        let wanted_bytes = length.unwrap_or(EVICT_BYTES);
        let is_full = matches!(created, Err(PutError::NoSpace)) && tier.could_hold(wanted_bytes);
        if !is_full || !self.evict(wanted_bytes).await {
            return created;
        }
        // Another number: the file of the first try may yet be on its way out.
        tier.begin_object(self.next_incoming(), length, class).await
    }

    fn next_incoming(&self) -> u64 {
        self.incoming_total.set(self.incoming_total.get() + 1);
        self.incoming_total.get()
    }

    /// Drops evictable blobs, wherever they are; true if any was dropped. The column that has most of them begins, so that
    /// none gives up what is asked for while another keeps what is not.
    pub async fn evict(&self, bytes: u64) -> bool {
        let mut columns = Vec::with_capacity(self.count());
        for column in 0..self.count() {
            if let Ok(Reply::Evictable(bytes)) = self.ask_column(column, Request::Evictable).await {
                columns.push((bytes, column));
            }
        }
        columns.sort_unstable_by(|a, b| b.cmp(a));
        let mut dropped = 0;
        for (_, column) in columns {
            if dropped >= bytes {
                break;
            }
            // What cannot be dropped now makes no room; the put says so.
            let reply = self.ask_column(column, Request::EvictFromDisk(bytes - dropped)).await;
            if let Ok(Reply::Evicted(Ok(freed))) = reply {
                dropped += freed;
            }
        }
        dropped > 0
    }

    /// Columns in this boot.
    pub fn count(&self) -> usize {
        self.map.columns()
    }
}
