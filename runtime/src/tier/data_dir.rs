//! Taking possession of a data directory: version, lock, the fixed directories. Called once by the node, before any column
//! starts, so it may block. A directory that is in use, unreadable or of a newer format is left untouched.

use super::names::{FORMAT_VERSION, Names};
use crate::shards::SHARDS;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another node holds the lock.
    #[error("data directory {path} is in use by another node (its LOCK is held)", path = .0.display())]
    InUse(PathBuf),
    /// The file system refuses.
    #[error("data directory {path}: {1}", path = .0.display())]
    Io(PathBuf, io::Error),
    /// Written by a build from before the first release.
    #[error("data directory {path} has format {1}, which only builds from before the first release wrote: store its blobs anew in an empty directory", path = .0.display())]
    Older(PathBuf, u32),
    /// Written by a newer build.
    #[error("data directory {path} has format {1}, this build knows up to {FORMAT_VERSION}: run the newer build", path = .0.display())]
    Newer(PathBuf, u32),
    /// Not ours.
    #[error("data directory {path}: {1}", path = .0.display())]
    Strange(PathBuf, String),
}

/// A locked data directory of a known format.
#[derive(Debug)]
pub struct DataDir {
    names: Names,
    seed: u32,
    _lock: File,
}

impl DataDir {
    /// Opens or creates `root`.
    pub fn open(root: &Path) -> Result<DataDir, DataDirError> {
        let names = Names::new(root);
        let io_error = |path: &Path| {
            let path = path.to_owned();
            move |e| DataDirError::Io(path, e)
        };
        fs::create_dir_all(root).map_err(io_error(root))?;
        let known = match fs::read_to_string(names.format()) {
            Ok(text) => Some(check_format(root, &text)?),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                refuse_foreign(root)?;
                None
            }
            Err(e) => return Err(DataDirError::Io(names.format(), e)),
        };
        let lock = File::options().create(true).truncate(false).write(true).open(names.lock());
        let lock = lock.map_err(io_error(&names.lock()))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::AGAIN) => return Err(DataDirError::InUse(root.to_owned())),
            Err(e) => return Err(DataDirError::Io(names.lock(), e.into())),
        }
        let wanted = [names.incoming_dir()].into_iter().chain((0..SHARDS).map(|s| names.shard_dir(s as u8)));
        for dir in wanted {
            fs::create_dir_all(&dir).map_err(io_error(&dir))?;
        }
        let seed = match known {
            Some(seed) => seed,
            None => write_format(&names).map_err(io_error(&names.format()))?,
        };
        Ok(DataDir { names, seed, _lock: lock })
    }

    /// What its journals' checksums start from.
    pub fn seed(&self) -> u32 {
        self.seed
    }

    /// The names in it.
    pub fn names(&self) -> &Names {
        &self.names
    }
}

/// The seed of a directory of this format.
fn check_format(root: &Path, text: &str) -> Result<u32, DataDirError> {
    let field = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
    let number = |name: &str| field(name).and_then(|v| v.parse::<u32>().ok());
    let seed = field("seed ").filter(|s| s.len() == 8).and_then(|s| u32::from_str_radix(s, 16).ok());
    match (number("basalt-tier "), number("shards "), seed) {
        (Some(v), ..) if v > FORMAT_VERSION => Err(DataDirError::Newer(root.to_owned(), v)),
        (Some(v), ..) if v < FORMAT_VERSION => Err(DataDirError::Older(root.to_owned(), v)),
        (Some(_), Some(shards), Some(seed)) if shards as usize == SHARDS => Ok(seed),
        _ => Err(DataDirError::Strange(root.to_owned(), "FORMAT is damaged: not a basalt tier".into())),
    }
}

/// A directory with other things in it is probably a mistake: nothing is mixed into it. `lost+found` is a mount point's.
fn refuse_foreign(root: &Path) -> Result<(), DataDirError> {
    let entries = fs::read_dir(root).map_err(|e| DataDirError::Io(root.to_owned(), e))?;
    // What an interrupted first start leaves is ours.
    let ours = ["lost+found", "LOCK", "incoming", "objects", "FORMAT.new"];
    for entry in entries {
        let entry = entry.map_err(|e| DataDirError::Io(root.to_owned(), e))?;
        if !ours.iter().any(|name| entry.file_name() == *name) {
            let found = format!("is not empty and not a basalt tier (found {:?})", entry.file_name());
            return Err(DataDirError::Strange(root.to_owned(), found));
        }
    }
    Ok(())
}

fn write_format(names: &Names) -> io::Result<u32> {
    let mut seed = [0; 4];
    rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())?;
    let seed = u32::from_le_bytes(seed);
    let temporary = names.root().join("FORMAT.new");
    let mut file = File::create(&temporary)?;
    write!(file, "basalt-tier {FORMAT_VERSION}\nshards {SHARDS}\nseed {seed:08x}\n")?;
    file.sync_all()?;
    fs::rename(&temporary, names.format())?;
    File::open(names.root().join("objects"))?.sync_all()?;
    File::open(names.root())?.sync_all()?;
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_held_once_and_reopens() {
        let dir = tempfile::tempdir().expect("temp dir");
        let root = dir.path().join("data");
        let first = DataDir::open(&root).expect("fresh");
        assert!(matches!(DataDir::open(&root), Err(DataDirError::InUse(_))));
        drop(first);
        DataDir::open(&root).expect("reopens");
    }

    #[test]
    fn newer_foreign_and_damaged_are_left_untouched() {
        for (file, text, newer) in [
            ("FORMAT", "basalt-tier 7\nshards 256\n", true),
            ("FORMAT", "?", false),
            ("notes.txt", "", false),
        ] {
            let dir = tempfile::tempdir().expect("temp dir");
            fs::write(dir.path().join(file), text).expect("write");
            let refused = DataDir::open(dir.path()).expect_err("refused");
            assert_eq!(matches!(refused, DataDirError::Newer(_, 7)), newer, "{refused}");
            assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 1, "{file} {text:?} was touched");
        }
    }
}
