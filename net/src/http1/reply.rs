//! The head of an origin's answer: from bytes to status, framing and fields (RFC 9112 §4, §5, §6.3).
//!
//! Called by the client. As strict as for requests: what two implementations could frame differently is refused, since an
//! answer that is cut at the wrong place would be stored.
//!
//! Invariants
//! 1. In a complete head every line ends in CRLF, and no control character is left in a name or value.
//! 2. `Complete` depends only on the bytes of the head; a refusal never heals.

use std::mem::MaybeUninit;

use httparse::Status::{Complete, Partial};

use super::framing::{Framing, ReplyLength};
use super::grammar::{decimal_saturating, is_ows};
use super::limits::{REPLY_FIELDS_MAX, REPLY_HEAD_BYTES_MAX};
use super::request::HeadError;

/// Length of `HTTP/1.1 200`.
const STATUS_BYTES: usize = 12;

/// What `parse_reply` found at the start of a buffer.
#[derive(Debug)]
pub enum ParsedReply {
    /// All bytes so far may become an answer; more are needed.
    Partial,
    /// A whole head.
    Complete(ReplyHead),
}

/// Why the head of an answer was refused: the origin's fault; its connection is of no further use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// Not `HTTP/1.x`, three digits and a reason.
    #[error("malformed status line")]
    StatusLine,
    /// A field, a line end, or framing that contradicts itself.
    #[error("{0}")]
    Head(#[from] HeadError),
    /// Longer than we read.
    #[error("head longer than {REPLY_HEAD_BYTES_MAX} bytes")]
    TooLarge,
    /// More field lines than we read.
    #[error("more than {REPLY_FIELDS_MAX} header fields")]
    TooManyFields,
}

/// An answer's head, free of the connection's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyHead {
    /// The status code, 100 to 999.
    pub status: u16,
    /// The minor version of HTTP/1 that it is of.
    pub minor_version: u8,
    /// How the body of an answer to GET is framed.
    pub length: ReplyLength,
    /// Whether the connection can carry another request once the body is read.
    pub keep_alive: bool,
    /// The body starts here.
    pub len_bytes: usize,
    /// Name as sent, value without surrounding whitespace.
    fields: Vec<(String, Vec<u8>)>,
}

impl ReplyHead {
    /// The version as Via names it (RFC 9110 §7.6.3).
    #[must_use]
    pub fn version(&self) -> &'static str {
        if self.minor_version == 0 { "1.0" } else { "1.1" }
    }

    /// Value of the only field line of that name, in any case. Two are none: nobody knows which one holds.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let mut found = self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        let first = found.next()?;
        found.next().is_none().then_some(&first.1)
    }

    /// All field lines.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }
}

/// Parses the head at the start of `buf`, which may hold less than a head or more than one.
///
/// # Errors
/// What is wrong with it; no further bytes would mend it.
pub fn parse_reply(buf: &[u8]) -> Result<ParsedReply, ReplyError> {
    let window = &buf[..buf.len().min(REPLY_HEAD_BYTES_MAX)];
    // httparse skips empty lines before the status line; nobody sends them, and a second reader may not.
    if matches!(window.first(), Some(b'\r' | b'\n')) {
        return Err(ReplyError::StatusLine);
    }
    let mut storage = [const { MaybeUninit::uninit() }; REPLY_FIELDS_MAX];
    let mut reply = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut reply,
        window,
        &mut storage,
    );
    match parsed {
        Ok(Complete(len)) => complete(&window[..len], &reply).map(ParsedReply::Complete),
        Ok(Partial) if window.len() == REPLY_HEAD_BYTES_MAX => Err(ReplyError::TooLarge),
        Ok(Partial) => Ok(ParsedReply::Partial),
        Err(httparse::Error::TooManyHeaders) => Err(ReplyError::TooManyFields),
        Err(httparse::Error::HeaderName | httparse::Error::HeaderValue) => Err(HeadError::Field.into()),
        Err(httparse::Error::NewLine) => Err(HeadError::LineEnd.into()),
        Err(_) => Err(ReplyError::StatusLine),
    }
}

fn complete(bytes: &[u8], reply: &httparse::Response<'_, '_>) -> Result<ReplyHead, ReplyError> {
    let (Some(status), Some(minor_version)) = (reply.code, reply.version) else {
        return Err(ReplyError::StatusLine);
    };
    // RFC 9112 §4: the space behind the code stays even when there is no reason; a missing one is common and harmless.
    let after_code = bytes.get(STATUS_BYTES).is_some_and(|b| matches!(b, b' ' | b'\r'));
    if !(100..=999).contains(&status) || !after_code {
        return Err(ReplyError::StatusLine);
    }
    must_end_in_crlf(bytes)?;
    let mut framing = Framing::default();
    let mut fields = Vec::with_capacity(reply.headers.len());
    for field in reply.headers.iter() {
        // Host and Expect mean nothing in an answer.
        if !field.name.eq_ignore_ascii_case("host") && !field.name.eq_ignore_ascii_case("expect") {
            framing.note(field.name, field.value)?;
        }
        let value = field.value.iter().rposition(|&b| !is_ows(b)).map_or(&[][..], |end| &field.value[..=end]);
        fields.push((field.name.to_owned(), value.to_vec()));
    }
    let is_bodiless = status < 200 || matches!(status, 204 | 304);
    let (length, keep_alive) = framing.conclude_reply(minor_version, is_bodiless)?;
    Ok(ReplyHead { status, minor_version, length, keep_alive, len_bytes: bytes.len(), fields })
}

/// A bare LF is a line end to some and not to others.
fn must_end_in_crlf(head: &[u8]) -> Result<(), HeadError> {
    let mut before = 0;
    for &byte in head {
        if (byte == b'\n') != (before == b'\r') {
            return Err(HeadError::LineEnd);
        }
        before = byte;
    }
    Ok(())
}

/// A `Content-Range` of bytes (RFC 9110 §14.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentRange {
    /// First and last byte; `None` for `bytes */N`.
    pub range: Option<(u64, u64)>,
    /// The whole size, unless it is `*`.
    pub size: Option<u64>,
}

/// Reads a `Content-Range`; `None` when it is malformed, of another unit or contradicts itself.
#[must_use]
pub fn parse_content_range(value: &[u8]) -> Option<ContentRange> {
    let (unit, rest) = value.split_at_checked(6)?;
    if !unit.eq_ignore_ascii_case(b"bytes ") {
        return None;
    }
    let number = |text: &[u8]| decimal_saturating(text).filter(|n| n.exact).map(|n| n.value);
    let slash = rest.iter().position(|&b| b == b'/')?;
    let (range, size) = (&rest[..slash], &rest[slash + 1..]);
    let size = if size == b"*" { None } else { Some(number(size)?) };
    if range == b"*" {
        return size.map(|size| ContentRange { range: None, size: Some(size) });
    }
    let dash = range.iter().position(|&b| b == b'-')?;
    let (first, last) = (number(&range[..dash])?, number(&range[dash + 1..])?);
    // Without a size too: a last byte of u64::MAX has no end that can be counted to.
    let holds = first <= last && last < size.unwrap_or(u64::MAX);
    holds.then_some(ContentRange { range: Some((first, last)), size })
}

#[cfg(test)]
mod tests;
