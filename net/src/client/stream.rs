//! A connection to an origin: plain, or TLS over it. Bytes in, bytes out. Called by `client` and `reply`.

use super::tls::{Session, Trust};
use runtime::buffer::Buffer;
use runtime::io::{Conn, Io};
use std::io;

/// Decrypted at a time: one TLS record.
const RECORD_BYTES: usize = 16 << 10;

pub(super) enum Stream<I: Io> {
    Plain(I::Conn),
    Tls(I::Conn, Session),
}

impl<I: Io> Stream<I> {
    /// Speaks TLS over `conn`, once the peer has shown a certificate for `host`.
    pub(super) async fn shake_hands(mut conn: I::Conn, trust: &Trust, host: &str) -> io::Result<Stream<I>> {
        let mut session = Session::new(trust, host)?;
        while session.is_handshaking() {
            send_outgoing(&mut conn, &mut session).await?;
            if !session.is_handshaking() {
                break;
            }
            let chunk = conn.recv().await?;
            if chunk.as_ref().is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Err(e) = session.arrived(chunk.as_ref()) {
                // The alert tells the peer why; the error is ours either way.
                let _ = send_outgoing(&mut conn, &mut session).await;
                return Err(e);
            }
        }
        send_outgoing(&mut conn, &mut session).await?;
        Ok(Stream::Tls(conn, session))
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Stream::Plain(conn) => conn.send(bytes, &[]).await,
            Stream::Tls(conn, session) => {
                session.write(bytes)?;
                send_outgoing(conn, session).await
            }
        }
    }

    /// Whether nothing has come that was not read, and the peer has not ended; looks without waiting.
    pub(super) fn is_quiet(&mut self) -> bool {
        match self {
            Stream::Plain(conn) => conn.is_quiet(),
            Stream::Tls(conn, session) => session.is_quiet() && conn.is_quiet(),
        }
    }

    /// Appends what comes next to `into`; false at the end of the stream.
    pub(super) async fn more(&mut self, into: &mut Vec<u8>) -> io::Result<bool> {
        let before = into.len();
        match self {
            Stream::Plain(conn) => {
                into.extend_from_slice(conn.recv().await?.as_ref());
                Ok(into.len() > before)
            }
            Stream::Tls(conn, session) => loop {
                into.resize(before + RECORD_BYTES, 0);
                let read = session.read(&mut into[before..]);
                into.truncate(before + read.as_ref().ok().copied().flatten().unwrap_or(0));
                match read? {
                    Some(n) => return Ok(n > 0),
                    None => receive_ciphertext(conn, session).await?,
                }
            },
        }
    }

    /// Fills `buf[from..to]`; fewer bytes mean that the stream ended.
    pub(super) async fn fill(
        &mut self,
        mut buf: Buffer,
        from: usize,
        to: usize,
    ) -> (io::Result<usize>, Buffer) {
        match self {
            Stream::Plain(conn) => conn.recv_into(buf, from, to).await,
            Stream::Tls(conn, session) => {
                let mut at = from;
                while at < to {
                    match session.read(&mut buf[at..to]) {
                        Ok(Some(0)) => break,
                        Ok(Some(n)) => at += n,
                        Ok(None) => {
                            if let Err(e) = receive_ciphertext(conn, session).await {
                                return (Err(e), buf);
                            }
                        }
                        Err(e) => return (Err(e), buf),
                    }
                }
                (Ok(at - from), buf)
            }
        }
    }
}

async fn send_outgoing<C: Conn>(conn: &mut C, session: &mut Session) -> io::Result<()> {
    let outgoing = session.take_outgoing()?;
    if outgoing.is_empty() { Ok(()) } else { conn.send(&outgoing, &[]).await }
}

async fn receive_ciphertext<C: Conn>(conn: &mut C, session: &mut Session) -> io::Result<()> {
    let chunk = conn.recv().await?;
    session.arrived(chunk.as_ref())?;
    // Key updates and the like want an answer.
    send_outgoing(conn, session).await
}
