//! The request head: from bytes to method, target, framing and fields (RFC 9112 §2, §3, §5).
//!
//! Called by the connection driver whenever bytes arrive at the start of a message. httparse does the scanning; this
//! file adds what it lets pass (bare LF, several leading empty lines) and the rules between fields.
//!
//! Invariants:
//! 1. No allocation; one pass over the fields.
//! 2. `Complete` depends only on the bytes of the head, never on what follows it in the buffer.
//! 3. In a complete head every line ends in CRLF, no CR, LF, NUL or other control is left in a name or value.

use std::fmt;
use std::mem::MaybeUninit;

use httparse::Status::{Complete, Partial};

use super::framing::{BodyLength, Framing};
use super::grammar::is_ows;
use super::limits::{HEAD_BYTES_MAX, HEADERS_MAX, TARGET_BYTES_MAX};
use super::response::Status;
use super::target::split_target;

/// Field positions are `u16`.
const _: () = assert!(HEAD_BYTES_MAX <= u16::MAX as usize);

/// Length of `HTTP/1.1`.
const VERSION_BYTES: usize = 8;

/// What `parse_head` found at the start of a buffer.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a head lives on the stack; a box would be the only allocation"
)]
pub enum Parsed<'b> {
    /// All bytes so far may become a request; more are needed.
    Partial,
    /// A whole head; the body starts at `len_bytes`.
    Complete(Head<'b>),
}

/// Why a head was refused. All are the client's fault; the connection closes after the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// 400: method, spaces or version of the request line.
    #[error("malformed request line")]
    RequestLine,
    /// 400: neither origin-form nor absolute-form of http(s), or a character that is not allowed.
    #[error("malformed request target")]
    Target,
    /// 400: a line does not end in CRLF, or empty lines precede the request line.
    #[error("line does not end in CRLF")]
    LineEnd,
    /// 400: field name or value, space before the colon, a folded line.
    #[error("malformed header field")]
    Field,
    /// 400: Host missing, repeated or not a host.
    #[error("Host missing, repeated or invalid")]
    Host,
    /// 400: Content-Length repeated or not a number.
    #[error("Content-Length repeated or invalid")]
    ContentLength,
    /// 400: Transfer-Encoding beside Content-Length, in HTTP/1.0, or with chunked not once and last.
    #[error("Transfer-Encoding contradicts itself, Content-Length or the version")]
    TransferEncoding,
    /// 414
    #[error("request target longer than {TARGET_BYTES_MAX} bytes")]
    TargetTooLong,
    /// 417
    #[error("unknown expectation")]
    Expectation,
    /// 431
    #[error("request head longer than {HEAD_BYTES_MAX} bytes")]
    HeadTooLarge,
    /// 431
    #[error("more than {HEADERS_MAX} header fields")]
    TooManyFields,
    /// 501: a transfer coding other than chunked.
    #[error("unknown transfer coding")]
    TransferCoding,
    /// 505: well-formed, but neither HTTP/1.0 nor HTTP/1.1.
    #[error("HTTP version not supported")]
    Version,
}

impl HeadError {
    /// The status to answer with.
    #[must_use]
    pub fn status(self) -> Status {
        match self {
            Self::RequestLine | Self::Target | Self::LineEnd | Self::Field => Status::BadRequest,
            Self::Host | Self::ContentLength | Self::TransferEncoding => Status::BadRequest,
            Self::TargetTooLong => Status::UriTooLong,
            Self::Expectation => Status::ExpectationFailed,
            Self::HeadTooLarge | Self::TooManyFields => Status::HeaderFieldsTooLarge,
            Self::TransferCoding => Status::NotImplemented,
            Self::Version => Status::VersionNotSupported,
        }
    }
}

/// The methods some engine serves. Methods are case-sensitive (RFC 9110 §9.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are the names of RFC 9110 §9.3")]
pub enum Method {
    Get,
    Head,
    Put,
    Post,
    Delete,
    Options,
    /// Not in the RFC: what caches are told to forget things by.
    Purge,
    /// Any other token; the engine answers 405 or 501.
    Other,
}

impl Method {
    pub(super) fn from_token(token: &str) -> Self {
        match token {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "PUT" => Self::Put,
            "POST" => Self::Post,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            "PURGE" => Self::Purge,
            _ => Self::Other,
        }
    }
}

/// Where a field line stands, from the request line's first byte.
#[derive(Clone, Copy, Default)]
struct FieldAt {
    name: u16,
    name_len: u16,
    value: u16,
    value_len: u16,
}

