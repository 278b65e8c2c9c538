//! The grammar of the command line. Says what may be typed; `main` says what happens then.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use fuse_lowlevel::mount::DeviceNumber;

use crate::config::flags::ServeFlags;
use crate::error::Error;
use crate::output::OutputFormat;

pub mod bench;
pub mod digest;

use bench::BenchArgs;
use digest::Digest;

/// The variable that names the client verbs' server.
pub const SERVER_ENV: &str = "BASALT_SERVER";

/// The variable that holds the client verbs' token.
pub const TOKEN_ENV: &str = "BASALT_TOKEN";

/// The variable that names the authorities the client verbs trust beside the system's.
pub const CA_ENV: &str = "BASALT_CA";

/// The variable that names the client verbs' certificate.
pub const CERT_ENV: &str = "BASALT_CLIENT_CERT";

/// The variable that names its key.
pub const KEY_ENV: &str = "BASALT_CLIENT_KEY";

/// Where the client verbs look when nobody says otherwise: the default of `--blob-listen`.
pub const DEFAULT_SERVER: &str = "http://127.0.0.1:9000";

/// One daemon per node: storage services over one thread-per-core io_uring runtime.
#[derive(Debug, Parser)]
#[command(
    name = "basalt",
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 ok, 1 runtime, 2 usage, 69 kernel feature missing, 78 configuration.",
    after_long_help = "Examples:\n  basalt serve --cpuset 0-3 --memory 4GiB --data-dir /var/lib/basalt\n  \
        basalt put movie.mkv\n  basalt get sha256:… -o movie.mkv\n  basalt doctor\n\n\
        Exit codes: 0 ok, 1 runtime, 2 usage, 69 kernel feature missing, 78 configuration."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the daemon
    #[command(after_help = "TERM drains and exits 0, a second TERM exits at once.")]
    Serve(ServeFlags),
    /// Tell what this machine lacks to run the daemon well, and the command that mends it
    #[command(after_help = "Exits 69 if `serve` could not start.")]
    Doctor(DoctorArgs),
    /// Store files as blobs and print their digests
    Put(PutArgs),
    /// Get a blob, verified
    Get(GetArgs),
    /// Make the server fetch a blob from an http(s) URL, once however many ask
    Fetch(FetchArgs),
    /// List blobs in the order of their digests
    Ls(LsArgs),
    /// Delete blobs
    Rm(RmArgs),
    /// Check or show the configuration
    #[command(subcommand, arg_required_else_help = true)]
    Config(ConfigVerb),
    /// Load this machine or a server and print latencies
    Bench(BenchArgs),
    /// Unmount when standard input ends; `serve` starts this for the case that it is killed
    #[command(hide = true, name = crate::node::mount::guard::VERB)]
    UnmountAfter {
        /// Pairs of a mount's number and its directory
        mounts: Vec<OsString>,
    },
    /// Print the version and how it was built
    Version,
    /// Print a completion script for a shell
    Completions {
        /// bash, elvish, fish, powershell or zsh
        shell: clap_complete::Shell,
    },
    /// Print a manual page as roff; read it with `basalt man | man -l -`
    Man {
        /// The verb to describe; without it, all in brief
        verb: Option<String>,
    },
}

/// `basalt doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: OutputFormat,
    /// The configuration that `serve` would run with.
    #[command(flatten)]
    pub config: ServeFlags,
}

/// Which server the client verbs talk to. Empty values are unset ones.
#[derive(Debug, Default, Args)]
pub struct ServerArg {
    /// The server's URL
    #[arg(long, value_name = "URL", env = SERVER_ENV, default_value = DEFAULT_SERVER)]
    pub server: String,
    /// Certificate authorities an https server is checked against beside the system's, in PEM
    #[arg(long, value_name = "FILE", env = CA_ENV)]
    pub ca: Option<PathBuf>,
    /// The certificate chain to show an https server that asks for one, in PEM
    #[arg(long, value_name = "FILE", env = CERT_ENV)]
    pub cert: Option<PathBuf>,
    /// Its private key, in PEM
    #[arg(long, value_name = "FILE", env = KEY_ENV)]
    pub key: Option<PathBuf>,
    /// The token it asks for; others can read a command line, the variable only root and you
    #[arg(long, value_name = "TOKEN", env = TOKEN_ENV, hide_env_values = true)]
    pub token: Option<String>,
}

/// `basalt put`.
#[derive(Debug, Args)]
pub struct PutArgs {
    /// A file, a directory (every regular file below it), or - for standard input
    #[arg(value_name = "FILE|DIR|-")]
    pub source: PathBuf,
    /// Where to store.
    #[command(flatten)]
    pub server: ServerArg,
}

