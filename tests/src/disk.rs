//! Data directories from outside: where a blob's bytes lie, and whether anything was touched.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::content::Digest;

/// All files below `dir`.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        let entries = fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        for entry in entries {
            let entry = entry.expect("an entry");
            if entry.file_type().expect("its type").is_dir() {
                dirs.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

/// What must not change where nothing may be touched: each file's length, time and content.
pub fn snapshot(dir: &Path) -> BTreeMap<PathBuf, (u64, i64, i64, Digest)> {
    let one = |path: PathBuf| {
        let meta = fs::metadata(&path).expect("metadata");
        let digest = Digest::of(&fs::read(&path).expect("readable"));
        (path, (meta.len(), meta.mtime(), meta.mtime_nsec(), digest))
    };
    files(dir).into_iter().map(one).collect()
}

/// Bytes that the file system has given to files below `dir`.
pub fn used_bytes(dir: &Path) -> u64 {
    let blocks = |path: &PathBuf| fs::metadata(path).map_or(0, |meta| meta.blocks());
    files(dir).iter().map(blocks).sum::<u64>() * 512
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// The offset in it.
    pub offset: u64,
}

impl Place {
    /// Changes the byte here.
    pub fn flip(&self) {
        let file = OpenOptions::new().read(true).write(true).open(&self.path);
        let file = file.expect("writable");
        let mut byte = [0];
        file.read_exact_at(&mut byte, self.offset).expect("a byte");
        file.write_all_at(&[byte[0] ^ 0x10], self.offset).expect("written");
        file.sync_all().expect("synced");
    }

    /// Cuts the file here.
    pub fn cut(&self) {
        let file = OpenOptions::new().write(true).open(&self.path).expect("writable");
        file.set_len(self.offset).expect("cut");
    }
}

/// Every place below `dir` where `needle` (at least 8 bytes) lies. Holes are not read.
pub fn find(dir: &Path, needle: &[u8]) -> Vec<Place> {
    let mut places = Vec::new();
    for path in files(dir) {
        let Ok(file) = File::open(&path) else {
            continue;
        };
        let size = file.metadata().map_or(0, |meta| meta.len());
        let mut buffer = vec![0; (4 << 20) + needle.len() - 1];
        let mut at = 0;
        while at < size {
            let read = read_up_to(&file, &mut buffer, at);
            for found in find_in(&buffer[..read], needle) {
                places.push(Place { path: path.clone(), offset: at + found as u64 });
            }
            at += 4 << 20;
        }
    }
    places
}

fn read_up_to(file: &File, buffer: &mut [u8], at: u64) -> usize {
    let mut read = 0;
    while read < buffer.len() {
        match file.read_at(&mut buffer[read..], at + read as u64) {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(error) => panic!("reading a data file: {error}"),
        }
    }
    read
}

fn find_in(hay: &[u8], needle: &[u8]) -> Vec<usize> {
    let first = u64::from_le_bytes(needle[..8].try_into().expect("at least 8 bytes"));
    let word = |w: &[u8]| u64::from_le_bytes(w.try_into().expect("8 bytes"));
    let starts = hay.windows(8).enumerate().filter(|(_, w)| word(w) == first);
    starts.map(|(at, _)| at).filter(|&at| hay[at..].starts_with(needle)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_found_and_flipped_once() {
        let dir = crate::node::fresh_dir();
        let path = dir.path().join("file");
        let content = crate::content::bytes(3, (4 << 20) + 100);
        fs::write(&path, &content).expect("written");
        let offset = (4 << 20) - 8;
        let places = find(dir.path(), &content[offset..offset + 64]);
        let place = Place { path, offset: offset as u64 };
        assert_eq!(places, std::slice::from_ref(&place));
        let before = snapshot(dir.path());
        place.flip();
        assert_ne!(snapshot(dir.path()), before);
        assert!(find(dir.path(), &content[offset..offset + 64]).is_empty());
    }
}
