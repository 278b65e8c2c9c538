//! Mounts a directory and agrees with the kernel on how it is served: by which transport, and whether files are passed through.
//!
//! Called once per mount, before the columns start. INIT is the first request and is answered here, in one thread.

use super::crowd::KEPT_OUT_NS;
use super::interrupts::Interrupts;
use super::place::SUBTYPE;
use super::prune::Pruner;
use super::thread::Inlets;
use super::watchdog::Pulse;
use super::{Connection, RingShape, Transport, allows, failed};
use crate::config::{Rung, Settings};
use crate::error::Error;
use blobcache::mount::{DEADLINE_NS, Kind, Looks};
use fuse_lowlevel::device::{Device, Received};
use fuse_lowlevel::mount::{Mounted, Options, mount};
use fuse_lowlevel::uring::{enabled, possible_cpus};
use fuse_lowlevel::wire::READ_BUFFER_BYTES_MIN;
use fuse_lowlevel::wire::flags::init;
use fuse_lowlevel::{Agreed, Answer, Operation, Reply, Request, Timestamp, Wants, negotiate};
use runtime::tier::Names;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Of one request, and what the kernel reads ahead at once.
const REQUEST_BYTES: u32 = 1 << 20;
/// Memory of all entries of all rings of a connection; entries get smaller on machines with many CPUs, and then fewer.
const RINGS_BYTES_MAX: u64 = 64 << 20;
/// The part of `--memory` that the rings of a connection may take, which is taken out of it.
const RINGS_DIVISOR: u64 = 16;
/// What is known of the names that the kernel holds of a connection: about a million, and the part of `--memory` that they may
/// be, beside it.
const NODES_BYTES_MAX: u64 = 256 << 20;
const NODES_DIVISOR: u64 = 8;
/// Requests of one CPU that can be under way at once over its ring.
const RING_DEPTH: u16 = 16;
/// The least data of a request over a ring.
const RING_REQUEST_BYTES_MIN: u32 = 32 << 10;
/// The kernel ends a connection on which a request takes this long, what it waited for an entry of a ring included: well above our
/// own deadline and that.
const REQUEST_TIMEOUT_S: u16 = 90;
const _: () = assert!(KEPT_OUT_NS + DEADLINE_NS < REQUEST_TIMEOUT_S as u64 * 1_000_000_000);
/// Reads from disk at a time, of one column and connection.
const DISK_READS_MAX: usize = 32;

/// The transport that the machine and `--memory` allow, and whether it was asked for. `Err`: why not.
fn transport(rung: Rung, memory_bytes: u64) -> Result<Transport, String> {
    let rings = || -> Result<Transport, String> {
        if !enabled() {
            return Err(
                "FUSE over io_uring is switched off: echo Y > /sys/module/fuse/parameters/enable_uring"
                    .into(),
            );
        }
        let possible = possible_cpus().map_err(|e| e.to_string())?;
        let rings = rings_within(possible, RINGS_BYTES_MAX.min(memory_bytes / RINGS_DIVISOR));
        rings
            .map(Transport::Rings)
            .ok_or_else(|| format!("--memory is too little for {possible} CPUs' rings"))
    };
    let chosen = match rung {
        Rung::Uring => rings()?,
        Rung::Thread => Transport::Thread,
        Rung::Clone => Transport::Clones,
        Rung::Auto | Rung::Passthrough => rings().unwrap_or(Transport::Clones),
    };
    assert!(allows(rung, chosen), "{rung:?} does not allow {chosen:?}");
    Ok(chosen)
}

/// The transport that `--fuse-rung auto` takes on this machine.
pub(crate) fn rung_of_this_machine(memory_bytes: u64) -> Transport {
    transport(Rung::Auto, memory_bytes).expect("auto always finds one")
}

pub(super) fn connect(
    directory: &Path,
    is_immutable: bool,
    number: usize,
    settings: &Settings,
    cpus: &[usize],
    pulse: Arc<Pulse>,
) -> Result<(Connection, Mounted), Error> {
    let rung = settings.mounts.rung;
    let transport = transport(rung, settings.memory_bytes).map_err(|why| failed(directory, why))?;
    let options = Options {
        read_only: is_immutable,
        allow_other: settings.mounts.allow_other,
        default_permissions: true,
        source: SUBTYPE.to_owned(),
        subtype: SUBTYPE.to_owned(),
    };
    let (device, mounted) = mount(directory, &options).map_err(|e| failed(directory, e))?;
    let wants = wants(rung, transport, is_immutable, settings.verify.is_strict);
    let agreed = agree(&device, &wants).map_err(|e| failed(directory, e))?;
    let transport = match transport {
        Transport::Rings(_) if !agreed.over_io_uring() => Transport::Clones,
        chosen => chosen,
    };
    if let Err(error) = mounted.set_read_ahead(REQUEST_BYTES / 1024) {
        tracing::warn!(%error, "the kernel reads ahead 128 KiB at a time");
    }
    let kind = kind(&device, &agreed, is_immutable, settings).map_err(|e| failed(directory, e))?;
    let inlets = matches!(transport, Transport::Thread).then(|| Inlets::new(cpus.len()));
    let device = Arc::new(device);
    let pruner = Pruner::start(device.clone(), agreed.minor, cpus.len()).map_err(|e| failed(directory, e))?;
    let connection = Connection {
        number,
        device,
        agreed,
        transport,
        kind,
        looks: looks(),
        cpus: cpus.into(),
        interrupts: Arc::new(Interrupts::new(cpus.len()).map_err(|e| failed(directory, e))?),
        inlets: inlets.transpose().map_err(|e| failed(directory, e))?.map(Arc::new),
        ttl_ms: settings.object_ttl_ms,
        disk_reads_max: DISK_READS_MAX,
        nodes_bytes: NODES_BYTES_MAX.min(settings.memory_bytes / NODES_DIVISOR),
        pruner: Arc::new(pruner),
        pulse,
    };
    Ok((connection, mounted))
}

