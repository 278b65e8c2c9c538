//! Who may use the listeners, and how they show that it is us: the files of `--tls-cert`, `--tls-key`, `--tls-client-ca` and
//! `--token-file`, read at the start and again on HUP. Called by the node.
//!
//! Invariant: a file that is wrong at the start keeps the node from starting; one that is wrong later changes nothing.

use crate::config::Settings;
use crate::error::Error;
use net::tls::{Identity, IdentityFiles};
use net::tokens::Tokens;
use net::{Door, Live};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// What token files call the listeners, those of the design that this build has not among them.
pub(super) const LISTENERS: [&str; 3] = ["blob", "slice", "ops"];
/// What a file may hold at most.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What each listener asks of those who come.
#[derive(Clone, Default)]
pub struct Doors {
    /// Of the blob listener.
    pub blob: Door,
    /// Of the slice listener: tokens are for purges alone.
    pub slice: Door,
    /// Of the ops listener.
    pub ops: Door,
}

/// The files, and what was read of them last.
pub(super) struct Access {
    identity: Option<(IdentityFiles, Live<Identity>)>,
    tokens: Option<(PathBuf, Live<Tokens>)>,
}

impl Access {
    /// Reads all files.
    pub(super) fn load(settings: &Settings) -> Result<Access, Error> {
        let tls = &settings.tls;
        let pairs: Vec<_> = tls.certs.iter().cloned().zip(tls.keys.iter().cloned()).collect();
        let identity = match pairs.is_empty() {
            true => None,
            false => {
                let files = IdentityFiles { pairs, client_ca: tls.client_ca.clone() };
                let identity = read_identity(&files)?;
                Some((files, Live::new(identity)))
            }
        };
        let tokens = match &settings.token_file {
            Some(path) => Some((path.clone(), Live::new(read_tokens(path)?))),
            None => None,
        };
        Ok(Access { identity, tokens })
    }

    /// The doors of all listeners.
    pub(super) fn doors(&self) -> Doors {
        Doors { blob: self.door("blob"), slice: self.door("slice"), ops: self.door("ops") }
    }

    fn door(&self, listener: &'static str) -> Door {
        assert!(LISTENERS.contains(&listener), "token files do not know {listener}");
        let identity = self.identity.as_ref().map(|(_, identity)| identity.clone());
        Door { listener, identity, tokens: self.tokens.as_ref().map(|(_, tokens)| tokens.clone()) }
    }

    /// Reads all files again. What cannot be used leaves things as they are, with one line in the log; connections that are
    /// open go on as they began.
    pub(super) fn reload(&self) {
        if self.identity.is_none() && self.tokens.is_none() {
            tracing::info!("nothing to reload: there are no certificates and no tokens");
        }
        if let Some((files, live)) = &self.identity {
            take("certificates", read_identity(files), live);
        }
        if let Some((path, live)) = &self.tokens {
            take("tokens", read_tokens(path), live);
        }
    }
}

fn take<T>(what: &str, read: Result<T, Error>, live: &Live<T>) {
    match read {
        Ok(value) => {
            live.replace(value);
            tracing::info!("{what} are read again");
        }
        Err(e) => tracing::error!(error = %e.in_one_line(), "the {what} stay as they were"),
    }
}

fn read_identity(files: &IdentityFiles) -> Result<Identity, Error> {
    Identity::load(files).map_err(|e| {
        let fix = "name PEM files: --tls-cert a chain, --tls-key its key, --tls-client-ca authorities";
        Error::config(format!("TLS: {}", e.path.display())).why(e.why).fix(fix)
    })
}

fn read_tokens(path: &Path) -> Result<Tokens, Error> {
    let text =
        read_file(path).map_err(|why| Error::config(format!("--token-file {}", path.display())).why(why))?;
    let tokens = Tokens::parse(&text, &LISTENERS).map_err(|e| {
        let what = format!("{}:{}: not a token", path.display(), e.line);
        Error::config(what).why(e).fix("lines are `blob TOKEN`, `slice TOKEN` or `ops TOKEN`")
    })?;
    for listener in ["blob", "ops"].into_iter().filter(|listener| !tokens.has(listener)) {
        tracing::warn!(file = %path.display(), "no token for {listener}: that listener admits nobody");
    }
    Ok(tokens)
}

fn read_file(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, "it is larger than 1 MiB"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_line_is_named_with_its_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("tokens");
        std::fs::write(&path, "# ours\nblob a\nbolb secret\n").expect("written");
        let error = read_tokens(&path).expect_err("line 3");
        assert_eq!(error.exit_code(), 78);
        let text = error.to_string();
        assert!(text.contains("tokens:3: not a token") && !text.contains("secret"), "{text}");
        std::fs::write(&path, "blob a\n").expect("written");
        assert!(read_tokens(&path).expect("valid").has("blob"));
        std::fs::write(&path, "#".repeat(FILE_BYTES_MAX as usize + 1)).expect("written");
        assert!(read_tokens(&path).expect_err("too large").to_string().contains("larger than 1 MiB"));
        assert_eq!(read_tokens(&dir.path().join("none")).expect_err("not there").exit_code(), 78);
    }
}
