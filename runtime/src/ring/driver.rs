//! The driver task of a column: submits, reaps, polls the inboxes of the mesh, and waits when nothing is left.
//!
//! It waits in three ways, one after the other, the longer nothing happens:
//! 1. *spin* for `spin_ns`, or for longer when a message is expected (`spin.rs`): looks at inboxes and completions in memory, no
//!    system call;
//! 2. *doze* for [`DOZES_NS`]: blocks in our own ring, in the same call that submits. Neither the executor's timers nor
//!    wake-ups from other threads reach it there, so a doze lasts [`DOZE`] at most, or [`DOZE_ALONE`] while no blocking thread
//!    works for this column; and none is begun within [`WAKE_TURNS`] of an event, or of a task having been made;
//! 3. *sleep* in the executor, on an eventfd that our ring's completions write. That and the wake-up cost about 40 µs, ten
//!    times a doze's: hence the dozes.
//!
//! The doorbell of the mesh is read by an operation of our ring, so it ends a doze and a sleep like any completion.
//!
//! glommio 0.9 may park with runnable tasks: its loop takes "the preempt timer has fired already" (the thread was not run
//! for a millisecond, say) for "there was nothing to run". What ends such a sleep is a timer, so some are always set, at
//! [`TICKS`]: the first ends it soon, the others are for when it has run out just before. Before this task has set them it is
//! `column/thread.rs` that does, and `column/pulse.rs` when all of them have run out.

use super::core::Ring;
use super::spin::Spin;
use crate::clock::Clock;
use crate::column::Pulse;
use crate::mesh::Doorbell;
use crate::stall::Stalls;
use crate::usage::Usage;
use glommio::io::BufferedFile;
use glommio::timer::Timer;
use std::cell::Cell;
use std::future::Future;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// The longest that the executor's timers and foreign wakers wait for a doze.
const DOZE: Duration = Duration::from_micros(100);
/// The same while no other thread works for this column: only timers wait, which are of milliseconds.
const DOZE_ALONE: Duration = Duration::from_micros(500);
/// Dozes until nothing has happened for this long; then sleeps.
const DOZES_NS: u64 = 1_000_000;
/// A turn of the executor in which no other task ran is shorter than this.
const QUIET_TURN_NS: u64 = 1_500;
/// Turns of the executor from an event, or the making of a task, until what it wakes has run, and what that wakes: a task's first
/// poll only yields, and an answer goes through several. Each may be shorter than a quiet turn, and a doze would hold them back for
/// [`DOZE_ALONE`] (600 us for every 25th LOOKUP of a mount).
const WAKE_TURNS: u32 = 8;
/// The executor's timers wait this long for a spin.
const SPIN_NS_MAX: u64 = 20_000;
/// Messages that follow each other this closely are handled in one turn: about 0.2 µs, and 2 µs in all.
const EMPTY_POLLS_MAX: u32 = 16;
const POLLS_MAX: u32 = 256;
/// How long a wrong sleep of the executor may last. All that run out while the thread does not run are of no use to it: with a
/// thousand busy threads beside it that is more than a second, so there are some of seconds too.
const TICKS: [Duration; 6] = [
    Duration::from_millis(2),
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1600),
    Duration::from_millis(6400),
];
/// The one that also wakes this task when it sleeps; shorter ones are not set then.
const REST: usize = 2;

/// A queue that other columns fill: the driver drains it in every turn.
pub trait Inbox {
    /// Handles at most a bounded number of messages; returns how many.
    fn poll(&self) -> usize;
    /// Nothing waits.
    fn is_empty(&self) -> bool;
    /// What of it tells whether more is about to come.
    fn traffic(&self) -> Traffic {
        Traffic::default()
    }
}

/// Requests and answers between this column and others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests of others, since the start.
    pub asked_total: u64,
    /// Requests of this column that have no answer yet.
    pub awaited: usize,
}

