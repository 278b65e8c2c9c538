//! What can be set of the engine, as plain values, checked. The node reads files and flags; nothing here does.
//!
//! The keys are those of pingora-slice: `slice_size`, `max_concurrent_subrequests`, `max_retries`, `cache_ttl`, `slice_patterns`,
//! `upstream_address`. A preset is a set of them that others then cover.
//!
//! Invariant: a [`Config`] that [`Config::faults`] finds nothing wrong with can be run.

mod origins;
mod patterns;
mod sizes;

pub use origins::{BadOrigin, Origin, Origins};
pub use patterns::{BadPattern, Patterns};
pub use sizes::{BadPathSize, PathSizes};

use crate::limits::{
    ORIGIN_CONNECTIONS_MAX, RETRIES_MAX, SLICE_ALIGN_BYTES, SLICE_BYTES_MAX, SLICE_BYTES_MIN,
    SUBREQUESTS_MAX, WHOLE_BYTES_MAX,
};
use crate::state::freshness::ERRORS_KEPT;
use crate::state::health::Thresholds;
use crate::state::object::Slicing;
use crate::state::slices::{Concurrency, SliceSize};
use std::str::FromStr;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// What is set.
#[derive(Clone, Debug)]
pub struct Config {
    /// `slice_size`; `None`: `auto`.
    pub slice_bytes: Option<u64>,
    /// The same below prefixes of the path that have one of their own.
    pub path_sizes: PathSizes,
    /// Objects below this size are one slice.
    pub whole_below_bytes: u64,
    /// `max_concurrent_subrequests`.
    pub concurrency: Concurrency,
    /// `max_retries` of one fetch.
    pub retries_max: u32,
    /// `cache_ttl`: the lifetime when the origin states none; `None`: it is guessed from Last-Modified.
    pub cache_ttl_s: Option<u64>,
    /// Lifetimes by status of errors for which the origin states none; others of them are not kept.
    pub negative_s: Vec<(u16, u64)>,
    /// Requests for an object from the one on at which what is fetched of it is stored.
    pub uses_min: u64,
    /// `slice_patterns`: the paths that are sliced; the others are passed through.
    pub patterns: Patterns,
    /// `upstream_address`, or several by prefix of the path.
    pub origins: Origins,
    /// How a column goes about with each of them.
    pub upstreams: Upstreams,
    /// How they are probed; `None`: they are not.
    pub probes: Option<Probes>,
}

/// How origins are probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probes {
    /// What is asked of them, by HEAD; begins with `/`.
    pub path: String,
    /// How often; an answer that takes longer is none.
    pub interval_s: u64,
    /// When an origin changes sides.
    pub thresholds: Thresholds,
}

/// A column's bounds for each origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upstreams {
    /// Requests under way.
    pub connections_max: u64,
    /// Connections that wait for their next request.
    pub idle_max: u64,
    /// How long they do.
    pub idle_s: u64,
    /// How long connecting may take, the head of an answer, and each 64 KiB of its body.
    pub timeout_s: u64,
}

impl Default for Upstreams {
    fn default() -> Self {
        Upstreams { connections_max: ORIGIN_CONNECTIONS_MAX as u64, idle_max: 10, idle_s: 90, timeout_s: 30 }
    }
}

impl Upstreams {
    /// Those of the client that asks `origins` origins.
    #[must_use]
    pub fn limits(&self, origins: usize) -> net::client::Limits {
        let ns = |seconds: u64| seconds.saturating_mul(1_000_000_000);
        let defaults = net::client::Limits::default();
        let idle_per_host_max = usize::try_from(self.idle_max).unwrap_or(usize::MAX);
        net::client::Limits {
            connect_wait_ns: ns(self.timeout_s),
            head_wait_ns: ns(self.timeout_s),
            body_wait_ns: ns(self.timeout_s),
            idle_wait_ns: ns(self.idle_s),
            idle_per_host_max,
            idle_max: defaults.idle_max.max(idle_per_host_max.saturating_mul(origins)),
        }
    }
}

/// The sets of values that have names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// 2 MiB slices, 8 at once, 2 retries, 7200 s.
    HighThroughput,
    /// 512 KiB, 4, 3, 1800 s.
    LowMemory,
    /// 1 MiB, 4, 3, 3600 s.
    Balanced,
}

/// Not the name of a preset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a preset is high-throughput, low-memory or balanced")]
pub struct BadPreset;

impl FromStr for Preset {
    type Err = BadPreset;

    fn from_str(name: &str) -> Result<Preset, BadPreset> {
        match name {
            "high-throughput" => Ok(Preset::HighThroughput),
            "low-memory" => Ok(Preset::LowMemory),
            "balanced" => Ok(Preset::Balanced),
            _ => Err(BadPreset),
        }
    }
}

