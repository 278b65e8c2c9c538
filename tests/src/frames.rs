//! HTTP/2 by hand over a `TcpStream` (RFC 9113): any frames can be sent, and what comes back is read as frames.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What a client says first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Kinds of frames (RFC 9113 §6).
#[expect(missing_docs, reason = "the names are the RFC's")]
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames.
#[expect(missing_docs, reason = "the names are the RFC's")]
pub mod flag {
    pub const END_STREAM: u8 = 1;
    pub const ACK: u8 = 1;
    pub const END_HEADERS: u8 = 4;
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Of `kind`.
    pub kind: u8,
    /// Of `flag`.
    pub flags: u8,
    /// 0 is the connection.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// A frame as it is sent.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// Fields without compression: literals that no table remembers (RFC 7541 §6.2.2).
pub fn fields(list: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in list {
        out.push(0);
        for text in [name, value] {
            // A length of 7 bits, further ones in groups of 7.
            let mut length = text.len();
            if length < 127 {
                out.push(length as u8);
            } else {
                out.push(127);
                length -= 127;
                while length >= 128 {
                    out.push(length as u8 | 128);
                    length >>= 7;
                }
                out.push(length as u8);
            }
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

/// A GET without a body, whole.
pub fn get(stream: u32, path: &str) -> Vec<u8> {
    let list = [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "basalt")];
    frame(kind::HEADERS, flag::END_STREAM | flag::END_HEADERS, stream, &fields(&list))
}

/// One connection.
#[derive(Debug)]
pub struct Frames {
    stream: TcpStream,
}

impl Frames {
    /// Connects, and says what is said first.
    pub fn open(addr: SocketAddr) -> Self {
        let mut frames = Self::silent(addr);
        frames.send(PREFACE);
        frames.send(&frame(kind::SETTINGS, 0, 0, &[]));
        frames
    }

    /// Connects.
    pub fn silent(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).expect("connected");
        stream.set_nodelay(true).expect("set");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
        Self { stream }
    }

    /// Sends bytes; the server must take them.
    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("sent");
    }

    /// Sends bytes, unless the server has closed.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next frame; an error when the connection ends.
    pub fn receive(&mut self) -> io::Result<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload)?;
        Ok(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// Frames until one is wanted, which is the last; all of them when the connection ends before.
    pub fn until(&mut self, mut is_wanted: impl FnMut(&Frame) -> bool) -> Vec<Frame> {
        let mut seen = Vec::new();
        while let Ok(frame) = self.receive() {
            seen.push(frame);
            if is_wanted(seen.last().expect("just put there")) {
                break;
            }
        }
        seen
    }
}

/// The error code of a RST_STREAM or GOAWAY.
pub fn code(frame: &Frame) -> u32 {
    let at = if frame.kind == kind::GOAWAY { 4 } else { 0 };
    u32::from_be_bytes(frame.payload[at..at + 4].try_into().expect("four bytes"))
}