/// `basalt get`.
#[derive(Debug, Args)]
pub struct GetArgs {
    /// sha256: and 64 hexadecimal digits
    #[arg(value_parser = Digest::parse)]
    pub digest: Digest,
    /// Write to this file, which appears only when the blob is whole; else to standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Where to fetch.
    #[command(flatten)]
    pub server: ServerArg,
}

/// `basalt fetch`.
#[derive(Debug, Args)]
pub struct FetchArgs {
    /// Where the blob is now
    pub url: String,
    /// What it must be: sha256: and 64 hexadecimal digits. If the server has it, nothing is fetched
    #[arg(long, value_parser = Digest::parse)]
    pub digest: Option<Digest>,
    /// Where to store.
    #[command(flatten)]
    pub server: ServerArg,
}

/// `basalt ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: OutputFormat,
    /// Where to look.
    #[command(flatten)]
    pub server: ServerArg,
}

/// `basalt rm`.
#[derive(Debug, Args)]
pub struct RmArgs {
    /// sha256: and 64 hexadecimal digits
    #[arg(value_parser = Digest::parse, required = true, value_name = "DIGEST")]
    pub digests: Vec<Digest>,
    /// Where to delete.
    #[command(flatten)]
    pub server: ServerArg,
}

/// `basalt config`.
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Print ok, or every fault of file, environment and flags
    Check(ServeFlags),
    /// Print the configuration in force, as a file that would give it again
    Show {
        /// Say where each value came from
        #[arg(long)]
        origin: bool,
        /// The configuration to show.
        #[command(flatten)]
        config: ServeFlags,
    },
}

/// Reads the pairs of `unmount-after`.
pub fn pairs(words: &[OsString]) -> Result<Vec<(DeviceNumber, PathBuf)>, Error> {
    let read = |pair: &[OsString]| match pair {
        [number, directory] => Some((number.to_str()?.parse().ok()?, PathBuf::from(directory))),
        _ => None,
    };
    let pairs: Option<Vec<_>> = words.chunks(2).map(read).collect();
    pairs.ok_or_else(|| Error::usage("pairs of a mount's number and its directory are wanted"))
}

/// Refuses `--cpus` wherever it stands as a flag: Docker made it a quantity, and here CPUs are named.
pub fn refuse_cpus(args: impl IntoIterator<Item = OsString>) -> Result<(), Error> {
    let mut flags = args.into_iter().take_while(|arg| arg != "--");
    let is_cpus = |arg: OsString| arg == "--cpus" || arg.as_encoded_bytes().starts_with(b"--cpus=");
    if flags.any(is_cpus) {
        let what = "--cpus is a quantity in Docker; name CPUs with --cpuset 0-3";
        return Err(Error::usage(what).fix("basalt serve --cpuset 0-3"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_grammar_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn cpus_is_refused_wherever_it_stands() {
        let refused = |line: &str| refuse_cpus(line.split(' ').map(OsString::from)).is_err();
        assert!(refused("basalt serve --cpus 4"));
        assert!(refused("basalt serve --memory 1G --cpus=4"));
        assert!(refused("basalt --cpus 4 serve"));
        assert!(!refused("basalt serve --cpuset 0-3"));
        assert!(!refused("basalt put -- --cpus"));
        let error = refuse_cpus([OsString::from("--cpus")]).expect_err("refused");
        assert!(error.exit_code() == 2 && error.to_string().contains("--cpuset 0-3"));
    }

    #[test]
    fn short_help_of_every_verb_fits_a_screen() {
        for verb in Cli::command().get_subcommands_mut() {
            let lines = verb.render_help().to_string().lines().count();
            assert!(lines <= 40, "{}: {lines} lines", verb.get_name());
        }
    }

    #[test]
    fn long_help_tells_default_and_variable() {
        let mut cli = Cli::command();
        let serve = cli.find_subcommand_mut("serve").expect("serve");
        let help = serve.render_long_help().to_string();
        for key in crate::config::keys::KEYS {
            assert!(help.contains(&format!("[env: {}]", key.env())), "{}", key.name);
            assert!(help.contains(&format!("[default: {}]", key.default)), "{}", key.name);
        }
    }

    #[test]
    fn flags_of_the_table_are_read() {
        let line = "basalt serve --memory 1G --data-dir /a=2 --data-dir /b --insecure --engines blob,x";
        let Verb::Serve(flags) = parse(line).expect("valid").verb else { panic!("not serve") };
        let values: Vec<_> =
            flags.values.iter().map(|(k, v)| format!("{}={}", k.name, v.join("|"))).collect();
        assert_eq!(values, ["data-dir=/a=2|/b", "memory=1G", "engines=blob|x", "insecure=true"]);
        assert!(parse("basalt serve --memory").is_err());
        assert!(parse("basalt serve extra").is_err());
    }
}
