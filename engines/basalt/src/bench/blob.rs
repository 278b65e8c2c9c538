//! Loads any server that speaks blob HTTP with GETs or PUTs, and checks every answer's status and size; the suites
//! (`suite`) check every byte.
//!
//! What the load stored is deleted afterwards, whatever its outcome; a PUT whose answer never came may stay.

use super::measure::{Pace, Phase, Recorder, Window};
use super::report::Report;
use super::sockets::{self, Load, Talk};
use super::{columns, threads};
use crate::cli::bench::{BenchBlob, BlobMethod, BlobSuite};
use crate::config::size::Bytes;
use crate::error::Error;

mod suite;
mod talk;

use talk::{Deleting, Getting, Putting, Stored};

/// A few connections fill and empty the server: the load proper may want thousands.
const CONNECTIONS_MAX_ASIDE: usize = 16;

/// The server, and its metrics.
const TARGET: &str = "127.0.0.1:9000";
const OPS: &str = "127.0.0.1:2381";
/// Connections of a load that is no suite.
const CONNECTIONS: u32 = 64;
/// Bytes and number of its blobs.
const SIZE_BYTES: u64 = 4 << 10;
const BLOBS: u32 = 16;

/// Runs the load.
pub fn run(args: &BenchBlob) -> Result<Vec<Report>, Error> {
    let cpus = columns::choose_cpus(args.run.cpuset.as_deref())?;
    let is_comparison = args.suite == Some(BlobSuite::Prefetch) && args.target.is_none();
    // What clap cannot tell: these two depend on which suite it is.
    match is_comparison {
        true if args.ops.is_some() => {
            return Err(Error::usage("--ops is of a --target").fix("--target 127.0.0.1:9000"));
        }
        false if args.dir.is_some() => {
            return Err(
                Error::usage("only the suite prefetch has nodes of its own").fix("--suite prefetch --dir .")
            );
        }
        true => return suite::compare(args, &cpus),
        false => {}
    }
    let addr = threads::resolve(args.target.as_deref().unwrap_or(TARGET))?;
    let cpu = cpus[cpus.len() - 1];
    let connections = args.connections.unwrap_or(CONNECTIONS) as usize;
    let load = Load { addr, connections, rate: args.rate };
    let stored = Stored::default();
    let outcome = match (args.suite, args.method) {
        (Some(suite), _) => suite::run(suite, args, addr, cpu, &stored),
        (None, BlobMethod::Get) => get(args, &load, cpu, &stored).map(|measured| vec![measured]),
        (None, BlobMethod::Put) => put(args, &load, cpu, &stored).map(|measured| vec![measured]),
    };
    let left = stored.take();
    let removed = match left.is_empty() {
        true => Ok(()),
        false => aside(&load, "delete", Deleting::new(addr, left)),
    };
    let reports = outcome?;
    removed?;
    Ok(reports)
}

/// The report of a load that is no suite.
fn report(what: &str, load: &Load, window: Window, recorder: &Recorder) -> Report {
    let pace = match load.rate {
        Some(rate) => format!("{rate}/s"),
        None => "closed loop".to_owned(),
    };
    let title = format!("{what}, {} connections, {pace}, {}", load.connections, load.addr);
    Report::new(title, window, recorder)
}

fn get(args: &BenchBlob, load: &Load, cpu: usize, stored: &Stored) -> Result<Report, Error> {
    let (digests, size) = match &args.digest {
        Some(digest) => (vec![digest.clone()], None),
        None => {
            let size = args.size.unwrap_or(SIZE_BYTES);
            let count = u64::from(args.blobs.unwrap_or(BLOBS));
            let put = Putting::new(load.addr, size, Some(count), stored.clone());
            aside(load, "store", put)?;
            (stored.digests(), Some(size))
        }
    };
    let blobs = digests.len();
    let talk = Getting::new(load.addr, &digests, size);
    let (window, recorder, talk) = threads::run(load, cpu, Pace::new(args.run.seconds), talk)?;
    let size = Bytes(talk.size().unwrap_or(0));
    Ok(report(&format!("GET of {blobs} blobs of {size}"), load, window, &recorder))
}

fn put(args: &BenchBlob, load: &Load, cpu: usize, stored: &Stored) -> Result<Report, Error> {
    let size = args.size.unwrap_or(SIZE_BYTES);
    let talk = Putting::new(load.addr, size, None, stored.clone());
    let (window, recorder, _) = threads::run(load, cpu, Pace::new(args.run.seconds), talk)?;
    Ok(report(&format!("durable PUT of {}", Bytes(size)), load, window, &recorder))
}

/// Asks all that `talk` has to ask, unmeasured.
fn aside(load: &Load, what: &str, mut talk: impl Talk) -> Result<(), Error> {
    let load = Load { connections: load.connections.min(CONNECTIONS_MAX_ASIDE), rate: None, ..load.clone() };
    let phase = Phase::default();
    let mut recorder = Recorder::new(phase.clone());
    sockets::drive(&load, &mut talk, &phase, &mut recorder)
        .map_err(|why| Error::runtime(format!("cannot {what} the load's blobs on {}", load.addr)).why(why))
}
