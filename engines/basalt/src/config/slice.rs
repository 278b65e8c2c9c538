//! What is set of the caching proxy: its keys read one by one, then together made into the engine's own configuration.

use super::size::parse_size_bytes;
use crate::node::access_log::Target;
use slicecache::access::Format;
use slicecache::config::{Config, Origins, PathSizes, Patterns, Preset, Probes, Upstreams};
use slicecache::state::health::Thresholds;
use slicecache::state::slices::Concurrency;
use std::net::SocketAddr;

/// What a key says that leaves its value to the preset.
pub const OF_PRESET: &str = "preset";

/// What is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Where it listens, if there is an origin.
    pub listen: SocketAddr,
    /// `URL` or `/prefix=URL`; none: it does not run.
    pub origins: Vec<String>,
    /// What holds where nothing else is said.
    pub preset: Option<Preset>,
    /// `Some(None)`: auto.
    pub size: Option<Option<u64>>,
    /// By prefix of the path.
    pub path_sizes: PathSizes,
    /// Objects below this size are one slice.
    pub min_bytes: u64,
    /// Fetches of one object at a time; `Some(None)`: auto.
    pub subrequests: Option<Option<u64>>,
    /// Of the way to the origin, in Mb/s; for auto.
    pub bandwidth_mbps: u64,
    /// Clients expected at a time, of each column; for auto.
    pub clients: u64,
    /// What is asked of origins to know whether they are up; `None`: nothing.
    pub health_path: Option<String>,
    /// How often.
    pub health_interval_s: u64,
    /// When one changes sides.
    pub health: Thresholds,
    /// Requests to one origin at a time, and its connections.
    pub upstreams: Upstreams,
    /// Of one fetch.
    pub retries: Option<u64>,
    /// Lifetime when the origin states none; `Some(None)`: guessed from Last-Modified.
    pub ttl_s: Option<Option<u64>>,
    /// Lifetimes of errors by status.
    pub negative_s: Vec<(u16, u64)>,
    /// From which request for an object on it is stored.
    pub uses_min: u64,
    /// Of paths that are sliced; none: all are.
    pub patterns: Vec<String>,
    /// Where the access log goes; `None`: there is none.
    pub access_log: Option<Target>,
    /// Its shape.
    pub access_format: Format,
}

impl Slice {
    /// Nothing but where it would listen.
    pub fn at(listen: SocketAddr) -> Slice {
        let (origins, patterns) = (Vec::new(), Vec::new());
        Slice {
            listen,
            origins,
            preset: None,
            size: None,
            path_sizes: PathSizes::default(),
            min_bytes: 0,
            subrequests: None,
            bandwidth_mbps: 0,
            clients: 0,
            health_path: None,
            health_interval_s: 0,
            health: Thresholds { fails: 0, passes: 0 },
            upstreams: Upstreams::default(),
            retries: None,
            ttl_s: None,
            negative_s: Vec::new(),
            uses_min: 0,
            patterns,
            access_log: None,
            access_format: Format::default(),
        }
    }

    /// The engine's configuration; `None`: there is no origin.
    ///
    /// # Errors
    /// What is wrong with it, by key.
    pub fn config(&self) -> Result<Option<Config>, (&'static str, String)> {
        if self.origins.is_empty() {
            return Ok(None);
        }
        let origins = Origins::new(&self.origins).map_err(|e| ("slice-origin", e.to_string()))?;
        let mut config = Config::new(origins);
        config.negative_s.clone_from(&self.negative_s);
        config.uses_min = self.uses_min;
        config.upstreams = self.upstreams;
        config.probes = self.health_path.clone().map(|path| Probes {
            path,
            interval_s: self.health_interval_s,
            thresholds: self.health,
        });
        config.patterns = Patterns::new(&self.patterns).map_err(|e| ("slice-patterns", e.to_string()))?;
        if let Some(preset) = self.preset {
            config = config.with_preset(preset);
        }
        if let Some(size) = self.size {
            config.slice_bytes = size;
        }
        config.path_sizes = self.path_sizes.clone();
        config.whole_below_bytes = self.min_bytes;
        if let Some(subrequests) = self.subrequests {
            config.concurrency = match subrequests {
                Some(subrequests) => Concurrency::Fixed(subrequests),
                None => Concurrency::Auto {
                    bandwidth_mbps: self.bandwidth_mbps,
                    origin_connections_max: self.upstreams.connections_max,
                    clients_expected: self.clients,
                },
            };
        }
        if let Some(retries) = self.retries {
            config.retries_max = u32::try_from(retries).unwrap_or(u32::MAX);
        }
        if let Some(ttl_s) = self.ttl_s {
            config.cache_ttl_s = ttl_s;
        }
        use slicecache::config::Fault;
        match config.faults().first() {
            None => Ok(Some(config)),
            Some(fault) => {
                let key = match fault {
                    Fault::SliceSize(_) => "slice-size",
                    Fault::PathSize(_) => "slice-path-size",
                    Fault::Whole(_) => "slice-min-size",
                    Fault::Subrequests | Fault::Auto => "slice-subrequests",
                    Fault::Retries(_) => "slice-retries",
                    Fault::CacheTtl => "slice-ttl",
                    Fault::Probes => "slice-health-interval",
                    Fault::Upstreams => "slice-origin-connections",
                    Fault::Negative(_) => "slice-negative-ttl",
                };
                Err((key, fault.to_string()))
            }
        }
    }
}

