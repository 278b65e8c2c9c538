//! Which way of sending a body that lies in RAM costs least: decides the file format of the disk tier.
//!
//! `body_path [--rounds 5] [--seconds 0.7] [--sizes 65536,1048576,...] [--conns 1,8] [--methods a,b] [--set BYTES]
//! [--dir DIR] [--core 0] [--reader-core 1] [--copying-reader] [--sndbuf BYTES] [--not-sent BYTES]`. Prints a table: medians over rounds that alternate the
//! methods; CPU in microseconds per MiB (process; process + softirq; all of the core), rates in MB/s (1e6).
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command};

use benches::args::Args;
use benches::body::method::{Bodies, Method};
use benches::body::reader;
use benches::body::server::{self, Cost, Tuning};
use benches::{Result, cpu, quantile};

const MIB: f64 = 1_048_576.0;

struct Plan {
    rounds: usize,
    seconds: f64,
    sizes: Vec<usize>,
    conns: Vec<usize>,
    methods: Vec<Method>,
    set_bytes: usize,
    dir: PathBuf,
    cores: (usize, usize),
    copying_reader: bool,
    tuning: Tuning,
}

fn main() -> Result<()> {
    let mut args = Args::parse(std::env::args().skip(1), &["copying-reader"])?;
    if let Some(address) = args.maybe("read-from")? {
        cpu::pin(args.must("core")?)?;
        let (conns, size) = (args.must("conns")?, args.must("size")?);
        return reader::run(address, conns, size, args.flag("copying-reader"));
    }
    let plan = Plan {
        rounds: args.get("rounds", 5)?,
        seconds: args.get("seconds", 0.7)?,
        sizes: numbers(&args.get("sizes", "65536,1048576,4194304,67108864".to_owned())?)?,
        conns: numbers(&args.get("conns", "1,8".to_owned())?)?,
        methods: methods(args.maybe::<String>("methods")?)?,
        set_bytes: args.get("set", 256 << 20)?,
        dir: args.get("dir", std::env::temp_dir())?,
        cores: (args.get("core", 0)?, args.get("reader-core", 1)?),
        copying_reader: args.flag("copying-reader"),
        tuning: Tuning {
            send_buffer_bytes: args.get("sndbuf", 0)?,
            not_sent_bytes: args.get("not-sent", 0)?,
        },
    };
    args.finish()?;
    cpu::pin(plan.cores.0)?;
    let reader = if plan.copying_reader { "copying" } else { "discarding (MSG_TRUNC)" };
    println!(
        "body path: sender core {} ({:?}), {reader} reader core {}, working set {} MiB, {} rounds of {} s, medians",
        plan.cores.0,
        plan.tuning,
        plan.cores.1,
        plan.set_bytes >> 20,
        plan.rounds,
        plan.seconds
    );
    println!(
        "{:>10} {:>5}  {:<20} {:>9} {:>15} {:>13} {:>9} {:>12} {:>9}",
        "body", "conns", "method", "process", "min..max", "proc+softirq", "core busy", "reader busy", "MB/s"
    );
    for &size in &plan.sizes {
        measure_size(&plan, size)?;
    }
    Ok(())
}

fn measure_size(plan: &Plan, size: usize) -> Result<()> {
    let count = (plan.set_bytes / size).max(1);
    let bodies: Vec<(Method, Bodies)> = plan
        .methods
        .iter()
        .map(|&m| Ok((m, Bodies::new(m, size, count, &plan.dir)?)))
        .collect::<Result<_>>()?;
    let mut costs: BTreeMap<(usize, usize), Vec<Cost>> = BTreeMap::new();
    for _ in 0..plan.rounds {
        for &conns in &plan.conns {
            for (at, (_, bodies)) in bodies.iter().enumerate() {
                costs.entry((conns, at)).or_default().push(measure(plan, bodies, conns, size)?);
            }
        }
    }
    for ((conns, at), costs) in costs {
        let per_mib = |of: fn(&Cost) -> f64, at: f64| {
            let mut values: Vec<f64> = costs.iter().map(|c| of(c) * 1e6 / (c.bytes as f64 / MIB)).collect();
            quantile(&mut values, at)
        };
        let process = |at| per_mib(|c| c.process_seconds, at);
        let mut rates: Vec<f64> = costs.iter().map(|c| c.bytes as f64 / c.wall_seconds / 1e6).collect();
        println!(
            "{size:>10} {conns:>5}  {:<20} {:>9.1} {:>15} {:>13.1} {:>9.1} {:>12.1} {:>9.0}",
            bodies[at].0.name(),
            process(0.5),
            format!("{:.0}..{:.0}", process(0.0), process(1.0)),
            per_mib(|c| c.process_seconds + c.softirq_seconds, 0.5),
            per_mib(|c| c.busy_seconds, 0.5),
            per_mib(|c| c.reader_busy_seconds, 0.5),
            quantile(&mut rates, 0.5),
        );
    }
    Ok(())
}

fn measure(plan: &Plan, bodies: &Bodies, conns: usize, size: usize) -> Result<Cost> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut reader = spawn_reader(plan, &listener, conns, size)?;
    let cost = server::run(&listener, bodies, conns, plan.tuning, plan.seconds, plan.cores);
    drop(listener);
    reader.kill()?;
    reader.wait()?;
    cost
}

fn spawn_reader(plan: &Plan, listener: &TcpListener, conns: usize, size: usize) -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--read-from", &listener.local_addr()?.to_string(), "--core", &plan.cores.1.to_string()]);
    command.args(["--conns", &conns.to_string(), "--size", &size.to_string()]);
    if plan.copying_reader {
        command.arg("--copying-reader");
    }
    Ok(command.spawn()?)
}

fn numbers(list: &str) -> Result<Vec<usize>> {
    list.split(',').map(|n| n.parse().map_err(|e| format!("{n:?}: {e}").into())).collect()
}

fn methods(list: Option<String>) -> Result<Vec<Method>> {
    let Some(list) = list else {
        return Ok(Method::ALL.to_vec());
    };
    let find = |name: &str| Method::ALL.into_iter().find(|m| m.name() == name);
    list.split(',').map(|name| find(name).ok_or_else(|| format!("no method {name:?}").into())).collect()
}
