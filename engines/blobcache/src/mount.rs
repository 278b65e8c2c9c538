//! Blobs as files: what the kernel asks of a mount, answered from the tier.
//!
//! | file | holds |
//! |---|---|
//! | `tree` | pure: names, nodes of directories, attributes, cookies |
//! | `inodes`, `opens` | pure, on the owner: nodes and lookups; modes, backing ids and sources of open nodes |
//! | `nodes` | the owner's part of a connection: lookups, opens, what ends them |
//! | `read`, `origin` | bytes on the owner: RAM, disk, verified; from an origin as they arrive |
//! | `ask`, `data`, `failure` | what travels between columns |
//! | `listing`, `answer`, `deadline` | pages of directories; the reply and what undoes it; waiting, but not for ever |
//!
//! Called by whoever serves a connection, on any column: request → [`Mount::begin`] → an [`Answer`], or a [`Later`] for
//! [`Mount::finish`] → [`Answer::send`]. The node says which column owns the blob (`inodes`): that one is asked, in one hop.
//!
//! Path of a read: `begin` finds the owner from the node → here: `node_now`, which answers from RAM (arena bytes or pinned pages);
//! else one message → `read` on the owner: RAM, or its open file, verified, or what has arrived from the origin → the bytes
//! come back where they are, without a copy, and are written to the kernel from there.
//!
//! Path of an open: `opens` decides the mode → cached, or in passthrough mode with a backing id. The first open of a file says
//! [`Answer::backing_file`]: who serves the connection makes the id (it has the device) and says so by [`Mount::on_backing`]; the
//! owner keeps the id for later opens and says when to close it (`Hooks::close_backing`).
//!
//! Invariants
//! 1. Nothing is changed by a mount: every operation that would is EROFS.
//! 2. Every request is answered within [`DEADLINE_NS`], so that no client hangs for longer; what is late is EIO, and one
//!    line in the log.
//! 3. A future of `finish` may be dropped at any time (the client was interrupted); nothing leaks.
//! 4. OPENDIR is answered, with nothing to keep: refused with ENOSYS, the kernel would keep the pages of a directory for ever.

pub mod answer;
pub mod ask;
mod data;
mod deadline;
mod failure;
mod inodes;
mod listing;
pub mod nodes;
mod opens;
mod origin;
mod read;
pub mod tree;

pub use answer::Answer;
pub use tree::Looks;

use crate::api::{Reply as OwnerReply, Request as OwnerRequest};
use crate::metrics::mount::{Requests, Timed};
use crate::shard::Columns;
use answer::{Asked, Body, Held};
use ask::{First, NodeReply, NodeRequest, OpenAs, Read};
use deadline::within;
use failure::Failure;
use fuse_lowlevel::wire::flags::open as fopen;
use fuse_lowlevel::{Opened, Operation, Reply, Request, StatFs};
use inodes::{Inode, shard_of};
use listing::Page;
use nodes::Hooks;
use runtime::io::Io;
use runtime::oneshot::Oneshot;
use runtime::shards::Shard;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use tree::Named;

/// How long a request may take. The kernel's own limit (REQUEST_TIMEOUT), which ends the whole connection, is to be above.
pub const DEADLINE_NS: u64 = 40_000_000_000;
/// What the owner may take less, so that it is the one that says why.
const OWNER_SLACK_NS: u64 = 1_000_000_000;
/// Until a column that is busy is asked again.
const BUSY_NS: u64 = 1_000_000;
/// A node whose failure was logged is not logged again for so long; of so many nodes.
const QUIET_NS: u64 = 10_000_000_000;
const QUIET_MAX: usize = 64;
/// Of statfs(2).
const STAT_BLOCK_BYTES: u64 = 4096;
const NAME_BYTES_MAX: u32 = 255;

/// Which of a node's mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `--mount`: has handles; the kernel may be given files.
    Handles {
        /// Whether it was agreed with the kernel, and `--verify` allows it.
        passthrough: bool,
    },
    /// `--mount-ro`: has no handles.
    Immutable,
}

