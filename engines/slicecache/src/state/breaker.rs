//! The breaker of one origin: closed, open, half-open. Called before each request to it and with each outcome. Time is a
//! parameter.
//!
//! Closed: everything passes. When of the last [`WINDOW`] outcomes more than half are failures, or the last [`IN_A_ROW`] were, it
//! opens: nothing passes for a while, and what cannot be served stale is refused at once. Then it is half-open: one request passes
//! and decides. Each time that one fails, the origin is left alone twice as long, up to [`OPEN_MAX_NS`].
//!
//! Invariant: while it is half-open at most one request is under way, and that one's outcome, or its being given up, is
//! heard of: no state lasts for ever.

/// Outcomes that are looked at.
pub const WINDOW: u32 = 32;
/// Failures in a row that open it.
pub const IN_A_ROW: u32 = 10;
/// The first time that the origin is left alone.
pub const OPEN_FIRST_NS: u64 = 1_000_000_000;
/// The longest.
pub const OPEN_MAX_NS: u64 = 30_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed {
        failed: u32,
        known: u32,
    },
    Open {
        until_ns: u64,
        lasts_ns: u64,
    },
    /// `since_ns`: of the request that decides.
    HalfOpen {
        since_ns: u64,
        lasts_ns: u64,
    },
}

/// Whether an origin is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    state: State,
}

/// What a request that passed must give back with its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Passed {
    is_probe: bool,
}

impl Breaker {
    /// Closed.
    #[must_use]
    pub fn new() -> Breaker {
        Breaker { state: State::Closed { failed: 0, known: 0 } }
    }

    /// Whether a request may go to the origin; if not, how long to leave it alone (Retry-After of our 503).
    ///
    /// # Errors
    /// It may not, for so many nanoseconds.
    pub fn try_pass(&mut self, now_ns: u64) -> Result<Passed, u64> {
        match self.state {
            State::Closed { .. } => Ok(Passed { is_probe: false }),
            State::Open { until_ns, .. } if now_ns < until_ns => Err(until_ns - now_ns),
            // One that was never heard of again: the next one decides.
            State::HalfOpen { since_ns, .. } if now_ns < since_ns.saturating_add(OPEN_MAX_NS) => {
                Err(since_ns.saturating_add(OPEN_MAX_NS) - now_ns)
            }
            State::Open { lasts_ns, .. } | State::HalfOpen { lasts_ns, .. } => {
                self.state = State::HalfOpen { since_ns: now_ns, lasts_ns };
                Ok(Passed { is_probe: true })
            }
        }
    }

    /// Whether it is closed; of interest to health pages.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed { .. })
    }

    /// A request that passed went well or badly. An answer that is no 5xx is well: the origin is up.
    pub fn on_outcome(&mut self, passed: Passed, is_well: bool, now_ns: u64) {
        match (&mut self.state, passed.is_probe, is_well) {
            (State::Closed { failed, known }, _, _) => {
                *failed = *failed << 1 | u32::from(!is_well);
                *known = (*known + 1).min(WINDOW);
                let in_a_row = failed.trailing_ones();
                let is_mostly_bad = *known == WINDOW && failed.count_ones() > WINDOW / 2;
                if in_a_row >= IN_A_ROW || is_mostly_bad {
                    self.open(OPEN_FIRST_NS, now_ns);
                }
            }
            (State::HalfOpen { .. }, true, true) => *self = Breaker::new(),
            (State::HalfOpen { lasts_ns, .. }, true, false) => {
                let lasts_ns = (*lasts_ns * 2).min(OPEN_MAX_NS);
                self.open(lasts_ns, now_ns);
            }
            // Outcomes of requests from before it opened, or of one that was given up for lost.
            (State::Open { .. }, ..) | (State::HalfOpen { .. }, false, _) => {}
        }
    }

    /// A request that passed was given up before it had an outcome: its client left.
    pub fn on_given_up(&mut self, passed: Passed, now_ns: u64) {
        if let State::HalfOpen { lasts_ns, .. } = self.state
            && passed.is_probe
        {
            self.state = State::Open { until_ns: now_ns, lasts_ns };
        }
    }

    fn open(&mut self, lasts_ns: u64, now_ns: u64) {
        debug_assert!((OPEN_FIRST_NS..=OPEN_MAX_NS).contains(&lasts_ns));
        self.state = State::Open { until_ns: now_ns.saturating_add(lasts_ns), lasts_ns };
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Breaker::new()
    }
}