impl std::iter::Sum for Traffic {
    fn sum<T: Iterator<Item = Traffic>>(all: T) -> Traffic {
        all.fold(Traffic::default(), |sum, one| Traffic {
            asked_total: sum.asked_total + one.asked_total,
            awaited: sum.awaited + one.awaited,
        })
    }
}

/// Runs until `stop` is set; the column's one sleeper.
///
/// `spin_ns`: how long to look for messages and completions before waiting for them.
pub(crate) async fn drive(
    ring: Rc<Ring>,
    (bell, pulse): (Arc<Doorbell>, Arc<Pulse>),
    inboxes: Rc<[Box<dyn Inbox>]>,
    spin_ns: u64,
    stalls: Stalls,
    stop: Rc<Cell<bool>>,
) {
    let driver = Driver { ring: &ring, bell: &bell, inboxes: &inboxes, clock: Clock::new(), stalls };
    let mut sleeper = Sleeper::new(&ring);
    let mut watchdog = Watchdog::default();
    ring.set_eventfd(false);
    let mut busy_ns = driver.clock.now_ns();
    let mut turns_due = 0;
    let mut spin = Spin::new(spin_ns);
    while !stop.get() {
        pulse.beat();
        ring.take_kick();
        ring.listen();
        let done = ring.reap() + driver.poll_inboxes(spin_ns > 0);
        let now_ns = driver.clock.now_ns();
        watchdog.watch(now_ns).await;
        let has_news = ring.take_spawned() || done > 0;
        turns_due = if has_news { WAKE_TURNS } else { turns_due.saturating_sub(1) };
        if turns_due > 0 {
            busy_ns = now_ns;
            // What is queued by now was queued a turn ago: it does not wait for more.
            driver.submit();
            glommio::executor().yield_now().await;
            continue;
        }
        glommio::executor().yield_now().await;
        if driver.clock.now_ns() - now_ns > QUIET_TURN_NS {
            // Others are at work, and may go on.
            driver.submit();
            continue;
        }
        let idle_ns = now_ns - busy_ns;
        let look_ns = spin.ns(now_ns, driver.traffic());
        if idle_ns < look_ns {
            driver.submit();
            if look_ns > spin_ns {
                let before = Usage::now().given_up_total;
                let looked_ns = driver.spin(look_ns - idle_ns);
                spin.on_looked(now_ns, looked_ns, Usage::now().given_up_total - before);
            } else {
                driver.spin(look_ns - idle_ns);
            }
        } else if idle_ns < spin_ns.saturating_add(DOZES_NS) || ring.wants_enter() {
            driver.doze();
        } else {
            driver.sleep(&mut sleeper, watchdog.rest()).await;
        }
    }
    sleeper.end(&ring).await;
}

struct Driver<'d> {
    ring: &'d Ring,
    bell: &'d Doorbell,
    inboxes: &'d [Box<dyn Inbox>],
    clock: Clock,
    stalls: Stalls,
}

impl Driver<'_> {
    fn submit(&self) {
        if self.ring.wants_enter() {
            self.ring.submit();
        }
    }

    /// Handles messages. `spin`: those that follow at once, too, before the tasks that they concern run.
    fn poll_inboxes(&self, spin: bool) -> usize {
        let poll = || self.inboxes.iter().map(|i| i.poll()).sum::<usize>();
        let mut done = poll();
        let (mut polls, mut empty_polls) = (0, 0);
        while spin && done > 0 && polls < POLLS_MAX && empty_polls < EMPTY_POLLS_MAX {
            let more = poll();
            done += more;
            polls += 1;
            empty_polls = if more > 0 { 0 } else { empty_polls + 1 };
        }
        done
    }

    fn has_news(&self) -> bool {
        self.ring.has_completions() || self.ring.wants_enter() || !self.inboxes.iter().all(|i| i.is_empty())
    }

    fn traffic(&self) -> Traffic {
        self.inboxes.iter().map(|i| i.traffic()).sum()
    }

    /// Looks until there is something; returns for how long.
    fn spin(&self, at_most_ns: u64) -> u64 {
        let begin_ns = self.clock.now_ns();
        let until_ns = begin_ns.saturating_add(at_most_ns.min(SPIN_NS_MAX));
        let mut now_ns = begin_ns;
        while !self.has_news() && now_ns < until_ns {
            std::hint::spin_loop();
            now_ns = self.clock.now_ns();
        }
        now_ns - begin_ns
    }

    fn doze(&self) {
        self.stalls.on_sleep();
        self.bell.prepare_sleep();
        if self.inboxes.iter().all(|i| i.is_empty()) {
            let alone = self.ring.blocking_calls().are_none();
            self.ring.doze(if alone { DOZE_ALONE } else { DOZE });
        }
        self.bell.cancel_sleep();
    }

    async fn sleep(&self, sleeper: &mut Sleeper, timer: &mut Option<Timer>) {
        self.stalls.on_sleep();
        self.bell.prepare_sleep();
        self.ring.set_eventfd(true);
        if !self.has_news() {
            sleeper.sleep(self.ring, timer).await;
        }
        self.bell.cancel_sleep();
        self.ring.set_eventfd(false);
    }
}

