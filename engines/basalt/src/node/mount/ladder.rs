//! The transport of a connection: the best that can be had here, and why none is better.
//!
//! Called by `connect`, which makes what each rung needs before anything is served; by each column while it is set up, as only its
//! own thread can register its part of FUSE's rings; and again when all columns are: which transport it is they all know then. And
//! by `doctor`, for a trial.
//!
//! Rings are made before INIT is answered, so that none are agreed to that cannot be had. A connection has the queues of all CPUs
//! or none: a column whose queues the kernel refuses says so to the kernel, which sends everything to the devices then, and to the
//! other columns, which drop theirs.

use super::thread::Inlets;
use super::{RingShape, Transport};
use crate::config::Rung;
use fuse_lowlevel::Agreed;
use fuse_lowlevel::device::Device;
use fuse_lowlevel::uring::{Queues, Shape, decline, enabled, possible_cpus};
use std::io;
use std::sync::{Arc, Mutex, OnceLock};

/// Memory of all entries of all rings of a connection; entries get smaller on machines with many CPUs, and then fewer.
const RINGS_BYTES_MAX: u64 = 64 << 20;
/// The part of `--memory` that the rings of a connection may take, which is taken out of it.
const RINGS_DIVISOR: u64 = 16;
/// Requests of one CPU that can be under way at once over its ring.
const RING_DEPTH: u16 = 16;
/// The least data of a request over a ring.
const RING_REQUEST_BYTES_MIN: u32 = 32 << 10;
/// The most.
const RING_REQUEST_BYTES_MAX: u32 = 1 << 20;

/// One a column, which takes it.
type Each<T> = Vec<Mutex<Option<T>>>;

/// FUSE's rings, not registered yet.
pub(super) struct Rings {
    pub(super) shape: RingShape,
    queues: Each<Queues>,
}

/// See the module.
pub(super) struct Ladder {
    is_forced: bool,
    /// `Err`: why there are none.
    rings: Result<Rings, String>,
    clones: Result<Each<Device>, String>,
    inlets: Option<Arc<Inlets>>,
    /// Why the kernel took no rings.
    refused: OnceLock<String>,
}

/// Whether a rung asked for leaves the transport open.
fn is_forced(rung: Rung) -> bool {
    !matches!(rung, Rung::Auto | Rung::Passthrough)
}

fn each<T>(all: impl Iterator<Item = io::Result<Option<T>>>) -> Result<Each<T>, String> {
    all.map(|one| one.map(Mutex::new)).collect::<io::Result<_>>().map_err(|e| e.to_string())
}

fn take<T>(each: &Each<T>, column: usize) -> Option<T> {
    each[column].lock().expect("nobody panics with it").take()
}

/// What is made only for its own rung, and for those that leave the choice.
fn asked<T>(rung: Rung, own: Rung, make: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    if is_forced(rung) && rung != own { Err("not asked for".into()) } else { make() }
}

impl Rings {
    /// The rings of a connection for the columns on `cpus`, if `rung` allows any. `Err`: why there are none.
    pub(super) fn make(
        rung: Rung,
        device: &Device,
        cpus: &[usize],
        memory_bytes: u64,
    ) -> Result<Rings, String> {
        asked(rung, Rung::Uring, || Self::make_all(device, cpus, memory_bytes))
    }

    fn make_all(device: &Device, cpus: &[usize], memory_bytes: u64) -> Result<Rings, String> {
        if !enabled() {
            return Err("switched off: echo Y > /sys/module/fuse/parameters/enable_uring".into());
        }
        let possible = possible_cpus().map_err(|e| e.to_string())?;
        let shape = rings_within(possible, RINGS_BYTES_MAX.min(memory_bytes / RINGS_DIVISOR))
            .ok_or_else(|| format!("--memory is too little for {possible} CPUs' rings"))?;
        let of_column = |column| {
            let queues = shares(cpus, column, possible);
            if queues.is_empty() {
                return Ok(None);
            }
            let (depth, payload_bytes) = (shape.depth, shape.request_bytes as usize);
            Queues::new(device, &Shape { queues, depth, payload_bytes }).map(Some)
        };
        Ok(Rings { shape, queues: each((0..cpus.len()).map(of_column))? })
    }
}

impl Ladder {
    /// What else may be needed, once INIT is answered. `Err`: the rung that was asked for cannot be had, or none at all.
    pub(super) fn make(
        rung: Rung,
        rings: Result<Rings, String>,
        agreed: &Agreed,
        device: &Device,
        columns: usize,
    ) -> Result<Ladder, String> {
        let rings = rings.and_then(|rings| match agreed.over_io_uring() {
            true => Ok(rings),
            false => Err("the kernel does not offer it".into()),
        });
        let clones = asked(rung, Rung::Clone, || {
            each((0..columns).map(|_| {
                let clone = device.clone_queue()?;
                clone.set_nonblocking()?;
                Ok(Some(clone))
            }))
        });
        match (rung, &rings, &clones) {
            (Rung::Uring, Err(why), _) => return Err(format!("FUSE over io_uring: {why}")),
            (Rung::Clone, _, Err(why)) => return Err(format!("the device cannot be cloned: {why}")),
            _ => {}
        }
        let may_be_thread = rung == Rung::Thread || (!is_forced(rung) && clones.is_err());
        let inlets = may_be_thread.then(|| Inlets::new(columns).map(Arc::new)).transpose();
        let inlets = inlets.map_err(|e| e.to_string())?;
        Ok(Ladder { is_forced: is_forced(rung), rings, clones, inlets, refused: OnceLock::new() })
    }

