//! N x N lanes: a ring from every column to every column (itself included), and a [`Port`] per column.
//!
//! Caller: the node makes the mesh once and moves each port to its column; there the driver task keeps the
//! [`Inbox`] and whoever sends shares the [`Outbox`].
//!
//! Invariants: order holds per lane, not between lanes; a send never waits (a full lane gives the message
//! back, the sender's protocol says "busy"); a poll hands out at most its budget and no lane can starve another.

use crate::{
    mesh::{
        doorbell::Doorbell,
        spsc::{self, Consumer, Producer},
    },
    sync::Arc,
};

/// How many columns a mesh can have. Lanes grow with its square.
pub const COLUMNS_MAX: usize = 1024;

/// Makes a mesh of `columns` columns with lanes of `capacity` messages (a power of two). Column k sleeps
/// on `doorbells[k]` and gets element k of the answer.
#[must_use]
pub fn mesh<M: Send>(columns: usize, capacity: usize, doorbells: &[Arc<Doorbell>]) -> Vec<Port<M>> {
    assert!((1..=COLUMNS_MAX).contains(&columns), "a mesh has 1 to {COLUMNS_MAX} columns, not {columns}");
    assert_eq!(doorbells.len(), columns, "one doorbell per column");
    let mut producers: Vec<Vec<Producer<M>>> = Vec::with_capacity(columns);
    let mut consumers: Vec<Vec<Consumer<M>>> = (0..columns).map(|_| Vec::new()).collect();
    for _from in 0..columns {
        let (row, ends): (Vec<_>, Vec<_>) = (0..columns).map(|_to| spsc::ring(capacity)).unzip();
        producers.push(row);
        for (to, end) in ends.into_iter().enumerate() {
            consumers[to].push(end);
        }
    }
    let ports = producers.into_iter().zip(consumers).enumerate();
    ports
        .map(|(column, (lanes_out, lanes_in))| {
            assert_eq!(lanes_out.len(), columns);
            assert_eq!(lanes_in.len(), columns);
            Port {
                outbox: Outbox { column, lanes: lanes_out, doorbells: doorbells.to_vec() },
                inbox: Inbox { lanes: lanes_in, first: 0, doorbell: doorbells[column].clone() },
            }
        })
        .collect()
}

/// One column's end of the mesh. `Send`, so that it can be moved to its column once; neither `Sync` nor `Clone`.
pub struct Port<M> {
    outbox: Outbox<M>,
    inbox: Inbox<M>,
}

/// The sending half of a [`Port`]. Sends take `&self`: all tasks of the column may share it through an `Rc`.
pub struct Outbox<M> {
    column: usize,
    /// By target column.
    lanes: Vec<Producer<M>>,
    doorbells: Vec<Arc<Doorbell>>,
}

/// The receiving half of a [`Port`].
pub struct Inbox<M> {
    /// By source column.
    lanes: Vec<Consumer<M>>,
    /// Where the next poll starts.
    first: usize,
    doorbell: Arc<Doorbell>,
}

impl<M: Send> Port<M> {
    /// Which column this is.
    #[must_use]
    pub fn column(&self) -> usize {
        self.outbox.column
    }

    /// How many columns the mesh has.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.outbox.lanes.len()
    }

    /// See [`Outbox::try_send`].
    #[inline]
    pub fn try_send(&self, to: usize, message: M) -> Result<(), M> {
        self.outbox.try_send(to, message)
    }

    /// See [`Inbox::poll`].
    #[inline]
    pub fn poll_inbox(&mut self, budget: usize, f: impl FnMut(usize, M)) -> usize {
        self.inbox.poll(budget, f)
    }

    /// See [`Inbox::is_empty`].
    #[inline]
    #[must_use]
    pub fn is_inbox_empty(&self) -> bool {
        self.inbox.is_empty()
    }

    /// See [`Inbox::prepare_sleep`].
    #[must_use]
    pub fn prepare_sleep(&self) -> bool {
        self.inbox.prepare_sleep()
    }

    /// The two halves, for a driver that polls while other tasks (or its own callback) send.
    #[must_use]
    pub fn split(self) -> (Outbox<M>, Inbox<M>) {
        (self.outbox, self.inbox)
    }
}

impl<M: Send> Outbox<M> {
    /// Which column this is.
    #[must_use]
    pub fn column(&self) -> usize {
        self.column
    }

    /// How many columns the mesh has.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.lanes.len()
    }

    /// Sends `message` to column `to`, which may be this one, and wakes it if it sleeps. A full lane gives
    /// the message back at once.
    #[inline]
    pub fn try_send(&self, to: usize, message: M) -> Result<(), M> {
        assert!(to < self.lanes.len(), "column {to} of a mesh of {}", self.lanes.len());
        if cfg!(planted = "wake_before_publish") {
            self.ring(to);
            return self.lanes[to].push(message);
        }
        self.lanes[to].push(message)?;
        self.ring(to);
        Ok(())
    }

    #[inline]
    fn ring(&self, to: usize) {
        let doorbell = &self.doorbells[to];
        if doorbell.ring() {
            doorbell.wake();
        }
    }
}

