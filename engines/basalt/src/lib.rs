//! The daemon as a library: parses the command line, does what the verb says, gives the exit code of its outcome. `main.rs` is
//! the binary around it; simulations start a node through [`node`], as the binary does.
//!
//! Reading order: `cli` (what may be typed) · `config` (what can be set) · `node` (what `serve` starts) ·
//! `client` (the verbs that talk to a server) · `doctor` (what the machine lacks) · `device` (what was measured of the disk).

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;

mod bench;
mod cli;
mod client;
mod config;
mod device;
mod doctor;
mod error;
mod logging;
mod machine;
mod manual;
pub mod node;
mod output;
mod ports;

use cli::{Cli, ConfigVerb, Verb};
use config::flags::ServeFlags;
use error::Error;

/// The whole program.
pub fn main() -> ExitCode {
    // clap exits by itself: 0 after help, 2 after a command line it cannot read.
    let outcome = cli::refuse_cpus(std::env::args_os()).and_then(|()| run(Cli::parse().verb));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !error.is_silent() {
                eprintln!("{error}");
            }
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(verb: Verb) -> Result<(), Error> {
    match verb {
        Verb::Serve(flags) => serve(&flags),
        Verb::Doctor(args) => doctor::run(&args),
        Verb::Put(args) => client::put::run(&args),
        Verb::Get(args) => client::get::run(&args),
        Verb::Fetch(args) => client::fetch::run(&args),
        Verb::Ls(args) => client::ls::run(&args),
        Verb::Rm(args) => client::rm::run(&args),
        Verb::Config(ConfigVerb::Check(flags)) => {
            let config = config::load(&flags)?;
            config.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
            output::print("ok\n")
        }
        Verb::Config(ConfigVerb::Show { origin, config: flags }) => {
            let config = config::load(&flags)?;
            output::print(config::show::show(&config, origin))
        }
        Verb::Bench(args) => bench::run(args),
        Verb::UnmountAfter { mounts } => node::mount::guard::run(&cli::pairs(&mounts)?),
        Verb::Version => output::print(manual::version()),
        Verb::Completions { shell } => output::print(manual::completions(shell)),
        Verb::Man { verb } => output::print(manual::page(verb.as_deref())?),
    }
}

fn serve(flags: &ServeFlags) -> Result<(), Error> {
    let config = config::load(flags)?;
    logging::start(config.settings.log_format, &config.settings.log_level)?;
    for (key, layer) in config.layers.iter() {
        let understood = key.understood.map(|understood| understood(&config.settings));
        tracing::debug!(
            key = key.name,
            value = layer.values.join(","),
            origin = %layer.origin,
            understood = understood.as_deref().unwrap_or(""),
            "setting"
        );
    }
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    node::serve(config.settings)
}
