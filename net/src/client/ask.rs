//! Requests in the caller's own words: any method, any fields, a body as it comes. No redirect is followed and no field added but Host
//! and how the body is framed. Called by engines that pass on what others ask.
//!
//! Invariant: a request with a body, or one that is not safe to repeat, goes out once: over a new connection, since one that was kept
//! may be closed at its other end.

use super::pool::{Host, Link};
use super::{Client, ClientError, Reply, Url};
use runtime::io::{Hangup, Io};

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The method: a token.
    pub method: &'a str,
    /// Where to; its target is sent as it stands.
    pub url: &'a Url,
    /// Field lines. One that could end its line is left out.
    pub fields: &'a [(Vec<u8>, Vec<u8>)],
}

impl Ask<'_> {
    fn head(&self, framing: &str) -> Vec<u8> {
        let (method, target, authority) = (self.method, &self.url.target, self.url.authority());
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {authority}\r\n{framing}").into_bytes();
        let is_line = |text: &[u8]| !text.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
        for (name, value) in self.fields.iter().filter(|(name, value)| is_line(name) && is_line(value)) {
            head.extend([&name[..], b": ", value, b"\r\n"].concat());
        }
        head.extend_from_slice(b"\r\n");
        head
    }
}

impl<I: Io> Client<I> {
    /// Asks without a body.
    ///
    /// # Errors
    /// There is no answer; one with any status is one.
    pub async fn ask(&self, ask: &Ask<'_>) -> Result<Reply<I>, ClientError> {
        match ask.method {
            "GET" | "HEAD" => self.exchange(ask.url, &ask.head(""), ask.method == "HEAD").await,
            _ => self.begin(ask, Some(0)).await?.finish().await,
        }
    }

    /// Begins a request whose body follows; `length`: if it is known.
    ///
    /// # Errors
    /// There is no connection, or it broke.
    pub async fn begin(&self, ask: &Ask<'_>, length: Option<u64>) -> Result<Sending<I>, ClientError> {
        let mut link = self.connect(&Host::of(ask.url)).await?;
        let framing = match length {
            Some(length) => format!("Content-Length: {length}\r\n"),
            None => "Transfer-Encoding: chunked\r\n".to_owned(),
        };
        link.guard.set(self.now_ns() + self.inner.limits.head_wait_ns, Hangup::Both, false);
        link.stream.send(&ask.head(&framing)).await?;
        let is_head = ask.method == "HEAD";
        Ok(Sending {
            client: self.clone(),
            url: ask.url.clone(),
            link,
            is_chunked: length.is_none(),
            is_head,
        })
    }
}

/// A request whose body is being sent.
pub struct Sending<I: Io> {
    client: Client<I>,
    url: Url,
    link: Link<I>,
    is_chunked: bool,
    is_head: bool,
}

impl<I: Io> Sending<I> {
    /// Sends a piece of the body.
    ///
    /// # Errors
    /// The origin takes no more of it: its answer may be there all the same.
    pub async fn write(&mut self, piece: &[u8]) -> Result<(), ClientError> {
        if piece.is_empty() {
            return Ok(());
        }
        let wait_ns = self.client.inner.limits.body_wait_ns;
        self.link.guard.set(self.client.now_ns() + wait_ns, Hangup::Both, false);
        if !self.is_chunked {
            return Ok(self.link.stream.send(piece).await?);
        }
        let size = format!("{:x}\r\n", piece.len());
        Ok(self.link.stream.send(&[size.as_bytes(), piece, b"\r\n"].concat()).await?)
    }

    /// The body is whole, or the origin wants no more of it: its answer.
    ///
    /// # Errors
    /// There is none.
    pub async fn finish(mut self) -> Result<Reply<I>, ClientError> {
        let last: &[u8] = if self.is_chunked { b"0\r\n\r\n" } else { b"" };
        let mut input = Vec::new();
        let head = self.client.converse(&mut self.link, last, &mut input).await?;
        Ok(Reply::new(&self.client, self.url, self.link, (head, self.is_head), input))
    }
}
