//! The verbs that talk to a server, ours or another that speaks the same blob HTTP.
//!
//! Blocking HTTP/1.1, plain or over TLS (`trust`). Bodies stream; what is held in memory does not grow with a blob. Every
//! blob is hashed here as well, on its way out and in, so a wrong byte anywhere is an error.

use std::io::{self, Read};
use std::time::Duration;

use serde::Deserialize;
use ureq::http::header::{AUTHORIZATION, HeaderValue};
use ureq::http::{Request, Response, StatusCode, Uri};
use ureq::middleware::{Middleware, MiddlewareNext};
use ureq::{Agent, Body, SendBody};

use crate::cli::digest::Digest;
use crate::cli::{DEFAULT_SERVER, ServerArg};
use crate::error::Error;

pub mod fetch;
pub mod get;
pub mod hashing;
pub mod ls;
pub mod progress;
pub mod put;
pub mod rm;
mod trust;

/// A server that does not take a connection in this time is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The answer to a stored blob waits for the disk, never this long.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(120);

/// An explanation longer than this is cut.
const REFUSAL_SIZE_BYTES_MAX: u64 = 4096;

/// A blob as the server lists it.
#[derive(Debug, Deserialize)]
pub struct Blob {
    /// Its digest, not yet checked.
    pub digest: String,
    /// Its length in bytes.
    pub size: u64,
}

/// The server a verb talks to.
pub struct Server {
    url: String,
    agent: Agent,
}

