//! An origin that answers as a test's own function says: any bytes, from what was asked. Only requests that came whole count.
//! Called by cases that look at what reaches an origin, word by word.

use crate::origin::tls_config;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;

/// A request that came whole.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its first line and fields, without the empty line.
    pub head: String,
    /// Its body; of chunks their data.
    pub body: Vec<u8>,
    /// How many requests came before it.
    pub before: usize,
}

impl Asked {
    /// A word of the first line.
    fn word(&self, at: usize) -> &str {
        self.head.split(['\r', ' ']).nth(at).unwrap_or_default()
    }

    /// Its method.
    pub fn method(&self) -> &str {
        self.word(0)
    }

    /// Its target.
    pub fn target(&self) -> &str {
        self.word(1)
    }

    /// The values of a field, whatever the case of its name.
    pub fn fields(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }

    /// The value of a field that is there once at most.
    pub fn field(&self, name: &str) -> Option<&str> {
        let values = self.fields(name);
        assert!(values.len() <= 1, "{name} twice: {}", self.head);
        values.first().copied()
    }
}

type Says = dyn Fn(&Asked, &mut dyn Write) -> io::Result<()> + Send + Sync;

/// A running origin. It ends with the test's process.
#[derive(Clone)]
pub struct Scripted {
    /// Where it listens.
    pub addr: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    connections: Arc<AtomicUsize>,
    tls: Option<Arc<ServerConfig>>,
    says: Arc<Says>,
}

impl Scripted {
    /// Answers with the bytes that `says` gives; none: it closes.
    pub fn start(says: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::start_saying(move |asked, to| match says(asked) {
            answer if answer.is_empty() => Err(io::ErrorKind::ConnectionAborted.into()),
            answer => to.write_all(&answer),
        })
    }

    /// Has `says` write each answer, when and in which pieces it likes; an error: it closes.
    pub fn start_saying(
        says: impl Fn(&Asked, &mut dyn Write) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), None, Arc::new(says))
    }

    /// As [`Scripted::start_saying`], over TLS; the certificate that it shows comes back as PEM.
    pub fn start_tls(
        says: impl Fn(&Asked, &mut dyn Write) -> io::Result<()> + Send + Sync + 'static,
    ) -> (Self, String) {
        let (config, pem) = tls_config();
        (Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), Some(config), Arc::new(says)), pem)
    }

    /// As [`Scripted::start_saying`], at an address of the caller's.
    pub fn start_on(
        addr: SocketAddr,
        says: impl Fn(&Asked, &mut dyn Write) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::start_at(addr, None, Arc::new(says))
    }

    fn start_at(addr: SocketAddr, tls: Option<Arc<ServerConfig>>, says: Arc<Says>) -> Self {
        let listener = TcpListener::bind(addr).expect("a port");
        let addr = listener.local_addr().expect("bound");
        let origin = Self { addr, asked: Arc::default(), connections: Arc::default(), tls, says };
        let me = origin.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (me, stream) = (me.clone(), stream.expect("accepted"));
                me.connections.fetch_add(1, Relaxed);
                // Clients come and go as they like.
                thread::spawn(move || me.serve(stream).ok());
            }
        });
        origin
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls.is_some() { "https" } else { "http" }, self.addr)
    }

    /// Connections accepted.
    pub fn connections(&self) -> usize {
        self.connections.load(Relaxed)
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("unpoisoned").clone()
    }

    /// Those for a target.
    pub fn asked_for(&self, target: &str) -> Vec<Asked> {
        self.asked().into_iter().filter(|asked| asked.target() == target).collect()
    }

    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        match &self.tls {
            None => self.converse(stream),
            Some(config) => {
                let tls = ServerConnection::new(config.clone()).expect("a valid configuration");
                self.converse(StreamOwned::new(tls, stream))
            }
        }
    }

    fn converse(&self, wire: impl Read + Write) -> io::Result<()> {
        let mut input = BufReader::new(wire);
        loop {
            let head = read_head(&mut input)?;
            let mut asked = Asked { head, body: Vec::new(), before: 0 };
            asked.body = read_body(&mut input, &asked)?;
            {
                let mut all = self.asked.lock().expect("unpoisoned");
                asked.before = all.len();
                all.push(asked.clone());
            }
            (self.says)(&asked, input.get_mut())?;
            input.get_mut().flush()?;
        }
    }
}

fn read_line(input: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    if input.read_until(b'\n', &mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

fn read_head(input: &mut impl BufRead) -> io::Result<String> {
    let mut head = String::new();
    loop {
        let line = read_line(input)?;
        if line == "\r\n" {
            return Ok(head);
        }
        head.push_str(&line);
    }
}

fn read_body(input: &mut impl BufRead, asked: &Asked) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if let Some(length) = asked.field("content-length") {
        body.resize(length.parse().map_err(|_| io::ErrorKind::InvalidData)?, 0);
        input.read_exact(&mut body)?;
    } else if asked.field("transfer-encoding").is_some() {
        loop {
            let line = read_line(input)?;
            let size = usize::from_str_radix(line.trim(), 16).map_err(|_| io::ErrorKind::InvalidData)?;
            let from = body.len();
            body.resize(from + size, 0);
            input.read_exact(&mut body[from..])?;
            read_line(input)?;
            if size == 0 {
                return Ok(body);
            }
        }
    }
    Ok(body)
}

/// An answer with a body, framed by its length.
pub fn answer(status: u16, fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status} X\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// What an honest origin with ranges answers to `asked` that has `body` under `etag` (none: empty): 200, 206, 304 or 416. HEAD gets no body.
pub fn honest(asked: &Asked, etag: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let tag = if etag.is_empty() { String::new() } else { format!("ETag: {etag}\r\n") };
    let fields = format!("{tag}{fields}");
    if !etag.is_empty() && asked.field("if-none-match") == Some(etag) {
        return format!("HTTP/1.1 304 X\r\n{fields}\r\n").into_bytes();
    }
    if asked.field("if-match").is_some_and(|wanted| wanted != etag) {
        return answer(412, &fields, b"");
    }
    let size = body.len();
    let whole = |status, fields: &str, body: &[u8]| {
        let mut bytes = answer(status, fields, body);
        if asked.method() == "HEAD" {
            bytes.truncate(bytes.len() - body.len());
        }
        bytes
    };
    let Some((from, to)) = asked.field("range").and_then(|range| range_of(range, size)) else {
        return whole(200, &fields, body);
    };
    if from >= to {
        return answer(416, &format!("Content-Range: bytes */{size}\r\n"), b"");
    }
    let said = format!("Content-Range: bytes {from}-{}/{size}\r\n", to - 1);
    whole(206, &format!("{fields}{said}"), &body[from..to])
}

/// `bytes=A-B`, `bytes=A-` or `bytes=-N` of a body of `size` bytes.
fn range_of(range: &str, size: usize) -> Option<(usize, usize)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    if first.is_empty() {
        return Some((size.saturating_sub(last.parse().ok()?), size));
    }
    let first = first.parse().ok()?;
    let last = if last.is_empty() { usize::MAX } else { last.parse().ok()? };
    Some((first, last.saturating_add(1).min(size)))
}
