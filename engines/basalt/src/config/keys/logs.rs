//! The keys under the heading `Logs` of the help: what the node says of itself. Called by `keys`.

use super::values::{one, parse_log_level};
use super::{Key, Kind};
use crate::config::LogFormat;

const HEADING: &str = "Logs";

/// In the order in which help and `config show` list them.
pub(super) const KEYS: &[Key] = &[
    Key {
        name: "log-format",
        value_name: "FORMAT",
        kind: Kind::Text,
        default: "auto",
        help: "auto, text, logfmt or json; auto is text on a terminal and logfmt elsewhere",
        heading: HEADING,
        set: |settings, values| {
            settings.log_format = LogFormat::parse(one(values)?)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "log-level",
        value_name: "LEVELS",
        kind: Kind::Text,
        default: "info",
        help: "error, warn, info, debug, trace or off, also per part: info,runtime=debug",
        heading: HEADING,
        set: |settings, values| {
            settings.log_level = parse_log_level(one(values)?)?;
            Ok(())
        },
        understood: None,
    },
];
