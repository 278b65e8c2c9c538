//! Loads any server that speaks blob HTTP with GETs or PUTs, and checks every answer's status and size.
//!
//! What the load stored is deleted afterwards, whatever its outcome; a PUT whose answer never came may stay.

use super::measure::{Phase, Recorder, Window};
use super::report::Report;
use super::sockets::{self, Load, Talk};
use super::{columns, threads};
use crate::cli::bench::{BenchBlob, BlobMethod};
use crate::config::size::Bytes;
use crate::error::Error;

mod response;
mod talk;

use talk::{Deleting, Getting, Putting, Stored};

/// A few connections fill and empty the server: the load proper may want thousands.
const CONNECTIONS_MAX_ASIDE: usize = 16;

/// Runs the load.
pub fn run(args: &BenchBlob) -> Result<Report, Error> {
    let addr = threads::resolve(&args.target)?;
    let cpus = columns::choose_cpus(args.run.cpuset.as_deref())?;
    let load = Load { addr, connections: args.connections as usize, rate: args.rate };
    let cpu = cpus[cpus.len() - 1];
    let stored = Stored::default();
    let outcome = match args.method {
        BlobMethod::Get => get(args, &load, cpu, &stored),
        BlobMethod::Put => put(args, &load, cpu, &stored),
    };
    let left = stored.take();
    let removed = match left.is_empty() {
        true => Ok(()),
        false => aside(&load, "delete", Deleting::new(addr, left)),
    };
    let (title, window, recorder) = outcome?;
    removed?;
    let pace = match args.rate {
        Some(rate) => format!("{rate}/s"),
        None => "closed loop".to_owned(),
    };
    let title = format!("{title}, {} connections, {pace}, {addr}", args.connections);
    Ok(Report::new(title, window, &recorder))
}

type Measured = (String, Window, Recorder);

fn get(args: &BenchBlob, load: &Load, cpu: usize, stored: &Stored) -> Result<Measured, Error> {
    let (digests, size) = match &args.digest {
        Some(digest) => (vec![digest.clone()], None),
        None => {
            let count = u64::from(args.blobs);
            let put = Putting::new(load.addr, args.size, Some(count), stored.clone());
            aside(load, "store", put)?;
            (stored.digests(), Some(args.size))
        }
    };
    let blobs = digests.len();
    let talk = Getting::new(load.addr, &digests, size);
    let (window, recorder, talk) = threads::run(load, cpu, args.run.seconds, talk)?;
    let size = Bytes(talk.size().unwrap_or(0));
    Ok((format!("GET of {blobs} blobs of {size}"), window, recorder))
}

fn put(args: &BenchBlob, load: &Load, cpu: usize, stored: &Stored) -> Result<Measured, Error> {
    let talk = Putting::new(load.addr, args.size, None, stored.clone());
    let (window, recorder, _) = threads::run(load, cpu, args.run.seconds, talk)?;
    let title = format!("durable PUT of {}", Bytes(args.size));
    Ok((title, window, recorder))
}

/// Asks all that `talk` has to ask, unmeasured.
fn aside(load: &Load, what: &str, mut talk: impl Talk) -> Result<(), Error> {
    let load = Load { connections: load.connections.min(CONNECTIONS_MAX_ASIDE), rate: None, ..load.clone() };
    let phase = Phase::default();
    let mut recorder = Recorder::new(phase.clone());
    sockets::drive(&load, &mut talk, &phase, &mut recorder)
        .map_err(|why| Error::runtime(format!("cannot {what} the load's blobs on {}", load.addr)).why(why))
}
