//! Waiting, but not for ever. Called by `nodes`, `origin` and `wait`.

use runtime::io::Io;
use std::future::{Future, poll_fn};
use std::task::Poll;

/// What `work` gives, or `None` when it is `until_ns` before that. `work` is dropped then: it must not mind.
pub async fn within<I: Io, T>(io: &I, until_ns: u64, work: impl Future<Output = T>) -> Option<T> {
    let left_ns = until_ns.saturating_sub(io.now_ns());
    let (mut work, mut late) = (std::pin::pin!(work), std::pin::pin!(io.sleep(left_ns)));
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => late.as_mut().poll(cx).map(|()| None),
    })
    .await
}
