//! HTTP/1.1 by hand over a `TcpStream`: any bytes can be sent, replies are read strictly.
//!
//! What a reply's head says must be exact (line ends, one framing, known lengths), and a body that
//! ends early is an error: the tests hang on noticing both.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long a read or write may stand still before it is an error, unless told otherwise.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A reply's head may not be larger.
const HEAD_SIZE_MAX_BYTES: usize = 64 << 10;

/// Why there is no reply.
#[derive(Debug)]
pub enum Fault {
    /// The connection was closed or reset before the first byte of a reply.
    Closed,
    /// The connection was closed or reset within a reply.
    Cut,
    /// Nothing came for longer than the patience.
    Silent,
    /// The reply is not HTTP/1.1.
    Malformed(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// A reply.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// Names in lower case, values trimmed, in the order in which they came.
    pub headers: Vec<(String, String)>,
    /// The body; empty when it went to a sink.
    pub body: Vec<u8>,
    /// Whether the connection can take no further request.
    pub last: bool,
}

impl Reply {
    /// The value of the header `name` (lower case). Panics when there are several.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(n, _)| n == name);
        let first = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} twice: {:?}", self.headers);
        first
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is UTF-8")
    }

    /// Panics unless the status is `status`.
    pub fn must_be(self, status: u16) -> Self {
        let body = String::from_utf8_lossy(&self.body[..self.body.len().min(500)]);
        assert_eq!(self.status, status, "{:?} {body}", self.headers);
        self
    }
}

/// A request to be written out.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    method: &'a str,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<&'a [u8]>,
}

impl<'a> Request<'a> {
    /// A request without body.
    pub fn new(method: &'a str, target: impl Into<String>) -> Self {
        Self { method, target: target.into(), headers: Vec::new(), body: None }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Adds a body with its Content-Length.
    pub fn body(mut self, body: &'a [u8]) -> Self {
        self.body = Some(body);
        self.header("Content-Length", body.len().to_string())
    }

    /// Head and body as sent.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = format!("{} {} HTTP/1.1\r\nHost: basalt\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        out.push_str("\r\n");
        let mut out = out.into_bytes();
        out.extend_from_slice(self.body.unwrap_or_default());
        out
    }
}

