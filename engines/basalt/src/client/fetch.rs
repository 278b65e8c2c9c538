//! `fetch`: makes the server pull a blob from a URL, and prints it as `put` does. The bytes do not pass through here.

use std::io::Read;
use std::time::Duration;

use ureq::http::StatusCode;

use super::{Blob, REFUSAL_SIZE_BYTES_MAX, Server, checked_digest, progress};
use crate::cli::FetchArgs;
use crate::error::Error;
use crate::output;

/// The answer comes when the blob is stored; the server bounds each of its own waits.
const FETCH_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
/// The line on the terminal lives, though nothing is known of what has arrived.
const TICK: Duration = Duration::from_millis(200);

/// Runs the verb.
pub fn run(args: &FetchArgs) -> Result<(), Error> {
    let server = Server::new(&args.server)?;
    let what = format!("cannot fetch {}", args.url);
    let mut asked = serde_json::json!({ "url": args.url });
    if let Some(digest) = &args.digest {
        asked["digest"] = digest.to_string().into();
    }
    let bar = progress::waiting(&args.url);
    bar.enable_steady_tick(TICK);
    let request = server.agent().post(server.fetch_url()).header("content-type", "application/json");
    let request = request.config().timeout_recv_response(Some(FETCH_TIMEOUT)).build();
    let answer = request.send(asked.to_string());
    bar.finish_and_clear();
    let response = answer.map_err(|error| server.no_answer(&what, error))?;
    let response = server.expect(&what, StatusCode::CREATED, response)?;
    let body = response.into_body().into_reader();
    let stored: Blob = serde_json::from_reader(body.take(REFUSAL_SIZE_BYTES_MAX))
        .map_err(|error| Error::runtime(&what).why(format!("the answer is not ours: {error}")))?;
    let digest = checked_digest(&stored.digest)?;
    if args.digest.as_ref().is_some_and(|wanted| *wanted != digest) {
        return Err(Error::runtime(what).why(format!("the server stored {digest}")));
    }
    output::print(format!("{digest}  {}\n", args.url))
}
