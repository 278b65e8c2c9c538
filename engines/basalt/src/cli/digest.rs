//! A blob's name on the command line.

use std::fmt;

/// `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest(String);

impl Digest {
    /// Reads a digest as the server spells it; nothing else is a name of a blob.
    pub fn parse(text: &str) -> Result<Self, String> {
        let hex = text.strip_prefix("sha256:").unwrap_or_default();
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if hex.len() == 64 && hex.bytes().all(is_hex) {
            return Ok(Self(text.to_owned()));
        }
        Err("a digest is sha256: and 64 lower-case hexadecimal digits".to_owned())
    }

    /// The digest of bytes hashed here.
    pub fn of_hash(hash: &[u8; 32]) -> Self {
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Self(format!("sha256:{hex}"))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_servers_spelling_is_a_digest() {
        let digest = Digest::of_hash(&[0xab; 32]);
        assert_eq!(Digest::parse(&digest.to_string()), Ok(digest));
        let wrong = ["", "sha256:", &"ab".repeat(32), &format!("sha256:{}", "AB".repeat(32))];
        assert!(wrong.into_iter().all(|text| Digest::parse(text).is_err()));
    }
}
