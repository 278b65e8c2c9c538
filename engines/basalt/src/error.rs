//! Why a verb ended badly, and with which exit code.
//!
//! Every verb returns `Result<(), Error>`; `main` renders the error on stderr and exits with its code.
//! An error says what failed and on what, then why, then what to do about it. A reader of our standard
//! output who has seen enough (`basalt ls | head`) is not a failure: that error is silent and exits 0.

use std::fmt;
use std::io;

/// The class of an error, which is its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// The output's reader went away: nothing to say, exit 0.
    Closed,
    /// Something failed while running: exit 1.
    Runtime,
    /// The command line asks for what cannot be: exit 2.
    Usage,
    /// This kernel cannot run the daemon: exit 69 (`EX_UNAVAILABLE`).
    Kernel,
    /// The configuration file or the environment is wrong: exit 78 (`EX_CONFIG`).
    Config,
}

/// What failed and on what, why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    class: Class,
    what: String,
    why: Option<String>,
    fixes: Vec<String>,
    others: Vec<Error>,
}

impl Error {
    /// Something failed while running (exit 1).
    pub fn runtime(what: impl Into<String>) -> Self {
        Self::new(Class::Runtime, what)
    }

    /// The command line asks for what cannot be (exit 2).
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Class::Usage, what)
    }

    /// This kernel lacks what the daemon stands on (exit 69).
    pub fn kernel(what: impl Into<String>) -> Self {
        Self::new(Class::Kernel, what)
    }

    /// The configuration file, the environment or a format on disk is wrong (exit 78).
    pub fn config(what: impl Into<String>) -> Self {
        Self::new(Class::Config, what)
    }

    fn new(class: Class, what: impl Into<String>) -> Self {
        Self { class, what: what.into(), why: None, fixes: Vec::new(), others: Vec::new() }
    }

    /// A failure to write to standard output; silent when the reader has gone away.
    pub fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(Class::Closed, "");
        }
        Self::runtime("cannot write to standard output").why(error)
    }

    /// Several errors as one, in order; `None` when there are none. If any is about the
    /// configuration, so is the whole.
    pub fn all(errors: Vec<Self>) -> Option<Self> {
        let is_config = errors.iter().any(|error| error.class == Class::Config);
        let mut errors = errors.into_iter();
        let mut first = errors.next()?;
        first.others.extend(errors);
        if is_config {
            first.class = Class::Config;
        }
        Some(first)
    }

    /// Adds the reason, in the words of whoever gave it.
    pub fn why(mut self, why: impl fmt::Display) -> Self {
        self.why = Some(why.to_string());
        self
    }

    /// Adds something to do about it, a command where there is one.
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fixes.push(fix.into());
        self
    }

    /// The process' exit code for this error.
    pub fn exit_code(&self) -> u8 {
        match self.class {
            Class::Closed => 0,
            Class::Runtime => 1,
            Class::Usage => 2,
            Class::Kernel => 69,
            Class::Config => 78,
        }
    }

    /// The error without what to do about it, for a line of the log.
    pub fn in_one_line(&self) -> String {
        match &self.why {
            Some(why) => format!("{}: {why}", self.what),
            None => self.what.clone(),
        }
    }

    /// Whether there is anything to tell the user.
    pub fn is_silent(&self) -> bool {
        self.class == Class::Closed
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        if let Some(why) = &self.why {
            write!(f, ": {why}")?;
        }
        for fix in &self.fixes {
            write!(f, "\n  fix: {fix}")?;
        }
        for other in &self.others {
            write!(f, "\n{other}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_why_and_what_to_do() {
        let error = Error::runtime("cannot listen on 127.0.0.1:9000")
            .why("address in use by nginx (pid 7)")
            .fix("name another address with --blob-listen");
        assert_eq!(
            error.to_string(),
            "error: cannot listen on 127.0.0.1:9000: address in use by nginx (pid 7)\n  \
             fix: name another address with --blob-listen"
        );
    }

    #[test]
    fn each_class_has_its_exit_code() {
        let codes = [Error::runtime(""), Error::usage(""), Error::kernel(""), Error::config("")]
            .map(|error| error.exit_code());
        assert_eq!(codes, [1, 2, 69, 78]);
        let closed = Error::output(&io::ErrorKind::BrokenPipe.into());
        assert!(closed.is_silent() && closed.exit_code() == 0);
    }
}
