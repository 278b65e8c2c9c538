//! Submission, completion and the slots between them.

use super::blocking::Calls;
use super::fixed::Registered;
use super::queue::DiskQueues;
use super::receive::{BUFFER_GROUP, ReceiveBuffers};
use io_uring::{IoUring, Submitter, cqueue, opcode, squeue};
use std::any::Any;
use std::cell::{Cell, RefCell, UnsafeCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Completions nobody waits for carry this.
const DETACHED: u64 = u64::MAX;
/// A burst is handed to the kernel in parts of this size, so that the device begins with the first: handed over whole, it
/// comes back whole, and device and column wait for each other in turn (0.8 of the reads at depth 32).
const SUBMIT_PART: u32 = 4;
/// The read of the column's doorbell carries this.
const BELL: u64 = u64::MAX - 1;
const NO_SLOT: u32 = u32::MAX;
/// Receives of one connection that wait to be taken: beyond it the connection stops receiving until they are, so that a client
/// who sends and does not read keeps no more of the column's buffers.
const RECEIVED_MAX: usize = 16;

/// What the kernel said of one operation: `res` is a count or a negative errno.
#[derive(Clone, Copy, Debug)]
pub struct Cqe {
    /// Result.
    pub res: i32,
    /// `IORING_CQE_F_*`.
    pub flags: u32,
}

impl Cqe {
    /// The count, or the error.
    pub fn result(self) -> io::Result<usize> {
        usize::try_from(self.res).map_err(|_| io::Error::from_raw_os_error(-self.res))
    }

    /// The provided buffer this completion filled.
    pub fn buffer(self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }
}

enum Slot {
    Free(u32),
    Waiting(Option<Waker>),
    Done(Cqe),
    Multi {
        queue: VecDeque<Cqe>,
        waker: Option<Waker>,
        done: bool,
    },
    /// The future is gone; what it lent to the kernel stays until the last completion.
    Orphan(#[allow(dead_code, reason = "held for its Drop")] Option<Box<dyn Any>>),
}

impl Slot {
    /// Whether its owner is behind with taking what was received: exactly then, so that it is told once.
    fn has_received_enough(&self) -> bool {
        matches!(self, Slot::Multi { queue, .. } if queue.len() == RECEIVED_MAX && queue[0].buffer().is_some())
    }
}

/// The ring of one column. Not Send: every method runs on that column.
pub struct Ring {
    ring: UnsafeCell<IoUring>,
    slots: RefCell<Vec<Slot>>,
    free: Cell<u32>,
    unsubmitted: Cell<u32>,
    in_flight: Cell<u32>,
    /// Calls on blocking threads.
    blocking: Rc<Calls>,
    driver: RefCell<Option<Waker>>,
    kicked: Cell<bool>,
    spawned: Cell<bool>,
    receive: ReceiveBuffers,
    registered: Rc<Registered>,
    disks: DiskQueues,
    /// What completions write while the executor sleeps.
    eventfd: OwnedFd,
    bell: RawFd,
    is_listening: Cell<bool>,
    /// Where the kernel puts the doorbell's count: never freed, since a read may outlive the ring.
    bell_count: *mut u64,
}

impl Ring {
    /// Sets up a ring of `entries` submissions and `receive_buffers` provided buffers of `receive_bytes` each, which a
    /// write of the eventfd `bell` wakes as a completion does. `bell` stays open as long as the ring.
    pub fn new(entries: u32, receive_buffers: u16, receive_bytes: u32, bell: RawFd) -> io::Result<Rc<Ring>> {
        let ring = IoUring::builder()
            .setup_cqsize(entries * 4)
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .setup_single_issuer()
            .build(entries)?;
        let eventfd = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)?;
        ring.submitter().register_eventfd(eventfd.as_raw_fd())?;
        let receive = ReceiveBuffers::register(&ring, receive_buffers, receive_bytes)?;
        Ok(Rc::new(Ring {
            ring: UnsafeCell::new(ring),
            slots: RefCell::new(Vec::new()),
            free: Cell::new(NO_SLOT),
            unsubmitted: Cell::new(0),
            in_flight: Cell::new(0),
            blocking: Rc::default(),
            driver: RefCell::new(None),
            kicked: Cell::new(false),
            spawned: Cell::new(false),
            receive,
            registered: Rc::default(),
            disks: DiskQueues::new(),
            eventfd,
            bell,
            is_listening: Cell::new(false),
            bell_count: Box::leak(Box::new(0)),
        }))
    }

    #[allow(clippy::mut_from_ref, reason = "see SAFETY")]
    fn io(&self) -> &mut IoUring {
        // SAFETY: Ring is not Send (Rc, Cell), so all calls are on one thread; no caller keeps this reference across a
        // call that could take it again, and nothing in io_uring calls back.
        unsafe { &mut *self.ring.get() }
    }

    fn take_slot(&self, slot: Slot) -> u32 {
        let mut slots = self.slots.borrow_mut();
        let free = self.free.get();
        if free == NO_SLOT {
            slots.push(slot);
            return (slots.len() - 1) as u32;
        }
        let Slot::Free(next) = slots[free as usize] else { unreachable!("free list names a slot in use") };
        self.free.set(next);
        slots[free as usize] = slot;
        free
    }

    fn release(&self, slots: &mut [Slot], slot: u32) {
        slots[slot as usize] = Slot::Free(self.free.replace(slot));
    }

    /// Wakes the driver task, so that what was pushed is submitted in this turn of the executor.
    pub fn kick(&self) {
        if !self.kicked.replace(true)
            && let Some(driver) = self.driver.borrow().as_ref()
        {
            driver.wake_by_ref();
        }
    }

    /// A task was made on this column: it is to run before the column's thread waits in this ring.
    pub(super) fn note_spawned(&self) {
        self.spawned.set(true);
    }

    pub(super) fn take_spawned(&self) -> bool {
        self.spawned.replace(false)
    }

    pub(super) fn take_kick(&self) -> bool {
        self.kicked.replace(false)
    }

    pub(super) fn set_driver(&self, waker: &Waker) {
        let mut driver = self.driver.borrow_mut();
        if driver.as_ref().is_none_or(|w| !w.will_wake(waker)) {
            *driver = Some(waker.clone());
        }
    }

    fn push(&self, entry: &squeue::Entry) {
        // SAFETY: every entry is built by this module's callers from memory that the operation's slot or future owns
        // until the completion (invariant 1), and from descriptors that are open.
        while unsafe { self.io().submission().push(entry) }.is_err() {
            self.submit();
        }
        self.unsubmitted.set(self.unsubmitted.get() + 1);
        self.in_flight.set(self.in_flight.get() + 1);
    }

    /// Starts an operation that owns `held` until it completes.
    pub fn op<T: 'static>(self: &Rc<Ring>, entry: squeue::Entry, held: T) -> Op<T> {
        let slot = self.take_slot(Slot::Waiting(None));
        self.push(&entry.user_data(u64::from(slot)));
        self.kick();
        Op { ring: self.clone(), slot, held: Some(held) }
    }

    /// Starts an operation that completes many times.
    pub fn multi(self: &Rc<Ring>, entry: squeue::Entry) -> Multi {
        let slot = self.take_slot(Slot::Multi { queue: VecDeque::new(), waker: None, done: false });
        self.push(&entry.user_data(u64::from(slot)));
        self.kick();
        Multi { ring: self.clone(), slot }
    }

    /// A multishot receive into this ring's provided buffers.
    pub fn receive(self: &Rc<Ring>, fd: RawFd) -> Multi {
        self.multi(opcode::RecvMulti::new(io_uring::types::Fd(fd), BUFFER_GROUP).build())
    }

    /// Starts an operation whose result does not matter.
    pub fn detached(&self, entry: squeue::Entry) {
        self.push(&entry.user_data(DETACHED));
        self.kick();
    }

    /// Starts an operation whose result does not matter and which keeps `held` until it completes.
    pub(super) fn detached_owning(&self, entry: squeue::Entry, held: Box<dyn Any>) {
        let slot = self.take_slot(Slot::Orphan(Some(held)));
        self.push(&entry.user_data(u64::from(slot)));
        self.kick();
    }

    /// The queues that operations on files pass.
    pub(super) fn disks(&self) -> &DiskQueues {
        &self.disks
    }

    pub(super) fn registered(&self) -> &Rc<Registered> {
        &self.registered
    }

    /// For registrations, which are calls of their own beside the queue.
    pub(super) fn submitter(&self) -> Submitter<'_> {
        self.io().submitter()
    }

    /// True when the kernel has submissions to take or task work to run.
    pub(super) fn wants_enter(&self) -> bool {
        self.unsubmitted.get() > 0 || self.io().submission().taskrun()
    }

    pub(super) fn blocking_calls(&self) -> Rc<Calls> {
        self.blocking.clone()
    }

    /// Operations under way.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    /// Hands all but the last part of a burst to the kernel. Errors are left to the call for the last.
    fn submit_parts(&self) {
        while self.io().submission().len() as u32 > SUBMIT_PART {
            // SAFETY: as in `submit`.
            let entered = unsafe { self.io().submitter().enter::<libc::sigset_t>(SUBMIT_PART, 0, 0, None) };
            if entered.is_err() {
                return;
            }
        }
    }

    pub(super) fn submit(&self) {
        self.submit_parts();
        let flags = if self.io().submission().taskrun() { 1 } else { 0 }; // IORING_ENTER_GETEVENTS
        let queued = self.io().submission().len() as u32;
        // SAFETY: no signal mask argument is passed; entries in the queue satisfy `push`'s contract.
        let entered = unsafe { self.io().submitter().enter::<libc::sigset_t>(queued, 0, flags, None) };
        self.after_enter(entered);
    }

    /// Submits, and waits in the kernel until something has completed or `at_most` is over.
    pub(super) fn doze(&self, at_most: Duration) {
        self.submit_parts();
        let timeout = io_uring::types::Timespec::from(at_most);
        let args = io_uring::types::SubmitArgs::new().timespec(&timeout);
        let entered = self.io().submitter().submit_with_args(1, &args);
        self.after_enter(entered);
    }

    fn after_enter(&self, entered: io::Result<usize>) {
        if let Err(e) = entered {
            match e.raw_os_error() {
                // The queue is full, a signal came or nothing did: what is still queued goes with the next turn.
                Some(libc::EBUSY | libc::EAGAIN | libc::EINTR | libc::ETIME) => {}
                _ => panic!("io_uring_enter: {e}"),
            }
        }
        self.unsubmitted.set(self.io().submission().len() as u32);
    }

    /// What completions write while [`Ring::set_eventfd`] is on.
    pub(super) fn eventfd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }

    /// Has the next ring of the doorbell come as a completion.
    pub(super) fn listen(&self) {
        if self.is_listening.replace(true) {
            return;
        }
        let count = self.bell_count.cast();
        let entry = opcode::Read::new(io_uring::types::Fd(self.bell), count, 8).build();
        self.push(&entry.user_data(BELL));
        // It is always there: not an operation under way.
        self.in_flight.set(self.in_flight.get() - 1);
    }

    pub(super) fn set_eventfd(&self, on: bool) {
        let queue = self.io().completion();
        if on {
            queue.enable_eventfd();
            // Before the caller looks for completions once more: a worker of the kernel on another CPU posts one and then
            // looks at the flag. Without the fence both could see the old state, and the column would sleep on.
            std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        } else {
            queue.disable_eventfd();
        }
    }

    pub(super) fn has_completions(&self) -> bool {
        let mut queue = self.io().completion();
        queue.sync();
        !queue.is_empty()
    }

    /// Hands completions to their slots; returns how many.
    pub(super) fn reap(&self) -> usize {
        let (mut count, mut too_many) = (0, Vec::new());
        let mut queue = self.io().completion();
        queue.sync();
        let mut slots = self.slots.borrow_mut();
        for cqe in &mut queue {
            count += 1;
            if cqe.user_data() == BELL {
                self.is_listening.set(false);
                continue;
            }
            let more = cqueue::more(cqe.flags());
            if !more {
                self.in_flight.set(self.in_flight.get() - 1);
            }
            if cqe.user_data() != DETACHED {
                let index = cqe.user_data() as u32;
                self.complete(&mut slots, index, Cqe { res: cqe.result(), flags: cqe.flags() }, more);
                if more && slots[index as usize].has_received_enough() {
                    too_many.push(index);
                }
            }
        }
        drop(slots);
        for index in too_many {
            self.detached(opcode::AsyncCancel::new(u64::from(index)).build());
        }
        count
    }

    /// Takes in what has completed, between turns of the driver.
    pub(super) fn look(&self) {
        if self.has_completions() && self.reap() > 0 {
            // Tasks may be ready by it.
            self.note_spawned();
        }
    }

    fn complete(&self, slots: &mut [Slot], index: u32, cqe: Cqe, more: bool) {
        let slot = &mut slots[index as usize];
        match slot {
            Slot::Waiting(waker) => {
                let waker = waker.take();
                *slot = Slot::Done(cqe);
                if let Some(w) = waker {
                    w.wake();
                }
            }
            Slot::Multi { queue, waker, done } => {
                queue.push_back(cqe);
                *done = !more;
                if let Some(w) = waker.take() {
                    w.wake();
                }
            }
            Slot::Orphan(_) => {
                if let Some(id) = cqe.buffer() {
                    self.receive.give_back(id);
                }
                if !more {
                    self.release(slots, index);
                }
            }
            Slot::Done(_) | Slot::Free(_) => {
                unreachable!("completion for a slot that waits for none")
            }
        }
    }

    /// Bytes of a provided buffer that a completion filled.
    pub(super) fn received(&self, id: u16, len: usize) -> &[u8] {
        self.receive.bytes(id, len)
    }

    pub(super) fn give_back(&self, id: u16) {
        self.receive.give_back(id);
    }
}

