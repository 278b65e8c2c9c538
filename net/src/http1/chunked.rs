//! The chunked transfer coding, read incrementally and without copying (RFC 9112 §7.1).
//!
//! Called by the connection driver with each piece of a body as it arrives. The state machine goes byte by byte over
//! the framing and in one step over data. Invariants:
//! 1. How the input is split never changes the data, the end or whether it is refused.
//! 2. A line ends in CRLF and nothing else; a refused body stays refused.
//! 3. Nothing beyond the last CRLF is consumed: what follows is the next request.

use std::ops::Range;

use super::grammar::{is_ows, is_token_byte, is_value_byte};
use super::limits::{
    CHUNK_EXTENSION_BYTES_MAX, CHUNK_EXTENSIONS_TOTAL_BYTES_MAX, CHUNK_SIZE_DIGITS_MAX, TRAILER_BYTES_MAX,
};
use super::response::Status;

/// What one call of `decode` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Bytes of the input that are done with, the data included. Call again with the rest.
    pub consumed: usize,
    /// Where in the input body bytes are; may be empty.
    pub data: Range<usize>,
    /// The body is over, trailers included.
    pub done: bool,
}

/// Why a chunked body was refused. The client's fault; the connection closes after the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// 400: no hexadecimal digit, too many, or something else among them.
    #[error("malformed chunk size")]
    Size,
    /// 400: control character or no `;` in a chunk extension.
    #[error("malformed chunk extension")]
    Extension,
    /// 400: more extensions than anyone needs.
    #[error("chunk extensions too long")]
    ExtensionTooLong,
    /// 400: CRLF missing after a chunk size, chunk data or a trailer.
    #[error("chunk line does not end in CRLF")]
    LineEnd,
    /// 400: a trailer line that is no field.
    #[error("malformed trailer field")]
    Trailer,
    /// 431
    #[error("trailer section longer than {TRAILER_BYTES_MAX} bytes")]
    TrailerTooLarge,
}

impl ChunkError {
    /// The status to answer with, if nothing was answered yet.
    #[must_use]
    pub fn status(self) -> Status {
        match self {
            Self::Size | Self::Extension | Self::ExtensionTooLong | Self::LineEnd | Self::Trailer => {
                Status::BadRequest
            }
            Self::TrailerTooLarge => Status::HeaderFieldsTooLarge,
        }
    }
}

/// Which byte is expected next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    /// Whitespace after the size: only a `;` may follow.
    ExtensionGap,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
    Refused(ChunkError),
}

/// Reader of one chunked body.
#[derive(Debug)]
pub struct ChunkedDecoder {
    state: State,
    /// Bytes of the current chunk still to come; while its size is read, the size so far.
    remaining_bytes: u64,
    size_digits: u8,
    extension_bytes: usize,
    extensions_total_bytes: usize,
    trailer_bytes: usize,
}

