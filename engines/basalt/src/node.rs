//! The node: binds the real machine to the engines, starts the columns, waits for signals, drains. Decides nothing about data.
//!
//! Called by `main` for `serve`. Order of a start: kernel, CPUs, ports, data directory (nothing is touched before all of these
//! are known to be good), recovery on one column, then all columns together.

pub mod access;
pub mod access_log;
pub mod columns;
mod devices;
pub mod mount;
mod ops;
pub mod slice;

use crate::config::Settings;
use crate::config::size::Bytes;
use crate::error::Error;
use crate::{doctor, ports};
use access::Access;
use access_log::AccessLog;
use columns::NodePlan;
use net::client::Trust;
use runtime::budget::Budget;
use runtime::column::{Column, Columns, Plan, Report, start};
use runtime::cpus::{MachineView, choose};
use runtime::io::Io;
use runtime::mesh::Doorbell;
use runtime::ring::{RingIo, bind};
use runtime::shards::{SHARDS, ShardMap};
use runtime::signals::{Signal, forward};
use runtime::tier::{
    DataDir, DataDirError, DiskPlan, Guard, RecoverError, Recovered, check_members, recover_all,
    remember_members,
};
use slice::SlicePlan;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a column looks for messages of others before it waits in the kernel: longer only burns CPU that a neighbour
/// could use. A column alone has nobody to wait for (GET of 64 KiB: 11.7 us of CPU a request with it, 11.4 without).
const SPIN_NS: u64 = 2_000;
/// Memory of the column that recovers, when that is all it does.
const RECOVERY_BYTES: usize = 64 << 20;
/// How long a port may be held by a process that has ended.
const PORT_WAIT: Duration = Duration::from_secs(3);
const PORT_LOOK: Duration = Duration::from_millis(20);
/// The least that a column can work with.
const COLUMN_BYTES_MIN: u64 = 64 << 20;

/// What the main thread waits for.
enum Event {
    Signal(Signal),
    Column(Report),
}

/// Runs until a signal or a failure ends the node.
pub(crate) fn serve(settings: Settings) -> Result<(), Error> {
    runtime::probe::io_uring().map_err(|e| doctor::ring::refusal(&e))?;
    raise_file_limit();
    let cpus = choose_cpus(&settings)?;
    let memory_each = settings.memory_bytes / cpus.len() as u64;
    if memory_each < COLUMN_BYTES_MIN {
        let what = format!(
            "--memory {} is {} for each of {} columns",
            Bytes(settings.memory_bytes),
            Bytes(memory_each),
            cpus.len()
        );
        return Err(Error::usage(what)
            .why(format!("a column needs at least {}", Bytes(COLUMN_BYTES_MIN)))
            .fix("give more memory, or fewer CPUs with --cpuset"));
    }
    let slice = settings.slice_config().map_err(|(key, why)| Error::config(format!("--{key}")).why(why))?;
    let slice_listen = slice.as_ref().map(|_| settings.slice.listen);
    let listeners = [Some(settings.blob_listen), slice_listen, Some(settings.ops_listen)];
    for addr in listeners.into_iter().flatten() {
        refuse_taken(addr)?;
    }
    let trust = trust(&settings)?;
    let access = Access::load(&settings)?;
    let dirs = dir_plans(&settings)?;
    let (send, events) = channel();
    let wrap_send = send.clone();
    forward(wrap_send, Event::Signal).map_err(|e| Error::runtime("signals cannot be received").why(e))?;
    // From here on threads may be started: they leave signals to the one that waits for them.
    let target = settings.slice.access_log.clone().filter(|_| slice.is_some());
    let access_log = target.map(AccessLog::start).transpose()?;
    let slice = slice.map(|config| SlicePlan {
        listen: settings.slice.listen,
        config,
        access: access_log.as_ref().map(|log| log.plan(settings.slice.access_format)),
    });
    let (disks, recovered) = recover_disks(&cpus, dirs)?;
    let (mounts, connections) = mount::make(&settings, &cpus)?;
    // Rings are the kernel's to write into, whatever else memory is short for: they are the first to get theirs.
    let memory_bytes =
        settings.memory_bytes - connections.iter().map(mount::Connection::own_bytes).sum::<u64>();
    let plan = Plan {
        cpus: cpus.clone(),
        arena_bytes: memory_bytes as usize / cpus.len(),
        spin_ns: if cpus.len() > 1 { SPIN_NS } else { 0 },
    };
    let devices = devices::device_limits(&disks, cpus.len());
    let node = NodePlan {
        blob_listen: settings.blob_listen,
        slice,
        ops_listen: settings.ops_listen,
        object_ttl_ms: settings.object_ttl_ms,
        prefetch: settings.prefetch,
        scrub_bytes_per_s: settings.scrub_bytes_per_s,
        scrub_rest_ms: settings.scrub_rest_ms,
        shared_pages: !settings.verify.is_strict,
        verify_at_start: settings.verify.at_start,
        unverified: Arc::new(AtomicUsize::new(if settings.verify.at_start { cpus.len() } else { 0 })),
        disks,
        memory_bytes,
        map: ShardMap::new(cpus.len()),
        trust,
        doors: access.doors(),
        drained: Arc::default(),
    };
    let mut running =
        columns::start_all(&plan, node, devices, recovered, connections).map_err(Error::runtime)?;
    watch(&mut running, send);
    let outcome = wait(running, &events, &mounts, (&access, access_log.as_ref()));
    if let Some(log) = access_log {
        log.end();
    }
    outcome
}

