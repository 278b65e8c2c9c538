//! Starts columns for a load, as the daemon starts them, and gathers what they recorded.

use std::cell::{RefCell, RefMut};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};

use runtime::column::{self, Body, Column, Plan};
use runtime::cpulist::{self, CpuList};
use runtime::cpus::{self, MachineView};
use runtime::io::Io;
use runtime::mesh::Doorbell;
use runtime::oneshot::{Oneshot, Waiting};

use super::measure::{Pace, Phase, Recorder, Window};
use crate::error::Error;

/// The CPUs to load from: those listed, or those we may run on.
pub fn choose_cpus(list: Option<&str>) -> Result<Vec<usize>, Error> {
    let list: Option<CpuList> =
        list.map(cpulist::parse).transpose().map_err(|error| Error::usage("--cpuset").why(error))?;
    let view =
        MachineView::read().map_err(|error| Error::runtime("cannot read this machine's CPUs").why(error))?;
    let choice = cpus::choose(list.as_ref(), &view).map_err(|error| Error::usage("--cpuset").why(error))?;
    Ok(choice.cpus.iter().map(|cpu| cpu as usize).collect())
}

/// One doorbell per column.
pub fn doorbells(columns: usize) -> Result<Vec<Arc<Doorbell>>, Error> {
    (0..columns)
        .map(|_| Doorbell::new().map(Arc::new))
        .collect::<Result<_, _>>()
        .map_err(|error| Error::runtime("cannot make an eventfd").why(error))
}

/// What a load sees of its column.
#[derive(Clone)]
pub struct Loader {
    /// The column.
    pub column: Column,
    /// Where in the run we are.
    pub phase: Phase,
    recorder: Rc<RefCell<Recorder>>,
}

impl Loader {
    /// Where latencies go; not to be held across an await.
    #[inline]
    pub fn recorder(&self) -> RefMut<'_, Recorder> {
        self.recorder.borrow_mut()
    }

    /// Starts a task; what it returns is awaited by [`join`].
    pub fn spawn(
        &self,
        task: impl Future<Output = Result<(), String>> + 'static,
    ) -> Waiting<Result<(), String>> {
        let (done, waiting) = Oneshot::new();
        self.column.io.spawn("bench", async move { done.set(task.await) });
        waiting
    }
}

/// Waits for all; the first error.
pub async fn join(tasks: Vec<Waiting<Result<(), String>>>) -> Result<(), String> {
    let mut outcome = Ok(());
    for task in tasks {
        outcome = outcome.and(task.await);
    }
    outcome
}

/// Runs `load` on every column of `plan` until the time is over.
pub fn run<L, F>(
    plan: &Plan,
    bells: Vec<Arc<Doorbell>>,
    pace: Pace,
    load: L,
) -> Result<(Window, Recorder), Error>
where
    L: Fn(Loader) -> F + Clone + Send + 'static,
    F: Future<Output = Result<(), String>> + 'static,
{
    let phase = Phase::default();
    let (send, outcomes) = channel();
    let shared = phase.clone();
    let columns = column::start(plan, bells, move |column| {
        let (load, send, phase) = (load.clone(), send.clone(), shared.clone());
        async move {
            let body: Body = Box::pin(run_on(column, load, phase, send));
            Ok(body)
        }
    })
    .map_err(|why| Error::runtime("cannot start the columns").why(why))?;
    let mut gathered = Recorder::new(phase.clone());
    let mut take = |outcome: Result<Recorder, String>| {
        outcome
            .map(|recorder| gathered.add(&recorder))
            .map_err(|why| Error::runtime("the load failed").why(why))
    };
    let mut window = pace.keep(&phase, |time| match outcomes.recv_timeout(time) {
        Err(RecvTimeoutError::Timeout) => Ok(()),
        Ok(outcome) => take(outcome).and(Err(Error::runtime("the load ended early"))),
        Err(RecvTimeoutError::Disconnected) => Err(Error::runtime("the columns are gone")),
    });
    columns.stop();
    // The sender is gone when the last column has sent its outcome.
    for outcome in outcomes {
        let taken = take(outcome);
        window = window.and_then(|window| taken.map(|()| window));
    }
    columns.join();
    window.map(|window| (window, gathered))
}

async fn run_on<L, F>(column: Column, load: L, phase: Phase, send: Sender<Result<Recorder, String>>)
where
    L: Fn(Loader) -> F,
    F: Future<Output = Result<(), String>>,
{
    let recorder = Rc::new(RefCell::new(Recorder::new(phase.clone())));
    let loader = Loader { column, phase, recorder: recorder.clone() };
    let outcome = load(loader).await;
    let recorded = recorder.borrow().clone();
    let _ = send.send(outcome.map(|()| recorded));
}