fn wants(rung: Rung, transport: Transport, is_immutable: bool, is_strict: bool) -> Wants {
    let mut wants = Wants {
        max_readahead_bytes: REQUEST_BYTES,
        max_request_bytes: REQUEST_BYTES,
        request_timeout_s: REQUEST_TIMEOUT_S,
        no_handles: is_immutable,
        ..Wants::default()
    };
    if let Transport::Rings(rings) = transport {
        wants.flags |= init::OVER_IO_URING;
        wants.max_request_bytes = rings.request_bytes;
        if rung == Rung::Uring {
            wants.flags_required |= init::OVER_IO_URING;
        }
    }
    // What the kernel reads itself we cannot verify; and without OPEN there is nothing to pass through by.
    let may_pass = !is_immutable && !is_strict;
    match rung {
        Rung::Auto if may_pass => wants.flags |= init::PASSTHROUGH,
        Rung::Passthrough if may_pass => wants.flags_required |= init::PASSTHROUGH,
        _ => {}
    }
    wants
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
    let request_bytes = 1 << share.min(u64::from(REQUEST_BYTES)).ilog2();
    Some(RingShape { possible, depth, request_bytes })
}

fn kind(device: &Device, agreed: &Agreed, is_immutable: bool, settings: &Settings) -> Result<Kind, String> {
    if is_immutable {
        return Ok(Kind::Immutable);
    }
    let passthrough = agreed.passthrough() && passes_through(device, settings)?;
    Ok(Kind::Handles { passthrough })
}

/// Whether the kernel takes files of ours, as one that is there always shows: agreeing to passthrough says nothing of that.
fn passes_through(device: &Device, settings: &Settings) -> Result<bool, String> {
    let given = File::open(Names::new(&settings.data_dirs[0].path).format())
        .and_then(|file| device.open_backing(file.as_fd()))
        .and_then(|id| device.close_backing(id));
    match given {
        Ok(()) => Ok(true),
        Err(error) if settings.mounts.rung == Rung::Passthrough => {
            Err(format!("the kernel takes no file (CAP_SYS_ADMIN is needed, and no overlay): {error}"))
        }
        Err(error) => {
            tracing::warn!(%error, "no passthrough, every read comes to us: the kernel takes no file (needs CAP_SYS_ADMIN)");
            Ok(false)
        }
    }
}

/// Answers INIT; twice if the kernel speaks a newer major version.
fn agree(device: &Device, wants: &Wants) -> Result<Agreed, String> {
    let mut buffer = vec![0; READ_BUFFER_BYTES_MIN];
    for _ in 0..2 {
        let length = match device.receive(&mut buffer).map_err(|e| e.to_string())? {
            Received::Request(length) => length,
            Received::Nothing | Received::Ended => return Err("unmounted before it was served".into()),
        };
        let request = Request::parse_whole(&buffer[..length]).map_err(|e| e.to_string())?;
        let Operation::Init(offer) = request.operation else {
            return Err(format!("the kernel began with {} instead of INIT", request.name()));
        };
        let answer = negotiate(&offer, wants);
        let reply = match &answer {
            Ok(Answer::Agreed(agreed)) => Reply::Init(agreed.reply()),
            Ok(Answer::Version(version)) => Reply::Init(*version),
            Err(refusal) => Reply::Error(refusal.errno()),
        };
        device.send(reply.encode(request.unique).head(), &[]).map_err(|e| e.to_string())?;
        match answer {
            Ok(Answer::Agreed(agreed)) => return Ok(agreed),
            Ok(Answer::Version(_)) => {}
            Err(refusal) => return Err(refusal.to_string()),
        }
    }
    Err("the kernel speaks another version of FUSE".into())
}

/// Everything belongs to the daemon's user, since when it was mounted.
fn looks() -> Looks {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let time = Timestamp { seconds: since.as_secs() as i64, nanoseconds: 0 };
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Looks { uid, gid, time }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuse_lowlevel::uring::ENTRIES_MAX;

    #[test]
    fn rings_keep_within_their_memory() {
        let rings = |possible, mib: u64| rings_within(possible, mib << 20).expect("room");
        assert_eq!((rings(1, 64).request_bytes, rings(2, 64).request_bytes), (REQUEST_BYTES, REQUEST_BYTES));
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
    fn a_forced_transport_passes_nothing_through_and_strictness_neither() {
        let passes = |rung, immutable, strict| {
            let wants = wants(rung, Transport::Clones, immutable, strict);
            (wants.flags | wants.flags_required) & init::PASSTHROUGH != 0
        };
        assert!(passes(Rung::Auto, false, false) && passes(Rung::Passthrough, false, false));
        assert!(!passes(Rung::Auto, true, false) && !passes(Rung::Auto, false, true));
        assert!(!passes(Rung::Clone, false, false) && !passes(Rung::Thread, false, false));
    }
}
