//! Every key of the configuration, once: its name, value, default, help, and how it is read.
//!
//! The flag (`--memory`), the environment variable (`BASALT_MEMORY`), the line of the file
//! (`memory = "4GiB"`), the help text, the layering and `config show` all derive from this table.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;

use super::size::{Amount, Bytes, parse_size_bytes};
use super::{DataDir, Engine, LogFormat, Rung, Settings, Verify, file_system_bytes, slice};
use net::tls::PAIRS_MAX;
use runtime::tier::DISKS_MAX;

/// The shape of a key's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One string.
    Text,
    /// A string, or a whole number of bytes.
    Size,
    /// `true` or `false`; as a flag, its presence.
    Switch,
    /// Names: an array, or one string with commas; as a flag, repeatable.
    Names,
    /// Paths: an array, or one string taken whole; as a flag, repeatable.
    Paths,
}

impl Kind {
    /// What to call the expected value in an error about the file.
    pub fn expected(self) -> &'static str {
        match self {
            Self::Text => "a string",
            Self::Size => "a size: a string such as \"4GiB\" or a number of bytes",
            Self::Switch => "true or false",
            Self::Names | Self::Paths => "a string or an array of strings",
        }
    }
}

/// One key.
#[derive(Debug)]
pub struct Key {
    /// The key in the file; the flag and the variable are derived from it.
    pub name: &'static str,
    /// The value's placeholder in help.
    pub value_name: &'static str,
    /// The value's shape.
    pub kind: Kind,
    /// The value when nobody sets it, in the same syntax as the environment's.
    pub default: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// The heading the flag stands under in help.
    pub heading: &'static str,
    /// Reads the value into the settings; the error says what is wrong with it.
    pub set: fn(&mut Settings, &[String]) -> Result<(), String>,
    /// What the value was understood as on this machine, where that differs from its text.
    pub understood: Option<fn(&Settings) -> String>,
}

impl Key {
    /// The environment variable: `BASALT_BLOB_LISTEN` for `blob-listen`.
    pub fn env(&self) -> String {
        let name = self.name.to_ascii_uppercase().replace(['-', '.'], "_");
        format!("BASALT_{name}")
    }

    /// Cuts one string, as the environment has it, into this key's values.
    pub fn split(&self, text: &str) -> Vec<String> {
        match self.kind {
            Kind::Names => text.split(',').map(|name| name.trim().to_owned()).collect(),
            _ => vec![text.to_owned()],
        }
    }
}

/// The key called `name`.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

const MACHINE: &str = "Machine";
const LISTENERS: &str = "Listeners";
const ORIGINS: &str = "Origins";
const MOUNTS: &str = "Mounts";
const LOGS: &str = "Logs";

