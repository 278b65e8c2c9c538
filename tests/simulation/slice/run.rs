//! One seed: several boots of a node with a caching proxy on one disk, with any number of columns, ended in every way, under the
//! faults of the seed's profile; then an honest world, in which everything is served as it is now and nothing is left over.

use super::objects::{CACHE_TTL_S, KINDS, Object};
use super::origin;
use super::settled::{fetched_once, settle};
use super::workload::spawn;
use super::world::{Calm, Seen, World};
use crate::boot;
use basalt::node::slice::SlicePlan;
use runtime::budget::Budget;
use runtime::twin::{Cut, FAULTS, Fault, FaultPlan, Node, Rng, Twin};
use slicecache::config::{Config, Origins};
use slicecache::state::slices::Concurrency;
use std::net::SocketAddr;
use std::rc::Rc;

const DISK_BYTES: u64 = 1 << 30;
/// One that is used up, and one that never is.
const QUOTAS_BYTES: [u64; 2] = [12 << 20, 512 << 20];
/// Packed, most of the time; files of their own.
pub const SLICE_BYTES: [u64; 4] = [64 << 10, 64 << 10, 64 << 10, 128 << 10];
const OBJECTS: u64 = 5;
const CLIENTS: u64 = 4;
/// Simulated time that a boot may take to do its share of the operations.
const LIMIT_NS: u64 = 3600 * 1_000_000_000;
/// Starts on a faulty disk before somebody mends it.
const TRIES: u32 = 3;
/// Boots beyond the planned ones, for what nodes that failed early have left undone.
const MORE_BOOTS_MAX: u64 = 16;
/// Of an origin that lies in some runs.
const LIES_PPM: [u32; 3] = [30_000, 100_000, 300_000];

/// Where the proxy listens.
pub fn slice_addr() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8080))
}

/// What a run is to be.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
    pub operations: u64,
    /// How much goes wrong, 0 (nothing) to 7 (everything); by the seed if it is not said.
    pub severity: Option<u64>,
}

/// What a run was.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub trace: (u64, u64),
    pub operations: u64,
    pub crashes: u64,
    pub simulated_ns: u64,
    pub seen: Seen,
    /// By fault, in the order of `FAULTS`.
    pub faults: Vec<u64>,
}

/// From this kind of run on.
const DISKS_FAIL_FROM: u64 = 4;
/// From this one on not only reads fail.
const WRITES_FAIL_FROM: u64 = 6;

/// What goes wrong in a run.
struct Profile {
    kind: u64,
    calm: Calm,
    lies_ppm: u32,
    faults: FaultPlan,
    quota_bytes: u64,
    dirs: u64,
}

fn profile(severity: Option<u64>, rng: &mut Rng) -> Profile {
    let drawn = rng.below(8);
    let kind = severity.unwrap_or(drawn);
    let mut faults = FaultPlan::none();
    let mut some = |of: &[(Fault, u32)]| {
        for &(fault, ppm) in of {
            if rng.below(3) > 0 {
                faults = std::mem::take(&mut faults).with(fault, ppm);
            }
        }
    };
    some(&[
        (Fault::ShortWrite, 50_000),
        (Fault::ShortRead, 50_000),
        (Fault::ShortReceive, 30_000),
        (Fault::ShortSend, 100_000),
        (Fault::SlowTask, 2_000),
        (Fault::SlowDisk, 2_000),
        (Fault::PinRefused, 100_000),
        (Fault::SlowNetwork, 5_000),
    ]);
    if kind >= DISKS_FAIL_FROM {
        some(&[
            (Fault::Reset, 1_000),
            (Fault::AcceptError, 20_000),
            (Fault::NoMemory, 10_000),
            (Fault::ReadError, 4_000),
        ]);
    }
    if kind >= WRITES_FAIL_FROM {
        some(&[
            (Fault::WriteError, 1_000),
            (Fault::SyncError, 1_000),
            (Fault::NoSpace, 10_000),
            (Fault::PinDamaged, 20_000),
        ]);
    }
    let calm = match kind {
        0 => Calm::Still,
        1 | 2 => Calm::Changing,
        _ => Calm::None,
    };
    let lies_ppm = if calm == Calm::None { LIES_PPM[rng.below(3) as usize] } else { 0 };
    let quota_bytes = if calm == Calm::Still { QUOTAS_BYTES[1] } else { QUOTAS_BYTES[rng.below(2) as usize] };
    let dirs = if rng.below(4) == 0 { 2 } else { 1 };
    Profile { kind, calm, lies_ppm, faults, quota_bytes, dirs }
}

