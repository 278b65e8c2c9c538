//! The answer to one request of the kernel, and what has to be undone when the kernel does not get it: it counts lookups and
//! handles only of replies that it took. Made by `mount`, sent by whoever serves the connection.
//!
//! Invariant: an answer is sent once or undone. Dropped unsent (the client was interrupted, the connection has ended) it is undone.

use super::Mount;
use super::ask::NodeRequest;
use super::data::Data;
use super::lines::About;
use crate::metrics::mount::Timed;
use fuse_lowlevel::Reply;
use runtime::io::Io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// What is answered.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "an answer lives for one reply, which is to cost no allocation")]
pub(super) enum Body {
    /// Nobody waits for a reply.
    Silence,
    /// This.
    Reply(Reply<'static>),
    /// Bytes of a blob, or what was made for this reply.
    Data(Data),
    /// A page of a directory, or a name.
    Text(Vec<u8>),
    /// Nothing before a backing id was made of this version of this file.
    MakeBacking(PathBuf, u64),
}

/// What the kernel holds once it has the answer.
#[derive(Debug, Default)]
pub(super) enum Held {
    /// Nothing that is counted.
    #[default]
    Nothing,
    /// A lookup of each of these nodes.
    Lookups(Vec<u64>),
    /// A handle of this node.
    Handle(u64, u64),
    /// Others wait for the backing id that is made for it.
    Making(u64),
}

/// When a request came, and what it was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub at_ns: u64,
    pub timed: Timed,
    pub about: About,
}

/// The answer to one request.
pub struct Answer<I: Io> {
    mount: Rc<Mount<I>>,
    asked: Asked,
    body: Body,
    held: Held,
}

impl<I: Io> Answer<I> {
    pub(super) fn new(mount: &Rc<Mount<I>>, asked: Asked, body: Body, held: Held) -> Answer<I> {
        Answer { mount: mount.clone(), asked, body, held }
    }

    /// The file that the kernel is to be given first: BACKING_OPEN of it, and [`Mount::on_backing`] with what came of that, make
    /// the answer that can be sent.
    pub fn backing_file(&self) -> Option<&Path> {
        match &self.body {
            Body::MakeBacking(path, _) => Some(path),
            _ => None,
        }
    }

    /// Gives the reply to `send`, if anybody waits for one. `send` says whether the kernel took it; if not, it is undone.
    pub fn send(mut self, send: impl FnOnce(&Reply<'_>) -> bool) {
        let reply = match &self.body {
            Body::Silence => return,
            Body::Reply(reply) => *reply,
            Body::Data(data) => Reply::Data(data),
            Body::Text(text) => Reply::Data(text),
            Body::MakeBacking(..) => unreachable!("a backing id is to be made before this is answered"),
        };
        let (is_taken, is_error) = (send(&reply), reply == Reply::Error(libc::EIO));
        self.mount.on_answered(self.asked, is_error);
        if is_taken {
            self.held = Held::Nothing;
        }
    }

    pub(super) fn asked(&self) -> Asked {
        self.asked
    }

    /// The file and version that a backing id is made of, and the node; the answer is done with.
    pub(super) fn take_making(mut self) -> Option<(u64, u64)> {
        let Body::MakeBacking(_, version) = self.body else { return None };
        match std::mem::take(&mut self.held) {
            Held::Making(node) => Some((node, version)),
            held => unreachable!("{held:?} of a backing id that is to be made"),
        }
    }
}

impl<I: Io> Drop for Answer<I> {
    fn drop(&mut self) {
        match std::mem::take(&mut self.held) {
            Held::Nothing => {}
            Held::Lookups(nodes) => {
                self.mount.forget_later(nodes.into_iter().map(|node| (node, 1)).collect());
            }
            Held::Handle(node, handle) => self.mount.tell_later(node, NodeRequest::Release(node, handle)),
            Held::Making(node) => self.mount.tell_later(node, NodeRequest::Made(node, None)),
        }
    }
}
