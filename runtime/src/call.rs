//! Requests and answers between columns: a ticket goes with each request and comes back with its answer.
//!
//! Called by an engine's `serve` (asks the owner) and `shard` (answers). Plain values travel; futures stay at home.
//!
//! Invariants
//! 1. At most [`CALLS_MAX`] calls of one column to another are under way; past it the caller is told "busy".
//! 2. A lane holds the calls one way and the answers to those of the other way, so sending an answer cannot fail.
//! 3. Every call is answered once; an answer to a caller that has gone is dropped.

use crate::mesh::{Doorbell, Inbox as Lanes, Outbox, Port, mesh};
use crate::oneshot::{Oneshot, Waiting};
use crate::ring::{Inbox, Traffic};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

/// Calls under way from one column to one other.
pub const CALLS_MAX: usize = 1024;
const LANE_CAPACITY: usize = 2 * CALLS_MAX;
/// Messages handled before other work gets its turn.
const POLL_BUDGET: usize = 256;

/// What travels.
pub enum Letter<Q, R> {
    /// A request.
    Call {
        /// Comes back with the answer.
        ticket: u32,
        /// The request.
        body: Q,
    },
    /// Its answer.
    Answer {
        /// Of the request.
        ticket: u32,
        /// The answer.
        body: R,
    },
}

/// The ends for a set of columns, to be moved to them.
pub fn letters<Q: Send, R: Send>(bells: &[Arc<Doorbell>]) -> Vec<Port<Letter<Q, R>>> {
    mesh(bells.len(), LANE_CAPACITY, bells)
}

struct Tickets<R> {
    waiting: Vec<Option<(usize, Oneshot<R>)>>,
    unused: Vec<u32>,
    under_way: Vec<usize>,
}

/// The calling end of a column. Clones share it.
pub struct Caller<Q, R> {
    outbox: Rc<Outbox<Letter<Q, R>>>,
    tickets: Rc<RefCell<Tickets<R>>>,
}

impl<Q, R> Clone for Caller<Q, R> {
    fn clone(&self) -> Self {
        Caller { outbox: self.outbox.clone(), tickets: self.tickets.clone() }
    }
}

/// Too many calls to that column are under way. The request comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many requests are waiting for another column")]
pub struct CallBusy<Q = ()>(pub Q);

/// The duty to answer one call.
pub struct Respond<Q, R> {
    outbox: Rc<Outbox<Letter<Q, R>>>,
    to: usize,
    ticket: u32,
}

impl<Q: Send, R: Send> Respond<Q, R> {
    /// Answers.
    pub fn answer(self, body: R) {
        let sent = self.outbox.try_send(self.to, Letter::Answer { ticket: self.ticket, body });
        assert!(sent.is_ok(), "an answer found its lane full: more than {CALLS_MAX} calls were let in");
    }
}

impl<Q: Send + 'static, R: Send + 'static> Caller<Q, R> {
    /// Connects a column: `handle` is called for each request of another column, and must answer soon or spawn.
    pub fn connect(
        port: Port<Letter<Q, R>>,
        handle: impl Fn(Q, Respond<Q, R>) + 'static,
    ) -> (Caller<Q, R>, Box<dyn Inbox>) {
        let (outbox, lanes) = port.split();
        let outbox = Rc::new(outbox);
        let tickets =
            Tickets { waiting: Vec::new(), unused: Vec::new(), under_way: vec![0; outbox.columns()] };
        let caller = Caller { outbox, tickets: Rc::new(RefCell::new(tickets)) };
        let inbox = CallInbox {
            lanes: RefCell::new(lanes),
            caller: caller.clone(),
            handle,
            polling: Cell::new(false),
            asked_total: Cell::new(0),
        };
        (caller, Box::new(inbox))
    }

    /// Sends a request to column `to`; the future waits for the answer.
    pub fn call(&self, to: usize, body: Q) -> Result<Waiting<R>, CallBusy<Q>> {
        let tickets = &mut *self.tickets.borrow_mut();
        if tickets.under_way[to] >= CALLS_MAX {
            return Err(CallBusy(body));
        }
        tickets.under_way[to] += 1;
        let (give, waiting) = Oneshot::new();
        let ticket = match tickets.unused.pop() {
            Some(ticket) => {
                tickets.waiting[ticket as usize] = Some((to, give));
                ticket
            }
            None => {
                tickets.waiting.push(Some((to, give)));
                (tickets.waiting.len() - 1) as u32
            }
        };
        let sent = self.outbox.try_send(to, Letter::Call { ticket, body });
        assert!(sent.is_ok(), "a call found its lane full although {} are under way", tickets.under_way[to]);
        Ok(waiting)
    }

    fn on_answer(&self, from: usize, ticket: u32, body: R) {
        let tickets = &mut *self.tickets.borrow_mut();
        let (asked, give) = tickets.waiting[ticket as usize].take().expect("an answer has a call");
        assert_eq!(asked, from, "column {from} answered a call to {asked}");
        tickets.under_way[from] -= 1;
        tickets.unused.push(ticket);
        give.set(body);
    }
}

struct CallInbox<Q, R, H> {
    lanes: RefCell<Lanes<Letter<Q, R>>>,
    caller: Caller<Q, R>,
    handle: H,
    polling: Cell<bool>,
    asked_total: Cell<u64>,
}

impl<Q: Send + 'static, R: Send + 'static, H: Fn(Q, Respond<Q, R>)> Inbox for CallInbox<Q, R, H> {
    fn poll(&self) -> usize {
        assert!(!self.polling.replace(true), "an inbox is polled from inside its own handler");
        let handled = self.lanes.borrow_mut().poll(POLL_BUDGET, |from, letter| match letter {
            Letter::Call { ticket, body } => {
                self.asked_total.set(self.asked_total.get() + 1);
                (self.handle)(body, Respond { outbox: self.caller.outbox.clone(), to: from, ticket });
            }
            Letter::Answer { ticket, body } => self.caller.on_answer(from, ticket, body),
        });
        self.polling.set(false);
        handled
    }

    fn is_empty(&self) -> bool {
        self.lanes.borrow().is_empty()
    }

    fn traffic(&self) -> Traffic {
        let awaited = self.caller.tickets.borrow().under_way.iter().sum();
        Traffic { asked_total: self.asked_total.get(), awaited }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_bounded_and_answered() {
        let bells: Vec<_> = (0..2).map(|_| Arc::new(Doorbell::new().expect("eventfd"))).collect();
        let mut ports = letters::<u32, u32>(&bells).into_iter();
        let mut connect =
            || Caller::connect(ports.next().expect("a port"), |q, r: Respond<u32, u32>| r.answer(q + 1));
        let ((left, left_inbox), (_right, right_inbox)) = (connect(), connect());
        let calls: Vec<_> = (0..CALLS_MAX as u32).map(|q| left.call(1, q).expect("room")).collect();
        assert_eq!(left.call(1, 7).map(|_| ()), Err(CallBusy(7)));
        while right_inbox.poll() > 0 {}
        while left_inbox.poll() > 0 {}
        assert!(left_inbox.is_empty() && right_inbox.is_empty());
        for (q, call) in calls.into_iter().enumerate() {
            let mut call = std::pin::pin!(call);
            let answer = call.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
            assert_eq!(answer, std::task::Poll::Ready(q as u32 + 1));
        }
        assert!(left.call(1, 7).is_ok(), "tickets come back");
    }
    use std::future::Future;
}
