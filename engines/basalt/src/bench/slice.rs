//! Loads a caching proxy with GETs of objects or of ranges of them, and checks every answer's status and size, and every byte where the
//! origin is our own.
//!
//! | file | holds |
//! |---|---|
//! | `origin` | an origin whose bytes are known |
//! | `talk` | what is asked, and whether the answer is right |
//!
//! Hot, all objects are asked for often enough beforehand that a cache which keeps what is asked for again has them. Cold, each
//! request is for something else: the same object under another query.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use super::measure::{Pace, Phase, Recorder, Window};
use super::node::Node;
use super::pattern::Pattern;
use super::report::Report;
use super::sockets::{self, Load};
use super::{columns, threads};
use crate::cli::bench::BenchSlice;
use crate::config::size::Bytes;
use crate::error::Error;

mod origin;
mod talk;

use origin::Origin;
use talk::{Getting, Object, Order};

/// How often each object is asked for before a hot load, on how many connections: first it is fetched, then found on disk, then
/// kept in RAM.
const WARM_ROUNDS: usize = 4;
const WARM_CONNECTIONS: usize = 4;
const SIZE_BYTES: u64 = 1 << 20;

/// Runs the load.
pub fn run(args: &BenchSlice) -> Result<Report, Error> {
    // What clap lets pass beside a flag that a target excludes.
    if args.target.is_none() && !args.paths.is_empty() {
        return Err(Error::usage("--path is of a --target").fix("--target 127.0.0.1:8080"));
    }
    let cpus = columns::choose_cpus(args.run.cpuset.as_deref())?;
    let cpu = cpus[cpus.len() - 1];
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let run = Run { args, cpu, seed: since.as_nanos() as u64 };
    if let Some(target) = &args.target {
        let addr = threads::resolve(target)?;
        let objects = args.paths.iter().map(|path| Object::of_server(addr, path));
        return run.load(addr, objects.collect::<Result<_, _>>()?, None, Pace::new(args.run.seconds));
    }
    let pattern = Pattern::new(run.seed);
    let origin = Origin::start(pattern.clone())
        .map_err(|error| Error::runtime("cannot start an origin on loopback").why(error))?;
    let (before, slice_size) =
        (format!("http://{}", origin.addr()), args.slice_size.map(|size| size.to_string()));
    let mut flags = vec!["--slice-origin", before.as_str()];
    flags.extend(slice_size.iter().flat_map(|size| ["--slice-size", size.as_str()]));
    let node = Node::start(args.dir.as_deref(), cpus[0], &flags)?;
    let sizes = if args.sizes.is_empty() { vec![SIZE_BYTES] } else { args.sizes.clone() };
    let all = sizes.iter().flat_map(|size| std::iter::repeat_n(*size, args.objects as usize));
    let objects = all.enumerate().map(|(number, size)| Object::of_origin(number as u64, size));
    let pace = Pace::new(args.run.seconds).watching(node.pid());
    run.load(node.slice_addr(), objects.collect(), Some(pattern), pace)
}

struct Run<'a> {
    args: &'a BenchSlice,
    cpu: usize,
    /// Of this run and no other: what is cold has it in its name.
    seed: u64,
}

impl Run<'_> {
    fn load(
        &self,
        addr: SocketAddr,
        objects: Vec<Object>,
        pattern: Option<Pattern>,
        pace: Pace,
    ) -> Result<Report, Error> {
        if let Some(object) = objects.iter().find(|object| object.size < self.args.range.unwrap_or(1)) {
            let why = format!("{} has {} bytes", object.path, object.size);
            return Err(Error::usage("there is an object that is too small to ask for").why(why));
        }
        let load = Load { addr, connections: self.args.connections as usize, rate: self.args.rate };
        let talk = |order| Getting::new(addr, objects.clone(), order, pattern.clone());
        if !self.args.cold {
            self.warm(&load, talk(Order::Rounds(WARM_ROUNDS)))?;
        }
        let order = match self.args.cold {
            true => Order::Cold(self.args.range, self.seed),
            false => Order::Hot(self.args.range),
        };
        let (window, recorder, _) = threads::run(&load, self.cpu, pace, talk(order))?;
        Ok(report(&self.title(&load, &objects), window, &recorder))
    }

    fn warm(&self, load: &Load, mut talk: Getting) -> Result<(), Error> {
        let load = Load { connections: load.connections.min(WARM_CONNECTIONS), rate: None, ..load.clone() };
        let phase = Phase::default();
        let mut recorder = Recorder::new(phase.clone());
        sockets::drive(&load, &mut talk, &phase, &mut recorder)
            .map_err(|why| Error::runtime(format!("cannot warm {}", load.addr)).why(why))
    }

    fn title(&self, load: &Load, objects: &[Object]) -> String {
        let what = match self.args.range {
            Some(range) => format!("ranges of {} of {} objects", Bytes(range), objects.len()),
            None => format!("{} objects", objects.len()),
        };
        let (least, most) = objects
            .iter()
            .fold((u64::MAX, 0), |(least, most), object| (object.size.min(least), object.size.max(most)));
        let sizes = if least == most {
            Bytes(most).to_string()
        } else {
            format!("{} to {}", Bytes(least), Bytes(most))
        };
        let how = if self.args.cold { "cold" } else { "hot" };
        let pace = load.rate.map_or("closed loop".to_owned(), |rate| format!("{rate}/s"));
        format!("{how} GET of {what} of {sizes}, {} connections, {pace}, {}", load.connections, load.addr)
    }
}

fn report(title: &str, window: Window, recorder: &Recorder) -> Report {
    let first_us = |quantile| recorder.first_byte().value_at_quantile(quantile) as f64 / 1e3;
    let operations = recorder.latency().len().max(1) as f64;
    let mut report = Report::new(title.to_owned(), window, recorder)
        .with("mb_per_second", recorder.bytes() as f64 / 1e6 / window.seconds.max(f64::MIN_POSITIVE))
        .with("first_byte_p50_us", first_us(0.5))
        .with("first_byte_p99_us", first_us(0.99));
    if let Some(cpu_seconds) = window.server_cpu_seconds {
        let mib = recorder.bytes().max(1) as f64 / f64::from(1 << 20);
        report = report
            .with("server_cpu_us_per_operation", cpu_seconds * 1e6 / operations)
            .with("server_cpu_us_per_mib", cpu_seconds * 1e6 / mib);
    }
    report
}
