//! The part of a connection's state that one column owns, and what changes it: lookups, opens, backing ids. Answers
//! [`NodeRequest`]s of every column, at once where nothing is to be waited for.
//!
//! Called by `shard`. What is decided is in `inodes` and `opens`; bytes are read by `read`, origins asked by `origin`.
//!
//! Invariants
//! 1. No state is borrowed across an await.
//! 2. A node whose unverified bytes the kernel was given turns into a verified one when its fetch ends well, and is retired when
//!    it does not: the next lookup gets another node, whose page cache is empty.
//! 3. A handle that is open when its blob is deleted can be read to its end: what it is read from is opened before.
//! 4. What a node is read from has the node's size: one that an origin gave another size than the blob has is not read.

pub use super::inodes::nodes_within;

use super::ask::{CONNECTIONS_MAX, Entered, NodeReply, NodeRequest, OpenAs};
use super::failure::Failure;
use super::inodes::{For, Inode, Inodes};
use super::opens::{Decided, Idle, Opens};
use super::origin::{Arrived, Arriving, Ending};
use super::told::Told;
use crate::shard::Owner;
use runtime::io::Io;
use runtime::oneshot::Oneshot;
use runtime::patience::before;
use runtime::permits::Permits;
use runtime::tier::{Digest, Found, Object, ObjectReader};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

/// How long what a node that is not open is read from is kept for its next read.
const LINGER_NS: u64 = 10_000_000_000;
/// How often that is looked at, while there is any.
const SHED_NS: u64 = 1_000_000_000;
/// How long a LOOKUP waits for room, and how often it looks: the kernel was asked for some, but it may use all that it knows.
const ROOM_NS: u64 = 2_000_000_000;
const ROOM_LOOK_NS: u64 = 1_000_000;
/// Looks at a blob that changes its state each time.
pub(super) const TRIES_MAX: usize = 5;

/// What a column is told of a connection.
pub struct Hooks {
    /// Whether the kernel can be given this file: a question of its file system.
    pub is_given: Rc<dyn Fn(&Path) -> bool>,
    /// Closes a backing id; does not wait.
    pub close_backing: Rc<dyn Fn(i32)>,
    /// How long a blob stays that is fetched for a reader.
    pub ttl_ms: Option<u64>,
    /// Reads from disk at a time; each holds at most 2 MiB of buffers.
    pub disk_reads_max: usize,
    /// Nodes that this column may know.
    pub nodes_max: usize,
    /// Lets the kernel forget some of these nodes, if it does not use them; does not wait.
    pub prune: Prune,
}

/// Given nodes and their blobs, of which it takes as many as it can do with at present.
pub type Prune = Rc<dyn Fn(&mut dyn Iterator<Item = (u64, Digest)>)>;

/// What bytes of a node are read from.
pub(super) enum Source<I: Io> {
    /// A stored blob that has a file.
    Stored(Rc<Stored<I>>),
    /// All bytes of a small blob that was deleted while it was open.
    Held(Found),
    /// One on its way.
    Arriving(Rc<Arriving<I>>),
}

/// An open object file.
pub(super) struct Stored<I: Io> {
    pub object: Object,
    pub reader: ObjectReader<I>,
}

impl<I: Io> Clone for Source<I> {
    fn clone(&self) -> Source<I> {
        match self {
            Source::Stored(stored) => Source::Stored(stored.clone()),
            Source::Held(found) => Source::Held(found.clone()),
            Source::Arriving(arriving) => Source::Arriving(arriving.clone()),
        }
    }
}

/// One connection's nodes of this column.
pub struct Nodes<I: Io> {
    connection: usize,
    inodes: RefCell<Inodes>,
    opens: RefCell<Opens<Source<I>>>,
    /// Who waits for a backing id that somebody else makes.
    making: RefCell<HashMap<u64, Vec<Oneshot<()>>>>,
    pub(super) hooks: Hooks,
    pub(super) disk_reads: Permits,
    /// Handles that other columns tell of.
    told: RefCell<Told>,
    shedding: Cell<bool>,
    /// How often the kernel was to forget some.
    pruned_total: Cell<u64>,
}

impl<I: Io> Nodes<I> {
    /// None yet.
    pub fn new(connection: usize, hooks: Hooks) -> Nodes<I> {
        Nodes {
            connection,
            inodes: RefCell::new(Inodes::new(hooks.nodes_max)),
            opens: RefCell::default(),
            making: RefCell::default(),
            disk_reads: Permits::new(hooks.disk_reads_max),
            hooks,
            told: RefCell::default(),
            shedding: Cell::new(false),
            pruned_total: Cell::new(0),
        }
    }

