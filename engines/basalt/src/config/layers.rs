//! Defaults < file < environment < flag: which value of each key wins, and where it came from.

use std::fmt;
use std::path::{Path, PathBuf};

use super::aliases::{self, ALIASES, Meaning, Read};
use super::file;
use super::flags::ServeFlags;
use super::keys::{self, KEYS, Key, Kind};
use super::nearest::{edit_distance, nearest};
use super::size::Amount;
use super::slice::Slice;
use super::{LogFormat, Settings, Verify};
use crate::cli::{CA_ENV, CERT_ENV, KEY_ENV, SERVER_ENV, TOKEN_ENV};
use crate::error::Error;

/// The variable that names the file when `--config` does not.
pub const CONFIG_ENV: &str = "BASALT_CONFIG";

/// Variables of ours that are not keys: the file, and what the client verbs are told.
const ENV_NOT_KEYS: [&str; 6] = [CONFIG_ENV, SERVER_ENV, TOKEN_ENV, CA_ENV, CERT_ENV, KEY_ENV];

/// How far an unknown `BASALT_*` variable may be from a known one to be taken for a slip of the
/// finger. Further ones are left alone: Kubernetes sets `BASALT_SERVICE_HOST` and `BASALT_PORT` by
/// itself beside a service called basalt.
const ENV_SLIP_MAX: usize = 2;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The configuration file, at this line.
    File(PathBuf, usize),
    /// The configuration file, at this line, by this alias.
    Alias(PathBuf, usize, &'static str),
    /// This environment variable.
    Env(String),
    /// The flag of the same name.
    Flag,
}

impl Origin {
    /// An error about the value that `key` has from here.
    pub fn fault(&self, key: &str, why: &str) -> Error {
        match self {
            Self::Default => Error::runtime(format!("the default of {key} does not fit here"))
                .why(why)
                .fix(format!("set it with --{key}")),
            Self::File(path, line) => Error::config(format!("{}:{line}: {key}", path.display())).why(why),
            Self::Alias(path, line, alias) => {
                Error::config(format!("{}:{line}: {alias}", path.display())).why(why)
            }
            Self::Env(name) => Error::config(format!("environment variable {name}")).why(why),
            Self::Flag => Error::usage(format!("--{key}")).why(why),
        }
    }
}

impl Origin {
    /// What `key` is called there.
    fn name_of(&self, key: &Key) -> &'static str {
        match self {
            Self::Alias(_, _, alias) => alias,
            _ => key.name,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Alias(path, line, alias) => write!(f, "{}:{line} as {alias}", path.display()),
            Self::Env(name) => write!(f, "env {name}"),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// The winning value of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// As it was written, cut into values.
    pub values: Vec<String>,
    /// Who wrote it.
    pub origin: Origin,
}

/// The winning value of each key, in the order of [`KEYS`].
#[derive(Debug)]
pub struct Layers([Layer; KEYS.len()]);

impl Layers {
    /// Keys with their winning values, in the table's order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Key, &Layer)> {
        KEYS.into_iter().zip(&self.0)
    }

    /// Where the value of the key called `name` came from.
    pub fn origin(&self, name: &str) -> &Origin {
        let found = self.iter().find(|(key, _)| key.name == name);
        &found.expect("callers name keys of the table").1.origin
    }
}

/// The file that the environment names, if any.
pub fn config_path(env: &[(String, String)]) -> Option<PathBuf> {
    let named = env.iter().find(|(name, value)| name == CONFIG_ENV && !value.is_empty());
    named.map(|(_, value)| PathBuf::from(value))
}

