//! The tasks of a simulation and which of them are ready. Called by `world.rs`.
//!
//! Invariants
//! 1. A task is ready at most once; who wakes it twice wakes it once.
//! 2. Of a group that has ended no task runs, and none is added: it is dropped at once.

use super::world::Group;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};

type Body = Pin<Box<dyn Future<Output = ()>>>;

struct Task {
    group: Group,
    /// `None` while it runs.
    body: Option<Body>,
    waker: Waker,
}

/// Ids of tasks that were woken, in the order in which they were.
#[derive(Default)]
struct Woken {
    order: Vec<u64>,
    members: BTreeSet<u64>,
}

#[derive(Default)]
pub(super) struct Tasks {
    tasks: RefCell<BTreeMap<u64, Task>>,
    /// Shared with wakers, which must be Send; only ever touched by this thread.
    woken: Arc<Mutex<Woken>>,
    next: std::cell::Cell<u64>,
    ended: RefCell<BTreeSet<Group>>,
}

struct WakeTask {
    id: u64,
    woken: Arc<Mutex<Woken>>,
}

impl Wake for WakeTask {
    fn wake(self: Arc<Self>) {
        let mut woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        if woken.members.insert(self.id) {
            woken.order.push(self.id);
        }
    }
}

impl Tasks {
    pub(super) fn add(&self, group: Group, body: Body) {
        if self.ended.borrow().contains(&group) {
            return;
        }
        let id = self.next.replace(self.next.get() + 1);
        let waker = Waker::from(Arc::new(WakeTask { id, woken: self.woken.clone() }));
        waker.wake_by_ref();
        self.tasks.borrow_mut().insert(id, Task { group, body: Some(body), waker });
    }

    fn woken(&self) -> std::sync::MutexGuard<'_, Woken> {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many tasks wait to run.
    pub(super) fn ready(&self) -> usize {
        self.woken().order.len()
    }

    /// Takes one of them; `None` if it has ended since.
    pub(super) fn take_ready(&self, pick: usize) -> Option<u64> {
        let id = {
            let mut woken = self.woken();
            let id = woken.order.swap_remove(pick);
            woken.members.remove(&id);
            id
        };
        self.tasks.borrow().contains_key(&id).then_some(id)
    }

    /// Puts a task back among those that are ready.
    pub(super) fn make_ready(&self, id: u64) {
        if let Some(task) = self.tasks.borrow().get(&id) {
            task.waker.wake_by_ref();
        }
    }

    /// Polls a task once.
    pub(super) fn run(&self, id: u64) {
        let taken = {
            let mut tasks = self.tasks.borrow_mut();
            tasks.get_mut(&id).and_then(|t| Some((t.body.take()?, t.waker.clone())))
        };
        let Some((mut body, waker)) = taken else { return };
        let done = body.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let finished = {
            let mut tasks = self.tasks.borrow_mut();
            match tasks.get_mut(&id) {
                Some(task) if !done => {
                    task.body = Some(body);
                    None
                }
                _ => {
                    tasks.remove(&id);
                    Some(body)
                }
            }
        };
        // Its destructors may spawn.
        drop(finished);
    }

    /// Drops all tasks of a group.
    pub(super) fn end_group(&self, group: Group) {
        self.ended.borrow_mut().insert(group);
        loop {
            let found = self.tasks.borrow().iter().find(|(_, t)| t.group == group).map(|(id, _)| *id);
            let Some(id) = found else { return };
            let task = self.tasks.borrow_mut().remove(&id);
            drop(task);
        }
    }
}