pub(super) fn parse_origins(values: &[String]) -> Result<Vec<String>, String> {
    if matches!(values, [none] if none == "none") {
        return Ok(Vec::new());
    }
    Origins::new(values).map_err(|e| e.to_string())?;
    Ok(values.to_vec())
}

pub(super) fn parse_patterns(values: &[String]) -> Result<Vec<String>, String> {
    if matches!(values, [all] if all == "all") {
        return Ok(Vec::new());
    }
    Patterns::new(values).map_err(|e| e.to_string())?;
    Ok(values.to_vec())
}

pub(super) fn parse_access_log(text: &str) -> Result<Option<Target>, String> {
    match text {
        "none" => Ok(None),
        "-" => Ok(Some(Target::Stdout)),
        "" => Err("it names no file; - is standard output".to_owned()),
        path => Ok(Some(Target::File(path.into()))),
    }
}

/// `404=10s`, several, each status once.
pub(super) fn parse_negative(
    values: &[String],
    seconds: impl Fn(&str) -> Result<u64, String>,
) -> Result<Vec<(u16, u64)>, String> {
    if matches!(values, [none] if none == "none") {
        return Ok(Vec::new());
    }
    let mut negative_s: Vec<(u16, u64)> = Vec::new();
    for value in values {
        let parts = value.split_once('=').and_then(|(status, time)| Some((status.parse().ok()?, time)));
        let (status, time) = parts.ok_or_else(|| format!("`{value}` is not STATUS=TIME, such as 404=10s"))?;
        if negative_s.iter().any(|(other, _)| *other == status) {
            return Err(format!("{status} is given twice"));
        }
        negative_s.push((status, seconds(time)?));
    }
    Ok(negative_s)
}

pub(super) fn parse_preset(text: &str) -> Result<Option<Preset>, String> {
    match text {
        "none" => Ok(None),
        text => text.parse().map(Some).map_err(|e: slicecache::config::BadPreset| e.to_string()),
    }
}

pub(super) fn parse_size(text: &str) -> Result<Option<Option<u64>>, String> {
    match text {
        OF_PRESET => Ok(None),
        "auto" => Ok(Some(None)),
        text => parse_size_bytes(text).map(|bytes| Some(Some(bytes))),
    }
}

/// `/prefix=size`, several, each prefix once.
pub(super) fn parse_path_sizes(values: &[String]) -> Result<PathSizes, String> {
    if matches!(values, [none] if none == "none") {
        return Ok(PathSizes::default());
    }
    let mut sizes = Vec::new();
    for value in values {
        // A path may have the sign, a size has none.
        let parts = value.rsplit_once('=');
        let (prefix, size) =
            parts.ok_or_else(|| format!("`{value}` is not /PREFIX=SIZE, such as /films/=4MiB"))?;
        let bytes = if size == "auto" { None } else { Some(parse_size_bytes(size)?) };
        sizes.push((prefix.to_owned(), bytes));
    }
    PathSizes::new(sizes).map_err(|e| e.to_string())
}

pub(super) fn parse_min_size(text: &str) -> Result<u64, String> {
    if text == "none" { Ok(0) } else { parse_size_bytes(text) }
}

pub(super) fn parse_subrequests(text: &str) -> Result<Option<Option<u64>>, String> {
    match text {
        "auto" => Ok(Some(None)),
        text => parse_number(text).map(|number| number.map(Some)),
    }
}

/// A path, with a query perhaps, of printable ASCII.
pub(super) fn parse_health_path(text: &str) -> Result<Option<String>, String> {
    match text {
        "none" => Ok(None),
        path if path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic() && b != b'#') => {
            Ok(Some(path.to_owned()))
        }
        _ => Err(format!("`{text}` is not a path such as /health")),
    }
}