/// Lays the sources over one another; faults are collected, and a faulty value changes nothing.
/// `memory_bytes` is left for the caller, who knows the machine.
pub fn stack(
    file: Option<(&Path, &str)>,
    env: &[(String, String)],
    flags: &ServeFlags,
    faults: &mut Vec<Error>,
    warnings: &mut Vec<String>,
) -> (Settings, Layers) {
    let mut stack = Stack::of_defaults();
    let Stack { settings, layers } = &mut stack;
    let mut lay = |key: &'static Key, values: Vec<String>, origin: Origin| match (key.set)(settings, &values)
    {
        Ok(()) => {
            let at = KEYS.iter().position(|other| other.name == key.name);
            layers.0[at.expect("of the table")] = Layer { values, origin };
        }
        Err(why) => faults.push(origin.fault(key.name, &why)),
    };
    let mut unknown = Vec::new();
    if let Some((path, text)) = file {
        let assigned = from_file(path, text, &mut unknown, warnings);
        unknown.extend(contradictions(&assigned));
        for (key, values, origin) in assigned {
            lay(key, values, origin);
        }
    }
    for (key, values, origin) in from_env(env, &mut unknown) {
        lay(key, values, origin);
    }
    for (key, values) in &flags.values {
        lay(key, values.clone(), Origin::Flag);
    }
    faults.splice(0..0, unknown);
    (stack.settings, stack.layers)
}

struct Stack {
    settings: Settings,
    layers: Layers,
}

impl Stack {
    fn of_defaults() -> Self {
        let unset = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        // Placeholders: the table has a default for each field but `memory_bytes`, and a test reads them.
        let mut settings = Settings {
            cpuset: None,
            data_dirs: Vec::new(),
            memory: Amount::Bytes(1),
            memory_bytes: 0,
            disk_quota: Amount::Bytes(1),
            disk_free_min: Amount::Bytes(1),
            object_ttl_ms: None,
            blob_listen: unset,
            ops_listen: unset,
            origin_ca: None,
            mounts: super::Mounts::default(),
            engines: Vec::new(),
            slice: Slice::at(unset),
            insecure: false,
            tls: super::Tls::default(),
            token_file: None,
            prefetch: true,
            scrub_bytes_per_s: None,
            scrub_rest_ms: 0,
            verify: Verify::default(),
            log_format: LogFormat::Auto,
            log_level: String::new(),
        };
        let layers = Layers(std::array::from_fn(|at| {
            let key = KEYS[at];
            let values = key.split(key.default);
            (key.set)(&mut settings, &values).expect("the table's defaults are valid");
            Layer { values, origin: Origin::Default }
        }));
        Self { settings, layers }
    }
}

type Assigned = (&'static Key, Vec<String>, Origin);

fn from_file(path: &Path, text: &str, faults: &mut Vec<Error>, warnings: &mut Vec<String>) -> Vec<Assigned> {
    let assignments = match file::parse(text) {
        Ok(assignments) => assignments,
        Err((line, why)) => {
            faults.push(Error::config(format!("{}:{line}: not TOML", path.display())).why(why));
            return Vec::new();
        }
    };
    let mut assigned = Vec::new();
    for assignment in assignments {
        let origin = Origin::File(path.to_path_buf(), assignment.line);
        if let Some(alias) = aliases::find(&assignment.name) {
            let origin = Origin::Alias(path.to_path_buf(), assignment.line, alias.name);
            let read = match alias.read {
                Read::One(read) => assignment.scalar().and_then(|text| read(&text)),
                Read::List(name) => assignment.values(Kind::Paths).map(|values| Meaning::List(name, values)),
            };
            match read {
                Ok(Meaning::Key(name, value)) => {
                    assigned.push((keys::find(name).expect("aliases name keys"), vec![value], origin));
                }
                Ok(Meaning::List(name, values)) => {
                    assigned.push((keys::find(name).expect("aliases name keys"), values, origin));
                }
                Ok(Meaning::Fixed(warning)) => {
                    warnings.extend(warning.map(|why| format!("{}: {} {why}", path.display(), alias.name)));
                }
                Err(why) => faults.push(origin.fault(alias.name, &why)),
            }
            continue;
        }
        let Some(key) = keys::find(&assignment.name) else {
            let near = nearest(&assignment.name, names());
            let near = near.expect("the table is not empty");
            let what = format!("{origin}: unknown key `{}`", assignment.name);
            faults.push(Error::config(what).fix(format!("did you mean `{near}`?")));
            continue;
        };
        match assignment.values(key.kind) {
            Ok(values) => assigned.push((key, values, origin)),
            Err(why) => faults.push(origin.fault(key.name, &why)),
        }
    }
    assigned
}

/// What a key of the file may be called.
fn names() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|key| key.name).chain(ALIASES.iter().map(|alias| alias.name))
}