    /// Nodes, lookups that the kernel has yet to forget, open handles, backing ids.
    pub fn counts(&self) -> [u64; 4] {
        let inodes = self.inodes.borrow();
        [inodes.len() as u64, inodes.lookups(), inodes.opens(), self.opens.borrow().backings() as u64]
    }

    /// The connection has ended: the kernel knows nothing any more, without having said so.
    pub fn clear(&self) {
        self.inodes.borrow_mut().clear();
        self.told.borrow_mut().clear();
        let ids = self.opens.borrow_mut().clear();
        self.close(ids);
        self.making.take().into_values().flatten().for_each(|waiting| waiting.set(()));
    }

    fn close(&self, ids: impl IntoIterator<Item = i32>) {
        ids.into_iter().for_each(|id| (self.hooks.close_backing)(id));
    }

    pub(super) fn inode(&self, node: u64) -> Option<Inode> {
        self.inodes.borrow().get(node)
    }

    /// A node that may be opened and read.
    pub(super) fn usable(&self, node: u64) -> Result<Inode, Failure> {
        self.inode(node).filter(|inode| !inode.is_retired).ok_or(Failure::Stale)
    }

    fn enter(&self, digest: Digest, size: u64, why: For) -> Entered {
        let node = self.inodes.borrow_mut().enter(digest, size, why);
        let inodes = self.inodes.borrow();
        if inodes.is_crowded() {
            let turn = self.pruned_total.get();
            self.pruned_total.set(turn + 1);
            (self.hooks.prune)(&mut inodes.unused(turn));
        }
        Entered { node, digest, size }
    }

    fn forget(&self, nodes: &[(u64, u64)]) {
        for &(node, count) in nodes {
            let is_gone = self.inodes.borrow_mut().forget(node, count);
            self.drop_if(is_gone, node);
        }
    }

    fn on_opened(&self, node: u64, handle: u64, now_ns: u64) {
        // Released already, or of a node that is forgotten: nothing is to be kept for it.
        if self.told.borrow_mut().open(handle) && self.inode(node).is_some() {
            self.inodes.borrow_mut().open(node);
            let (decided, _) = self.opens.borrow_mut().at(now_ns).open(node, None);
            assert_eq!(decided, Decided::Cached, "the kernel is given no file of a small blob");
        }
    }

    fn release(&self, node: u64, now_ns: u64) {
        self.opens.borrow_mut().at(now_ns).release(node);
        let is_gone = self.inodes.borrow_mut().release(node);
        self.drop_if(is_gone, node);
    }

    fn drop_if(&self, is_gone: bool, node: u64) {
        if is_gone {
            let id = self.opens.borrow_mut().forget(node);
            self.close(id);
        }
    }

    pub(super) fn source(&self, node: u64, now_ns: u64) -> Option<Source<I>> {
        self.opens.borrow_mut().at(now_ns).source(node).cloned()
    }

    pub(super) fn set_source(&self, node: u64, source: Option<Source<I>>, now_ns: u64) {
        // A node that is gone meanwhile keeps nothing.
        if source.is_none() || self.inode(node).is_some() {
            self.opens.borrow_mut().at(now_ns).set_source(node, source);
        }
    }

    pub(super) fn set_unverified(&self, node: u64, is_unverified: bool) {
        self.inodes.borrow_mut().set_unverified(node, is_unverified);
    }

    /// The kernel may have wrong bytes of it.
    pub(super) fn retire(&self, node: u64, now_ns: u64) {
        self.inodes.borrow_mut().retire(node);
        self.set_source(node, None, now_ns);
    }

    fn on_made(&self, node: u64, made: Option<(i32, u64)>, now_ns: u64) -> bool {
        let kept = self.opens.borrow_mut().at(now_ns).on_made(node, made);
        if kept && made.is_some() {
            self.inodes.borrow_mut().open(node);
        }
        let waiting = self.making.borrow_mut().remove(&node);
        waiting.into_iter().flatten().for_each(|waiting| waiting.set(()));
        kept
    }

    /// The node of a blob, if it has handles.
    fn open_node(&self, digest: &Digest) -> Option<u64> {
        self.inodes.borrow().node_of(digest).filter(|&node| self.opens.borrow().is_open(node))
    }
}

