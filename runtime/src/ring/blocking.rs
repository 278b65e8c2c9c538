//! Calls that may block, on the column's blocking threads.
//!
//! Called by `handle` and `file`. A column waits for those under way before it ends, even when nobody waits for their results any
//! more: a blocking thread whose executor is gone when it wants to answer panics.

use super::core::Ring;
use crate::oneshot::Oneshot;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

const LOOK: Duration = Duration::from_millis(1);
/// A disk that does not answer for so long keeps no node from ending.
const LOOKS_MAX: u32 = 10_000;

struct UnderWay(Rc<Cell<usize>>);

impl UnderWay {
    fn new(count: Rc<Cell<usize>>) -> UnderWay {
        count.set(count.get() + 1);
        UnderWay(count)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Runs `work` on a blocking thread.
pub(super) async fn blocking<T: Send + 'static>(ring: &Ring, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, waiting) = Oneshot::new();
    let under_way = UnderWay::new(ring.blocking_calls());
    let call = async move {
        done.set(glommio::executor().spawn_blocking(work).await);
        drop(under_way);
    };
    glommio::spawn_local(call).detach();
    waiting.await
}

/// Waits until no call is under way.
pub async fn settle(ring: &Ring) {
    let calls = ring.blocking_calls();
    for _ in 0..LOOKS_MAX {
        if calls.get() == 0 {
            return;
        }
        glommio::timer::sleep(LOOK).await;
    }
    tracing::warn!(calls = calls.get(), "blocking calls do not end; the column does");
}
