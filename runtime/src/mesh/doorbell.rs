//! A column's doorbell: an asleep flag that senders look at, and an eventfd that wakes the column.
//!
//! Callers: [`lane`](super::lane) on the sending side; the column's driver task on the sleeping side, which
//! awaits the eventfd by an io_uring READ (the eventfd blocks: a non-blocking one would answer EAGAIN).
//!
//! Protocol, sender left, sleeper right:
//! ```text
//!   publish the message               asleep = true
//!   fence(SeqCst)                     fence(SeqCst)
//!   asleep? take it: wake             every inbox empty? sleep : cancel
//! ```
//! Of the two fences one is first in the total order: either the sleeper sees the message or the sender sees
//! the flag. All writes of the flag are swaps: a plain store would be as right (a swap follows at once what it
//! read), but loom does not know that and reports a lost wake-up after a cancelled sleep. Invariants: per prepared sleep at most one sender takes the flag, so the eventfd counts at most
//! one wake per sleep and its write never blocks; a wake may come late and then ends the next sleep at once,
//! so the sleeper always treats a wake as "look again", never as "there is a message".

use std::io;
#[cfg(not(loom))]
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::sync::{AtomicBool, Ordering, Padded, fence};

/// One per column, shared by all that send to it. See the module's text for the protocol.
#[derive(Debug)]
pub struct Doorbell {
    asleep: Padded<AtomicBool>,
    waker: Waker,
}

impl Doorbell {
    /// Makes a doorbell whose column is awake. Fails only when the process is out of descriptors.
    pub fn new() -> io::Result<Self> {
        Ok(Self { asleep: Padded(AtomicBool::new(false)), waker: Waker::new()? })
    }

    /// Called by a sender after it published a message. True: the column slept and this caller, and no
    /// other, must [`wake`](Self::wake) it.
    #[inline]
    #[must_use = "true means that the sleeper waits for this caller's wake()"]
    pub fn ring(&self) -> bool {
        fence(Ordering::SeqCst);
        self.asleep.0.load(Ordering::Relaxed) && self.asleep.0.swap(false, Ordering::AcqRel)
    }

    /// Called by the column before it sleeps. Afterwards it must look into every inbox once more and
    /// [`cancel_sleep`](Self::cancel_sleep) if there is anything.
    #[inline]
    pub fn prepare_sleep(&self) {
        self.asleep.0.swap(true, Ordering::AcqRel);
        if !cfg!(planted = "no_fence") {
            fence(Ordering::SeqCst);
        }
    }

    /// Called by the column when it does not sleep after all, or has woken for another reason. False: a sender
    /// took the flag first, and the eventfd is or will soon be readable although nobody sleeps on it.
    #[inline]
    pub fn cancel_sleep(&self) -> bool {
        self.asleep.0.swap(false, Ordering::AcqRel)
    }

    /// Makes the eventfd readable. Called after [`ring`](Self::ring) was true, or to wake the column for any
    /// other reason (shutdown).
    pub fn wake(&self) {
        self.waker.wake();
    }

    /// The eventfd, for a READ of 8 bytes.
    #[cfg(not(loom))]
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.waker.eventfd.as_fd()
    }

    /// Sleeps the whole thread until the next wake. For threads without a ring (tests, probes), never for a column.
    #[cfg(not(loom))]
    pub fn wait_blocking(&self) {
        self.waker.wait_blocking();
    }

    /// Whether a wake has been given and not been consumed.
    #[cfg(loom)]
    pub fn has_wake(&self) -> bool {
        self.waker.given.load(Ordering::Acquire)
    }
}

/// The way to a sleeping thread: an eventfd.
#[cfg(not(loom))]
#[derive(Debug)]
struct Waker {
    eventfd: OwnedFd,
}

#[cfg(not(loom))]
impl Waker {
    fn new() -> io::Result<Self> {
        let eventfd = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)?;
        Ok(Self { eventfd })
    }

    #[cold]
    fn wake(&self) {
        let one = 1u64.to_ne_bytes();
        let written = rustix::io::retry_on_intr(|| rustix::io::write(&self.eventfd, &one))
            .expect("an eventfd we own takes a write unless its counter is at 2^64 - 2");
        assert_eq!(written, one.len(), "an eventfd write is whole");
    }

    fn wait_blocking(&self) {
        let mut count = [0u8; 8];
        let read = rustix::io::retry_on_intr(|| rustix::io::read(&self.eventfd, &mut count))
            .expect("a blocking eventfd we own can be read");
        assert_eq!(read, count.len(), "an eventfd read is whole");
        assert_ne!(u64::from_ne_bytes(count), 0, "an eventfd wakes only when written");
    }
}

/// Under loom a flag stands for the eventfd: the tests ask afterwards whether the wake was given.
#[cfg(loom)]
#[derive(Debug)]
struct Waker {
    given: AtomicBool,
}

#[cfg(loom)]
impl Waker {
    fn new() -> io::Result<Self> {
        Ok(Self { given: AtomicBool::new(false) })
    }

    fn wake(&self) {
        self.given.store(true, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_awake_column_is_not_woken() {
        let bell = Doorbell::new().expect("an eventfd can be made");
        assert!(!bell.ring());
    }

    #[test]
    fn a_sleeper_is_woken_by_one_sender_only() {
        let bell = Doorbell::new().expect("an eventfd can be made");
        bell.prepare_sleep();
        assert!(bell.ring());
        assert!(!bell.ring());
        assert!(!bell.cancel_sleep(), "a sender took the flag");
        bell.wake();
        bell.wait_blocking();
    }

    #[test]
    fn a_cancelled_sleep_rings_nothing() {
        let bell = Doorbell::new().expect("an eventfd can be made");
        bell.prepare_sleep();
        assert!(bell.cancel_sleep());
        assert!(!bell.ring());
    }

    #[test]
    fn the_eventfd_blocks_and_closes_on_exec() {
        let bell = Doorbell::new().expect("an eventfd can be made");
        let status = rustix::fs::fcntl_getfl(bell.fd()).expect("our descriptor");
        assert!(!status.contains(rustix::fs::OFlags::NONBLOCK));
        let flags = rustix::io::fcntl_getfd(bell.fd()).expect("our descriptor");
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }
}