/// A number from 1 on.
pub(super) fn parse_count(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(count @ 1..) => Ok(count),
        _ => Err(format!("`{text}` is not a whole number from 1 on")),
    }
}

pub(super) fn parse_number(text: &str) -> Result<Option<u64>, String> {
    match text {
        OF_PRESET => Ok(None),
        text => text.parse().map(Some).map_err(|_| format!("`{text}` is not a whole number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice() -> Slice {
        let mut slice = Slice::at(SocketAddr::from(([127, 0, 0, 1], 8080)));
        slice.origins = parse_origins(&["http://o".to_owned()]).expect("one");
        slice
    }

    #[test]
    fn a_preset_holds_where_nothing_else_is_said() {
        let none = Slice { origins: Vec::new(), ..slice() };
        assert!(none.config().is_ok_and(|config| config.is_none()));
        let config = |slice: &Slice| {
            let config = slice.config().expect("sound").expect("there is an origin");
            (config.slice_bytes, config.concurrency, config.retries_max, config.cache_ttl_s)
        };
        assert_eq!(config(&slice()), (None, Concurrency::Fixed(4), 3, Some(3600)));
        let mut preset = Slice { preset: parse_preset("low-memory").expect("one"), ..slice() };
        assert_eq!(config(&preset), (Some(512 << 10), Concurrency::Fixed(4), 3, Some(1800)));
        preset.size = parse_size("1MiB").expect("a size");
        preset.retries = parse_number("0").expect("a number");
        assert_eq!(config(&preset), (Some(1 << 20), Concurrency::Fixed(4), 0, Some(1800)));
        preset.ttl_s = Some(None);
        assert_eq!(config(&preset).3, None);
        preset.subrequests = parse_subrequests("auto").expect("auto");
        (preset.bandwidth_mbps, preset.clients) = (42, 50);
        // 42 Mb/s are five slices a second, 256 connections for 50 clients are five for each.
        let auto = config(&preset).1;
        assert_eq!((auto.runs_max(1 << 20), auto.runs_max(2 << 20), auto.runs_max(10 << 20)), (5, 2, 1));
        preset.size = parse_size("auto").expect("a size");
        assert_eq!(config(&preset).0, None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let odd = Slice { size: Some(Some(1)), ..slice() };
        assert_eq!(odd.config().map(|_| ()).map_err(|(key, _)| key), Err("slice-size"));
        assert!(parse_origins(&["http://o/path".to_owned()]).is_err());
        let path_sizes = |text: &str| parse_path_sizes(&[text.to_owned()]);
        assert_eq!(path_sizes("none"), Ok(PathSizes::default()));
        assert!(path_sizes("/films/").is_err() && path_sizes("films/=1MiB").is_err());
        assert!(path_sizes("/films/=big").is_err() && path_sizes("/a=b/=1MiB").is_ok());
        let odd = Slice { path_sizes: path_sizes("/a=5000").expect("one"), ..slice() };
        assert_eq!(odd.config().map(|_| ()).map_err(|(key, _)| key), Err("slice-path-size"));
        let odd = Slice { min_bytes: parse_min_size("11MiB").expect("a size"), ..slice() };
        assert_eq!(odd.config().map(|_| ()).map_err(|(key, _)| key), Err("slice-min-size"));
        assert!(parse_min_size("0").is_err() && parse_min_size("none") == Ok(0));
        assert!(parse_patterns(&["(".to_owned()]).is_err() && parse_preset("fast").is_err());
        let negative = |text: &str| {
            let values: Vec<String> = text.split(',').map(str::to_owned).collect();
            parse_negative(&values, |time| time.parse().map_err(|_| "no time".to_owned()))
        };
        assert_eq!(negative("none"), Ok(Vec::new()));
        assert_eq!(negative("404=10,410=60"), Ok(vec![(404, 10), (410, 60)]));
        assert!(negative("404").is_err() && negative("404=x").is_err() && negative("404=1,404=2").is_err());
        let odd = Slice { negative_s: vec![(400, 1)], ..slice() };
        assert_eq!(odd.config().map(|_| ()).map_err(|(key, _)| key), Err("slice-negative-ttl"));
        assert!(parse_health_path("health").is_err() && parse_health_path("/a b").is_err());
        assert_eq!(parse_health_path("/h?x"), Ok(Some("/h?x".to_owned())));
        assert!(parse_count("0").is_err() && parse_subrequests("many").is_err());
        assert!(parse_number("many").is_err() && parse_size("big").is_err());
    }
}
