//! Requests over FUSE's own ring of this column: that of its CPU's queue, and of CPUs that have no column.
//!
//! Called by `serve::attach` for the transport `uring`. The kernel's ring is polled by the column's; a batch of replies goes
//! with one system call. FORGET and INTERRUPT do not come by rings: column 0 reads them from the device.

use super::serve::{Served, Step, Target};
use super::{RingShape, device};
use fuse_lowlevel::uring::{EntryId, Queues, Shape};
use fuse_lowlevel::{Encoded, Request};
use futures_lite::future::or;
use runtime::io::Io;
use runtime::waiters::Waiters;
use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

/// Requests answered before the replies go and other work of the column gets its turn.
const BATCH: usize = 16;

/// The ring, shared by the loop and the requests that wait.
pub(super) struct Rings {
    queues: RefCell<Queues>,
    /// Replies could not be handed over: the loop is to try again.
    behind: Cell<bool>,
    waiting: Waiters,
    /// An entry was lost, which was said.
    is_faulty: Cell<bool>,
}

/// The queues that the column of `cpus[column]` serves.
fn shares(cpus: &[usize], column: usize, possible: u16) -> Vec<u16> {
    let of = |queue: u16| {
        let cpu = usize::from(queue);
        cpus.iter().position(|&owned| owned == cpu).unwrap_or(cpu % cpus.len())
    };
    (0..possible).filter(|&queue| of(queue) == column).collect()
}

pub(super) fn start(served: &Rc<Served>, column: usize, shape: RingShape) -> io::Result<()> {
    let connection = &served.connection;
    if column == 0 {
        device::start(served, connection.device.clone_queue()?)?;
    }
    let queues = shares(&connection.cpus, column, shape.possible);
    if queues.is_empty() {
        return Ok(());
    }
    let payload_bytes = connection.agreed.max_request_bytes as usize;
    let mut queues = Queues::new(&connection.device, &Shape { queues, depth: shape.depth, payload_bytes })?;
    queues.register()?;
    let polled = Rc::new(queues.as_fd().try_clone_to_owned()?);
    let rings = Rc::new(Rings::new(queues));
    let me = served.clone();
    served.io.spawn("mount-rings", async move {
        let ended = me.persist(async || serve(&me, &rings, &polled).await).await;
        me.on_ended(ended);
    });
    Ok(())
}

async fn serve(served: &Rc<Served>, rings: &Rc<Rings>, polled: &Rc<OwnedFd>) -> io::Result<()> {
    while !served.is_stopping() {
        rings.behind.set(false);
        rings.queues.borrow_mut().submit()?;
        if let Some(errno) = rings.queues.borrow().fault()
            && !rings.is_faulty.replace(true)
        {
            tracing::error!(errno, "an entry of a mount's ring is lost: the kernel refused its reply");
        }
        let mut batch = 0;
        while batch < BATCH
            && let Some(entry) = rings.take()
        {
            rings.on_entry(served, entry);
            batch += 1;
        }
        if batch > 0 {
            // Others of the column, too; what has arrived meanwhile is taken then.
            rings.submit();
            served.io.yield_now().await;
            continue;
        }
        if rings.queues.borrow().has_ended() {
            return Ok(());
        }
        if rings.queues.borrow_mut().has_completions()? {
            continue;
        }
        let news = or(served.io.readable(polled.clone()), rings.fallen_behind());
        if let Some(readable) = served.until_stopped(news).await {
            readable?;
        }
    }
    Ok(())
}

impl Rings {
    fn new(queues: Queues) -> Rings {
        let (behind, is_faulty) = (Cell::new(false), Cell::new(false));
        Rings { queues: RefCell::new(queues), behind, waiting: Waiters::default(), is_faulty }
    }

    async fn fallen_behind(&self) -> io::Result<()> {
        self.waiting.until(|| self.behind.get()).await;
        Ok(())
    }

    fn take(&self) -> Option<EntryId> {
        self.queues.borrow_mut().take()
    }

    fn on_entry(self: &Rc<Rings>, served: &Rc<Served>, entry: EntryId) {
        let step = {
            let queues = self.queues.borrow();
            let arrived = queues.request(entry);
            served.begin(Request::parse(arrived.header, arrived.argument, arrived.payload))
        };
        let target = Target::Entry(self.clone(), entry);
        match step {
            // What nobody waits for does not come over rings; and an entry comes back only by a reply.
            Step::Nothing => target.refuse(),
            step => served.go_on(step, target),
        }
    }

    /// Puts the reply into its entry; it goes with the next `submit`.
    pub(super) fn commit(&self, entry: EntryId, reply: &Encoded<'_>) -> bool {
        self.queues.borrow_mut().commit(entry, reply.head(), &[reply.body()]);
        true
    }

    /// What cannot be handed over now stays where it is, and the loop tries again.
    pub(super) fn submit(&self) {
        if self.queues.borrow_mut().submit().is_err() {
            self.behind.set(true);
            self.waiting.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queue_has_one_column_and_a_column_its_own_cpus() {
        for (cpus, possible) in [(vec![0], 2), (vec![1], 2), (vec![0, 1], 2), (vec![2, 5, 7], 8)] {
            let mut all: Vec<u16> =
                (0..cpus.len()).flat_map(|column| shares(&cpus, column, possible)).collect();
            for (column, &cpu) in cpus.iter().enumerate() {
                assert!(shares(&cpus, column, possible).contains(&(cpu as u16)));
            }
            all.sort_unstable();
            assert_eq!(all, (0..possible).collect::<Vec<_>>());
        }
    }
}
