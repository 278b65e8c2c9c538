//! The owner of a column's blobs, and the way to the owners on other columns.
//!
//! Called by `serve` directly when this column owns the blob, through the mesh when another does.

use crate::api::{Reply, Request};
use crate::metrics::Metrics;
use runtime::call::{CallBusy, Caller, Letter, Respond};
use runtime::io::Io;
use runtime::mesh::Port;
use runtime::metrics::Sample;
use runtime::ring::Inbox;
use runtime::shards::ShardMap;
use runtime::tier::{Digest, ReadError, Shard, Stretch};
use std::rc::Rc;

/// The blobs of one column.
pub struct Owner<I: Io> {
    io: I,
    /// Where they are kept.
    pub tier: Shard<I>,
    /// What is counted.
    pub metrics: Metrics,
    seen: Seen,
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
    pub fn new(io: I, tier: Shard<I>, metrics: Metrics, seen: Seen) -> Rc<Owner<I>> {
        Rc::new(Owner { io, tier, metrics, seen })
    }

    /// The machine.
    pub fn io(&self) -> &I {
        &self.io
    }

    /// Answers at once what needs no waiting; gives the request back otherwise.
    fn answer_now(&self, request: Request) -> Result<Reply, Request> {
        if !self.tier.is_ready() && !matches!(request, Request::Scrape) {
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
                Stretch::Held(pages) => Ok(Reply::Extent(Some(pages))),
                Stretch::Coming => Err(Request::Extent { digest, read, object }),
                Stretch::Disk => Ok(Reply::Extent(None)),
            },
            Request::List(after, limit) => Ok(Reply::Page(self.tier.list(after.as_ref(), limit))),
            Request::Damaged(digest) => {
                self.tier.on_damaged(&digest);
                Ok(Reply::Noted)
            }
            Request::Scrape => {
                let mut snapshot = self.metrics.snapshot(&self.tier.stats(), (self.seen.stalls)());
                snapshot.samples.extend((self.seen.more)());
                Ok(Reply::Snapshot(Box::new(snapshot)))
            }
            other => Err(other),
        }
    }

    /// Reads wait for their own shard, everything else for all that recovery has yet to read.
    async fn know(&self, request: &Request) -> Result<(), ReadError> {
        match request {
            Request::Scrape => Ok(()),
            Request::Get(digest) | Request::Size(digest) | Request::Extent { digest, .. } => {
                self.tier.load(digest).await
            }
            _ => {
                self.tier.ready().await;
                Ok(())
            }
        }
    }

    /// Answers.
    async fn answer(&self, request: Request) -> Reply {
        if let Err(e) = self.know(&request).await {
            return Reply::Found(Err(e));
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
            Err(Request::Delete(digest)) => Reply::Deleted(self.tier.delete(digest).await),
            Err(_) => unreachable!("answered at once"),
        }
    }
}

/// The owners of all columns, as seen from one.
pub struct Columns<I: Io> {
    here: usize,
    map: ShardMap,
    owner: Rc<Owner<I>>,
    caller: Caller<Request, Reply>,
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
        (Rc::new(Columns { here, map, owner, caller }), inbox)
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

    /// Columns in this boot.
    pub fn count(&self) -> usize {
        self.map.columns()
    }
}
