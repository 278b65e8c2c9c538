//! A node of simulated columns: started as `column::start` starts real ones, ended by an orderly stop, a killed process or a
//! cut of the power. Called by simulations.

use super::arenas;
use super::inode::Cut;
use super::io::TwinIo;
use super::world::{Group, World};
use super::{Fault, Twin};
use crate::buffer::Arena;
use crate::column::{self, Body, Column, RUNNING, Report, STARTING};
use crate::stall::Stalls;
use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, channel};

/// Bits that change together, anywhere on the disk.
const FLIPS: usize = 8;

/// A boot of a node.
pub struct Node {
    world: Rc<World>,
    group: Group,
    columns: Vec<Column<TwinIo>>,
    arenas: Vec<Arena>,
    arena_bytes: usize,
    stage: Arc<AtomicU8>,
    reports: Receiver<Report>,
    ended: Rc<Cell<usize>>,
    failed: Option<String>,
    ready: usize,
}

impl Node {
    pub(super) fn start<S, F>(
        world: &Rc<World>,
        group: Group,
        (columns, arena_bytes): (usize, usize),
        set_up: &S,
    ) -> Node
    where
        S: Fn(Column<TwinIo>) -> F + Clone + 'static,
        F: Future<Output = Result<Body, String>> + 'static,
    {
        let (send, reports) = channel();
        let stage = Arc::new(AtomicU8::new(STARTING));
        let ended = Rc::new(Cell::new(0));
        let arenas: Vec<Arena> = (0..columns).map(|_| arenas::take(arena_bytes)).collect();
        let make = |(index, arena): (usize, &Arena)| {
            let io = TwinIo::new(world, group, Some(*arena));
            let (column, inboxes) = Column::new(index, io, Stalls::default(), stage.clone(), send.clone());
            world.add_mailbox(group, inboxes);
            let (me, set_up, send, ended) = (column.clone(), set_up.clone(), send.clone(), ended.clone());
            let live = async move {
                if let Err(reason) = me.live(set_up).await {
                    let _ = send.send(Report::Failed(index, reason));
                }
                ended.set(ended.get() + 1);
            };
            world.spawn(group, "column", Box::pin(live));
            column
        };
        let columns = arenas.iter().enumerate().map(make).collect();
        let world = world.clone();
        Node { world, group, columns, arenas, arena_bytes, stage, reports, ended, failed: None, ready: 0 }
    }

    /// Takes in what the columns report; starts their bodies when all are ready.
    pub fn watch(&mut self) {
        while let Ok(report) = self.reports.try_recv() {
            match report {
                Report::Ready(_) => self.ready += 1,
                Report::Failed(column, reason) => {
                    self.failed.get_or_insert(format!("column {column}: {reason}"));
                }
            }
        }
        if self.failed.is_some() && self.ready < self.columns.len() {
            self.stop();
        } else if self.ready == self.columns.len() {
            self.stage.fetch_max(RUNNING, Ordering::AcqRel);
        }
    }

    /// All columns run.
    pub fn is_running(&self) -> bool {
        self.stage.load(Ordering::Acquire) == RUNNING
    }

    /// Why the node cannot go on, once a column has said so.
    pub fn failure(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// Asks every column to drain.
    pub fn stop(&self) {
        column::stop(&self.stage);
    }

    /// Every column has come to its end.
    pub fn has_ended(&self) -> bool {
        self.ended.get() == self.columns.len()
    }

    /// Ends the process wherever it is. What it wrote is still in the page cache and on the device.
    pub fn kill(self) {
        self.end(|rng| rng.below(2) == 0);
    }

    /// Cuts the power: ends the process, and of the disk only what was synced is there for sure.
    pub fn crash(self, how: Cut) {
        let world = self.world.clone();
        let in_flight = move |rng: &mut super::Rng| match how {
            Cut::KeepAll => true,
            Cut::KeepNone => false,
            Cut::Random => rng.below(2) == 0,
        };
        self.end(in_flight);
        let losses = world.draw(|rng| world.disk.borrow_mut().cut(how, rng));
        world.note("cut", &[losses.dropped_sectors, losses.lost_names, losses.torn_files]);
        world.faults(|faults| {
            faults.count(Fault::TornWrite, losses.torn_files);
            faults.count(Fault::DroppedSector, losses.dropped_sectors);
            faults.count(Fault::LostName, losses.lost_names);
        });
        if world.happens(Fault::BitFlip) {
            for _ in 0..FLIPS {
                world.draw(|rng| world.disk.borrow_mut().flip(rng));
            }
        }
    }

    fn end(self, finish: impl FnMut(&mut super::Rng) -> bool) {
        let Node { world, group, columns, arenas, arena_bytes, .. } = self;
        world.end_group(group, finish);
        columns.iter().for_each(Column::close);
        drop(columns);
        arenas.into_iter().for_each(|arena| arenas::give_back(arena_bytes, arena));
    }
}

impl Twin {
    /// Starts a boot of a node with `columns` columns of `arena_bytes` each; let time pass until it runs.
    pub fn start<S, F>(&mut self, columns: usize, arena_bytes: usize, set_up: S) -> Node
    where
        S: Fn(Column<TwinIo>) -> F + Clone + 'static,
        F: Future<Output = Result<Body, String>> + 'static,
    {
        self.groups += 1;
        Node::start(&self.world, self.groups, (columns, arena_bytes), &set_up)
    }
}
