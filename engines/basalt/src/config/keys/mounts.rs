//! The keys under the heading `Mounts` of the help: blobs as files. Called by `keys`.

use super::values::{directory, one, parse_switch};
use super::{Key, Kind};
use crate::config::Rung;

const HEADING: &str = "Mounts";

/// In the order in which help and `config show` list them.
pub(super) const KEYS: &[Key] = &[
    Key {
        name: "mount",
        value_name: "DIR",
        kind: Kind::Text,
        default: "none",
        help: "Show blobs as files here; the kernel reads the large ones itself",
        heading: HEADING,
        set: |settings, values| {
            settings.mounts.handles = directory(one(values)?);
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "mount-ro",
        value_name: "DIR",
        kind: Kind::Text,
        default: "none",
        help: "The same without handles: the fastest for many small files",
        heading: HEADING,
        set: |settings, values| {
            settings.mounts.immutable = directory(one(values)?);
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "fuse-rung",
        value_name: "RUNG",
        kind: Kind::Text,
        default: "auto",
        help: "How requests of mounts come: auto, passthrough, uring, clone or thread",
        heading: HEADING,
        set: |settings, values| {
            settings.mounts.rung = Rung::parse(one(values)?)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "fuse-allow-other",
        value_name: "BOOL",
        kind: Kind::Switch,
        default: "false",
        help: "Let users other than the daemon's look into mounts",
        heading: HEADING,
        set: |settings, values| {
            settings.mounts.allow_other = parse_switch(one(values)?)?;
            Ok(())
        },
        understood: None,
    },
];