/// An operation under way that owns `T`.
pub struct Op<T: 'static> {
    ring: Rc<Ring>,
    slot: u32,
    held: Option<T>,
}

impl<T: 'static + Unpin> Future for Op<T> {
    type Output = (Cqe, T);
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<(Cqe, T)> {
        let me = &mut *self;
        let mut slots = me.ring.slots.borrow_mut();
        match &mut slots[me.slot as usize] {
            Slot::Done(cqe) => {
                let cqe = *cqe;
                Poll::Ready((cqe, me.held.take().expect("polled after completion")))
            }
            Slot::Waiting(waker) => {
                if waker.as_ref().is_none_or(|w| !w.will_wake(cx.waker())) {
                    *waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
            _ => unreachable!("an operation waits in a slot of another kind"),
        }
    }
}

impl<T: 'static> Drop for Op<T> {
    fn drop(&mut self) {
        let mut slots = self.ring.slots.borrow_mut();
        if matches!(slots[self.slot as usize], Slot::Done(_)) {
            self.ring.release(&mut slots, self.slot);
        } else {
            let held = self.held.take().map(|h| Box::new(h) as Box<dyn Any>);
            slots[self.slot as usize] = Slot::Orphan(held);
            drop(slots);
            // Best effort: the slot is freed by the completion, cancelled or not.
            self.ring.detached(opcode::AsyncCancel::new(u64::from(self.slot)).build());
        }
    }
}

