//! The keys under the heading `Machine` of the help: what the node has of its machine, and how it keeps what is stored there.
//! Called by `keys`.

use super::values::{one, parse_data_dirs, parse_on_off, parse_rate, parse_time_ms, parse_ttl, parse_verify};
use super::{Key, Kind};
use crate::config::size::{Amount, Bytes};
use crate::config::{DataDir, Engine, file_system_bytes};

const HEADING: &str = "Machine";

/// In the order in which help and `config show` list them.
pub(super) const KEYS: &[Key] = &[
    Key {
        name: "cpuset",
        value_name: "CPULIST",
        kind: Kind::Text,
        default: "auto",
        help: "CPUs to run on, one column each, such as 0-3,8,10-14:2; auto is those we may run on",
        heading: HEADING,
        set: |settings, values| {
            let list = one(values)?;
            if list != "auto" {
                runtime::cpulist::parse(list).map_err(|error| error.to_string())?;
            }
            settings.cpuset = (list != "auto").then(|| list.to_owned());
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "data-dir",
        value_name: "DIR[=WEIGHT]",
        kind: Kind::Paths,
        default: "basalt-data",
        help: "Where to keep data, one directory per disk with its share of it",
        heading: HEADING,
        set: |settings, values| {
            settings.data_dirs = parse_data_dirs(values)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "memory",
        value_name: "SIZE|PCT%",
        kind: Kind::Size,
        default: "25%",
        help: "Memory budget, absolute or of the smaller of RAM and cgroup limit",
        heading: HEADING,
        set: |settings, values| {
            settings.memory = Amount::parse(one(values)?)?;
            Ok(())
        },
        understood: Some(|settings| Bytes(settings.memory_bytes).to_string()),
    },
    Key {
        name: "disk-quota",
        value_name: "SIZE|PCT%",
        kind: Kind::Size,
        default: "90%",
        help: "The most to store, absolute or of each directory's file system",
        heading: HEADING,
        set: |settings, values| {
            settings.disk_quota = Amount::parse(one(values)?)?;
            Ok(())
        },
        understood: Some(|settings| {
            let quota = |dir: &DataDir| match file_system_bytes(&dir.path) {
                Ok(total_bytes) => Bytes(settings.disk_quota_of(dir, total_bytes)).to_string(),
                Err(error) => format!("file system not readable: {error}"),
            };
            settings.data_dirs.iter().map(quota).collect::<Vec<_>>().join(" + ")
        }),
    },
    Key {
        name: "disk-free-min",
        value_name: "SIZE|PCT%",
        kind: Kind::Size,
        default: "1%",
        help: "What stays free of each directory's file system; at least 16 MiB",
        heading: HEADING,
        set: |settings, values| {
            settings.disk_free_min = Amount::parse(one(values)?)?;
            Ok(())
        },
        understood: Some(|settings| {
            let floor = |dir: &DataDir| match file_system_bytes(&dir.path) {
                Ok(total_bytes) => Bytes(settings.disk_free_min_of(total_bytes)).to_string(),
                Err(error) => format!("file system not readable: {error}"),
            };
            settings.data_dirs.iter().map(floor).collect::<Vec<_>>().join(" + ")
        }),
    },
    Key {
        name: "prefetch",
        value_name: "on|off",
        kind: Kind::Text,
        default: "on",
        help: "Whether large blobs are read into RAM ahead of sequential readers",
        heading: HEADING,
        set: |settings, values| {
            settings.prefetch = parse_on_off(one(values)?)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "scrub-rate",
        value_name: "SIZE",
        kind: Kind::Size,
        default: "8MiB",
        help: "The most to read in a second to look for damage; 0: not at all",
        heading: HEADING,
        set: |settings, values| {
            settings.scrub_bytes_per_s = parse_rate(one(values)?)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "scrub-rest",
        value_name: "TIME",
        kind: Kind::Text,
        default: "1h",
        help: "How long that rests when all has been read, such as 90s or 7d",
        heading: HEADING,
        set: |settings, values| {
            settings.scrub_rest_ms = parse_time_ms(one(values)?)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "verify",
        value_name: "HOW,...",
        kind: Kind::Names,
        default: "read",
        help: "read: all that is read, as always; start: also all that is stored, before \
               ready; strict: also send nothing from page cache",
        heading: HEADING,
        set: |settings, values| {
            settings.verify = parse_verify(values)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "object-ttl",
        value_name: "TIME",
        kind: Kind::Text,
        default: "none",
        help: "How long blobs stay that are put without ?ttl=, such as 90s or 7d",
        heading: HEADING,
        set: |settings, values| {
            settings.object_ttl_ms = parse_ttl(one(values)?)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "engines",
        value_name: "NAME,...",
        kind: Kind::Names,
        default: "blob,slice",
        help: "Engines to run; slice runs once there is a --slice-origin",
        heading: HEADING,
        set: |settings, values| {
            settings.engines.clear();
            for name in values {
                let engine = Engine::parse(name)?;
                if !settings.engines.contains(&engine) {
                    settings.engines.push(engine);
                }
            }
            Ok(())
        },
        understood: None,
    },
];
