//! What can be set of the engine, as plain values, checked. The node reads files and flags; nothing here does.
//!
//! The keys are those of pingora-slice: `slice_size`, `max_concurrent_subrequests`, `max_retries`, `cache_ttl`, `slice_patterns`,
//! `upstream_address`. A preset is a set of them that others then cover.
//!
//! Invariant: a [`Config`] that [`Config::faults`] finds nothing wrong with can be run.

mod origins;
mod patterns;

pub use origins::{BadOrigin, Origin, Origins};
pub use patterns::{BadPattern, Patterns};

use crate::limits::{RETRIES_MAX, SLICE_ALIGN_BYTES, SLICE_BYTES_MAX, SLICE_BYTES_MIN, SUBREQUESTS_MAX};
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
    /// `max_concurrent_subrequests`.
    pub concurrency: Concurrency,
    /// `max_retries` of one fetch.
    pub retries_max: u32,
    /// `cache_ttl`: the lifetime when the origin states none.
    pub cache_ttl_s: u64,
    /// `slice_patterns`: the paths that are sliced; the others are passed through.
    pub patterns: Patterns,
    /// `upstream_address`, or several by prefix of the path.
    pub origins: Origins,
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
    /// Nothing would be cached.
    #[error("cache_ttl is at least 1 s")]
    CacheTtl,
}

impl Config {
    /// The defaults: slices of a size that follows from the object's, and the rest as in pingora-slice.
    #[must_use]
    pub fn new(origins: Origins) -> Config {
        Config {
            slice_bytes: None,
            concurrency: Concurrency::Fixed(4),
            retries_max: 3,
            cache_ttl_s: 3600,
            patterns: Patterns::all(),
            origins,
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
        let (slice_bytes, concurrency) = (Some(slice_bytes), Concurrency::Fixed(runs));
        Config { slice_bytes, concurrency, retries_max, cache_ttl_s, ..self }
    }

    /// Everything that is wrong.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if let Some(bytes) = self.slice_bytes
            && !((SLICE_BYTES_MIN..=SLICE_BYTES_MAX).contains(&bytes)
                && bytes.is_multiple_of(SLICE_ALIGN_BYTES))
        {
            faults.push(Fault::SliceSize(bytes));
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
        if self.cache_ttl_s == 0 {
            faults.push(Fault::CacheTtl);
        }
        faults
    }

    /// How objects are sliced. Nothing is wrong with the configuration.
    #[must_use]
    pub fn slicing(&self) -> Slicing {
        debug_assert!(self.faults().is_empty());
        let slice_size = self.slice_bytes.map_or(SliceSize::Auto, SliceSize::Fixed);
        Slicing { slice_size, concurrency: self.concurrency }
    }
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
            (c.slice_bytes, c.slicing().concurrency.runs_max(SLICE_BYTES_MIN), c.retries_max, c.cache_ttl_s)
        };
        assert_eq!(values(&config()), (None, 4, 3, 3600));
        for (name, expected) in [
            ("high-throughput", (Some(2 * MIB), 8, 2, 7200)),
            ("low-memory", (Some(512 * KIB), 4, 3, 1800)),
            ("balanced", (Some(MIB), 4, 3, 3600)),
        ] {
            let preset = name.parse().expect("a preset");
            assert_eq!(values(&config().with_preset(preset)), expected, "{name}");
        }
        assert_eq!("fast".parse::<Preset>(), Err(BadPreset));
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
            concurrency: Concurrency::Fixed(0),
            retries_max: RETRIES_MAX + 1,
            cache_ttl_s: 0,
            ..config()
        };
        let faults =
            [Fault::SliceSize(1), Fault::Subrequests, Fault::Retries(RETRIES_MAX + 1), Fault::CacheTtl];
        assert_eq!(all.faults(), faults);
    }
}