fn trust(settings: &Settings) -> Result<Trust, Error> {
    let more = settings.origin_ca.as_deref();
    let trust = Trust::load(more).map_err(|e| {
        let file = more.unwrap_or_else(|| std::path::Path::new("")).display();
        Error::config(format!("--origin-ca {file}")).why(e).fix("name a PEM file of certificates")
    })?;
    if trust.roots == 0 {
        tracing::warn!("no certificate authority is installed: nothing can be fetched over https");
    }
    Ok(trust)
}

/// The CPUs of the columns.
pub(crate) fn choose_cpus(settings: &Settings) -> Result<Vec<usize>, Error> {
    let explicit = settings.cpuset.as_deref().map(runtime::cpulist::parse).transpose();
    let explicit = explicit.map_err(|e| Error::usage("--cpuset").why(e))?;
    let view = MachineView::read().map_err(|e| Error::runtime("the machine's CPUs cannot be read").why(e))?;
    let choice = choose(explicit.as_ref(), &view).map_err(|e| Error::usage("--cpuset").why(e))?;
    if let Some(warning) = &choice.warning {
        tracing::warn!("{warning}");
    }
    let cpus: Vec<usize> = choice.cpus.iter().map(|c| c as usize).collect();
    if cpus.len() > SHARDS {
        return Err(Error::usage(format!("{} CPUs", cpus.len()))
            .why(format!("a node has at most {SHARDS} columns"))
            .fix("name fewer with --cpuset"));
    }
    Ok(cpus)
}

/// Every connection takes a descriptor: the soft limit is for programs that use select(2).
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(e) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(error = %e, "the limit on open files stays as it is");
    }
}

/// Our own sockets share the port between columns, which would let a second node share it too: so ask first without.
fn refuse_taken(addr: SocketAddr) -> Result<(), Error> {
    let until = Instant::now() + PORT_WAIT;
    loop {
        match bind(addr, false) {
            Ok(_) => return Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => {
                // The ring of a node that has just ended holds its sockets for a moment; nobody is seen to hold them then.
                if ports::holder(addr).is_none() && Instant::now() < until {
                    std::thread::sleep(PORT_LOOK);
                    continue;
                }
                let error = Error::runtime(format!("cannot listen on {addr}"));
                return Err(error.why(ports::taken_by(addr)).fix("stop it, or listen elsewhere"));
            }
            Err(e) => return Err(Error::runtime(format!("cannot listen on {addr}")).why(e)),
        }
    }
}

/// A data directory to be opened.
#[derive(Clone)]
pub struct DirPlan {
    /// Where.
    pub path: PathBuf,
    /// Its bytes.
    pub budget: Budget,
    /// Its share of new objects, relative to the others.
    pub weight: u32,
    /// Bytes of its file system that stay free.
    pub floor_bytes: u64,
}

fn dir_plans(settings: &Settings) -> Result<Vec<DirPlan>, Error> {
    let plans = settings.data_dirs.iter().map(|dir| {
        let (quota_bytes, floor_bytes) = settings.disk_bytes(dir)?;
        let budget = Budget::new(quota_bytes);
        Ok(DirPlan { path: dir.path.clone(), budget, weight: dir.weight, floor_bytes })
    });
    plans.collect()
}

