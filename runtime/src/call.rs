//! Requests and answers between columns: a ticket goes with each request and comes back with its answer.
//!
//! Called by an engine's `serve` (asks the owner) and `shard` (answers). Plain values travel; futures stay at home.
//!
//! Invariants
//! 1. Of one column's calls to another at most [`CALLS_MAX`] that are prompt are under way, and [`LONG_CALLS_MAX`] that are not: those
//!    that wait for an origin or a disk take nothing from the others. Past it the caller is told "busy", or waits for his turn.
//! 2. Sending cannot fail and never waits: what finds its lane full is kept ([`backlog`]), at most the calls one way and the answers to
//!    those of the other way.
//! 3. Every call is answered once; an answer to a caller that has gone is dropped.

mod backlog;

use crate::mesh::{Doorbell, Inbox as Lanes, Port, mesh};
use crate::oneshot::{Oneshot, Waiting};
use crate::ring::{Inbox, Traffic};
use crate::waiters::Waiters;
use backlog::Backlog;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

/// Prompt calls under way from one column to one other.
pub const CALLS_MAX: usize = 1024;
/// Calls under way from one column to one other that may wait long: more than a column has requests, so that what is left of those
/// whose clients are gone keeps out nobody.
pub const LONG_CALLS_MAX: usize = 32_768;
const LANE_CAPACITY: usize = 2 * CALLS_MAX;
/// Messages handled before other work gets its turn.
const POLL_BUDGET: usize = 256;

/// How soon a call is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As soon as the other column gets to it.
    Prompt,
    /// When somebody else lets it: an origin, a disk.
    Long,
}

const KINDS: usize = 2;

impl Kind {
    fn calls_max(self) -> usize {
        match self {
            Kind::Prompt => CALLS_MAX,
            Kind::Long => LONG_CALLS_MAX,
        }
    }
}

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

/// A call that has no answer yet.
struct Asked<R> {
    to: usize,
    kind: Kind,
    give: Oneshot<R>,
}

struct Tickets<R> {
    waiting: Vec<Option<Asked<R>>>,
    unused: Vec<u32>,
    /// By column and kind.
    under_way: Vec<[usize; KINDS]>,
}

impl<R> Tickets<R> {
    fn has_room(&self, kind: Kind, to: usize) -> bool {
        self.under_way[to][kind as usize] < kind.calls_max()
    }

    fn draw(&mut self, asked: Asked<R>) -> u32 {
        self.under_way[asked.to][asked.kind as usize] += 1;
        match self.unused.pop() {
            Some(ticket) => {
                self.waiting[ticket as usize] = Some(asked);
                ticket
            }
            None => {
                self.waiting.push(Some(asked));
                (self.waiting.len() - 1) as u32
            }
        }
    }
}

/// The calling end of a column. Clones share it.
pub struct Caller<Q, R> {
    out: Rc<Backlog<Letter<Q, R>>>,
    tickets: Rc<RefCell<Tickets<R>>>,
    /// Those who wait for their turn to call.
    turns: Rc<Waiters>,
}

impl<Q, R> Clone for Caller<Q, R> {
    fn clone(&self) -> Self {
        Caller { out: self.out.clone(), tickets: self.tickets.clone(), turns: self.turns.clone() }
    }
}

/// Too many calls to that column are under way. The request comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many requests are waiting for another column")]
pub struct CallBusy<Q = ()>(pub Q);

/// The duty to answer one call.
pub struct Respond<Q, R> {
    out: Rc<Backlog<Letter<Q, R>>>,
    to: usize,
    ticket: u32,
}

impl<Q: Send, R: Send> Respond<Q, R> {
    /// Answers.
    pub fn answer(self, body: R) {
        self.out.send(self.to, Letter::Answer { ticket: self.ticket, body });
    }
}

