//! One seed: several boots of a node on one disk, with any number of columns, ended in every way, under the faults of the
//! seed's profile; then a healthy machine on which everything is looked at.

use crate::boot::{self, Machine};
use crate::model::{Blob, Model, SharedModel};
use crate::workload::{Shared, check_all, spawn};
use runtime::twin::{Cut, FAULTS, Fault, FaultPlan, Node, Rng, Twin};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

const DISK_BYTES: u64 = 3 << 30;
/// From one that is used up again and again to one that never is.
const QUOTAS_BYTES: [u64; 3] = [20 << 20, 64 << 20, 2 << 30];
const THINK_NS: [u64; 3] = [0, 20_000_000, 2_000_000_000];
/// Simulated time that a boot may take to do its share of the operations.
const LIMIT_NS: u64 = 4 * 3600 * 1_000_000_000;
const CLIENTS: u64 = 4;
const BLOBS_EACH: u64 = 24;
/// Starts on a faulty disk before somebody mends it.
const TRIES: u32 = 3;
/// Boots beyond the planned ones, for what nodes that failed early have left undone.
const MORE_BOOTS_MAX: u64 = 16;

/// What a run is to be.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
    pub operations: u64,
    /// How much goes wrong, 0 (nothing but crashes) to 7 (disks lie); by the seed if it is not said.
    pub severity: Option<u64>,
}

/// What a run was.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub trace: (u64, u64),
    pub operations: u64,
    pub failures: u64,
    pub crashes: u64,
    pub simulated_ns: u64,
    pub lost: u64,
    /// Every operation was done, and the power was cut at least once. Otherwise a disk has lied or changed so that no node starts
    /// on it, which is all that can be asked of the node, or too many boots in a row have failed early.
    pub is_whole: bool,
    /// By fault, in the order of `FAULTS`.
    pub faults: Vec<u64>,
}

/// What goes wrong in a run.
struct Profile {
    kind: u64,
    faults: FaultPlan,
    /// No request may fail while the node runs.
    strict: bool,
    quota_bytes: u64,
    dirs: usize,
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
    if kind >= 1 {
        some(&[
            (Fault::ShortWrite, 50_000),
            (Fault::ShortRead, 50_000),
            (Fault::ShortReceive, 100_000),
            (Fault::ShortSend, 100_000),
            (Fault::SlowTask, 2_000),
            (Fault::SlowDisk, 2_000),
            (Fault::PinRefused, 100_000),
            (Fault::SlowNetwork, 5_000),
        ]);
    }
    if kind >= 3 {
        some(&[
            (Fault::Reset, 1_000),
            (Fault::AcceptError, 20_000),
            (Fault::NoMemory, 10_000),
            (Fault::ClockJump, 1_000),
            (Fault::ReadError, 2_000),
        ]);
    }
    if kind >= 5 {
        some(&[
            (Fault::WriteError, 1_000),
            (Fault::SyncError, 1_000),
            (Fault::NoSpace, 2_000),
            (Fault::PinDamaged, 20_000),
        ]);
    }
    if kind >= 7 {
        some(&[(Fault::LyingSync, 5_000), (Fault::BitFlip, 900_000)]);
    }
    let quota_bytes = QUOTAS_BYTES[rng.below(3) as usize];
    let dirs = if rng.below(4) == 0 { 2 } else { 1 };
    Profile { kind, faults, strict: kind < 3, quota_bytes, dirs }
}

fn blobs(seed: u64, rng: &mut Rng) -> Vec<Vec<Blob>> {
    let (mut number, mut known) = (0, BTreeSet::new());
    let kind = rng.below(3);
    let mut one = || loop {
        number += 1;
        let bits = match (kind, rng.below(16)) {
            // Packs fill quickly.
            (0, 1..) => 12 + rng.below(4),
            // As many of each power of two; few of the largest.
            (_, 0) => 20,
            (_, 1..=3) => 16 + rng.below(3),
            _ => rng.below(16),
        };
        let size = ((1u64 << bits) + rng.below(1 << bits)) as usize;
        let blob = Blob::new(seed, number, size);
        // There are only so many blobs of one byte.
        if known.insert(blob.digest.clone()) {
            return blob;
        }
    };
    (0..CLIENTS).map(|_| (0..BLOBS_EACH).map(|_| one()).collect()).collect()
}

struct Run {
    twin: Twin,
    rng: Rng,
    shared: Rc<Shared>,
    model: SharedModel,
    profile: Profile,
    crashes: u64,
    operations_wanted: u64,
}

/// Runs a seed; what promise was broken, if any.
pub fn run(plan: Plan) -> Result<Outcome, String> {
    let mut rng = Rng::new(plan.seed);
    let twin = Twin::new(plan.seed, DISK_BYTES, FaultPlan::none());
    let model: SharedModel = Rc::new(RefCell::new(Model::default()));
    let profile = profile(plan.severity, &mut rng);
    let shared = Rc::new(Shared {
        model: model.clone(),
        blobs: Rc::new(blobs(plan.seed, &mut rng)),
        stop: Cell::new(false),
        running: Cell::new(0),
        strict: Cell::new(profile.strict),
        think_ns: THINK_NS[rng.below(3) as usize],
        deletions: rng.within(8, 25),
        boot: Cell::new(0),
        watch: twin.watch(),
    });
    let operations_wanted = plan.operations;
    let mut run = Run { twin, rng, shared, model, profile, crashes: 0, operations_wanted };
    match run.boot_all().and_then(|()| run.look_at_all()) {
        Ok(()) => Ok(run.outcome()),
        Err(broken) => {
            let Profile { kind, dirs, quota_bytes, .. } = run.profile;
            let boot = run.shared.boot.get();
            let on = format!("severity {kind}, {dirs} directories of {} MiB, boot {boot}", quota_bytes >> 20);
            Err(format!("{broken} ({on})"))
        }
    }
}

