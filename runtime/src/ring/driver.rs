//! The driver task of a column: submits, reaps, polls the inboxes of the mesh, and sleeps when nothing is left.

use super::core::Ring;
use crate::clock::Clock;
use crate::mesh::Doorbell;
use glommio::io::BufferedFile;
use std::cell::Cell;
use std::future::Future;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A queue that other columns fill: the driver drains it in every turn.
pub trait Inbox {
    /// Handles at most a bounded number of messages; returns how many.
    fn poll(&self) -> usize;
    /// Nothing waits.
    fn is_empty(&self) -> bool;
}

/// Runs until `stop` is set; the column's one sleeper.
///
/// `spin_ns`: how long to look again before sleeping. A sleep and wake of the executor costs about 40 µs.
pub async fn drive(
    ring: Rc<Ring>,
    bell: Arc<Doorbell>,
    inboxes: Rc<[Box<dyn Inbox>]>,
    spin_ns: u64,
    stop: Rc<Cell<bool>>,
) {
    let clock = Clock::new();
    let copy = bell.fd().try_clone_to_owned().expect("an open eventfd can be duplicated");
    // SAFETY: the descriptor is a fresh duplicate that this file alone owns. Reading an eventfd through IORING_OP_READ
    // waits without blocking; the offset is ignored (tested below: everything hangs on this path).
    let wake = unsafe { BufferedFile::from_raw_fd(copy.into_raw_fd()) };
    let mut armed: Option<Pin<Box<dyn Future<Output = ()> + '_>>> = None;
    ring.set_eventfd(false);
    let mut idle_since = None;
    while !stop.get() {
        ring.take_kick();
        if ring.wants_enter() {
            ring.submit();
        }
        let done = ring.reap() + inboxes.iter().map(|i| i.poll()).sum::<usize>();
        if done > 0 || ring.wants_enter() {
            idle_since = None;
            glommio::executor().yield_now().await;
            continue;
        }
        let now = clock.now_ns();
        if now - *idle_since.get_or_insert(now) < spin_ns {
            glommio::executor().yield_now().await;
            continue;
        }
        bell.prepare_sleep();
        ring.set_eventfd(true);
        if !ring.has_completions() && !ring.wants_enter() && inboxes.iter().all(|i| i.is_empty()) {
            let sleep = armed.get_or_insert_with(|| Box::pin(wait(&wake)));
            let woken = WakeOrKick { ring: &ring, wake: sleep.as_mut() };
            if woken.await {
                armed = None;
            }
        }
        bell.cancel_sleep();
        ring.set_eventfd(false);
        idle_since = None;
    }
    if let Some(pending) = armed {
        // The read is under way in glommio's ring: let it complete before its file goes.
        bell.wake();
        pending.await;
    }
}

async fn wait(wake: &BufferedFile) {
    let read = wake.read_at(0, 8).await;
    assert!(read.is_ok_and(|r| r.len() == 8), "reading eventfd {} failed", wake.as_raw_fd());
}

/// Ready with true when the eventfd was read, with false when a local task pushed something.
struct WakeOrKick<'a, 'b> {
    ring: &'a Ring,
    wake: Pin<&'a mut (dyn Future<Output = ()> + 'b)>,
}

impl Future for WakeOrKick<'_, '_> {
    type Output = bool;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        if self.ring.take_kick() {
            return Poll::Ready(false);
        }
        self.ring.set_driver(cx.waker());
        self.wake.as_mut().poll(cx).map(|()| true)
    }
}