impl<Q: Send + 'static, R: Send + 'static> Caller<Q, R> {
    /// Connects a column: `handle` is called for each request of another column, and must answer soon or spawn.
    pub fn connect(
        port: Port<Letter<Q, R>>,
        handle: impl Fn(Q, Respond<Q, R>) + 'static,
    ) -> (Caller<Q, R>, Box<dyn Inbox>) {
        let (outbox, lanes) = port.split();
        let out = Rc::new(Backlog::new(outbox));
        let under_way = vec![[0; KINDS]; out.columns()];
        let tickets = Tickets { waiting: Vec::new(), unused: Vec::new(), under_way };
        let caller = Caller { out, tickets: Rc::new(RefCell::new(tickets)), turns: Rc::default() };
        let inbox = CallInbox {
            lanes: RefCell::new(lanes),
            caller: caller.clone(),
            handle,
            polling: Cell::new(false),
            asked_total: Cell::new(0),
        };
        (caller, Box::new(inbox))
    }

    /// Sends a request that is answered soon to column `to`; the future waits for the answer.
    pub fn call(&self, to: usize, body: Q) -> Result<Waiting<R>, CallBusy<Q>> {
        self.try_call(Kind::Prompt, to, body)
    }

    /// Sends a request to column `to` when its turn comes, and waits for the answer. Who is dropped before that has sent nothing.
    pub async fn call_in_turn(&self, kind: Kind, to: usize, body: Q) -> R {
        let mut body = body;
        loop {
            match self.try_call(kind, to, body) {
                Ok(answer) => return answer.await,
                Err(CallBusy(back)) => body = back,
            }
            self.turns.until(|| self.tickets.borrow().has_room(kind, to)).await;
        }
    }

    fn try_call(&self, kind: Kind, to: usize, body: Q) -> Result<Waiting<R>, CallBusy<Q>> {
        let tickets = &mut *self.tickets.borrow_mut();
        if !tickets.has_room(kind, to) {
            return Err(CallBusy(body));
        }
        let (give, waiting) = Oneshot::new();
        let ticket = tickets.draw(Asked { to, kind, give });
        self.out.send(to, Letter::Call { ticket, body });
        Ok(waiting)
    }

