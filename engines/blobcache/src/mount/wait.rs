//! Requests of a mount that have to wait for another column, a disk or an origin; and what is made of the owner's reply. Called by
//! `mount`, on the column that the request came to.
//!
//! Invariant: what was begun on an owner is taken to its end in a task of its own; its answer, if nobody wants it any more, undoes
//! itself (`answer`).

use super::answer::{Answer, Asked, Body, Held};
use super::ask::{NodeReply, NodeRequest, OpenAs};
use super::failure::Failure;
use super::inodes::{Inode, shard_of};
use super::lines::About;
use super::listing::Page;
use super::{BUSY_NS, DEADLINE_NS, Mount, OwnerReply, OwnerRequest, tree};
use fuse_lowlevel::wire::flags::open as fopen;
use fuse_lowlevel::{Opened, Reply};
use runtime::io::Io;
use runtime::oneshot::Oneshot;
use runtime::patience::before;
use runtime::shards::Shard;
use runtime::tier::Digest;
use std::collections::BTreeMap;
use std::rc::Rc;

/// How long an owner that did not answer in time may take to name the blob.
const NAME_NS: u64 = 1_000_000_000;

/// A request that has to wait.
pub struct Later {
    pub(super) asked: Asked,
    pub(super) until_ns: u64,
    pub(super) what: Wait,
}

pub(super) enum Wait {
    /// For the owner of a shard.
    Owner(Shard, NodeRequest, Wanted),
    /// For all columns.
    Listing(Page),
    /// For columns to hear that nodes are forgotten.
    Forget(BTreeMap<usize, Vec<(u64, u64)>>),
}

