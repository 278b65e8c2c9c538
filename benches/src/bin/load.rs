//! The load generator of `benches/run`: see `benches::load`. Pin it with taskset; prints one line of JSON.
//!
//! `load --connect IP:PORT --conns N --seconds S [--warmup S] [--requests N] [--pid PID]... [--server-core N]` and
//! either `--path P... | --paths-file F` with `[--range BYTES [--from BYTE]] [--in-order] [--discard] [--verify-size BYTES]`
//! or `--put-size BYTES [--put-path /blobs]`. `--once`: one request a connection, all at a time.
//! Exit 1 when no figure could be taken; wrong answers are counted.

use benches::Result;
use benches::args::Args;
use benches::load::engine::{self, Shape};
use benches::load::plan::Plan;
use benches::load::report;

fn main() -> Result<()> {
    let mut args = Args::parse(std::env::args().skip(1), &["discard", "in-order", "once"])?;
    let host: String = args.must("connect")?;
    let pids = args.all("pid").iter().map(|p| p.parse()).collect::<std::result::Result<Vec<u32>, _>>()?;
    let shape = Shape {
        address: host.parse()?,
        conns: args.get("conns", 1)?,
        warmup_seconds: args.get("warmup", 0.0)?,
        seconds: args.get("seconds", 3.0)?,
        requests: args.get("requests", 0)?,
        is_once: args.flag("once"),
        discard: args.flag("discard"),
        pids,
        server_core: args.maybe("server-core")?,
    };
    let mut plan = if let Some(size) = args.maybe("put-size")? {
        Plan::put(&host, &args.get("put-path", "/blobs".to_owned())?, size)
    } else {
        let in_order = args.flag("in-order");
        let mut paths = args.all("path");
        if let Some(file) = args.maybe::<String>("paths-file")? {
            let text = std::fs::read_to_string(&file).map_err(|e| format!("{file}: {e}"))?;
            paths.extend(text.lines().filter(|l| !l.is_empty()).map(str::to_owned));
        }
        let range = (args.get("range", 0)?, args.maybe("from")?);
        if range.0 == 0 && range.1.is_some() {
            return Err("--from is of a --range".into());
        }
        Plan::get(&host, paths, range, in_order, args.maybe("verify-size")?)?
    };
    args.finish()?;
    let outcome = engine::run(&shape, &mut plan)?;
    println!("{}", report::json(&outcome));
    if outcome.requests == 0 {
        let why = outcome.first_failure.unwrap_or_else(|| "none finished in time".to_owned());
        return Err(format!("no request succeeded: {why}").into());
    }
    Ok(())
}
