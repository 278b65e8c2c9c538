//! What may be tried again, how often, after which wait. Called by `job` and `part`.
//!
//! 5xx, timeouts, resets, short bodies and wrong ranges: 100 ms × 2ⁿ with jitter up to 1.6 s, three times; the first failure
//! to connect at once; other statuses never. A `Retry-After` in seconds makes the wait longer, within [`RETRY_AFTER_MAX_NS`].

use crate::api::FetchError;
use crate::metrics::Metrics;
use net::client::{ClientError, Reply};
use runtime::io::Io;

/// Retries of one part.
pub const RETRIES_MAX: u32 = 3;
const FIRST_WAIT_NS: u64 = 100_000_000;
const WAIT_MAX_NS: u64 = 1_600_000_000;
/// The most that an origin's `Retry-After` is waited for: clients wait too.
pub const RETRY_AFTER_MAX_NS: u64 = 10_000_000_000;
const SECOND_NS: u64 = 1_000_000_000;

/// A request that did not bring what it should.
#[derive(Debug)]
pub struct Failure {
    /// What to say when it is not tried again.
    pub error: FetchError,
    /// It may go better another time.
    retry: bool,
    is_connect: bool,
    retry_after_ns: u64,
}

impl Failure {
    /// Trying again is of no use.
    pub fn for_good(error: FetchError) -> Failure {
        Failure { error, retry: false, is_connect: false, retry_after_ns: 0 }
    }

    /// It may go better another time.
    pub fn passing(error: FetchError) -> Failure {
        Failure { retry: true, ..Failure::for_good(error) }
    }

    /// A status that is no success.
    pub fn status<I: Io>(reply: &Reply<I>) -> Failure {
        let error = FetchError::Origin(reply.head.status);
        if !(500..600).contains(&reply.head.status) {
            return Failure::for_good(error);
        }
        let seconds =
            reply.head.header("retry-after").and_then(|v| std::str::from_utf8(v).ok()?.parse().ok());
        let wait_ns = seconds.unwrap_or(0u64).saturating_mul(SECOND_NS).min(RETRY_AFTER_MAX_NS);
        Failure { retry_after_ns: wait_ns, ..Failure::passing(error) }
    }
}

impl From<ClientError> for Failure {
    fn from(e: ClientError) -> Failure {
        let text = e.to_string();
        match e {
            ClientError::Timeout(_) => Failure::passing(FetchError::Timeout(text)),
            // A certificate will not be another one in a second.
            ClientError::Connect(_, e) if e.kind() == std::io::ErrorKind::InvalidData => {
                Failure::for_good(FetchError::Unusable(text))
            }
            ClientError::Connect(..) => {
                Failure { is_connect: true, ..Failure::passing(FetchError::Unusable(text)) }
            }
            ClientError::Lost(_) | ClientError::Short => Failure::passing(FetchError::Unusable(text)),
            ClientError::Malformed(_) | ClientError::Redirect(_) => {
                Failure::for_good(FetchError::Unusable(text))
            }
        }
    }
}

/// The tries of one part.
#[derive(Default)]
pub struct Tries {
    failed: u32,
}

impl Tries {
    /// Waits as long as it takes until the next try; the failure comes back when there is none.
    pub async fn again<I: Io>(&mut self, io: &I, metrics: &Metrics, failure: Failure) -> Result<(), Failure> {
        if !failure.retry || self.failed == RETRIES_MAX {
            return Err(failure);
        }
        let wait_ns = self.wait_ns(&failure, io.random());
        self.failed += 1;
        metrics.fetch_retries.inc();
        tracing::debug!(error = %failure.error, try_again = self.failed, "an origin's part is tried again");
        if wait_ns > 0 {
            io.sleep(wait_ns).await;
        }
        Ok(())
    }

    fn wait_ns(&self, failure: &Failure, random: u64) -> u64 {
        if failure.is_connect && self.failed == 0 {
            return 0;
        }
        let most = (FIRST_WAIT_NS << self.failed).min(WAIT_MAX_NS);
        // Half of it is fixed, so that the waits still grow.
        (most / 2 + random % (most / 2 + 1)).max(failure.retry_after_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_are_bounded() {
        let passing = || Failure::passing(FetchError::Timeout(String::new()));
        for failed in 0..30 {
            for random in [0, 1, u64::MAX / 3, u64::MAX] {
                let wait = Tries { failed }.wait_ns(&passing(), random);
                let most = (FIRST_WAIT_NS << failed.min(4)).min(WAIT_MAX_NS);
                assert!((most / 2..=most).contains(&wait), "{failed}: {wait}");
            }
        }
        let after = Failure { retry_after_ns: 3 * SECOND_NS, ..passing() };
        assert_eq!(Tries::default().wait_ns(&after, 7), 3 * SECOND_NS);
        let connect = Failure { is_connect: true, ..passing() };
        assert_eq!(Tries::default().wait_ns(&connect, 7), 0);
        assert!(Tries { failed: 1 }.wait_ns(&connect, 7) > 0);
    }
}