const _: () = assert!(WINDOW == u32::BITS, "an outcome is a bit");

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: u64 = 1_000_000_000;

    fn fail(breaker: &mut Breaker, times: u32, now_ns: u64) {
        for _ in 0..times {
            let passed = breaker.try_pass(now_ns).expect("closed");
            breaker.on_outcome(passed, false, now_ns);
        }
    }

    #[test]
    fn it_opens_and_one_request_decides() {
        let mut breaker = Breaker::new();
        fail(&mut breaker, IN_A_ROW, 0);
        assert_eq!(breaker.try_pass(0), Err(S));
        assert_eq!(breaker.try_pass(S - 1), Err(1));
        let probe = breaker.try_pass(S).expect("half-open");
        assert!(breaker.try_pass(S).is_err(), "a second one");
        breaker.on_outcome(probe, false, S);
        assert_eq!(breaker.try_pass(S), Err(2 * S));
        let probe = breaker.try_pass(3 * S).expect("half-open");
        breaker.on_outcome(probe, true, 3 * S);
        assert!(breaker.is_closed());
        fail(&mut breaker, IN_A_ROW - 1, 3 * S);
        assert!(breaker.is_closed());
    }

    #[test]
    fn more_than_half_open_it_and_half_do_not() {
        let mut breaker = Breaker::new();
        for at in 0..1000 {
            let passed = breaker.try_pass(0).expect("closed");
            breaker.on_outcome(passed, at % 2 == 0, 0);
        }
        assert!(breaker.is_closed());
        for at in 0..WINDOW {
            if let Ok(passed) = breaker.try_pass(0) {
                breaker.on_outcome(passed, at % 3 == 0, 0);
            }
        }
        assert!(!breaker.is_closed());
    }

    #[test]
    fn the_longest_time_is_bounded_and_late_outcomes_do_not_count() {
        let mut breaker = Breaker::new();
        let late = breaker.try_pass(0).expect("closed");
        fail(&mut breaker, IN_A_ROW, 0);
        breaker.on_outcome(late, true, 0);
        let mut now_ns = 0;
        for _ in 0..10 {
            now_ns += breaker.try_pass(now_ns).expect_err("open");
            let probe = breaker.try_pass(now_ns).expect("half-open");
            breaker.on_outcome(late, true, now_ns);
            breaker.on_outcome(probe, false, now_ns);
        }
        assert_eq!(breaker.try_pass(now_ns), Err(OPEN_MAX_NS));
    }

    #[test]
    fn a_probe_that_is_given_up_or_lost_lets_the_next_one_pass() {
        let mut breaker = Breaker::new();
        fail(&mut breaker, IN_A_ROW, 0);
        let probe = breaker.try_pass(S).expect("half-open");
        breaker.on_given_up(probe, S);
        let _lost = breaker.try_pass(S).expect("half-open");
        assert_eq!(breaker.try_pass(2 * S), Err(OPEN_MAX_NS - S));
        assert!(breaker.try_pass(S + OPEN_MAX_NS).is_ok());
    }

    proptest! {
        /// Whatever happens, it asks again within the longest time.
        #[test]
        fn it_is_never_shut_for_good(steps in prop::collection::vec((0..5_u8, 0..3 * S), 1..200)) {
            let (mut breaker, mut now_ns, mut under_way) = (Breaker::new(), 0, Vec::new());
            for (what, after_ns) in steps {
                now_ns += after_ns;
                match (what, breaker.try_pass(now_ns)) {
                    (_, Err(wait_ns)) => prop_assert!(wait_ns <= OPEN_MAX_NS),
                    (0, Ok(passed)) => under_way.push(passed),
                    (1, Ok(passed)) => breaker.on_given_up(passed, now_ns),
                    (_, Ok(passed)) => breaker.on_outcome(passed, what == 2, now_ns),
                }
                if what == 4 && let Some(passed) = under_way.pop() {
                    breaker.on_outcome(passed, false, now_ns);
                }
            }
            prop_assert!(breaker.try_pass(now_ns + OPEN_MAX_NS).is_ok());
        }
    }
}