/// Keys that the file sets under two names to values that differ.
fn contradictions(assigned: &[Assigned]) -> Vec<Error> {
    let mut faults = Vec::new();
    for (at, (key, values, origin)) in assigned.iter().enumerate() {
        for (other, other_values, other_origin) in &assigned[..at] {
            if key.name == other.name && understood(key, values) != understood(key, other_values) {
                let what = format!("{}: {}", origin, origin.name_of(key));
                let why = format!(
                    "it contradicts {} of {}: {} here, {} there",
                    other_origin.name_of(key),
                    other_origin,
                    values.join(","),
                    other_values.join(",")
                );
                faults.push(Error::config(what).why(why).fix("keep one of the two"));
            }
        }
    }
    faults
}

/// What the settings are with this value of a key alone.
fn understood(key: &Key, values: &[String]) -> Option<Settings> {
    let mut settings = Stack::of_defaults().settings;
    (key.set)(&mut settings, values).ok().map(|()| settings)
}

/// An empty variable is an unset one, as `docker run -e NAME=$UNSET` leaves it.
fn from_env(env: &[(String, String)], faults: &mut Vec<Error>) -> Vec<Assigned> {
    let mut assigned = Vec::new();
    for (name, value) in env.iter().filter(|(name, _)| name.starts_with("BASALT_")) {
        if value.is_empty() || ENV_NOT_KEYS.contains(&name.as_str()) {
            continue;
        }
        if let Some(key) = KEYS.into_iter().find(|key| key.env() == *name) {
            assigned.push((key, key.split(value), Origin::Env(name.clone())));
            continue;
        }
        let known: Vec<String> = KEYS.into_iter().map(Key::env).collect();
        let near = nearest(name, known.iter().map(String::as_str).chain(ENV_NOT_KEYS));
        let near = near.expect("the table is not empty");
        if edit_distance(name, near) <= ENV_SLIP_MAX {
            let what = format!("unknown environment variable {name}");
            faults.push(Error::config(what).fix(format!("did you mean {near}?")));
        }
    }
    assigned
}

#[cfg(test)]
mod tests {
    use super::super::{Config, resolve, show};
    use super::*;
    use crate::machine::MemoryCeiling;

    const CEILING: MemoryCeiling = MemoryCeiling { ram_bytes: 16 << 30, cgroup_bytes: None };

