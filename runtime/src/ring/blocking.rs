//! Calls that may block, on the column's blocking threads.
//!
//! Called by `handle` and `file`. A blocking thread whose executor is gone when it wants to answer panics, and with it the node.
//! So a column waits for the calls under way before it ends, even when nobody waits for their results any more, and from then
//! on makes no other: a task that asks for one goes no further.

use super::core::Ring;
use crate::oneshot::Oneshot;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

const LOOK: Duration = Duration::from_millis(1);
/// A disk that does not answer for so long keeps no node from ending.
const LOOKS_MAX: u32 = 10_000;

/// The calls of one column.
#[derive(Default)]
pub struct Calls {
    under_way: Cell<usize>,
    is_closed: Cell<bool>,
}

impl Calls {
    pub(super) fn are_none(&self) -> bool {
        self.under_way.get() == 0
    }
}

struct UnderWay(Rc<Calls>);

impl UnderWay {
    fn new(calls: Rc<Calls>) -> UnderWay {
        calls.under_way.set(calls.under_way.get() + 1);
        UnderWay(calls)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.set(self.0.under_way.get() - 1);
    }
}

/// Runs `work` on a blocking thread.
pub(super) async fn blocking<T: Send + 'static>(ring: &Ring, work: impl FnOnce() -> T + Send + 'static) -> T {
    blocking_with(ring, (), work).await
}

/// As [`blocking`]; `held` is dropped when the work is done, whether or not anybody waits for it then.
pub(super) async fn blocking_with<T: Send + 'static, H: 'static>(
    ring: &Ring,
    held: H,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let calls = ring.blocking_calls();
    if calls.is_closed.get() {
        return std::future::pending().await;
    }
    let (done, waiting) = Oneshot::new();
    let under_way = UnderWay::new(calls);
    let call = async move {
        let outcome = glommio::executor().spawn_blocking(work).await;
        drop(held);
        done.set(outcome);
        drop(under_way);
    };
    glommio::spawn_local(call).detach();
    waiting.await
}

/// Waits until no call is under way, and there will be none.
pub async fn settle(ring: &Ring) {
    let calls = ring.blocking_calls();
    calls.is_closed.set(true);
    for _ in 0..LOOKS_MAX {
        if calls.are_none() {
            return;
        }
        glommio::timer::sleep(LOOK).await;
    }
    tracing::warn!(calls = calls.under_way.get(), "blocking calls do not end; the column does");
}
