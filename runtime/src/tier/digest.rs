//! The name of an object: the SHA-256 of its bytes, written `sha256:` + 64 lower-case hex digits. Or an engine's own name for what
//! is not named by its content, which nobody outside can write.

use crate::shards::Shard;
use std::fmt;
use std::str::FromStr;

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

const PREFIX: &str = "sha256:";
/// Where private names end all alike.
const PRIVATE: &[u8; 12] = b"basalt owned";
const PRIVATE_AT: usize = 32 - PRIVATE.len();
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Not `sha256:` followed by 64 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is sha256: followed by 64 lower-case hex digits")]
pub struct DigestError;

impl Digest {
    /// The shard that owns the object: its first byte.
    #[inline]
    pub fn shard(&self) -> Shard {
        Shard(self.0[0])
    }

    /// A name of an engine's own, for what is stored under something else than the digest of its bytes: on `shard`, told apart by
    /// the first 19 bytes of `name`. It is in no listing, and no text names it.
    #[must_use]
    pub fn private(shard: Shard, name: &[u8; 32]) -> Digest {
        let mut bytes = [0; 32];
        bytes[0] = shard.0;
        bytes[1..PRIVATE_AT].copy_from_slice(&name[..PRIVATE_AT - 1]);
        bytes[PRIVATE_AT..].copy_from_slice(PRIVATE);
        Digest(bytes)
    }

    /// Whether it is such a name. The digest of bytes is one with a chance of 2^-96.
    #[inline]
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.0.ends_with(PRIVATE)
    }

    /// Parses the hex digits without the prefix.
    pub fn from_hex(hex: &[u8]) -> Result<Digest, DigestError> {
        let mut bytes = [0; 32];
        if hex.len() != 64 {
            return Err(DigestError);
        }
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Digest(bytes))
    }

    /// The 64 hex digits.
    pub fn hex(&self) -> [u8; 64] {
        let mut hex = [0; 64];
        for (pair, byte) in hex.chunks_exact_mut(2).zip(self.0) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        hex
    }
}

fn nibble(c: u8) -> Result<u8, DigestError> {
    match c {
        b'0'..=b'9' => Ok(c - b'0'),
        b'a'..=b'f' => Ok(c - b'a' + 10),
        _ => Err(DigestError),
    }
}

impl FromStr for Digest {
    type Err = DigestError;
    fn from_str(s: &str) -> Result<Digest, DigestError> {
        let digest = Digest::from_hex(s.strip_prefix(PREFIX).ok_or(DigestError)?.as_bytes())?;
        if digest.is_private() { Err(DigestError) } else { Ok(digest) }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = self.hex();
        f.write_str(PREFIX)?;
        f.write_str(std::str::from_utf8(&hex).expect("hex digits are ASCII"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::hash::Hash for Digest {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        // SHA-256 is uniform but chosen by clients: eight bytes of it go through the seeded hasher.
        state.write_u64(u64::from_le_bytes(self.0[8..16].try_into().expect("eight bytes")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_names_are_told_apart_and_nobody_can_write_them() {
        let name = |last: u8| {
            let mut name = [7; 32];
            name[PRIVATE_AT - 2] = last;
            Digest::private(Shard(0xe3), &name)
        };
        assert!(name(1) != name(2) && name(1).is_private() && name(1).shard() == Shard(0xe3));
        assert_eq!(name(1).to_string().parse::<Digest>(), Err(DigestError));
        assert_eq!(Digest::from_hex(&name(1).hex()), Ok(name(1)), "its file is found again");
    }

    #[test]
    fn round_trip_and_refusals() {
        let text = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let digest: Digest = text.parse().expect("valid");
        assert_eq!(digest.to_string(), text);
        assert_eq!(digest.shard(), Shard(0xe3));
        for bad in [
            "",
            "sha256:",
            &text[7..],
            &text.to_uppercase(),
            &text[..70],
            &format!("{text}0"),
            &text.replace('e', "g"),
        ] {
            assert_eq!(bad.parse::<Digest>(), Err(DigestError), "{bad}");
        }
    }
}
