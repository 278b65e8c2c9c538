//! When a failed fetch is tried again. Only GETs come here, so trying again is always safe.
//!
//! 5xx, timeout, reset, short body, wrong Content-Range: after 100 ms × 2ⁿ with jitter, up to 1.6 s, `max_retries` times; the first
//! failure to connect at once; 4xx never. Retry-After makes the wait longer, up to [`RETRY_AFTER_MAX_NS`]; a longer one is an
//! origin that does not want us now. A [`RetryBudget`] of the origin bounds what all fetches of it try again together: an origin
//! in trouble is asked a tenth more, not four times as often. Time and randomness are parameters.

use crate::limits::RETRY_AFTER_MAX_NS;

const FIRST_WAIT_NS: u64 = 100_000_000;
const WAIT_MAX_NS: u64 = 1_600_000_000;
/// After these the wait does not grow.
const DOUBLINGS_MAX: u32 = 4;
const SECOND_NS: u64 = 1_000_000_000;

const _: () = assert!(FIRST_WAIT_NS << DOUBLINGS_MAX >= WAIT_MAX_NS);

/// What went wrong with a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No connection.
    Connect,
    /// It took too long.
    Timeout,
    /// The connection broke.
    Reset,
    /// The body is or would be shorter than the run.
    Short,
    /// Another range than the one asked for.
    WrongRange,
    /// What came is not HTTP as we take it.
    Malformed,
    /// 5xx.
    Status {
        /// The code.
        status: u16,
        /// Retry-After.
        retry_after_s: Option<u64>,
    },
}

/// The tries of one fetch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tries {
    failed: u32,
    has_failed_to_connect: bool,
}

impl Tries {
    /// How long to wait before the next try; `None`: that was the last one.
    pub fn again(
        &mut self,
        fault: Fault,
        retries_max: u32,
        budget: &mut RetryBudget,
        random: u64,
    ) -> Option<u64> {
        if self.failed >= retries_max {
            return None;
        }
        let asked_ns = match fault {
            Fault::Status { retry_after_s, .. } => retry_after_s.unwrap_or(0).saturating_mul(SECOND_NS),
            _ => 0,
        };
        if asked_ns > RETRY_AFTER_MAX_NS || !budget.take() {
            return None;
        }
        let is_first_connect = fault == Fault::Connect && !self.has_failed_to_connect;
        self.has_failed_to_connect |= fault == Fault::Connect;
        let wait_ns = if is_first_connect { 0 } else { backoff_ns(self.failed, random).max(asked_ns) };
        self.failed += 1;
        Some(wait_ns)
    }

    /// Bytes came: what fails next begins anew. A fetch that gets on is resumed as often as it takes; each try must bring
    /// something.
    pub fn on_progress(&mut self) {
        *self = Tries::default();
    }
}

/// Half of it is fixed, so that the waits still grow.
fn backoff_ns(failed: u32, random: u64) -> u64 {
    let most_ns = (FIRST_WAIT_NS << failed.min(DOUBLINGS_MAX)).min(WAIT_MAX_NS);
    most_ns / 2 + random % (most_ns / 2 + 1)
}

/// What one origin's fetches may try again: a tenth of its requests, and [`RetryBudget::SAVED_MAX`] beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    tenths: u32,
}

impl RetryBudget {
    /// Retries that a quiet time saves up.
    pub const SAVED_MAX: u32 = 100;

    /// Full.
    #[must_use]
    pub fn new() -> RetryBudget {
        RetryBudget { tenths: RetryBudget::SAVED_MAX * 10 }
    }

    /// A request that is no retry was answered.
    pub fn on_success(&mut self) {
        self.tenths = (self.tenths + 1).min(RetryBudget::SAVED_MAX * 10);
    }

