//! Certificates made for a test: an authority, and what it signs, as PEM files.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// Signs certificates.
pub struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub file: PathBuf,
}

impl Authority {
    /// A new one called `name`, with its files in `dir`.
    pub fn new(dir: &Path, name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = params(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let cert = params.self_signed(&key).expect("a certificate");
        let file = dir.join(format!("{name}.pem"));
        fs::write(&file, cert.pem()).expect("written");
        Self { dir: dir.to_owned(), issuer: Issuer::new(params, key), file }
    }

    /// A certificate for `hosts`, names or addresses, and its key, in files called `name`.
    pub fn sign(&self, name: &str, hosts: &[&str]) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().expect("a key");
        let cert = params(name, hosts).signed_by(&key, &self.issuer).expect("a certificate");
        let files = (self.dir.join(format!("{name}.pem")), self.dir.join(format!("{name}.key")));
        fs::write(&files.0, cert.pem()).expect("written");
        fs::write(&files.1, key.serialize_pem()).expect("written");
        files
    }
}

fn params(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<_> = hosts.iter().map(|&host| host.to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("hosts");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