/// An operation that completes many times.
pub struct Multi {
    ring: Rc<Ring>,
    slot: u32,
}

impl Multi {
    /// The next completion; `None` when the kernel has ended the operation.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Cqe>> {
        let mut slots = self.ring.slots.borrow_mut();
        let Slot::Multi { queue, waker, done } = &mut slots[self.slot as usize] else {
            unreachable!("a multishot waits in a slot of another kind")
        };
        if let Some(cqe) = queue.pop_front() {
            return Poll::Ready(Some(cqe));
        }
        if *done {
            return Poll::Ready(None);
        }
        if waker.as_ref().is_none_or(|w| !w.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// As [`Multi::poll_next`], awaited.
    pub async fn next(&mut self) -> Option<Cqe> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Whether a completion waits to be taken.
    pub fn has_next(&self) -> bool {
        matches!(&self.ring.slots.borrow()[self.slot as usize], Slot::Multi { queue, .. } if !queue.is_empty())
    }

    /// Asks the kernel to end it; completions that came before are still delivered.
    pub fn cancel(&self) {
        self.ring.detached(opcode::AsyncCancel::new(u64::from(self.slot)).build());
    }
}

impl Drop for Multi {
    fn drop(&mut self) {
        let mut slots = self.ring.slots.borrow_mut();
        let Slot::Multi { queue, done, .. } = &mut slots[self.slot as usize] else {
            unreachable!("a multishot waits in a slot of another kind")
        };
        queue.iter().filter_map(|c| c.buffer()).for_each(|id| self.ring.receive.give_back(id));
        if *done {
            self.ring.release(&mut slots, self.slot);
        } else {
            slots[self.slot as usize] = Slot::Orphan(None);
            drop(slots);
            self.cancel();
        }
    }
}