impl Default for ChunkedDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl ChunkedDecoder {
    /// A reader at the first byte after the head.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: State::Size,
            remaining_bytes: 0,
            size_digits: 0,
            extension_bytes: 0,
            extensions_total_bytes: 0,
            trailer_bytes: 0,
        }
    }

    /// Reads on until some data was found, the body ended or the input is used up.
    pub fn decode(&mut self, input: &[u8]) -> Result<Step, ChunkError> {
        let mut at = 0;
        while at < input.len() && self.state != State::Done {
            if self.state == State::Data {
                let left = input.len() - at;
                let taken =
                    usize::try_from(self.remaining_bytes).map_or(left, |remaining| remaining.min(left));
                self.remaining_bytes -= taken as u64;
                if self.remaining_bytes == 0 {
                    self.state = State::DataCr;
                }
                return Ok(Step { consumed: at + taken, data: at..at + taken, done: false });
            }
            match self.step(input[at]) {
                Ok(next) => self.state = next,
                Err(error) => {
                    self.state = State::Refused(error);
                    return Err(error);
                }
            }
            at += 1;
        }
        Ok(Step { consumed: at, data: at..at, done: self.state == State::Done })
    }

    /// One byte of framing.
    fn step(&mut self, byte: u8) -> Result<State, ChunkError> {
        match self.state {
            State::Size => self.size(byte),
            State::ExtensionGap | State::Extension => self.extension(byte),
            State::SizeLf => {
                expect(byte, b'\n')?;
                self.size_digits = 0;
                self.extension_bytes = 0;
                // RFC 9112 §7.1: last-chunk = 1*("0"), then the trailer section.
                Ok(if self.remaining_bytes == 0 { State::TrailerStart } else { State::Data })
            }
            State::DataCr => expect(byte, b'\r').map(|()| State::DataLf),
            State::DataLf => expect(byte, b'\n').map(|()| State::Size),
            State::TrailerStart | State::TrailerName | State::TrailerValue | State::TrailerLf => {
                self.trailer(byte)
            }
            State::EndLf => expect(byte, b'\n').map(|()| State::Done),
            State::Refused(error) => Err(error),
            // `decode` handles these two itself.
            State::Data | State::Done => Ok(self.state),
        }
    }

    /// RFC 9112 §7.1: `chunk-size = 1*HEXDIG`; recipients "MUST anticipate potentially large hexadecimal numerals and
    /// prevent parsing errors due to integer conversion overflows".
    fn size(&mut self, byte: u8) -> Result<State, ChunkError> {
        if let Some(digit) = char::from(byte).to_digit(16) {
            if self.size_digits == CHUNK_SIZE_DIGITS_MAX {
                return Err(ChunkError::Size);
            }
            self.size_digits += 1;
            self.remaining_bytes = self.remaining_bytes << 4 | u64::from(digit);
            return Ok(State::Size);
        }
        match byte {
            _ if self.size_digits == 0 => Err(ChunkError::Size),
            b'\r' => Ok(State::SizeLf),
            b';' => self.count_extension(State::Extension),
            _ if is_ows(byte) => self.count_extension(State::ExtensionGap),
            _ => Err(ChunkError::Size),
        }
    }

    /// RFC 9112 §7.1.1: a recipient "MUST ignore unrecognized chunk extensions" and ought to bound them.
    fn extension(&mut self, byte: u8) -> Result<State, ChunkError> {
        match (self.state, byte) {
            (State::ExtensionGap, b';') => self.count_extension(State::Extension),
            (State::ExtensionGap, _) if is_ows(byte) => self.count_extension(State::ExtensionGap),
            (State::ExtensionGap, _) => Err(ChunkError::Extension),
            (_, b'\r') => Ok(State::SizeLf),
            (_, _) if is_value_byte(byte) => self.count_extension(State::Extension),
            (_, _) => Err(ChunkError::Extension),
        }
    }

    fn count_extension(&mut self, next: State) -> Result<State, ChunkError> {
        self.extension_bytes += 1;
        self.extensions_total_bytes += 1;
        if self.extension_bytes > CHUNK_EXTENSION_BYTES_MAX
            || self.extensions_total_bytes > CHUNK_EXTENSIONS_TOTAL_BYTES_MAX
        {
            return Err(ChunkError::ExtensionTooLong);
        }
        Ok(next)
    }

    /// RFC 9112 §7.1.2: trailer fields may be discarded; they must be fields all the same.
    fn trailer(&mut self, byte: u8) -> Result<State, ChunkError> {
        if self.state == State::TrailerStart && byte == b'\r' {
            return Ok(State::EndLf);
        }
        self.trailer_bytes += 1;
        if self.trailer_bytes > TRAILER_BYTES_MAX {
            return Err(ChunkError::TrailerTooLarge);
        }
        match (self.state, byte) {
            (State::TrailerName, b':') => Ok(State::TrailerValue),
            (State::TrailerStart | State::TrailerName, _) if is_token_byte(byte) => Ok(State::TrailerName),
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, _) if is_value_byte(byte) => Ok(State::TrailerValue),
            (State::TrailerValue, b'\n') => Err(ChunkError::LineEnd),
            (State::TrailerLf, _) => expect(byte, b'\n').map(|()| State::TrailerStart),
            _ => Err(ChunkError::Trailer),
        }
    }
}

fn expect(byte: u8, wanted: u8) -> Result<(), ChunkError> {
    if byte == wanted { Ok(()) } else { Err(ChunkError::LineEnd) }
}

#[cfg(test)]
mod tests;