/// What a column is told of a mount.
pub struct Options {
    /// Its number, below `ask::CONNECTIONS_MAX`.
    pub connection: usize,
    /// Which.
    pub kind: Kind,
    /// Who owns everything.
    pub looks: Looks,
    /// How requests come: a label of the metrics.
    pub rung: &'static str,
    /// For the owner's part.
    pub hooks: Hooks,
}

/// One connection as one column sees it.
pub struct Mount<I: Io> {
    columns: Rc<Columns<I>>,
    connection: usize,
    kind: Kind,
    looks: Looks,
    requests: Requests,
    /// Nodes whose failures were logged, and when.
    logged: RefCell<VecDeque<(u64, u64)>>,
}

/// What became of a request at once.
pub enum Begun<I: Io> {
    /// It is answered.
    Done(Answer<I>),
    /// It has to wait: [`Mount::finish`] it, as one task among many.
    Later(Later),
}

/// A request that has to wait.
pub struct Later {
    asked: Asked,
    until_ns: u64,
    what: Wait,
}

enum Wait {
    /// For the owner of a shard.
    Owner(Shard, NodeRequest, Wanted),
    /// For all columns.
    Listing(Page),
    /// For columns to hear that nodes are forgotten.
    Forget(BTreeMap<usize, Vec<(u64, u64)>>),
}

/// What is made of the owner's reply.
#[derive(Clone, Copy, Debug)]
enum Wanted {
    Entry,
    Attributes,
    /// A handle of that node.
    Handle(u64),
    /// Bytes of that node.
    Data(u64),
    /// The digest as an xattr, for so much room.
    Digest(u32),
    /// The list of xattrs, the same.
    XattrList(u32),
    /// From an offset, data or hole.
    Seek(u64, u32),
    /// No more than that it is done.
    Done,
}

impl<I: Io> Mount<I> {
    /// The mount on this column; once per connection, on every column before the first request on any.
    pub fn new(columns: Rc<Columns<I>>, options: Options) -> Rc<Mount<I>> {
        let Options { connection, kind, looks, rung, hooks } = options;
        columns.local().mount(connection, hooks);
        let requests = columns.local().metrics.requests(rung);
        Rc::new(Mount { columns, connection, kind, looks, requests, logged: RefCell::default() })
    }

    /// The connection has ended: drops what this column owns of it.
    pub fn end(&self) {
        if let Some(nodes) = self.columns.local().nodes(self.connection) {
            nodes.clear();
        }
    }

    /// What the kernel holds of this column's blobs: nodes, lookups, handles, backing ids.
    pub fn held(&self) -> [u64; 4] {
        self.columns.local().nodes(self.connection).map_or([0; 4], nodes::Nodes::counts)
    }

    fn columns(&self) -> &Columns<I> {
        &self.columns
    }

    fn connection(&self) -> usize {
        self.connection
    }

    fn looks(&self) -> &Looks {
        &self.looks
    }

    fn io(&self) -> &I {
        self.columns.local().io()
    }

    /// Answers a request, or says what it has to wait for.
    pub fn begin(self: &Rc<Self>, request: &Request<'_>) -> Begun<I> {
        self.requests.on_request(request.opcode, request.name());
        let timed = match request.operation {
            Operation::Read(_) => Timed::Read,
            Operation::Lookup { .. } => Timed::Lookup,
            Operation::GetAttr { .. } => Timed::GetAttr,
            _ => Timed::Other,
        };
        let asked = Asked { at_ns: self.io().now_ns(), timed };
        let body = if request.operation.modifies() {
            Err(libc::EROFS)
        } else {
            match self.of_tree(asked, request) {
                Ok(begun) => return begun,
                Err(done) => done,
            }
        };
        let body = match body {
            Ok(body) => body,
            Err(errno) => Body::Reply(Reply::Error(errno)),
        };
        Begun::Done(Answer::new(self, asked, body, Held::Nothing))
    }