/// Why a data directory cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be taken possession of.
    #[error(transparent)]
    Dir(#[from] DataDirError),
    /// It cannot be read.
    #[error(transparent)]
    Recover(#[from] RecoverError),
}

impl From<OpenError> for Error {
    fn from(e: OpenError) -> Error {
        match e {
            OpenError::Dir(DataDirError::Newer(..) | DataDirError::Older(..)) => Error::config(e.to_string()),
            OpenError::Recover(ref why) if !why.is_io() => {
                Error::runtime(e.to_string()).fix("restore the file from a copy; nothing was changed")
            }
            _ => Error::runtime(e.to_string()),
        }
    }
}

/// The data directories, and what each column starts with.
pub type Opened = (Vec<DiskPlan>, Vec<Recovered>);

/// Takes possession of the data directories and reads them, on either machine.
pub async fn open<I: Io>(io: &I, dirs: &[DirPlan], guard: Guard, map: ShardMap) -> Result<Opened, OpenError> {
    let roots: Vec<PathBuf> = dirs.iter().map(|d| d.path.clone()).collect();
    check_members(io, &roots).await?;
    let mut disks = Vec::with_capacity(dirs.len());
    for &DirPlan { ref path, ref budget, weight, floor_bytes } in dirs {
        let dir = Arc::new(DataDir::open(io, path, guard).await?);
        disks.push(DiskPlan { dir, budget: budget.clone(), weight, floor_bytes });
    }
    remember_members(io, disks.iter().map(|d| &*d.dir)).await?;
    let recovered = recover_all(io, &disks, map).await?;
    Ok((disks, recovered))
}

/// Reads the data directories on one column; the node's columns then start with what they own.
fn recover_disks(cpus: &[usize], dirs: Vec<DirPlan>) -> Result<Opened, Error> {
    let map = ShardMap::new(cpus.len());
    let opened = on_column(cpus[0], move |column| {
        let dirs = dirs.clone();
        async move { open(&column.io, &dirs, Guard::Flock, map).await }
    });
    Ok(opened??)
}

/// Takes possession of a data directory, as a node does, to measure its device.
pub(crate) fn hold(root: &Path, cpu: usize) -> Result<DataDir, Error> {
    let root = root.to_owned();
    let held = on_column(cpu, move |column| {
        let root = root.clone();
        async move { DataDir::open(&column.io, &root, Guard::Flock).await }
    });
    Ok(held?.map_err(OpenError::Dir)?)
}

/// Runs `work` on a column of its own and waits for it.
fn on_column<T, F>(
    cpu: usize,
    work: impl Fn(Column<RingIo>) -> F + Clone + Send + 'static,
) -> Result<T, Error>
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
{
    let plan = Plan { cpus: vec![cpu], arena_bytes: RECOVERY_BYTES, spin_ns: 0 };
    let done: Arc<Mutex<Option<T>>> = Arc::default();
    let give = done.clone();
    let columns = start(&plan, doorbells(1)?, move |column| {
        let (give, work) = (give.clone(), work(column));
        async move {
            *give.lock().expect("only this column writes") = Some(work.await);
            Ok(Box::pin(async {}) as runtime::column::Body)
        }
    });
    columns.map_err(Error::runtime)?.join();
    let done = done.lock().expect("the column has ended").take();
    done.ok_or_else(|| Error::runtime("a column ended without a result"))
}

fn doorbells(count: usize) -> Result<Vec<Arc<Doorbell>>, Error> {
    let bells: std::io::Result<Vec<_>> = (0..count).map(|_| Doorbell::new().map(Arc::new)).collect();
    bells.map_err(|e| Error::runtime("no eventfd").why(e))
}

/// Column reports become events like signals.
fn watch(columns: &mut Columns, events: Sender<Event>) {
    let reports = columns.take_reports();
    std::thread::spawn(move || {
        while let Ok(report) = reports.recv() {
            if events.send(Event::Column(report)).is_err() {
                return;
            }
        }
    });
}

/// Waits for the end: HUP reads files again and opens the access log anew, as USR1 does, another signal drains, a failed column stops the rest, a second signal exits at once.
fn wait(
    columns: Columns,
    events: &Receiver<Event>,
    mounts: &mount::Mounts,
    (access, access_log): (&Access, Option<&AccessLog>),
) -> Result<(), Error> {
    let reason = loop {
        match events.recv() {
            Ok(Event::Signal(Signal::Reload)) => {
                access.reload();
                access_log.into_iter().for_each(AccessLog::reopen);
            }
            Ok(Event::Signal(Signal::Reopen)) => match access_log {
                Some(log) => log.reopen(),
                None => tracing::info!("nothing to open again: there is no access log"),
            },
            Ok(Event::Signal(Signal::Stop)) => break None,
            Ok(Event::Column(Report::Failed(column, reason))) => {
                break Some(format!("column {column}: {reason}"));
            }
            Ok(Event::Column(Report::Ready(_))) => {}
            Err(_) => break Some("the signal thread ended".to_owned()),
        }
    };
    tracing::info!("draining: requests under way finish, none is taken");
    mounts.leave();
    columns.stop();
    let (done, ended) = channel();
    std::thread::spawn(move || {
        columns.join();
        let _ = done.send(());
    });
    loop {
        if ended.recv_timeout(Duration::from_millis(20)).is_ok() {
            break;
        }
        if let Ok(Event::Signal(Signal::Stop)) = events.try_recv() {
            tracing::warn!("second signal: exiting at once");
            std::process::exit(1);
        }
    }
    match reason {
        None => Ok(()),
        Some(reason) => Err(Error::runtime("the node stopped").why(reason)),
    }
}
