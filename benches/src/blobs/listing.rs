//! What is stored: a line `number size digest` for each blob, so that another run can read it all back.

use std::fmt::Write;
use std::fs;
use std::io::Write as _;

use crate::Result;

/// A stored blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Says its bytes.
    pub number: u64,
    /// How many.
    pub size: u64,
    /// As the server names it: `sha256:<hex>`.
    pub digest: String,
}

/// Reads a file of lines.
pub fn read(path: &str) -> Result<Vec<Stored>> {
    let text = fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
    text.lines().map(parse).collect()
}

fn parse(line: &str) -> Result<Stored> {
    let mut words = line.split(' ');
    let mut word = || words.next().ok_or_else(|| format!("not a stored blob: {line:?}"));
    Ok(Stored { number: word()?.parse()?, size: word()?.parse()?, digest: word()?.to_owned() })
}

/// Writes the file, or adds lines to it.
pub fn write(path: &str, stored: &[Stored], append: bool) -> Result<()> {
    let mut text = String::new();
    for Stored { number, size, digest } in stored {
        writeln!(text, "{number} {size} {digest}")?;
    }
    let mut file =
        fs::File::options().create(true).write(true).append(append).truncate(!append).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_round_trip_and_are_added() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("listing");
        let path = path.to_str().unwrap();
        let one = |number| Stored { number, size: 10 + number, digest: format!("sha256:{number}") };
        write(path, &[one(1), one(2)], false).unwrap();
        write(path, &[one(3)], true).unwrap();
        assert_eq!(read(path).unwrap(), [one(1), one(2), one(3)]);
        write(path, &[one(4)], false).unwrap();
        assert_eq!(read(path).unwrap(), [one(4)]);
        fs::write(path, "1 2\n").unwrap();
        assert!(read(path).is_err());
    }
}
