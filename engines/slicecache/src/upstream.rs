//! One origin as one column sees it: its connections, whose turn it is, whether it is left alone. Called by `fetch` and `serve/pass`.
//!
//! Invariants
//! 1. At most as many requests are under way as it was made for; each holds a [`Turn`], which the next one gets when it is dropped.
//! 2. What passes the breaker is heard of: as an outcome, or as given up.

use crate::state::breaker::{Breaker, Passed};
use crate::state::retry::{Fault, RetryBudget};
use crate::state::turns::{Ticket, Turn as Whose, Turns};
use net::client::{Client, ClientError, Url};
use runtime::io::Io;
use runtime::oneshot::Oneshot;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

/// An origin.
pub struct Upstream<I: Io> {
    io: I,
    /// Its connections.
    pub client: Client<I>,
    /// Scheme, host and port.
    pub url: Url,
    turns: RefCell<Turns>,
    waiting: RefCell<BTreeMap<Ticket, Oneshot<()>>>,
    breaker: RefCell<Breaker>,
    /// What probes say.
    is_up: Cell<bool>,
    /// What may be tried again.
    pub budget: RefCell<RetryBudget>,
}

/// Why a request may not go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Too many wait already.
    Busy,
    /// The origin fails and is left alone.
    Open,
}

impl<I: Io> Upstream<I> {
    /// The origin at `url`.
    pub fn new(io: &I, client: Client<I>, url: Url, connections_max: usize) -> Rc<Upstream<I>> {
        Rc::new(Upstream {
            io: io.clone(),
            client,
            url,
            turns: RefCell::new(Turns::new(connections_max)),
            waiting: RefCell::default(),
            breaker: RefCell::default(),
            is_up: Cell::new(true),
            budget: RefCell::default(),
        })
    }

    /// A target of it.
    pub fn url_of(&self, target: &str) -> Url {
        Url { target: target.to_owned(), ..self.url.clone() }
    }

    /// Probes say that it is up, or down. What was held against it before does not count when it is up again.
    pub fn on_health(&self, is_up: bool) {
        if is_up && !self.is_up.get() {
            *self.breaker.borrow_mut() = Breaker::new();
        }
        self.is_up.set(is_up);
    }

    /// Requests under way, and those that wait.
    pub fn requests(&self) -> (usize, usize) {
        self.turns.borrow().counts()
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// It is not to be asked now.
    pub async fn turn(self: &Rc<Self>, is_small: bool) -> Result<Turn<I>, Closed> {
        if !self.is_up.get() {
            return Err(Closed::Open);
        }
        let whose = self.turns.borrow_mut().ask(is_small, self.io.now_ns());
        match whose {
            Whose::Busy => return Err(Closed::Busy),
            Whose::Now => {}
            Whose::Wait(ticket) => {
                let (give, turn) = Oneshot::new();
                self.waiting.borrow_mut().insert(ticket, give);
                let mut queued = Queued { upstream: self, ticket, has_come: false };
                turn.await;
                queued.has_come = true;
            }
        }
        let mut turn = Turn { upstream: self.clone(), passed: None };
        let passed = self.breaker.borrow_mut().try_pass(self.io.now_ns());
        turn.passed = Some(passed.map_err(|_wait_ns| Closed::Open)?);
        Ok(turn)
    }

    fn over(&self) {
        let next = self.turns.borrow_mut().on_over(self.io.now_ns());
        let waited = next.and_then(|ticket| self.waiting.borrow_mut().remove(&ticket));
        if let Some(give) = waited {
            give.set(());
        }
    }
}

struct Queued<'u, I: Io> {
    upstream: &'u Upstream<I>,
    ticket: Ticket,
    has_come: bool,
}

impl<I: Io> Drop for Queued<'_, I> {
    fn drop(&mut self) {
        if self.has_come {
            return;
        }
        let waited = self.upstream.waiting.borrow_mut().remove(&self.ticket);
        match waited {
            Some(_) => self.upstream.turns.borrow_mut().on_left(self.ticket),
            // It had come, and nobody was there to take it.
            None => self.upstream.over(),
        }
    }
}

/// The right to have one request under way.
pub struct Turn<I: Io> {
    upstream: Rc<Upstream<I>>,
    passed: Option<Passed>,
}

impl<I: Io> Turn<I> {
    /// How it went: well unless the origin seems to be in trouble (see [`is_trouble`] and [`is_trouble_of`]).
    pub fn on_outcome(&mut self, is_well: bool) {
        let now_ns = self.upstream.io.now_ns();
        if let Some(passed) = self.passed.take() {
            self.upstream.breaker.borrow_mut().on_outcome(passed, is_well, now_ns);
        }
    }
}

impl<I: Io> Drop for Turn<I> {
    fn drop(&mut self) {
        let now_ns = self.upstream.io.now_ns();
        if let Some(passed) = self.passed.take() {
            self.upstream.breaker.borrow_mut().on_given_up(passed, now_ns);
        }
        self.upstream.over();
    }
}

/// Whether a status says that the origin is in trouble, whatever it is asked for. Of a 500, and of an answer that makes no sense, only
/// that path is to blame: who knows one such must not get all others left alone.
#[must_use]
pub fn is_trouble(status: u16) -> bool {
    matches!(status, 502..=504)
}

/// The same of a request without an answer: an origin that cannot be reached, is silent or breaks off is in trouble; one that says what
/// we do not understand is there.
#[must_use]
pub fn is_trouble_of(error: &ClientError) -> bool {
    match error {
        ClientError::Connect(..) | ClientError::Timeout(_) | ClientError::Lost(_) | ClientError::Short => {
            true
        }
        ClientError::Malformed(_) | ClientError::Redirect(_) => false,
    }
}

/// What an error of the client is to those who may try again.
#[must_use]
pub fn fault_of(error: &ClientError) -> Fault {
    match error {
        ClientError::Connect(..) => Fault::Connect,
        ClientError::Timeout(_) => Fault::Timeout,
        ClientError::Lost(_) => Fault::Reset,
        ClientError::Short => Fault::Short,
        ClientError::Malformed(_) | ClientError::Redirect(_) => Fault::Malformed,
    }
}
