//! Blobs as files: what the kernel asks of a mount, answered from the tier.
//!
//! | file | holds |
//! |---|---|
//! | `tree` | pure: names, nodes of directories, attributes, cookies |
//! | `inodes`, `opens`, `told` | pure, on the owner: nodes and lookups; modes, backing ids and sources of open nodes; handles that others tell of |
//! | `nodes` | the owner's part of a connection: lookups, opens, what ends them |
//! | `read`, `origin` | bytes on the owner: RAM, disk, verified; from an origin as they arrive |
//! | `near` | pages that were answered of late, on any column |
//! | `ask`, `data`, `failure` | what travels between columns |
//! | `wait`, `listing` | what cannot be answered at once; pages of directories |
//! | `lines` | pure: what has its line in the log |
//! | `answer` | the reply and what undoes it |
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
//! owner keeps the id for later opens and says when to close it (`Hooks::close_backing`). A small file of another column is opened
//! at once, and its owner told.
//!
//! Invariants
//! 1. Nothing is changed by a mount: every operation that would is EROFS.
//! 2. Every request is answered within [`DEADLINE_NS`] of when it came here, so that no client hangs for longer; what is late is
//!    EIO, and one line in the log. That the kernel does not keep it for long before that is up to whoever serves the connection.
//! 3. A future of `finish` may be dropped at any time (the client was interrupted); nothing leaks.
//! 4. OPENDIR is answered, with nothing to keep: refused with ENOSYS, the kernel would keep the pages of a directory for ever.

pub mod answer;
pub mod ask;
mod data;
mod failure;
mod inodes;
mod lines;
mod listing;
mod near;
pub mod nodes;
mod opens;
mod origin;
mod read;
mod told;
pub mod tree;
mod wait;

pub use answer::Answer;
pub use tree::Looks;
pub use wait::Later;

use crate::api::{Reply as OwnerReply, Request as OwnerRequest};
use crate::metrics::mount::{Requests, Timed};
use crate::metrics::reads::Level;
use crate::shard::Columns;
use answer::{Asked, Body, Held};
use ask::{First, NodeRequest, Read};
use data::Data;
use fuse_lowlevel::{Opened, Operation, Reply, Request, StatFs};
use inodes::{is_small, shard_of};
use lines::{About, Lines};
use listing::Page;
use near::Near;
use nodes::Hooks;
use runtime::io::Io;
use runtime::resident::Observed;
use runtime::shards::Shard;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use tree::Named;
use wait::{Wait, Wanted, cached, xattr};

/// How long a request may take. The kernel's own limit (REQUEST_TIMEOUT), which ends the whole connection, is to be above.
pub const DEADLINE_NS: u64 = 40_000_000_000;
/// What the owner may take less, so that it is the one that says why.
const OWNER_SLACK_NS: u64 = 1_000_000_000;
/// Until a column that is busy is asked again.
const BUSY_NS: u64 = 1_000_000;
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
}

/// One connection as one column sees it.
pub struct Mount<I: Io> {
    columns: Rc<Columns<I>>,
    connection: usize,
    kind: Kind,
    looks: Looks,
    requests: Requests,
    near: RefCell<Near<Observed>>,
    /// Handles given out here without asking.
    opened_total: Cell<u64>,
    lines: RefCell<Lines>,
}

/// What a request needs.
enum Sorted<I: Io> {
    /// A blob, or a page: that has begun.
    Begun(Begun<I>),
    /// Nothing more.
    Known(Result<Body, i32>),
}

/// What became of a request at once.
#[allow(clippy::large_enum_variant, reason = "most are answered at once, which is to cost no allocation")]
pub enum Begun<I: Io> {
    /// It is answered.
    Done(Answer<I>),
    /// It has to wait: [`Mount::finish`] it, as one task among many.
    Later(Later),
}

impl<I: Io> Mount<I> {
    /// This column's part in owning what a connection asks for; once per connection, on every column before the first request on any.
    pub fn own(columns: &Columns<I>, connection: usize, hooks: Hooks) {
        columns.local().mount(connection, hooks);
    }

    /// The mount on this column, once it is owned on all.
    pub fn new(columns: Rc<Columns<I>>, options: Options) -> Rc<Mount<I>> {
        let Options { connection, kind, looks, rung } = options;
        let requests = columns.local().metrics.requests(rung);
        Rc::new(Mount {
            columns,
            connection,
            kind,
            looks,
            requests,
            near: RefCell::default(),
            opened_total: Cell::new(0),
            lines: RefCell::default(),
        })
    }

    /// The connection has ended: drops what this column owns of it.
    pub fn end(&self) {
        self.near.borrow_mut().clear();
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
        let asked = Asked { at_ns: self.io().now_ns(), timed, about: About::Node(request.node) };
        let body = if request.operation.modifies() {
            Err(libc::EROFS)
        } else {
            match self.of_tree(asked, request) {
                Sorted::Begun(begun) => return begun,
                Sorted::Known(body) => body,
            }
        };
        let body = match body {
            Ok(body) => body,
            Err(errno) => Body::Reply(Reply::Error(errno)),
        };
        Begun::Done(Answer::new(self, asked, body, Held::Nothing))
    }