impl<M: Send> Inbox<M> {
    /// Hands at most `budget` messages to `f(from, message)` and returns how many; fewer than `budget` means
    /// that every lane was found empty. Lanes take turns in equal portions, beginning one further each call.
    pub fn poll(&mut self, budget: usize, mut f: impl FnMut(usize, M)) -> usize {
        let columns = self.lanes.len();
        assert!(self.first < columns);
        let portion = budget.div_ceil(columns);
        let mut taken = 0;
        loop {
            let before = taken;
            for turn in 0..columns {
                let from = (self.first + turn) % columns;
                let room = portion.min(budget - taken);
                taken += self.lanes[from].pop_batch(room, |message| f(from, message));
            }
            if taken == before || taken == budget {
                break;
            }
        }
        self.first = (self.first + 1) % columns;
        assert!(taken <= budget);
        taken
    }

    /// Whether every lane was empty at the moment of asking.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(Consumer::is_empty)
    }

    /// Announces that this column is about to sleep and looks into every lane once more. True: nothing there;
    /// the next message will make the doorbell's eventfd readable, and the column may sleep on it. False:
    /// there is something; the announcement is withdrawn (a late wake may still come).
    #[must_use]
    pub fn prepare_sleep(&self) -> bool {
        self.doorbell.prepare_sleep();
        let empty = self.is_empty();
        if !empty {
            self.doorbell.cancel_sleep();
        }
        empty
    }

    /// The doorbell on which this column sleeps.
    #[must_use]
    pub fn doorbell(&self) -> &Arc<Doorbell> {
        &self.doorbell
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::thread;

    use super::*;

    fn bells(columns: usize) -> Vec<Arc<Doorbell>> {
        (0..columns).map(|_| Arc::new(Doorbell::new().expect("an eventfd can be made"))).collect()
    }

    #[test]
    fn every_pair_has_its_lane() {
        let mut ports = mesh::<(usize, usize)>(3, 4, &bells(3));
        for (from, port) in ports.iter().enumerate() {
            assert_eq!(port.column(), from);
            for to in 0..port.columns() {
                port.try_send(to, (from, to)).expect("empty lanes");
            }
        }
        for (column, port) in ports.iter_mut().enumerate() {
            let mut seen = Vec::new();
            assert!(!port.is_inbox_empty());
            let count = port.poll_inbox(100, |from, (sent_by, sent_to)| {
                assert_eq!((from, column), (sent_by, sent_to));
                seen.push(from);
            });
            seen.sort_unstable();
            assert_eq!((count, seen), (3, vec![0, 1, 2]));
            assert!(port.is_inbox_empty());
        }
    }

    #[test]
    fn a_full_lane_gives_the_message_back() {
        let mut ports = mesh::<u32>(2, 2, &bells(2));
        assert_eq!(ports[0].try_send(1, 1), Ok(()));
        assert_eq!(ports[0].try_send(1, 2), Ok(()));
        assert_eq!(ports[0].try_send(1, 3), Err(3));
        assert_eq!(ports[1].poll_inbox(1, |_, m| assert_eq!(m, 1)), 1);
        assert_eq!(ports[0].try_send(1, 3), Ok(()));
    }

    #[test]
    fn a_busy_lane_does_not_starve_the_others() {
        let mut ports = mesh::<u32>(3, 64, &bells(3));
        for message in 0..64 {
            ports[0].try_send(2, message).expect("64 slots");
        }
        ports[1].try_send(2, 0).expect("an empty lane");
        let mut from_one = 0;
        let count = ports[2].poll_inbox(6, |from, _| from_one += usize::from(from == 1));
        assert_eq!((count, from_one), (6, 1));
        assert_eq!(ports[2].poll_inbox(0, |_, _| unreachable!("no budget")), 0);
        assert_eq!(ports[2].poll_inbox(1000, |_, _| ()), 59);
    }

    #[test]
    fn a_refused_sleep_leaves_the_flag_down() {
        let bells = bells(2);
        let mut ports = mesh::<u32>(2, 2, &bells);
        ports[0].try_send(1, 1).expect("an empty lane");
        assert!(!ports[1].prepare_sleep());
        assert!(!bells[1].ring(), "the column is awake");
        ports[1].poll_inbox(1, |_, _| ());
        assert!(ports[1].prepare_sleep());
        assert!(bells[1].ring(), "the column sleeps");
    }

    #[test]
    fn sleepers_are_woken_across_threads() {
        const ROUNDS: u32 = 2_000;
        fn receive(port: &mut Port<u32>, bell: &Doorbell) -> u32 {
            let mut got = None;
            loop {
                port.poll_inbox(1, |_, m| got = Some(m));
                if let Some(message) = got {
                    return message;
                }
                if port.prepare_sleep() {
                    bell.wait_blocking();
                    bell.cancel_sleep();
                }
            }
        }
        let bells = bells(2);
        let mut ports = mesh::<u32>(2, 2, &bells);
        let mut far = ports.pop().expect("two ports");
        let mut near = ports.pop().expect("two ports");
        let far_bell = bells[1].clone();
        let echo = thread::spawn(move || {
            for _ in 0..ROUNDS {
                let message = receive(&mut far, &far_bell);
                far.try_send(0, message + 1).expect("one under way");
            }
        });
        for round in 0..ROUNDS {
            near.try_send(1, round).expect("one under way");
            assert_eq!(receive(&mut near, &bells[0]), round + 1);
        }
        echo.join().expect("the echo does not panic");
    }
}
