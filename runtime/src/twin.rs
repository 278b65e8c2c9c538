//! The deterministic twin: a machine of simulated columns, disk and network in one thread, driven by one 64-bit seed.
//!
//! | file | holds |
//! |---|---|
//! | `world`, `tasks` | the executor: what happens next, and when |
//! | `rng`, `trace` | the one source of chance; the hash of everything that happened |
//! | `faults` | what goes wrong, how often, and how often it did |
//! | `disk`, `inode` | names and bytes: as they are, and as a power cut leaves them |
//! | `image` | a disk at one moment, to start from |
//! | `network`, `conn` | listeners and connections |
//! | `io`, `file` | the seam over them |
//! | `node`, `arenas` | columns, their life and their memory |
//!
//! Called by tests only: no other crate names it but to simulate. Invariant: a seed and the calls made determine every event.

mod arenas;
mod conn;
mod disk;
mod faults;
mod file;
mod image;
mod inode;
mod io;
mod network;
mod node;
mod rng;
mod tasks;
mod trace;
mod world;

pub use conn::{TwinConn, TwinListener};
pub use faults::{FAULTS, Fault, FaultPlan};
pub use file::TwinFile;
pub use image::Image;
pub use inode::Cut;
pub use io::TwinIo;
pub use node::Node;
pub use rng::Rng;

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use world::{Group, OUTSIDE, World};

/// A simulated world, from outside.
pub struct Twin {
    world: Rc<World>,
    groups: Group,
}

impl Twin {
    /// The world that `seed` names, with a disk of `capacity_bytes`.
    pub fn new(seed: u64, capacity_bytes: u64, plan: FaultPlan) -> Twin {
        Twin { world: World::new(seed, capacity_bytes, plan), groups: OUTSIDE }
    }

    /// A world that goes on from the disk and the time of another.
    pub fn resume(seed: u64, from: &Image) -> Twin {
        let world = World::new(seed, 0, FaultPlan::none());
        *world.disk.borrow_mut() = from.disk.clone();
        world.set_now_ns(from.now_ns);
        Twin { world, groups: OUTSIDE }
    }

    /// The disk as it is now.
    pub fn image(&self) -> Image {
        Image { disk: self.world.disk.borrow().clone(), now_ns: self.now_ns() }
    }

    /// Writes, syncs and changes of names so far.
    pub fn disk_changes(&self) -> u64 {
        self.world.disk.borrow().changes()
    }

    /// The machine of a client: connections, clock, tasks.
    pub fn outside(&self) -> TwinIo {
        TwinIo::new(&self.world, OUTSIDE, None)
    }

    /// What tasks may look at.
    pub fn watch(&self) -> Watch {
        Watch { world: self.world.clone() }
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.world.seed()
    }

    /// Lets one thing happen. False: nothing is left to happen, ever.
    pub fn step(&self) -> bool {
        self.world.step()
    }

    /// Nanoseconds since the world began.
    pub fn now_ns(&self) -> u64 {
        self.world.now_ns()
    }

    /// The date, in milliseconds since the Unix epoch.
    pub fn unix_ms(&self) -> u64 {
        self.world.calendar_ms()
    }

    /// Lets things happen until `work` is done.
    ///
    /// # Panics
    /// When nothing is left to happen before that, or `limit_ns` of simulated time have passed.
    pub fn run<T: 'static>(&self, limit_ns: u64, work: impl Future<Output = T> + 'static) -> T {
        let outcome = Rc::new(RefCell::new(None));
        let give = outcome.clone();
        let work = async move { *give.borrow_mut() = Some(work.await) };
        self.world.spawn(OUTSIDE, "simulation", Box::pin(work));
        self.run_until(limit_ns, || outcome.borrow().is_some());
        outcome.take().expect("just seen")
    }

    /// Lets things happen until `done`.
    ///
    /// # Panics
    /// As [`Twin::run`].
    pub fn run_until(&self, limit_ns: u64, mut done: impl FnMut() -> bool) {
        let end_ns = self.now_ns().saturating_add(limit_ns);
        while !done() {
            assert!(self.step(), "seed {}: nothing is left to happen", self.seed());
            assert!(self.now_ns() < end_ns, "seed {}: not done in {limit_ns} ns", self.seed());
        }
    }

    /// Changes what goes wrong from now on. Disk operations are counted anew.
    pub fn set_faults(&self, plan: FaultPlan) {
        self.world.faults(|faults| faults.set_plan(plan));
    }

    /// How often a fault has happened.
    pub fn counted(&self, fault: Fault) -> u64 {
        self.world.faults(|faults| faults.counted(fault))
    }

    /// Disk operations since the faults were set.
    pub fn disk_operations(&self) -> u64 {
        self.world.faults(|faults| faults.disk_operations())
    }

    /// Sets the size of the disk.
    pub fn set_capacity(&self, bytes: u64) {
        self.world.disk.borrow_mut().set_capacity(bytes);
    }

    /// Hash and number of all events so far.
    pub fn trace(&self) -> (u64, u64) {
        self.world.trace()
    }
}

/// The date and the faults of a world, for tasks inside it.
#[derive(Clone)]
pub struct Watch {
    world: Rc<World>,
}

impl Watch {
    /// As [`Twin::unix_ms`].
    pub fn unix_ms(&self) -> u64 {
        self.world.calendar_ms()
    }

    /// As [`Twin::counted`].
    pub fn counted(&self, fault: Fault) -> u64 {
        self.world.faults(|faults| faults.counted(fault))
    }

    /// The calendar jumps ahead.
    pub fn advance_calendar(&self, by_ms: u64) {
        self.world.advance_calendar(by_ms);
    }
}

impl Drop for Twin {
    fn drop(&mut self) {
        // Tasks and operations hold the world that holds them.
        for group in OUTSIDE..=self.groups {
            self.world.end_group(group, |_| false);
        }
    }
}