    /// What needs a blob, and otherwise the answer.
    fn of_tree(self: &Rc<Self>, asked: Asked, request: &Request<'_>) -> Result<Begun<I>, Result<Body, i32>> {
        let node = request.node;
        let until_ns = asked.at_ns + DEADLINE_NS - OWNER_SLACK_NS;
        let of_blob = |what, wanted| Ok(self.ask(asked, Shard(shard_of(node)), what, wanted));
        let reply = |reply| Err(Ok(Body::Reply(reply)));
        let is_blob = tree::is_blob(node);
        match request.operation {
            Operation::Lookup { name } => match tree::resolve(node, name) {
                Named::Directory(found) => reply(Reply::Entry(self.directory_entry(found))),
                Named::Blob(digest) => {
                    let lookup = NodeRequest::Lookup(digest, until_ns);
                    Ok(self.ask(asked, digest.shard(), lookup, Wanted::Entry))
                }
                Named::Nothing => reply(Reply::NoEntry(tree::NEGATIVE_TIMEOUT)),
            },
            Operation::Forget { lookups } => self.forget(asked, [(node, lookups)].into_iter()),
            Operation::BatchForget(nodes) => {
                self.forget(asked, nodes.map(|forgotten| (forgotten.nodeid, forgotten.nlookup)))
            }
            Operation::GetAttr { .. } if is_blob => of_blob(NodeRequest::Inode(node), Wanted::Attributes),
            Operation::GetAttr { .. } if tree::is_directory(node) => {
                reply(Reply::Attributes(self.looks.directory(node), tree::TIMEOUT))
            }
            Operation::GetXattr { name, size_bytes } if is_blob && name == tree::DIGEST_XATTR => {
                of_blob(NodeRequest::Inode(node), Wanted::Digest(size_bytes))
            }
            Operation::GetXattr { .. } => Err(Err(libc::ENODATA)),
            Operation::ListXattr { size_bytes } if is_blob => {
                of_blob(NodeRequest::Inode(node), Wanted::XattrList(size_bytes))
            }
            Operation::ListXattr { size_bytes } => Err(xattr(&[], size_bytes)),
            Operation::Open { .. } if is_blob => match self.kind {
                Kind::Immutable => Err(Err(libc::ENOSYS)),
                Kind::Handles { passthrough } => {
                    of_blob(NodeRequest::Open { node, passthrough, until_ns }, Wanted::Handle(node))
                }
            },
            Operation::Read(read) if is_blob => {
                let range = read.offset..read.offset.saturating_add(u64::from(read.size_bytes));
                let read = Read { node, range, until_ns, first: First::Unknown };
                of_blob(NodeRequest::Read(read), Wanted::Data(node))
            }
            Operation::Lseek { offset, whence, .. } if is_blob => {
                of_blob(NodeRequest::Inode(node), Wanted::Seek(offset, whence))
            }
            Operation::Release(_) if is_blob => of_blob(NodeRequest::Release(node), Wanted::Done),
            Operation::ReadDir(read) | Operation::ReadDirPlus(read) if tree::is_directory(node) => {
                let plus = matches!(request.operation, Operation::ReadDirPlus(_));
                let size_bytes = read.size_bytes as usize;
                let page = Page { directory: node, cookie: read.offset, size_bytes, plus };
                Ok(Begun::Later(Later { asked, until_ns, what: Wait::Listing(page) }))
            }
            ref other => Err(self.of_none(other, node)),
        }
    }

    /// What no blob is needed for.
    fn of_none(&self, operation: &Operation<'_>, node: u64) -> Result<Body, i32> {
        match operation {
            Operation::Interrupt { .. } | Operation::NotifyReply { .. } => Ok(Body::Silence),
            Operation::StatFs => Ok(Body::Reply(Reply::StatFs(self.stat()))),
            Operation::OpenDir { .. } if tree::is_directory(node) => {
                Ok(Body::Reply(Reply::Opened(Opened::default())))
            }
            Operation::Flush { .. } if self.kind == Kind::Immutable => Err(libc::ENOSYS),
            // Nothing was written, so nothing is unwritten.
            Operation::Flush { .. } | Operation::Fsync { .. } | Operation::FsyncDir { .. } => {
                Ok(Body::Reply(Reply::Empty))
            }
            Operation::SyncFs | Operation::ReleaseDir(_) | Operation::Destroy => {
                Ok(Body::Reply(Reply::Empty))
            }
            Operation::ReadLink => Err(libc::EINVAL),
            Operation::GetAttr { .. } => Err(libc::ESTALE),
            Operation::OpenDir { .. } | Operation::ReadDir(_) | Operation::ReadDirPlus(_) => {
                Err(libc::ENOTDIR)
            }
            Operation::Open { .. } | Operation::Read(_) => Err(libc::EISDIR),
            // Unknown ones, and those that a read-only tree of files has no use for.
            _ => Err(libc::ENOSYS),
        }
    }

