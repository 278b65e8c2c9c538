//! Every decoder of what lies on a disk, under mutation with repaired checksums. See `mutation`.

#[path = "fuzz/files.rs"]
mod files;

use crc32c::{crc32c, crc32c_append};
use mutation::fuzz;
use runtime::cpulist;
use runtime::journal::{ALIGNED_BYTES_MIN, Mark, Meta, SECTOR_BYTES, parse_name, segment_path};
use runtime::tier::parts::{
    Batch, Contents, Frame, Origin, Part, Purpose, Read, Record, Said, Trailer, batch_bytes, check_data,
    covered, decode_sums, encode_batch, encode_sums, format_text, read, read_format_text,
};
use runtime::tier::{Digest, disk_bytes};
use std::path::Path;

/// That of the golden batch.
const SEED: u32 = 0x5eed_5eed;
const HEADER_BYTES: usize = 64;
const CHECKPOINT: u32 = 12;
/// There is always a next one.
const SEQUENCE_MAX: u64 = 1 << 62;

fn record(said: Said, size: u64, crc: u32) -> Record {
    let (sequence, expires_ms) = (3, 77);
    Record { said, digest: Digest([9; 32]), sequence, expires_ms, size, crc, evictable: true, pinned: false }
}

fn batch(purpose: Purpose, items: &[(Frame, &[u8])]) -> Vec<u8> {
    batch_from(purpose, (41, 7), items)
}

/// `first` and `synced` are sequences.
fn batch_from(purpose: Purpose, (first, synced): (u64, u64), items: &[(Frame, &[u8])]) -> Vec<u8> {
    let segment = CHECKPOINT;
    let head = Batch {
        purpose,
        journal: 3,
        segment,
        payload_bytes: 0,
        heads_bytes: 0,
        records: 0,
        first,
        synced,
        before: Some(8),
    };
    let mut bytes = vec![0; batch_bytes(items.iter().map(|(frame, _)| frame))];
    encode_batch(SEED, head, items, &mut bytes);
    bytes
}

fn listed() -> Vec<(Frame, &'static [u8])> {
    let said = [Said::File, Said::Deleted, Said::Listed { segment: 8, offset: 4096 }];
    said.map(|said| (record(said, 5001, 0xfeed).frame(), &[][..])).into()
}

fn origin() -> Origin {
    Origin { digest: Digest([9; 32]), sequence: 3, url: "https://example.org/a".to_owned() }
}

