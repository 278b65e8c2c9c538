//! One blocking connection that stores, fetches and deletes blobs.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::content::Content;
use crate::Result;
use crate::load::response::Head;
use crate::net::connect_blocking;

/// Received at once.
pub const READ_BYTES: usize = 256 << 10;

/// A connection to a server; it is made anew when the server closed it after an answer.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    stream: TcpStream,
    received: Vec<u8>,
    request: Vec<u8>,
}

/// What a PUT came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    /// 201, and the digest that the server says.
    Stored(String),
    /// 503 or 507: the server cannot take it now.
    Refused(u16),
}

impl Client {
    /// Connects.
    pub fn connect(address: SocketAddr) -> Result<Self> {
        let stream = connect_blocking(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { address, stream, received: vec![0; READ_BYTES], request: Vec::new() })
    }

    /// Stores blob `number` of `size` bytes.
    pub fn put(&mut self, content: &Content, number: u64, size: u64) -> Result<Put> {
        let address = self.address;
        self.request.clear();
        write!(self.request, "PUT /blobs HTTP/1.1\r\nHost: {address}\r\nContent-Length: {size}\r\n\r\n")?;
        match content.write(number, size, &mut self.request, &mut self.stream) {
            // The server may have answered and closed: the answer tells more.
            Err(e) if matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
            sent => sent?,
        }
        let mut answer = Vec::new();
        let (status, _) = self.answer(|_, bytes| {
            answer.extend_from_slice(bytes);
            Ok(())
        })?;
        let text = String::from_utf8_lossy(&answer);
        match status {
            201 => {
                let digest = text.split('"').find(|part| part.starts_with("sha256:"));
                Ok(Put::Stored(digest.ok_or_else(|| format!("201 without a digest: {text}"))?.to_owned()))
            }
            503 | 507 => Ok(Put::Refused(status)),
            _ => Err(format!("PUT of blob {number}: {status} {text}").into()),
        }
    }

    /// Deletes a blob.
    pub fn delete(&mut self, digest: &str) -> Result<()> {
        match self.ask("DELETE", &format!("/blobs/{digest}"), |_, _| Ok(()))? {
            (204, _) => Ok(()),
            (status, _) => Err(format!("DELETE {digest}: {status}").into()),
        }
    }

    /// Fetches `path`; `see` has every piece of the body with its place in it. Bytes of the body.
    pub fn get(&mut self, path: &str, see: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<u64> {
        match self.ask("GET", path, see)? {
            (200, bytes) => Ok(bytes),
            (status, _) => Err(format!("GET {path}: {status}").into()),
        }
    }

    fn ask(
        &mut self,
        method: &str,
        path: &str,
        see: impl FnMut(u64, &[u8]) -> Result<()>,
    ) -> Result<(u16, u64)> {
        self.request.clear();
        write!(self.request, "{method} {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address)?;
        self.stream.write_all(&self.request)?;
        self.answer(see)
    }

    /// Status and length of the next answer. A body of another status than 200 or 201 is not shown.
    fn answer(&mut self, mut see: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<(u16, u64)> {
        let mut have = 0;
        let head = loop {
            if let Some(head) = Head::parse(&self.received[..have])? {
                break head;
            }
            match self.stream.read(&mut self.received[have..])? {
                0 => return Err("the server closed the connection inside an answer".into()),
                n => have += n,
            }
        };
        let none = head.status == 204;
        let length = head.content_length.or(none.then_some(0)).ok_or("an answer without Content-Length")?;
        let mut see =
            |at, bytes: &[u8]| if matches!(head.status, 200 | 201) { see(at, bytes) } else { Ok(()) };
        let mut at = (have - head.bytes) as u64;
        see(0, &self.received[head.bytes..have])?;
        while at < length {
            let most = self.received.len().min((length - at) as usize);
            match self.stream.read(&mut self.received[..most])? {
                0 => return Err(format!("a body of {length} bytes ended after {at}").into()),
                n => {
                    see(at, &self.received[..n])?;
                    at += n as u64;
                }
            }
        }
        if at != length {
            return Err(format!("{at} bytes came as an answer of {length}").into());
        }
        if head.close {
            *self = Self::connect(self.address)?;
        }
        Ok((head.status, length))
    }
}
