//! How long a column looks for messages in memory before it waits in the kernel. Pure.
//!
//! Called by `driver`. Being woken costs a column that waits, and whoever wrote to it, about 50 µs each; looking costs CPU that
//! nobody else can use. So it looks for long only when something is about to come: an answer that it waits for, or another
//! request when requests of other columns follow each other closely. Answers that have come say nothing: whoever is served
//! with them may need this CPU to go on.
//!
//! Invariant: a column whose CPU others want does not look for long. Whether they do is seen by its having been made to give
//! it up while it looked, [`CROWD_MIN`] times or more in [`CROWD_LOOK_NS`] of looking; it then refrains for a time that
//! doubles with each time in a row.

use super::driver::Traffic;

/// What is expected comes within this time, or the column waits for it as for anything.
const EXPECT_NS: u64 = 100_000;
/// Requests of others no farther apart than this follow each other closely.
const CLOSE_NS: u64 = 200_000;
/// So many in a row are a stream.
const STREAM_MIN: u32 = 4;
const STREAM_MAX: u32 = 16;
/// Looking for so long is followed by a look at the CPU's other users.
const CROWD_LOOK_NS: u64 = 10_000_000;
/// What runs now and then on any CPU is no crowd.
const CROWD_MIN: u64 = 3;
const REFRAIN_NS_MIN: u64 = 100_000_000;
const REFRAIN_NS_MAX: u64 = 6_400_000_000;

/// Of one column.
pub struct Spin {
    base_ns: u64,
    asked_total: u64,
    asked_ns: u64,
    /// Requests in a row that came closely.
    stream: u32,
    /// Looked for since the CPU's other users were looked at, and how often it was given up to them meanwhile.
    looked_ns: u64,
    given_up: u64,
    refrain_until_ns: u64,
    refrain_ns: u64,
}

impl Spin {
    /// `base_ns`: how long to look when nothing is expected; 0 for a column that is alone.
    pub fn new(base_ns: u64) -> Spin {
        Spin {
            base_ns,
            asked_total: 0,
            asked_ns: 0,
            stream: 0,
            looked_ns: 0,
            given_up: 0,
            refrain_until_ns: 0,
            refrain_ns: REFRAIN_NS_MIN,
        }
    }

    /// How long after the last event to look on.
    pub fn ns(&mut self, now_ns: u64, traffic: Traffic) -> u64 {
        if self.base_ns == 0 {
            return 0;
        }
        self.note(now_ns, traffic.asked_total);
        let is_expecting = traffic.awaited > 0 || self.stream >= STREAM_MIN;
        let is_long = is_expecting && now_ns >= self.refrain_until_ns;
        if is_long { EXPECT_NS.max(self.base_ns) } else { self.base_ns }
    }

    /// It has looked for so long, and was made to give up its CPU so often meanwhile.
    pub fn on_looked(&mut self, now_ns: u64, ns: u64, given_up: u64) {
        self.looked_ns += ns;
        self.given_up += given_up;
        if self.looked_ns < CROWD_LOOK_NS {
            return;
        }
        if self.given_up >= CROWD_MIN {
            self.refrain_until_ns = now_ns + self.refrain_ns;
            self.refrain_ns = (self.refrain_ns * 2).min(REFRAIN_NS_MAX);
        } else {
            self.refrain_ns = REFRAIN_NS_MIN;
        }
        (self.looked_ns, self.given_up) = (0, 0);
    }

    fn note(&mut self, now_ns: u64, asked_total: u64) {
        let is_close = now_ns.saturating_sub(self.asked_ns) <= CLOSE_NS;
        if asked_total != self.asked_total {
            (self.asked_total, self.asked_ns) = (asked_total, now_ns);
            self.stream = if is_close { (self.stream + 1).min(STREAM_MAX) } else { self.stream / 2 };
        } else if !is_close {
            self.stream = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE_NS: u64 = 2_000;

    #[test]
    fn looks_for_answers_and_for_streams_of_requests() {
        let mut spin = Spin::new(BASE_NS);
        let mut at = |now_ns, asked_total, awaited| spin.ns(now_ns, Traffic { asked_total, awaited });
        assert_eq!(at(0, 0, 0), BASE_NS);
        assert_eq!(at(1, 0, 1), EXPECT_NS, "an answer is awaited");
        let mut now_ns = 1_000_000;
        for asked in 1..=STREAM_MIN as u64 {
            assert_eq!(at(now_ns, asked, 0), BASE_NS, "request {asked}");
            now_ns += CLOSE_NS;
        }
        assert_eq!(at(now_ns, 100, 0), EXPECT_NS, "they follow each other closely");
        assert_eq!(at(now_ns + CLOSE_NS + 1, 100, 0), BASE_NS, "the stream has ended");
        let mut alone = Spin::new(0);
        assert_eq!(alone.ns(0, Traffic { asked_total: 9, awaited: 9 }), 0);
    }

    #[test]
    fn refrains_for_longer_and_longer_while_others_want_the_cpu() {
        let mut spin = Spin::new(BASE_NS);
        let awaiting = Traffic { asked_total: 0, awaited: 1 };
        let (mut now_ns, mut expected_ns) = (0, REFRAIN_NS_MIN);
        for _ in 0..10 {
            spin.on_looked(now_ns, CROWD_LOOK_NS - 1, CROWD_MIN);
            assert_eq!(spin.ns(now_ns, awaiting), EXPECT_NS, "too early to tell");
            spin.on_looked(now_ns, 1, 0);
            assert_eq!(spin.ns(now_ns, awaiting), BASE_NS, "somebody wants the CPU");
            assert_eq!(spin.ns(now_ns + expected_ns - 1, awaiting), BASE_NS);
            now_ns += expected_ns;
            expected_ns = (expected_ns * 2).min(REFRAIN_NS_MAX);
        }
        spin.on_looked(now_ns, CROWD_LOOK_NS, CROWD_MIN - 1);
        assert_eq!(spin.ns(now_ns, awaiting), EXPECT_NS, "nobody does");
        spin.on_looked(now_ns, CROWD_LOOK_NS, CROWD_MIN);
        assert_eq!(spin.ns(now_ns, awaiting), BASE_NS);
        assert_eq!(spin.ns(now_ns + REFRAIN_NS_MIN, awaiting), EXPECT_NS, "from the start again");
    }
}