/// The table, in the order in which help and `config show` list it.
pub static KEYS: [Key; 46] = [
    Key {
        name: "cpuset",
        value_name: "CPULIST",
        kind: Kind::Text,
        default: "auto",
        help: "CPUs to run on, one column each, such as 0-3,8,10-14:2; auto is those we may run on",
        heading: MACHINE,
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
        heading: MACHINE,
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
        heading: MACHINE,
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
        heading: MACHINE,
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
        heading: MACHINE,
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
        heading: MACHINE,
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
        heading: MACHINE,
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
        heading: MACHINE,
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
        heading: MACHINE,
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
        heading: MACHINE,
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
        heading: MACHINE,
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
    Key {
        name: "blob-listen",
        value_name: "ADDR",
        kind: Kind::Text,
        default: "127.0.0.1:9000",
        help: "Where the blob HTTP interface listens",
        heading: LISTENERS,
        set: |settings, values| {
            settings.blob_listen = parse_addr(one(values)?)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-listen",
        value_name: "ADDR",
        kind: Kind::Text,
        default: "127.0.0.1:8080",
        help: "Where the caching proxy listens, once there is a --slice-origin",
        heading: LISTENERS,
        set: |settings, values| {
            settings.slice.listen = parse_addr(one(values)?)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "ops-listen",
        value_name: "ADDR",
        kind: Kind::Text,
        default: "127.0.0.1:2381",
        help: "Where /metrics and health listen",
        heading: LISTENERS,
        set: |settings, values| {
            settings.ops_listen = parse_addr(one(values)?)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "insecure",
        value_name: "BOOL",
        kind: Kind::Switch,
        default: "false",
        help: "Let listeners that are not loopback serve without TLS",
        heading: LISTENERS,
        set: |settings, values| {
            settings.insecure = parse_switch(one(values)?)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "tls-cert",
        value_name: "FILE",
        kind: Kind::Paths,
        default: "none",
        help: "Serve TLS with this certificate chain, in PEM; several: by name",
        heading: LISTENERS,
        set: |settings, values| {
            settings.tls.certs = files(values)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "tls-key",
        value_name: "FILE",
        kind: Kind::Paths,
        default: "none",
        help: "Its private key, in PEM; one for each certificate, in the same order",
        heading: LISTENERS,
        set: |settings, values| {
            settings.tls.keys = files(values)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "tls-client-ca",
        value_name: "FILE",
        kind: Kind::Text,
        default: "none",
        help: "Take only clients with a certificate that one of these authorities signed, in PEM",
        heading: LISTENERS,
        set: |settings, values| {
            settings.tls.client_ca = file(one(values)?);
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "token-file",
        value_name: "FILE",
        kind: Kind::Text,
        default: "none",
        help: "Tokens that clients need, in lines `blob|slice|ops TOKEN`",
        heading: LISTENERS,
        set: |settings, values| {
            settings.token_file = file(one(values)?);
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-origin",
        value_name: "[/PREFIX=]URL",
        kind: Kind::Paths,
        default: "none",
        help: "Cache in slices what this server has; repeatable",
        heading: ORIGINS,
        set: |settings, values| {
            settings.slice.origins = slice::parse_origins(values)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-preset",
        value_name: "NAME",
        kind: Kind::Text,
        default: "none",
        help: "What slice-size, slice-subrequests, slice-retries and slice-ttl are if not said: high-throughput, low-memory or balanced",
        heading: ORIGINS,
        set: |settings, values| {
            settings.slice.preset = slice::parse_preset(one(values)?)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-size",
        value_name: "SIZE|auto",
        kind: Kind::Size,
        default: "preset",
        help: "The size of slices; auto follows from the object's, as does the preset none",
        heading: ORIGINS,
        set: |settings, values| {
            settings.slice.size = slice::parse_size(one(values)?)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-subrequests",
        value_name: "COUNT|auto",
        kind: Kind::Text,
        default: "preset",
        help: "The most slices of one object that are fetched at a time, up to 8; 4 without a preset",
        heading: ORIGINS,
        set: |settings, values| {
            settings.slice.subrequests = slice::parse_subrequests(one(values)?)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-bandwidth",
        value_name: "MBPS",
        kind: Kind::Text,
        default: "1000",
        help: "Of the way to the origin, in Mb/s, for --slice-subrequests auto",
        heading: ORIGINS,
        set: |settings, values| {
            settings.slice.bandwidth_mbps = slice::parse_count(one(values)?)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-clients",
        value_name: "COUNT",
        kind: Kind::Text,
        default: "32",
        help: "Clients of each core that are expected at a time, for --slice-subrequests auto",
        heading: ORIGINS,
        set: |settings, values| {
            settings.slice.clients = slice::parse_count(one(values)?)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-origin-connections",
        value_name: "COUNT",
        kind: Kind::Text,
        default: "256",
        help: "The most requests to one origin that a core has under way; others wait, small objects before large ones",
        heading: ORIGINS,
        set: |settings, values| {
            settings.slice.upstreams.connections_max = slice::parse_count(one(values)?)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-origin-idle",
        value_name: "COUNT",
        kind: Kind::Text,
        default: "10",
        help: "The most connections to one origin that each core keeps while they are idle",
        heading: ORIGINS,
        set: |settings, values| {
            settings.slice.upstreams.idle_max = slice::parse_count(one(values)?)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-origin-idle-time",
        value_name: "TIME",
        kind: Kind::Text,
        default: "90s",
        help: "How long an idle connection to an origin is kept",
        heading: ORIGINS,
        set: |settings, values| {
            settings.slice.upstreams.idle_s = parse_time_ms(one(values)?)? / 1000;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-origin-timeout",
        value_name: "TIME",
        kind: Kind::Text,
        default: "30s",
        help: "How long an origin may take to connect, to answer, and for each 64 KiB of a body",
        heading: ORIGINS,
        set: |settings, values| {
            settings.slice.upstreams.timeout_s = parse_time_ms(one(values)?)? / 1000;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-health-path",
        value_name: "PATH",
        kind: Kind::Text,
        default: "none",
        help: "Probe every origin by HEAD of this path; one that is down is not asked, and what is stale is served as allowed",
        heading: ORIGINS,
        set: |settings, values| {
            settings.slice.health_path = slice::parse_health_path(one(values)?)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-health-interval",
        value_name: "TIME",
        kind: Kind::Text,
        default: "5s",
        help: "How often; an answer that takes longer is a failure",
        heading: ORIGINS,
        set: |settings, values| {
            settings.slice.health_interval_s = parse_time_ms(one(values)?)? / 1000;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-health-fails",
        value_name: "COUNT",
        kind: Kind::Text,
        default: "3",
        help: "Failures in a row (no answer, or a status that is none of 2xx and 3xx) after which an origin is down",
        heading: ORIGINS,
        set: |settings, values| {
            settings.slice.health.fails = slice::parse_count(one(values)?)?.try_into().unwrap_or(u32::MAX);
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-health-passes",
        value_name: "COUNT",
        kind: Kind::Text,
        default: "2",
        help: "Successes in a row after which it is up again",
        heading: ORIGINS,
        set: |settings, values| {
            settings.slice.health.passes = slice::parse_count(one(values)?)?.try_into().unwrap_or(u32::MAX);
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-retries",
        value_name: "COUNT",
        kind: Kind::Text,
        default: "preset",
        help: "How often a failed fetch is tried again, up to 10; 3 without a preset",
        heading: ORIGINS,
        set: |settings, values| {
            settings.slice.retries = slice::parse_number(one(values)?)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-ttl",
        value_name: "TIME",
        kind: Kind::Text,
        default: "preset",
        help: "How long an answer is fresh whose origin does not say, such as 90s or 7d; 1h without a preset",
        heading: ORIGINS,
        set: |settings, values| {
            let text = one(values)?;
            settings.slice.ttl_s = match text {
                slice::OF_PRESET => None,
                text => Some(parse_time_ms(text)? / 1000),
            };
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-negative-ttl",
        value_name: "STATUS=TIME,...",
        kind: Kind::Names,
        default: "none",
        help: "How long errors are kept whose origin does not say, such as 404=10s,503=2s; of 404, 410, 451, 500, 502, 503, 504",
        heading: ORIGINS,
        set: |settings, values| {
            let seconds = |text: &str| parse_time_ms(text).map(|ms| ms / 1000);
            settings.slice.negative_s = slice::parse_negative(values, seconds)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-patterns",
        value_name: "REGEX",
        kind: Kind::Paths,
        default: "all",
        help: "Slice only paths in which one of these regular expressions is found",
        heading: ORIGINS,
        set: |settings, values| {
            settings.slice.patterns = slice::parse_patterns(values)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-access-log",
        value_name: "FILE|-",
        kind: Kind::Text,
        default: "none",
        help: "Write a line for each request to the caching proxy; - is standard output; HUP or USR1 opens the file anew",
        heading: ORIGINS,
        set: |settings, values| {
            settings.slice.access_log = slice::parse_access_log(one(values)?)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-access-format",
        value_name: "FORMAT",
        kind: Kind::Text,
        default: "combined",
        help: "The shape of its lines: combined (with the cache's word and seconds behind) or json",
        heading: ORIGINS,
        set: |settings, values| {
            let format = one(values)?.parse();
            settings.slice.access_format =
                format.map_err(|e: slicecache::access::BadFormat| e.to_string())?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "origin-ca",
        value_name: "FILE",
        kind: Kind::Text,
        default: "none",
        help: "Certificate authorities for https origins beside the system's, in PEM",
        heading: ORIGINS,
        set: |settings, values| {
            settings.origin_ca = file(one(values)?);
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "mount",
        value_name: "DIR",
        kind: Kind::Text,
        default: "none",
        help: "Show blobs as files here; the kernel reads the large ones itself",
        heading: MOUNTS,
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
        heading: MOUNTS,
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
        heading: MOUNTS,
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
        heading: MOUNTS,
        set: |settings, values| {
            settings.mounts.allow_other = parse_switch(one(values)?)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "log-format",
        value_name: "FORMAT",
        kind: Kind::Text,
        default: "auto",
        help: "auto, text, logfmt or json; auto is text on a terminal and logfmt elsewhere",
        heading: LOGS,
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
        heading: LOGS,
        set: |settings, values| {
            settings.log_level = parse_log_level(one(values)?)?;
            Ok(())
        },
        understood: None,
    },
];

fn one(values: &[String]) -> Result<&str, String> {
    match values {
        [value] => Ok(value),
        _ => Err("one value is expected".to_owned()),
    }
}

fn parse_data_dirs(values: &[String]) -> Result<Vec<DataDir>, String> {
    let dirs: Vec<DataDir> = values.iter().map(|v| parse_data_dir(v)).collect::<Result<_, _>>()?;
    if dirs.is_empty() || dirs.len() > DISKS_MAX {
        return Err(format!("{} data directories: from 1 to {DISKS_MAX} are possible", dirs.len()));
    }
    for (at, dir) in dirs.iter().enumerate() {
        if dirs[..at].iter().any(|before| before.path == dir.path) {
            return Err(format!("{} is named twice", dir.path.display()));
        }
    }
    Ok(dirs)
}

/// `DIR` or `DIR=WEIGHT`. A `=` that no whole number follows is part of the path.
fn parse_data_dir(value: &str) -> Result<DataDir, String> {
    let (dir, weight) = match value.rsplit_once('=') {
        Some((dir, weight)) if weight.bytes().all(|b| b.is_ascii_digit()) => (dir, weight),
        _ => (value, "1"),
    };
    if dir.is_empty() {
        return Err(format!("`{value}` names no directory"));
    }
    match weight.parse::<u32>() {
        Ok(weight @ 1..) => Ok(DataDir { path: PathBuf::from(dir), weight }),
        _ => Err(format!("the weight in `{value}` is not a number from 1 on")),
    }
}

fn parse_ttl(text: &str) -> Result<Option<u64>, String> {
    match text {
        "none" => Ok(None),
        text => match blobcache::serve::parse_ttl_ms(text) {
            Some(ttl_ms) => Ok(Some(ttl_ms)),
            None => Err(format!("`{text}` is neither none nor a number of s, m, h or d, such as 90s or 7d")),
        },
    }
}

fn parse_time_ms(text: &str) -> Result<u64, String> {
    blobcache::serve::parse_ttl_ms(text)
        .ok_or_else(|| format!("`{text}` is not a number of s, m, h or d, such as 90s or 7d"))
}

fn parse_rate(text: &str) -> Result<Option<NonZeroU64>, String> {
    if text == "0" {
        return Ok(None);
    }
    parse_size_bytes(text).map(NonZeroU64::new)
}

fn files(values: &[String]) -> Result<Vec<PathBuf>, String> {
    let files: Vec<PathBuf> = values.iter().filter_map(|text| file(text)).collect();
    if files.len() > PAIRS_MAX {
        return Err(format!("{} files: at most {PAIRS_MAX} are possible", files.len()));
    }
    Ok(files)
}

fn file(text: &str) -> Option<PathBuf> {
    (text != "none").then(|| PathBuf::from(text))
}

fn directory(text: &str) -> Option<PathBuf> {
    (text != "none").then(|| PathBuf::from(text))
}

fn parse_verify(values: &[String]) -> Result<Verify, String> {
    let mut verify = Verify::default();
    for value in values {
        match value.as_str() {
            "read" => {}
            "start" => verify.at_start = true,
            "strict" => verify.is_strict = true,
            _ => return Err(format!("`{value}` is none of read, start, strict")),
        }
    }
    Ok(verify)
}

fn parse_addr(text: &str) -> Result<SocketAddr, String> {
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    numeric
        .parse()
        .map_err(|_| format!("`{text}` is not an address and port such as 127.0.0.1:9000 or [::1]:9000"))
}

fn parse_switch(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("`{text}` is neither true nor false")),
    }
}

fn parse_on_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("`{text}` is neither on nor off")),
    }
}

/// `LEVEL` or `PART=LEVEL`, with commas between. Checked here, because the subscriber would read a
/// mistyped level as the name of a part.
fn parse_log_level(text: &str) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    for directive in text.split(',') {
        let (part, level) = directive.split_once('=').unwrap_or(("all", directive));
        if !LEVELS.contains(&level) {
            return Err(format!("`{level}` is none of {}", LEVELS.join(", ")));
        }
        let is_path = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        if part.is_empty() || !part.chars().all(is_path) {
            return Err(format!("`{part}` is not the name of a part such as runtime or blobcache"));
        }
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data_dirs(values: &[&str]) -> Result<Vec<(String, u32)>, String> {
        let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        let dirs = parse_data_dirs(&values)?;
        Ok(dirs.into_iter().map(|d| (d.path.display().to_string(), d.weight)).collect())
    }

    #[test]
    fn names_are_unique_and_variables_follow_them() {
        for (at, key) in KEYS.iter().enumerate() {
            assert!(KEYS[at + 1..].iter().all(|other| other.env() != key.env()), "{}", key.name);
        }
        assert_eq!(find("blob-listen").map(Key::env).as_deref(), Some("BASALT_BLOB_LISTEN"));
    }

    #[test]
    fn a_data_directory_may_carry_a_weight() {
        let dir = |path: &str, weight| (path.to_owned(), weight);
        assert_eq!(data_dirs(&["/a"]), Ok(vec![dir("/a", 1)]));
        assert_eq!(data_dirs(&["/a=2", "/b"]), Ok(vec![dir("/a", 2), dir("/b", 1)]));
        assert_eq!(data_dirs(&["/a=b"]), Ok(vec![dir("/a=b", 1)]));
        for refused in [&["/a=0"][..], &["=1"], &[""], &["/a="], &["/a", "/a=2"], &[]] {
            assert!(data_dirs(refused).is_err(), "{refused:?}");
        }
        let many: Vec<String> = (0..=DISKS_MAX).map(|n| format!("/{n}")).collect();
        assert!(parse_data_dirs(&many).is_err(), "more than {DISKS_MAX}");
    }

    #[test]
    fn what_is_verified_adds_up() {
        let verify = |words: &[&str]| parse_verify(&words.iter().map(|&w| w.to_owned()).collect::<Vec<_>>());
        assert_eq!(verify(&["read"]), Ok(Verify::default()));
        assert_eq!(verify(&["start"]), Ok(Verify { at_start: true, is_strict: false }));
        assert_eq!(verify(&["strict", "start"]), Ok(Verify { at_start: true, is_strict: true }));
        assert!(verify(&["on"]).is_err() && verify(&[""]).is_err());
    }

    #[test]
    fn a_rate_of_nothing_is_no_rate() {
        assert_eq!(parse_rate("0"), Ok(None));
        assert_eq!(parse_rate("1MiB"), Ok(NonZeroU64::new(1 << 20)));
        assert!(parse_rate("50%").is_err() && parse_rate("off").is_err());
        assert_eq!(parse_time_ms("1h"), Ok(3_600_000));
        assert!(parse_time_ms("none").is_err() && parse_time_ms("").is_err());
    }

    #[test]
    fn addresses_switches_and_levels_are_checked() {
        assert!(parse_addr("localhost:9000").is_ok_and(|addr| addr.ip().is_loopback()));
        assert!(parse_addr("[::1]:9000").is_ok() && parse_addr(":9000").is_err());
        assert_eq!([parse_switch("1"), parse_switch("false")], [Ok(true), Ok(false)]);
        assert!(parse_switch("maybe").is_err());
        assert_eq!([parse_on_off("on"), parse_on_off("off")], [Ok(true), Ok(false)]);
        assert!(parse_on_off("true").is_err());
        assert_eq!([parse_ttl("none"), parse_ttl("2m")], [Ok(None), Ok(Some(120_000))]);
        assert!(parse_ttl("").is_err() && parse_ttl("0s").is_err() && parse_ttl("1y").is_err());
        assert!(parse_log_level("info,runtime::ring=debug").is_ok());
        assert!(parse_log_level("inof").is_err() && parse_log_level("run time=info").is_err());
    }
}
