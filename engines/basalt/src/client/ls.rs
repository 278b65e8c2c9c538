//! `ls`: every blob of the server in the order of digests, page by page.

use std::io::{self, BufWriter, Read, Write};

use serde::Deserialize;
use ureq::http::StatusCode;

use super::{Blob, Server, checked_digest};
use crate::cli::LsArgs;
use crate::error::Error;
use crate::output::OutputFormat;

/// The most blobs a page may have (blob HTTP interface, `limit`).
const PAGE_BLOBS_MAX: usize = 1000;

/// A page is some 100 bytes a blob; ten times that is not a page.
const PAGE_SIZE_BYTES_MAX: u64 = 1 << 20;

#[derive(Deserialize)]
struct Page {
    blobs: Vec<Blob>,
    next: Option<String>,
}

/// Runs the verb.
pub fn run(args: &LsArgs) -> Result<(), Error> {
    let server = Server::new(&args.server)?;
    let mut out = Listing::new(args.output, BufWriter::new(io::stdout().lock()));
    let mut after: Option<String> = None;
    loop {
        let page = fetch_page(&server, after.as_deref())?;
        for blob in &page.blobs {
            let digest = checked_digest(&blob.digest)?.to_string();
            out.push(&digest, blob.size).map_err(|error| Error::output(&error))?;
        }
        let Some(next) = page.next else { break };
        let next = checked_digest(&next)?.to_string();
        if after.as_ref().is_some_and(|after| *after >= next) {
            return Err(Error::runtime("cannot list blobs").why("the server's pages go in a circle"));
        }
        after = Some(next);
    }
    out.finish().map_err(|error| Error::output(&error))
}

fn fetch_page(server: &Server, after: Option<&str>) -> Result<Page, Error> {
    let what = "cannot list blobs";
    let limit = PAGE_BLOBS_MAX.to_string();
    let mut request = server.agent().get(server.blobs_url()).query("limit", limit);
    if let Some(after) = after {
        // A colon stands for itself in a query (RFC 3986, 3.4).
        request = request.query_raw("after", after);
    }
    let response = request.call().map_err(|error| server.no_answer(what, error))?;
    let response = server.expect(what, StatusCode::OK, response)?;
    let body = response.into_body().into_reader();
    serde_json::from_reader(body.take(PAGE_SIZE_BYTES_MAX))
        .map_err(|error| Error::runtime(what).why(format!("the answer is not ours: {error}")))
}

/// Blobs as lines, or as the elements of one JSON array. Digests are checked before they come here,
/// so nothing needs escaping.
struct Listing<W: Write> {
    format: OutputFormat,
    out: W,
    separator: &'static str,
}

impl<W: Write> Listing<W> {
    fn new(format: OutputFormat, out: W) -> Self {
        Self { format, out, separator: "[\n" }
    }

    fn push(&mut self, digest: &str, size_bytes: u64) -> io::Result<()> {
        match self.format {
            OutputFormat::Table => writeln!(self.out, "{digest}  {size_bytes}"),
            OutputFormat::Json => {
                let separator = std::mem::replace(&mut self.separator, ",\n");
                write!(self.out, "{separator}{{\"digest\":\"{digest}\",\"size\":{size_bytes}}}")
            }
        }
    }

    fn finish(mut self) -> io::Result<()> {
        if self.format == OutputFormat::Json {
            let end = if self.separator == "[\n" { "[]\n" } else { "\n]\n" };
            self.out.write_all(end.as_bytes())?;
        }
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(format: OutputFormat, blobs: &[(&str, u64)]) -> String {
        let mut bytes = Vec::new();
        let mut listing = Listing::new(format, &mut bytes);
        for (digest, size_bytes) in blobs {
            listing.push(digest, *size_bytes).expect("memory takes all");
        }
        listing.finish().expect("memory takes all");
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn a_listing_is_lines_or_one_json_document() {
        let blobs = [("sha256:aa", 1), ("sha256:bb", 2)];
        assert_eq!(listed(OutputFormat::Table, &blobs), "sha256:aa  1\nsha256:bb  2\n");
        let json: Vec<Blob> = serde_json::from_str(&listed(OutputFormat::Json, &blobs)).expect("JSON");
        assert_eq!((json.len(), json[1].digest.as_str(), json[1].size), (2, "sha256:bb", 2));
        assert_eq!(listed(OutputFormat::Json, &[]), "[]\n");
    }
}
