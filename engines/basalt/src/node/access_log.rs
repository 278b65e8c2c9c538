//! The thread that writes the caching proxy's access log: whole batches of lines, to a file or to stdout. Called by the node, which
//! gives columns a way to hand over batches and tells it when the file was moved away.
//!
//! Invariants
//! 1. At most [`BATCHES_MAX`] batches wait; who comes then is told no at once, so that a disk that hangs costs lines, not requests.
//! 2. A file is only appended to, by whole lines.

use crate::error::Error;
use slicecache::access::{Format, Give, Plan};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::time::Duration;

/// Batches that wait: 16 MiB of lines at most.
const BATCHES_MAX: usize = 256;
/// What is written when the node stops is waited for so long.
const END_WAIT: Duration = Duration::from_secs(5);

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// A file, made if there is none.
    File(PathBuf),
}

enum Order {
    Lines(Vec<u8>),
    /// There may be something else to do than to write.
    Look,
    End,
}

/// The node's end of the thread.
pub(super) struct AccessLog {
    orders: SyncSender<Order>,
    reopen: Arc<AtomicBool>,
    ended: Receiver<()>,
}

impl AccessLog {
    /// Opens the file and starts the thread.
    pub(super) fn start(target: Target) -> Result<AccessLog, Error> {
        let failed = |e| Error::config(format!("--slice-access-log {}", name(&target))).why(e);
        let file = open(&target).map_err(failed)?;
        let (orders, given) = sync_channel(BATCHES_MAX);
        let (done, ended) = channel();
        let reopen = Arc::<AtomicBool>::default();
        let mut writer = Writer { target, file, reopen: reopen.clone(), is_failing: false };
        let thread = std::thread::Builder::new().name("access-log".into());
        let started = thread.spawn(move || {
            writer.run(&given);
            // The node may have stopped waiting.
            let _ = done.send(());
        });
        started.map_err(|e| Error::runtime("cannot start the thread of the access log").why(e))?;
        Ok(AccessLog { orders, reopen, ended })
    }

    /// What columns are told.
    pub(super) fn plan(&self, format: Format) -> Plan {
        let orders = self.orders.clone();
        let give: Give = Arc::new(move |lines| orders.try_send(Order::Lines(lines)).is_ok());
        Plan { format, give }
    }

    /// The file was moved away: a new one is made under its name.
    pub(super) fn reopen(&self) {
        self.reopen.store(true, Ordering::Release);
        // When it is full, the thread looks after each batch anyway.
        let _ = self.orders.try_send(Order::Look);
    }

    /// Waits until what was given is written, but not for ever.
    pub(super) fn end(self) {
        if self.orders.try_send(Order::End).is_ok() {
            // Late or gone: what is not written by now is lost.
            let _ = self.ended.recv_timeout(END_WAIT);
        }
    }
}

struct Writer {
    target: Target,
    file: Option<File>,
    reopen: Arc<AtomicBool>,
    /// The last batch could not be written: said once.
    is_failing: bool,
}

impl Writer {
    fn run(&mut self, given: &Receiver<Order>) {
        while let Ok(order) = given.recv() {
            if self.reopen.swap(false, Ordering::Acquire) {
                self.open_again();
            }
            match order {
                Order::Lines(lines) => self.write(&lines),
                Order::Look => {}
                Order::End => return,
            }
        }
    }

    fn write(&mut self, lines: &[u8]) {
        let written = match &mut self.file {
            Some(file) => file.write_all(lines),
            None => io::stdout().lock().write_all(lines).and_then(|()| io::stdout().flush()),
        };
        match written {
            Ok(()) => self.is_failing = false,
            Err(_) if self.is_failing => {}
            Err(error) => {
                self.is_failing = true;
                tracing::error!(file = %name(&self.target), %error, "lines of the access log are lost");
            }
        }
    }

    fn open_again(&mut self) {
        match open(&self.target) {
            Ok(file) => {
                self.file = file;
                tracing::info!(file = %name(&self.target), "the access log is opened again");
            }
            Err(error) => {
                tracing::error!(file = %name(&self.target), %error, "the access log stays in the file that it was in");
            }
        }
    }
}

/// `None`: standard output.
fn open(target: &Target) -> io::Result<Option<File>> {
    match target {
        Target::Stdout => Ok(None),
        Target::File(path) => OpenOptions::new().create(true).append(true).open(path).map(Some),
    }
}

fn name(target: &Target) -> String {
    match target {
        Target::Stdout => "-".to_owned(),
        Target::File(path) => path.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn batches_are_appended_and_go_into_a_new_file_when_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, moved) = (dir.path().join("log"), dir.path().join("log.1"));
        fs::write(&path, "before\n").expect("written");
        let log = AccessLog::start(Target::File(path.clone())).expect("opened");
        let plan = log.plan(Format::Combined);
        assert!((plan.give)(b"one\n".to_vec()));
        while fs::read(&path).expect("there") != b"before\none\n" {
            std::thread::yield_now();
        }
        fs::rename(&path, &moved).expect("moved");
        log.reopen();
        while !path.exists() {
            std::thread::yield_now();
        }
        assert!((plan.give)(b"two\n".to_vec()));
        log.end();
        assert_eq!(fs::read(&path).expect("there"), b"two\n");
        assert_eq!(fs::read(&moved).expect("there"), b"before\none\n");
    }

    #[test]
    fn a_file_that_cannot_be_made_is_refused() {
        let refused = AccessLog::start(Target::File("/dev/null/x".into()));
        assert!(refused.err().expect("refused").to_string().contains("--slice-access-log /dev/null/x"));
    }

    #[test]
    fn who_comes_when_the_queue_is_full_is_told_no() {
        let (orders, given) = sync_channel(BATCHES_MAX);
        let log = AccessLog { orders, reopen: Arc::default(), ended: channel().1 };
        let plan = log.plan(Format::Json);
        let taken = (0..BATCHES_MAX + 3).filter(|_| (plan.give)(Vec::new())).count();
        assert_eq!(taken, BATCHES_MAX);
        drop(given);
    }
}
