//! Whom the client verbs trust when a server is named by https, the system's authorities and those of `--ca`, and who they say
//! they are if it asks: `--cert` and `--key`. Called by `client`.

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, TlsProvider, parse_pem};

use crate::cli::ServerArg;
use crate::error::Error;

/// How to speak TLS.
pub(super) fn config(arg: &ServerArg) -> Result<TlsConfig, Error> {
    let provider = Arc::new(default_provider());
    // Some that cannot be read still leave the others.
    let system = rustls_native_certs::load_native_certs().certs;
    let mut roots: Vec<_> = system.iter().map(|cert| Certificate::from_der(cert).to_owned()).collect();
    if let Some(path) = given(&arg.ca) {
        roots.extend(certificates("--ca", path)?);
    }
    let identity = match (given(&arg.cert), given(&arg.key)) {
        (None, None) => None,
        (Some(cert), Some(key)) => Some(identity(cert, key, &provider)?),
        (Some(_), None) => return Err(Error::usage("--cert without --key").why("a certificate has a key")),
        (None, Some(_)) => return Err(Error::usage("--key without --cert").why("a key has a certificate")),
    };
    Ok(TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(provider)
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .client_cert(identity)
        .build())
}

fn given(path: &Option<PathBuf>) -> Option<&Path> {
    path.as_deref().filter(|path| !path.as_os_str().is_empty())
}

fn wrong(flag: &str, path: &Path, why: impl Display) -> Error {
    Error::usage(format!("{flag} {}", path.display())).why(why)
}

fn identity(cert: &Path, key: &Path, provider: &CryptoProvider) -> Result<ClientCert, Error> {
    let chain = certificates("--cert", cert)?;
    let private = private_key(key)?;
    // Used without a further look, a pair that does not go together would be a panic.
    let ders = chain.iter().map(|cert| CertificateDer::from(cert.der().to_vec())).collect();
    let der = PrivateKeyDer::try_from(private.der().to_vec()).map_err(|why| wrong("--key", key, why))?;
    CertifiedKey::from_der(ders, der, provider)
        .map_err(|why| wrong("--key", key, format!("it does not go with {}: {why}", cert.display())))?;
    Ok(ClientCert::new_with_certs(&chain, private))
}

fn items(flag: &str, path: &Path) -> Result<Vec<PemItem<'static>>, Error> {
    let pem = fs::read(path).map_err(|why| wrong(flag, path, why))?;
    parse_pem(&pem).collect::<Result<_, _>>().map_err(|why| wrong(flag, path, why))
}

fn certificates(flag: &str, path: &Path) -> Result<Vec<Certificate<'static>>, Error> {
    let certs: Vec<_> = items(flag, path)?.into_iter().filter_map(certificate).collect();
    if certs.is_empty() { Err(wrong(flag, path, "no certificate in it")) } else { Ok(certs) }
}

fn certificate(item: PemItem<'static>) -> Option<Certificate<'static>> {
    match item {
        PemItem::Certificate(cert) => Some(cert),
        _ => None,
    }
}

fn private_key(path: &Path) -> Result<PrivateKey<'static>, Error> {
    let key = items("--key", path)?.into_iter().find_map(|item| match item {
        PemItem::PrivateKey(key) => Some(key),
        _ => None,
    });
    key.ok_or_else(|| wrong("--key", path, "no private key in it"))
}
