//! The journal on the ring (`runtime::journal::Journal`): writers that append a record, wait until it is synced, and append
//! the next. All that wait at a time are one commit.
//!
//! `journal --dir D --records N --record-bytes B [--seconds 3] [--core 0]`: N writers, each record with B bytes of data.
//! Prints one line of JSON, times in us. The journal has written as much as two segments before, and a segment that is
//! full is retired at once, so the measured commits go over blocks that were written before, as in a node that runs.
//!
//! Called by benches/run (section `journal`); `probe_sync` is the same without a journal.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use benches::args::Args;
use benches::{Result, cpu, quantile};
use runtime::budget::Budget;
use runtime::column::{Body, Column, Plan, start};
use runtime::io::Io;
use runtime::journal::{Frame, Journal, JournalPlan, Meta, Purpose, Store};
use runtime::mesh::Doorbell;
use runtime::oneshot::Oneshot;
use runtime::ring::RingIo;

/// As the tier has them.
const SEGMENT_BYTES: u32 = 64 << 20;
/// Spares are kept below half of it.
const BUDGET_BYTES: u64 = 1 << 30;
const ARENA_BYTES: usize = 64 << 20;
/// As the node has it.
const SPIN_NS: u64 = 2_000;
/// Writers and bytes of a record while the segments are written for the first time.
const FIRST: (usize, usize) = (16, 60_000);

#[derive(Clone)]
struct Load {
    dir: PathBuf,
    writers: usize,
    record_bytes: usize,
    seconds: f64,
}

#[derive(Default)]
struct Measured {
    latency_us: Vec<f64>,
    wall_s: f64,
    cpu_s: f64,
    written_bytes: u64,
}

/// Whether the writers go on, given the time since they began and the bytes written since.
type GoesOn = Rc<dyn Fn(f64, u64) -> bool>;

fn main() -> Result<()> {
    let mut args = Args::parse(std::env::args().skip(1), &[])?;
    let (writers, record_bytes) = (args.must("records")?, args.must("record-bytes")?);
    let (dir, seconds) = (args.must("dir")?, args.get("seconds", 3.0)?);
    let plan = Plan { cpus: vec![args.get("core", 0)?], arena_bytes: ARENA_BYTES, spin_ns: SPIN_NS };
    args.finish()?;
    let load = Load { dir, writers, record_bytes, seconds };
    let outcome: Arc<Mutex<Option<std::result::Result<Measured, String>>>> = Arc::default();
    let give = outcome.clone();
    let columns = start(&plan, vec![Arc::new(Doorbell::new()?)], move |column| {
        let (give, load) = (give.clone(), load.clone());
        async move {
            *give.lock().expect("only this column writes") = Some(run(column, load).await);
            Ok(Box::pin(async {}) as Body)
        }
    })?;
    columns.join();
    let measured = outcome.lock().expect("the column has ended").take().ok_or("the column ended early")??;
    print(measured, writers);
    Ok(())
}

fn print(Measured { mut latency_us, wall_s, cpu_s, written_bytes }: Measured, writers: usize) {
    let records = latency_us.len() as f64;
    let commits = records / writers as f64;
    println!(
        "{{\"records_per_s\":{:.1},\"commits_per_s\":{:.1},\"p50_us\":{:.1},\"p99_us\":{:.1},\"cpu_us\":{:.2},\"bytes\":{:.0}}}",
        records / wall_s,
        commits / wall_s,
        quantile(&mut latency_us, 0.5),
        quantile(&mut latency_us, 0.99),
        cpu_s * 1e6 / commits,
        written_bytes as f64 / commits,
    );
}

async fn run(column: Column<RingIo>, load: Load) -> std::result::Result<Measured, String> {
    let place = (load.dir.as_path(), column.io.random() as u32);
    let store = Store::new(column.io.clone(), place, Budget::new(BUDGET_BYTES), (1, 1));
    let plan = JournalPlan { purpose: Purpose::Pack, segment_bytes: SEGMENT_BYTES };
    let journal = Journal::new(store.clone(), plan, Box::new(|reason| eprintln!("journal: {reason}")));
    let retiring = store.clone();
    journal.on_sealed(Box::new(move |segment| {
        let store = retiring.clone();
        retiring.io().spawn("retire", async move { store.retire(segment.number).await });
    }));
    let first_bytes = 2 * u64::from(SEGMENT_BYTES);
    write(&journal, &store, FIRST, Rc::new(move |_, written| written < first_bytes)).await?;
    let seconds = load.seconds;
    write(&journal, &store, (load.writers, load.record_bytes), Rc::new(move |since_s, _| since_s < seconds))
        .await
}

/// Runs writers until they go on no more.
async fn write(
    journal: &Journal<RingIo>,
    store: &Store<RingIo>,
    (writers, record_bytes): (usize, usize),
    goes_on: GoesOn,
) -> std::result::Result<Measured, String> {
    let data = bytes::Bytes::from(vec![7u8; record_bytes]);
    let data_crc = crc32c::crc32c(&data);
    let frame = Frame {
        kind: 1,
        version: 1,
        shard: 0,
        data_bytes: record_bytes as u32,
        data_crc,
        meta: Meta::new(&[]),
    };
    let (begin, own, written_before) = (Instant::now(), cpu::own_seconds(), journal.written_bytes());
    let latency_us = Rc::new(RefCell::new(Vec::new()));
    let ended = Rc::new(Cell::new(false));
    let tasks: Vec<_> = (0..writers)
        .map(|_| {
            let (done, waiting) = Oneshot::new();
            let (journal, data, goes_on) = (journal.clone(), data.clone(), goes_on.clone());
            let (latency_us, ended) = (latency_us.clone(), ended.clone());
            store.io().spawn("writer", async move {
                let mut outcome = Ok(());
                while outcome.is_ok() && !ended.get() {
                    let since = Instant::now();
                    outcome = journal.append_synced(frame, data.clone()).await.map(drop);
                    latency_us.borrow_mut().push(since.elapsed().as_secs_f64() * 1e6);
                    // The first that sees the end ends all: the commits stay full.
                    let written = journal.written_bytes() - written_before;
                    ended.set(ended.get() || !goes_on(begin.elapsed().as_secs_f64(), written));
                }
                done.set(outcome.map_err(|e| e.to_string()));
            });
            waiting
        })
        .collect();
    for task in tasks {
        task.await?;
    }
    Ok(Measured {
        wall_s: begin.elapsed().as_secs_f64(),
        cpu_s: cpu::own_seconds() - own,
        written_bytes: journal.written_bytes() - written_before,
        latency_us: latency_us.take(),
    })
}