    /// What needs a blob, and otherwise the answer.
    fn of_tree(self: &Rc<Self>, asked: Asked, request: &Request<'_>) -> Sorted<I> {
        let node = request.node;
        let until_ns = asked.at_ns + DEADLINE_NS - OWNER_SLACK_NS;
        let of_blob = |what, wanted| Sorted::Begun(self.ask(asked, Shard(shard_of(node)), what, wanted));
        let reply = |reply| Sorted::Known(Ok(Body::Reply(reply)));
        let is_blob = tree::is_blob(node);
        match request.operation {
            Operation::Lookup { name } => match tree::resolve(node, name) {
                Named::Directory(found) => reply(Reply::Entry(self.directory_entry(found))),
                Named::Blob(digest) => {
                    let lookup = NodeRequest::Lookup(digest, until_ns);
                    let asked = Asked { about: About::Blob(digest), ..asked };
                    Sorted::Begun(self.ask(asked, digest.shard(), lookup, Wanted::Entry))
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
            Operation::GetXattr { .. } => Sorted::Known(Err(libc::ENODATA)),
            Operation::ListXattr { size_bytes } if is_blob => {
                of_blob(NodeRequest::Inode(node), Wanted::XattrList(size_bytes))
            }
            Operation::ListXattr { size_bytes } => Sorted::Known(xattr(&[], size_bytes)),
            Operation::Open { .. } if is_blob => match self.kind {
                Kind::Immutable => Sorted::Known(Err(libc::ENOSYS)),
                Kind::Handles { .. } if is_small(node) && !self.is_owner(node) => {
                    Sorted::Begun(self.open_small(asked, node))
                }
                Kind::Handles { passthrough } => {
                    of_blob(NodeRequest::Open { node, passthrough, until_ns }, Wanted::Handle(node))
                }
            },
            Operation::Read(read) if is_blob => {
                let (offset, size_bytes) = (read.offset, u64::from(read.size_bytes));
                if let Some(answer) = self.from_near(asked, node, offset, size_bytes) {
                    return Sorted::Begun(Begun::Done(answer));
                }
                let range = offset..offset.saturating_add(size_bytes);
                let read = Read { node, range, until_ns, first: First::Unknown };
                of_blob(NodeRequest::Read(read), Wanted::Data(node, offset))
            }
            Operation::Lseek { offset, whence, .. } if is_blob => {
                of_blob(NodeRequest::Inode(node), Wanted::Seek(offset, whence))
            }
            // Nobody waits for the owner to hear it.
            Operation::Release(released) if is_blob && released.handle != 0 => {
                self.tell_later(node, NodeRequest::Release(node, released.handle));
                reply(Reply::Empty)
            }
            Operation::Release(_) if is_blob => of_blob(NodeRequest::Release(node, 0), Wanted::Done),
            Operation::ReadDir(read) | Operation::ReadDirPlus(read) if tree::is_directory(node) => {
                let plus = matches!(request.operation, Operation::ReadDirPlus(_));
                let size_bytes = read.size_bytes as usize;
                let page = Page { directory: node, cookie: read.offset, size_bytes, plus };
                Sorted::Begun(Begun::Later(Later { asked, until_ns, what: Wait::Listing(page) }))
            }
            ref other => Sorted::Known(self.of_none(other, node)),
        }
    }

    /// Answers a read from pages that this column was given of late. Counted here, as the owner does not hear of it.
    fn from_near(self: &Rc<Self>, asked: Asked, node: u64, offset: u64, size: u64) -> Option<Answer<I>> {
        let near = &mut *self.near.borrow_mut();
        let (pages, range) = near.find(node, offset, size, asked.at_ns)?;
        let data = Data::Pages(pages.resident()?, range);
        let owner = self.columns.local();
        owner.tier.on_shared();
        owner.metrics.mount.on_read(Level::Ram, size);
        Some(Answer::new(self, asked, Body::Data(data), Held::Nothing))
    }

    /// What the next reads nearby can be answered from.
    fn note_near(&self, asked: Asked, node: u64, offset: u64, data: &Data) {
        if let Data::Pages(pages, range) = data {
            let near = &mut *self.near.borrow_mut();
            near.note(node, offset, range.len(), (pages.observe(), pages.len()), asked.at_ns);
        }
    }

    fn is_owner(&self, node: u64) -> bool {
        self.columns.owner_of(Shard(shard_of(node))) == self.columns.here()
    }

    /// Opens a small file of another column: only one answer is possible, so its owner is told and not asked.
    fn open_small(self: &Rc<Self>, asked: Asked, node: u64) -> Begun<I> {
        let number = self.opened_total.get() + 1;
        self.opened_total.set(number);
        // Of this column, so that no two are alike; and never 0.
        let handle = (self.columns.here() as u64 + 1) << 48 | number;
        self.tell_later(node, NodeRequest::Opened(node, handle));
        let opened = Body::Reply(Reply::Opened(cached(handle)));
        Begun::Done(Answer::new(self, asked, opened, Held::Handle(node, handle)))
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

    fn forget(self: &Rc<Self>, asked: Asked, nodes: impl Iterator<Item = (u64, u64)>) -> Sorted<I> {
        let mut others = self.by_owner(nodes);
        if let Some(ours) = others.remove(&self.columns.here()) {
            // Cannot fail and does not wait.
            let _ = self.columns.local().node_now(self.connection, NodeRequest::Forget(ours));
        }
        if others.is_empty() {
            return Sorted::Known(Ok(Body::Silence));
        }
        let until_ns = asked.at_ns + DEADLINE_NS;
        Sorted::Begun(Begun::Later(Later { asked, until_ns, what: Wait::Forget(others) }))
    }

    fn by_owner(&self, nodes: impl Iterator<Item = (u64, u64)>) -> BTreeMap<usize, Vec<(u64, u64)>> {
        let mut by_owner: BTreeMap<usize, Vec<(u64, u64)>> = BTreeMap::new();
        for (node, count) in nodes.filter(|&(node, _)| tree::is_blob(node)) {
            by_owner.entry(self.columns.owner_of(Shard(shard_of(node)))).or_default().push((node, count));
        }
        by_owner
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
