//! Requests that wait in a ring's entries, and which of them has to go when they keep others of their CPU out.
//!
//! Called by `rings`. Pure. A request that waits, for an origin that hangs or a disk, keeps its entry, as only a reply gives that
//! back. When a queue has none left the next request of its CPU waits in the kernel, where we do not see it but its time runs
//! (REQUEST_TIMEOUT). So of a queue whose entries all wait the one that has waited longest ends, once it has waited for a while.
//! If nobody was kept out, the entry stays free and no other has to go. If somebody was, the queue is full again: the next goes.
//!
//! Invariant: nobody waits in the kernel for much longer than [`KEPT_OUT_NS`], however many wait there: what is granted to those
//! who wait is halved each time that a whole queue of them had to go, down to [`GRANTED_MIN_NS`] (which is 20,000 requests of one
//! CPU before the kernel's own limit, at 16 entries). Units: monotonic nanoseconds.

use std::collections::VecDeque;

/// How long a request may wait in a queue that is full.
const GRANTED_NS: u64 = 5_000_000_000;
const GRANTED_MIN_NS: u64 = 50_000_000;
/// For so long a request may be kept out by others: 5 s, 2.5 s, …
pub(super) const KEPT_OUT_NS: u64 = 2 * GRANTED_NS;
/// After so long without one that had to go, all are granted the whole time again.
const CALM_NS: u64 = 2 * GRANTED_NS;

/// The queues of a ring.
pub(super) struct Crowd {
    queues: Box<[Queue]>,
    depth: usize,
}

#[derive(Default)]
struct Queue {
    /// Requests, and since when they wait: the longest waiting first.
    waiting: VecDeque<(u64, u64)>,
    /// Those that had to go, one soon after the other.
    gone: u32,
    gone_ns: u64,
}

impl Crowd {
    pub(super) fn new(queues: usize, depth: u16) -> Crowd {
        Crowd { queues: (0..queues).map(|_| Queue::default()).collect(), depth: usize::from(depth) }
    }

    /// A request begins to wait in an entry of a queue.
    pub(super) fn enter(&mut self, queue: usize, unique: u64, now_ns: u64) {
        self.queues[queue].waiting.push_back((unique, now_ns));
    }

    /// It has its answer.
    pub(super) fn leave(&mut self, queue: usize, unique: u64) {
        self.queues[queue].waiting.retain(|&(waiting, _)| waiting != unique);
    }

    /// Whether a queue has no entry left for others.
    pub(super) fn is_full(&self, queue: usize) -> bool {
        self.queues[queue].waiting.len() >= self.depth
    }

    /// Whether any is.
    pub(super) fn is_any_full(&self) -> bool {
        (0..self.queues.len()).any(|queue| self.is_full(queue))
    }

    /// Of a queue that is full the request that has to go, if it has waited long enough; it counts no more.
    pub(super) fn overdue(&mut self, queue: usize, now_ns: u64) -> Option<u64> {
        self.queues[queue].overdue(self.depth, now_ns)
    }

    /// The same of all queues.
    pub(super) fn all_overdue(&mut self, now_ns: u64) -> Vec<u64> {
        (0..self.queues.len()).filter_map(|queue| self.overdue(queue, now_ns)).collect()
    }
}

impl Queue {
    fn overdue(&mut self, depth: usize, now_ns: u64) -> Option<u64> {
        if now_ns >= self.gone_ns + CALM_NS {
            self.gone = 0;
        }
        let rounds = self.gone / depth as u32;
        let granted_ns = GRANTED_NS.checked_shr(rounds).unwrap_or(0).max(GRANTED_MIN_NS);
        let &(unique, since_ns) = self.waiting.front()?;
        if self.waiting.len() < depth || now_ns < since_ns + granted_ns {
            return None;
        }
        self.waiting.pop_front();
        (self.gone, self.gone_ns) = (self.gone.saturating_add(1), now_ns);
        Some(unique)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPTH: u16 = 4;
    const LOOK_NS: u64 = 20_000_000;

    #[test]
    fn only_of_a_full_queue_and_only_the_longest_waiting_and_only_after_a_while() {
        let mut crowd = Crowd::new(2, DEPTH);
        (0..3).for_each(|n| crowd.enter(1, n, n));
        assert!(!crowd.is_any_full() && crowd.all_overdue(100 * GRANTED_NS).is_empty(), "an entry is free");
        crowd.enter(1, 3, 3);
        assert!(crowd.is_any_full() && crowd.all_overdue(GRANTED_NS - 1).is_empty(), "it may wait");
        assert_eq!(crowd.all_overdue(GRANTED_NS), [0]);
        assert!(!crowd.is_any_full() && crowd.all_overdue(9 * GRANTED_NS).is_empty(), "nobody was kept out");
        crowd.enter(1, 4, GRANTED_NS);
        crowd.leave(1, 1);
        assert!(!crowd.is_any_full(), "one had its answer");
        crowd.enter(1, 5, GRANTED_NS);
        assert_eq!(crowd.all_overdue(GRANTED_NS + 2), [2], "at once, as it has waited");
    }

    /// As many as wait for a CPU at once, none of which is ever answered: how long the last is kept out.
    fn kept_out_ns(callers: u64) -> u64 {
        let (mut crowd, mut outside, mut now_ns) = (Crowd::new(1, DEPTH), 0..callers, 0);
        loop {
            while !crowd.is_any_full() {
                let unique = outside.next().expect("the last one returns");
                crowd.enter(0, unique, now_ns);
                if unique == callers - 1 {
                    return now_ns;
                }
            }
            if crowd.all_overdue(now_ns).is_empty() {
                now_ns += LOOK_NS;
            }
        }
    }

    #[test]
    fn nobody_is_kept_out_for_long() {
        assert_eq!(kept_out_ns(u64::from(DEPTH)), 0);
        assert_eq!(kept_out_ns(u64::from(DEPTH) + 1), GRANTED_NS);
        for callers in [8, 16, 1000] {
            // What is granted at least, to each whole queue of them, and the time to see it.
            let least_ns = callers / u64::from(DEPTH) * (GRANTED_MIN_NS + LOOK_NS);
            let kept_out_ns = kept_out_ns(callers);
            assert!(kept_out_ns <= KEPT_OUT_NS + least_ns, "{callers}: {kept_out_ns} ns");
        }
    }

    #[test]
    fn when_it_is_calm_again_all_may_wait_as_before() {
        let mut crowd = Crowd::new(1, 1);
        crowd.enter(0, 0, 0);
        assert_eq!(crowd.all_overdue(GRANTED_NS), [0]);
        crowd.enter(0, 1, GRANTED_NS);
        assert_eq!(crowd.all_overdue(GRANTED_NS + GRANTED_NS / 2), [1], "half of it");
        let now_ns = GRANTED_NS + GRANTED_NS / 2 + CALM_NS;
        crowd.enter(0, 2, now_ns);
        assert!(crowd.all_overdue(now_ns + GRANTED_NS - 1).is_empty());
        assert_eq!(crowd.all_overdue(now_ns + GRANTED_NS), [2]);
    }
}