fn batches() -> Vec<Vec<u8>> {
    let (small, large) = ([7u8; 500], vec![3u8; 40_000]);
    let packed = |data: &[u8]| record(Said::Packed, data.len() as u64, crc32c(data)).frame();
    let mut index = listed();
    index.push((covered(8, 1 << 20), &[]));
    let other = Frame {
        kind: 9,
        version: 1,
        shard: 0,
        data_bytes: 3,
        data_crc: crc32c(b"abc"),
        meta: Meta::new(&[1; 80]),
    };
    vec![
        include_bytes!("golden/journal-batch-1").to_vec(),
        batch(Purpose::Pack, &[(packed(&small), &small), (packed(&large), &large), (packed(&[]), &[])]),
        batch(Purpose::Index, &index),
        batch(Purpose::Index, &[(other, b"abc")]),
        batch(Purpose::Index, &[(origin().frame(), origin().url.as_bytes())]),
        batch(Purpose::Checkpoint, &listed()[..1]),
    ]
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn put(bytes: &mut [u8], at: usize, number: u32) {
    bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
}

/// Data, heads and header get the checksums that they should have, as far as lengths make sense; written from the description
/// of the format, not with its encoder.
fn repair_batch(bytes: &mut [u8]) {
    if bytes.len() < HEADER_BYTES {
        return;
    }
    repair_records(bytes);
    bytes[..4].copy_from_slice(b"BSLJ");
    let crc = crc32c_append(SEED, &bytes[..60]);
    put(bytes, 60, crc);
}

fn repair_records(bytes: &mut [u8]) -> Option<()> {
    let heads_end = HEADER_BYTES.checked_add(u32_at(bytes, 20)? as usize)?;
    let first = u64::from_le_bytes(bytes[32..40].try_into().expect("eight bytes"));
    let (mut head, mut data) = (HEADER_BYTES, heads_end);
    for sequence in first..first.saturating_add(u64::from(u32_at(bytes, 24)?)) {
        let (len, meta) = (u32_at(bytes, head)?, usize::from(*bytes.get(head + 11)?));
        let end = head + 16 + meta.next_multiple_of(8);
        if end > bytes.len().min(heads_end) {
            return None;
        }
        if len >= ALIGNED_BYTES_MIN {
            data = data.next_multiple_of(SECTOR_BYTES);
        }
        if let Some(content) = bytes.get(data..data + len as usize) {
            let crc = crc32c(content);
            put(bytes, head + 4, crc);
        }
        data += (len as usize).next_multiple_of(8);
        let crc = crc32c_append(crc32c(&bytes[head..head + 12]), &bytes[head + 16..end]);
        put(bytes, head + 12, crc32c_append(crc, &sequence.to_le_bytes()));
        head = end;
    }
    Some(())
}

/// What a record means can be written again, and calculated with.
fn understand(frame: &Frame) {
    match read(frame) {
        Ok(Read::Object(record)) => {
            assert!(record.sequence <= SEQUENCE_MAX);
            assert!(disk_bytes(record.size) >= record.size);
            assert_eq!(read(&record.frame()), Ok(Read::Object(record)));
        }
        Ok(Read::Covered { segment, offset }) => {
            assert!(segment.checked_add(1).is_some());
            assert_eq!(read(&covered(segment, offset)), Ok(Read::Covered { segment, offset }));
        }
        Ok(Read::Origin(_, sequence)) => assert!(sequence <= SEQUENCE_MAX),
        Err(_) => {}
    }
}

#[test]
fn journal_batches_and_the_records_in_them() {
    fuzz(
        "journal batch",
        &batches(),
        |bytes| repair_batch(bytes),
        |bytes| {
            let Ok(batch) = Batch::decode(SEED, bytes) else { return false };
            let Ok(frames) = batch.frames(bytes) else { return false };
            frames.iter().for_each(|(frame, _)| understand(frame));
            if check_data(bytes, &frames).is_err() {
                return false;
            }
            let items: Vec<(Frame, &[u8])> =
                frames.iter().map(|(f, at)| (*f, &bytes[*at as usize..][..f.data_bytes as usize])).collect();
            let mut again = vec![0xee; batch_bytes(items.iter().map(|(f, _)| f))];
            assert_eq!(again.len(), batch.disk_bytes());
            encode_batch(SEED, batch, &items, &mut again);
            assert_eq!(Batch::decode(SEED, &again), Ok(batch));
            assert_eq!(batch.frames(&again), Ok(frames));
            true
        },
    );
}

#[test]
fn parts_of_checkpoints() {
    let golden = [batch(Purpose::Checkpoint, &listed()), batch(Purpose::Checkpoint, &[])];
    fuzz(
        "checkpoint part",
        &golden,
        |bytes| repair_batch(bytes),
        |bytes| {
            let mut found = Contents::default();
            let Ok(batch_bytes) = found.take_batch(SEED, CHECKPOINT, bytes) else { return false };
            assert!(found.count() * 56 <= batch_bytes && batch_bytes.is_multiple_of(SECTOR_BYTES));
            true
        },
    );
}

#[test]
fn trailers_of_checkpoints() {
    let trailer = |step: usize| Trailer {
        number: CHECKPOINT,
        pack: Mark { segment: 3, offset: 4096, sequence: 99 },
        index: Mark { segment: 4, offset: 8192, sequence: 100 },
        next_sequence: 1 << 40,
        parts: (0..256).map(|s| (s % step == 0).then_some(Part { sector: s as u32, records: 3 })).collect(),
    };
    let golden = [1, 2].map(|step| {
        let mut bytes = vec![0; SECTOR_BYTES];
        trailer(step).encode(SEED, &mut bytes);
        bytes
    });
    let repair = |bytes: &mut Vec<u8>| {
        bytes.resize(SECTOR_BYTES, 0);
        bytes[..4].copy_from_slice(b"BSLC");
        let crc = crc32c_append(SEED, &bytes[..SECTOR_BYTES - 4]);
        put(bytes, SECTOR_BYTES - 4, crc);
    };
    fuzz("checkpoint trailer", &golden, repair, |bytes| {
        let Ok(trailer) = Trailer::decode(SEED, bytes) else { return false };
        for mark in [&trailer.pack, &trailer.index] {
            assert!(mark.segment.checked_add(1).is_some() && mark.sequence.checked_add(1).is_some());
        }
        assert!(trailer.next_sequence.checked_add(1).is_some());
        let mut again = vec![0xee; SECTOR_BYTES];
        trailer.encode(SEED, &mut again);
        assert_eq!(Trailer::decode(SEED, &again), Ok(trailer));
        true
    });
}

#[test]
fn sums_of_object_files() {
    let golden = [&[][..], &[1], &[7; 300]].map(|sums| encode_sums(sums).0);
    let repair = |bytes: &mut Vec<u8>| {
        if let Some(at) = bytes.len().checked_sub(4) {
            let crc = crc32c(&bytes[..at]);
            put(bytes, at, crc);
        }
    };
    fuzz("sums", &golden, repair, |bytes| {
        let crc = bytes.len().checked_sub(4).and_then(|at| u32_at(bytes, at)).unwrap_or(0);
        let Some(sums) = decode_sums(bytes, crc) else { return false };
        assert_eq!(encode_sums(&sums), (bytes.to_vec(), crc));
        true
    });
}

#[test]
fn the_format_file() {
    let old = b"basalt-tier 1\nshards 256\nseed 9f2c33d1\n".to_vec();
    let golden = [format_text(0x0bad_f00d).into_bytes(), format_text(7).into_bytes(), old];
    fuzz(
        "FORMAT",
        &golden,
        |bytes| {
            let sum = b"crc32c ";
            let Some(at) = bytes.windows(sum.len()).position(|part| part == sum) else { return };
            let line = format!("crc32c {:08x}\n", crc32c(&bytes[..at]));
            bytes.splice(at.., line.into_bytes());
        },
        |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let Ok(seed) = read_format_text(Path::new("/d"), &text) else { return false };
            assert_eq!(read_format_text(Path::new("/d"), &format_text(seed)).ok(), Some(seed));
            let hex = format!("{seed:08x}");
            assert!(text.to_ascii_lowercase().contains(&hex), "{text} does not say {hex}");
            true
        },
    );
}

