//! TLS on the server's side: which certificate a client is shown, and which clients are let in. The node loads files into an
//! [`Identity`], `transport` speaks with it.
//!
//! Several pairs of certificate and key are told apart by the name that the client asks for (SNI); the first is for those who
//! ask for another or none. Sessions are resumed by tickets, which no column has to remember; their key is made anew with each
//! identity, so that nobody comes back with a certificate that is not accepted any more.

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Pairs of certificate and key.
pub const PAIRS_MAX: usize = 64;
/// What we speak, as it is called in a handshake (RFC 7301), what we prefer first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Where an identity is read from, all in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentityFiles {
    /// Certificate chains, the server's first, each with its key.
    pub pairs: Vec<(PathBuf, PathBuf)>,
    /// Who signs the certificates that clients must show; `None`: they need none.
    pub client_ca: Option<PathBuf>,
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub struct IdentityError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

fn wrong(path: &Path, why: impl Display) -> IdentityError {
    IdentityError { path: path.to_owned(), why: why.to_string() }
}

/// What a listener shows to clients and asks of them.
pub struct Identity {
    pub(crate) config: Arc<ServerConfig>,
}

impl Identity {
    /// Reads the files.
    ///
    /// # Errors
    /// One cannot be read, holds nothing of its kind, or a key is another certificate's.
    pub fn load(files: &IdentityFiles) -> Result<Identity, IdentityError> {
        assert!((1..=PAIRS_MAX).contains(&files.pairs.len()), "{} pairs", files.pairs.len());
        let provider = Arc::new(ring::default_provider());
        let load = |(cert, key): &(PathBuf, PathBuf)| load_pair(cert, key, &provider).map(Arc::new);
        let keys = files.pairs.iter().map(load).collect::<Result<Vec<_>, _>>()?;
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for TLS 1.2 and 1.3");
        let builder = match &files.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let roots = Arc::new(load_roots(path)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|e| wrong(path, e))?)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(ByName { keys }));
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        if files.client_ca.is_none() {
            config.ticketer = ring::Ticketer::new().map_err(|e| wrong(&files.pairs[0].0, e))?;
        } else {
            // Who resumes is not verified again: a certificate would go on to count after it has expired.
            config.send_tls13_tickets = 0;
        }
        Ok(Identity { config: Arc::new(config) })
    }
}

fn load_pair(cert: &Path, key: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, IdentityError> {
    let chain = load_chain(cert)?;
    let pem = std::fs::read(key).map_err(|e| wrong(key, e))?;
    let private = PrivateKeyDer::from_pem_slice(&pem).map_err(|e| wrong(key, e))?;
    let pair = CertifiedKey::from_der(chain, private, provider);
    let pair = pair.map_err(|e| wrong(key, format!("it does not go with {}: {e}", cert.display())))?;
    // So that a name can be looked up in it later.
    ParsedCertificate::try_from(&pair.cert[0]).map_err(|e| wrong(cert, e))?;
    Ok(pair)
}

fn load_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let pem = std::fs::read(path).map_err(|e| wrong(path, e))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.map_err(|e| wrong(path, e))?;
    if chain.is_empty() { Err(wrong(path, "no certificate in it")) } else { Ok(chain) }
}

fn load_roots(path: &Path) -> Result<RootCertStore, IdentityError> {
    let mut roots = RootCertStore::empty();
    for cert in load_chain(path)? {
        roots.add(cert).map_err(|e| wrong(path, e))?;
    }
    Ok(roots)
}

/// The certificate that has the name asked for, else the first.
#[derive(Debug)]
struct ByName {
    keys: Vec<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let named = name.and_then(|name| self.keys.iter().find(|key| is_for(key, &name)));
        Some(named.unwrap_or(&self.keys[0]).clone())
    }
}

fn is_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let cert = ParsedCertificate::try_from(&key.cert[0]);
    cert.is_ok_and(|cert| rustls::client::verify_server_name(&cert, name).is_ok())
}
