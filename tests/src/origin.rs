//! An origin: a threaded HTTP server, plain or TLS, that serves objects by ranges, misbehaves as told, and counts what it was
//! asked for.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What the origin does wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Another status, with these header lines.
    Status(u16, &'static str),
    /// Half of the body, then a reset.
    Reset,
    /// Half of the body, then an orderly end.
    Short,
    /// A Content-Range one byte off.
    WrongRange,
    /// No answer; the connection stays open for this long.
    Silent(Duration),
    /// Bytes instead of HTTP.
    Raw(&'static str),
}

/// An object and how it is served.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its bytes.
    pub body: Arc<Vec<u8>>,
    /// `ETag`; none when empty.
    pub etag: String,
    /// Whether ranges are served.
    pub ranges: bool,
    /// Whether whole bodies go out chunked.
    pub chunked: bool,
    /// Further lines of the head, each with its line end.
    pub fields: String,
    /// Slept before each 64 KiB.
    pub pause: Duration,
    /// What goes wrong, and with how many requests.
    pub fault: Option<(Fault, u32)>,
    /// From this request on, another object is served under the name.
    pub becomes: Option<(u32, Box<Object>)>,
}

impl Object {
    /// A well-behaved object.
    pub fn new(body: Vec<u8>) -> Self {
        Self {
            body: Arc::new(body),
            etag: "\"v1\"".to_owned(),
            ranges: true,
            chunked: false,
            fields: String::new(),
            pause: Duration::ZERO,
            fault: None,
            becomes: None,
        }
    }

    /// Goes wrong with the first `times` requests.
    pub fn fault(mut self, fault: Fault, times: u32) -> Self {
        self.fault = Some((fault, times));
        self
    }
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Object>,
    /// Requests by path and range.
    asked: BTreeMap<(String, String), u32>,
    connections: u32,
}

/// A running origin. It ends with the test's process.
#[derive(Clone)]
pub struct Origin {
    addr: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    state: Arc<Mutex<State>>,
}

trait Wire: Read + Write {
    fn socket(&self) -> &TcpStream;
}

impl Wire for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Wire for StreamOwned<ServerConnection, TcpStream> {
    fn socket(&self) -> &TcpStream {
        &self.sock
    }
}

/// TLS as a server of this machine speaks it, and the certificate that it shows as PEM.
pub fn tls_config() -> (Arc<ServerConfig>, String) {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("the key is the certificate's");
    (Arc::new(config), made.cert.pem())
}

impl Origin {
    /// Speaks http.
    pub fn start() -> Self {
        Self::start_as(None)
    }

    /// Speaks https; the certificate that it shows comes back as PEM.
    pub fn start_tls() -> (Self, String) {
        let (config, pem) = tls_config();
        (Self::start_as(Some(config)), pem)
    }

    fn start_as(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let addr = listener.local_addr().expect("bound");
        let origin = Self { addr, tls, state: Arc::default() };
        let me = origin.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (me, stream) = (me.clone(), stream.expect("accepted"));
                me.state.lock().expect("unpoisoned").connections += 1;
                thread::spawn(move || me.serve(stream));
            }
        });
        origin
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.addr)
    }

    /// Serves an object from now on.
    pub fn put(&self, path: &str, object: Object) {
        self.state.lock().expect("unpoisoned").objects.insert(path.to_owned(), object);
    }

    /// How often each range of a path was asked for.
    pub fn asked(&self, path: &str) -> BTreeMap<String, u32> {
        let state = self.state.lock().expect("unpoisoned");
        let of_path = state.asked.iter().filter(|((p, _), _)| p == path);
        of_path.map(|((_, range), &count)| (range.clone(), count)).collect()
    }

    /// All requests for a path.
    pub fn total(&self, path: &str) -> u32 {
        self.asked(path).values().sum()
    }

    /// Connections accepted.
    pub fn connections(&self) -> u32 {
        self.state.lock().expect("unpoisoned").connections
    }

    fn serve(&self, stream: TcpStream) {
        stream.set_nodelay(true).ok();
        // Clients come and go as they like.
        let _ = match &self.tls {
            None => self.serve_wire(stream),
            Some(config) => {
                let tls = ServerConnection::new(config.clone()).expect("a valid configuration");
                self.serve_wire(StreamOwned::new(tls, stream))
            }
        };
    }

    fn serve_wire(&self, mut wire: impl Wire) -> io::Result<()> {
        loop {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                wire.read_exact(&mut byte)?;
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let mut words = head.split(' ');
            let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or("/").to_owned());
            let field = |name: &str| {
                head.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned))
            };
            if !matches!(method, "GET" | "HEAD") {
                echo(&mut wire, method, &path, field("Content-Length"))?;
                continue;
            }
            let range = field("Range").unwrap_or_default();
            let (object, fault) = self.look_up(&path, &range);
            let Some(object) = object else {
                wire.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone")?;
                continue;
            };
            if let Some(status) = unmet(&object, field("If-Match"), field("If-None-Match")) {
                let head = format!("HTTP/1.1 {status} X\r\nETag: {}\r\n{}", object.etag, object.fields);
                let length = if status == 304 { "" } else { "Content-Length: 0\r\n" };
                wire.write_all(format!("{head}{length}\r\n").as_bytes())?;
                continue;
            }
            let is_head = method == "HEAD";
            answer(&mut wire, &object, fault, (&range, is_head), field("If-Range").as_deref())?;
        }
    }

    fn look_up(&self, path: &str, range: &str) -> (Option<Object>, Option<Fault>) {
        let mut state = self.state.lock().expect("unpoisoned");
        *state.asked.entry((path.to_owned(), range.to_owned())).or_default() += 1;
        let Some(object) = state.objects.get_mut(path) else { return (None, None) };
        if let Some((left, next)) = &mut object.becomes {
            if *left == 0 {
                *object = (**next).clone();
            } else {
                *left -= 1;
            }
        }
        let fault = match &mut object.fault {
            Some((fault, left)) if *left > 0 => {
                *left -= 1;
                Some(fault.clone())
            }
            _ => None,
        };
        (Some(object.clone()), fault)
    }
}