    fn config(file: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Config, Error> {
        let env: Vec<_> = env.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let values = flags.iter().map(|(name, value)| {
            let key = keys::find(name).expect("a key");
            (key, key.split(value))
        });
        let flags = ServeFlags { config: None, values: values.collect() };
        resolve(Some((Path::new("b.toml"), file)), &env, &flags, CEILING)
    }

    fn refusal(file: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> (u8, String) {
        let error = config(file, env, flags).expect_err("refused");
        (error.exit_code(), error.to_string())
    }

    #[test]
    fn the_defaults_need_no_source() {
        let settings = config("", &[], &[]).expect("valid").settings;
        assert_eq!(settings.data_dirs[0].path, Path::new("basalt-data"));
        assert_eq!(settings.memory_bytes, 4 << 30);
        assert_eq!(settings.blob_listen.to_string(), "127.0.0.1:9000");
        assert_eq!((settings.cpuset, settings.disk_quota), (None, Amount::Percent(90)));
    }

    #[test]
    fn the_configuration_of_pingora_slice_is_understood() {
        let file = "slice_size = 1048576\nmax_concurrent_subrequests = 6\nmax_retries = 3\n\
            slice_patterns = [\"^/large/\", \"mp4$\"]\nenable_cache = true\ncache_ttl = 60\n\
            l1_cache_size_bytes = 268435456\nl2_cache_dir = \"/var/cache/x\"\nenable_l2_cache = true\n\
            upstream_address = \"127.0.0.1:8081\"\n[metrics_endpoint]\nenabled = true\n\
            address = \"127.0.0.1:9091\"\n[purge]\nenabled = true\nenable_metrics = false\n";
        let config = config(file, &[], &[]).expect("valid");
        let settings = config.settings;
        let slice = &settings.slice;
        assert_eq!(
            (&*slice.origins, &*slice.patterns),
            (&["127.0.0.1:8081".to_owned()][..], &["^/large/".to_owned(), "mp4$".to_owned()][..],)
        );
        assert_eq!((slice.size, slice.subrequests), (Some(Some(1 << 20)), Some(Some(6))));
        assert_eq!((slice.retries, slice.ttl_s), (Some(3), Some(Some(60))));
        assert_eq!((settings.memory_bytes, settings.ops_listen.port()), (256 << 20, 9091));
        assert_eq!(settings.data_dirs[0].path, Path::new("/var/cache/x"));
        assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
        let auto = "slice_size = \"auto\"\nmax_concurrent_subrequests = \"auto\"\n";
        let auto = self::config(auto, &[], &[]).expect("valid").settings.slice;
        assert_eq!((auto.size, auto.subrequests), (Some(None), Some(None)));
        let (_, text) = refusal("slice_patterns = 5\n[purge]\nauth_token = \"x\"\n", &[], &[]);
        assert!(text.contains("slice_patterns") && text.contains("token-file"), "{text}");
    }

    #[test]
    fn a_stronger_layer_wins_and_is_remembered() {
        let file = "\nmemory = \"1GiB\"\nlog-level = \"warn\"\ncpuset = \"0-1\"\n";
        let env = [("BASALT_MEMORY", "2GiB"), ("BASALT_LOG_LEVEL", "debug"), ("BASALT_CPUSET", "")];
        let config = config(file, &env, &[("memory", "3GiB")]).expect("valid");
        assert_eq!(config.settings.memory_bytes, 3 << 30);
        assert_eq!(config.settings.log_level, "debug");
        assert_eq!(config.settings.cpuset.as_deref(), Some("0-1"));
        let origin = |name: &str| config.layers.origin(name).to_string();
        assert_eq!(origin("memory"), "flag");
        assert_eq!(origin("log-level"), "env BASALT_LOG_LEVEL");
        assert_eq!(origin("cpuset"), "b.toml:4");
        assert_eq!(origin("data-dir"), "default");
    }

    #[test]
    fn what_show_prints_is_read_back_as_the_same() {
        let file = "memory = 4294967296\nengines = ['blob']\ninsecure = true\ndata-dir = 'a \"b\"'\n";
        let first = config(file, &[], &[]).expect("valid");
        let text = show::show(&first, true);
        assert!(text.contains("# b.toml:1; 4 GiB\n"), "{text}");
        let second = config(&text, &[], &[]).expect("valid");
        assert_eq!(first.settings, second.settings);
    }

    #[test]
    fn an_alias_sets_its_key_and_is_its_origin() {
        let file = "[server]\nmaxCachePct = 50\ndiskCacheMaxUsagePct = 0.8\nobjectTtlS = 300\n\
                    pageSizeBytes = 4_000_000\n";
        let config = config(file, &[("BASALT_DISK_QUOTA", "70%")], &[]).expect("valid");
        assert_eq!(config.settings.memory_bytes, 8 << 30);
        assert_eq!(config.settings.object_ttl_ms, Some(300_000));
        assert_eq!(config.settings.disk_quota, Amount::Percent(70), "the environment is stronger");
        let shown = show::show(&config, true);
        assert!(shown.contains("# b.toml:2 as maxCachePct; 8 GiB\n"), "{shown}");
        assert!(shown.contains("object-ttl = \"300s\""), "{shown}");
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    }

    #[test]
    fn a_page_size_that_is_not_ours_is_warned_of() {
        let config = config("pageSizeBytes = 1048576\n", &[], &[]).expect("valid");
        let expected =
            "b.toml: pageSizeBytes 1048576 is ignored: pages are 4 MiB here, whatever their number there";
        assert_eq!(config.warnings, [expected]);
    }

    #[test]
    fn an_alias_that_contradicts_its_key_names_both() {
        let (code, text) = refusal("maxCachePct = 50\nmemory = '1GiB'\n", &[], &[]);
        assert_eq!(code, 78);
        let expected =
            "b.toml:2: memory: it contradicts maxCachePct of b.toml:1 as maxCachePct: 1GiB here, 50% there";
        assert!(text.contains(expected), "{text}");
        assert!(config("maxCachePct = 50\nmemory = '50%'\n", &[], &[]).is_ok(), "both say the same");
        let twice = refusal("maxCachePct = 50\n[server]\nmaxCachePct = 60\n", &[], &[]);
        assert_eq!(twice.0, 78, "{}", twice.1);
    }

    #[test]
    fn a_wrong_alias_is_named_as_it_is_written() {
        let (code, text) = refusal("diskCacheMaxUsagePct = 95\nobjectTtlS = [1]\nobjectTtls = 3\n", &[], &[]);
        assert_eq!(code, 78);
        assert!(text.contains("b.toml:1: diskCacheMaxUsagePct: `95` is not a fraction"), "{text}");
        assert!(text.contains("b.toml:2: objectTtlS: expects a number"), "{text}");
        assert!(text.contains("did you mean `objectTtlS`?"), "{text}");
    }

    #[test]
    fn an_unknown_key_names_its_line_and_the_nearest() {
        let (code, text) = refusal("memory = '1GiB'\n[blob]\nlisten = '127.0.0.1:1'\n", &[], &[]);
        assert_eq!(code, 78);
        assert_eq!(text, "error: b.toml:3: unknown key `blob.listen`\n  fix: did you mean `blob-listen`?");
    }

    #[test]
    fn a_wrong_value_is_a_fault_even_when_covered() {
        let (code, text) = refusal("memory = '1XiB'\ninsecure = 'yes'\n", &[], &[("memory", "1GiB")]);
        assert_eq!(code, 78);
        assert!(text.contains("b.toml:1: memory: `1XiB` is not a size"), "{text}");
        assert!(text.contains("b.toml:2: insecure: expects true or false, found a string"), "{text}");
        let (code, text) = refusal("nonsense", &[], &[]);
        assert!(code == 78 && text.contains("b.toml:1: not TOML"), "{text}");
    }

    #[test]
    fn a_variable_close_to_ours_is_a_slip_and_others_are_left_alone() {
        let (code, text) = refusal("", &[("BASALT_MEMROY", "1GiB")], &[]);
        assert_eq!((code, text.contains("did you mean BASALT_MEMORY?")), (78, true), "{text}");
        let others = [("BASALT_PORT", "tcp://10.0.0.1:9000"), ("BASALT_SERVER", "http://x")];
        assert!(config("", &others, &[]).is_ok());
    }

    #[test]
    fn the_exit_code_follows_the_origin() {
        assert_eq!(refusal("", &[], &[("engines", "blob,tsdb")]).0, 2);
        assert_eq!(refusal("engines = 'tsdb'", &[], &[]).0, 78);
        assert_eq!(refusal("", &[], &[("memory", "64GiB")]).0, 2);
        assert_eq!(refusal("", &[("BASALT_MEMORY", "64GiB")], &[]).0, 78);
    }

    #[test]
    fn a_listener_open_to_others_needs_a_word() {
        let (code, text) = refusal("", &[], &[("blob-listen", "0.0.0.0:9000")]);
        assert_eq!(code, 2);
        assert!(text.contains("--blob-listen: 0.0.0.0:9000 is not a loopback address"), "{text}");
        assert!(text.contains("--insecure"), "{text}");
        assert!(config("", &[], &[("blob-listen", "0.0.0.0:9000"), ("insecure", "true")]).is_ok());
        let same = [("ops-listen", "127.0.0.1:9000")];
        assert_eq!(refusal("", &[], &same).0, 2);
    }
}
