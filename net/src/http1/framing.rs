//! The fields that decide how a request is framed and how the connection goes on.
//!
//! Called by `request` and `reply`, once per field line and once at the end. Refusals that depend on several fields are made at
//! the end, so that their order in the head does not change the answer.

use super::grammar::{decimal_saturating, is_token, list_elements};
use super::request::HeadError;
use super::target::is_authority;

/// How many body bytes follow a head (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// Neither Content-Length nor Transfer-Encoding: no body.
    None,
    /// Content-Length; may be 0.
    Length(u64),
    /// Transfer-Encoding: chunked; read it with `ChunkedDecoder`.
    Chunked,
}

/// How many body bytes follow the head of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyLength {
    /// This many.
    Length(u64),
    /// Transfer-Encoding: chunked; read it with `ChunkedDecoder`.
    Chunked,
    /// Whatever comes before the connection ends.
    UntilClose,
}

/// What the framing fields of one head said so far.
#[derive(Debug, Default)]
pub(crate) struct Framing<'b> {
    host: Option<&'b [u8]>,
    content_length: Option<u64>,
    transfer_encoding: TransferEncoding,
    close: bool,
    keep_alive: bool,
    expect_continue: bool,
    expect_unknown: bool,
}

/// The list of transfer codings, all field lines together.
#[derive(Debug, Default)]
struct TransferEncoding {
    seen: bool,
    /// `chunked` was the last coding read.
    chunked_last: bool,
    /// A coding other than `chunked`.
    unknown: bool,
    /// Not a list of tokens, or something follows `chunked`.
    malformed: bool,
}

/// What the framing fields amount to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Framed<'b> {
    pub(crate) host: &'b str,
    pub(crate) body: BodyLength,
    pub(crate) keep_alive: bool,
    pub(crate) expect_continue: bool,
}

impl<'b> Framing<'b> {
    /// Takes note of one field line. Length and first letter sort out most fields before any name is compared.
    #[inline]
    pub(crate) fn note(&mut self, name: &str, value: &'b [u8]) -> Result<(), HeadError> {
        let Some(&first) = name.as_bytes().first() else {
            return Err(HeadError::Field);
        };
        match (name.len(), first | 0x20) {
            (4, b'h') if name.eq_ignore_ascii_case("host") => self.note_host(value),
            (14, b'c') if name.eq_ignore_ascii_case("content-length") => self.note_content_length(value),
            (17, b't') if name.eq_ignore_ascii_case("transfer-encoding") => {
                self.transfer_encoding.note(value);
                Ok(())
            }
            (10, b'c') if name.eq_ignore_ascii_case("connection") => {
                self.note_connection(value);
                Ok(())
            }
            (6, b'e') if name.eq_ignore_ascii_case("expect") => {
                let known = value.eq_ignore_ascii_case(b"100-continue");
                self.expect_continue |= known;
                self.expect_unknown |= !known;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// RFC 9112 §3.2: 400 "to any request message that contains more than one Host header field line or a Host
    /// header field with an invalid field value".
    fn note_host(&mut self, value: &'b [u8]) -> Result<(), HeadError> {
        if self.host.is_some() || !is_authority(value) {
            return Err(HeadError::Host);
        }
        self.host = Some(value);
        Ok(())
    }

    /// RFC 9112 §6.3 item 5: an invalid Content-Length is unrecoverable. §6.3 permits to accept a list of equal
    /// values; we refuse every repetition, so no hop can choose another one than we do.
    fn note_content_length(&mut self, value: &[u8]) -> Result<(), HeadError> {
        match decimal_saturating(value) {
            Some(length) if length.exact && self.content_length.is_none() => {
                self.content_length = Some(length.value);
                Ok(())
            }
            _ => Err(HeadError::ContentLength),
        }
    }

    /// RFC 9110 §7.6.1: a list of options in any case. Options unknown here (`te`, `upgrade`) concern nobody.
    fn note_connection(&mut self, value: &[u8]) {
        for option in list_elements(value) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// Draws the conclusions for an answer to a GET (RFC 9112 §6.3): how its body is framed, and whether the connection
    /// persists.
    pub(crate) fn conclude_reply(
        self,
        minor_version: u8,
        is_bodiless: bool,
    ) -> Result<(ReplyLength, bool), HeadError> {
        let length = match self.body(minor_version)? {
            _ if is_bodiless => ReplyLength::Length(0),
            BodyLength::Length(length) => ReplyLength::Length(length),
            BodyLength::Chunked => ReplyLength::Chunked,
            BodyLength::None => ReplyLength::UntilClose,
        };
        let persists = !self.close && (minor_version >= 1 || self.keep_alive);
        Ok((length, persists && length != ReplyLength::UntilClose))
    }

    /// Draws the conclusions. Malformed framing (400) goes before what is only not supported (501, 417).
    pub(crate) fn conclude(self, minor_version: u8) -> Result<Framed<'b>, HeadError> {
        // RFC 9112 §3.2: 400 "to any HTTP/1.1 request message that lacks a Host header field".
        if self.host.is_none() && minor_version >= 1 {
            return Err(HeadError::Host);
        }
        let host = str::from_utf8(self.host.unwrap_or_default()).map_err(|_| HeadError::Host)?;
        let body = self.body(minor_version)?;
        // RFC 9110 §10.1.1: in HTTP/1.0 the expectation is ignored; otherwise an unknown one is 417.
        if self.expect_unknown && minor_version >= 1 {
            return Err(HeadError::Expectation);
        }
        let body_follows = !matches!(body, BodyLength::None | BodyLength::Length(0));
        Ok(Framed {
            host,
            body,
            // RFC 9112 §9.3: close wins; 1.1 persists by default; 1.0 only with keep-alive.
            keep_alive: !self.close && (minor_version >= 1 || self.keep_alive),
            expect_continue: self.expect_continue && minor_version >= 1 && body_follows,
        })
    }

    fn body(&self, minor_version: u8) -> Result<BodyLength, HeadError> {
        let coding = &self.transfer_encoding;
        if !coding.seen {
            return Ok(self.content_length.map_or(BodyLength::None, BodyLength::Length));
        }
        // RFC 9112 §6.1: with both fields a server "MAY reject the request"; Transfer-Encoding in HTTP/1.0 "MUST treat
        // the message as if the framing is faulty".
        if minor_version == 0 || self.content_length.is_some() || coding.malformed {
            return Err(HeadError::TransferEncoding);
        }
        // RFC 9112 §6.1: "a server that receives a request message with a transfer coding it does not understand
        // SHOULD respond with 501".
        if coding.unknown {
            return Err(HeadError::TransferCoding);
        }
        Ok(BodyLength::Chunked)
    }
}

impl TransferEncoding {
    /// RFC 9112 §6.1: chunked is applied at most once and last. Empty list elements and parameters of `chunked` (§7:
    /// "SHOULD be treated as an error") are refused: only one spelling is left.
    fn note(&mut self, value: &[u8]) {
        self.seen = true;
        for coding in list_elements(value) {
            self.malformed |= self.chunked_last;
            self.chunked_last = coding.eq_ignore_ascii_case(b"chunked");
            self.unknown |= !self.chunked_last;
            // The name alone: parameters of an unknown coding are its own affair.
            let name = coding.split(|&byte| byte == b';').next().unwrap_or_default();
            let spelled_otherwise = !self.chunked_last && name.trim_ascii().eq_ignore_ascii_case(b"chunked");
            self.malformed |= !is_token(name.trim_ascii_end()) || spelled_otherwise;
        }
    }
}