/// What is wrong with a value, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Out of bounds, or no multiple.
    #[error(
        "slice_size is auto or {SLICE_BYTES_MIN} to {SLICE_BYTES_MAX} bytes, a multiple of {SLICE_ALIGN_BYTES}, not {0}"
    )]
    SliceSize(u64),
    /// The same, of a prefix.
    #[error(
        "the slice size of a path is auto or {SLICE_BYTES_MIN} to {SLICE_BYTES_MAX} bytes, a multiple of {SLICE_ALIGN_BYTES}, not {0}"
    )]
    PathSize(u64),
    /// More than a slice may have.
    #[error("objects of at most {WHOLE_BYTES_MAX} bytes can be one slice, not of {0}")]
    Whole(u64),
    /// None.
    #[error(
        "max_concurrent_subrequests is auto or at least 1 (above {SUBREQUESTS_MAX} counts as {SUBREQUESTS_MAX})"
    )]
    Subrequests,
    /// Nobody is expected.
    #[error(
        "max_concurrent_subrequests = auto needs a bandwidth, connections of the origin and clients above 0"
    )]
    Auto,
    /// Too many.
    #[error("max_retries is at most {RETRIES_MAX}, not {0}")]
    Retries(u32),
    /// Kept, it could be served to clients that did nothing of the kind, or it is no error.
    #[error("errors that may be kept are {list}, not {0}", list = listed(&ERRORS_KEPT))]
    Negative(u16),
    /// They would never stop.
    #[error("health checks are at least 1 s apart")]
    Probes,
    /// Nobody would get anything.
    #[error(
        "an origin's connections, their idle time and its timeout are at least 1, and connections at most {ORIGIN_CONNECTIONS_MAX}"
    )]
    Upstreams,
    /// Nothing would be cached.
    #[error("cache_ttl is at least 1 s")]
    CacheTtl,
}

fn listed(statuses: &[u16]) -> String {
    let texts: Vec<String> = statuses.iter().map(u16::to_string).collect();
    texts.join(", ")
}

impl Config {
    /// The defaults: slices of a size that follows from the object's, and the rest as in pingora-slice.
    #[must_use]
    pub fn new(origins: Origins) -> Config {
        Config {
            slice_bytes: None,
            path_sizes: PathSizes::default(),
            whole_below_bytes: 0,
            concurrency: Concurrency::Fixed(4),
            retries_max: 3,
            cache_ttl_s: Some(3600),
            negative_s: Vec::new(),
            uses_min: 1,
            patterns: Patterns::all(),
            origins,
            upstreams: Upstreams::default(),
            probes: None,
        }
    }

    /// These values where the preset has one.
    #[must_use]
    pub fn with_preset(self, preset: Preset) -> Config {
        let (slice_bytes, runs, retries_max, cache_ttl_s) = match preset {
            Preset::HighThroughput => (2 * MIB, 8, 2, 7200),
            Preset::LowMemory => (512 * KIB, 4, 3, 1800),
            Preset::Balanced => (MIB, 4, 3, 3600),
        };
        let cache_ttl_s = Some(cache_ttl_s);
        let (slice_bytes, concurrency) = (Some(slice_bytes), Concurrency::Fixed(runs));
        Config { slice_bytes, concurrency, retries_max, cache_ttl_s, ..self }
    }

    /// Everything that is wrong.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        faults.extend(self.slice_bytes.filter(is_no_slice).map(Fault::SliceSize));
        faults.extend(self.path_sizes.bytes().find(is_no_slice).map(Fault::PathSize));
        if self.whole_below_bytes > WHOLE_BYTES_MAX {
            faults.push(Fault::Whole(self.whole_below_bytes));
        }
        match self.concurrency {
            Concurrency::Fixed(0) => faults.push(Fault::Subrequests),
            Concurrency::Auto { bandwidth_mbps, origin_connections_max, clients_expected }
                if bandwidth_mbps.min(origin_connections_max).min(clients_expected) == 0 =>
            {
                faults.push(Fault::Auto);
            }
            Concurrency::Fixed(_) | Concurrency::Auto { .. } => {}
        }
        if self.retries_max > RETRIES_MAX {
            faults.push(Fault::Retries(self.retries_max));
        }
        let Upstreams { connections_max, idle_s, timeout_s, .. } = self.upstreams;
        if connections_max.min(idle_s).min(timeout_s) == 0 || connections_max > ORIGIN_CONNECTIONS_MAX as u64
        {
            faults.push(Fault::Upstreams);
        }
        if self.probes.as_ref().is_some_and(|probes| probes.interval_s == 0) {
            faults.push(Fault::Probes);
        }
        let odd = self.negative_s.iter().find(|(status, _)| !ERRORS_KEPT.contains(status));
        faults.extend(odd.map(|(status, _)| Fault::Negative(*status)));
        if self.cache_ttl_s == Some(0) {
            faults.push(Fault::CacheTtl);
        }
        faults
    }

    /// How the object of a path is sliced. Nothing is wrong with the configuration.
    #[must_use]
    pub fn slicing(&self, path: &str) -> Slicing {
        debug_assert!(self.faults().is_empty());
        let slice_bytes = self.path_sizes.of_path(path).unwrap_or(self.slice_bytes);
        let slice_size = slice_bytes.map_or(SliceSize::Auto, SliceSize::Fixed);
        Slicing { slice_size, whole_below: self.whole_below_bytes, concurrency: self.concurrency }
    }
}

