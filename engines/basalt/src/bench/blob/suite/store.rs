//! Stores the blobs of a suite: streamed, so that a blob may be larger than memory.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use super::super::talk::Stored;
use crate::bench::pattern::Pattern;
use crate::bench::response::Response;
use crate::cli::digest::Digest;
use crate::error::Error;

/// Connections that store at a time: durable PUTs are committed in groups.
const CONNECTIONS_MAX: usize = 16;
/// How long the server may be silent: it may have gigabytes to sync.
const PATIENCE: Duration = Duration::from_secs(120);

/// A blob that the server has.
#[derive(Clone, Debug)]
pub struct Blob {
    /// Its place among the suite's: what its bytes are.
    pub number: u64,
    /// Bytes.
    pub size: u64,
    /// Its name.
    pub digest: Digest,
}

/// Stores blobs of these sizes, numbered from `first` on.
pub fn store(
    addr: SocketAddr,
    pattern: &Pattern,
    first: u64,
    sizes: &[u64],
    stored: &Stored,
) -> Result<Vec<Blob>, Error> {
    let numbered: Vec<(u64, u64)> = (first..).zip(sizes.iter().copied()).collect();
    let each = numbered.len().div_ceil(CONNECTIONS_MAX).max(1);
    let outcomes: Vec<Result<Vec<Blob>, String>> = thread::scope(|scope| {
        let start = |part| scope.spawn(move || store_part(addr, pattern, part, stored));
        let running: Vec<_> = numbered.chunks(each).map(start).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|_| Err("a storing thread panicked".into()))
        };
        running.into_iter().map(join).collect()
    });
    let failed = |why| Error::runtime(format!("cannot store the suite's blobs on {addr}")).why(why);
    let parts = outcomes.into_iter().collect::<Result<Vec<_>, _>>().map_err(failed)?;
    Ok(parts.concat())
}

fn store_part(
    addr: SocketAddr,
    pattern: &Pattern,
    part: &[(u64, u64)],
    stored: &Stored,
) -> Result<Vec<Blob>, String> {
    let failed = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(addr).map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    let mut blobs = Vec::new();
    for &(number, size) in part {
        let head = format!("PUT /blobs HTTP/1.1\r\nHost: {addr}\r\nContent-Length: {size}\r\n\r\n");
        let sent = stream
            .write_all(head.as_bytes())
            .and_then(|()| pattern.write(Pattern::place(number, 0), size, &mut stream));
        // A server that refuses answers and closes before it has all: its answer tells more than our error.
        let (digest, keep) = answer(&mut stream).map_err(|why| match sent {
            Ok(()) => why,
            Err(error) => format!("{why} ({error})"),
        })?;
        stored.add(digest);
        blobs.push(Blob { number, size, digest: Digest::of_hash(&digest) });
        if !keep {
            stream = TcpStream::connect(addr).map_err(failed)?;
        }
    }
    Ok(blobs)
}

/// The digest that a 201 names, and whether the connection can be used again.
fn answer(stream: &mut TcpStream) -> Result<([u8; 32], bool), String> {
    let (mut response, mut received) = (Response::default(), [0; 4096]);
    loop {
        let count = stream.read(&mut received).map_err(|error| error.to_string())?;
        if count == 0 {
            return Err("the server closed the connection without an answer".into());
        }
        if let Some(head) = response.hear(&received[..count])? {
            let digest = head.location.filter(|_| head.status == 201);
            return digest.map(|digest| (digest, head.keep)).ok_or(format!("status {}", head.status));
        }
    }
}
