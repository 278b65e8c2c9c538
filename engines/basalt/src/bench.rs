//! `basalt bench`: load with latency histograms.
//!
//! | file | loads |
//! |---|---|
//! | `disk` | a file past the page cache, through the column's ring and the same file operations the tier uses |
//! | `device` | a data directory's device in steps, and saves what `serve` needs to know of it |
//! | `net` | an echo server over TCP, ours or another |
//! | `mesh` | two columns with messages |
//! | `blob` | a server that speaks blob HTTP, from one thread of plain non-blocking sockets |
//! | `slice` | a caching proxy, ours or another |
//! | `measure` | when measuring begins and ends, what is recorded, CPU time |
//! | `columns` | starts columns for a load and gathers what they recorded |
//! | `node` | a node of our own to load, a process beside this one |
//! | `sockets`, `threads` | the client of `net`, `blob` and `slice`: one pinned thread of non-blocking sockets |
//! | `response`, `pattern` | what that client understands of HTTP; bytes that it can compare |
//! | `report` | prints figures as a table, as one line of JSON, and as a page |
//!
//! All figures are of the time after the warm-up. Latencies are in nanoseconds until they are printed.

use crate::cli::bench::{BenchArgs, BenchRun, BenchWhat};
use crate::error::Error;
use crate::output::{self, OutputFormat};

mod blob;
mod columns;
mod device;
mod disk;
mod measure;
mod mesh;
mod net;
mod node;
mod pattern;
mod report;
mod response;
mod slice;
mod sockets;
mod threads;

use report::Report;

/// Runs the load that `args` asks for and prints its figures.
pub fn run(args: BenchArgs) -> Result<(), Error> {
    match args.what {
        BenchWhat::Disk(args) if args.save => device::run(&args),
        BenchWhat::Disk(args) => disk::run(&args).and_then(|report| show(&[report], &args.run)),
        BenchWhat::Net(args) => net::run(&args).and_then(|report| show(&[report], &args.run)),
        BenchWhat::Mesh(args) => mesh::run(&args).and_then(|report| show(&[report], &args.run)),
        BenchWhat::Blob(args) => blob::run(&args).and_then(|reports| show(&reports, &args.run)),
        BenchWhat::Slice(args) => slice::run(&args).and_then(|report| show(&[report], &args.run)),
    }
}

fn show(reports: &[Report], run: &BenchRun) -> Result<(), Error> {
    if let Some(path) = &run.report {
        std::fs::write(path, Report::html(reports))
            .map_err(|error| Error::runtime(format!("cannot write {}", path.display())).why(error))?;
    }
    output::print(match run.output {
        OutputFormat::Table => reports.iter().map(Report::table).collect::<String>(),
        OutputFormat::Json => reports.iter().map(Report::json).collect(),
    })
}
