//! The merge of all columns and the Prometheus text exposition format, version 0.0.4.
//!
//! Caller: the ops listener's `/metrics`, with one snapshot per column.
//! Invariants: one HELP and one TYPE per family, families by name, samples by labels: the same snapshots
//! give the same text. Units: recorded units are turned into shown units here and nowhere else.

use std::{
    collections::BTreeMap,
    fmt::{Display, Write as _},
};

use super::{Buckets, Family, Kind, Labels, Snapshot, Unit, Value};

/// What to answer as Content-Type.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The families of all snapshots, summed over the columns unless a family is per column.
#[must_use]
pub fn render(snapshots: &[Snapshot]) -> String {
    let mut families: BTreeMap<&'static str, Merged> = BTreeMap::new();
    for snapshot in snapshots {
        for sample in &snapshot.samples {
            let merged = families
                .entry(sample.family.name)
                .or_insert_with(|| Merged { family: sample.family, samples: BTreeMap::new() });
            assert_eq!(
                merged.family, sample.family,
                "{} is declared differently on two columns",
                sample.family.name
            );
            let column = sample.family.per_column.then_some(snapshot.column);
            merged.add((sample.labels.clone(), column), &sample.value);
        }
    }
    let mut out = String::new();
    for merged in families.values() {
        merged.write(&mut out);
    }
    out
}

/// Labels, and the column where the family is per column.
type Key = (Labels, Option<u32>);

struct Merged {
    family: &'static Family,
    samples: BTreeMap<Key, Value>,
}

impl Merged {
    fn add(&mut self, key: Key, value: &Value) {
        match self.samples.entry(key) {
            std::collections::btree_map::Entry::Vacant(vacant) => {
                vacant.insert(value.clone());
            }
            std::collections::btree_map::Entry::Occupied(mut occupied) => sum(occupied.get_mut(), value),
        }
    }

    fn write(&self, out: &mut String) {
        let name = self.family.name;
        let kind = match self.family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(..) => "histogram",
        };
        write_head(out, name, self.family.help, kind);
        for ((labels, column), value) in &self.samples {
            let column = column.map(|column| column.to_string());
            let labels = Shown { labels, column: column.as_deref() };
            match (value, self.family.kind) {
                (Value::Counter(count), _) => labels.write(out, name, "", None, count),
                (Value::Gauge(level), _) => labels.write(out, name, "", None, level),
                (Value::Computed(level), _) => labels.write(out, name, "", None, level),
                (Value::Histogram(buckets), Kind::Histogram(unit, bounds)) => {
                    labels.write_buckets(out, name, buckets, unit, bounds);
                }
                (Value::Histogram(_), kind) => {
                    unreachable!("{name}: buckets in a family of {kind:?}")
                }
            }
        }
    }
}

/// `into` + `from`; both are of one family.
fn sum(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Counter(into), Value::Counter(from)) => *into = into.wrapping_add(*from),
        (Value::Gauge(into), Value::Gauge(from)) => *into = into.wrapping_add(*from),
        (Value::Computed(into), Value::Computed(from)) => *into += from,
        (Value::Histogram(into), Value::Histogram(from)) => {
            assert_eq!(into.cumulative.len(), from.cumulative.len(), "one family, one set of bounds");
            for (into, from) in into.cumulative.iter_mut().zip(&from.cumulative) {
                *into += from;
            }
            into.sum = into.sum.saturating_add(from.sum);
            into.count += from.count;
        }
        (into, from) => unreachable!("{into:?} and {from:?} in one family"),
    }
}

/// A sample's labels on their way out.
struct Shown<'a> {
    labels: &'a Labels,
    column: Option<&'a str>,
}

impl Shown<'_> {
    /// One line: name, suffix, labels, value.
    fn write(&self, out: &mut String, name: &str, suffix: &str, le: Option<&str>, value: impl Display) {
        out.push_str(name);
        out.push_str(suffix);
        let own = self.labels.iter().map(|(label, value)| (*label, value.as_str()));
        let column = self.column.map(|column| ("column", column));
        let mut opening = '{';
        for (label, value) in own.chain(column).chain(le.map(|le| ("le", le))) {
            out.push(opening);
            out.push_str(label);
            out.push_str("=\"");
            escape(out, value, true);
            out.push('"');
            opening = ',';
        }
        if opening == ',' {
            out.push('}');
        }
        writeln!(out, " {value}").expect("a String takes all");
    }

    fn write_buckets(&self, out: &mut String, name: &str, buckets: &Buckets, unit: Unit, bounds: &[f64]) {
        assert_eq!(buckets.cumulative.len(), bounds.len(), "{name}: a count per bound");
        assert!(buckets.cumulative.is_sorted(), "{name}: cumulative counts ascend");
        for (bound, count) in bounds.iter().zip(&buckets.cumulative) {
            assert!(*count <= buckets.count);
            self.write(out, name, "_bucket", Some(&bound.to_string()), count);
        }
        self.write(out, name, "_bucket", Some("+Inf"), buckets.count);
        let sum = buckets.sum as f64 / unit.recorded_per_shown();
        self.write(out, name, "_sum", None, sum);
        self.write(out, name, "_count", None, buckets.count);
    }
}

/// The two comment lines that open a family.
pub(super) fn write_head(out: &mut String, name: &str, help: &str, kind: &str) {
    out.push_str("# HELP ");
    out.push_str(name);
    out.push(' ');
    escape(out, help, false);
    writeln!(out, "\n# TYPE {name} {kind}").expect("a String takes all");
}

/// Backslash and line feed are escaped everywhere, the quote in label values only.
fn escape(out: &mut String, text: &str, quotes: bool) {
    for char in text.chars() {
        match char {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            other => out.push(other),
        }
    }
}