/// A request head. Borrows the buffer it was parsed from.
#[derive(Clone)]
pub struct Head<'b> {
    /// The method.
    pub method: Method,
    /// The method as received; for those who pass it on.
    pub method_name: &'b str,
    /// The request target as received; for logs. Route by `path`.
    pub target: &'b str,
    /// Absolute path, not decoded. Starts with `/`.
    pub path: &'b str,
    /// What follows `?`, not decoded; see `query::pairs`.
    pub query: Option<&'b str>,
    /// Host and port: of an absolute-form target, else of the Host field (RFC 9112 §3.2.2), else empty.
    pub authority: &'b str,
    /// 0 or 1.
    pub minor_version: u8,
    /// Length of the head with its final empty line and a tolerated leading one: the body starts here.
    pub len_bytes: usize,
    /// How the body is framed.
    pub body: BodyLength,
    /// Whether the client wants the connection to persist.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body. Never set when there is no body.
    pub expect_continue: bool,
    bytes: &'b [u8],
    fields: [FieldAt; HEADERS_MAX],
    fields_len: usize,
}

impl<'b> Head<'b> {
    /// Value of the first field line of that name, in any case, without surrounding whitespace.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'b [u8]> {
        let is_wanted = |field: &&FieldAt| {
            usize::from(field.name_len) == name.len()
                && self.slice(field.name, field.name_len).eq_ignore_ascii_case(name.as_bytes())
        };
        let field = self.fields[..self.fields_len].iter().find(is_wanted)?;
        Some(self.slice(field.value, field.value_len))
    }

    /// All field lines in the order received: name as sent, value without surrounding whitespace.
    pub fn headers(&self) -> impl Iterator<Item = (&'b [u8], &'b [u8])> + '_ {
        let fields = &self.fields[..self.fields_len];
        fields
            .iter()
            .map(|field| (self.slice(field.name, field.name_len), self.slice(field.value, field.value_len)))
    }

    fn slice(&self, at: u16, len: u16) -> &'b [u8] {
        &self.bytes[usize::from(at)..usize::from(at) + usize::from(len)]
    }
}

impl fmt::Debug for Head<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Head");
        out.field("method", &self.method)
            .field("target", &self.target)
            .field("minor_version", &self.minor_version);
        out.field("len_bytes", &self.len_bytes)
            .field("body", &self.body)
            .field("keep_alive", &self.keep_alive);
        out.field("fields", &self.fields_len).finish_non_exhaustive()
    }
}

/// Parses the head at the start of `buf`, which may hold less than a head or more than one.
pub fn parse_head(buf: &[u8]) -> Result<Parsed<'_>, HeadError> {
    // A head that ends beyond the window is too large, so nothing beyond it need be looked at.
    let window = &buf[..buf.len().min(HEAD_BYTES_MAX)];
    let Some(start) = skip_empty_line(window)? else {
        return Ok(Parsed::Partial);
    };
    let bytes = &window[start..];
    let mut storage = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, &mut storage) {
        Ok(Complete(len)) => complete(&bytes[..len], start, &request).map(Parsed::Complete),
        Ok(Partial) => partial(bytes.len(), window.len(), &request),
        Err(error) => refusal(bytes, &request, error),
    }
}

/// Whether `buf` is worth another `parse_head` after one said `Partial` when `scanned_bytes` of it were there.
///
/// A client that sends its head byte by byte would otherwise make us parse it once per byte: this looks only at the
/// new bytes for the empty line that ends a head, well-formed or not.
#[must_use]
pub fn head_may_end(buf: &[u8], scanned_bytes: usize) -> bool {
    // The end is at most "\n\r\n": its first byte may be two before the new ones.
    let new = buf.get(scanned_bytes.saturating_sub(2)..).unwrap_or_default();
    let ends_at = |rest: &[u8]| rest.starts_with(b"\n\n") || rest.starts_with(b"\n\r\n");
    let line_ends = new.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    buf.len() >= HEAD_BYTES_MAX || line_ends.into_iter().any(|(at, _)| ends_at(&new[at..]))
}

/// RFC 9112 §2.2: a server "SHOULD ignore at least one empty line (CRLF) received prior to the request-line". One, and
/// not a bare LF. `None`: cannot tell yet.
fn skip_empty_line(buf: &[u8]) -> Result<Option<usize>, HeadError> {
    match buf {
        [] | [b'\r'] => Ok(None),
        [b'\r', b'\n', b'\r' | b'\n', ..] => Err(HeadError::LineEnd),
        [b'\r', b'\n', ..] => Ok(Some(2)),
        [b'\r' | b'\n', ..] => Err(HeadError::LineEnd),
        _ => Ok(Some(0)),
    }
}

