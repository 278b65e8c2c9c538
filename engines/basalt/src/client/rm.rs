//! `rm`: deletes blobs; each is tried, and those that could not be deleted are told together.

use ureq::http::StatusCode;

use super::Server;
use crate::cli::RmArgs;
use crate::cli::digest::Digest;
use crate::error::Error;

/// Runs the verb.
pub fn run(args: &RmArgs) -> Result<(), Error> {
    let server = Server::new(&args.server)?;
    let mut failures = Vec::new();
    for digest in &args.digests {
        match remove(&server, digest) {
            Ok(()) => (),
            Err(Failure::Blob(error)) => failures.push(error),
            Err(Failure::Server(error)) => {
                failures.push(error);
                break;
            }
        }
    }
    Error::all(failures).map_or(Ok(()), Err)
}

/// Whether the next blob is worth trying.
enum Failure {
    Blob(Error),
    Server(Error),
}

fn remove(server: &Server, digest: &Digest) -> Result<(), Failure> {
    let what = format!("cannot delete {digest}");
    let answer = server.agent().delete(server.blob_url(digest)).call();
    let response = answer.map_err(|error| Failure::Server(server.no_answer(&what, error)))?;
    if response.status() == StatusCode::NOT_FOUND {
        return Err(Failure::Blob(Error::runtime(what).why("the server has no such blob")));
    }
    server.expect(&what, StatusCode::NO_CONTENT, response).map_err(Failure::Blob)?;
    Ok(())
}
