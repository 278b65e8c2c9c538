//! A purge: the payload of one journal record.
//!
//! | bytes | hold |
//! |---|---|
//! | 0 | version: 1 |
//! | 1 | what is named: 0 all, 1 a target, 2 a prefix, 3 a tag |
//! | 2 | 0 hard, 1 soft |
//! | 3 | 0 |
//! | 4..8 | length of the name |
//! | 8..16 | generation |
//! | 16.. | the name, UTF-8; empty for all |
//!
//! A record counts as durable when the journal says so; until then its purge does not hold (`state::purge`).

use crate::limits::PURGE_NAME_BYTES_MAX;
use crate::state::purge::{Names, Numbered, Purge};

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 16;

/// A record that is none: damage that a checksum did not see, or a later version's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Not of this version.
    #[error("record of version {0}; this program reads 1")]
    Version(u8),
    /// A length, code or name that cannot be.
    #[error("malformed record of a purge")]
    Malformed,
}

/// The bytes of a record.
#[must_use]
pub fn encode(numbered: &Numbered) -> Vec<u8> {
    let Numbered { generation, purge } = numbered;
    let (code, name) = match &purge.names {
        Names::All => (0, ""),
        Names::Target(name) => (1, name.as_str()),
        Names::Prefix(name) => (2, name.as_str()),
        Names::Tag(name) => (3, name.as_str()),
    };
    assert!(name.len() <= PURGE_NAME_BYTES_MAX, "a name of {} bytes", name.len());
    let length = u32::try_from(name.len()).expect("at most PURGE_NAME_BYTES_MAX");
    let mut bytes = Vec::with_capacity(HEAD_BYTES + name.len());
    bytes.extend_from_slice(&[VERSION, code, u8::from(purge.is_soft), 0]);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&generation.to_le_bytes());
    bytes.extend_from_slice(name.as_bytes());
    bytes
}

/// What a record says.
///
/// # Errors
/// It is none.
pub fn decode(bytes: &[u8]) -> Result<Numbered, RecordError> {
    let (head, name) = bytes.split_first_chunk::<HEAD_BYTES>().ok_or(RecordError::Malformed)?;
    let [version, code, soft, zero, length @ .., _, _, _, _, _, _, _, _] = head;
    if *version != VERSION {
        return Err(RecordError::Version(*version));
    }
    let length = u32::from_le_bytes(*length);
    let generation = u64::from_le_bytes(*head.last_chunk::<8>().expect("the head is longer"));
    let is_whole = usize::try_from(length) == Ok(name.len()) && name.len() <= PURGE_NAME_BYTES_MAX;
    // The last generation has no next one.
    if !is_whole || *zero != 0 || *soft > 1 || generation == 0 || generation == u64::MAX {
        return Err(RecordError::Malformed);
    }
    let name = std::str::from_utf8(name).map_err(|_| RecordError::Malformed)?.to_owned();
    let names = match (code, name.is_empty()) {
        (0, true) => Names::All,
        (1, false) => Names::Target(name),
        (2, false) => Names::Prefix(name),
        (3, false) => Names::Tag(name),
        _ => return Err(RecordError::Malformed),
    };
    Ok(Numbered { generation, purge: Purge { names, is_soft: *soft == 1 } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mutation::fuzz;

    fn numbered(names: Names, is_soft: bool) -> Numbered {
        Numbered { generation: 0x0102_0304, purge: Purge { names, is_soft } }
    }

    #[test]
    fn the_bytes_of_version_1() {
        let record = encode(&numbered(Names::Prefix("/a".to_owned()), true));
        assert_eq!(record, b"\x01\x02\x01\x00\x02\0\0\0\x04\x03\x02\x01\0\0\0\0/a");
        let mut later = record;
        later[0] = 2;
        assert_eq!(decode(&later), Err(RecordError::Version(2)));
        assert_eq!(decode(&[1; 15]), Err(RecordError::Malformed));
    }

    #[test]
    fn records_under_mutation() {
        let name = |len: usize| "n".repeat(len);
        let golden = [
            encode(&numbered(Names::All, false)),
            encode(&numbered(Names::Target("/a?b".to_owned()), true)),
            encode(&numbered(Names::Prefix(name(PURGE_NAME_BYTES_MAX)), false)),
            encode(&numbered(Names::Tag("ü".to_owned()), false)),
        ];
        let repair = |bytes: &mut Vec<u8>| {
            if let Some(length) = bytes.len().checked_sub(HEAD_BYTES) {
                bytes[4..8].copy_from_slice(&(length as u32).to_le_bytes());
                bytes[0] = VERSION;
            }
        };
        fuzz("purge record", &golden, repair, |bytes| {
            let Ok(numbered) = decode(bytes) else { return false };
            assert!(numbered.generation.checked_add(1).is_some());
            assert_eq!(encode(&numbered), bytes);
            true
        });
    }
}
