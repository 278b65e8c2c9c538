//! What to send: GETs over a list of paths, whole or in ranges, at random or in order, or PUTs of unique bodies. Sizes are bytes.

use std::time::{SystemTime, UNIX_EPOCH};

use super::response::Head;
use crate::Result;
use crate::net::connect_blocking;
use crate::rng::Rng;

/// Bytes at the start of every PUT body that make it unlike any other, of this run or another.
const STAMP_BYTES: usize = 16;
/// A longer body repeats a block of this size after its stamp.
const BLOCK_BYTES: usize = 64 << 20;

/// Which method is measured.
#[derive(Debug)]
pub enum Kind {
    /// `GET` of paths, each with the size of its object where ranges are asked for.
    Get {
        /// Path and object size (0 when unknown).
        paths: Vec<(String, u64)>,
        /// Bytes of a range; 0 asks for the whole object.
        range: u64,
        /// Where every range begins, instead of anywhere.
        from: Option<u64>,
        /// From the start of the first path to the end of the last and again, instead of at random.
        in_order: bool,
    },
    /// `PUT` of bodies of `size` bytes.
    Put {
        /// The request target.
        path: String,
        /// Bytes of a body.
        size: usize,
        /// What follows the stamp, repeated as needed.
        block: Vec<u8>,
    },
}

/// One request, ready to be sent: the head with the start of the body, and how much of the block follows.
#[derive(Debug, Default)]
pub struct Request {
    /// Head and stamp.
    pub head: Vec<u8>,
    /// Bytes of body after the stamp.
    pub rest: usize,
}

/// The source of requests.
#[derive(Debug)]
pub struct Plan {
    /// What is sent.
    pub kind: Kind,
    /// The status every response must have.
    pub status: u16,
    /// The `Content-Length` every response must have, if it is checked.
    pub response_bytes: Option<u64>,
    host: String,
    rng: Rng,
    run: u64,
    made: u64,
    /// Where the next request in order is: the path, and the first byte of its range.
    place: (usize, u64),
}

impl Plan {
    /// A plan of GETs. With a `range` the size of every object is asked from the server first, unless all begin at `from`.
    pub fn get(
        host: &str,
        paths: Vec<String>,
        (range, from): (u64, Option<u64>),
        in_order: bool,
        response_bytes: Option<u64>,
    ) -> Result<Self> {
        if paths.is_empty() {
            return Err("nothing to get: give --path or --paths-file".into());
        }
        let mut sized = Vec::with_capacity(paths.len());
        for path in paths {
            let is_asked = range > 0 && from.is_none();
            let size = if is_asked { object_size(host, &path)? } else { 0 };
            if is_asked && size < range {
                return Err(format!("{path} has {size} bytes, fewer than the range of {range}").into());
            }
            sized.push((path, size));
        }
        let status = if range == 0 { 200 } else { 206 };
        let response_bytes = response_bytes.or((range > 0).then_some(range));
        Ok(Self::new(host, Kind::Get { paths: sized, range, from, in_order }, status, response_bytes))
    }

    /// A plan of PUTs of `size` bytes to `path`.
    #[must_use]
    pub fn put(host: &str, path: &str, size: usize) -> Self {
        let mut block = vec![0u8; size.saturating_sub(STAMP_BYTES).min(BLOCK_BYTES)];
        Rng::new(11).fill(&mut block);
        Self::new(host, Kind::Put { path: path.to_owned(), size, block }, 201, None)
    }

    fn new(host: &str, kind: Kind, status: u16, response_bytes: Option<u64>) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
        let run = now ^ (u64::from(std::process::id()) << 48);
        Self {
            kind,
            status,
            response_bytes,
            host: host.to_owned(),
            rng: Rng::new(5),
            run,
            made: 0,
            place: (0, 0),
        }
    }

    /// Bytes that an acknowledged request carried to the server.
    #[must_use]
    pub fn request_bytes(&self) -> u64 {
        match &self.kind {
            Kind::Get { .. } => 0,
            Kind::Put { size, .. } => *size as u64,
        }
    }

    /// The block that PUT bodies repeat; empty for GET.
    #[must_use]
    pub fn block(&self) -> &[u8] {
        match &self.kind {
            Kind::Get { .. } => &[],
            Kind::Put { block, .. } => block,
        }
    }

    /// Writes the next request into `request`, reusing its memory.
    pub fn next(&mut self, request: &mut Request) {
        use std::io::Write;
        self.made += 1;
        let head = &mut request.head;
        head.clear();
        request.rest = 0;
        match &self.kind {
            Kind::Get { paths, range, from: Some(from), .. } => {
                let path = &paths[self.rng.below(paths.len() as u64) as usize].0;
                let _ = write!(
                    head,
                    "GET {path} HTTP/1.1\r\nHost: {}\r\nRange: bytes={from}-{}\r\n\r\n",
                    self.host,
                    from + range - 1
                );
            }
            Kind::Get { paths, range, from: None, in_order } => {
                let (at, from) = if *in_order {
                    in_order_place(&mut self.place, paths, *range)
                } else {
                    let at = self.rng.below(paths.len() as u64) as usize;
                    (at, if *range > 0 { self.rng.below(paths[at].1 - range + 1) } else { 0 })
                };
                let path = &paths[at].0;
                let _ = write!(head, "GET {path} HTTP/1.1\r\nHost: {}\r\n", self.host);
                if *range > 0 {
                    let _ = write!(head, "Range: bytes={from}-{}\r\n", from + range - 1);
                }
                head.extend_from_slice(b"\r\n");
            }
            Kind::Put { path, size, .. } => {
                let _ = write!(
                    head,
                    "PUT {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {size}\r\n\r\n",
                    self.host
                );
                let mut stamp = [0u8; STAMP_BYTES];
                stamp[..8].copy_from_slice(&self.made.to_le_bytes());
                stamp[8..].copy_from_slice(&self.run.to_le_bytes());
                let stamp = &stamp[..STAMP_BYTES.min(*size)];
                head.extend_from_slice(stamp);
                request.rest = size - stamp.len();
            }
        }
    }
}

/// The place to ask for now; `next` moves on to the one after it. A rest shorter than a range is left out.
fn in_order_place(next: &mut (usize, u64), paths: &[(String, u64)], range: u64) -> (usize, u64) {
    let now = *next;
    next.1 += range;
    if range == 0 || next.1 + range > paths[now.0].1 {
        *next = ((now.0 + 1) % paths.len(), 0);
    }
    now
}

/// Asks the server for the size of the object at `path`.
fn object_size(host: &str, path: &str) -> Result<u64> {
    use std::io::{Read, Write};
    let mut stream = connect_blocking(host.parse()?)?;
    write!(stream, "HEAD {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    match Head::parse(&bytes)? {
        Some(Head { status: 200, content_length: Some(size), .. }) => Ok(size),
        _ => Err(format!("HEAD {path} did not answer 200 with a Content-Length").into()),
    }
}