    fn stat(&self) -> StatFs {
        let (used_bytes, quota_bytes) = self.columns.local().tier.disk_usage();
        let blocks_free = quota_bytes.saturating_sub(used_bytes) / STAT_BLOCK_BYTES;
        StatFs {
            blocks: quota_bytes / STAT_BLOCK_BYTES,
            blocks_free,
            blocks_available: blocks_free,
            files: 0,
            files_free: 0,
            block_bytes: STAT_BLOCK_BYTES as u32,
            name_bytes_max: NAME_BYTES_MAX,
        }
    }

    /// Asks the owner at once if it is here.
    fn ask(self: &Rc<Self>, asked: Asked, shard: Shard, what: NodeRequest, wanted: Wanted) -> Begun<I> {
        match self.columns.ask_now(shard, OwnerRequest::Node(self.connection, what)) {
            Ok(OwnerReply::Node(reply)) => Begun::Done(self.conclude(asked, wanted, reply)),
            Err(OwnerRequest::Node(_, what)) => {
                let until_ns = asked.at_ns + DEADLINE_NS;
                Begun::Later(Later { asked, until_ns, what: Wait::Owner(shard, what, wanted) })
            }
            _ => unreachable!("what is asked of a node is answered or given back"),
        }
    }

    fn forget(
        self: &Rc<Self>,
        asked: Asked,
        nodes: impl Iterator<Item = (u64, u64)>,
    ) -> Result<Begun<I>, Result<Body, i32>> {
        let mut others = self.by_owner(nodes);
        if let Some(ours) = others.remove(&self.columns.here()) {
            // Cannot fail and does not wait.
            let _ = self.columns.local().node_now(self.connection, NodeRequest::Forget(ours));
        }
        if others.is_empty() {
            return Err(Ok(Body::Silence));
        }
        let until_ns = asked.at_ns + DEADLINE_NS;
        Ok(Begun::Later(Later { asked, until_ns, what: Wait::Forget(others) }))
    }

    fn by_owner(&self, nodes: impl Iterator<Item = (u64, u64)>) -> BTreeMap<usize, Vec<(u64, u64)>> {
        let mut by_owner: BTreeMap<usize, Vec<(u64, u64)>> = BTreeMap::new();
        for (node, count) in nodes.filter(|&(node, _)| tree::is_blob(node)) {
            by_owner.entry(self.columns.owner_of(Shard(shard_of(node)))).or_default().push((node, count));
        }
        by_owner
    }

    /// Answers what had to wait. May be dropped before that.
    pub async fn finish(self: &Rc<Self>, later: Later) -> Answer<I> {
        let Later { asked, until_ns, what } = later;
        // In a task of its own: what was begun on the owner ends, and is undone here if nobody wants it any more.
        let (give, answer) = Oneshot::new();
        let me = self.clone();
        self.io().spawn("mount", async move { give.set(me.wait(asked, until_ns, what).await) });
        match within(self.io(), until_ns, answer).await {
            Some(answer) => answer,
            None => self.failed(asked, 0, &Failure::io("no answer in time")),
        }
    }

    async fn wait(self: &Rc<Self>, asked: Asked, until_ns: u64, what: Wait) -> Answer<I> {
        match what {
            Wait::Owner(shard, what, wanted) => {
                let column = self.columns.owner_of(shard);
                let reply = self.ask_column(column, what, until_ns).await;
                self.conclude(asked, wanted, reply)
            }
            Wait::Listing(page) => match self.list(page).await {
                Ok((page, nodes)) => Answer::new(self, asked, Body::Text(page), Held::Lookups(nodes)),
                Err(failure) => self.failed(asked, page.directory, &failure),
            },
            Wait::Forget(others) => {
                for (column, nodes) in others {
                    self.ask_column(column, NodeRequest::Forget(nodes), u64::MAX).await;
                }
                Answer::new(self, asked, Body::Silence, Held::Nothing)
            }
        }
    }