fn is_no_slice(bytes: &u64) -> bool {
    !(SLICE_BYTES_MIN..=SLICE_BYTES_MAX).contains(bytes) || !bytes.is_multiple_of(SLICE_ALIGN_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::new(Origins::new(["http://o"]).expect("one origin"))
    }

    #[test]
    fn defaults_and_presets_are_sound() {
        let values = |c: &Config| {
            assert_eq!(c.faults(), []);
            (
                c.slice_bytes,
                c.slicing("/").concurrency.runs_max(SLICE_BYTES_MIN),
                c.retries_max,
                c.cache_ttl_s,
            )
        };
        assert_eq!(values(&config()), (None, 4, 3, Some(3600)));
        for (name, expected) in [
            ("high-throughput", (Some(2 * MIB), 8, 2, Some(7200))),
            ("low-memory", (Some(512 * KIB), 4, 3, Some(1800))),
            ("balanced", (Some(MIB), 4, 3, Some(3600))),
        ] {
            let preset = name.parse().expect("a preset");
            assert_eq!(values(&config().with_preset(preset)), expected, "{name}");
        }
        assert_eq!("fast".parse::<Preset>(), Err(BadPreset));
    }

    #[test]
    fn a_path_may_have_a_slice_size_of_its_own() {
        let path_sizes = PathSizes::new([("/films/".to_owned(), Some(4 * MIB)), ("/any".to_owned(), None)]);
        let config = Config { slice_bytes: Some(MIB), path_sizes: path_sizes.expect("two"), ..config() };
        assert_eq!(config.slicing("/films/a").slice_size, SliceSize::Fixed(4 * MIB));
        assert_eq!(config.slicing("/any/a").slice_size, SliceSize::Auto);
        assert_eq!(config.slicing("/a").slice_size, SliceSize::Fixed(MIB));
    }

    #[test]
    fn every_fault_is_found() {
        for bytes in [0, SLICE_BYTES_MIN - 1, SLICE_BYTES_MIN + 1, SLICE_BYTES_MAX + SLICE_ALIGN_BYTES] {
            let config = Config { slice_bytes: Some(bytes), ..config() };
            assert_eq!(config.faults(), [Fault::SliceSize(bytes)]);
        }
        let auto = |bandwidth_mbps, origin_connections_max, clients_expected| Config {
            concurrency: Concurrency::Auto { bandwidth_mbps, origin_connections_max, clients_expected },
            ..config()
        };
        assert_eq!(auto(1, 1, 1).faults(), []);
        for bad in [auto(0, 1, 1), auto(1, 0, 1), auto(1, 1, 0)] {
            assert_eq!(bad.faults(), [Fault::Auto]);
        }
        let all = Config {
            slice_bytes: Some(1),
            path_sizes: PathSizes::new([("/".to_owned(), Some(MIB)), ("/a".to_owned(), Some(5))])
                .expect("two"),
            whole_below_bytes: WHOLE_BYTES_MAX + 1,
            concurrency: Concurrency::Fixed(0),
            retries_max: RETRIES_MAX + 1,
            cache_ttl_s: Some(0),
            negative_s: vec![(404, 5), (403, 5)],
            upstreams: Upstreams { timeout_s: 0, ..Upstreams::default() },
            probes: Some(Probes {
                path: "/".to_owned(),
                interval_s: 0,
                thresholds: Thresholds { fails: 1, passes: 1 },
            }),
            ..config()
        };
        let faults = [
            Fault::SliceSize(1),
            Fault::PathSize(5),
            Fault::Whole(WHOLE_BYTES_MAX + 1),
            Fault::Subrequests,
            Fault::Retries(RETRIES_MAX + 1),
            Fault::Upstreams,
            Fault::Probes,
            Fault::Negative(403),
            Fault::CacheTtl,
        ];
        assert_eq!(all.faults(), faults);
    }
}
