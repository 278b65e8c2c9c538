//! Standard output of the verbs: one place that turns a failed write into an [`Error`].
//!
//! `println!` panics when the reader has gone away; this does not.

use std::io::Write;

use clap::ValueEnum;

use crate::error::Error;

/// How a verb that reads prints what it read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// Aligned columns for people.
    #[default]
    Table,
    /// One JSON document for programs.
    Json,
}

/// Writes `bytes` to standard output at once.
pub fn print(bytes: impl AsRef<[u8]>) -> Result<(), Error> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes.as_ref()).and_then(|()| stdout.flush()).map_err(|error| Error::output(&error))
}
