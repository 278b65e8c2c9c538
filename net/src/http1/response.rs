//! Response heads, appended to a buffer of the caller (RFC 9112 §4, §5).
//!
//! Called by the connection driver and the engines. Invariants:
//! 1. No allocation but the growth of the caller's buffer.
//! 2. A value cannot break out of its line: controls become spaces (RFC 9110 §5.5).

use std::ops::Range;

use super::date::HttpDate;
use super::grammar::{is_token, is_value_byte};

/// The interim answer to `Expect: 100-continue`, whole.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Defines `Status` with its line from one list.
macro_rules! statuses {
    ($($name:ident = $code:literal $reason:literal),* $(,)?) => {
        /// The statuses we send.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Status {
            $(#[doc = concat!(stringify!($code), " ", $reason)] $name = $code),*
        }

        impl Status {
            /// All of them.
            pub const ALL: &[Status] = &[$(Status::$name),*];

            /// Status line with its CRLF.
            fn line(self) -> &'static [u8] {
                match self {
                    $(Status::$name => concat!("HTTP/1.1 ", stringify!($code), " ", $reason, "\r\n").as_bytes()),*
                }
            }
        }
    };
}

statuses! {
    Continue = 100 "Continue",
    Ok = 200 "OK",
    Created = 201 "Created",
    NoContent = 204 "No Content",
    PartialContent = 206 "Partial Content",
    NotModified = 304 "Not Modified",
    BadRequest = 400 "Bad Request",
    Unauthorized = 401 "Unauthorized",
    Forbidden = 403 "Forbidden",
    NotFound = 404 "Not Found",
    MethodNotAllowed = 405 "Method Not Allowed",
    RequestTimeout = 408 "Request Timeout",
    Conflict = 409 "Conflict",
    LengthRequired = 411 "Length Required",
    PreconditionFailed = 412 "Precondition Failed",
    ContentTooLarge = 413 "Content Too Large",
    UriTooLong = 414 "URI Too Long",
    UnsupportedMediaType = 415 "Unsupported Media Type",
    RangeNotSatisfiable = 416 "Range Not Satisfiable",
    ExpectationFailed = 417 "Expectation Failed",
    UnprocessableContent = 422 "Unprocessable Content",
    TooManyRequests = 429 "Too Many Requests",
    HeaderFieldsTooLarge = 431 "Request Header Fields Too Large",
    InternalServerError = 500 "Internal Server Error",
    NotImplemented = 501 "Not Implemented",
    BadGateway = 502 "Bad Gateway",
    ServiceUnavailable = 503 "Service Unavailable",
    GatewayTimeout = 504 "Gateway Timeout",
    VersionNotSupported = 505 "HTTP Version Not Supported",
    InsufficientStorage = 507 "Insufficient Storage",
}

impl Status {
    /// The three digits.
    #[must_use]
    pub fn code(self) -> u16 {
        self as u16
    }

    /// RFC 9112 §6.3 item 1: a response that ends with its head, whatever its fields say.
    #[must_use]
    pub fn is_bodiless(self) -> bool {
        matches!(self, Self::Continue | Self::NoContent | Self::NotModified)
    }
}

/// Writer of one response head. Ends with `finish`; dropped before, it leaves half a head behind.
#[must_use = "a head without finish() is not terminated"]
#[derive(Debug)]
pub struct ResponseHead<'o> {
    out: &'o mut Vec<u8>,
    code: u16,
}

impl<'o> ResponseHead<'o> {
    /// Appends the status line.
    pub fn new(out: &'o mut Vec<u8>, status: Status) -> Self {
        out.extend_from_slice(status.line());
        Self { out, code: status.code() }
    }

    /// As [`ResponseHead::new`], of a status that somebody else chose: 200 to 999.
    pub fn of_code(out: &'o mut Vec<u8>, code: u16) -> Self {
        debug_assert!((200..=999).contains(&code), "status {code}");
        match Status::ALL.iter().find(|status| status.code() == code) {
            Some(status) => Self::new(out, *status),
            None => {
                out.extend_from_slice(b"HTTP/1.1 ");
                push_decimal(out, u64::from(code));
                // RFC 9112 §4: the space stays without a reason.
                out.extend_from_slice(b" \r\n");
                Self { out, code }
            }
        }
    }

    /// Appends fields alone, for [`ResponseHead::fields`] of later heads with this status; not to be finished.
    pub fn lines_only(out: &'o mut Vec<u8>, status: Status) -> Self {
        Self { out, code: status.code() }
    }

