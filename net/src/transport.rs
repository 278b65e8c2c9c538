//! A client's connection as the server reads and writes it: plain, or TLS over it. Called by `server`, which makes it, and by
//! everything above through the seam's `Conn`.
//!
//! Invariants
//! 1. Bodies are encrypted in pieces of at most [`PIECE_BYTES`], each sent before the next is made: a connection that waits for
//!    its peer to read holds one piece of ciphertext, one that waits for bytes at most a record of each kind, 110 KiB in all.
//! 2. Receiving never sends, but for the alert that ends a connection: a receive that is dropped loses nothing.
//! 3. The paths of TLS are boxed, so that a plain connection's task does not grow by them.

use crate::tls::Identity;
use runtime::buffer::Buffer;
use runtime::io::{Conn, Hangup};
use runtime::resident::Resident;
use rustls::ServerConnection;
use std::future::poll_fn;
use std::io::{self, BufRead, Write};
use std::task::Poll;

/// Encrypted at a time.
pub const PIECE_BYTES: usize = 64 << 10;
/// Pieces sent before other tasks get their turn: about 0.2 ms.
const PIECES_A_TURN: usize = 4;
/// First byte of a client's first record (RFC 8446 §5.1: `handshake(22)`).
const HANDSHAKE: u8 = 22;

/// A connection.
pub(crate) enum Transport<C> {
    Plain(C),
    Tls(Box<Secure<C>>),
}

/// Bytes as they were received.
pub(crate) enum Received<T> {
    Plain(T),
    Decrypted(Vec<u8>),
}

impl<T: AsRef<[u8]>> AsRef<[u8]> for Received<T> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Received::Plain(chunk) => chunk.as_ref(),
            Received::Decrypted(bytes) => bytes,
        }
    }
}

/// Why TLS was not agreed on.
pub(crate) enum NoTls<C> {
    /// The peer speaks something else.
    Other(C),
    /// It went away, or does not want what we offer.
    Failed,
}

impl<C: Conn> Transport<C> {
    /// Speaks TLS over `conn`, as far as the first bytes of the client's own.
    pub(crate) async fn shake_hands(mut conn: C, identity: &Identity) -> Result<Transport<C>, NoTls<C>> {
        let first = conn.recv().await.map_err(|_| NoTls::Failed)?;
        match first.as_ref().first() {
            None => return Err(NoTls::Failed),
            Some(&HANDSHAKE) => {}
            Some(_) => return Err(NoTls::Other(conn)),
        }
        let mut tls = ServerConnection::new(identity.config.clone()).map_err(|_| NoTls::Failed)?;
        // What we give it at a time is bounded here.
        tls.set_buffer_limit(None);
        let mut secure = Secure { conn, tls, plain: Vec::new(), used: 0, has_ended: false };
        secure.arrived(first.as_ref()).await.map_err(|_| NoTls::Failed)?;
        drop(first);
        loop {
            secure.flush().await.map_err(|_| NoTls::Failed)?;
            if !secure.tls.is_handshaking() {
                return Ok(Transport::Tls(Box::new(secure)));
            }
            secure.receive().await.map_err(|_| NoTls::Failed)?;
            if secure.has_ended {
                return Err(NoTls::Failed);
            }
        }
    }

    /// HTTP/2 was agreed on in the handshake.
    pub(crate) fn is_http2(&self) -> bool {
        matches!(self, Transport::Tls(secure) if secure.tls.alpn_protocol() == Some(b"h2"))
    }

    /// Says that nothing more is sent, in a way that the peer can tell from a connection that was cut.
    pub(crate) async fn finish(&mut self) {
        if let Transport::Tls(secure) = self {
            secure.tls.send_close_notify();
            // Who does not hear it any more need not be told.
            let _ = Box::pin(secure.flush()).await;
        }
        self.end_sending();
    }
}

impl<C: Conn> Conn for Transport<C> {
    type Chunk = Received<C::Chunk>;

    async fn recv(&mut self) -> io::Result<Self::Chunk> {
        match self {
            Transport::Plain(conn) => conn.recv().await.map(Received::Plain),
            Transport::Tls(secure) => Box::pin(secure.recv()).await.map(Received::Decrypted),
        }
    }

    async fn recv_into(&mut self, buf: Buffer, from: usize, to: usize) -> (io::Result<usize>, Buffer) {
        match self {
            Transport::Plain(conn) => conn.recv_into(buf, from, to).await,
            Transport::Tls(secure) => Box::pin(secure.recv_into(buf, from, to)).await,
        }
    }

    async fn send(&mut self, head: &[u8], body: &[u8]) -> io::Result<()> {
        match self {
            Transport::Plain(conn) => conn.send(head, body).await,
            Transport::Tls(secure) => Box::pin(secure.send(head, body)).await,
        }
    }

    async fn send_resident(
        &mut self,
        head: &[u8],
        pages: &Resident,
        from: usize,
        len: usize,
    ) -> io::Result<()> {
        match self {
            Transport::Plain(conn) => conn.send_resident(head, pages, from, len).await,
            Transport::Tls(secure) => Box::pin(secure.send(head, &pages[from..from + len])).await,
        }
    }

