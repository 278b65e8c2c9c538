//! Stores, replaces and reads blobs for `benches/run`: see `benches::blobs`. Pin it with taskset; prints one line of JSON.
//!
//! `blobs --do make --file F --number N --size-max BYTES`: a blob as a file.
//! `blobs --do fill|churn --connect IP:PORT --listing F --first N --size-min B --size-max B [--count N] [--until-bytes B]
//! [--conns 64]`: stores blobs and adds them to the listing; churn replaces blobs of the listing at random.
//! `blobs --do read --connect IP:PORT --ops IP:PORT --listing F [--conns 4] [--all]`: reads from the moment the server can
//! be connected to until it has loaded everything; prints `waiting` first, when it is ready itself.
//! `blobs --do stream --connect IP:PORT --path P --number N --size-max BYTES --seconds S --pid PID... --server-core N`.
//! Everywhere `[--seed 1]`: of sizes and bytes. Every byte read is compared; a wrong one ends the program with 1.

use std::io::Write;

use benches::Result;
use benches::args::Args;
use benches::blobs::content::Content;
use benches::blobs::{fill, listing, read, stream};

const MIB: f64 = 1_048_576.0;

fn main() -> Result<()> {
    let mut args = Args::parse(std::env::args().skip(1), &["all"])?;
    let line = match args.must::<String>("do")?.as_str() {
        "make" => make(args)?,
        "fill" => store(args, false)?,
        "churn" => store(args, true)?,
        "read" => read_back(args)?,
        "stream" => read_stream(args)?,
        other => return Err(format!("--do {other}: make, fill, churn, read or stream").into()),
    };
    println!("{line}");
    Ok(())
}

fn make(mut args: Args) -> Result<String> {
    let content = Content::new(args.get("seed", 1)?);
    let (path, number, size) = (args.must::<String>("file")?, args.must("number")?, args.must("size-max")?);
    args.finish()?;
    let mut file = std::fs::File::create(&path).map_err(|e| format!("{path}: {e}"))?;
    content.write(number, size, &mut Vec::new(), &mut file)?;
    file.sync_all()?;
    Ok(format!("{{\"bytes\":{size}}}"))
}

fn store(mut args: Args, is_churn: bool) -> Result<String> {
    let path: String = args.must("listing")?;
    let size_most = args.must("size-max")?;
    let plan = fill::Plan {
        address: args.must::<String>("connect")?.parse()?,
        conns: args.get("conns", 64)?,
        seed: args.get("seed", 1)?,
        size_bytes: (args.get("size-min", size_most)?, size_most),
        first: args.must("first")?,
        until_bytes: args.get("until-bytes", u64::MAX)?,
        count: args.get("count", u64::MAX)?,
    };
    args.finish()?;
    if plan.size_bytes.0 > plan.size_bytes.1 || (plan.until_bytes, plan.count) == (u64::MAX, u64::MAX) {
        return Err("sizes are --size-min to --size-max; --count or --until-bytes says how many".into());
    }
    let outcome = if is_churn { fill::churn(plan, listing::read(&path)?)? } else { fill::fill(plan)? };
    listing::write(&path, &outcome.stored, !is_churn)?;
    let fill::Outcome { bytes, blobs, refused, seconds, .. } = outcome;
    Ok(format!("{{\"bytes\":{bytes},\"blobs\":{blobs},\"refused\":{refused},\"seconds\":{seconds:.3}}}"))
}

fn read_back(mut args: Args) -> Result<String> {
    let stored = listing::read(&args.must::<String>("listing")?)?;
    let plan = read::Plan {
        address: args.must::<String>("connect")?.parse()?,
        ops: args.must::<String>("ops")?.parse()?,
        conns: args.get("conns", 4)?,
        seed: args.get("seed", 1)?,
        all: args.flag("all"),
    };
    args.finish()?;
    println!("waiting");
    std::io::stdout().flush()?;
    let read::Outcome { first_ns, loaded_ns, reads_before, reads } = read::run(plan, &stored)?;
    Ok(format!(
        "{{\"first_ns\":{first_ns},\"loaded_ns\":{loaded_ns},\"reads_before\":{reads_before},\"reads\":{reads}}}"
    ))
}

fn read_stream(mut args: Args) -> Result<String> {
    let pids = args.all("pid").iter().map(|p| p.parse()).collect::<std::result::Result<Vec<u32>, _>>()?;
    let plan = stream::Plan {
        address: args.must::<String>("connect")?.parse()?,
        path: args.must("path")?,
        blob: (args.must("number")?, args.must("size-max")?),
        seed: args.get("seed", 1)?,
        seconds: args.get("seconds", 3.0)?,
        pids,
        server_core: args.must("server-core")?,
    };
    args.finish()?;
    let outcome = stream::run(&plan)?;
    let mib = outcome.bytes as f64 / MIB;
    let us_per_mib = |seconds: f64| seconds * 1e6 / mib;
    Ok(format!(
        "{{\"bodies\":{},\"mb_per_s\":{:.1},\"process_us_per_mib\":{:.2},\"both_us_per_mib\":{:.2},\"client_us_per_mib\":{:.2}}}",
        outcome.bodies,
        outcome.bytes as f64 / 1e6 / outcome.seconds,
        us_per_mib(outcome.server_seconds),
        us_per_mib(outcome.server_seconds + outcome.softirq_seconds),
        us_per_mib(outcome.own_seconds),
    ))
}