/// The body of a request in chunks of `chunk_size_bytes`, with the last one.
pub fn chunked(body: &[u8], chunk_size_bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in body.chunks(chunk_size_bytes) {
        out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

/// One connection.
#[derive(Debug)]
pub struct Conn {
    stream: TcpStream,
    /// Received, not yet used.
    ahead: Vec<u8>,
}

impl Conn {
    /// Connects.
    pub fn open(addr: SocketAddr) -> Self {
        Self::try_open(addr).unwrap_or_else(|error| panic!("connecting to {addr}: {error}"))
    }

    /// Connects, if somebody listens.
    pub fn try_open(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
        stream.set_nodelay(true)?;
        let conn = Self { stream, ahead: Vec::new() };
        conn.set_patience(PATIENCE);
        Ok(conn)
    }

    /// The same connection once more, for a thread that only sends.
    pub fn second_handle(&self) -> Self {
        Self { stream: self.stream.try_clone().expect("a descriptor"), ahead: Vec::new() }
    }

    /// How long a read or write may stand still.
    pub fn set_patience(&self, patience: Duration) {
        self.stream.set_read_timeout(Some(patience)).expect("not zero");
        self.stream.set_write_timeout(Some(patience)).expect("not zero");
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Says that nothing more will be sent.
    pub fn finish_sending(&self) {
        self.stream.shutdown(Shutdown::Write).ok();
    }

    /// Sends a request and reads its reply.
    pub fn try_call(&mut self, request: &Request<'_>) -> Result<Reply, Fault> {
        // A server that refuses early may close while we still send; its reply decides.
        let sent = self.send(&request.to_bytes());
        let reply = self.receive(request.method);
        match (sent, reply) {
            (Err(_), Err(_)) => Err(Fault::Closed),
            (_, reply) => reply,
        }
    }

    /// Sends a request and reads its reply. Panics when there is none.
    pub fn call(&mut self, request: &Request<'_>) -> Reply {
        self.try_call(request)
            .unwrap_or_else(|fault| panic!("{} {}: {fault}", request.method, request.target))
    }

    /// Reads the reply to a request of this method.
    pub fn receive(&mut self, method: &str) -> Result<Reply, Fault> {
        let mut body = Vec::new();
        let mut reply = self.receive_into(method, &mut |part| body.extend_from_slice(part))?;
        reply.body = body;
        Ok(reply)
    }

    /// Reads the reply to a request of this method, its body into `sink`.
    pub fn receive_into(&mut self, method: &str, sink: &mut dyn FnMut(&[u8])) -> Result<Reply, Fault> {
        let mut reply = self.receive_head()?;
        let coding = reply.header("transfer-encoding").map(str::to_owned);
        let length = reply.header("content-length").map(str::to_owned);
        if coding.is_some() && length.is_some() {
            return Err(Fault::Malformed("both framings".into()));
        }
        reply.last = reply.header("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
        if method == "HEAD" || reply.status < 200 || reply.status == 204 || reply.status == 304 {
            return Ok(reply);
        }
        match (coding, length) {
            (Some(coding), _) if coding.eq_ignore_ascii_case("chunked") => {
                self.receive_chunks(sink)?;
            }
            (Some(coding), _) => return Err(Fault::Malformed(format!("coding {coding}"))),
            (None, Some(length)) => {
                let digits = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
                let length = length.parse().ok().filter(|_| digits);
                let length = length.ok_or_else(|| Fault::Malformed("Content-Length".into()))?;
                self.receive_exact(length, sink)?;
            }
            (None, None) => {
                reply.last = true;
                while self.maybe_more()? {
                    sink(&std::mem::take(&mut self.ahead));
                }
            }
        }
        Ok(reply)
    }

    /// Reads a reply's head. Its body, if any, is left for `receive_some`.
    pub fn receive_head(&mut self) -> Result<Reply, Fault> {
        let end = loop {
            if let Some(at) = self.ahead.windows(4).position(|w| w == b"\r\n\r\n") {
                break at;
            }
            if self.ahead.len() > HEAD_SIZE_MAX_BYTES {
                return Err(Fault::Malformed("the head has no end".into()));
            }
            if !self.maybe_more()? {
                let closed = self.ahead.is_empty();
                return Err(if closed { Fault::Closed } else { Fault::Cut });
            }
        };
        let head: Vec<u8> = self.ahead.drain(..end + 4).collect();
        parse_head(&head[..end])
    }

    /// Up to `max` bytes of what comes next, as they are; empty at the end.
    pub fn receive_some(&mut self, max: usize) -> Result<Vec<u8>, Fault> {
        if self.ahead.is_empty() {
            self.maybe_more()?;
        }
        let take = self.ahead.len().min(max);
        Ok(self.ahead.drain(..take).collect())
    }

    /// Waits until the server closes and drops what it sends before that. False when it does not
    /// within `deadline`.
    pub fn is_closed_within(&mut self, deadline: Duration) -> bool {
        let begin = Instant::now();
        while let Some(left) = deadline.checked_sub(begin.elapsed()) {
            self.set_patience(left.max(Duration::from_millis(1)));
            match self.maybe_more() {
                Ok(true) => self.ahead.clear(),
                Ok(false) => return true,
                Err(_) => return false,
            }
        }
        false
    }

    fn receive_exact(&mut self, mut left: u64, sink: &mut dyn FnMut(&[u8])) -> Result<(), Fault> {
        while left > 0 {
            if self.ahead.is_empty() && !self.maybe_more()? {
                return Err(Fault::Cut);
            }
            let take = left.min(self.ahead.len() as u64) as usize;
            sink(&self.ahead[..take]);
            self.ahead.drain(..take);
            left -= take as u64;
        }
        Ok(())
    }

    fn receive_chunks(&mut self, sink: &mut dyn FnMut(&[u8])) -> Result<(), Fault> {
        loop {
            let line = self.receive_line()?;
            let digits = line.split(';').next().unwrap_or_default();
            let size = u64::from_str_radix(digits, 16)
                .map_err(|_| Fault::Malformed(format!("chunk size {line:?}")))?;
            self.receive_exact(size, sink)?;
            if size > 0 && !self.receive_line()?.is_empty() {
                return Err(Fault::Malformed("no line end after a chunk".into()));
            }
            if size == 0 {
                while !self.receive_line()?.is_empty() {}
                return Ok(());
            }
        }
    }

    fn receive_line(&mut self) -> Result<String, Fault> {
        loop {
            if let Some(at) = self.ahead.windows(2).position(|w| w == b"\r\n") {
                let line: Vec<u8> = self.ahead.drain(..at + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            if !self.maybe_more()? {
                return Err(Fault::Cut);
            }
        }
    }

    /// Reads more; false at the end of the stream, which a reset is too.
    fn maybe_more(&mut self) -> Result<bool, Fault> {
        let before = self.ahead.len();
        self.ahead.resize(before + (256 << 10), 0);
        let read = loop {
            match self.stream.read(&mut self.ahead[before..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        self.ahead.truncate(before + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(count) => Ok(count > 0),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Fault::Silent),
            Err(_) => Ok(false),
        }
    }
}

fn parse_head(head: &[u8]) -> Result<Reply, Fault> {
    let text = std::str::from_utf8(head).map_err(|_| Fault::Malformed("head".into()))?;
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..4));
    let status = status.and_then(|code| code.strip_suffix(' ')?.parse().ok());
    let status = status.ok_or_else(|| Fault::Malformed(format!("status line {first:?}")))?;
    let mut headers = Vec::new();
    for line in lines {
        let parts = line.split_once(':').filter(|(name, _)| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        });
        let (name, value) = parts.ok_or_else(|| Fault::Malformed(format!("header {line:?}")))?;
        if value.bytes().any(|b| b < 0x20 && b != b'\t') {
            return Err(Fault::Malformed(format!("header {line:?}")));
        }
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Ok(Reply { status, headers, body: Vec::new(), last: false })
}