/// Sleeps on the ring's eventfd through glommio's own ring.
struct Sleeper {
    file: Rc<BufferedFile>,
    /// A read under way, left over from a sleep that a local task ended.
    armed: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl Sleeper {
    fn new(ring: &Ring) -> Sleeper {
        let copy = ring.eventfd().try_clone_to_owned().expect("an open eventfd can be duplicated");
        // SAFETY: the descriptor is a fresh duplicate that this file alone owns. Reading an eventfd through IORING_OP_READ
        // waits without blocking; the offset is ignored (tested below: everything hangs on this path).
        let file = unsafe { BufferedFile::from_raw_fd(copy.into_raw_fd()) };
        Sleeper { file: Rc::new(file), armed: None }
    }

    async fn sleep(&mut self, ring: &Ring, timer: &mut Option<Timer>) {
        let file = &self.file;
        let armed = self.armed.get_or_insert_with(|| Box::pin(wait(file.clone())));
        let woken = WakeOrKick { ring, wake: armed.as_mut(), timer: timer.as_mut() };
        if woken.await {
            self.armed = None;
        }
    }

    /// A read under way in glommio's ring completes before its file goes.
    async fn end(self, ring: &Ring) {
        if let Some(armed) = self.armed {
            let written = rustix::io::write(ring.eventfd(), &1u64.to_ne_bytes());
            assert!(written.is_ok(), "an eventfd we own can be written");
            armed.await;
        }
    }
}

async fn wait(file: Rc<BufferedFile>) {
    let read = file.read_at(0, 8).await;
    assert!(read.is_ok_and(|r| r.len() == 8), "reading eventfd {} failed", file.as_raw_fd());
}

/// Ready with true when the eventfd was read, with false when a local task pushed something or the timer ran out.
struct WakeOrKick<'a> {
    ring: &'a Ring,
    timer: Option<&'a mut Timer>,
    wake: Pin<&'a mut (dyn Future<Output = ()> + 'static)>,
}

impl Future for WakeOrKick<'_> {
    type Output = bool;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        if self.ring.take_kick() {
            return Poll::Ready(false);
        }
        self.ring.set_driver(cx.waker());
        if self.wake.as_mut().poll(cx).is_ready() {
            return Poll::Ready(true);
        }
        match self.timer.as_mut() {
            Some(timer) => Pin::new(&mut **timer).poll(cx).map(|_| false),
            None => Poll::Pending,
        }
    }
}

/// Timers that are always set.
#[derive(Default)]
struct Watchdog {
    timers: [Option<Timer>; TICKS.len()],
    due_ns: [u64; TICKS.len()],
    look_ns: u64,
}

