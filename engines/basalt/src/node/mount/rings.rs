//! Requests over FUSE's own ring of this column: that of its CPU's queue, and of CPUs that have no column.
//!
//! Called by `serve` for the transport `uring`. The kernel's ring is polled by the column's; a batch of replies goes
//! with one system call. FORGET and INTERRUPT do not come by rings: column 0 reads them from the device.

use super::RingShape;
use super::crowd::Crowd;
use super::serve::{Served, Step, Target};
use fuse_lowlevel::uring::{EntryId, Queues};
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

/// How often a queue that is full is looked at.
const LOOK_NS: u64 = 20_000_000;
/// That requests had to go is not said again for so long.
const QUIET_NS: u64 = 10_000_000_000;

/// The ring, shared by the loop and the requests that wait.
pub(super) struct Rings {
    queues: RefCell<Queues>,
    /// Replies could not be handed over: the loop is to try again.
    behind: Cell<bool>,
    waiting: Waiters,
    /// An entry was lost, which was said.
    is_faulty: Cell<bool>,
    doors: Rc<Doors>,
}

/// Those who wait in the entries; without the ring, whose memory goes with the loop.
struct Doors {
    crowd: RefCell<Crowd>,
    /// For a queue to be full.
    full: Waiters,
    /// When it was said that requests had to go.
    said_ns: Cell<Option<u64>>,
}

/// Serves the queues of a column.
pub(super) fn start(served: &Rc<Served>, queues: Queues, shape: RingShape) -> io::Result<()> {
    let doors = Doors::watched(served, Crowd::new(queues.count(), shape.depth));
    let polled = Rc::new(queues.as_fd().try_clone_to_owned()?);
    let rings = Rc::new(Rings::new(queues, doors));
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
    fn new(queues: Queues, doors: Rc<Doors>) -> Rings {
        let (behind, is_faulty) = (Cell::new(false), Cell::new(false));
        Rings { queues: RefCell::new(queues), behind, waiting: Waiters::default(), is_faulty, doors }
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
            step => {
                served.go_on(step, target);
                self.doors.look(self.queues.borrow().queue(entry), served);
            }
        }
    }

    /// A request waits in its entry.
    pub(super) fn occupy(&self, entry: EntryId, unique: u64, now_ns: u64) {
        self.doors.enter(self.queues.borrow().queue(entry), unique, now_ns);
    }

    /// It does not any more.
    pub(super) fn leave(&self, entry: EntryId, unique: u64) {
        self.doors.crowd.borrow_mut().leave(self.queues.borrow().queue(entry), unique);
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

impl Doors {
    /// Sees to it, as long as the column runs, that those who wait do not keep others out.
    fn watched(served: &Rc<Served>, crowd: Crowd) -> Rc<Doors> {
        let doors =
            Rc::new(Doors { crowd: RefCell::new(crowd), full: Waiters::default(), said_ns: Cell::new(None) });
        let (me, watched) = (served.clone(), doors.clone());
        served.io.spawn("mount-crowd", async move {
            let full = || watched.full.until(|| watched.crowd.borrow().is_any_full());
            while me.until_stopped(full()).await.is_some() {
                let overdue = watched.crowd.borrow_mut().all_overdue(me.io.now_ns());
                overdue.into_iter().for_each(|unique| watched.put_out(unique, &me));
                me.io.sleep(LOOK_NS).await;
            }
        });
        doors
    }

    fn enter(&self, queue: usize, unique: u64, now_ns: u64) {
        let crowd = &mut *self.crowd.borrow_mut();
        crowd.enter(queue, unique, now_ns);
        if crowd.is_full(queue) {
            self.full.wake();
        }
    }

    /// The same at once for a queue that a request has come to: others may be kept out behind it.
    fn look(&self, queue: usize, served: &Served) {
        let crowd = &mut *self.crowd.borrow_mut();
        if crowd.is_full(queue)
            && let Some(unique) = crowd.overdue(queue, served.io.now_ns())
        {
            self.put_out(unique, served);
        }
    }

    fn put_out(&self, unique: u64, served: &Served) {
        served.end_crowded(unique);
        let now_ns = served.io.now_ns();
        if self.said_ns.get().is_none_or(|said_ns| now_ns >= said_ns + QUIET_NS) {
            self.said_ns.set(Some(now_ns));
            tracing::warn!(
                connection = served.connection.number,
                "requests of a CPU wait for long and keep others out: the longest waiting ones end with EIO"
            );
        }
    }
}