/// Checks and notes everything in a whole head; `bytes` is the head without a leading empty line.
fn complete<'b>(
    bytes: &'b [u8],
    skipped: usize,
    request: &httparse::Request<'_, 'b>,
) -> Result<Head<'b>, HeadError> {
    let (Some(method), Some(target), Some(minor_version)) = (request.method, request.path, request.version)
    else {
        return Err(HeadError::RequestLine);
    };
    if target.len() > TARGET_BYTES_MAX {
        return Err(HeadError::TargetTooLong);
    }
    // RFC 9112 §2.2 permits to take a bare LF for a line end; we do not, since others do not. httparse has stopped at
    // the end of each line, so only those places are looked at: request line, each field line, the empty line.
    let version_end = target_end(bytes, target) + 1 + VERSION_BYTES;
    if bytes[version_end] != b'\r' || bytes[bytes.len() - 2] != b'\r' {
        return Err(HeadError::LineEnd);
    }
    let mut framing = Framing::default();
    let mut fields = [FieldAt::default(); HEADERS_MAX];
    for (at, field) in fields.iter_mut().zip(request.headers.iter()) {
        *at = locate(bytes, field)?;
        framing.note(field.name, field.value)?;
    }
    let framed = framing.conclude(minor_version)?;
    let parts = split_target(target)?;
    Ok(Head {
        method: Method::from_token(method),
        method_name: method,
        target,
        path: parts.path,
        query: parts.query,
        authority: parts.authority.unwrap_or(framed.host),
        minor_version,
        len_bytes: skipped + bytes.len(),
        body: framed.body,
        keep_alive: framed.keep_alive,
        expect_continue: framed.expect_continue,
        bytes,
        fields,
        fields_len: request.headers.len(),
    })
}

/// Position of a field line; refuses it unless CRLF follows its value and optional whitespace.
fn locate(bytes: &[u8], field: &httparse::Header<'_>) -> Result<FieldAt, HeadError> {
    let value = offset_in(bytes, field.value);
    let mut end = value + field.value.len();
    while is_ows(bytes[end]) {
        end += 1;
    }
    if bytes[end] != b'\r' {
        return Err(HeadError::LineEnd);
    }
    let name = offset_in(bytes, field.name.as_bytes());
    Ok(FieldAt {
        name: name as u16,
        name_len: field.name.len() as u16,
        value: value as u16,
        value_len: field.value.len() as u16,
    })
}

/// Where `part`, a slice of `whole`, begins in it.
fn offset_in(whole: &[u8], part: &[u8]) -> usize {
    let offset = part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr());
    debug_assert!(offset + part.len() <= whole.len());
    offset
}

fn target_end(bytes: &[u8], target: &str) -> usize {
    offset_in(bytes, target.as_bytes()) + target.len()
}

/// No end of the head in the window: still to come, or too long already.
fn partial<'b>(
    bytes_len: usize,
    window_len: usize,
    request: &httparse::Request<'_, 'b>,
) -> Result<Parsed<'b>, HeadError> {
    let target_len = match (request.path, request.method) {
        (Some(target), _) => target.len(),
        (None, Some(method)) => bytes_len - method.len() - 1,
        (None, None) => 0,
    };
    if target_len > TARGET_BYTES_MAX {
        return Err(HeadError::TargetTooLong);
    }
    if window_len == HEAD_BYTES_MAX {
        return Err(HeadError::HeadTooLarge);
    }
    Ok(Parsed::Partial)
}

/// What httparse's refusal means on the wire.
fn refusal<'b>(
    bytes: &[u8],
    request: &httparse::Request<'_, 'b>,
    error: httparse::Error,
) -> Result<Parsed<'b>, HeadError> {
    match (error, request.path) {
        (httparse::Error::Version, Some(target)) => {
            match version_shape(&bytes[target_end(bytes, target) + 1..]) {
                Some(true) => Err(HeadError::Version),
                Some(false) => Ok(Parsed::Partial),
                None => Err(HeadError::RequestLine),
            }
        }
        (httparse::Error::TooManyHeaders, _) => Err(HeadError::TooManyFields),
        (httparse::Error::HeaderName | httparse::Error::HeaderValue, _) => Err(HeadError::Field),
        (httparse::Error::NewLine, _) => Err(HeadError::LineEnd),
        _ => Err(HeadError::RequestLine),
    }
}

/// `HTTP-version = "HTTP" "/" DIGIT "." DIGIT` (RFC 9112 §2.3): whether it is all there; `None` if it is none.
fn version_shape(text: &[u8]) -> Option<bool> {
    let matches_so_far = text.iter().zip(b"HTTP/0.0").all(|(&byte, &want)| match want {
        b'0' => byte.is_ascii_digit(),
        _ => byte == want,
    });
    matches_so_far.then_some(text.len() >= VERSION_BYTES)
}

#[cfg(test)]
mod random;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod tests;
