//! Which data directories belong together. Where there are several, each has a file DISKS that names all of them, so that a
//! disk that was not mounted is noticed: started without it, the node would say 404 of what it holds, and fill its empty
//! mount point.
//!
//! Called by the node at start: [`check`] before anything is created, [`remember`] when all are held.
//!
//! ```text
//! DATA/DISKS = one line for each: "disk 9f2c33d1 crc32c b7ec2911 /mnt/nvme0/basalt": the directory's seed, the CRC32C of
//!              "9f2c33d1 /mnt/nvme0/basalt", and where it was last
//! ```
//! Each line has its checksum, so that a person may delete one. A line without (builds from before wrote them so) is read, and
//! written anew with one when all are there; no single bit makes two lines one, or one another.
//! A disk that is gone for good is given up by deleting its line from every DISKS file: that is for a person to say.

use super::data_dir::{DataDir, DataDirError, seed_of};
use super::disk::DISKS_MAX;
use super::names::Names;
use super::text_file::{TEXT_BYTES_MAX, read_text, sum_of, write_text};
use crate::io::Io;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Characters kept of a path: it is a hint for people, and the file is bounded.
const PATH_CHARS_MAX: usize = 512;
/// Before a line's checksum.
const SUM: &str = "crc32c ";
const _: () = assert!(DISKS_MAX * (4 * PATH_CHARS_MAX + 32) <= TEXT_BYTES_MAX);

const DAMAGED: &str = "is damaged: lines are `disk <seed> crc32c <sum> <path>`. If every data directory is there and given with \
                       --data-dir, delete the file: it is written anew";

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    seed: u32,
    path: String,
}

impl Member {
    fn sum(&self) -> String {
        sum_of(&format!("{:08x} {}", self.seed, self.path))
    }
}

fn render(members: &[Member]) -> String {
    members.iter().map(|m| format!("disk {:08x} {SUM}{} {}\n", m.seed, m.sum(), m.path)).collect()
}

fn parse(text: &str) -> Option<Vec<Member>> {
    let line = |line: &str| {
        let (seed, rest) = line.strip_prefix("disk ")?.split_once(' ')?;
        let whole = seed.len() == 8 && seed.bytes().all(|b| b.is_ascii_hexdigit());
        let seed = u32::from_str_radix(seed, 16).ok().filter(|_| whole)?;
        let Some(summed) = rest.strip_prefix(SUM) else {
            return Some(Member { seed, path: rest.to_owned() });
        };
        let (sum, path) = summed.split_once(' ')?;
        let member = Member { seed, path: path.to_owned() };
        (member.sum() == sum).then_some(member)
    };
    text.lines().map(line).collect()
}

/// Whether every directory that one of `roots` names is among them. Creates nothing.
pub async fn check<I: Io>(io: &I, roots: &[PathBuf]) -> Result<(), DataDirError> {
    let mut seeds: Vec<(u32, &PathBuf)> = Vec::new();
    for root in roots {
        if let Some(seed) = seed_of(io, root).await? {
            if let Some((_, other)) = seeds.iter().find(|(known, _)| *known == seed) {
                return Err(DataDirError::Copy(root.clone(), (*other).clone()));
            }
            seeds.push((seed, root));
        }
    }
    for root in roots {
        let file = Names::new(root).disks();
        for Member { seed, path } in read(io, &file).await? {
            if !seeds.iter().any(|(known, _)| *known == seed) {
                return Err(DataDirError::Missing { named_by: file, seed, path });
            }
        }
    }
    Ok(())
}

async fn read<I: Io>(io: &I, file: &Path) -> Result<Vec<Member>, DataDirError> {
    parse(&said(io, file).await?).ok_or_else(|| DataDirError::Strange(file.to_owned(), DAMAGED.into()))
}

/// What a file says; nothing if there is none.
async fn said<I: Io>(io: &I, file: &Path) -> Result<String, DataDirError> {
    match read_text(io, file).await {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(String::new()),
        read => read.map_err(|e| DataDirError::Io(file.to_owned(), e)),
    }
}