    fn take(&mut self) -> bool {
        let left = self.tenths.checked_sub(10);
        self.tenths = left.unwrap_or(self.tenths);
        left.is_some()
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        RetryBudget::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    fn busy(retry_after_s: Option<u64>) -> Fault {
        Fault::Status { status: 503, retry_after_s }
    }

    /// The longest waits of a row of faults.
    fn waits(faults: &[Fault]) -> Vec<Option<u64>> {
        let (mut tries, mut budget) = (Tries::default(), RetryBudget::new());
        let wait =
            |fault: &Fault| tries.again(*fault, 6, &mut budget, u64::MAX / 2 * 2).map(|ns| ns.div_ceil(MS));
        faults.iter().map(wait).collect()
    }

    #[test]
    fn waits_double_up_to_1600_ms() {
        let (mut tries, mut budget) = (Tries::default(), RetryBudget::new());
        for (at, most_ms) in [100, 200, 400, 800, 1600, 1600, 1600].into_iter().enumerate() {
            let (least, most) = (tries, tries);
            for (random, mut tries) in [(0, least), (most_ms * MS / 2, most)] {
                let wait_ns = tries.again(Fault::Timeout, 99, &mut budget, random).expect("there are more");
                assert!((most_ms * MS / 2..=most_ms * MS).contains(&wait_ns), "{at}: {wait_ns}");
                assert_eq!(wait_ns, most_ms * MS / 2 + random);
            }
            tries.again(Fault::Reset, 99, &mut budget, 0).expect("there are more");
        }
        assert_eq!(backoff_ns(u32::MAX, 0), WAIT_MAX_NS / 2);
    }

    #[test]
    fn three_times_and_no_more() {
        for fault in
            [Fault::Timeout, Fault::Reset, Fault::Short, Fault::WrongRange, Fault::Malformed, busy(None)]
        {
            let (mut tries, mut budget) = (Tries::default(), RetryBudget::new());
            let tried = (0..9).take_while(|_| tries.again(fault, 3, &mut budget, 7).is_some()).count();
            assert_eq!(tried, 3, "{fault:?}");
            assert_eq!(Tries::default().again(fault, 0, &mut budget, 7), None);
        }
    }

    #[test]
    fn the_first_failure_to_connect_is_tried_again_at_once() {
        let first = waits(&[Fault::Connect, Fault::Connect]);
        assert!(first[0] == Some(0) && first[1].is_some_and(|ms| ms >= 100));
        let later = waits(&[Fault::Timeout, Fault::Connect, Fault::Connect]);
        assert!(later[0] > Some(0) && later[1] == Some(0) && later[2] > Some(0));
    }

    #[test]
    fn retry_after_is_honoured() {
        assert_eq!(waits(&[busy(Some(3)), busy(Some(0))])[0], Some(3000));
        assert_eq!(waits(&[busy(Some(10))]), [Some(10_000)]);
        assert_eq!(waits(&[busy(Some(11))]), [None]);
        assert_eq!(waits(&[busy(Some(u64::MAX))]), [None]);
    }

    #[test]
    fn an_origin_in_trouble_is_asked_a_tenth_more() {
        let mut budget = RetryBudget::new();
        let mut retry = || Tries::default().again(Fault::Timeout, 3, &mut budget, 0).is_some();
        let saved = (0..1000).filter(|_| retry()).count();
        assert_eq!(saved, 100);
        let mut retries = 0;
        for _ in 0..1000 {
            budget.on_success();
            retries += u32::from(Tries::default().again(Fault::Timeout, 3, &mut budget, 0).is_some());
        }
        assert_eq!(retries, 100);
    }

    #[test]
    fn a_fetch_that_gets_on_begins_anew() {
        let (mut tries, mut budget) = (Tries::default(), RetryBudget::new());
        for _ in 0..20 {
            assert!(tries.again(Fault::Reset, 1, &mut budget, 0).is_some());
            assert!(tries.again(Fault::Reset, 1, &mut budget, 0).is_none());
            tries.on_progress();
        }
    }

    proptest! {
        #[test]
        fn no_wait_is_longer_than_it_may_be(
            faults in prop::collection::vec((0..4_u8, prop::option::of(0..20_u64), any::<u64>()), 1..10),
        ) {
            let (mut tries, mut budget) = (Tries::default(), RetryBudget::new());
            for (kind, after_s, random) in faults {
                let fault = [Fault::Connect, Fault::Timeout, Fault::Short, busy(after_s)][usize::from(kind)];
                if let Some(wait_ns) = tries.again(fault, 3, &mut budget, random) {
                    prop_assert!(wait_ns <= RETRY_AFTER_MAX_NS);
                    prop_assert!(kind == 3 || wait_ns <= WAIT_MAX_NS);
                    prop_assert!(kind != 3 || wait_ns >= after_s.unwrap_or(0) * SECOND_NS);
                }
            }
        }
    }
}
