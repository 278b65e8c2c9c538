//! Taking possession of a data directory: version, lock, the fixed directories. Called once by the node, on one column, before
//! the others start. A directory that is in use, unreadable, damaged or of another format is left untouched.
//!
//! Under another seed than its own nothing in a directory's journals would hold: all of it would be taken for what was never
//! acknowledged, and removed. So FORMAT has a checksum, and one that is not as this build or version 1 wrote it, to the byte, is
//! refused. No single bit makes a FORMAT of version 2 one of version 1, which has no checksum; that its seed is right is
//! left to recovery, which holds it against the journals.

use super::names::{DEVICE_FILE, FORMAT_VERSION, Names};
use super::text_file::{read_text, sum_of, write_text};
use crate::io::Io;
use crate::shards::SHARDS;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// The last line of FORMAT.
const SUM: &str = "crc32c ";
/// The version whose FORMAT has none.
const VERSION_UNSUMMED: u32 = 1;
const DAMAGED: &str =
    "FORMAT is damaged, or not of a basalt tier: restore it from a copy; nothing was changed";

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
    #[error("data directory {path} has format {1} by its FORMAT, this build knows up to {FORMAT_VERSION}: run the newer build", path = .0.display())]
    Newer(PathBuf, u32),
    /// Not ours, or damaged.
    #[error("data directory {path}: {1}", path = .0.display())]
    Strange(PathBuf, String),
    /// A directory that belongs to the others is not there.
    #[error(
        "{file} names a data directory that is not there (seed {seed:08x}, last at {path}): is its disk mounted and given with \
         --data-dir? To give up what is on it, delete its line from the DISKS file of every other",
        file = .named_by.display()
    )]
    Missing {
        /// The file that names it.
        named_by: PathBuf,
        /// Its seed.
        seed: u32,
        /// Where it was last.
        path: String,
    },
    /// Two directories are one and the same, copied.
    #[error("data directory {a} is a copy of {b}: give one of them", a = .0.display(), b = .1.display())]
    Copy(PathBuf, PathBuf),
}

/// What keeps others out of a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// flock(2) of its LOCK file. Taking it looks at the real file system and may wait for it.
    Flock,
    /// Nothing: no other process can reach it, since it is simulated.
    Alone,
}

/// A data directory of a known format, held.
#[derive(Debug)]
pub struct DataDir {
    names: Names,
    seed: u32,
    _lock: Option<File>,
}

