//! What goes wrong, how often, and how often it did. The plan is data of the test; whether a fault happens now is drawn from
//! the seed; every fault that happens is counted, so that a test can assert that it happened at all.
//!
//! Units: rates in parts per million of the occasions named.

use super::rng::Rng;
use std::io;

/// Everything that can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub enum Fault {
    /// Power cut: of a file's unsynced sectors some are there and some are not.
    TornWrite,
    /// Power cut: an unsynced sector is not there.
    DroppedSector,
    /// Power cut: a name made, moved or removed since the last sync of its directory is as it was before.
    LostName,
    /// A read fails.
    ReadError,
    /// A write fails, a part of it written.
    WriteError,
    /// A sync fails; what it was to make durable is lost at a power cut, whatever later syncs say.
    SyncError,
    /// The disk is full although it is not: allocation or write.
    NoSpace,
    /// A sync says that it has been done and has not.
    LyingSync,
    /// A bit changes at rest.
    BitFlip,
    /// A write moves a part of its bytes; what was linked to it is cancelled.
    ShortWrite,
    /// A read moves a part of its bytes.
    ShortRead,
    /// A disk operation takes very long.
    SlowDisk,
    /// A connection is reset.
    Reset,
    /// Sent bytes take long to arrive.
    SlowNetwork,
    /// A receive is given fewer bytes than there are.
    ShortReceive,
    /// A send takes fewer bytes than there is room for.
    ShortSend,
    /// A connection cannot be accepted: descriptors are used up.
    AcceptError,
    /// The calendar jumps, forward or back.
    ClockJump,
    /// There is no memory for a buffer.
    NoMemory,
    /// Pages cannot be pinned.
    PinRefused,
    /// Pinned pages are not those that were written.
    PinDamaged,
    /// A task that is ready does not run for a while.
    SlowTask,
}

/// All faults, in the order of their numbers.
pub const FAULTS: [Fault; 22] = [
    Fault::TornWrite,
    Fault::DroppedSector,
    Fault::LostName,
    Fault::ReadError,
    Fault::WriteError,
    Fault::SyncError,
    Fault::NoSpace,
    Fault::LyingSync,
    Fault::BitFlip,
    Fault::ShortWrite,
    Fault::ShortRead,
    Fault::SlowDisk,
    Fault::Reset,
    Fault::SlowNetwork,
    Fault::ShortReceive,
    Fault::ShortSend,
    Fault::AcceptError,
    Fault::ClockJump,
    Fault::NoMemory,
    Fault::PinRefused,
    Fault::PinDamaged,
    Fault::SlowTask,
];

/// How often each fault happens, of a million occasions.
#[derive(Clone, Debug, Default)]
pub struct FaultPlan {
    rates_ppm: [u32; FAULTS.len()],
    /// The disk operation of this number (from 1) fails with this error.
    pub nth: Option<(u64, i32)>,
}

impl FaultPlan {
    /// Nothing goes wrong.
    pub fn none() -> FaultPlan {
        FaultPlan::default()
    }

    /// The same plan with one rate set.
    #[must_use]
    pub fn with(mut self, fault: Fault, ppm: u32) -> FaultPlan {
        self.rates_ppm[fault as usize] = ppm;
        self
    }
}

/// The plan at work.
#[derive(Debug)]
pub(super) struct Faults {
    pub(super) plan: FaultPlan,
    counts: [u64; FAULTS.len()],
    /// Disk operations so far, since the plan was set.
    disk_operations: u64,
}

impl Faults {
    pub(super) fn new(plan: FaultPlan) -> Faults {
        Faults { plan, counts: [0; FAULTS.len()], disk_operations: 0 }
    }

    pub(super) fn set_plan(&mut self, plan: FaultPlan) {
        self.plan = plan;
        self.disk_operations = 0;
    }

    /// Draws whether `fault` happens on this occasion, and counts it if so.
    pub(super) fn happens(&mut self, fault: Fault, rng: &mut Rng) -> bool {
        let happens = rng.chance(self.plan.rates_ppm[fault as usize]);
        self.count(fault, u64::from(happens));
        happens
    }

    pub(super) fn count(&mut self, fault: Fault, times: u64) {
        self.counts[fault as usize] += times;
    }

    /// How often `fault` has happened.
    pub(super) fn counted(&self, fault: Fault) -> u64 {
        self.counts[fault as usize]
    }

    /// Counts a disk operation; the error if it is the one to fail.
    pub(super) fn next_disk_operation(&mut self) -> Option<io::Error> {
        self.disk_operations += 1;
        let (nth, errno) = self.plan.nth?;
        (nth == self.disk_operations).then(|| io::Error::from_raw_os_error(errno))
    }

    pub(super) fn disk_operations(&self) -> u64 {
        self.disk_operations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_places_in_the_list() {
        assert!(FAULTS.iter().enumerate().all(|(at, &fault)| at == fault as usize));
    }

    #[test]
    fn rates_count_and_the_nth_operation_fails_once() {
        let mut rng = Rng::new(1);
        let mut faults = Faults::new(FaultPlan::none().with(Fault::Reset, 500_000));
        let happened = (0..1000).filter(|_| faults.happens(Fault::Reset, &mut rng)).count();
        assert!((400..600).contains(&happened));
        assert_eq!(faults.counted(Fault::Reset), happened as u64);
        assert_eq!(faults.counted(Fault::SlowDisk), 0);
        faults.set_plan(FaultPlan { nth: Some((2, libc::EIO)), ..FaultPlan::none() });
        let failed: Vec<bool> = (0..3).map(|_| faults.next_disk_operation().is_some()).collect();
        assert_eq!(failed, [false, true, false]);
    }
}
