//! `doctor`: one line per need of the daemon on this machine: ok, degraded or missing, and what mends it.
//!
//! Asks for the configuration that `serve` would run with, and changes nothing: the only file written is a
//! probe without a name, and what is mounted for a trial is so for a moment, on a directory of its own. A missing need that keeps `serve` from starting makes the verb exit 69.

use std::fmt::Write;

use serde::Serialize;

use crate::cli::DoctorArgs;
use crate::config;
use crate::error::Error;
use crate::output::{self, OutputFormat};

mod fuse;
mod listeners;
mod machine;
pub mod ring;
mod storage;

/// How well a need is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Fully.
    Ok,
    /// The daemon runs, with less.
    Degraded,
    /// Not at all.
    Missing,
}

/// One need and how this machine meets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    status: Status,
    need: &'static str,
    detail: String,
    fix: Option<String>,
    /// Whether `serve` cannot start because of it.
    blocks_serve: bool,
}

impl Line {
    fn ok(need: &'static str, detail: impl Into<String>) -> Self {
        Self { status: Status::Ok, need, detail: detail.into(), fix: None, blocks_serve: false }
    }

    fn degraded(need: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        let fix = Some(fix.into());
        Self { status: Status::Degraded, need, detail: detail.into(), fix, blocks_serve: false }
    }

    fn missing(need: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        let fix = Some(fix.into());
        Self { status: Status::Missing, need, detail: detail.into(), fix, blocks_serve: false }
    }

    fn blocking_serve(mut self) -> Self {
        assert_eq!(self.status, Status::Missing, "only what is missing keeps serve from starting");
        self.blocks_serve = true;
        self
    }
}

/// Runs the verb.
pub fn run(args: &DoctorArgs) -> Result<(), Error> {
    let settings = config::load(&args.config)?.settings;
    let mut lines = vec![ring::report()];
    lines.extend(machine::report(&settings));
    lines.extend(storage::report(&settings));
    lines.extend(fuse::report(&settings));
    lines.extend(listeners::report(&settings));
    output::print(match args.output {
        OutputFormat::Table => table(&lines),
        OutputFormat::Json => json(&lines),
    })?;
    let blocking: Vec<_> = lines.iter().filter(|line| line.blocks_serve).collect();
    match blocking.as_slice() {
        [] => Ok(()),
        blocking => {
            let needs: Vec<_> = blocking.iter().map(|line| line.need).collect();
            Err(Error::kernel("`basalt serve` cannot start here").why(needs.join(", ")))
        }
    }
}

fn table(lines: &[Line]) -> String {
    let width = lines.iter().map(|line| line.need.len()).max().unwrap_or(0);
    let mut text = String::new();
    for line in lines {
        let status = match line.status {
            Status::Ok => "ok",
            Status::Degraded => "degraded",
            Status::Missing => "missing",
        };
        let fix = line.fix.as_ref().map_or(String::new(), |fix| format!("  → {fix}"));
        writeln!(text, "{status:8}  {:width$}  {}{fix}", line.need, line.detail).expect("a string takes all");
    }
    text
}

fn json(lines: &[Line]) -> String {
    let mut text = serde_json::to_string_pretty(lines).expect("strings and flags always serialize");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_status_need_detail_and_what_mends_it() {
        let lines = [Line::ok("kernel", "6.18"), Line::degraded("memlock", "8 MiB", "ulimit -l 1")];
        let expected = "ok        kernel   6.18\ndegraded  memlock  8 MiB  → ulimit -l 1\n";
        assert_eq!(table(&lines), expected);
        let json: serde_json::Value = serde_json::from_str(&json(&lines)).expect("JSON");
        assert_eq!(json[1]["status"], "degraded");
        assert_eq!(json[0]["blocks_serve"], false);
    }
}