    /// Asks a column, again while it is busy. What it hears must not be lost, so a request that is not heard is made anew.
    async fn ask_column(&self, column: usize, what: NodeRequest, until_ns: u64) -> NodeReply {
        let mut request = OwnerRequest::Node(self.connection, what);
        loop {
            match self.columns.ask_column_back(column, request).await {
                Ok(OwnerReply::Node(reply)) => return reply,
                Ok(_) => unreachable!("a node request has its own reply"),
                Err(_) if self.io().now_ns() >= until_ns => return NodeReply::Unmounted,
                Err(back) => {
                    request = back;
                    self.io().sleep(BUSY_NS).await;
                }
            }
        }
    }

    /// Makes the answer of what the owner said.
    fn conclude(self: &Rc<Self>, asked: Asked, wanted: Wanted, reply: NodeReply) -> Answer<I> {
        let done = |reply, held| Answer::new(self, asked, Body::Reply(reply), held);
        match (wanted, reply) {
            (Wanted::Entry, NodeReply::Entered(Ok(entered))) => {
                let node = entered.node.expect("a lookup enters or fails");
                let entry = self.entry_of(node, self.looks.blob(&entered.digest, entered.size));
                done(Reply::Entry(entry), Held::Lookups(vec![node]))
            }
            (Wanted::Entry, NodeReply::Entered(Err(Failure::NoEntry))) => {
                done(Reply::NoEntry(tree::NEGATIVE_TIMEOUT), Held::Nothing)
            }
            (Wanted::Entry, NodeReply::Entered(Err(failure))) => self.failed(asked, 0, &failure),
            (Wanted::Handle(node), NodeReply::Opened(opened)) => match opened {
                Ok(OpenAs::Cached) => done(Reply::Opened(cached()), Held::Handle(node)),
                Ok(OpenAs::Backed(id)) => done(Reply::Opened(backed(id)), Held::Handle(node)),
                Ok(OpenAs::MakeBacking(path, version)) => {
                    Answer::new(self, asked, Body::MakeBacking(path, version), Held::Making(node))
                }
                Err(failure) => self.failed(asked, node, &failure),
            },
            (Wanted::Data(_), NodeReply::Data(Ok(data))) => {
                Answer::new(self, asked, Body::Data(data), Held::Nothing)
            }
            (Wanted::Data(node), NodeReply::Data(Err(failure))) => {
                // A reader can do nothing about a node that is not to be used any more.
                self.failed(asked, node, &Failure::io(failure))
            }
            (_, NodeReply::Inode(Some(inode))) => {
                let body =
                    self.of_inode(wanted, &inode).unwrap_or_else(|errno| Body::Reply(Reply::Error(errno)));
                Answer::new(self, asked, body, Held::Nothing)
            }
            (_, NodeReply::Inode(None)) => done(Reply::Error(libc::ESTALE), Held::Nothing),
            (Wanted::Done, NodeReply::Noted) => done(Reply::Empty, Held::Nothing),
            (_, NodeReply::Unmounted) => self.failed(asked, 0, &Failure::io("the owner does not answer")),
            (wanted, _) => unreachable!("another reply to {wanted:?}"),
        }
    }

    fn of_inode(&self, wanted: Wanted, inode: &Inode) -> Result<Body, i32> {
        match wanted {
            Wanted::Attributes => {
                let attributes = self.looks.blob(&inode.digest, inode.size);
                Ok(Body::Reply(Reply::Attributes(attributes, tree::TIMEOUT)))
            }
            Wanted::Digest(room) => xattr(inode.digest.to_string().as_bytes(), room),
            Wanted::XattrList(room) => xattr(tree::XATTR_LIST, room),
            Wanted::Seek(offset, whence) => match tree::seek(offset, inode.size, whence) {
                Some(Ok(at)) => Ok(Body::Reply(Reply::Offset(at))),
                Some(Err(_)) => Err(libc::EINVAL),
                None => Err(libc::ENXIO),
            },
            wanted => unreachable!("{wanted:?} is not made of an inode"),
        }
    }

