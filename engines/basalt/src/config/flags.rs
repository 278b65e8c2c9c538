//! The configuration's flags, made from the table of keys, for every verb that takes the daemon's configuration.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use super::keys::{KEYS, Key, Kind};
use super::layers::CONFIG_ENV;

/// What the command line says about the configuration, unread.
#[derive(Clone, Debug, Default)]
pub struct ServeFlags {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// Keys that a flag sets, with their values.
    pub values: Vec<(&'static Key, Vec<String>)>,
}

impl Args for ServeFlags {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help("Configuration file, in TOML")
            .long_help(format!("Configuration file, in TOML\n\n[default: none]\n[env: {CONFIG_ENV}]"));
        command.arg(config).args(KEYS.into_iter().map(arg))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// Keys that `--help` lists and `-h`, which is to fit a screen, does not.
const RARE: [&str; 33] = [
    "prefetch",
    "scrub-rate",
    "engines",
    "disk-free-min",
    "scrub-rest",
    "tls-key",
    "tls-client-ca",
    "token-file",
    "origin-ca",
    "slice-preset",
    "slice-size",
    "slice-path-size",
    "slice-min-size",
    "slice-subrequests",
    "slice-bandwidth",
    "slice-clients",
    "slice-origin-connections",
    "slice-origin-idle",
    "slice-origin-idle-time",
    "slice-origin-timeout",
    "slice-health-path",
    "slice-health-interval",
    "slice-health-fails",
    "slice-health-passes",
    "slice-retries",
    "slice-ttl",
    "slice-negative-ttl",
    "slice-min-uses",
    "slice-patterns",
    "slice-access-log",
    "slice-access-format",
    "fuse-rung",
    "fuse-allow-other",
];

fn arg(key: &Key) -> Arg {
    let arg = Arg::new(key.name)
        .long(key.name)
        .value_name(key.value_name)
        .help(key.help)
        .long_help(format!("{}\n\n[default: {}]\n[env: {}]", key.help, key.default, key.env()))
        .hide_short_help(RARE.contains(&key.name))
        .help_heading(key.heading);
    match key.kind {
        Kind::Names | Kind::Paths => arg.action(ArgAction::Append),
        Kind::Switch => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
        Kind::Text | Kind::Size => arg,
    }
}

impl FromArgMatches for ServeFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let values = KEYS.into_iter().filter_map(|key| {
            let given = matches.get_many::<String>(key.name)?;
            Some((key, given.flat_map(|text| key.split(text)).collect()))
        });
        Ok(Self { config: matches.get_one("config").cloned(), values: values.collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