impl DataDir {
    /// Opens or creates `root`.
    pub async fn open<I: Io>(io: &I, root: &Path, guard: Guard) -> Result<DataDir, DataDirError> {
        let names = Names::new(root);
        let known = seed_of(io, root).await?;
        let lock = match guard {
            Guard::Flock => Some(take_lock(&names, known.is_none())?),
            Guard::Alone => None,
        };
        let fixed = [names.root().to_owned(), names.incoming_dir(), names.objects_dir()].into_iter();
        for dir in fixed.chain((0..SHARDS).map(|s| names.shard_dir(s as u8))) {
            io.make_dir(&dir).await.map_err(|e| DataDirError::Io(dir, e))?;
        }
        let seed = match known {
            Some(seed) => seed,
            None => write_format(io, &names).await.map_err(|e| DataDirError::Io(names.format(), e))?,
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

/// The seed of a directory of this format; `None`: there is none (yet).
pub(super) async fn seed_of<I: Io>(io: &I, root: &Path) -> Result<Option<u32>, DataDirError> {
    let format = Names::new(root).format();
    match read_text(io, &format).await {
        Ok(text) => read_format_text(root, &text).map(Some),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(DataDirError::Io(format, e)),
    }
}

fn take_lock(names: &Names, is_new: bool) -> Result<File, DataDirError> {
    let root = names.root();
    fs::create_dir_all(root).map_err(|e| DataDirError::Io(root.to_owned(), e))?;
    if is_new {
        refuse_foreign(root)?;
    }
    let lock = File::options().create(true).truncate(false).write(true).open(names.lock());
    let lock = lock.map_err(|e| DataDirError::Io(names.lock(), e))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::AGAIN) => Err(DataDirError::InUse(root.to_owned())),
        Err(e) => Err(DataDirError::Io(names.lock(), e.into())),
    }
}

/// What FORMAT says of a directory with this seed.
pub fn format_text(seed: u32) -> String {
    let said = said_of(FORMAT_VERSION, seed);
    format!("{said}{SUM}{}\n", sum_of(&said))
}

/// What it says, apart from the checksum.
fn said_of(version: u32, seed: u32) -> String {
    format!("basalt-tier {version}\nshards {SHARDS}\nseed {seed:08x}\n")
}

/// The seed of a directory of this format, whose FORMAT is `text`.
pub fn read_format_text(root: &Path, text: &str) -> Result<u32, DataDirError> {
    let field = |name: &str| text.lines().find_map(|l| l.strip_prefix(name));
    let seed = field("seed ").and_then(|s| u32::from_str_radix(s, 16).ok());
    match (field("basalt-tier ").and_then(|v| v.parse::<u32>().ok()), seed) {
        (Some(v), _) if v > FORMAT_VERSION => Err(DataDirError::Newer(root.to_owned(), v)),
        // Those had no checksum.
        (Some(v), _) if v < VERSION_UNSUMMED && !text.contains(SUM) => {
            Err(DataDirError::Older(root.to_owned(), v))
        }
        (_, Some(seed)) if text == format_text(seed) || text == said_of(VERSION_UNSUMMED, seed) => Ok(seed),
        _ => Err(DataDirError::Strange(root.to_owned(), DAMAGED.into())),
    }
}

/// A directory with other things in it is probably a mistake: nothing is mixed into it. `lost+found` is a mount point's.
fn refuse_foreign(root: &Path) -> Result<(), DataDirError> {
    let entries = fs::read_dir(root).map_err(|e| DataDirError::Io(root.to_owned(), e))?;
    // What an interrupted first start leaves is ours, and so are the figures of a device that was measured before.
    let ours = ["lost+found", "LOCK", "incoming", "objects", "FORMAT.new", DEVICE_FILE];
    for entry in entries {
        let entry = entry.map_err(|e| DataDirError::Io(root.to_owned(), e))?;
        if !ours.iter().any(|name| entry.file_name() == *name) {
            let found = format!("is not empty and not a basalt tier (found {:?})", entry.file_name());
            return Err(DataDirError::Strange(root.to_owned(), found));
        }
    }
    Ok(())
}

async fn write_format<I: Io>(io: &I, names: &Names) -> io::Result<u32> {
    let seed = io.random() as u32;
    // The directories before the file that says they are there.
    io.sync_dir(&names.objects_dir()).await?;
    write_text(io, &names.format(), &format_text(seed)).await?;
    // Its own name, too, where its parent lets itself be looked at.
    let parent = names.root().parent().unwrap_or(Path::new("/"));
    let parent = if parent == Path::new("") { Path::new(".") } else { parent };
    match io.sync_dir(parent).await {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(seed),
        synced => synced.map(|()| seed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: u32 = 0x9f2c_33d1;

    /// What was written once is read for ever: these files are never written anew.
    #[test]
    fn golden_formats_are_read() {
        let (old, now) = (
            include_str!("../../tests/golden/format-1.txt"),
            include_str!("../../tests/golden/format-2.txt"),
        );
        assert_eq!(format_text(SEED), now, "this build writes version {FORMAT_VERSION} differently");
        for golden in [old, now] {
            assert_eq!(read_format_text(Path::new("/d"), golden).ok(), Some(SEED), "{golden:?}");
        }
    }

    #[test]
    fn what_no_build_wrote_is_refused() {
        let now = format_text(SEED);
        let strange = [
            now.replace("9f2c33d1", "8f2c33d1"),
            now.replace("9f2c33d1", "9F2C33D1"),
            said_of(FORMAT_VERSION, SEED),
            now.replace("tier 2", "tier 1"),
            now.replace("tier 2", "tier 0"),
            now.replace("shards 256", "shards 257"),
            now.trim_end().to_owned(),
            format!("{now} "),
            String::new(),
        ];
        for text in strange {
            let refused = read_format_text(Path::new("/d"), &text);
            assert!(matches!(refused, Err(DataDirError::Strange(..))), "{text:?}: {refused:?}");
        }
        let older = read_format_text(Path::new("/d"), &said_of(0, SEED));
        assert!(matches!(older, Err(DataDirError::Older(_, 0))), "{older:?}");
    }
}
