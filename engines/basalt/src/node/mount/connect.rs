//! Mounts a directory and agrees with the kernel on how it is served: by which transport, and whether files are passed through.
//!
//! Called once per mount, before the columns start. INIT is the first request and is answered here, in one thread.

use super::interrupts::Interrupts;
use super::place::SUBTYPE;
use super::thread::Inlets;
use super::watchdog::Pulse;
use super::{Connection, Transport, allows, failed};
use crate::config::{Rung, Settings};
use crate::error::Error;
use blobcache::mount::{DEADLINE_NS, Kind, Looks};
use fuse_lowlevel::device::{Device, Received};
use fuse_lowlevel::mount::{Mounted, Options, mount};
use fuse_lowlevel::uring::{enabled, possible_cpus};
use fuse_lowlevel::wire::READ_BUFFER_BYTES_MIN;
use fuse_lowlevel::wire::flags::init;
use fuse_lowlevel::{Agreed, Answer, Operation, Reply, Request, Timestamp, Wants, negotiate};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Of one request, and what the kernel reads ahead at once.
const REQUEST_BYTES: u32 = 1 << 20;
/// Memory of all entries of all rings of a connection; entries get smaller on machines with many CPUs.
const RINGS_BYTES_MAX: u64 = 64 << 20;
/// Requests of one CPU that can be under way at once over its ring.
pub(super) const RING_DEPTH: u16 = 16;
/// The least data of a request over a ring.
const RING_REQUEST_BYTES_MIN: u32 = 32 << 10;
/// The kernel ends a connection on which a request takes this long: well above our own deadline.
const REQUEST_TIMEOUT_S: u16 = 90;
const _: () = assert!(DEADLINE_NS < REQUEST_TIMEOUT_S as u64 * 1_000_000_000);
/// Reads from disk at a time, of one column and connection.
const DISK_READS_MAX: usize = 32;

/// The transport that the machine allows, and whether it was asked for. `Err`: why not.
fn transport(rung: Rung) -> Result<Transport, String> {
    let rings = || -> Result<Transport, String> {
        if !enabled() {
            return Err(
                "FUSE over io_uring is switched off: echo Y > /sys/module/fuse/parameters/enable_uring"
                    .into(),
            );
        }
        Ok(Transport::Rings { possible: possible_cpus().map_err(|e| e.to_string())? })
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
pub(crate) fn rung_of_this_machine() -> Transport {
    transport(Rung::Auto).expect("auto always finds one")
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
    let transport = transport(rung).map_err(|why| failed(directory, why))?;
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
        Transport::Rings { .. } if !agreed.over_io_uring() => Transport::Clones,
        chosen => chosen,
    };
    if let Err(error) = mounted.set_read_ahead(REQUEST_BYTES / 1024) {
        tracing::warn!(%error, "the kernel reads ahead 128 KiB at a time");
    }
    let kind = match is_immutable {
        true => Kind::Immutable,
        false => Kind::Handles { passthrough: agreed.passthrough() },
    };
    let inlets = matches!(transport, Transport::Thread).then(|| Inlets::new(cpus.len()));
    let connection = Connection {
        number,
        device: Arc::new(device),
        agreed,
        transport,
        kind,
        looks: looks(),
        cpus: cpus.into(),
        interrupts: Arc::new(Interrupts::new(cpus.len()).map_err(|e| failed(directory, e))?),
        inlets: inlets.transpose().map_err(|e| failed(directory, e))?.map(Arc::new),
        ttl_ms: settings.object_ttl_ms,
        disk_reads_max: DISK_READS_MAX,
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
    if let Transport::Rings { possible } = transport {
        wants.flags |= init::OVER_IO_URING;
        wants.max_request_bytes = ring_request_bytes(possible);
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

fn ring_request_bytes(possible: u16) -> u32 {
    let entries = u64::from(possible.max(1)) * u64::from(RING_DEPTH);
    let share = u32::try_from(RINGS_BYTES_MAX / entries).unwrap_or(REQUEST_BYTES);
    let power = 1 << share.max(1).ilog2();
    power.clamp(RING_REQUEST_BYTES_MIN, REQUEST_BYTES)
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

    #[test]
    fn rings_keep_within_their_memory() {
        assert_eq!(ring_request_bytes(1), REQUEST_BYTES);
        assert_eq!(ring_request_bytes(2), REQUEST_BYTES);
        assert_eq!(ring_request_bytes(64), 64 << 10);
        assert_eq!(ring_request_bytes(1024), RING_REQUEST_BYTES_MIN);
        for possible in [2u16, 3, 8, 48, 64] {
            let all = u64::from(ring_request_bytes(possible)) * u64::from(possible) * u64::from(RING_DEPTH);
            assert!(all <= RINGS_BYTES_MAX, "{possible} CPUs take {all}");
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
