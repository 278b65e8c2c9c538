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
}

impl Session {
    pub(super) fn new(trust: &Trust, host: &str) -> io::Result<Session> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e.to_string()))?;
        let tls = ClientConnection::new(trust.config.clone(), name).map_err(tls_error)?;
        Ok(Session { tls: Box::new(tls), outgoing: Vec::new() })
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

fn tls_error(e: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("TLS: {e}"))
}