/// What is made of the owner's reply.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted {
    Entry,
    Attributes,
    /// A handle of that node.
    Handle(u64),
    /// Bytes of that node, from that offset on.
    Data(u64, u64),
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
    /// Answers what had to wait. May be dropped before that.
    pub async fn finish(self: &Rc<Self>, later: Later) -> Answer<I> {
        let Later { asked, until_ns, what } = later;
        // In a task of its own: what was begun on the owner ends, and is undone here if nobody wants it any more.
        let (give, answer) = Oneshot::new();
        let me = self.clone();
        self.io().spawn("mount", async move { give.set(me.wait(asked, until_ns, what).await) });
        match before(self.io(), until_ns, answer).await {
            Some(answer) => answer,
            None => self.late(asked),
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
                Err(failure) => self.failed(asked, &failure),
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
    pub(super) fn conclude(self: &Rc<Self>, asked: Asked, wanted: Wanted, reply: NodeReply) -> Answer<I> {
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
            (Wanted::Entry, NodeReply::Entered(Err(failure))) => self.failed(asked, &failure),
            (Wanted::Handle(node), NodeReply::Opened(opened)) => match opened {
                Ok(OpenAs::Cached) => done(Reply::Opened(cached(0)), Held::Handle(node, 0)),
                Ok(OpenAs::Backed(id)) => done(Reply::Opened(backed(id)), Held::Handle(node, 0)),
                Ok(OpenAs::MakeBacking(path, version)) => {
                    Answer::new(self, asked, Body::MakeBacking(path, version), Held::Making(node))
                }
                Err(failure) => self.failed(asked, &failure),
            },
            (Wanted::Data(node, offset), NodeReply::Data(Ok(data))) => {
                self.note_near(asked, node, offset, &data);
                Answer::new(self, asked, Body::Data(data), Held::Nothing)
            }
            (Wanted::Data(..), NodeReply::Data(Err(failure))) => self.failed(asked, &failure),
            (_, NodeReply::Inode(Some(inode))) => {
                let body =
                    self.of_inode(wanted, &inode).unwrap_or_else(|errno| Body::Reply(Reply::Error(errno)));
                Answer::new(self, asked, body, Held::Nothing)
            }
            (_, NodeReply::Inode(None)) => done(Reply::Error(libc::ESTALE), Held::Nothing),
            (Wanted::Done, NodeReply::Noted) => done(Reply::Empty, Held::Nothing),
            (_, NodeReply::Unmounted) => self.failed(asked, &Failure::io("the owner does not answer")),
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

    /// What came of [`Answer::backing_file`]: the kernel gets the file if it could be given it, else us. May be dropped.
    pub async fn on_backing(self: &Rc<Self>, answer: Answer<I>, made: std::io::Result<i32>) -> Answer<I> {
        let asked = answer.asked();
        // In a task of its own, as in `finish`: the owner must hear of the id, and of the handle that nobody takes.
        let (give, opened) = Oneshot::new();
        let me = self.clone();
        self.io().spawn("mount-backing", async move { give.set(me.backed(answer, made).await) });
        match before(self.io(), asked.at_ns + DEADLINE_NS, opened).await {
            Some(opened) => opened,
            None => self.late(asked),
        }
    }

    async fn backed(self: &Rc<Self>, answer: Answer<I>, made: std::io::Result<i32>) -> Answer<I> {
        let (asked, passthrough) = (answer.asked(), false);
        let until_ns = asked.at_ns + DEADLINE_NS;
        let (node, version) = answer.take_making().expect("a backing id was asked for");
        let owner = Shard(shard_of(node));
        let id = made.inspect_err(|error| tracing::debug!(node, %error, "no backing id")).ok();
        let told = NodeRequest::Made(node, id.map(|id| (id, version)));
        let kept = self.ask_column(self.columns.owner_of(owner), told, u64::MAX).await;
        match (kept, id) {
            (NodeReply::Kept(true), Some(id)) => {
                Answer::new(self, asked, Body::Reply(Reply::Opened(backed(id))), Held::Handle(node, 0))
            }
            (_, id) => {
                if let (Some(id), Some(nodes)) = (id, self.columns.local().nodes(self.connection)) {
                    (nodes.hooks.close_backing)(id);
                }
                let open = NodeRequest::Open { node, passthrough, until_ns };
                let what = Wait::Owner(owner, open, Wanted::Handle(node));
                self.wait(asked, until_ns, what).await
            }
        }
    }

    fn failed(self: &Rc<Self>, asked: Asked, failure: &Failure) -> Answer<I> {
        if let Failure::Io(why) = failure {
            self.log(asked.about, why);
        }
        Answer::new(self, asked, Body::Reply(Reply::Error(failure.errno())), Held::Nothing)
    }

    /// Whoever was to say why did not. The line names the blob if its owner says at least which it is.
    fn late(self: &Rc<Self>, asked: Asked) -> Answer<I> {
        let (me, about) = (self.clone(), asked.about);
        self.io().spawn("mount-late", async move {
            let failure = Failure::io("no answer in time");
            let digest = me.digest(about).await;
            me.log(about, &failure.of(digest.as_ref()).to_string());
        });
        Answer::new(self, asked, Body::Reply(Reply::Error(libc::EIO)), Held::Nothing)
    }

    async fn digest(&self, about: About) -> Option<Digest> {
        let node = match about {
            About::Blob(digest) => return Some(digest),
            About::Node(node) if tree::is_blob(node) => node,
            About::Node(_) => return None,
        };
        let until_ns = self.io().now_ns() + NAME_NS;
        let column = self.columns.owner_of(Shard(shard_of(node)));
        match before(self.io(), until_ns, self.ask_column(column, NodeRequest::Inode(node), until_ns)).await {
            Some(NodeReply::Inode(inode)) => inode.map(|inode| inode.digest),
            _ => None,
        }
    }

    /// One line for what fails: the kernel asks more than once.
    fn log(&self, about: About, why: &str) {
        if self.lines.borrow_mut().is_due(about, self.io().now_ns()) {
            tracing::warn!(connection = self.connection, %about, why, "a request of a mount failed");
        }
    }
}

pub(super) fn cached(handle: u64) -> Opened {
    Opened { handle, flags: fopen::KEEP_CACHE | fopen::NOFLUSH, backing_id: 0 }
}

fn backed(id: i32) -> Opened {
    Opened { handle: 0, flags: fopen::PASSTHROUGH | fopen::NOFLUSH, backing_id: id }
}

/// An xattr, or the list of them, for a caller who has so much room; 0: who asks how much is needed.
pub(super) fn xattr(value: &[u8], room: u32) -> Result<Body, i32> {
    match room as usize {
        0 => Ok(Body::Reply(Reply::XattrSize(value.len() as u32))),
        room if room < value.len() => Err(libc::ERANGE),
        _ => Ok(Body::Text(value.to_vec())),
    }
}
