//! Who has waited too long: one entry per connection of a column, looked at once in a while by one task, instead of a timer
//! per request. Called by `server`.
//!
//! Invariant: a connection past its deadline is hung up within one sweep; its own task then sees the end of the stream and
//! asks `is_late` why. One that has a goodbye to say is told so first, where only receiving would end, and hung up on at its
//! next deadline.

use runtime::io::Hangup;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// How often the sweeper looks, while there are connections.
pub const SWEEP_NS: u64 = 500_000_000;

struct Watch {
    due_ns: Cell<u64>,
    how: Cell<Hangup>,
    late: Cell<bool>,
    idle: Cell<bool>,
    hangup: Box<dyn Fn(Hangup)>,
    /// Called once instead of the first hangup of receiving alone.
    goodbye: Cell<Option<Box<dyn FnOnce()>>>,
}

/// The deadlines of a column's connections. Clones share them.
#[derive(Clone, Default)]
pub struct Deadlines {
    watches: Rc<RefCell<Vec<Option<Rc<Watch>>>>>,
    unused: Rc<RefCell<Vec<usize>>>,
    count: Rc<Cell<usize>>,
}

impl Deadlines {
    /// Watches a connection; it is forgotten when the guard is dropped.
    pub fn watch(&self, due_ns: u64, hangup: Box<dyn Fn(Hangup)>) -> Guard {
        let watch = Rc::new(Watch {
            due_ns: Cell::new(due_ns),
            how: Cell::new(Hangup::Both),
            late: Cell::new(false),
            idle: Cell::new(true),
            hangup,
            goodbye: Cell::new(None),
        });
        let mut watches = self.watches.borrow_mut();
        let at = match self.unused.borrow_mut().pop() {
            Some(at) => {
                watches[at] = Some(watch.clone());
                at
            }
            None => {
                watches.push(Some(watch.clone()));
                watches.len() - 1
            }
        };
        self.count.set(self.count.get() + 1);
        Guard { deadlines: self.clone(), at, watch }
    }

    /// Connections watched.
    pub fn len(&self) -> usize {
        self.count.get()
    }

    /// No connection is watched.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Hangs up on everyone whose deadline is over.
    pub fn sweep(&self, now_ns: u64) {
        let due: Vec<Rc<Watch>> = {
            let watches = self.watches.borrow();
            watches.iter().flatten().filter(|w| w.due_ns.get() <= now_ns).cloned().collect()
        };
        for watch in due {
            if watch.how.get() == Hangup::Receive
                && let Some(say) = watch.goodbye.take()
            {
                watch.due_ns.set(now_ns + 2 * SWEEP_NS);
                say();
                continue;
            }
            // A second time only if the task does not react: then for good.
            let how = if watch.late.replace(true) { Hangup::Both } else { watch.how.get() };
            watch.due_ns.set(now_ns + 2 * SWEEP_NS);
            (watch.hangup)(how);
        }
    }

    /// Hangs up on connections that wait for their next request.
    pub fn close_idle(&self) {
        let watches = self.watches.borrow();
        for watch in watches.iter().flatten().filter(|w| w.idle.get()) {
            (watch.hangup)(Hangup::Receive);
        }
    }
}

/// One connection's deadline.
pub struct Guard {
    deadlines: Deadlines,
    at: usize,
    watch: Rc<Watch>,
}

impl Guard {
    /// Sets what the connection may wait for, and until when.
    pub fn set(&self, due_ns: u64, how: Hangup, idle: bool) {
        self.watch.due_ns.set(due_ns);
        self.watch.how.set(how);
        self.watch.idle.set(idle);
    }

    /// `say` is called once, where this would otherwise be hung up on for receiving: the connection says goodbye and ends by
    /// itself, within two sweeps if it sets no other deadline.
    pub fn say_first(&self, say: Box<dyn FnOnce()>) {
        self.watch.goodbye.set(Some(say));
    }

    /// Whether it was hung up on.
    pub fn is_late(&self) -> bool {
        self.watch.late.get()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.deadlines.watches.borrow_mut()[self.at] = None;
        self.deadlines.unused.borrow_mut().push(self.at);
        self.deadlines.count.set(self.deadlines.count.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_late_are_hung_up_on() {
        let deadlines = Deadlines::default();
        let heard = Rc::new(RefCell::new(Vec::new()));
        let watch = |name: u32, due| {
            let heard = heard.clone();
            deadlines.watch(due, Box::new(move |how| heard.borrow_mut().push((name, how))))
        };
        let (early, late) = (watch(1, 100), watch(2, 900));
        early.set(100, Hangup::Receive, false);
        deadlines.sweep(500);
        assert_eq!(*heard.borrow(), [(1, Hangup::Receive)]);
        assert!(early.is_late() && !late.is_late());
        deadlines.close_idle();
        assert_eq!(heard.borrow().last(), Some(&(2, Hangup::Receive)));
        drop((early, late));
        assert!(deadlines.is_empty());
    }

    #[test]
    fn who_has_a_goodbye_to_say_is_let_once() {
        let deadlines = Deadlines::default();
        let heard = Rc::new(RefCell::new(Vec::new()));
        let (hangs_up, says) = (heard.clone(), heard.clone());
        let guard = deadlines.watch(0, Box::new(move |how| hangs_up.borrow_mut().push(Some(how))));
        guard.say_first(Box::new(move || says.borrow_mut().push(None)));
        guard.set(100, Hangup::Receive, false);
        deadlines.sweep(100);
        assert!(!guard.is_late() && *heard.borrow() == [None]);
        deadlines.sweep(100 + SWEEP_NS);
        assert_eq!(*heard.borrow(), [None], "it is given time");
        deadlines.sweep(100 + 2 * SWEEP_NS);
        assert!(guard.is_late());
        assert_eq!(*heard.borrow(), [None, Some(Hangup::Receive)], "and not for ever");
    }
}