impl Watchdog {
    /// Winds up every timer that has less than half of its time left.
    async fn watch(&mut self, now_ns: u64) {
        if now_ns < self.look_ns {
            return;
        }
        self.look_ns = now_ns + TICKS[0].as_nanos() as u64 / 4;
        for (at, tick) in TICKS.into_iter().enumerate() {
            let tick_ns = tick.as_nanos() as u64;
            if now_ns + tick_ns / 2 < self.due_ns[at] {
                continue;
            }
            self.due_ns[at] = now_ns + tick_ns;
            let timer = self.timers[at].insert(Timer::new(tick));
            // A timer is set by its first poll.
            std::future::poll_fn(|cx| {
                let _ = Pin::new(&mut *timer).poll(cx);
                Poll::Ready(())
            })
            .await;
        }
    }

    /// This task sleeps: the timer that wakes it is enough, with the longer ones behind it.
    fn rest(&mut self) -> &mut Option<Timer> {
        self.timers[..REST].fill_with(|| None);
        self.due_ns[..=REST].fill(0);
        self.look_ns = 0;
        &mut self.timers[REST]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::column::{Body, Plan, start};
    use crate::io::{Io as _, Listener as _};
    use std::net::{Ipv4Addr, SocketAddr, TcpStream};
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Instant;

    const ROUNDS: usize = 15;
    /// Long enough for a column to have gone from dozing to sleep.
    const IDLE: Duration = Duration::from_millis(10);

    /// Messages sent and handled so far.
    struct Counter {
        sent: Arc<AtomicU64>,
        seen: Cell<u64>,
        handled: Sender<()>,
    }

    impl Inbox for Counter {
        fn poll(&self) -> usize {
            let sent = self.sent.load(Ordering::Acquire);
            let new = sent - self.seen.replace(sent);
            (0..new).for_each(|_| {
                let _ = self.handled.send(());
            });
            new as usize
        }
        fn is_empty(&self) -> bool {
            self.sent.load(Ordering::Acquire) == self.seen.get()
        }
    }

    /// Half of the wake-ups of a sleeping column by `wake` come within a fraction of the watchdog's time.
    fn must_wake_at_once(handled: &Receiver<()>, mut wake: impl FnMut()) {
        let mut took: Vec<Duration> = (0..ROUNDS)
            .map(|_| {
                std::thread::sleep(IDLE);
                let begin = Instant::now();
                wake();
                handled.recv().expect("the column lives");
                begin.elapsed()
            })
            .collect();
        took.sort();
        assert!(took[ROUNDS / 2] < TICKS[2] / 10, "a sleeper wakes late: {took:?}");
    }

    #[test]
    fn a_sleeping_column_is_woken_by_its_doorbell_and_by_completions() {
        let plan = Plan { cpus: vec![0], arena_bytes: 1, spin_ns: 0 };
        let bell = Arc::new(Doorbell::new().expect("an eventfd"));
        let sent = Arc::new(AtomicU64::new(0));
        let (handled, messages) = channel();
        let (accepted, accepts) = channel();
        let (listening, address) = channel();
        let count = sent.clone();
        let columns = start(&plan, vec![bell.clone()], move |column| {
            column.add_inbox(Box::new(Counter {
                sent: count.clone(),
                seen: Cell::new(0),
                handled: handled.clone(),
            }));
            let (listening, accepted) = (listening.clone(), accepted.clone());
            async move {
                let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                let mut listener = column.io.listen(any).map_err(|e| e.to_string())?;
                let _ = listening.send(listener.local_addr().map_err(|e| e.to_string())?);
                let body: Body = Box::pin(async move {
                    for _ in 0..ROUNDS {
                        let _ = accepted.send(listener.accept().await.map(drop).is_ok());
                    }
                    column.stopped().await;
                });
                Ok(body)
            }
        })
        .expect("starts");
        must_wake_at_once(&messages, || {
            sent.fetch_add(1, Ordering::Release);
            if bell.ring() {
                bell.wake();
            }
        });
        let addr = address.recv().expect("an address");
        let (done, connections) = channel();
        must_wake_at_once(&connections, || {
            TcpStream::connect(addr).expect("connects");
            assert!(accepts.recv().expect("the column lives"));
            let _ = done.send(());
        });
        columns.stop();
        columns.join();
    }
}