    /// The queues of a column, registered; none if it has none, or there are no rings. On the column's own thread, once.
    pub(super) fn register(&self, device: &Device, column: usize) -> Result<Option<Queues>, String> {
        let Some(mut queues) = self.rings.as_ref().ok().and_then(|rings| take(&rings.queues, column)) else {
            return Ok(None);
        };
        let Err(error) = queues.register() else { return Ok(Some(queues)) };
        // Part of a ring cannot be taken back: it may be whole by the other columns' parts.
        if self.is_forced || !queues.is_over() {
            return Err(format!("FUSE over io_uring: {error}"));
        }
        // Another column may have been told the same.
        let _ = self.refused.set(error.to_string());
        decline(device).map_err(|e| format!("FUSE over io_uring: {error}; and cannot be declined: {e}"))?;
        Ok(None)
    }

    /// Which it is, once all columns have registered.
    pub(super) fn transport(&self) -> Transport {
        match (&self.rings, &self.clones) {
            (Ok(rings), _) if self.refused.get().is_none() => Transport::Rings(rings.shape),
            (_, Ok(_)) => Transport::Clones,
            _ => Transport::Thread,
        }
    }

    /// The better ones, and why they cannot be had; nothing if no other was wanted.
    pub(super) fn passed_over(&self) -> String {
        let no_rings = self.rings.as_ref().err().or(self.refused.get()).map(|why| format!("uring: {why}"));
        let no_clones = self.clones.as_ref().err().map(|why| format!("clone: {why}"));
        let better = match self.transport() {
            _ if self.is_forced => vec![],
            Transport::Rings(_) => vec![],
            Transport::Clones => vec![no_rings],
            Transport::Thread => vec![no_rings, no_clones],
        };
        better.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }

    /// The device of a column.
    pub(super) fn take_clone(&self, column: usize) -> Device {
        let clones = self.clones.as_ref().expect("this transport has them");
        take(clones, column).expect("once a column")
    }

    /// The way from the reading thread to the columns.
    pub(super) fn inlets(&self) -> Arc<Inlets> {
        self.inlets.clone().expect("this transport has them")
    }

    /// Memory of the rings, whether the kernel takes them or not.
    pub(super) fn own_bytes(&self) -> u64 {
        self.rings.as_ref().map_or(0, |rings| rings.shape.bytes())
    }

    /// Data of a request over the rings, if there may be any.
    pub(super) fn request_bytes(rings: &Result<Rings, String>) -> Option<u32> {
        rings.as_ref().ok().map(|rings| rings.shape.request_bytes)
    }
}

/// Rings that fit into so much memory: with smaller requests first, then with fewer. `None`: not even one for each CPU fits.
fn rings_within(possible: u16, bytes_max: u64) -> Option<RingShape> {
    let possible = possible.max(1);
    let smallest = u64::from(possible) * u64::from(RING_REQUEST_BYTES_MIN);
    let depth = (bytes_max / smallest).min(u64::from(RING_DEPTH)) as u16;
    if depth == 0 {
        return None;
    }
    let share = bytes_max / (u64::from(possible) * u64::from(depth));
    let request_bytes = 1 << share.min(u64::from(RING_REQUEST_BYTES_MAX)).ilog2();
    Some(RingShape { possible, depth, request_bytes })
}

/// The queues that the column of `cpus[column]` serves.
fn shares(cpus: &[usize], column: usize, possible: u16) -> Vec<u16> {
    let of = |queue: u16| {
        let cpu = usize::from(queue);
        cpus.iter().position(|&owned| owned == cpu).unwrap_or(cpu % cpus.len())
    };
    (0..possible).filter(|&queue| of(queue) == column).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuse_lowlevel::uring::ENTRIES_MAX;

    #[test]
    fn rings_keep_within_their_memory() {
        let rings = |possible, mib: u64| rings_within(possible, mib << 20).expect("room");
        assert_eq!(
            (rings(1, 64).request_bytes, rings(2, 64).request_bytes),
            (RING_REQUEST_BYTES_MAX, RING_REQUEST_BYTES_MAX)
        );
        assert_eq!((rings(64, 64).request_bytes, rings(2, 16).request_bytes), (64 << 10, 512 << 10));
        assert_eq!((rings(1024, 64).request_bytes, rings(1024, 64).depth), (RING_REQUEST_BYTES_MIN, 2));
        assert_eq!(rings_within(4096, 64 << 20), None);
        for (possible, mib) in [(1, 4), (2, 8), (3, 5), (8, 64), (48, 64), (240, 64), (2048, 64)] {
            let rings = rings(possible, mib);
            assert!(rings.bytes() <= mib << 20, "{rings:?}");
            assert!((1..=RING_DEPTH).contains(&rings.depth) && rings.request_bytes >= RING_REQUEST_BYTES_MIN);
            // One column may serve them all.
            assert!(usize::from(possible) * usize::from(rings.depth) <= ENTRIES_MAX, "{rings:?}");
        }
    }

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