/// The proxy of these runs.
pub fn slice_plan(slice_bytes: u64, rng: &mut Rng) -> SlicePlan {
    let mut config = Config::new(Origins::new([origin::url()]).expect("one origin"));
    config.slice_bytes = Some(slice_bytes);
    config.concurrency = Concurrency::Fixed(rng.within(1, 4));
    config.retries_max = rng.within(1, 3) as u32;
    config.cache_ttl_s = Some(CACHE_TTL_S);
    SlicePlan { listen: slice_addr(), access: None, config }
}

struct Run {
    twin: Twin,
    rng: Rng,
    world: Rc<World>,
    profile: Profile,
    slice: SlicePlan,
    crashes: u64,
    operations_wanted: u64,
}

/// Runs a seed; what promise was broken, if any.
pub fn run(plan: Plan) -> Result<Outcome, String> {
    let mut rng = Rng::new(plan.seed);
    let twin = Twin::new(plan.seed, DISK_BYTES, FaultPlan::none());
    let profile = profile(plan.severity, &mut rng);
    let slice_bytes = SLICE_BYTES[rng.below(SLICE_BYTES.len() as u64) as usize];
    let kind = |rng: &mut Rng| KINDS[rng.below(KINDS.len() as u64) as usize];
    let objects = (0..OBJECTS as usize).map(|number| {
        let kind = kind(&mut rng);
        Object::new(number, kind, slice_bytes, &mut rng)
    });
    let world = World::new(twin.watch(), slice_bytes, profile.calm, objects.collect());
    world.disks_fail.set(profile.kind >= DISKS_FAIL_FROM);
    origin::serve(&twin.outside(), &world, rng.any());
    let slice = slice_plan(slice_bytes, &mut rng);
    let operations_wanted = plan.operations;
    let mut run = Run { twin, rng, world, profile, slice, crashes: 0, operations_wanted };
    let done = run.boot_all();
    // Before /metrics are asked, which say something of the machine too.
    let trace = run.twin.trace();
    match done.and_then(|()| run.heal()) {
        Ok(()) => Ok(run.outcome(trace)),
        Err(broken) => {
            let Profile { kind, dirs, quota_bytes, .. } = run.profile;
            let boot = run.world.boot.get();
            let on = format!("severity {kind}, {dirs} directories of {} MiB, boot {boot}", quota_bytes >> 20);
            Err(format!("{broken} ({on})"))
        }
    }
}

/// Starts a node with a proxy; the reason when it does not.
pub fn start(
    twin: &mut Twin,
    world: &World,
    (columns, dirs, quota_bytes): (usize, u64, u64),
    slice: &SlicePlan,
) -> Result<Node, String> {
    let budgets: Vec<Budget> = (0..dirs).map(|_| Budget::new(quota_bytes)).collect();
    let node = boot::start_with(twin, columns, Some(slice.clone()), &budgets, &mut |_| ())?;
    world.boot.set(world.boot.get() + 1);
    world.is_up.set(true);
    Ok(node)
}

impl Run {
    fn broken(&self) -> Result<(), String> {
        self.world.broken.borrow().clone().map_or(Ok(()), Err)
    }