    /// Appends a field. `name` is a token of ours; controls in `value` become spaces.
    pub fn header(self, name: &str, value: &[u8]) -> Self {
        debug_assert!(is_token(name.as_bytes()), "field name {name:?}");
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b": ");
        let value_start = self.out.len();
        self.out.extend_from_slice(value);
        for byte in &mut self.out[value_start..] {
            if !is_value_byte(*byte) {
                *byte = b' ';
            }
        }
        self.out.extend_from_slice(b"\r\n");
        self
    }

    /// Appends a field that somebody else named.
    pub fn line(self, name: &[u8], value: &[u8]) -> Self {
        match std::str::from_utf8(name) {
            Ok(name) if is_token(name.as_bytes()) => self.header(name, value),
            _ => self,
        }
    }

    /// Appends fields that were written before, each with its CRLF.
    pub fn fields(self, lines: &[u8]) -> Self {
        debug_assert!(lines.is_empty() || lines.ends_with(b"\r\n"), "fields {}", lines.escape_ascii());
        self.out.extend_from_slice(lines);
        self
    }

    /// Appends Content-Length.
    ///
    /// RFC 9110 §8.6: a server "MUST NOT send" it with 1xx and 204; there nothing is appended.
    pub fn content_length(self, length_bytes: u64) -> Self {
        if !matches!(self.code, 100 | 204) {
            self.out.extend_from_slice(b"content-length: ");
            push_decimal(self.out, length_bytes);
            self.out.extend_from_slice(b"\r\n");
        }
        self
    }

    /// Appends `Content-Range: bytes first-last/size` for a 206 with one range. `range` is not empty.
    pub fn content_range(self, range: &Range<u64>, size: u64) -> Self {
        self.out.extend_from_slice(b"content-range: ");
        push_content_range(self.out, range, size);
        self.out.extend_from_slice(b"\r\n");
        self
    }

    /// Appends `Content-Range: bytes */size`, which a 416 carries (RFC 9110 §15.5.17).
    pub fn content_range_unsatisfied(self, size: u64) -> Self {
        self.out.extend_from_slice(b"content-range: bytes */");
        push_decimal(self.out, size);
        self.out.extend_from_slice(b"\r\n");
        self
    }

    /// Appends Date.
    pub fn date(self, date: &HttpDate) -> Self {
        self.out.extend_from_slice(b"date: ");
        self.out.extend_from_slice(date.as_bytes());
        self.out.extend_from_slice(b"\r\n");
        self
    }

    /// Appends `Connection: close` (RFC 9112 §9.6).
    pub fn connection_close(self) -> Self {
        self.out.extend_from_slice(b"connection: close\r\n");
        self
    }

    /// Appends the empty line.
    pub fn finish(self) {
        self.out.extend_from_slice(b"\r\n");
    }
}

/// Appends `bytes first-last/size`.
pub(crate) fn push_content_range(out: &mut Vec<u8>, range: &Range<u64>, size: u64) {
    debug_assert!(range.start < range.end && range.end <= size, "range {range:?} of {size}");
    out.extend_from_slice(b"bytes ");
    push_decimal(out, range.start);
    out.push(b'-');
    push_decimal(out, range.end.saturating_sub(1));
    out.push(b'/');
    push_decimal(out, size);
}

/// Appends a number in decimal: twenty digits hold any u64.
pub(crate) fn push_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_head() {
        let mut out = b"before".to_vec();
        ResponseHead::new(&mut out, Status::PartialContent)
            .date(&HttpDate::at(0))
            .header("etag", b"\"a\"")
            .content_range(&(2..5), 10)
            .content_length(3)
            .connection_close()
            .finish();
        let expected = "beforeHTTP/1.1 206 Partial Content\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\netag: \"a\"\r\n\
                        content-range: bytes 2-4/10\r\ncontent-length: 3\r\nconnection: close\r\n\r\n";
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }

    #[test]
    fn a_status_of_somebody_else() {
        let mut out = Vec::new();
        ResponseHead::of_code(&mut out, 302)
            .line(b"a b", b"x")
            .line(b"Location", b"/x")
            .content_length(0)
            .finish();
        assert_eq!(out, b"HTTP/1.1 302 \r\nLocation: /x\r\ncontent-length: 0\r\n\r\n");
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        ResponseHead::new(&mut ours, Status::NotFound).finish();
        ResponseHead::of_code(&mut theirs, 404).finish();
        assert_eq!(ours, theirs);
    }

    #[test]
    fn a_value_stays_in_its_line() {
        let mut out = Vec::new();
        ResponseHead::new(&mut out, Status::Ok).header("x", b"a\r\nset-cookie: b\0\x7f\tc\xff").finish();
        assert_eq!(out, b"HTTP/1.1 200 OK\r\nx: a  set-cookie: b  \tc\xff\r\n\r\n");
    }

    #[test]
    fn no_length_where_none_may_be() {
        for status in [Status::Continue, Status::NoContent] {
            let mut out = Vec::new();
            ResponseHead::new(&mut out, status).content_length(0).finish();
            assert_eq!(out, [status.line(), b"\r\n"].concat());
        }
        let mut out = Vec::new();
        ResponseHead::new(&mut out, Status::Continue).finish();
        assert_eq!(out, CONTINUE);
    }

    #[test]
    fn the_416_form() {
        let mut out = Vec::new();
        ResponseHead::new(&mut out, Status::RangeNotSatisfiable).content_range_unsatisfied(7).finish();
        assert_eq!(out, b"HTTP/1.1 416 Range Not Satisfiable\r\ncontent-range: bytes */7\r\n\r\n");
    }

    #[test]
    fn every_status_line_parses_as_its_code() {
        for &status in Status::ALL {
            let head = [status.line(), b"\r\n"].concat();
            let mut fields = [];
            let mut response = httparse::Response::new(&mut fields);
            assert!(response.parse(&head).is_ok_and(|parsed| parsed.is_complete()));
            assert_eq!(response.code, Some(status.code()));
            assert!(response.reason.is_some_and(|reason| !reason.is_empty()));
        }
    }

    #[test]
    fn decimals() {
        for number in [0, 1, 9, 10, 99, 100, 12_345, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            push_decimal(&mut out, number);
            assert_eq!(out, number.to_string().as_bytes());
        }
    }
}
