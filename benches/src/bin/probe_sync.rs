//! The floor under a journal: one write and one fdatasync after the other, O_DIRECT, over blocks that were written before.
//!
//! `probe_sync --file F --bytes N [--seconds 3] [--core 0] [--file-bytes N]`. Prints one line of JSON, times in us.
#![allow(unsafe_code)]

use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use benches::args::Args;
use benches::mem::Mapping;
use benches::rng::Rng;
use benches::{Result, cpu, quantile};

const WARMUP: Duration = Duration::from_millis(200);

fn main() -> Result<()> {
    let mut args = Args::parse(std::env::args().skip(1), &[])?;
    let (path, bytes) = (args.must::<String>("file")?, args.must::<usize>("bytes")?);
    let (seconds, file_bytes): (f64, u64) = (args.get("seconds", 3.0)?, args.get("file-bytes", 64 << 20)?);
    cpu::pin(args.get("core", 0)?)?;
    args.finish()?;
    let file = benches::overwritable(&path, file_bytes)?;
    let mut memory = Mapping::anonymous(bytes.next_multiple_of(4096), false)?;
    Rng::new(1).fill(memory.bytes_mut());
    let mut at = 0;
    let mut write = |latencies: &mut Vec<f64>| -> Result<()> {
        let begin = Instant::now();
        file.write_all_at(&memory.bytes()[..bytes], at)?;
        file.sync_data()?;
        latencies.push(begin.elapsed().as_secs_f64() * 1e6);
        at = if at + 2 * bytes as u64 > file_bytes { 0 } else { at + bytes as u64 };
        Ok(())
    };
    let mut run = |length: Duration| -> Result<(Vec<f64>, f64, f64)> {
        let (mut latencies, begin, own) = (Vec::new(), Instant::now(), cpu::own_seconds());
        while begin.elapsed() < length {
            write(&mut latencies)?;
        }
        Ok((latencies, begin.elapsed().as_secs_f64(), cpu::own_seconds() - own))
    };
    run(WARMUP)?;
    let (mut us, wall, own) = run(Duration::from_secs_f64(seconds))?;
    let commits = us.len() as f64;
    println!(
        "{{\"commits_per_s\":{:.1},\"p50_us\":{:.1},\"p99_us\":{:.1},\"cpu_us\":{:.2},\"bytes\":{bytes}}}",
        commits / wall,
        quantile(&mut us, 0.5),
        quantile(&mut us, 0.99),
        own * 1e6 / commits,
    );
    Ok(())
}