impl Server {
    /// Reads the URL; connects to nothing yet.
    pub fn new(arg: &ServerArg) -> Result<Self, Error> {
        // An empty variable is an unset one, as in the daemon's configuration.
        let url = match arg.server.trim_end_matches('/') {
            "" => DEFAULT_SERVER.to_owned(),
            url => url.to_owned(),
        };
        let wrong = |why: &str| {
            Error::usage(format!("--server {url}")).why(why).fix("--server http://127.0.0.1:9000")
        };
        let uri: Uri = url.parse().map_err(|_| wrong("not a URL"))?;
        let tls = match uri.scheme_str() {
            Some("http") => None,
            Some("https") => Some(trust::config(arg)?),
            _ => return Err(wrong("a URL starts with http:// or https://")),
        };
        let token = arg.token.as_deref().filter(|token| !token.is_empty()).map(authorization).transpose()?;
        let agent = Agent::config_builder()
            .tls_config(tls.unwrap_or_default())
            .middleware(Authorize(token))
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .user_agent(concat!("basalt/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(RESPONSE_TIMEOUT))
            .build();
        Ok(Self { url, agent: agent.new_agent() })
    }

    /// What requests are made with.
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// The URL of all blobs.
    pub fn blobs_url(&self) -> String {
        format!("{}/blobs", self.url)
    }

    /// The URL that takes orders to fetch.
    pub fn fetch_url(&self) -> String {
        format!("{}/blobs/fetch", self.url)
    }

    /// The URL of one blob.
    pub fn blob_url(&self, digest: &Digest) -> String {
        format!("{}/blobs/{digest}", self.url)
    }

    /// A request that got no answer.
    pub fn no_answer(&self, what: &str, error: ureq::Error) -> Error {
        let is_absent = match &error {
            ureq::Error::Io(error) => error.kind() == io::ErrorKind::ConnectionRefused,
            ureq::Error::Timeout(ureq::Timeout::Connect)
            | ureq::Error::ConnectionFailed
            | ureq::Error::HostNotFound => true,
            _ => false,
        };
        let why = error_in_words(&error);
        if is_absent {
            return Error::runtime(format!("{what}: no server at {}", self.url))
                .why(why)
                .fix("start one with `basalt serve`, or name another with --server");
        }
        Error::runtime(format!("{what}: {} did not answer", self.url)).why(why)
    }

    /// The answer if it has the status that says done; else the server's words for why not.
    pub fn expect(
        &self,
        what: &str,
        status: StatusCode,
        response: Response<Body>,
    ) -> Result<Response<Body>, Error> {
        if response.status() == status {
            return Ok(response);
        }
        let refused = response.status();
        let mut body = Vec::new();
        let reader = response.into_body().into_reader();
        // What cannot be read of an explanation is left out; the status stands by itself.
        reader.take(REFUSAL_SIZE_BYTES_MAX).read_to_end(&mut body).ok();
        let error = Error::runtime(format!("{what}: {} answered {refused}", self.url));
        let error = match explanation(&body) {
            words if words.is_empty() => error,
            words => error.why(words),
        };
        Err(match refused {
            StatusCode::UNAUTHORIZED => error.fix("name the server's token with --token or BASALT_TOKEN"),
            StatusCode::INSUFFICIENT_STORAGE => {
                error.fix("free space with `basalt rm`, or raise --disk-quota of the server")
            }
            _ => error,
        })
    }
}

/// Puts the token into every request.
struct Authorize(Option<HeaderValue>);

impl Middleware for Authorize {
    fn handle(
        &self,
        mut request: Request<SendBody<'_>>,
        next: MiddlewareNext<'_>,
    ) -> Result<Response<Body>, ureq::Error> {
        if let Some(token) = &self.0 {
            request.headers_mut().insert(AUTHORIZATION, token.clone());
        }
        next.handle(request)
    }
}

fn authorization(token: &str) -> Result<HeaderValue, Error> {
    let value = HeaderValue::try_from(format!("Bearer {token}"));
    let mut value =
        value.map_err(|_| Error::usage("--token").why("a token is printable and has no line end"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A server that refuses in the middle of a body closes, and its answer is lost with the connection.
fn error_in_words(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error)
            if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) =>
        {
            format!("it closed the connection ({error}); its log may say why")
        }
        ureq::Error::Io(error) => error.to_string(),
        error => error.to_string(),
    }
}

/// The words of a refusal: `message` or `error` of a JSON object, else the text in one line.
fn explanation(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        error: Option<String>,
        message: Option<String>,
    }
    let words = match serde_json::from_slice(body) {
        Ok(Refusal { message: Some(words), .. } | Refusal { error: Some(words), .. }) => words,
        _ => String::from_utf8_lossy(body).into_owned(),
    };
    let printable = words.chars().map(|c| if c.is_control() { ' ' } else { c });
    printable.collect::<String>().trim().to_owned()
}

/// A digest as a server spelled it; what else it may have sent never reaches the terminal.
fn checked_digest(text: &str) -> Result<Digest, Error> {
    Digest::parse(text).map_err(|_| Error::runtime("the server named a blob by what is not a digest"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_the_servers_words() {
        assert_eq!(explanation(br#"{"error":"full","message":"disk is full"}"#), "disk is full");
        assert_eq!(explanation(br#"{"error":"full"}"#), "full");
        assert_eq!(explanation(b"not found\n"), "not found");
        assert_eq!(explanation(b"\x1b[31mred\n"), "[31mred");
        assert_eq!(explanation(b""), "");
    }

    #[test]
    fn a_server_is_named_by_its_url() {
        let new = |url: &str| Server::new(&ServerArg { server: url.to_owned(), ..ServerArg::default() });
        assert_eq!(new("http://h:1/").expect("valid").blobs_url(), "http://h:1/blobs");
        assert_eq!(new("").expect("unset").url, DEFAULT_SERVER);
        assert_eq!(new("https://h:1").expect("valid").blobs_url(), "https://h:1/blobs");
        for url in ["h:1", "127.0.0.1:9000", "ftp://h"] {
            assert_eq!(new(url).map(|_| ()).expect_err(url).exit_code(), 2);
        }
    }

    #[test]
    fn an_absent_server_is_named_with_what_to_do() {
        let arg = ServerArg { server: "http://127.0.0.1:1".to_owned(), ..ServerArg::default() };
        let server = Server::new(&arg).expect("valid");
        let refused = ureq::Error::Io(io::ErrorKind::ConnectionRefused.into());
        let text = server.no_answer("cannot list", refused).to_string();
        assert!(text.contains("no server at http://127.0.0.1:1"), "{text}");
        assert!(text.contains("basalt serve"), "{text}");
    }
}
