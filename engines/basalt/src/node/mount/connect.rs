//! Mounts a directory and agrees with the kernel on how it is served: by which transports (`ladder`), and whether files are passed
//! through.
//!
//! Called once per mount, before the columns start. INIT is the first request and is answered here, in one thread.

use super::backing::GivenDirs;
use super::crowd::KEPT_OUT_NS;
use super::interrupts::Interrupts;
use super::ladder::{Ladder, Rings};
use super::place::SUBTYPE;
use super::prune::Pruner;
use super::watchdog::Pulse;
use super::{Connection, Transport, failed};
use crate::config::{Mounts, Rung, Settings, Verify};
use crate::error::Error;
use blobcache::mount::{DEADLINE_NS, Kind, Looks};
use fuse_lowlevel::device::{Device, Received};
use fuse_lowlevel::mount::{Mounted, Options, mount};
use fuse_lowlevel::wire::READ_BUFFER_BYTES_MIN;
use fuse_lowlevel::wire::flags::init;
use fuse_lowlevel::{Agreed, Answer, Operation, Reply, Request, Timestamp, Wants, negotiate};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Of one request, and what the kernel reads ahead at once.
const REQUEST_BYTES: u32 = 1 << 20;
/// What is known of the names that the kernel holds of a connection: about a million, and the part of `--memory` that they may
/// be, beside it.
const NODES_BYTES_MAX: u64 = 256 << 20;
const NODES_DIVISOR: u64 = 8;
/// The kernel ends a connection on which a request takes this long, what it waited for an entry of a ring included: well above our
/// own deadline and that.
const REQUEST_TIMEOUT_S: u16 = 90;
const _: () = assert!(KEPT_OUT_NS + DEADLINE_NS < REQUEST_TIMEOUT_S as u64 * 1_000_000_000);
/// Reads from disk at a time, of one column and connection.
const DISK_READS_MAX: usize = 32;

pub(super) fn connect(
    directory: &Path,
    is_immutable: bool,
    number: usize,
    settings: &Settings,
    cpus: &[usize],
    pulse: Arc<Pulse>,
) -> Result<(Connection, Mounted), Error> {
    let (device, mounted) = mount(directory, &options(is_immutable, settings.mounts.allow_other))
        .map_err(|e| failed(directory, e))?;
    let (agreed, ladder) =
        climb(&device, is_immutable, settings, cpus).map_err(|why| failed(directory, why))?;
    if let Err(error) = mounted.set_read_ahead(REQUEST_BYTES / 1024) {
        tracing::warn!(%error, "the kernel reads ahead 128 KiB at a time");
    }
    let given = given(&device, &agreed, is_immutable, settings).map_err(|e| failed(directory, e))?;
    let kind = match is_immutable {
        true => Kind::Immutable,
        false => Kind::Handles { passthrough: given.is_any() },
    };
    let device = Arc::new(device);
    let pruner = Pruner::start(device.clone(), agreed.minor, cpus.len()).map_err(|e| failed(directory, e))?;
    let connection = Connection {
        number,
        directory: mounted.directory().into(),
        device,
        agreed,
        ladder: Arc::new(ladder),
        kind,
        given: Arc::new(given),
        looks: looks(),
        interrupts: Arc::new(Interrupts::new(cpus.len()).map_err(|e| failed(directory, e))?),
        ttl_ms: settings.object_ttl_ms,
        disk_reads_max: DISK_READS_MAX,
        nodes_bytes: NODES_BYTES_MAX.min(settings.memory_bytes / NODES_DIVISOR),
        pruner: Arc::new(pruner),
        pulse,
    };
    Ok((connection, mounted))
}

/// What `serve --mount` would be served by if nothing was forced.
pub(crate) struct Trial {
    pub(crate) transport: Transport,
    /// Why by nothing better.
    pub(crate) passed_over: String,
    /// Data directories whose files the kernel does not take, and why.
    pub(crate) not_given: Vec<String>,
}

