//! TLS on the client's side: whom we trust, and rustls as a synchronous state machine between ciphertext and bytes.
//!
//! Called by `stream`, which moves the ciphertext. rustls takes its own randomness and looks at the system's clock for the
//! validity of certificates; nothing else in here does.

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use rustls_native_certs::CertificateResult;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

/// RFC 8446 §5.1: type, version, length.
const RECORD_HEADER_BYTES: usize = 5;

/// The certificate authorities that origins are checked against. Clones share them.
#[derive(Clone)]
pub struct Trust {
    config: Arc<ClientConfig>,
    /// Authorities known.
    pub roots: usize,
}

impl Trust {
    /// The system's authorities and those in the PEM file `more`.
    ///
    /// # Errors
    /// `more` cannot be read or holds no certificate. A system without authorities is no error: https then fails.
    pub fn load(more: Option<&Path>) -> io::Result<Trust> {
        use rustls::pki_types::{CertificateDer, pem::PemObject};
        let mut store = RootCertStore::empty();
        let CertificateResult { certs, .. } = rustls_native_certs::load_native_certs();
        store.add_parsable_certificates(certs);
        if let Some(path) = more {
            let invalid = |e: String| io::Error::new(io::ErrorKind::InvalidData, e);
            let pem = std::fs::read(path)?;
            let mut found = 0;
            for cert in CertificateDer::pem_slice_iter(&pem) {
                let cert = cert.map_err(|e| invalid(e.to_string()))?;
                store.add(cert).map_err(|e| invalid(e.to_string()))?;
                found += 1;
            }
            if found == 0 {
                return Err(invalid("no certificate in it".to_owned()));
            }
        }
        Ok(Trust::of(store))
    }

    fn of(store: RootCertStore) -> Trust {
        let roots = store.len();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for TLS 1.2 and 1.3")
            .with_root_certificates(store)
            .with_no_client_auth();
        Trust { config: Arc::new(config), roots }
    }
}

/// One TLS connection, without its socket.
pub(super) struct Session {
    tls: Box<ClientConnection>,
    outgoing: Vec<u8>,
    records: Records,
}

impl Session {
    pub(super) fn new(trust: &Trust, host: &str) -> io::Result<Session> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e.to_string()))?;
        let tls = ClientConnection::new(trust.config.clone(), name).map_err(tls_error)?;
        Ok(Session { tls: Box::new(tls), outgoing: Vec::new(), records: Records::default() })
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// Ciphertext to be sent now.
    pub(super) fn take_outgoing(&mut self) -> io::Result<Vec<u8>> {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.outgoing)?;
        }
        Ok(std::mem::take(&mut self.outgoing))
    }

    /// Bytes to be encrypted.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.tls.writer().write_all(bytes)
    }

    /// Ciphertext that arrived; empty is the end of the stream. What is decrypted must be read before more comes.
    pub(super) fn arrived(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.records.note(bytes);
        loop {
            let before = bytes.len();
            self.tls.read_tls(&mut bytes)?;
            self.tls.process_new_packets().map_err(tls_error)?;
            if bytes.is_empty() {
                return Ok(());
            }
            if bytes.len() == before {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "more ciphertext than TLS has room for",
                ));
            }
        }
    }

    /// Whether all that arrived was read, no record of it is begun only, and the peer has not said goodbye.
    pub(super) fn is_quiet(&mut self) -> bool {
        let is_read = self
            .tls
            .process_new_packets()
            .is_ok_and(|state| state.plaintext_bytes_to_read() == 0 && !state.peer_has_closed());
        is_read && self.records.is_between()
    }

    /// Decrypted bytes: `None` when more ciphertext is needed, 0 at the end that the peer signed. A stream that was cut
    /// without is an error, so that nobody shortens a body.
    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<Option<usize>> {
        match self.tls.reader().read(into) {
            Ok(n) => Ok(Some(n)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// Where in the peer's stream of records we are: rustls does not tell of one that it holds a part of.
#[derive(Default)]
struct Records {
    /// Bytes of a header that have come; the last two of the five are the length of what follows.
    header: usize,
    length: usize,
    /// Bytes that are still to come behind the header.
    left: usize,
}

impl Records {
    fn note(&mut self, mut bytes: &[u8]) {
        while let [first, rest @ ..] = bytes {
            if self.left > 0 {
                let taken = self.left.min(bytes.len());
                self.left -= taken;
                bytes = &bytes[taken..];
                continue;
            }
            self.header += 1;
            self.length = (self.length << 8 | usize::from(*first)) & 0xffff;
            bytes = rest;
            if self.header == RECORD_HEADER_BYTES {
                (self.header, self.left) = (0, self.length);
            }
        }
    }

    fn is_between(&self) -> bool {
        self.header == 0 && self.left == 0
    }
}

fn tls_error(e: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("TLS: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_known_where_a_record_ends() {
        let mut stream = Vec::new();
        let mut ends = vec![0];
        for length in [0_usize, 1, 255, 256, 16_640] {
            stream.extend([23, 3, 3, (length >> 8) as u8, length as u8]);
            stream.resize(stream.len() + length, 0xff);
            ends.push(stream.len());
        }
        for step in [1, 2, 7, 300, stream.len()] {
            let (mut records, mut at) = (Records::default(), 0);
            for piece in stream.chunks(step) {
                records.note(piece);
                at += piece.len();
                assert_eq!(records.is_between(), ends.contains(&at), "{at} by {step}");
            }
        }
    }
}