/// Writes into each of `dirs` who they all are, where that has changed.
pub async fn remember<'d, I: Io>(
    io: &I,
    dirs: impl Iterator<Item = &'d DataDir> + Clone,
) -> Result<(), DataDirError> {
    let member = |dir: &DataDir| {
        let path = dir.names().root().display().to_string();
        let path = path.chars().map(|c| if c.is_control() { '?' } else { c }).take(PATH_CHARS_MAX).collect();
        Member { seed: dir.seed(), path }
    };
    let members: Vec<Member> = dirs.clone().map(member).collect();
    let now = render(&members);
    for dir in dirs {
        let file = dir.names().disks();
        let before = said(io, &file).await?;
        let alone = members.len() == 1 && before.is_empty();
        if before != now && !alone {
            let written = write_text(io, &file, &now).await;
            written.map_err(|e| DataDirError::Io(file, e))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was written once is read for ever: these files are never written anew. Version 1 had no checksums.
    #[test]
    fn golden_lists_are_read() {
        let member = |seed, path: &str| Member { seed, path: path.to_owned() };
        let members = vec![member(0x9f2c_33d1, "/mnt/nvme0/basalt"), member(7, "data of basalt")];
        let (old, now) =
            (include_str!("../../tests/golden/disks-1.txt"), include_str!("../../tests/golden/disks-2.txt"));
        assert_eq!(render(&members), now, "this build writes DISKS differently");
        assert_eq!((parse(old), parse(now)), (Some(members.clone()), Some(members)));
    }

    #[test]
    fn whatever_the_file_says_is_refused_or_can_be_said_again() {
        let golden = [
            include_bytes!("../../tests/golden/disks-1.txt").to_vec(),
            include_bytes!("../../tests/golden/disks-2.txt").to_vec(),
            render(&[Member { seed: 7, path: "/mnt/ä b".to_owned() }]).into_bytes(),
        ];
        let repair = |bytes: &mut Vec<u8>| {
            let text = String::from_utf8_lossy(bytes);
            let repaired = text.split_inclusive('\n').map(|line| {
                let parts: Vec<&str> = line.splitn(5, ' ').collect();
                let ["disk", seed, "crc32c", _, path] = parts[..] else { return line.to_owned() };
                let sum = sum_of(&format!("{seed} {}", path.trim_end_matches('\n')));
                format!("disk {seed} crc32c {sum} {path}")
            });
            *bytes = repaired.collect::<String>().into_bytes();
        };
        mutation::fuzz("DISKS", &golden, repair, |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let Some(members) = parse(&text) else { return false };
            assert_eq!(members.len(), text.lines().count(), "a line was left out of {text:?}");
            // Of what is written, no path has a control character; a carriage return before the end of a line is the line's.
            let is_plain = members.iter().all(|m| !m.path.chars().any(char::is_control));
            assert!(!is_plain || parse(&render(&members)) == Some(members), "{text:?}");
            true
        });
    }

    #[test]
    fn lines_are_read_back() {
        let member = |seed, path: &str| Member { seed, path: path.to_owned() };
        let members = vec![member(7, "/mnt/a"), member(u32::MAX, "relative with spaces")];
        assert_eq!(parse(&render(&members)), Some(members.clone()));
        let unsummed = "disk 00000007 /mnt/a\ndisk ffffffff relative with spaces\n";
        assert_eq!(parse(unsummed), Some(members.clone()));
        let deleted = render(&members).lines().skip(1).map(|line| format!("{line}\n")).collect::<String>();
        assert_eq!(parse(&deleted), Some(members[1..].to_vec()));
        assert_eq!(parse(""), Some(Vec::new()));
        for damaged in [
            "disk",
            "disk 7 /a\n",
            "dusk 00000007 /a\n",
            "disk 0000000g /a\n",
            "disk +0000007 /a\n",
            "disk 00000007 crc32c 00000000 /a\n",
            "disk 00000007 crc32c \n",
        ] {
            assert_eq!(parse(damaged), None, "{damaged:?}");
        }
    }
}
