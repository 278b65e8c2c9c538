//! Metrics: plain counters per column, merged when somebody asks.
//!
//! Reading order: [`family`] (what engines declare); this file (handles and the per-column [`Registry`]);
//! [`text`] (the merge and the Prometheus text format); [`process`] (the standard `process_*` figures).
//!
//! Callers: each engine's `metrics.rs` declares `static` families and registers its handles on each column;
//! the ops listener collects one [`Snapshot`] per column through the mesh and [`render`]s them.
//!
//! Units: a histogram records nanoseconds or bytes and is shown in seconds or bytes; everything else is
//! counted in the unit that ends the family's name.
//! Invariants: a handle belongs to one column (no atomics); names and labels are checked at registration, by
//! assertion, because they are ours; label values may be any text but come from a closed set, never from clients.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

pub mod family;
pub mod process;
pub mod text;

pub use family::{BOUNDS_MAX, Family, Kind, LATENCY_SECONDS, Unit};
pub use text::{CONTENT_TYPE, render};

/// How many samples (families times label sets) one column may register.
pub const SAMPLES_MAX: usize = 4096;

/// The largest recordable value: one hour in nanoseconds, or 3.6 TB. Larger ones are recorded as this.
pub const RECORDED_MAX: u64 = 3_600_000_000_000;

/// Counts events. A clone is the same counter.
#[derive(Clone, Debug, Default)]
pub struct Counter(Rc<Cell<u64>>);

impl Counter {
    /// One more.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// `n` more.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.set(self.0.get().wrapping_add(n));
    }

    /// The count so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

/// A level. A clone is the same gauge.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Rc<Cell<i64>>);

impl Gauge {
    /// Sets the level.
    #[inline]
    pub fn set(&self, level: i64) {
        self.0.set(level);
    }

    /// Raises (or, negative, lowers) the level.
    #[inline]
    pub fn add(&self, n: i64) {
        self.0.set(self.0.get().wrapping_add(n));
    }

    /// The level.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.0.get()
    }
}

/// Records values with two significant digits. A clone is the same histogram.
#[derive(Clone, Debug)]
pub struct Histogram(Rc<RefCell<Recorded>>);

#[derive(Debug)]
struct Recorded {
    values: hdrhistogram::Histogram<u64>,
    /// Exact, unlike the buckets.
    sum: u64,
}

impl Histogram {
    fn new() -> Self {
        let values = hdrhistogram::Histogram::new_with_bounds(1, RECORDED_MAX, 2)
            .expect("1 is below the maximum and 2 digits are allowed");
        Self(Rc::new(RefCell::new(Recorded { values, sum: 0 })))
    }

    /// Records nanoseconds or bytes, as the family says. Values above [`RECORDED_MAX`] count as that.
    #[inline]
    pub fn record(&self, value: u64) {
        let mut recorded = self.0.borrow_mut();
        let value = value.min(RECORDED_MAX);
        recorded.values.saturating_record(value);
        recorded.sum = recorded.sum.saturating_add(value);
    }

    /// Records the same value `count` times.
    pub fn record_many(&self, value: u64, count: u64) {
        let mut recorded = self.0.borrow_mut();
        let value = value.min(RECORDED_MAX);
        recorded.values.saturating_record_n(value, count);
        recorded.sum = recorded.sum.saturating_add(value.saturating_mul(count));
    }

    /// How many values were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.borrow().values.len()
    }

    /// The value below which the share `quantile` (0 to 1) of the values lies, within 1 %.
    #[must_use]
    pub fn value_at_quantile(&self, quantile: f64) -> u64 {
        assert!((0.0..=1.0).contains(&quantile));
        self.0.borrow().values.value_at_quantile(quantile)
    }

    fn buckets(&self, unit: Unit, bounds: &[f64]) -> Buckets {
        let recorded = self.0.borrow();
        let values = &recorded.values;
        let mut cumulative = Vec::with_capacity(bounds.len());
        let (mut total, mut from) = (0, 0);
        for bound in bounds {
            let to = (bound * unit.recorded_per_shown()).round() as u64;
            // A resolution cell that a bound falls into counts below that bound, and once.
            if from <= to {
                total += values.count_between(from, to);
                from = values.next_non_equivalent(to);
            }
            cumulative.push(total.min(values.len()));
        }
        Buckets { cumulative, sum: recorded.sum, count: values.len() }
    }
}

/// A histogram at one moment, cut at its family's bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buckets {
    /// Values up to each bound.
    pub cumulative: Vec<u64>,
    /// In recorded units.
    pub sum: u64,
    /// All values.
    pub count: u64,
}