/// The status of a condition that does not hold.
fn unmet(object: &Object, if_match: Option<String>, if_none_match: Option<String>) -> Option<u16> {
    if if_match.is_some_and(|tag| tag != object.etag) {
        return Some(412);
    }
    if_none_match.is_some_and(|tag| tag == object.etag).then_some(304)
}

/// Says what it was told: method, target, body.
fn echo(wire: &mut impl Wire, method: &str, path: &str, length: Option<String>) -> io::Result<()> {
    let mut body = Vec::new();
    match length.and_then(|text| text.parse().ok()) {
        Some(length) => {
            body.resize(length, 0);
            wire.read_exact(&mut body)?;
        }
        None => {
            while !body.ends_with(b"0\r\n\r\n") {
                let mut byte = [0];
                wire.read_exact(&mut byte)?;
                body.push(byte[0]);
            }
        }
    }
    let told = [format!("{method} {path}\n").as_bytes(), &body].concat();
    let head = format!("HTTP/1.1 299 Echo\r\nContent-Length: {}\r\n\r\n", told.len());
    wire.write_all(&[head.as_bytes(), &told].concat())
}

/// `bytes=A-B` or `bytes=-N` of an object of `size` bytes.
fn parse_range(range: &str, size: usize) -> Option<(usize, usize)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    if first.is_empty() {
        return Some((size.saturating_sub(last.parse().ok()?), size));
    }
    let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
    Some((first, (last + 1).min(size)))
}

fn answer(
    wire: &mut impl Wire,
    object: &Object,
    fault: Option<Fault>,
    (range, is_head): (&str, bool),
    if_range: Option<&str>,
) -> io::Result<()> {
    match &fault {
        Some(Fault::Status(status, fields)) => {
            let head = format!("HTTP/1.1 {status} X\r\n{fields}Content-Length: 5\r\n\r\nsorry");
            return wire.write_all(head.as_bytes());
        }
        Some(Fault::Silent(time)) => {
            thread::sleep(*time);
            return Err(io::ErrorKind::Other.into());
        }
        Some(Fault::Raw(bytes)) => {
            wire.write_all(bytes.as_bytes())?;
            wire.flush()?;
            return Err(io::ErrorKind::Other.into());
        }
        _ => {}
    }
    let size = object.body.len();
    let applies = object.ranges && if_range.is_none_or(|tag| tag == object.etag);
    let part = if applies { parse_range(range, size) } else { None };
    let mut head = String::new();
    if !object.etag.is_empty() {
        head.push_str(&format!("ETag: {}\r\n", object.etag));
    }
    head.push_str(&object.fields);
    let (line, from, to) = match part {
        Some((first, _)) if first >= size => {
            let head =
                format!("HTTP/1.1 416 X\r\nContent-Range: bytes */{size}\r\nContent-Length: 0\r\n\r\n");
            return wire.write_all(head.as_bytes());
        }
        Some((first, end)) => {
            let off = usize::from(fault == Some(Fault::WrongRange));
            head.push_str(&format!(
                "Content-Range: bytes {}-{}/{}\r\n",
                first + off,
                end - 1 + off,
                size + off
            ));
            ("206 Partial Content", first, end)
        }
        None => ("200 OK", 0, size),
    };
    let chunked = object.chunked && part.is_none();
    match chunked {
        true => head.push_str("Transfer-Encoding: chunked\r\n"),
        false => head.push_str(&format!("Content-Length: {}\r\n", to - from)),
    }
    wire.write_all(format!("HTTP/1.1 {line}\r\n{head}\r\n").as_bytes())?;
    if is_head {
        return wire.flush();
    }
    send_body(wire, object, from..to, chunked, fault)
}

fn send_body(
    wire: &mut impl Wire,
    object: &Object,
    range: Range<usize>,
    chunked: bool,
    fault: Option<Fault>,
) -> io::Result<()> {
    let (from, to) = (range.start, range.end);
    let is_cut = matches!(fault, Some(Fault::Reset | Fault::Short));
    let end = if is_cut { from + (to - from) / 2 } else { to };
    for piece in object.body[from..end].chunks(64 << 10) {
        thread::sleep(object.pause);
        if chunked {
            wire.write_all(format!("{:x}\r\n", piece.len()).as_bytes())?;
        }
        wire.write_all(piece)?;
        if chunked {
            wire.write_all(b"\r\n")?;
        }
    }
    if chunked && !is_cut {
        wire.write_all(b"0\r\n\r\n")?;
    }
    wire.flush()?;
    if is_cut {
        if fault == Some(Fault::Reset) {
            let linger = Some(Duration::ZERO);
            rustix::net::sockopt::set_socket_linger(wire.socket(), linger).ok();
        } else {
            wire.socket().shutdown(Shutdown::Both).ok();
        }
        return Err(io::ErrorKind::Other.into());
    }
    Ok(())
}
