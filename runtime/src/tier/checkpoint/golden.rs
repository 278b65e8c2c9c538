//! What each version of a checkpoint was on disk, written by the real writer on the twin: those files are never written anew.

use super::*;
use crate::budget::Budget;
use crate::column::{Body, Column};
use crate::tier::Digest;
use crate::tier::origins::Origins;
use crate::twin::{FaultPlan, Twin, TwinIo};
use std::cell::RefCell;
use std::rc::Rc;

const SEED: u32 = 0x5eed_5eed;
const NUMBER: u32 = 12;
const LIMIT_NS: u64 = 1_000_000_000;
const MEMORY_BYTES: usize = 8 << 20;
const ROOT: &str = "/data";
const VERSION_1: &[u8] = include_bytes!("../../../tests/golden/checkpoint-1");
const VERSION_2: &[u8] = include_bytes!("../../../tests/golden/checkpoint-2");

/// Runs `work` on a column of the twin, which has the memory that files need.
fn on_twin<T: 'static, F: Future<Output = T> + 'static>(
    twin: &mut Twin,
    work: impl Fn(TwinIo) -> F + Clone + 'static,
) -> T {
    let outcome: Rc<RefCell<Option<T>>> = Rc::default();
    let give = outcome.clone();
    let set_up = move |column: Column<TwinIo>| {
        let (give, work) = (give.clone(), work.clone());
        async move {
            *give.borrow_mut() = Some(work(column.io.clone()).await);
            Ok(Box::pin(async {}) as Body)
        }
    };
    let mut one = twin.start(1, MEMORY_BYTES, set_up);
    twin.run_until(LIMIT_NS, || {
        one.watch();
        one.has_ended()
    });
    one.kill();
    outcome.take().expect("done")
}

fn path() -> PathBuf {
    segment_path(Path::new(ROOT), Purpose::Checkpoint, NUMBER)
}

fn record(shard: u8, said: Said) -> Record {
    let digest = Digest([shard; 32]);
    let (sequence, expires_ms, size, crc) = (3, 77, 5001, 0xfeed);
    Record { said, digest, sequence, expires_ms, size, crc, evictable: true, pinned: false }
}

/// By shard.
fn contents(has_origins: bool) -> Vec<(usize, Contents)> {
    let origin = || Origin { digest: Digest([7; 32]), sequence: 4, url: "https://example.org/a".to_owned() };
    let origins = if has_origins { vec![origin()] } else { Vec::new() };
    let listed = record(9, Said::Listed { segment: 8, offset: 4096 });
    vec![
        (7, Contents { records: vec![record(7, Said::File)], origins }),
        (8, Contents::default()),
        (9, Contents { records: vec![listed], origins: Vec::new() }),
    ]
}

fn marks() -> (Mark, Mark) {
    let mark = |segment| Mark { segment, offset: 8192, sequence: 99 };
    (mark(3), mark(4))
}

/// A checkpoint file as this build writes it.
fn written(has_origins: bool) -> Vec<u8> {
    written_of(contents(has_origins))
}

fn written_of(shards: Vec<(usize, Contents)>) -> Vec<u8> {
    let mut twin = Twin::new(1, 1 << 30, FaultPlan::none());
    on_twin(&mut twin, move |io| {
        let shards = shards.clone();
        async move {
            io.make_dir(Path::new(ROOT)).await.expect("made");
            let store = Store::new(io, (Path::new(ROOT), SEED), Budget::new(1 << 30), (NUMBER, 1));
            let mut writer = CheckpointWriter::create(&store, marks(), 1 << 40).await.expect("created");
            for (shard, contents) in shards {
                writer.add(shard, &contents).await.expect("written");
            }
            writer.finish().await.expect("synced");
        }
    });
    twin.image().read(&path()).expect("named")
}

/// What this build reads in a file.
fn read(golden: &'static [u8]) -> (Trailer, Vec<(usize, Contents)>) {
    let mut twin = Twin::new(1, 1 << 30, FaultPlan::none());
    on_twin(&mut twin, move |io| async move {
        io.make_dir(Path::new(ROOT)).await.expect("made");
        let file = io.open(&path(), Open::CreateDirect).await.expect("created");
        let mut buf = io.buffer(golden.len()).expect("memory");
        buf[..golden.len()].copy_from_slice(golden);
        file.write_at(buf, golden.len(), 0).await.0.expect("written");
        let trailer = read_trailer(&io, SEED, &path(), NUMBER, golden.len() as u64).await.expect("a trailer");
        let mut found = Vec::new();
        for (shard, part) in trailer.parts.iter().enumerate() {
            let Some(part) = *part else { continue };
            found.push((shard, read_part(&io, SEED, &path(), NUMBER, part).await.expect("a part")));
        }
        (trailer, found)
    })
}

fn must_read(golden: &'static [u8], has_origins: bool) {
    let (trailer, found) = read(golden);
    assert_eq!(found, contents(has_origins));
    assert_eq!((trailer.number, trailer.next_sequence), (NUMBER, 1 << 40));
    assert_eq!((trailer.pack, trailer.index), marks());
}

/// What is set aside for a checkpoint is enough, and not far too much.
#[test]
fn a_checkpoint_takes_no_more_than_its_bound() {
    let url = |n: usize| format!("https://example.org/{}", "x".repeat(n % 1900));
    for (objects, origins) in [(0, 0), (1, 0), (0, 1), (3, 3), (256, 100), (5000, 10), (9000, 3000)] {
        let digest = |n: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
            // In three shards of many objects, and in all of few.
            bytes[0] = if n < 300 { n as u8 } else { (n % 3) as u8 };
            Digest(bytes)
        };
        let mut known = Origins::new(1 << 40, 1);
        for n in 0..origins {
            known.hear(Origin { digest: digest(n), sequence: n as u64 + 1, url: url(n) });
        }
        let totals = known.totals();
        let listed = |n| Record { digest: digest(n), ..record(9, Said::Listed { segment: 8, offset: 4096 }) };
        let mut shards: Vec<Contents> = (0..SHARDS).map(|_| Contents::default()).collect();
        for n in 0..objects {
            shards[usize::from(digest(n).0[0])].records.push(listed(n));
        }
        for (shard, contents) in shards.iter_mut().enumerate() {
            contents.origins = known.of_shard(shard as u8).collect();
        }
        let bytes = written_of(shards.into_iter().enumerate().collect()).len() as u64;
        let most = bytes_max(objects as u64, totals, SHARDS as u64);
        assert!(bytes <= most && most <= 3 * bytes, "{objects} objects, {totals:?}: {bytes} of {most}");
    }
}

#[test]
fn version_2_is_written_and_read() {
    assert!(written(true) == VERSION_2, "this build writes version {VERSION} differently");
    must_read(VERSION_2, true);
}

/// It knew no origins, and was the same otherwise.
#[test]
fn version_1_is_read() {
    let mut old = written(false);
    let trailer_at = old.len() - SECTOR_BYTES;
    let trailer = &mut old[trailer_at..];
    trailer[4..6].copy_from_slice(&1u16.to_le_bytes());
    let crc = crc32c_append(SEED, &trailer[..SECTOR_BYTES - 4]);
    trailer[SECTOR_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
    assert!(old == VERSION_1, "a file of version 1 is another");
    must_read(VERSION_1, false);
}
