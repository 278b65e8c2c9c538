//! Whole files under mutation, read as a start reads them, on the twin: what stands between batches, and between a trailer and
//! its parts, is reached too. One machine for all of a seed's cases, since starting one takes longer than reading a file.

use super::{CHECKPOINT, SEED, batch_from, covered, listed, origin, put, record, repair_batch, understand};
use crc32c::{crc32c, crc32c_append};
use mutation::Mutator;
use runtime::column::{Body, Column};
use runtime::io::{Class, File, Io, Open};
use runtime::journal::{Mark, SECTOR_BYTES, ScanError, ScanPlan, What, scan};
use runtime::tier::parts::{Purpose, Said, read_part, read_trailer};
use runtime::twin::{FaultPlan, Twin, TwinIo};
use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;

const CASES: u32 = 3_000;
const SEEDS: u64 = 3;
const LIMIT_NS: u64 = 3600 * 1_000_000_000;
const MEMORY_BYTES: usize = 8 << 20;
const PATH: &str = "/file";

/// Every case of every seed: the file is written, then `read`, which says whether it was taken.
fn fuzz_files<F>(golden: &'static [Vec<u8>], read: fn(TwinIo, u64) -> F)
where
    F: Future<Output = bool> + 'static,
{
    let counts = Rc::new(Cell::new((0, 0)));
    for seed in 1..=SEEDS {
        let (mut twin, counts) = (Twin::new(seed, 1 << 30, FaultPlan::none()), counts.clone());
        let mut one = twin.start(1, MEMORY_BYTES, move |column: Column<TwinIo>| {
            let counts = counts.clone();
            async move {
                for input in golden {
                    assert!(take(&column.io, input, read).await, "a golden file is refused");
                }
                let mut mutator = Mutator::new(seed, golden);
                for case in 0..CASES {
                    let mut input = mutator.next();
                    if mutator.below(4) > 0 {
                        repair_file(&mut input);
                    }
                    let (taken, refused) = counts.get();
                    // Seen when a case panics; captured otherwise.
                    println!("seed {seed}, case {case}");
                    let is_taken = take(&column.io, &input, read).await;
                    counts.set(if is_taken { (taken + 1, refused) } else { (taken, refused + 1) });
                }
                Ok(Box::pin(async {}) as Body)
            }
        });
        twin.run_until(LIMIT_NS, || {
            one.watch();
            one.has_ended()
        });
        one.kill();
    }
    let (taken, refused) = counts.get();
    assert_eq!(taken + refused, CASES * SEEDS as u32);
    assert!(taken > 0 && refused > 0, "{taken} taken, {refused} refused: nothing was tried");
}

async fn take<F: Future<Output = bool>>(io: &TwinIo, bytes: &[u8], read: fn(TwinIo, u64) -> F) -> bool {
    let path = Path::new(PATH);
    let file = io.open(path, Open::CreateDirect).await.expect("made");
    let padded = bytes.len().next_multiple_of(SECTOR_BYTES).max(SECTOR_BYTES);
    let mut buf = io.buffer(padded).expect("memory");
    buf[..bytes.len()].copy_from_slice(bytes);
    buf[bytes.len()..padded].fill(0);
    file.write_at(buf, padded, 0).await.0.expect("written");
    file.truncate(bytes.len() as u64).await.expect("cut");
    drop(file);
    let is_taken = read(io.clone(), bytes.len() as u64).await;
    io.unlink(path).await.expect("removed");
    is_taken
}

/// Every batch that still begins with its magic gets its checksums, and so does a trailer at the end.
fn repair_file(bytes: &mut [u8]) {
    for at in (0..bytes.len()).step_by(SECTOR_BYTES) {
        if bytes[at..].starts_with(b"BSLJ") {
            repair_batch(&mut bytes[at..]);
        }
    }
    let trailer_at = bytes.len().saturating_sub(SECTOR_BYTES);
    let trailer = &mut bytes[trailer_at..];
    if trailer.starts_with(b"BSLC") && trailer.len() == SECTOR_BYTES {
        let crc = crc32c_append(SEED, &trailer[..SECTOR_BYTES - 4]);
        put(trailer, SECTOR_BYTES - 4, crc);
    }
}

/// A segment of several batches, its end never written.
fn segments() -> Vec<Vec<u8>> {
    let url = origin();
    let (small, large) = ([7u8; 500], vec![3u8; 40_000]);
    let packed = |data: &[u8]| record(Said::Packed, data.len() as u64, crc32c(data)).frame();
    let index = [
        batch_from(Purpose::Index, (0, 0), &listed()),
        batch_from(Purpose::Index, (3, 3), &[(url.frame(), url.url.as_bytes())]),
        batch_from(Purpose::Index, (4, 3), &[(covered(8, 1 << 20), &[])]),
    ];
    let pack = [
        batch_from(Purpose::Pack, (0, 0), &[(packed(&small), &small), (packed(&large), &large)]),
        batch_from(Purpose::Pack, (2, 2), &[(packed(&small), &small)]),
    ];
    let file = |batches: &[Vec<u8>]| [batches.concat(), vec![0; 3 * SECTOR_BYTES]].concat();
    vec![file(&index), file(&pack)]
}

async fn read_segment(io: TwinIo, size: u64) -> bool {
    let mut is_taken = false;
    for (purpose, what) in
        [(Purpose::Index, What::Data), (Purpose::Pack, What::Heads), (Purpose::Pack, What::Data)]
    {
        let from = Mark { segment: CHECKPOINT, offset: 0, sequence: 0 };
        let (seed, segment, path) = (SEED, CHECKPOINT, Path::new(PATH));
        let (must_reach, step_bytes, class) = (None, None, Class::Foreground);
        let plan = ScanPlan { seed, path, purpose, segment, from, must_reach, step_bytes, what, class };
        let mut found = 0;
        let scanned = scan(&io, plan, |record| {
            understand(record.frame);
            assert!(u64::from(record.offset) + u64::from(record.frame.data_bytes) <= size);
            assert!(what == What::Heads || record.data.len() == record.frame.data_bytes as usize);
            found += 1;
        });
        match scanned.await {
            Ok(scanned) => {
                assert!(scanned.claimed_bytes <= scanned.valid_bytes && scanned.valid_bytes <= size);
                assert!(scanned.is_end && scanned.valid_bytes.is_multiple_of(SECTOR_BYTES as u64));
                assert!(found == 0 || scanned.valid_bytes > 0, "{found} records in nothing");
                is_taken |= found > 0;
            }
            Err(ScanError::Corrupt(_, at, _)) => assert!(at <= size, "damage at {at} of {size}"),
            Err(ScanError::Io(_, e)) => panic!("the disk works: {e}"),
        }
    }
    is_taken
}

async fn read_checkpoint(io: TwinIo, size: u64) -> bool {
    let path = Path::new(PATH);
    let trailer = match read_trailer(&io, SEED, path, CHECKPOINT, size).await {
        Ok(trailer) => trailer,
        Err(ScanError::Corrupt(..)) => return false,
        Err(ScanError::Io(_, e)) => panic!("the disk works: {e}"),
    };
    let mut is_whole = true;
    for part in trailer.parts.iter().flatten() {
        match read_part(&io, SEED, path, CHECKPOINT, *part).await {
            Ok(contents) => {
                assert_eq!(contents.count(), part.records as usize);
                assert!(contents.count() as u64 * 56 <= size, "more records than the file can hold");
            }
            Err(ScanError::Corrupt(..)) => is_whole = false,
            Err(ScanError::Io(_, e)) => panic!("the disk works: {e}"),
        }
    }
    is_whole
}

#[test]
fn segments_of_journals() {
    fuzz_files(segments().leak(), read_segment);
}

#[test]
fn checkpoints() {
    let golden = [&include_bytes!("../golden/checkpoint-1")[..], include_bytes!("../golden/checkpoint-2")];
    fuzz_files(golden.map(<[u8]>::to_vec).to_vec().leak(), read_checkpoint);
}
