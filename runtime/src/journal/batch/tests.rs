//! Batches are read back as written, any damage is noticed, and what version 1 wrote stays readable.

use super::*;
use proptest::prelude::*;

const SEED: u32 = 0x5eed_5eed;

fn frame(kind: u8, meta: &[u8], data: &[u8]) -> Frame {
    let (data_bytes, data_crc) = (data.len() as u32, crc32c(data));
    Frame { kind, version: 1, shard: 7, data_bytes, data_crc, meta: Meta::new(meta) }
}

fn head(first: u64) -> Batch {
    let (purpose, journal, segment, synced) = (Purpose::Pack, 3, 9, first);
    Batch {
        purpose,
        journal,
        segment,
        payload_bytes: 0,
        heads_bytes: 0,
        records: 0,
        first,
        synced,
        before: None,
    }
}

fn encode(first: u64, items: &[(Frame, &[u8])]) -> (Vec<u8>, Vec<u32>) {
    let mut bytes = vec![0xee; batch_bytes(items.iter().map(|(f, _)| f))];
    let offsets = encode_batch(SEED, head(first), items, &mut bytes);
    (bytes, offsets)
}

fn read(bytes: &[u8]) -> Result<(Batch, Vec<(Frame, u32)>), BatchError> {
    let batch = Batch::decode(SEED, bytes)?;
    let frames = batch.frames(bytes)?;
    check_data(bytes, &frames)?;
    Ok((batch, frames))
}

fn two() -> (Vec<u8>, usize) {
    let data: Vec<u8> = (0..5001u32).map(|i| i as u8).collect();
    let (bytes, offsets) = encode(41, &[(frame(1, &[5; 61], &data), &data), (frame(3, &[], &[]), &[])]);
    (bytes, offsets[0] as usize + data.len())
}

proptest! {
    #[test]
    fn reads_back_what_was_written(
        first in 0u64..1 << 40,
        records in prop::collection::vec((any::<u8>(), 0usize..META_BYTES_MAX + 1, 0usize..70_000), 1..12),
    ) {
        let datas: Vec<Vec<u8>> = records.iter().map(|&(k, _, len)| vec![k; len]).collect();
        let items: Vec<(Frame, &[u8])> = records
            .iter()
            .zip(&datas)
            .map(|(&(kind, meta, _), data)| (frame(kind, &vec![kind; meta], data), &data[..]))
            .collect();
        let (bytes, offsets) = encode(first, &items);
        let (batch, frames) = read(&bytes).expect("whole");
        prop_assert_eq!((batch.first, batch.end(), batch.disk_bytes()), (first, first + items.len() as u64, bytes.len()));
        prop_assert_eq!(frames.iter().map(|f| f.1).collect::<Vec<_>>(), offsets);
        for ((frame, at), (written, data)) in frames.iter().zip(&items) {
            prop_assert_eq!(frame, written);
            prop_assert_eq!(&bytes[*at as usize..*at as usize + data.len()], *data);
            prop_assert!(frame.data_bytes < ALIGNED_BYTES_MIN || at.is_multiple_of(SECTOR_BYTES as u32));
        }
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..600), sealed: bool) {
        if sealed && bytes.len() >= BATCH_HEADER_BYTES {
            // As if someone wrote a header with a good checksum over nonsense.
            bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
            bytes[4..8].copy_from_slice(&[1, 0, 1, 0]);
            let crc = crc32c_append(SEED, &bytes[..60]);
            bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        }
        let _ = read(&bytes);
    }
}

#[test]
fn every_flipped_byte_is_noticed_or_padding() {
    let (bytes, data_end) = two();
    let good = read(&bytes).expect("whole");
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 0x41;
        if let Ok(found) = read(&bad) {
            assert!(at >= data_end, "flip at {at} went unnoticed");
            assert_eq!(found, good);
        }
    }
}

#[test]
fn a_record_is_valid_at_its_own_sequence_only() {
    let (mut bytes, _) = two();
    bytes[32..40].copy_from_slice(&42u64.to_le_bytes());
    let crc = crc32c_append(SEED, &bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(read(&bytes).map(|_| ()), Err(BatchError::Damaged("record head checksum")));
}

#[test]
fn newer_is_told_apart_from_damage() {
    let (mut bytes, _) = two();
    bytes[4] = 9;
    let crc = crc32c_append(SEED, &bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(read(&bytes).map(|_| ()), Err(BatchError::Newer(9)));
}

#[test]
fn another_directory_s_batch_is_no_batch() {
    let (bytes, _) = two();
    assert_eq!(Batch::decode(SEED + 1, &bytes), Err(BatchError::Damaged("batch header checksum")));
}

/// What version 1 wrote once must be read for ever: this file is never written anew.
#[test]
fn golden_batch_of_version_1_is_read() {
    let golden = include_bytes!("../../../tests/golden/journal-batch-1");
    let (bytes, _) = two();
    assert_eq!(read(golden), read(&bytes));
    assert_eq!(&golden[..], &bytes[..], "this build writes version {VERSION} differently");
}
