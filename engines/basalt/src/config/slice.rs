//! What is set of the caching proxy: its keys read one by one, then together made into the engine's own configuration.

use super::size::parse_size_bytes;
use slicecache::config::{Config, Origins, Patterns, Preset};
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
    /// Fetches of one object at a time.
    pub subrequests: Option<u64>,
    /// Of one fetch.
    pub retries: Option<u64>,
    /// Lifetime when the origin states none.
    pub ttl_s: Option<u64>,
    /// Of paths that are sliced; none: all are.
    pub patterns: Vec<String>,
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
            subrequests: None,
            retries: None,
            ttl_s: None,
            patterns,
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
        config.patterns = Patterns::new(&self.patterns).map_err(|e| ("slice-patterns", e.to_string()))?;
        if let Some(preset) = self.preset {
            config = config.with_preset(preset);
        }
        if let Some(size) = self.size {
            config.slice_bytes = size;
        }
        if let Some(subrequests) = self.subrequests {
            config.concurrency = Concurrency::Fixed(subrequests);
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
                    Fault::Subrequests | Fault::Auto => "slice-subrequests",
                    Fault::Retries(_) => "slice-retries",
                    Fault::CacheTtl => "slice-ttl",
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
        assert_eq!(config(&slice()), (None, Concurrency::Fixed(4), 3, 3600));
        let mut preset = Slice { preset: parse_preset("low-memory").expect("one"), ..slice() };
        assert_eq!(config(&preset), (Some(512 << 10), Concurrency::Fixed(4), 3, 1800));
        preset.size = parse_size("1MiB").expect("a size");
        preset.retries = parse_number("0").expect("a number");
        assert_eq!(config(&preset), (Some(1 << 20), Concurrency::Fixed(4), 0, 1800));
        preset.size = parse_size("auto").expect("a size");
        assert_eq!(config(&preset).0, None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let odd = Slice { size: Some(Some(1)), ..slice() };
        assert_eq!(odd.config().map(|_| ()).map_err(|(key, _)| key), Err("slice-size"));
        assert!(parse_origins(&["http://o/path".to_owned()]).is_err());
        assert!(parse_patterns(&["(".to_owned()]).is_err() && parse_preset("fast").is_err());
        assert!(parse_number("many").is_err() && parse_size("big").is_err());
    }
}