#[test]
fn names_of_segments_and_objects() {
    let golden = ["pack-0000000001", "index-4294967295", "spare-pack-0000000009", "checkpoint-0000000012"];
    fuzz(
        "segment name",
        &golden.map(|name| name.as_bytes().to_vec()),
        |_| {},
        |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let Some((purpose, number, is_spare)) = parse_name(&text) else { return false };
            let path = segment_path(Path::new("/"), purpose, number);
            let name = path.file_name().and_then(|name| name.to_str()).expect("ASCII");
            assert_eq!(text, if is_spare { format!("spare-{name}") } else { name.to_owned() });
            true
        },
    );
    let golden = [0, 0xa5, 0xff].map(|byte| Digest([byte; 32]).to_string().into_bytes());
    fuzz(
        "digest",
        &golden,
        |_| {},
        |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let Ok(digest) = text.parse::<Digest>() else { return false };
            assert_eq!(digest.to_string(), text);
            true
        },
    );
}

#[test]
fn lists_of_cpus() {
    let golden = ["0\n", "0-3,8,10-14:2", "0-31:2/4", "4095"].map(|text| text.as_bytes().to_vec());
    fuzz(
        "cpulist",
        &golden,
        |_| {},
        |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let Ok(list) = cpulist::parse(&text) else { return false };
            assert_eq!(cpulist::parse(&list.to_string()), Ok(list));
            true
        },
    );
}