impl<I: Io> Owner<I> {
    /// Answers at once what needs no waiting; gives the request back otherwise.
    pub(crate) fn node_now(&self, connection: usize, request: NodeRequest) -> Result<NodeReply, NodeRequest> {
        let Some(nodes) = self.nodes(connection) else { return Ok(NodeReply::Unmounted) };
        let now_ns = self.io().now_ns();
        Ok(match request {
            NodeRequest::Inode(node) => NodeReply::Inode(nodes.inode(node)),
            NodeRequest::Forget(list) => {
                nodes.forget(&list);
                NodeReply::Noted
            }
            NodeRequest::Opened(node, handle) => {
                nodes.on_opened(node, handle, now_ns);
                NodeReply::Noted
            }
            NodeRequest::Release(node, handle) => {
                if handle == 0 || nodes.told.borrow_mut().release(handle) {
                    nodes.release(node, now_ns);
                }
                NodeReply::Noted
            }
            NodeRequest::Open { node, passthrough, until_ns } => {
                match self.open_now(nodes, node, passthrough, now_ns) {
                    Some(opened) => NodeReply::Opened(Ok(opened)),
                    None => return Err(NodeRequest::Open { node, passthrough, until_ns }),
                }
            }
            NodeRequest::Made(node, made) => {
                let kept = nodes.on_made(node, made, now_ns);
                self.shed_later(nodes);
                NodeReply::Kept(kept)
            }
            NodeRequest::Lookup(digest, until_ns) => {
                match self.tier.size(&digest).filter(|_| self.tier.is_ready()) {
                    Some(size) => match enter(nodes, digest, size) {
                        Err(Failure::Full) => return Err(NodeRequest::Lookup(digest, until_ns)),
                        entered => NodeReply::Entered(entered),
                    },
                    None => return Err(NodeRequest::Lookup(digest, until_ns)),
                }
            }
            NodeRequest::Enter(digests) if self.tier.is_ready() => {
                let there = digests.into_iter().filter_map(|digest| Some((digest, self.tier.size(&digest)?)));
                NodeReply::Listed(
                    there.map(|(digest, size)| nodes.enter(digest, size, For::Listing)).collect(),
                )
            }
            NodeRequest::Read(read) => return self.read_now(nodes, read),
            other => return Err(other),
        })
    }

    /// Answers what [`Owner::node_now`] did not.
    pub(crate) async fn node(&self, connection: usize, request: NodeRequest) -> NodeReply {
        let Some(nodes) = self.nodes(connection) else { return NodeReply::Unmounted };
        match request {
            NodeRequest::Lookup(digest, until_ns) => {
                NodeReply::Entered(self.lookup(nodes, digest, until_ns).await.map_err(|e| e.of(&digest)))
            }
            NodeRequest::Enter(digests) => {
                if self.tier.ready().await.is_err() {
                    return NodeReply::Unmounted;
                }
                match self.node_now(connection, NodeRequest::Enter(digests)) {
                    Ok(reply) => reply,
                    Err(_) => unreachable!("the tier is ready"),
                }
            }
            NodeRequest::Open { node, passthrough, until_ns } => {
                let digest = nodes.inode(node).map(|inode| inode.digest);
                let opened = self.open(nodes, node, passthrough, until_ns).await;
                NodeReply::Opened(opened.map_err(|e| e.of(digest.as_ref())))
            }
            NodeRequest::Read(read) => {
                let digest = nodes.inode(read.node).map(|inode| inode.digest);
                let data = self.read(nodes, read).await;
                // A reader can do nothing about a node that is not to be used any more.
                NodeReply::Data(data.map_err(|e| Failure::io(e).of(digest.as_ref())))
            }
            _ => unreachable!("answered at once"),
        }
    }

    /// The node of a blob that is stored, or on its way and known to be so large.
    async fn lookup(&self, nodes: &Nodes<I>, digest: Digest, until_ns: u64) -> Result<Entered, Failure> {
        for _ in 0..TRIES_MAX {
            self.tier.load(&digest).await?;
            if let Some(size) = self.tier.size(&digest) {
                return self.enter_with_room(nodes, digest, size).await;
            }
            match self.arrive(nodes, &digest, until_ns).await? {
                Arrived::Stored => {}
                Arrived::Coming(arriving) => {
                    let entered = self.enter_with_room(nodes, digest, arriving.size).await?;
                    let node = entered.node.expect("entered");
                    if nodes.source(node, self.io().now_ns()).is_none() {
                        self.keep_source(nodes, node, Source::Arriving(Rc::new(arriving)));
                    }
                    return Ok(entered);
                }
                Arrived::Nowhere if self.tier.knows_all() => return Err(Failure::NoEntry),
                Arrived::Nowhere => return Err(Failure::io("it may be on a disk that does not work")),
            }
        }
        Err(Failure::io("it comes and goes"))
    }

