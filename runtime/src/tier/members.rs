//! Which data directories belong together. Where there are several, each has a file DISKS that names all of them, so that a
//! disk that was not mounted is noticed: started without it, the node would say 404 of what it holds, and fill its empty
//! mount point.
//!
//! Called by the node at start: [`check`] before anything is created, [`remember`] when all are held.
//!
//! ```text
//! DATA/DISKS = one line for each: "disk 9f2c33d1 /mnt/nvme0/basalt": the directory's seed, and where it was last.
//! ```
//! A disk that is gone for good is given up by deleting its line from every DISKS file: that is for a person to say.

use super::data_dir::{DataDir, DataDirError, seed_of};
use super::disk::DISKS_MAX;
use super::names::Names;
use super::text_file::{TEXT_BYTES_MAX, read_text, write_text};
use crate::io::Io;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Characters kept of a path: it is a hint for people, and the file is bounded.
const PATH_CHARS_MAX: usize = 512;
const _: () = assert!(DISKS_MAX * (4 * PATH_CHARS_MAX + 16) <= TEXT_BYTES_MAX);

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    seed: u32,
    path: String,
}

fn render(members: &[Member]) -> String {
    members.iter().map(|m| format!("disk {:08x} {}\n", m.seed, m.path)).collect()
}

fn parse(text: &str) -> Option<Vec<Member>> {
    let line = |line: &str| {
        let (seed, path) = line.strip_prefix("disk ")?.split_once(' ')?;
        let whole = seed.len() == 8 && seed.bytes().all(|b| b.is_ascii_hexdigit());
        let seed = u32::from_str_radix(seed, 16).ok().filter(|_| whole)?;
        Some(Member { seed, path: path.to_owned() })
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
    match read_text(io, file).await {
        Ok(text) => parse(&text).ok_or_else(|| {
            DataDirError::Strange(file.to_owned(), "is damaged: lines are `disk <seed> <path>`".into())
        }),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(DataDirError::Io(file.to_owned(), e)),
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
    for dir in dirs {
        let file = dir.names().disks();
        let before = read(io, &file).await?;
        let alone = members.len() == 1 && before.is_empty();
        if before != members && !alone {
            let written = write_text(io, &file, &render(&members)).await;
            written.map_err(|e| DataDirError::Io(file, e))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_back() {
        let member = |seed, path: &str| Member { seed, path: path.to_owned() };
        let members = vec![member(7, "/mnt/a"), member(u32::MAX, "relative with spaces")];
        assert_eq!(render(&members), "disk 00000007 /mnt/a\ndisk ffffffff relative with spaces\n");
        assert_eq!(parse(&render(&members)), Some(members));
        assert_eq!(parse(""), Some(Vec::new()));
        for damaged in
            ["disk", "disk 7 /a\n", "dusk 00000007 /a\n", "disk 0000000g /a\n", "disk +0000007 /a\n"]
        {
            assert_eq!(parse(damaged), None, "{damaged:?}");
        }
    }
}