/// A sample's value at one moment.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// See [`Counter`].
    Counter(u64),
    /// See [`Gauge`].
    Gauge(i64),
    /// A gauge that is computed from others when somebody asks, such as a ratio.
    Computed(f64),
    /// See [`Histogram`].
    Histogram(Buckets),
}

/// Label names with their values, sorted by name.
pub type Labels = Vec<(&'static str, String)>;

/// One sample at one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Its declaration.
    pub family: &'static Family,
    /// Without `column`.
    pub labels: Labels,
    /// What was counted.
    pub value: Value,
}

/// A column's metrics at one moment: plain data that can cross the mesh.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Whose.
    pub column: u32,
    /// In the order of registration.
    pub samples: Vec<Sample>,
}

#[derive(Clone, Debug)]
enum Handle {
    Counter(Counter),
    Gauge(Gauge),
    Histogram(Histogram),
}

/// One column's metrics.
#[derive(Debug)]
pub struct Registry {
    column: u32,
    entries: RefCell<Vec<(&'static Family, Labels, Handle)>>,
}

impl Registry {
    /// An empty registry for `column`.
    #[must_use]
    pub fn new(column: u32) -> Self {
        Self { column, entries: RefCell::default() }
    }

    /// The counter of `family` with these labels; registered by the first call, the same one ever after.
    #[must_use]
    pub fn counter(&self, family: &'static Family, labels: &[(&'static str, &str)]) -> Counter {
        assert_eq!(family.kind, Kind::Counter, "{} is no counter", family.name);
        match self.entry(family, labels, || Handle::Counter(Counter::default())) {
            Handle::Counter(counter) => counter,
            other => unreachable!("{} was registered as {other:?}", family.name),
        }
    }

    /// The gauge of `family` with these labels; registered by the first call, the same one ever after.
    #[must_use]
    pub fn gauge(&self, family: &'static Family, labels: &[(&'static str, &str)]) -> Gauge {
        assert_eq!(family.kind, Kind::Gauge, "{} is no gauge", family.name);
        match self.entry(family, labels, || Handle::Gauge(Gauge::default())) {
            Handle::Gauge(gauge) => gauge,
            other => unreachable!("{} was registered as {other:?}", family.name),
        }
    }

    /// The histogram of `family` with these labels; registered by the first call, the same one ever after.
    /// It takes 36 KiB.
    #[must_use]
    pub fn histogram(&self, family: &'static Family, labels: &[(&'static str, &str)]) -> Histogram {
        let is_histogram = matches!(family.kind, Kind::Histogram(..));
        assert!(is_histogram, "{} is no histogram", family.name);
        match self.entry(family, labels, || Handle::Histogram(Histogram::new())) {
            Handle::Histogram(histogram) => histogram,
            other => unreachable!("{} was registered as {other:?}", family.name),
        }
    }

    fn entry(
        &self,
        family: &'static Family,
        labels: &[(&'static str, &str)],
        new: impl FnOnce() -> Handle,
    ) -> Handle {
        let mut labels: Labels = labels.iter().map(|(k, v)| (*k, (*v).to_owned())).collect();
        labels.sort_unstable();
        let mut entries = self.entries.borrow_mut();
        let same_name = || entries.iter().filter(|(known, ..)| known.name == family.name);
        if let Some((_, _, handle)) = same_name().find(|(_, known, _)| *known == labels) {
            return handle.clone();
        }
        family.assert_valid();
        assert!(
            same_name().all(|(known, ..)| *known == family),
            "{} is declared twice, differently",
            family.name
        );
        labels.iter().for_each(|(label, _)| family.assert_label(label));
        assert!(labels.is_sorted_by(|a, b| a.0 < b.0), "{}: a label is given twice", family.name);
        assert!(entries.len() < SAMPLES_MAX, "more than {SAMPLES_MAX} samples in a column");
        let handle = new();
        entries.push((family, labels, handle.clone()));
        handle
    }

    /// All values now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let entries = self.entries.borrow();
        let sample = |(family, labels, handle): &(&'static Family, Labels, Handle)| Sample {
            family,
            labels: labels.clone(),
            value: match (handle, family.kind) {
                (Handle::Counter(counter), _) => Value::Counter(counter.get()),
                (Handle::Gauge(gauge), _) => Value::Gauge(gauge.get()),
                (Handle::Histogram(h), Kind::Histogram(unit, bounds)) => {
                    Value::Histogram(h.buckets(unit, bounds))
                }
                (Handle::Histogram(_), kind) => unreachable!("a histogram in a family of {kind:?}"),
            },
        };
        Snapshot { column: self.column, samples: entries.iter().map(sample).collect() }
    }
}

#[cfg(test)]
mod tests;
