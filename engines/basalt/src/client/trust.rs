//! Whom the client verbs trust when a server is named by https: the system's authorities and those of `--ca`. Called by `client`.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

use crate::error::Error;

/// How to speak TLS; `more` is a PEM file of authorities.
pub(super) fn config(more: Option<&Path>) -> Result<TlsConfig, Error> {
    // Some that cannot be read still leave the others.
    let system = rustls_native_certs::load_native_certs().certs;
    let mut roots: Vec<_> = system.iter().map(|cert| Certificate::from_der(cert).to_owned()).collect();
    if let Some(path) = more.filter(|path| !path.as_os_str().is_empty()) {
        roots.extend(read(path)?);
    }
    Ok(TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .build())
}

fn read(path: &Path) -> Result<Vec<Certificate<'static>>, Error> {
    let wrong = |why: String| Error::usage(format!("--ca {}", path.display())).why(why);
    let pem = fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let items = parse_pem(&pem).collect::<Result<Vec<_>, _>>().map_err(|error| wrong(error.to_string()))?;
    let certs: Vec<_> = items.into_iter().filter_map(certificate).collect();
    if certs.is_empty() { Err(wrong("no certificate in it".to_owned())) } else { Ok(certs) }
}

fn certificate(item: PemItem<'static>) -> Option<Certificate<'static>> {
    match item {
        PemItem::Certificate(cert) => Some(cert),
        _ => None,
    }
}