impl Run {
    fn broken(&self) -> Option<String> {
        self.model.borrow().violation.clone()
    }

    /// Whether the disk has lied or changed: then what was stored may be lost, but nothing wrong be served.
    fn note_losses(&self) {
        let lied = self.twin.counted(Fault::LyingSync) + self.twin.counted(Fault::BitFlip) > 0;
        self.model.borrow_mut().may_lose |= lied;
    }

    /// Starts a node, on a faulty disk or, when that fails too often, on a healthy one.
    fn start(&mut self, healthy: bool) -> Result<Option<Node>, String> {
        for attempt in 0..=TRIES {
            self.shared.boot.set(self.shared.boot.get() + 1);
            let Profile { quota_bytes, dirs, .. } = self.profile;
            let machine = Machine { columns: self.rng.within(1, 4) as usize, dirs, quota_bytes };
            let mend = healthy || attempt == TRIES;
            self.twin.set_faults(if mend { FaultPlan::none() } else { self.profile.faults.clone() });
            let started = boot::start(&mut self.twin, machine);
            self.note_losses();
            match started {
                Ok(node) => return Ok(Some(node)),
                Err(_) if !mend => {}
                // It says what is wrong and changes nothing: that is all it can do.
                Err(_) if self.model.borrow().may_lose => return Ok(None),
                Err(reason) => return Err(format!("the node does not start: {reason}")),
            }
        }
        unreachable!("the last try is on a healthy disk")
    }

    /// As many boots as the seed says, and more while operations are missing.
    fn boot_all(&mut self) -> Result<(), String> {
        let boots = self.rng.within(2, 4);
        for boot in 1..=boots + MORE_BOOTS_MAX {
            if boot > boots && self.is_done() {
                break;
            }
            self.boot(self.operations_wanted * boot.min(boots) / boots)?;
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.model.borrow().operations >= self.operations_wanted
    }

    /// One boot: until `operations` are done in all, or the node fails; then its end.
    fn boot(&mut self, operations: u64) -> Result<(), String> {
        let Some(mut node) = self.start(false)? else { return Ok(()) };
        self.twin.set_faults(self.profile.faults.clone());
        self.shared.stop.set(false);
        if self.shared.running.get() == 0 {
            let seed = self.rng.any();
            let outside = self.twin.outside();
            (0..CLIENTS as usize).for_each(|me| spawn(&outside, &self.shared, me, seed));
        }
        let model = self.model.clone();
        self.twin.run_until(LIMIT_NS, || {
            node.watch();
            let model = model.borrow();
            model.operations >= operations || model.violation.is_some() || node.failure().is_some()
        });
        // Anywhere: not just behind an answer.
        for _ in 0..self.rng.below(3000) {
            self.twin.step();
        }
        self.note_losses();
        match self.rng.below(5) {
            0 => self.stop(node),
            1 => node.kill(),
            way => {
                let how = [Cut::KeepNone, Cut::Random, Cut::Random][way as usize - 2];
                node.crash(how);
                self.crashes += 1;
            }
        }
        self.note_losses();
        self.broken().map_or(Ok(()), Err)
    }

    /// Clients finish, then the node; a node that has failed is stopped at once, as the binary does: who waits for it is cut off.
    fn stop(&mut self, mut node: Node) {
        self.shared.stop.set(true);
        let shared = self.shared.clone();
        self.twin.run_until(LIMIT_NS, || {
            node.watch();
            shared.running.get() == 0 || node.failure().is_some()
        });
        boot::stop(&self.twin, node);
    }

    fn stop_clients(&mut self) {
        self.shared.stop.set(true);
        let shared = self.shared.clone();
        self.twin.run_until(LIMIT_NS, || shared.running.get() == 0);
    }

    /// The power goes once more; then a healthy machine, and every blob is as the model says.
    fn look_at_all(&mut self) -> Result<(), String> {
        self.twin.set_faults(FaultPlan::none());
        self.stop_clients();
        if let Some(node) = self.start(true)? {
            node.crash(Cut::Random);
            self.crashes += 1;
        }
        let Some(node) = self.start(true)? else { return Ok(()) };
        let io = self.twin.outside();
        self.twin.run(LIMIT_NS, check_all(io, self.shared.clone()));
        boot::stop(&self.twin, node);
        self.broken().map_or(Ok(()), Err)
    }

    fn outcome(&self) -> Outcome {
        let model = self.model.borrow();
        Outcome {
            trace: self.twin.trace(),
            operations: model.operations,
            failures: model.failures,
            crashes: self.crashes,
            simulated_ns: self.twin.now_ns(),
            lost: model.lost,
            is_whole: self.is_done() && self.crashes > 0,
            faults: FAULTS.iter().map(|&f| self.twin.counted(f)).collect(),
        }
    }
}