    /// `None`: what a write or a sync that failed left on the disks cannot be started from. It says what is wrong and changes
    /// nothing: that is all that a node can do.
    fn start(&mut self, healthy: bool) -> Result<Option<Node>, String> {
        for attempt in 0..=TRIES {
            let Profile { quota_bytes, dirs, .. } = self.profile;
            let mend = healthy || attempt == TRIES;
            self.twin.set_faults(if mend { FaultPlan::none() } else { self.profile.faults.clone() });
            let columns = self.rng.within(1, 3) as usize;
            match start(&mut self.twin, &self.world, (columns, dirs, quota_bytes), &self.slice) {
                Ok(node) => return Ok(Some(node)),
                Err(_) if !mend => {}
                Err(_) if self.profile.kind >= WRITES_FAIL_FROM => return Ok(None),
                Err(reason) => return Err(format!("the node does not start: {reason}")),
            }
        }
        unreachable!("the last try is on a healthy disk")
    }

    /// As many boots as the seed says, and more while operations are missing.
    fn boot_all(&mut self) -> Result<(), String> {
        let boots = self.rng.within(1, 3);
        for boot in 1..=boots + MORE_BOOTS_MAX {
            if boot > boots && self.world.operations.get() >= self.operations_wanted {
                break;
            }
            self.boot(self.operations_wanted * boot.min(boots) / boots)?;
        }
        Ok(())
    }

    /// One boot: until `operations` are done in all, or the node fails; then its end.
    fn boot(&mut self, operations: u64) -> Result<(), String> {
        let Some(mut node) = self.start(false)? else { return Ok(()) };
        self.twin.set_faults(self.profile.faults.clone());
        self.world.lies_ppm.set(self.profile.lies_ppm);
        self.world.stop.set(false);
        if self.world.running.get() == 0 {
            let seed = self.rng.any();
            let outside = self.twin.outside();
            (0..CLIENTS).for_each(|me| spawn(&outside, &self.world, me, seed));
        }
        let world = self.world.clone();
        self.twin.run_until(LIMIT_NS, || {
            node.watch();
            world.operations.get() >= operations || world.is_broken() || node.failure().is_some()
        });
        // Anywhere: not just behind an answer.
        for _ in 0..self.rng.below(3000) {
            self.twin.step();
        }
        match self.rng.below(5) {
            0 => self.stop(node),
            way => {
                self.world.is_up.set(false);
                self.crashes += 1;
                match way {
                    1 | 2 => node.kill(),
                    3 => node.crash(Cut::KeepNone),
                    _ => node.crash(Cut::Random),
                }
            }
        }
        self.broken()
    }

    /// Clients finish, then the node; a node that has failed is stopped at once.
    fn stop(&mut self, mut node: Node) {
        self.world.stop.set(true);
        let world = self.world.clone();
        self.twin.run_until(LIMIT_NS, || {
            node.watch();
            world.running.get() == 0 || node.failure().is_some()
        });
        self.world.is_up.set(false);
        boot::stop(&self.twin, node);
    }

    /// The power goes once more; then everything is honest and healthy.
    fn heal(&mut self) -> Result<(), String> {
        self.twin.set_faults(FaultPlan::none());
        self.world.lies_ppm.set(0);
        self.world.stop.set(true);
        let world = self.world.clone();
        self.twin.run_until(LIMIT_NS, || world.running.get() == 0);
        let Some(node) = self.start(true)? else { return Ok(()) };
        settle(&self.twin, &self.world);
        boot::stop(&self.twin, node);
        self.broken()?;
        match self.profile.calm {
            Calm::Still => fetched_once(&self.world),
            _ => Ok(()),
        }
    }

    fn outcome(&self, trace: (u64, u64)) -> Outcome {
        Outcome {
            trace,
            operations: self.world.operations.get(),
            crashes: self.crashes,
            simulated_ns: self.twin.now_ns(),
            seen: self.world.seen.borrow().clone(),
            faults: FAULTS.iter().map(|&f| self.twin.counted(f)).collect(),
        }
    }
}
