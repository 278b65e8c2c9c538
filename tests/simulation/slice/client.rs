//! A client of the proxy over simulated connections: quick, slow, or gone in the middle. It takes what comes as it comes; what that
//! is worth is `judge`'s.

use super::run::slice_addr;
use runtime::io::{Conn, Io};
use runtime::twin::{TwinConn, TwinIo};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// How a client takes an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    Quick,
    /// With so long a pause after each piece.
    Slow(u64),
    /// It leaves once it has so many bytes of the body.
    Leaves(usize),
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Whole,
    Cut,
    /// The client did.
    Left,
}

/// An answer whose head came.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub fields: BTreeMap<String, String>,
    /// What came of it.
    pub body: Vec<u8>,
    pub end: End,
}

impl Answer {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    pub fn number(&self, name: &str) -> Option<u64> {
        self.field(name)?.parse().ok()
    }

    /// It is the origin's own answer to this request.
    pub fn is_passed(&self) -> bool {
        self.field("x-cache") == Some("BYPASS")
    }
}

/// One client; connects when it has to.
pub struct Client {
    io: TwinIo,
    addr: SocketAddr,
    conn: Option<TwinConn>,
    unread: Vec<u8>,
}

/// What is left of a body.
enum Left {
    Bytes(u64),
    Chunks,
    UntilClose,
}

impl Client {
    /// Of the proxy.
    pub fn new(io: &TwinIo) -> Client {
        Client::at(io, slice_addr())
    }

    pub fn at(io: &TwinIo, addr: SocketAddr) -> Client {
        Client { io: io.clone(), addr, conn: None, unread: Vec::new() }
    }

    /// Sends a request and takes its answer. `None`: no head came.
    pub async fn call(&mut self, head: &str, body: &[u8], pace: Pace) -> Option<Answer> {
        let answer = self.try_call(head, body, pace).await;
        let goes_on = answer
            .as_ref()
            .is_some_and(|answer| answer.end == End::Whole && answer.field("connection") != Some("close"));
        if !goes_on {
            self.conn = None;
            self.unread.clear();
        }
        answer
    }

    async fn try_call(&mut self, head: &str, body: &[u8], pace: Pace) -> Option<Answer> {
        if self.conn.is_none() {
            self.unread.clear();
            self.conn = Some(self.io.connect(self.addr).await.ok()?);
        }
        self.conn.as_mut().expect("just connected").send(head.as_bytes(), body).await.ok()?;
        let (status, fields) = loop {
            if let Some(end) = self.unread.windows(4).position(|w| w == b"\r\n\r\n") {
                let head: Vec<u8> = self.unread.drain(..end + 4).collect();
                break parse_head(&head);
            }
            self.more().await?;
        };
        let mut answer = Answer { status, fields, body: Vec::new(), end: End::Cut };
        let left = match (answer.number("content-length"), answer.field("transfer-encoding")) {
            _ if head.starts_with("HEAD") || matches!(status, 204 | 304) => Left::Bytes(0),
            (Some(length), _) => Left::Bytes(length),
            (None, Some(_)) => Left::Chunks,
            (None, None) => Left::UntilClose,
        };
        answer.end = self.take_body(left, pace, &mut answer.body).await;
        Some(answer)
    }

    async fn take_body(&mut self, mut left: Left, pace: Pace, body: &mut Vec<u8>) -> End {
        loop {
            match &mut left {
                Left::Bytes(bytes) => {
                    let count = self.unread.len().min(*bytes as usize);
                    body.extend(self.unread.drain(..count));
                    *bytes -= count as u64;
                    if *bytes == 0 {
                        return End::Whole;
                    }
                }
                Left::Chunks => {
                    while let Some(chunk) = take_chunk(&mut self.unread) {
                        if chunk.is_empty() {
                            return End::Whole;
                        }
                        body.extend(chunk);
                    }
                }
                Left::UntilClose => body.append(&mut self.unread),
            }
            match pace {
                Pace::Leaves(bytes) if body.len() >= bytes => return End::Left,
                Pace::Slow(ns) => self.io.sleep(ns).await,
                _ => {}
            }
            if self.more().await.is_none() {
                return if matches!(left, Left::UntilClose) { End::Whole } else { End::Cut };
            }
        }
    }

    /// Receives. `None`: the connection has ended.
    async fn more(&mut self) -> Option<()> {
        let chunk = self.conn.as_mut()?.recv().await.ok()?;
        self.unread.extend_from_slice(&chunk);
        (!chunk.is_empty()).then_some(())
    }
}

/// A whole chunk, if it is there; the last one is empty.
fn take_chunk(unread: &mut Vec<u8>) -> Option<Vec<u8>> {
    let end = unread.windows(2).position(|w| w == b"\r\n")?;
    let length =
        std::str::from_utf8(&unread[..end]).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
    let length = length.expect("the length of a chunk");
    let all = end + 2 + length + 2;
    if unread.len() < all {
        return None;
    }
    let chunk = unread[end + 2..all - 2].to_vec();
    unread.drain(..all);
    Some(chunk)
}

fn parse_head(head: &[u8]) -> (u16, BTreeMap<String, String>) {
    let text = std::str::from_utf8(head).expect("a head is text");
    let mut lines = text.split("\r\n");
    let line = lines.next().expect("a status line");
    let status = line.strip_prefix("HTTP/1.1 ").and_then(|l| l.get(..3)).expect("a status");
    let fields = lines.filter(|l| !l.is_empty()).map(|l| {
        let (name, value) = l.split_once(':').expect("a field");
        (name.to_ascii_lowercase(), value.trim().to_owned())
    });
    (status.parse().expect("a number"), fields.collect())
}
