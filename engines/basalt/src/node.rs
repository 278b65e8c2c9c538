//! The node: binds the real machine to the engines, starts the columns, waits for signals, drains. Decides nothing about data.
//!
//! Called by `main` for `serve`. Order of a start: kernel, CPUs, ports, data directory (nothing is touched before all of these
//! are known to be good), recovery on one column, then all columns together.

mod columns;
mod ops;

use crate::config::size::Bytes;
use crate::config::{self, Settings};
use crate::error::Error;
use crate::{doctor, ports};
use columns::NodePlan;
use net::client::Trust;
use runtime::budget::Budget;
use runtime::column::{Columns, Plan, Report, start};
use runtime::cpus::{MachineView, choose};
use runtime::mesh::Doorbell;
use runtime::ring::bind;
use runtime::shards::{SHARDS, ShardMap};
use runtime::signals::{Signal, forward};
use runtime::tier::{DataDir, DataDirError, DiskPlan, RecoverError, Recovered, recover_all};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a column looks for more work before it waits in the kernel: longer only burns CPU that a neighbour could use.
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
pub fn serve(settings: Settings) -> Result<(), Error> {
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
    for addr in [settings.blob_listen, settings.ops_listen] {
        refuse_taken(addr)?;
    }
    let trust = trust(&settings)?;
    let disks = open_disks(&settings)?;
    let (send, events) = channel();
    let wrap_send = send.clone();
    forward(wrap_send, Event::Signal).map_err(|e| Error::runtime("signals cannot be received").why(e))?;
    let recovered = recover_disks(&cpus, &disks)?;
    let plan = Plan { cpus: cpus.clone(), arena_bytes: memory_each as usize, spin_ns: SPIN_NS };
    let node = NodePlan {
        settings: Arc::new(settings),
        disks,
        memory_each,
        map: ShardMap::new(cpus.len()),
        trust,
        drained: Arc::default(),
    };
    let mut running = columns::start_all(&plan, node, recovered).map_err(Error::runtime)?;
    watch(&mut running, send);
    wait(running, &events)
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

fn choose_cpus(settings: &Settings) -> Result<Vec<usize>, Error> {
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

fn open_disks(settings: &Settings) -> Result<Vec<DiskPlan>, Error> {
    let open = |dir: &config::DataDir| {
        let opened = DataDir::open(&dir.path).map_err(data_dir_error)?;
        let budget = Budget::new(settings.disk_quota_bytes(dir)?);
        Ok(DiskPlan { dir: Arc::new(opened), budget, weight: dir.weight })
    };
    settings.data_dirs.iter().map(open).collect()
}

fn data_dir_error(e: DataDirError) -> Error {
    match e {
        DataDirError::Newer(..) | DataDirError::Older(..) => Error::config(e.to_string()),
        _ => Error::runtime(e.to_string()),
    }
}

type Outcome = Result<Vec<Recovered>, RecoverError>;

/// Reads the data directories on one column; the node's columns then start with what they own.
fn recover_disks(cpus: &[usize], disks: &[DiskPlan]) -> Result<Vec<Recovered>, Error> {
    let bells = doorbells(1)?;
    let plan = Plan { cpus: cpus[..1].to_vec(), arena_bytes: RECOVERY_BYTES, spin_ns: 0 };
    let map = ShardMap::new(cpus.len());
    let found: Arc<Mutex<Option<Outcome>>> = Arc::default();
    let (give, disks) = (found.clone(), disks.to_vec());
    let columns = start(&plan, bells, move |column| {
        let (give, disks) = (give.clone(), disks.clone());
        async move {
            let recovered = recover_all(&column.io, &disks, map).await;
            *give.lock().expect("only this column writes") = Some(recovered);
            Ok(Box::pin(async {}) as runtime::column::Body)
        }
    });
    columns.map_err(Error::runtime)?.join();
    let outcome = found.lock().expect("the column has ended").take();
    match outcome {
        Some(Ok(recovered)) => Ok(recovered),
        Some(Err(e)) if e.is_io() => Err(Error::runtime(e.to_string())),
        Some(Err(e)) => {
            Err(Error::runtime(e.to_string()).fix("restore the file from a copy; nothing was changed"))
        }
        None => Err(Error::runtime("recovery ended without a result")),
    }
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

/// Waits for the end: a signal drains, a failed column stops the rest, a second signal exits at once.
fn wait(columns: Columns, events: &Receiver<Event>) -> Result<(), Error> {
    let reason = loop {
        match events.recv() {
            Ok(Event::Signal(Signal::Reload)) => tracing::info!("nothing to reload yet"),
            Ok(Event::Signal(Signal::Stop)) => break None,
            Ok(Event::Column(Report::Failed(column, reason))) => {
                break Some(format!("column {column}: {reason}"));
            }
            Ok(Event::Column(Report::Ready(_))) => {}
            Err(_) => break Some("the signal thread ended".to_owned()),
        }
    };
    tracing::info!("draining: requests under way finish, none is taken");
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

/// Shared by all columns, by reference count only.
type Shared = Rc<NodePlan>;
