//! `get`: fetches a blob and verifies it while it passes.
//!
//! Into a file, the blob appears under its name only when it is whole and right: it is written beside it
//! and renamed. Into standard output the bytes are already gone when a mismatch shows; the exit code says so.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use ureq::http::StatusCode;

use super::hashing::HashingReader;
use super::{Server, progress};
use crate::cli::GetArgs;
use crate::cli::digest::Digest;
use crate::error::Error;

/// Bytes moved at once: enough that system calls do not count, little enough to stay in a cache.
const COPY_SIZE_BYTES: usize = 256 << 10;

/// Runs the verb.
pub fn run(args: &GetArgs) -> Result<(), Error> {
    let server = Server::new(&args.server)?;
    match &args.output {
        None => {
            let mut stdout = io::stdout().lock();
            fetch(&server, &args.digest, &mut stdout, |error| Error::output(&error))
        }
        Some(path) => fetch_into(&server, &args.digest, path),
    }
}

fn fetch_into(server: &Server, digest: &Digest, path: &Path) -> Result<(), Error> {
    // Behind a symbolic link the file is replaced, not the link.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let failed = |error: io::Error| Error::runtime(format!("cannot write {}", path.display())).why(error);
    if target.exists() && !target.is_file() {
        // A pipe or a device is written to, not replaced.
        let mut file = File::options().write(true).open(&target).map_err(failed)?;
        return fetch(server, digest, &mut file, failed);
    }
    let partial = partial_path(&target).ok_or_else(|| failed(io::ErrorKind::IsADirectory.into()))?;
    let mut file = File::create_new(&partial).map_err(failed)?;
    let outcome =
        fetch(server, digest, &mut file, failed).and_then(|()| fs::rename(&partial, &target).map_err(failed));
    if outcome.is_err() {
        fs::remove_file(&partial).ok(); // the error that matters is the first
    }
    outcome
}

/// `.NAME.basalt-PID` beside the target, hence on its file system.
fn partial_path(target: &Path) -> Option<PathBuf> {
    let mut name = OsString::from(".");
    name.push(target.file_name()?);
    name.push(format!(".basalt-{}", std::process::id()));
    Some(target.with_file_name(name))
}

fn fetch(
    server: &Server,
    digest: &Digest,
    sink: &mut dyn Write,
    sink_failed: impl Fn(io::Error) -> Error,
) -> Result<(), Error> {
    let what = format!("cannot fetch {digest}");
    let answer = server.agent().get(server.blob_url(digest)).call();
    let response = answer.map_err(|error| server.no_answer(&what, error))?;
    let response = server.expect(&what, StatusCode::OK, response)?;
    let size_bytes = response.body().content_length();
    let bar = progress::bar(size_bytes, &digest.to_string());
    let body = response.into_body().into_reader();
    let mut reader = HashingReader::new(body, size_bytes, &bar);
    let mut buffer = vec![0; COPY_SIZE_BYTES];
    loop {
        let read = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                bar.finish_and_clear();
                return Err(Error::runtime(what).why(format!("the answer broke off: {error}")));
            }
        };
        sink.write_all(&buffer[..read]).map_err(&sink_failed)?;
    }
    sink.flush().map_err(&sink_failed)?;
    bar.finish_and_clear();
    let (arrived, _) = reader.finish();
    if arrived != *digest {
        let why = format!("what arrived is {arrived}: the bytes are damaged, do not use them");
        return Err(Error::runtime(what).why(why));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partial_file_lies_beside_the_target() {
        let partial = partial_path(Path::new("/a/b.bin")).expect("a name");
        assert_eq!(partial.parent(), Some(Path::new("/a")));
        assert!(partial.to_string_lossy().starts_with("/a/.b.bin.basalt-"));
        assert_eq!(partial_path(Path::new("/")), None);
    }
}
