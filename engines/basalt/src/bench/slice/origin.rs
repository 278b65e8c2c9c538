//! An origin on loopback: `GET /SIZE/NUMBER` is an object of so many bytes, which are those of the pattern; whatever the query.
//!
//! A thread for each connection: whoever asks has a bound of its own. Ends with the process.

use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::thread;

use crate::bench::pattern::Pattern;

/// A line of a head, and its lines, beyond which it is no client of ours.
const HEAD_BYTES_MAX: u64 = 64 << 10;
/// Written at a time.
const BUFFER_BYTES: usize = 256 << 10;

/// It listens.
pub struct Origin {
    addr: SocketAddr,
}

impl Origin {
    /// Listens on a port of its own.
    pub fn start(pattern: Pattern) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let addr = listener.local_addr()?;
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let pattern = pattern.clone();
                // A client that goes away is no matter.
                thread::spawn(move || drop(serve(&stream, &pattern)));
            }
        });
        Ok(Self { addr })
    }

    /// Where.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// A request as far as it matters.
#[derive(Debug, Default, PartialEq, Eq)]
struct Request {
    size: u64,
    number: u64,
    /// First and last byte.
    range: Option<(u64, u64)>,
}

impl Request {
    /// Reads a line of the head; `None`: it is none that this origin understands.
    fn read(&mut self, line: &str) -> Option<()> {
        if let Some(rest) = line.strip_prefix("GET /") {
            let path = rest.split([' ', '?']).next()?;
            let (size, number) = path.split_once('/')?;
            (self.size, self.number) = (size.parse().ok()?, number.parse().ok()?);
        } else if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("range")
        {
            let (first, last) = value.trim().strip_prefix("bytes=")?.split_once('-')?;
            self.range = Some((first.parse().ok()?, last.parse().unwrap_or(u64::MAX)));
        }
        Some(())
    }

    /// The bytes to send, and the head before them.
    fn answer(&self) -> (Range<u64>, String) {
        let size = self.size;
        let part = match self.range {
            Some((first, last)) => first.min(size)..last.saturating_add(1).min(size),
            None => 0..size,
        };
        let status = match self.range {
            Some(_) if part.is_empty() => {
                format!("416 Range Not Satisfiable\r\nContent-Range: bytes */{size}")
            }
            Some(_) => {
                let (first, last) = (part.start, part.end - 1);
                format!("206 Partial Content\r\nContent-Range: bytes {first}-{last}/{size}")
            }
            None => "200 OK".to_owned(),
        };
        let length = part.end - part.start;
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nETag: \"{size}-{}\"\r\nAccept-Ranges: bytes\r\n\
             Cache-Control: max-age=86400\r\nContent-Type: application/octet-stream\r\n\r\n",
            self.number
        );
        (part, head)
    }
}

/// Answers one request after the other.
fn serve(stream: &TcpStream, pattern: &Pattern) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, stream);
    let mut heads = BufReader::new(stream);
    loop {
        let (mut request, mut line) = (Request::default(), String::new());
        let mut head = io::Read::take(&mut heads, HEAD_BYTES_MAX);
        loop {
            line.clear();
            if head.read_line(&mut line)? == 0 {
                return Ok(());
            }
            match line.trim_end() {
                "" => break,
                line if request.read(line).is_none() => {
                    return out.write_all(
                        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                    );
                }
                _ => {}
            }
        }
        let (part, head) = request.answer();
        out.write_all(head.as_bytes())?;
        pattern.write(Pattern::place(request.number, part.start), part.end - part.start, &mut out)?;
        out.flush()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn answer(origin: &Origin, head: &str) -> Vec<u8> {
        let mut stream = TcpStream::connect(origin.addr()).expect("it listens");
        stream.write_all(head.as_bytes()).expect("it takes a head");
        stream.shutdown(std::net::Shutdown::Write).expect("open");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("it answers");
        bytes
    }

    #[test]
    fn objects_and_their_ranges_are_those_of_the_pattern() {
        let pattern = Pattern::new(3);
        let origin = Origin::start(pattern.clone()).expect("loopback");
        for (range, status, part) in [
            ("", "200 OK", 0..1000),
            ("Range: bytes=10-19\r\n", "206 Partial Content\r\nContent-Range: bytes 10-19/1000", 10..20),
            (
                "Range: bytes=990-5000\r\n",
                "206 Partial Content\r\nContent-Range: bytes 990-999/1000",
                990..1000,
            ),
            (
                "range: bytes=1000-\r\n",
                "416 Range Not Satisfiable\r\nContent-Range: bytes */1000",
                1000..1000,
            ),
        ] {
            let text = format!("GET /1000/5?q HTTP/1.1\r\nHost: o\r\n{range}\r\n");
            // Twice on one connection.
            let bytes = answer(&origin, &text.repeat(2));
            let len = part.end - part.start;
            let mut expected = format!("HTTP/1.1 {status}\r\nContent-Length: {len}\r\n").into_bytes();
            assert!(bytes.starts_with(&expected), "{range}: {}", String::from_utf8_lossy(&bytes[..200]));
            expected.clear();
            pattern.write(Pattern::place(5, part.start), len, &mut expected).expect("a vector takes all");
            assert!(bytes.ends_with(&expected) && bytes.len().is_multiple_of(2), "{range}");
            let (first, second) = bytes.split_at(bytes.len() / 2);
            assert_eq!(first, second, "{range}");
        }
        assert!(answer(&origin, "POST /x HTTP/1.1\r\nRange: rows=1\r\n\r\n").starts_with(b"HTTP/1.1 400 "));
    }
}
