//! Connections that wait for their next request, by host. Called by `client`.
//!
//! Invariants
//! 1. At most `idle_per_host_max` wait for one host and `idle_max` in all; one more is closed, the oldest first.
//! 2. One that waits longer than `idle_wait_ns` is hung up on by the deadline sweeper and closed at its next look.
//! 3. One on which anything has come since its last answer ended is never used again, whether it came with that answer or while it
//!    waited: it would be taken for the answer to the next request (RFC 9112 §6.3). Nor is one that its peer has closed.

use super::stream::Stream;
use super::{Limits, Url};
use crate::deadline::Guard;
use runtime::io::{Hangup, Io};
use std::cell::RefCell;

/// Idle connections to one host.
pub const IDLE_PER_HOST_MAX: usize = 10;
/// Idle connections of one column.
pub const IDLE_MAX: usize = 64;
/// How long a connection waits for its next request.
pub const IDLE_WAIT_NS: u64 = 90_000_000_000;

/// Whom a connection leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) is_https: bool,
    pub(super) name: String,
    pub(super) port: u16,
}

impl Host {
    pub(super) fn of(url: &Url) -> Host {
        Host { is_https: url.is_https, name: url.host.clone(), port: url.port }
    }
}

/// A connection with its deadline.
pub(super) struct Link<I: Io> {
    pub(super) stream: Stream<I>,
    pub(super) guard: Guard,
}

impl<I: Io> Link<I> {
    /// It was not hung up on, by us or its peer, and nothing has come that nobody asked for.
    fn is_usable(&mut self) -> bool {
        !self.guard.is_late() && self.stream.is_quiet()
    }
}

pub(super) struct Pool<I: Io> {
    limits: Limits,
    /// Oldest first.
    idle: RefCell<Vec<(Host, Link<I>)>>,
}

impl<I: Io> Pool<I> {
    pub(super) fn new(limits: Limits) -> Pool<I> {
        Pool { limits, idle: RefCell::new(Vec::new()) }
    }

    /// The connection to `host` that waited the shortest and is of use.
    pub(super) fn take(&self, host: &Host) -> Option<Link<I>> {
        let mut idle = self.idle.borrow_mut();
        loop {
            let at = idle.iter().rposition(|(h, _)| h == host)?;
            let mut link = idle.remove(at).1;
            if link.is_usable() {
                return Some(link);
            }
        }
    }

    pub(super) fn put(&self, host: Host, link: Link<I>, now_ns: u64) {
        link.guard.set(now_ns + self.limits.idle_wait_ns, Hangup::Both, true);
        let mut idle = self.idle.borrow_mut();
        idle.push((host, link));
        let newest = &idle[idle.len() - 1].0;
        if idle.iter().filter(|(h, _)| h == newest).count() > self.limits.idle_per_host_max {
            let oldest = idle.iter().position(|(h, _)| h == newest).expect("just counted");
            idle.remove(oldest);
        }
        if idle.len() > self.limits.idle_max {
            idle.remove(0);
        }
    }

    /// Connections that wait.
    pub(super) fn len(&self) -> usize {
        self.idle.borrow().len()
    }

    /// Closes those that are of no use any more.
    pub(super) fn close_spoilt(&self) {
        self.idle.borrow_mut().retain_mut(|(_, link)| link.is_usable());
    }
}