/// Tries it on `cpus`, with a mount on `directory` that lasts for a moment.
pub(crate) fn try_rungs(directory: &Path, settings: &Settings, cpus: &[usize]) -> Result<Trial, String> {
    let mounts = Mounts { rung: Rung::Auto, ..settings.mounts.clone() };
    let verify = Verify { is_strict: false, ..settings.verify };
    let settings = Settings { mounts, verify, ..settings.clone() };
    let (device, mounted) = mount(directory, &options(false, false)).map_err(|e| e.to_string())?;
    let (agreed, ladder) = climb(&device, false, &settings, cpus)?;
    // What they registered is kept until the mount is gone.
    let registered: Result<Vec<_>, String> =
        (0..cpus.len()).map(|column| ladder.register(&device, column)).collect();
    let given = given(&device, &agreed, false, &settings);
    drop(mounted);
    registered?;
    let not_given = given?.refused;
    Ok(Trial { transport: ladder.transport(), passed_over: ladder.passed_over(), not_given })
}

fn options(read_only: bool, allow_other: bool) -> Options {
    Options {
        read_only,
        allow_other,
        default_permissions: true,
        source: SUBTYPE.to_owned(),
        subtype: SUBTYPE.to_owned(),
    }
}

/// Agrees with the kernel, on the best transports that can be had.
fn climb(
    device: &Device,
    is_immutable: bool,
    settings: &Settings,
    cpus: &[usize],
) -> Result<(Agreed, Ladder), String> {
    let rung = settings.mounts.rung;
    let rings = Rings::make(rung, device, cpus, settings.memory_bytes);
    let wants = wants(rung, Ladder::request_bytes(&rings), is_immutable, settings.verify.is_strict);
    let agreed = agree(device, &wants)?;
    let ladder = Ladder::make(rung, rings, &agreed, device, cpus.len())?;
    Ok((agreed, ladder))
}

/// `ring_request_bytes`: of a request, if it may come over a ring.
fn wants(rung: Rung, ring_request_bytes: Option<u32>, is_immutable: bool, is_strict: bool) -> Wants {
    let mut wants = Wants {
        max_readahead_bytes: REQUEST_BYTES,
        max_request_bytes: REQUEST_BYTES,
        request_timeout_s: REQUEST_TIMEOUT_S,
        no_handles: is_immutable,
        ..Wants::default()
    };
    if let Some(request_bytes) = ring_request_bytes {
        wants.flags |= init::OVER_IO_URING;
        wants.max_request_bytes = request_bytes;
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

/// What the kernel reads itself.
fn given(
    device: &Device,
    agreed: &Agreed,
    is_immutable: bool,
    settings: &Settings,
) -> Result<GivenDirs, String> {
    if is_immutable || settings.verify.is_strict {
        return Ok(GivenDirs::default());
    }
    let dirs = settings.data_dirs.iter().map(|dir| dir.path.as_path());
    let given = match settings.mounts.rung {
        Rung::Auto | Rung::Passthrough if agreed.passthrough() => GivenDirs::try_all(device, dirs),
        Rung::Auto => GivenDirs::unheard_of(),
        _ => GivenDirs::default(),
    };
    match given.refused.first() {
        Some(why) if settings.mounts.rung == Rung::Passthrough => Err(why.clone()),
        _ => Ok(given),
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

    #[test]
    fn a_forced_transport_passes_nothing_through_and_strictness_neither() {
        let passes = |rung, immutable, strict| {
            let wants = wants(rung, None, immutable, strict);
            (wants.flags | wants.flags_required) & init::PASSTHROUGH != 0
        };
        assert!(passes(Rung::Auto, false, false) && passes(Rung::Passthrough, false, false));
        assert!(!passes(Rung::Auto, true, false) && !passes(Rung::Auto, false, true));
        assert!(!passes(Rung::Clone, false, false) && !passes(Rung::Thread, false, false));
    }
}