    fn on_answer(&self, from: usize, ticket: u32, body: R) {
        let tickets = &mut *self.tickets.borrow_mut();
        let asked = tickets.waiting[ticket as usize].take().expect("an answer has a call");
        assert_eq!(asked.to, from, "column {from} answered a call to {}", asked.to);
        // Whoever waits for a turn has seen that there was none.
        let was_full = !tickets.has_room(asked.kind, from);
        tickets.under_way[from][asked.kind as usize] -= 1;
        tickets.unused.push(ticket);
        asked.give.set(body);
        if was_full {
            self.turns.wake();
        }
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
                (self.handle)(body, Respond { out: self.caller.out.clone(), to: from, ticket });
            }
            Letter::Answer { ticket, body } => self.caller.on_answer(from, ticket, body),
        });
        self.polling.set(false);
        handled + self.caller.out.flush()
    }

    /// Nobody rings when a lane has room again: what is kept keeps its column awake.
    fn is_empty(&self) -> bool {
        self.lanes.borrow().is_empty() && self.caller.out.is_empty()
    }

    fn traffic(&self) -> Traffic {
        let awaited = self.caller.tickets.borrow().under_way.iter().flatten().sum();
        Traffic { asked_total: self.asked_total.get(), awaited }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    type End = (Caller<u32, u32>, Box<dyn Inbox>);
    type Kept = Rc<RefCell<Vec<(u32, Respond<u32, u32>)>>>;

    /// Two columns. The left one adds one to what it is asked, the right one too when it is told to [`let_go`], not before.
    fn two(kept: &Kept) -> (End, End) {
        let bells: Vec<_> = (0..2).map(|_| Arc::new(Doorbell::new().expect("eventfd"))).collect();
        let mut ports = letters::<u32, u32>(&bells).into_iter();
        let left = Caller::connect(ports.next().expect("a port"), |q, r: Respond<u32, u32>| r.answer(q + 1));
        let kept = kept.clone();
        let keep = move |q, r: Respond<u32, u32>| kept.borrow_mut().push((q, r));
        (left, Caller::connect(ports.next().expect("a port"), keep))
    }

    fn let_go(kept: &Kept) {
        kept.take().into_iter().for_each(|(q, respond)| respond.answer(q + 1));
    }

    fn poll<F: Future>(future: Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => Some(answer),
            Poll::Pending => None,
        }
    }

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
            assert_eq!(poll(pin!(call)), Some(q as u32 + 1));
        }
        assert!(left.call(1, 7).is_ok(), "tickets come back");
    }

    #[test]
    fn calls_that_wait_long_hold_up_no_others_and_more_than_a_lane_holds_is_answered_in_order() {
        let kept = Rc::default();
        let ((left, left_inbox), (right, right_inbox)) = two(&kept);
        let mut long: Vec<_> =
            (0..LONG_CALLS_MAX as u32).map(|q| Box::pin(left.call_in_turn(Kind::Long, 1, q))).collect();
        let mut late = Box::pin(left.call_in_turn(Kind::Long, 1, 7));
        assert!(long.iter_mut().all(|call| poll(call.as_mut()).is_none()) && poll(late.as_mut()).is_none());
        assert!(!left_inbox.is_empty(), "it must not sleep on what it has not sent");
        let all = |left_inbox: &dyn Inbox| while right_inbox.poll() + left_inbox.poll() > 0 {};
        all(&*left_inbox);
        let asked: Vec<u32> = kept.borrow().iter().map(|(q, _)| *q).collect();
        assert!(asked.into_iter().eq(0..LONG_CALLS_MAX as u32), "in their order, and none beyond the bound");
        assert!(left_inbox.is_empty() && right_inbox.is_empty());
        // The other way, and for what is prompt, there is room.
        let mut back = Box::pin(right.call_in_turn(Kind::Long, 0, 40));
        let mut prompt = Box::pin(left.call_in_turn(Kind::Prompt, 1, 50));
        assert!(poll(back.as_mut()).is_none() && poll(prompt.as_mut()).is_none());
        all(&*left_inbox);
        assert_eq!(poll(back.as_mut()), Some(41));
        assert_eq!(kept.borrow().last().map(|(q, _)| *q), Some(50));
        // All at once: many times what a lane holds.
        let_go(&kept);
        assert!(!right_inbox.is_empty());
        all(&*left_inbox);
        assert_eq!(poll(prompt.as_mut()), Some(51));
        assert!(long.iter_mut().enumerate().all(|(q, call)| poll(call.as_mut()) == Some(q as u32 + 1)));
        assert!(poll(late.as_mut()).is_none(), "its turn has come");
        all(&*left_inbox);
        let_go(&kept);
        all(&*left_inbox);
        assert_eq!(poll(late.as_mut()), Some(8));
        assert_eq!(left_inbox.traffic().awaited, 0);
    }

    #[test]
    fn who_waits_for_a_turn_is_woken_by_an_answer() {
        struct Woken(std::sync::atomic::AtomicBool);
        impl std::task::Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.store(true, std::sync::atomic::Ordering::Relaxed);
            }
        }
        let kept = Rc::default();
        let ((left, left_inbox), (_right, right_inbox)) = two(&kept);
        let _calls: Vec<_> = (0..CALLS_MAX as u32).map(|q| left.call(1, q).expect("room")).collect();
        let woken = Arc::new(Woken(false.into()));
        let mut waits = Box::pin(left.call_in_turn(Kind::Prompt, 1, 7));
        let waker = Waker::from(woken.clone());
        assert!(waits.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        while right_inbox.poll() > 0 {}
        left_inbox.poll();
        assert!(!woken.0.load(std::sync::atomic::Ordering::Relaxed));
        let (q, respond) = kept.borrow_mut().pop().expect("a call");
        respond.answer(q);
        left_inbox.poll();
        assert!(woken.0.load(std::sync::atomic::Ordering::Relaxed));
    }
}
