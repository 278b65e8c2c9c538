//! Declarations: the name, help, kind and bounds of a metric, as `static`s in each engine's `metrics.rs`.
//!
//! Callers: engines, and [`Registry`](super::Registry), which checks a declaration when it is first used.
//! Invariants: what passes the check passes `promtool check metrics`. Units: bounds are in the shown unit.

/// How many bucket bounds a histogram family may have.
pub const BOUNDS_MAX: usize = 32;

/// Bounds from 100 us to 10 s, for requests.
pub const LATENCY_SECONDS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// What a family measures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only grows; name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution over `le` bounds, in the shown unit, ascending, without +Inf.
    Histogram(Unit, &'static [f64]),
}

/// What a histogram records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Recorded in nanoseconds, shown in seconds; name ends in `_seconds`.
    Seconds,
    /// Recorded in nanoseconds, shown in milliseconds; name ends in `_ms`. For names that somebody else has given.
    Milliseconds,
    /// Recorded and shown in bytes; name ends in `_bytes`.
    Bytes,
}

impl Unit {
    /// How many recorded units make one shown unit.
    pub(super) fn recorded_per_shown(self) -> f64 {
        match self {
            Unit::Seconds => 1e9,
            Unit::Milliseconds => 1e6,
            Unit::Bytes => 1.0,
        }
    }
}

/// A metric's declaration, `static` in the engine that owns it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: Kind,
    pub(super) per_column: bool,
}

impl Family {
    /// A counter; `name` ends in `_total`.
    #[must_use]
    pub const fn counter(name: &'static str, help: &'static str) -> Self {
        Self::new(name, help, Kind::Counter)
    }

    /// A gauge.
    #[must_use]
    pub const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self::new(name, help, Kind::Gauge)
    }

    /// A histogram of durations, with `bounds` in seconds; `name` ends in `_seconds`.
    #[must_use]
    pub const fn seconds(name: &'static str, help: &'static str, bounds: &'static [f64]) -> Self {
        Self::new(name, help, Kind::Histogram(Unit::Seconds, bounds))
    }

    /// A histogram of durations, with `bounds` in milliseconds; `name` ends in `_ms`.
    #[must_use]
    pub const fn milliseconds(name: &'static str, help: &'static str, bounds: &'static [f64]) -> Self {
        Self::new(name, help, Kind::Histogram(Unit::Milliseconds, bounds))
    }

    /// A histogram of sizes, with `bounds` in bytes; `name` ends in `_bytes`.
    #[must_use]
    pub const fn bytes(name: &'static str, help: &'static str, bounds: &'static [f64]) -> Self {
        Self::new(name, help, Kind::Histogram(Unit::Bytes, bounds))
    }

    const fn new(name: &'static str, help: &'static str, kind: Kind) -> Self {
        Self { name, help, kind, per_column: false }
    }

    /// Shows each column for itself, labelled `column="k"`, instead of the sum.
    #[must_use]
    pub const fn per_column(mut self) -> Self {
        self.per_column = true;
        self
    }

    /// The family's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// What promtool would complain about, said at registration.
    pub(super) fn assert_valid(&self) {
        let name = self.name;
        let mut bytes = name.bytes();
        let start = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_' || b == b':');
        assert!(
            start && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':'),
            "bad metric name {name:?}"
        );
        assert!(!self.help.is_empty(), "{name} has no help text");
        let total = name.ends_with("_total");
        assert_eq!(total, self.kind == Kind::Counter, "{name}: counters, and nothing else, end in _total");
        for suffix in ["_count", "_sum", "_bucket", "_info"] {
            assert!(!name.ends_with(suffix), "{name} ends in {suffix}");
        }
        if let Kind::Histogram(unit, bounds) = self.kind {
            let suffix = match unit {
                Unit::Seconds => "_seconds",
                Unit::Milliseconds => "_ms",
                Unit::Bytes => "_bytes",
            };
            assert!(name.ends_with(suffix), "{name} does not end in {suffix}");
            assert!((1..=BOUNDS_MAX).contains(&bounds.len()), "{name}: 1 to {BOUNDS_MAX} bounds");
            assert!(
                bounds.iter().all(|b| b.is_finite() && *b > 0.0) && bounds.is_sorted_by(|a, b| a < b),
                "{name}: bounds ascend from above 0"
            );
        }
    }

    /// Whether `label` can be a label of this family's samples.
    pub(super) fn assert_label(&self, label: &str) {
        let mut bytes = label.bytes();
        let start = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        assert!(
            start && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_'),
            "{}: bad label name {label:?}",
            self.name
        );
        assert!(!label.starts_with("__"), "{}: label {label} is reserved", self.name);
        assert!(
            label != "le" && label != "quantile" && label != "column",
            "{}: label {label} is reserved",
            self.name
        );
    }
}
