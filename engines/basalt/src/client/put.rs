//! `put`: stores a file, every regular file of a directory, or standard input.
//!
//! Prints `sha256:<hex>  <path>` per blob once it is on the server's stable storage. A directory is walked
//! depth first in byte order of the paths; memory holds one directory's names per level. Symbolic links
//! below it are not followed, and what is not a regular file is passed over. A file that cannot be read is
//! reported at the end and does not keep the others from being stored; a server that fails ends the walk.

use std::fs::{self, DirEntry, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ureq::SendBody;
use ureq::http::StatusCode;

use super::hashing::HashingReader;
use super::{Blob, Server, checked_digest, progress};
use crate::cli::PutArgs;
use crate::cli::digest::Digest;
use crate::error::Error;
use crate::output;

/// Bodies from here on ask first (`Expect: 100-continue`), so that a full server refuses before the
/// body is sent; smaller ones would only pay a round trip.
const ASK_FIRST_SIZE_BYTES_MIN: u64 = 1 << 20;

/// Runs the verb.
pub fn run(args: &PutArgs) -> Result<(), Error> {
    let server = Server::new(&args.server)?;
    let source = args.source.as_path();
    if source == Path::new("-") {
        let digest = put_stream(&server, source, io::stdin().lock(), None)?;
        return print_stored(&digest, source);
    }
    let metadata = fs::metadata(source).map_err(|error| unreadable(source, error))?;
    if metadata.is_dir() {
        return put_dir(&server, source);
    }
    let digest = put_file(&server, source)?;
    print_stored(&digest, source)
}

fn put_dir(server: &Server, root: &Path) -> Result<(), Error> {
    let mut unread = Vec::new();
    let mut levels = vec![sorted_entries(root)?];
    while let Some(level) = levels.last_mut() {
        let Some(entry) = level.pop() else {
            levels.pop();
            continue;
        };
        let path = entry.path;
        if entry.is_dir {
            match sorted_entries(&path) {
                Ok(entries) => levels.push(entries),
                Err(error) => unread.push(error),
            }
            continue;
        }
        // Opened apart from sending: what cannot be opened is this file's fault and not the server's.
        match File::open(&path) {
            Ok(file) => print_stored(&put_open_file(server, &path, file)?, &path)?,
            Err(error) => unread.push(unreadable(&path, error)),
        }
    }
    Error::all(unread).map_or(Ok(()), Err)
}

struct Entry {
    path: PathBuf,
    is_dir: bool,
}

/// Files and directories in `dir`, last first, so that popping gives the byte order of full paths.
fn sorted_entries(dir: &Path) -> Result<Vec<Entry>, Error> {
    let read = || -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            entries.extend(maybe_entry(&entry?)?);
        }
        Ok(entries)
    };
    let mut entries = read().map_err(|error| unreadable(dir, error))?;
    entries.sort_by_cached_key(|entry| {
        let mut key = entry.path.as_os_str().as_bytes().to_vec();
        key.extend(entry.is_dir.then_some(b'/'));
        std::cmp::Reverse(key)
    });
    Ok(entries)
}

fn maybe_entry(entry: &DirEntry) -> io::Result<Option<Entry>> {
    let file_type = entry.file_type()?; // of the link itself
    let is_wanted = file_type.is_dir() || file_type.is_file();
    Ok(is_wanted.then(|| Entry { path: entry.path(), is_dir: file_type.is_dir() }))
}

fn put_file(server: &Server, path: &Path) -> Result<Digest, Error> {
    let file = File::open(path).map_err(|error| unreadable(path, error))?;
    put_open_file(server, path, file)
}

fn put_open_file(server: &Server, path: &Path, file: File) -> Result<Digest, Error> {
    let metadata = file.metadata().map_err(|error| unreadable(path, error))?;
    // A pipe or a device has no length that could be promised.
    let size_bytes = metadata.is_file().then_some(metadata.len());
    put_stream(server, path, file, size_bytes)
}

fn put_stream(
    server: &Server,
    path: &Path,
    source: impl Read,
    size_bytes: Option<u64>,
) -> Result<Digest, Error> {
    let what = format!("cannot store {}", path.display());
    let bar = progress::bar(size_bytes, &path.to_string_lossy());
    let mut reader = HashingReader::new(source, size_bytes, &bar);
    let mut request = server.agent().put(server.blobs_url());
    if let Some(bytes) = size_bytes {
        request = request.header("content-length", bytes.to_string());
    }
    if size_bytes.is_none_or(|bytes| bytes >= ASK_FIRST_SIZE_BYTES_MIN) {
        request = request.header("expect", "100-continue");
    }
    let answer = request.send(SendBody::from_reader(&mut reader));
    bar.finish_and_clear();
    let response = match (answer, reader.take_failure()) {
        (Ok(response), _) => server.expect(&what, StatusCode::CREATED, response)?,
        (Err(_), Some(why)) => return Err(Error::runtime(what).why(why)),
        (Err(error), None) => return Err(server.no_answer(&what, error)),
    };
    let body = response.into_body().into_reader();
    let stored: Blob = serde_json::from_reader(body.take(super::REFUSAL_SIZE_BYTES_MAX))
        .map_err(|error| Error::runtime(&what).why(format!("the answer is not ours: {error}")))?;
    let stored_digest = checked_digest(&stored.digest)?;
    let (digest, sent_bytes) = reader.finish();
    if stored_digest != digest || stored.size != sent_bytes {
        let why =
            format!("{sent_bytes} bytes of {digest} were sent, {} of {stored_digest} arrived", stored.size);
        return Err(Error::runtime(what).why(why));
    }
    Ok(digest)
}

fn print_stored(digest: &Digest, path: &Path) -> Result<(), Error> {
    let mut line = format!("{digest}  ").into_bytes();
    line.extend(path.as_os_str().as_bytes());
    line.push(b'\n');
    output::print(line)
}

fn unreadable(path: &Path, error: io::Error) -> Error {
    Error::runtime(format!("cannot read {}", path.display())).why(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_in_the_byte_order_of_full_paths() {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["a/x", "a/y"] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("has one")).expect("made");
            fs::write(path, name).expect("written");
        }
        for name in ["a-b", "a.b", "z"] {
            fs::write(dir.path().join(name), name).expect("written");
        }
        std::os::unix::fs::symlink("z", dir.path().join("link")).expect("linked");
        let entries = sorted_entries(dir.path()).expect("read");
        let names: Vec<_> = entries.iter().rev().map(|entry| entry.path.file_name()).collect();
        let expected = ["a-b", "a.b", "a", "z"].map(|name| Some(std::ffi::OsStr::new(name)));
        assert_eq!(names, expected);
    }
}
