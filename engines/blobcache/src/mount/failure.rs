//! Why an operation of a mount fails, and the errno that says so. Called by all of `mount`.

use runtime::tier::{Digest, ReadError};

/// Why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// There is no such blob.
    #[error("no such blob")]
    NoEntry,
    /// The node is not known any more, or not to be used any more: the name is to be looked up again.
    #[error("the node is not known any more")]
    Stale,
    /// Too many nodes are known.
    #[error("the kernel holds too many names")]
    Full,
    /// It cannot be done; worth a line in the log.
    #[error("{0}")]
    Io(String),
}

impl Failure {
    /// The errno.
    pub fn errno(&self) -> i32 {
        match self {
            Failure::NoEntry => libc::ENOENT,
            Failure::Stale => libc::ESTALE,
            Failure::Full => libc::ENFILE,
            Failure::Io(_) => libc::EIO,
        }
    }

    /// Of this blob, if it is known: the log line names it.
    pub fn of<'d>(self, digest: impl Into<Option<&'d Digest>>) -> Failure {
        match (self, digest.into()) {
            (Failure::Io(why), Some(digest)) if !why.contains(&digest.to_string()) => {
                Failure::Io(format!("{digest}: {why}"))
            }
            (other, _) => other,
        }
    }

    /// With these words.
    pub fn io(why: impl ToString) -> Failure {
        Failure::Io(why.to_string())
    }
}

impl From<ReadError> for Failure {
    fn from(e: ReadError) -> Failure {
        Failure::io(e)
    }
}