    /// Waits until the kernel has forgotten some, but not for long.
    async fn enter_with_room(&self, nodes: &Nodes<I>, digest: Digest, size: u64) -> Result<Entered, Failure> {
        let until_ns = self.io().now_ns() + ROOM_NS;
        loop {
            match enter(nodes, digest, size) {
                Err(Failure::Full) if self.io().now_ns() < until_ns => self.io().sleep(ROOM_LOOK_NS).await,
                entered => return entered,
            }
        }
    }

    /// Keeps what a node is read from, and looks now and then whether it is still of use.
    pub(super) fn keep_source(&self, nodes: &Nodes<I>, node: u64, source: Source<I>) {
        nodes.set_source(node, Some(source), self.io().now_ns());
        self.shed_later(nodes);
    }

    /// A handle, if nothing has to be found out for it.
    fn open_now(&self, nodes: &Nodes<I>, node: u64, passthrough: bool, now_ns: u64) -> Option<OpenAs> {
        let inode = nodes.usable(node).ok().filter(|inode| !inode.is_unverified && self.fits(inode))?;
        let file = self.tier.file(&inode.digest);
        let is_packed = file.is_none() && self.tier.whole_size(&inode.digest).is_some();
        let given = file.filter(|(path, _)| passthrough && (nodes.hooks.is_given)(path));
        let version = given.map(|(_, version)| version);
        let opens = &mut *nodes.opens.borrow_mut();
        let is_known = match version {
            Some(version) => opens.has_backing(node, version),
            None => !opens.is_making(node) && (is_packed || opens.at(now_ns).source(node).is_some()),
        };
        if !is_known {
            return None;
        }
        let (decided, stale) = opens.at(now_ns).open(node, version);
        let opened = match decided {
            Decided::Cached => OpenAs::Cached,
            Decided::Backed(id) => OpenAs::Backed(id),
            Decided::MakeBacking | Decided::Wait => unreachable!("it has what it needs"),
        };
        // Of a file that is gone: what the handle will be read from was opened before.
        nodes.close(stale);
        nodes.inodes.borrow_mut().open(node);
        Some(opened)
    }

    async fn open(
        &self,
        nodes: &Nodes<I>,
        node: u64,
        passthrough: bool,
        until_ns: u64,
    ) -> Result<OpenAs, Failure> {
        loop {
            let inode = nodes.usable(node)?;
            if inode.is_unverified {
                self.settle(nodes, node)?;
            }
            if !self.fits(&inode) {
                nodes.retire(node, self.io().now_ns());
                return Err(Failure::Stale);
            }
            let is_given = |path: &Path| passthrough && (nodes.hooks.is_given)(path);
            let file = self.tier.file(&inode.digest).filter(|(path, _)| is_given(path));
            let version = file.as_ref().map(|&(_, version)| version);
            let (decided, stale) = nodes.opens.borrow_mut().at(self.io().now_ns()).open(node, version);
            nodes.close(stale);
            match decided {
                Decided::Backed(id) => {
                    nodes.inodes.borrow_mut().open(node);
                    return Ok(OpenAs::Backed(id));
                }
                Decided::MakeBacking => {
                    let (path, version) = file.expect("only a file is given away");
                    return Ok(OpenAs::MakeBacking(path, version));
                }
                Decided::Wait => {
                    let (give, made) = Oneshot::new();
                    nodes.making.borrow_mut().entry(node).or_default().push(give);
                    // Not for ever: the one who makes it may wait for room to say so, which those who wait here take.
                    let is_made = before(self.io(), until_ns, made).await;
                    is_made.ok_or_else(|| Failure::io("the kernel was not given its file in time"))?;
                }
                Decided::Cached => {
                    nodes.inodes.borrow_mut().open(node);
                    if let Err(failure) = self.find_source(nodes, node, &inode, until_ns).await {
                        nodes.release(node, self.io().now_ns());
                        return Err(failure);
                    }
                    return Ok(OpenAs::Cached);
                }
            }
        }
    }

