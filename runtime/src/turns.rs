//! Turns at the disk for clients: a turn is a place for what is read until the client has taken it.
//!
//! A client that does not take it gives its turn to others, if any wait, and keeps what was read in one of a few other places; when
//! those are out too it is cut off. So a few clients that stand still hold up nobody, and memory stays bounded.
//!
//! Called by the engines' listeners.

use crate::io::Io;
use crate::patience::within;
use crate::permits::{Permit, Permits};
use std::future::Future;
use std::io;
use std::pin::pin;

/// How long a client may leave a piece of what was read for it in a turn for which others wait.
pub const PATIENCE_NS: u64 = 1_000_000_000;
/// What is sent at a time in a turn: a client that takes so much in [`PATIENCE_NS`] does not stand still.
pub const PIECE_BYTES: usize = 64 << 10;

/// The turns of one column.
pub struct Turns {
    turns: Permits,
    slow: Permits,
}

/// One of them. Invariant: it holds one place of either kind.
pub struct Turn<'t> {
    turns: &'t Turns,
    place: Permit<'t>,
    is_slow: bool,
}

impl Turns {
    /// So many at a time, and so many places for clients that do not take what was read.
    #[must_use]
    pub fn new(turns: usize, slow: usize) -> Turns {
        Turns { turns: Permits::new(turns), slow: Permits::new(slow) }
    }

    /// Waits for a turn. As many may wait as there are connections.
    pub async fn take(&self) -> Turn<'_> {
        Turn { turns: self, place: self.turns.wait().await, is_slow: false }
    }

    /// Places of both kinds that are taken.
    pub fn out(&self) -> usize {
        self.turns.out() + self.slow.out()
    }
}

impl Turn<'_> {
    /// Sends a piece of what was read in this turn; an error when the client is cut off.
    pub async fn send<T>(
        &mut self,
        io: &impl Io,
        sending: impl Future<Output = io::Result<T>>,
    ) -> io::Result<T> {
        let mut sending = pin!(sending);
        while !self.is_slow {
            match within(io, PATIENCE_NS, sending.as_mut()).await {
                Some(sent) => return sent,
                None => self.step_aside()?,
            }
        }
        sending.await
    }

    /// Lets others have the turn.
    fn step_aside(&mut self) -> io::Result<()> {
        if !self.turns.turns.has_waiting() {
            return Ok(());
        }
        let Some(place) = self.turns.slow.try_acquire() else {
            let why = "the client leaves what was read for it, and others wait for the disk";
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        };
        (self.place, self.is_slow) = (place, true);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::twin::{FaultPlan, Twin};
    use std::cell::Cell;
    use std::rc::Rc;

    const SECOND_NS: u64 = 1_000_000_000;

    /// Takes a turn, sends for so long, leaves the time at which it was done behind.
    async fn client(io: impl Io, turns: Rc<Turns>, sends_ns: u64, done: Rc<Cell<u64>>) -> io::Result<()> {
        let mut turn = turns.take().await;
        let sent = turn
            .send(&io, async {
                io.sleep(sends_ns).await;
                Ok(())
            })
            .await;
        done.set(io.now_ns());
        sent
    }

    /// Clients that send for so long each, one after the other, with one turn and one other place: when each was done, and whether
    /// it was cut off.
    fn run(clients: &'static [u64]) -> Vec<(u64, bool)> {
        let twin = Twin::new(1, 1 << 20, FaultPlan::none());
        let turns = Rc::new(Turns::new(1, 1));
        let ends: Vec<_> =
            clients.iter().map(|_| Rc::new((Rc::new(Cell::new(0)), Cell::new(None)))).collect();
        for (at, (&sends_ns, end)) in clients.iter().zip(&ends).enumerate() {
            let (io, turns, end) = (twin.outside(), turns.clone(), end.clone());
            twin.outside().spawn("client", async move {
                io.sleep(at as u64 * SECOND_NS / 100).await;
                let sent = client(io, turns, sends_ns, end.0.clone()).await;
                end.1.set(Some(sent.is_err()));
            });
        }
        twin.run_until(100 * SECOND_NS, || ends.iter().all(|end| end.1.get().is_some()));
        assert_eq!(turns.out(), 0);
        ends.iter().map(|end| (end.0.get() / SECOND_NS, end.1.get().expect("just seen"))).collect()
    }

    #[test]
    fn who_stands_still_steps_aside_for_those_who_wait() {
        assert_eq!(run(&[30 * SECOND_NS, SECOND_NS / 2]), [(30, false), (1, false)]);
    }

    #[test]
    fn it_keeps_its_turn_while_nobody_waits() {
        assert_eq!(run(&[30 * SECOND_NS]), [(30, false)]);
    }

    #[test]
    fn where_no_other_place_is_left_it_is_cut_off() {
        let ends = run(&[30 * SECOND_NS, 30 * SECOND_NS, SECOND_NS / 2]);
        assert_eq!(ends, [(30, false), (2, true), (2, false)]);
    }
}
