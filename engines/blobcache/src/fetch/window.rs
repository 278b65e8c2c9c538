//! The parts of one fetch that are under way, in the order of their bytes: several are received, the front one is consumed.
//!
//! Called by `job`. All of them are futures of the job's own task, so dropping the window ends them.
//!
//! Invariants
//! 1. At most [`PARTS_UNDER_WAY_MAX`] parts are being received, and at most [`WINDOW_PARTS_MAX`] are in memory.
//! 2. A part behind the front one has a page of the column's budget; the front one needs none, so that it always gets on.
//! 3. Buffers come out in the order of their bytes.

use super::PART_BYTES;
use super::retry::Failure;
use runtime::buffer::Buffer;
use runtime::permits::Permit;
use runtime::tier::WRITE_BYTES;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Parts of one fetch received at a time.
pub const PARTS_UNDER_WAY_MAX: usize = 4;
/// Parts of one fetch in memory, those received and not yet written included.
pub const WINDOW_PARTS_MAX: usize = 8;
/// Buffers that a part without a page may hold: one arrives while the one before is hashed and written.
pub const HEAD_BUFFERS_MAX: usize = 1;
const PAGE_BUFFERS: usize = PART_BYTES as usize / WRITE_BYTES;

/// The buffers of a part that were filled and not yet taken.
pub struct Filled {
    buffers: RefCell<VecDeque<(Buffer, usize)>>,
    most: usize,
    has_room: Cell<Option<Waker>>,
}

impl Filled {
    /// Waits until another buffer may be filled.
    pub async fn room(&self) {
        poll_fn(|cx| {
            if self.buffers.borrow().len() < self.most {
                return Poll::Ready(());
            }
            self.has_room.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    pub fn push(&self, buffer: Buffer, len: usize) {
        self.buffers.borrow_mut().push_back((buffer, len));
    }

    fn pop(&self) -> Option<(Buffer, usize)> {
        let popped = self.buffers.borrow_mut().pop_front();
        if let Some(waker) = self.has_room.take() {
            waker.wake();
        }
        popped
    }

    fn is_empty(&self) -> bool {
        self.buffers.borrow().is_empty()
    }
}

type Pull<'j> = Pin<Box<dyn Future<Output = Result<(), Failure>> + 'j>>;

struct Part<'j> {
    /// `None`: it is all there.
    pull: Option<Pull<'j>>,
    filled: Rc<Filled>,
    _page: Option<Permit<'j>>,
}

/// The parts.
#[derive(Default)]
pub struct Window<'j> {
    parts: VecDeque<Part<'j>>,
}

impl<'j> Window<'j> {
    /// Whether another part may begin; it needs a page unless it is the first.
    pub fn has_room(&self) -> bool {
        let under_way = self.parts.iter().filter(|p| p.pull.is_some()).count();
        under_way < PARTS_UNDER_WAY_MAX && self.parts.len() < WINDOW_PARTS_MAX
    }

    /// No part is left.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Begins the next part.
    pub fn begin<F>(&mut self, page: Option<Permit<'j>>, pull: impl FnOnce(Rc<Filled>) -> F)
    where
        F: Future<Output = Result<(), Failure>> + 'j,
    {
        assert!(self.has_room() && (page.is_some() || self.is_empty()), "a part beyond the window");
        let most = if page.is_some() { PAGE_BUFFERS } else { HEAD_BUFFERS_MAX };
        let filled = Rc::new(Filled { buffers: RefCell::default(), most, has_room: Cell::default() });
        let pull = Box::pin(pull(filled.clone()));
        self.parts.push_back(Part { pull: Some(pull), filled, _page: page });
    }

    /// The next buffer; `None` when the front part is over and gone.
    pub async fn next(&mut self) -> Result<Option<(Buffer, usize)>, Failure> {
        poll_fn(|cx| {
            self.poll_pulls(cx)?;
            let Some(front) = self.parts.front() else { return Poll::Ready(Ok(None)) };
            match front.filled.pop() {
                Some(buffer) => Poll::Ready(Ok(Some(buffer))),
                None if front.pull.is_none() => {
                    self.parts.pop_front();
                    Poll::Ready(Ok(None))
                }
                None => Poll::Pending,
            }
        })
        .await
    }

    /// Does `work` while the parts go on. It is never dropped half done: a part that fails meanwhile is heard of when it is over.
    pub async fn beside<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Failure> {
        let mut work = std::pin::pin!(work);
        let mut failed = None;
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(failed.take().map_or(Ok(done), Err));
            }
            if failed.is_none() {
                failed = self.poll_pulls(cx).err();
            }
            Poll::Pending
        })
        .await
    }

    fn poll_pulls(&mut self, cx: &mut Context<'_>) -> Result<(), Failure> {
        for part in &mut self.parts {
            if let Some(pull) = &mut part.pull
                && let Poll::Ready(pulled) = pull.as_mut().poll(cx)
            {
                part.pull = None;
                pulled?;
            }
        }
        debug_assert!(self.parts.iter().skip(1).all(|p| p._page.is_some() || p.filled.is_empty()));
        Ok(())
    }
}
