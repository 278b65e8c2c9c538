//! Runs a client of plain sockets on a thread of its own, pinned, while the caller keeps the time.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;

use rustix::thread::{CpuSet, sched_setaffinity};

use super::measure::{Pace, Phase, Recorder, Window};
use super::sockets::{self, Load, Talk};
use crate::error::Error;

/// The first address of `HOST:PORT`, with or without `http://`.
pub fn resolve(target: &str) -> Result<SocketAddr, Error> {
    let host = target.strip_prefix("http://").unwrap_or(target);
    let host = host.trim_end_matches('/');
    let failed = || Error::usage(format!("{target} is not an address such as 127.0.0.1:9000"));
    host.to_socket_addrs().map_err(|error| failed().why(error))?.next().ok_or_else(failed)
}

/// Talks at that pace; `talk` comes back with the figures.
pub fn run<T: Talk + Send>(
    load: &Load,
    cpu: usize,
    pace: Pace,
    mut talk: T,
) -> Result<(Window, Recorder, T), Error> {
    let phase = Phase::default();
    let failed = |why: String| Error::runtime(format!("the load on {} failed", load.addr)).why(why);
    thread::scope(|scope| {
        let (send, outcomes) = channel();
        let shared = phase.clone();
        scope.spawn(move || {
            pin(cpu);
            let mut recorder = Recorder::new(shared.clone());
            let outcome = sockets::drive(load, &mut talk, &shared, &mut recorder);
            let _ = send.send(outcome.map(|()| (recorder, talk)));
        });
        let window = pace.keep(&phase, |time| match outcomes.recv_timeout(time) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Ok(Err(why)) => Err(failed(why)),
            Ok(Ok(_)) | Err(RecvTimeoutError::Disconnected) => Err(failed("it ended early".into())),
        })?;
        let (recorder, talk) =
            outcomes.recv().map_err(|_| failed("it ended early".into()))?.map_err(failed)?;
        Ok((window, recorder, talk))
    })
}

/// Talks until `talk` has no more questions, all of it measured.
pub fn pass<T: Talk + Send>(load: &Load, cpu: usize, mut talk: T) -> Result<(Window, Recorder, T), Error> {
    let phase = Phase::all();
    let (window, outcome) = Window::around(|| {
        thread::scope(|scope| {
            let driven = scope.spawn(|| {
                pin(cpu);
                let mut recorder = Recorder::new(phase.clone());
                sockets::drive(load, &mut talk, &phase, &mut recorder).map(|()| recorder)
            });
            driven.join().unwrap_or_else(|_| Err("the client's thread panicked".into()))
        })
    });
    let failed = |why: String| Error::runtime(format!("the load on {} failed", load.addr)).why(why);
    Ok((window, outcome.map_err(failed)?, talk))
}

/// Best effort: a load that is not pinned still loads.
fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    if cpu < CpuSet::MAX_CPU {
        set.set(cpu);
        let _ = sched_setaffinity(None, &set);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_may_be_spelled_as_urls() {
        for target in ["127.0.0.1:9000", "http://127.0.0.1:9000", "http://127.0.0.1:9000/"] {
            let addr = resolve(target).expect("an address");
            assert_eq!(addr.to_string(), "127.0.0.1:9000");
        }
        assert!(resolve("127.0.0.1").is_err_and(|error| error.exit_code() == 2));
    }
}