    /// What a handle will be read from, so that it can be read when the blob is gone.
    async fn find_source(
        &self,
        nodes: &Nodes<I>,
        node: u64,
        inode: &Inode,
        until_ns: u64,
    ) -> Result<(), Failure> {
        let digest = &inode.digest;
        // A packed blob is cheap to find again; should it be deleted, `before_delete` keeps it.
        let is_packed = self.tier.whole_size(digest).is_some() && self.tier.file(digest).is_none();
        if is_packed || nodes.source(node, self.io().now_ns()).is_some() {
            return Ok(());
        }
        self.resolve(nodes, node, inode, until_ns).await.map(|_| ())
    }

    /// Whether the blob, if it is stored, has the size of the node.
    fn fits(&self, inode: &Inode) -> bool {
        self.tier.size(&inode.digest).is_none_or(|size| size == inode.size)
    }

    /// A blob is about to be deleted: handles that are open on it keep what they are read from.
    pub(crate) async fn before_delete(&self, digest: &Digest) {
        for nodes in (0..CONNECTIONS_MAX).filter_map(|n| self.nodes(n)) {
            let Some(node) = nodes.open_node(digest) else { continue };
            if let Ok(Some(found)) = self.tier.get(digest).await
                && !matches!(found, Found::Object(_))
                && nodes.inode(node).is_some_and(|inode| inode.size == found.size())
            {
                self.keep_source(nodes, node, Source::Held(found));
            }
        }
    }

    /// Lets go of what lies idle, for as long as there is any.
    pub(super) fn shed_later(&self, nodes: &Nodes<I>) {
        if nodes.opens.borrow().is_crowded() {
            self.shed(nodes);
        }
        if nodes.opens.borrow().is_empty() || nodes.shedding.replace(true) {
            return;
        }
        let (me, connection) = (self.me(), nodes.connection);
        self.io().spawn("mount-shed", async move {
            let nodes = me.nodes(connection).expect("a connection stays");
            while !nodes.opens.borrow().is_empty() {
                me.io().sleep(SHED_NS).await;
                me.shed(nodes);
            }
            nodes.shedding.set(false);
        });
    }

    fn shed(&self, nodes: &Nodes<I>) {
        self.settle_arrived(nodes);
        let inodes = nodes.inodes.borrow();
        let is_over = |idle: Idle<'_, Source<I>>| match (idle.backing, idle.source) {
            // The file that the kernel was given is not the blob's any more: its space is to come back.
            (Some(version), _) => {
                let digest = inodes.get(idle.node).map(|inode| inode.digest);
                digest.and_then(|d| self.tier.file(&d)).map(|(_, now)| now) != Some(version)
            }
            // As long as the kernel has bytes that are not verified somebody is to see how that ends.
            (None, Some(Source::Arriving(arriving))) => !arriving.is_served() && idle.idle_ns >= LINGER_NS,
            (None, _) => idle.idle_ns >= LINGER_NS,
        };
        let ids = nodes.opens.borrow_mut().at(self.io().now_ns()).shed(is_over);
        drop(inodes);
        nodes.close(ids);
    }

    /// Looks how fetches ended whose bytes the kernel was given.
    fn settle_arrived(&self, nodes: &Nodes<I>) {
        let ended: Vec<u64> = {
            let opens = nodes.opens.borrow();
            let arriving = opens.sources().filter_map(|(node, source)| match source {
                Source::Arriving(arriving) if arriving.ending() != Ending::NotYet => Some(node),
                _ => None,
            });
            arriving.collect()
        };
        for node in ended {
            // Whoever reads next is told.
            let _ = self.settle(nodes, node);
        }
    }

    /// Looks how a fetch ended, or that its end was missed.
    pub(super) fn settle(&self, nodes: &Nodes<I>, node: u64) -> Result<(), Failure> {
        let now_ns = self.io().now_ns();
        let inode = nodes.usable(node)?;
        let ending = match nodes.source(node, now_ns) {
            Some(Source::Arriving(arriving)) => arriving.ending(),
            _ if inode.is_unverified => Ending::Badly,
            _ => return Ok(()),
        };
        match ending {
            Ending::NotYet => Ok(()),
            Ending::Well => {
                nodes.set_unverified(node, false);
                nodes.set_source(node, None, now_ns);
                Ok(())
            }
            Ending::Badly if inode.is_unverified => {
                nodes.retire(node, now_ns);
                Err(Failure::Stale)
            }
            Ending::Badly => {
                nodes.set_source(node, None, now_ns);
                Ok(())
            }
        }
    }
}

fn enter<I: Io>(nodes: &Nodes<I>, digest: Digest, size: u64) -> Result<Entered, Failure> {
    let entered = nodes.enter(digest, size, For::Name);
    if entered.node.is_some() { Ok(entered) } else { Err(Failure::Full) }
}
