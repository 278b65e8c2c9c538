//! The figures of a run: as a table for people, as one line of JSON for programs, as a page that needs nothing else.
//!
//! The keys of the JSON are stable: scripts and comparisons of runs read them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::measure::{Recorder, Window};

mod page;

/// What a run measured.
#[derive(Clone, Debug)]
pub struct Report {
    title: String,
    figures: Figures,
    /// Share of operations not yet answered, and the latency in µs by which it is so: for the page.
    curve: Vec<(f64, f64)>,
}

/// The JSON.
#[derive(Clone, Debug, Serialize)]
struct Figures {
    /// Which of the cases of a suite.
    #[serde(skip_serializing_if = "Option::is_none")]
    case: Option<String>,
    seconds: f64,
    operations: u64,
    ops_per_second: f64,
    mib_per_second: f64,
    cpu_seconds: f64,
    cpu_us_per_operation: f64,
    latency_us: Latency,
    /// What one kind of load has beside the rest.
    #[serde(flatten)]
    more: BTreeMap<&'static str, f64>,
}

/// Microseconds.
#[derive(Clone, Debug, Serialize)]
struct Latency {
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

impl Report {
    /// The figures of what `recorder` saw in `window`.
    pub fn new(title: String, window: Window, recorder: &Recorder) -> Self {
        let latency = recorder.latency();
        let operations = latency.len();
        let quantile_us = |quantile| latency.value_at_quantile(quantile) as f64 / 1e3;
        let per_second = |count: f64| match window.seconds {
            0.0 => 0.0,
            seconds => count / seconds,
        };
        let figures = Figures {
            case: None,
            seconds: window.seconds,
            operations,
            ops_per_second: per_second(operations as f64),
            mib_per_second: per_second(recorder.bytes() as f64 / f64::from(1 << 20)),
            cpu_seconds: window.cpu_seconds,
            cpu_us_per_operation: window.cpu_seconds * 1e6 / operations.max(1) as f64,
            latency_us: Latency {
                p50: quantile_us(0.5),
                p90: quantile_us(0.9),
                p99: quantile_us(0.99),
                p999: quantile_us(0.999),
                max: latency.max() as f64 / 1e3,
            },
            more: BTreeMap::new(),
        };
        Self { title, figures, curve: page::curve(latency) }
    }

    /// Adds a figure that only this kind of load has.
    pub fn with(mut self, key: &'static str, value: f64) -> Self {
        self.figures.more.insert(key, value);
        self
    }

    /// Names the case of a suite.
    pub fn of_case(mut self, case: String) -> Self {
        self.figures.case = Some(case);
        self
    }

    /// One line of JSON.
    pub fn json(&self) -> String {
        let line = serde_json::to_string(&self.figures).expect("numbers and fixed keys");
        line + "\n"
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut out = format!("{}\n", self.title);
        for (name, value) in self.rows() {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "  {name:<22} {value:>14}");
        }
        out
    }

    /// A page with the figures and the distributions of latency.
    pub fn html(reports: &[Self]) -> String {
        let sections: Vec<String> =
            reports.iter().map(|one| page::section(&one.title, &one.rows(), &one.curve)).collect();
        page::render(reports.first().map_or("", |first| &first.title), &sections)
    }

    fn rows(&self) -> Vec<(String, String)> {
        let figures = &self.figures;
        let latency = &figures.latency_us;
        let row = |name: &str, value: String| (name.to_owned(), value);
        let mut rows = vec![
            row("seconds", format!("{:.2}", figures.seconds)),
            row("operations", figures.operations.to_string()),
            row("operations/s", format!("{:.0}", figures.ops_per_second)),
            row("MiB/s", format!("{:.1}", figures.mib_per_second)),
            row("CPU seconds", format!("{:.2}", figures.cpu_seconds)),
            row("CPU µs per operation", format!("{:.3}", figures.cpu_us_per_operation)),
            row("latency p50 µs", format!("{:.2}", latency.p50)),
            row("latency p90 µs", format!("{:.2}", latency.p90)),
            row("latency p99 µs", format!("{:.2}", latency.p99)),
            row("latency p99.9 µs", format!("{:.2}", latency.p999)),
            row("latency max µs", format!("{:.2}", latency.max)),
        ];
        let more = figures.more.iter();
        rows.extend(more.map(|(key, value)| (key.replace('_', " "), format!("{value:.2}"))));
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::measure::{Pace, Phase};

    fn report() -> Report {
        let phase = Phase::default();
        let mut recorder = Recorder::new(phase.clone());
        let kept = Pace::new(1).keep(&phase, |_| {
            (1..=1000).for_each(|n| recorder.record(n * 1000, 4096));
            Ok(())
        });
        assert!(kept.is_ok());
        let window = Window { seconds: 2.0, cpu_seconds: 0.001, ..Window::default() };
        Report::new("reads of <4 KiB>".into(), window, &recorder)
    }

    #[test]
    fn json_is_one_line_with_stable_keys() {
        let json = report().with("messages_per_second", 5.0).json();
        assert_eq!(json.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&json).expect("is JSON");
        assert_eq!(value["operations"], 1000);
        assert_eq!(value["ops_per_second"], 500.0);
        assert_eq!(value["mib_per_second"], 4096.0 * 500.0 / 1048576.0);
        assert_eq!(value["cpu_us_per_operation"], 1.0);
        assert_eq!(value["messages_per_second"], 5.0);
        for key in ["p50", "p90", "p99", "p999", "max"] {
            assert!(value["latency_us"][key].is_f64(), "{key}");
        }
        let p50 = value["latency_us"]["p50"].as_f64().expect("a number");
        assert!((495.0..=505.0).contains(&p50), "{p50}");
        assert!(value["seconds"].is_f64() && value["cpu_seconds"].is_f64());
    }

    #[test]
    fn a_run_without_operations_has_figures_too() {
        let recorder = Recorder::new(Phase::default());
        let report = Report::new(String::new(), Window::default(), &recorder);
        assert!(report.json().contains("\"ops_per_second\":0.0"));
        assert!(Report::html(&[report]).contains("</html>"));
    }

    #[test]
    fn the_table_and_the_page_show_every_row() {
        let report = report();
        for (name, value) in report.rows() {
            assert!(report.table().contains(&name) && report.table().contains(&value));
            assert!(Report::html(std::slice::from_ref(&report)).contains(&value), "{name}");
        }
        let page = Report::html(&[report.clone(), report]);
        assert_eq!(page.matches("<polyline").count(), 2, "a drawing of each");
        assert!(page.contains("&lt;4 KiB&gt;") && !page.contains("<4 KiB>"));
        assert!(page.contains("<polyline") && page.len() < 20_000);
        assert!(!page.contains("http://") || !page.contains("src="), "stands alone");
    }
}