    /// What came of [`Answer::backing_file`]: the kernel gets the file if it could be given it, else us.
    pub async fn on_backing(self: &Rc<Self>, answer: Answer<I>, made: std::io::Result<i32>) -> Answer<I> {
        let (asked, passthrough) = (answer.asked(), false);
        let until_ns = asked.at_ns + DEADLINE_NS;
        let (node, version) = answer.take_making().expect("a backing id was asked for");
        let owner = Shard(shard_of(node));
        let id = made.inspect_err(|error| tracing::debug!(node, %error, "no backing id")).ok();
        let told = NodeRequest::Made(node, id.map(|id| (id, version)));
        let kept = self.ask_column(self.columns.owner_of(owner), told, u64::MAX).await;
        match (kept, id) {
            (NodeReply::Kept(true), Some(id)) => {
                Answer::new(self, asked, Body::Reply(Reply::Opened(backed(id))), Held::Handle(node))
            }
            (_, id) => {
                if let (Some(id), Some(nodes)) = (id, self.columns.local().nodes(self.connection)) {
                    (nodes.hooks.close_backing)(id);
                }
                let open = NodeRequest::Open { node, passthrough, until_ns };
                let what = Wait::Owner(owner, open, Wanted::Handle(node));
                self.finish(Later { asked, until_ns, what }).await
            }
        }
    }

    fn failed(self: &Rc<Self>, asked: Asked, node: u64, failure: &Failure) -> Answer<I> {
        if let Failure::Io(why) = failure {
            self.log(node, why);
        }
        Answer::new(self, asked, Body::Reply(Reply::Error(failure.errno())), Held::Nothing)
    }

    /// One line for what fails: the kernel asks more than once.
    fn log(&self, node: u64, why: &str) {
        let now_ns = self.io().now_ns();
        let logged = &mut *self.logged.borrow_mut();
        logged.retain(|&(_, at_ns)| now_ns < at_ns + QUIET_NS);
        if logged.iter().any(|&(known, _)| known == node) || logged.len() >= QUIET_MAX {
            return;
        }
        logged.push_back((node, now_ns));
        tracing::warn!(connection = self.connection, node, why, "a request of a mount failed");
    }

    fn on_answered(&self, asked: Asked, is_error: bool) {
        self.requests.on_answered(asked.timed, self.io().now_ns() - asked.at_ns, is_error);
    }

    /// Tells the owner of a node, who is to hear it.
    fn tell_later(&self, node: u64, what: NodeRequest) {
        let (columns, connection) = (self.columns.clone(), self.connection);
        let column = columns.owner_of(Shard(shard_of(node)));
        self.io().spawn("mount-undo", async move { tell(&columns, connection, column, what).await });
    }

    /// The kernel does not know of these lookups.
    fn forget_later(&self, nodes: Vec<(u64, u64)>) {
        for (column, nodes) in self.by_owner(nodes.into_iter()) {
            let (columns, connection) = (self.columns.clone(), self.connection);
            let what = NodeRequest::Forget(nodes);
            self.io().spawn("mount-undo", async move { tell(&columns, connection, column, what).await });
        }
    }
}

async fn tell<I: Io>(columns: &Columns<I>, connection: usize, column: usize, what: NodeRequest) {
    let mut request = OwnerRequest::Node(connection, what);
    while let Err(back) = columns.ask_column_back(column, request).await {
        request = back;
        columns.local().io().sleep(BUSY_NS).await;
    }
}

fn cached() -> Opened {
    Opened { handle: 0, flags: fopen::KEEP_CACHE | fopen::NOFLUSH, backing_id: 0 }
}

fn backed(id: i32) -> Opened {
    Opened { handle: 0, flags: fopen::PASSTHROUGH | fopen::NOFLUSH, backing_id: id }
}

/// An xattr, or the list of them, for a caller who has so much room; 0: who asks how much is needed.
fn xattr(value: &[u8], room: u32) -> Result<Body, i32> {
    match room as usize {
        0 => Ok(Body::Reply(Reply::XattrSize(value.len() as u32))),
        room if room < value.len() => Err(libc::ERANGE),
        _ => Ok(Body::Text(value.to_vec())),
    }
}
