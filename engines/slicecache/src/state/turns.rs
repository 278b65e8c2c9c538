//! Whose turn it is when more want of an origin than its connections allow: small objects before large ones, and nobody for ever.
//!
//! Called before each request to an origin, and when one is over. A small one waits only for small ones that came before it; a large
//! one that has waited [`OVERDUE_NS`] goes first, every other time, so that a crowd of overdue ones does not shut the small ones out.
//! Time is a parameter.
//!
//! Invariants: within a class, first come, first served; somebody waits only while all connections are in use; at most
//! [`TURNS_WAITING_MAX`] wait.

use crate::limits::TURNS_WAITING_MAX;
use std::collections::VecDeque;

/// The longest that a large one waits behind small ones that came later.
pub const OVERDUE_NS: u64 = 500_000_000;

/// Names one that waits.
pub type Ticket = u64;

/// Whether a request may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// At once.
    Now,
    /// When [`Turns::on_over`] or [`Turns::on_left`] names it.
    Wait(Ticket),
    /// Too many wait: 503.
    Busy,
}

#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    since_ns: u64,
}

/// The connections of one origin.
#[derive(Debug)]
pub struct Turns {
    all: usize,
    free: usize,
    small: VecDeque<Waiting>,
    large: VecDeque<Waiting>,
    was_overdue: bool,
    next_ticket: Ticket,
}

impl Turns {
    /// So many requests at a time.
    #[must_use]
    pub fn new(connections_max: usize) -> Turns {
        assert!(connections_max > 0);
        let (small, large) = (VecDeque::new(), VecDeque::new());
        Turns {
            all: connections_max,
            free: connections_max,
            small,
            large,
            was_overdue: false,
            next_ticket: 0,
        }
    }

    /// Requests under way, and those that wait.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.all - self.free, self.small.len() + self.large.len())
    }

    /// A request wants to go.
    pub fn ask(&mut self, is_small: bool, now_ns: u64) -> Turn {
        if self.free > 0 {
            debug_assert!(self.small.is_empty() && self.large.is_empty());
            self.free -= 1;
            return Turn::Now;
        }
        if self.small.len() + self.large.len() >= TURNS_WAITING_MAX {
            return Turn::Busy;
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let queue = if is_small { &mut self.small } else { &mut self.large };
        queue.push_back(Waiting { ticket, since_ns: now_ns });
        Turn::Wait(ticket)
    }

    /// A request is over: the one whose turn it is now, if any waits.
    pub fn on_over(&mut self, now_ns: u64) -> Option<Ticket> {
        let is_overdue = |front: &Waiting| now_ns.saturating_sub(front.since_ns) >= OVERDUE_NS;
        let large_first = self.large.front().is_some_and(is_overdue) && !self.was_overdue;
        self.was_overdue = large_first;
        let next = match large_first {
            true => self.large.pop_front(),
            false => self.small.pop_front().or_else(|| self.large.pop_front()),
        };
        if next.is_none() {
            self.free += 1;
        }
        next.map(|waiting| waiting.ticket)
    }

    /// One that waited is not wanted any more; one whose turn had come already is over instead.
    pub fn on_left(&mut self, ticket: Ticket) {
        self.small.retain(|waiting| waiting.ticket != ticket);
        self.large.retain(|waiting| waiting.ticket != ticket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn small_ones_go_first_until_a_large_one_is_overdue() {
        let mut turns = Turns::new(1);
        assert_eq!(turns.ask(false, 0), Turn::Now);
        assert_eq!((turns.ask(false, 0), turns.ask(false, 0)), (Turn::Wait(0), Turn::Wait(1)));
        let small: Vec<Turn> = (0..4).map(|_| turns.ask(true, 1)).collect();
        assert_eq!(small, [2, 3, 4, 5].map(Turn::Wait));
        assert_eq!(turns.on_over(OVERDUE_NS - 1), Some(2));
        let order: Vec<Option<Ticket>> = (0..6).map(|_| turns.on_over(OVERDUE_NS)).collect();
        assert_eq!(order, [Some(0), Some(3), Some(1), Some(4), Some(5), None]);
        assert_eq!((turns.ask(false, 9), turns.counts()), (Turn::Now, (1, 0)));
    }

    #[test]
    fn those_who_wait_are_bounded_and_may_leave() {
        let mut turns = Turns::new(1);
        turns.ask(true, 0);
        let waits = (0..TURNS_WAITING_MAX + 5).filter(|at| turns.ask(at % 2 == 0, 0) != Turn::Busy).count();
        assert_eq!(waits, TURNS_WAITING_MAX);
        turns.on_left(0);
        assert_eq!(turns.on_over(0), Some(2));
    }

    proptest! {
        #[test]
        fn connections_are_used_and_each_class_is_served_in_order(
            steps in prop::collection::vec((0..4_u8, 0..OVERDUE_NS / 4), 1..200),
            connections_max in 1..4_usize,
        ) {
            let (mut turns, mut now_ns, mut under_way) = (Turns::new(connections_max), 0, 0);
            let mut waiting: [VecDeque<(Ticket, u64)>; 2] = Default::default();
            for (what, after_ns) in steps {
                now_ns += after_ns;
                if what < 2 {
                    match turns.ask(what == 0, now_ns) {
                        Turn::Now => under_way += 1,
                        Turn::Wait(ticket) => waiting[usize::from(what)].push_back((ticket, now_ns)),
                        Turn::Busy => prop_assert!(false, "so few"),
                    }
                } else if under_way > 0 {
                    match turns.on_over(now_ns) {
                        None => under_way -= 1,
                        Some(ticket) => {
                            let class = usize::from(waiting[0].front().is_none_or(|(front, _)| *front != ticket));
                            let (front, since_ns) = waiting[class].pop_front().expect("one that waits");
                            prop_assert_eq!(front, ticket);
                            let is_early = class == 1 && !waiting[0].is_empty() && now_ns - since_ns < OVERDUE_NS;
                            prop_assert!(!is_early, "a large one before a small one");
                        }
                    }
                }
                let nobody_waits = waiting.iter().all(VecDeque::is_empty);
                prop_assert!(under_way <= connections_max && (nobody_waits || under_way == connections_max));
            }
        }
    }
}