    fn is_quiet(&mut self) -> bool {
        match self {
            Transport::Plain(conn) => conn.is_quiet(),
            Transport::Tls(secure) => {
                secure.used == secure.plain.len() && !secure.has_ended && secure.conn.is_quiet()
            }
        }
    }

    fn peer(&self) -> Option<std::net::SocketAddr> {
        match self {
            Transport::Plain(conn) => conn.peer(),
            Transport::Tls(secure) => secure.conn.peer(),
        }
    }

    fn end_sending(&mut self) {
        match self {
            Transport::Plain(conn) => conn.end_sending(),
            Transport::Tls(secure) => secure.conn.end_sending(),
        }
    }

    fn hangup(&self) -> Box<dyn Fn(Hangup)> {
        match self {
            Transport::Plain(conn) => conn.hangup(),
            Transport::Tls(secure) => secure.conn.hangup(),
        }
    }
}

/// A connection under TLS.
pub(crate) struct Secure<C> {
    conn: C,
    tls: ServerConnection,
    /// Decrypted and not yet asked for: at most a record and what came along in one chunk.
    plain: Vec<u8>,
    used: usize,
    has_ended: bool,
}

impl<C: Conn> Secure<C> {
    /// Waits for bytes and decrypts them; they may amount to nothing.
    async fn receive(&mut self) -> io::Result<()> {
        let chunk = self.conn.recv().await?;
        if chunk.as_ref().is_empty() {
            // Without a goodbye, maybe: requests say by themselves where they end.
            self.has_ended = true;
            return Ok(());
        }
        self.arrived(chunk.as_ref()).await
    }

    async fn arrived(&mut self, bytes: &[u8]) -> io::Result<()> {
        let decrypted = self.decrypt(bytes);
        if decrypted.is_err() {
            // The alert tells the peer why.
            let _ = self.flush().await;
        }
        decrypted
    }

    fn decrypt(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let before = bytes.len();
            self.tls.read_tls(&mut bytes)?;
            let state = self.tls.process_new_packets();
            let state = state.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("TLS: {e}")))?;
            if state.plaintext_bytes_to_read() > 0 {
                self.keep_plain()?;
            }
            if state.peer_has_closed() || bytes.len() == before {
                // What follows a goodbye is nobody's.
                self.has_ended = true;
                return Ok(());
            }
        }
        Ok(())
    }

    fn keep_plain(&mut self) -> io::Result<()> {
        loop {
            let mut reader = self.tls.reader();
            let bytes = match reader.fill_buf() {
                Ok(bytes) => bytes,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            };
            if bytes.is_empty() {
                return Ok(());
            }
            self.plain.extend_from_slice(bytes);
            let count = bytes.len();
            reader.consume(count);
        }
    }

    /// Waits until something is decrypted, or the stream has ended.
    async fn await_plain(&mut self) -> io::Result<()> {
        while self.used == self.plain.len() && !self.has_ended {
            self.plain = Vec::new();
            self.used = 0;
            self.receive().await?;
        }
        Ok(())
    }

    async fn recv(&mut self) -> io::Result<Vec<u8>> {
        self.await_plain().await?;
        let mut plain = std::mem::take(&mut self.plain);
        plain.drain(..std::mem::take(&mut self.used));
        Ok(plain)
    }

    async fn recv_into(&mut self, mut buf: Buffer, from: usize, to: usize) -> (io::Result<usize>, Buffer) {
        let mut at = from;
        while at < to {
            if let Err(e) = self.await_plain().await {
                return (Err(e), buf);
            }
            let there = &self.plain[self.used..];
            if there.is_empty() {
                break;
            }
            let count = there.len().min(to - at);
            buf[at..at + count].copy_from_slice(&there[..count]);
            self.used += count;
            at += count;
        }
        (Ok(at - from), buf)
    }

    async fn send(&mut self, mut head: &[u8], mut body: &[u8]) -> io::Result<()> {
        for piece in 1.. {
            let of_head = head.len().min(PIECE_BYTES);
            let of_body = body.len().min(PIECE_BYTES - of_head);
            self.tls.writer().write_all(&head[..of_head])?;
            self.tls.writer().write_all(&body[..of_body])?;
            (head, body) = (&head[of_head..], &body[of_body..]);
            self.flush().await?;
            if head.is_empty() && body.is_empty() {
                break;
            }
            if piece % PIECES_A_TURN == 0 {
                give_way().await;
            }
        }
        Ok(())
    }

    /// Sends what is encrypted.
    async fn flush(&mut self) -> io::Result<()> {
        if !self.tls.wants_write() {
            return Ok(());
        }
        let mut ciphertext = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut ciphertext)?;
        }
        self.conn.send(&ciphertext, &[]).await
    }
}

/// Lets other tasks of the column run.
async fn give_way() {
    let mut gave = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut gave, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
