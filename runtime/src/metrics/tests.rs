//! Tests of registration, merging and the text format.

use super::*;

static REQUESTS: Family = Family::counter("basalt_requests_total", "Requests answered.");
static OPEN: Family = Family::gauge("basalt_open_connections", "Connections open now.").per_column();
static LATENCY: Family = Family::seconds("basalt_latency_seconds", "Time to reply.", &[0.001, 0.01, 1.0]);
static SIZES: Family = Family::bytes("basalt_body_bytes", "Body sizes.", &[1024.0, 1_048_576.0]);

#[test]
fn columns_are_summed_or_shown_one_by_one() {
    let columns: Vec<Registry> = (0..2).map(Registry::new).collect();
    for (registry, n) in columns.iter().zip([3, 4]) {
        registry.counter(&REQUESTS, &[("engine", "blob"), ("code", "200")]).add(n);
        registry.gauge(&OPEN, &[]).set(n as i64 - 4);
    }
    columns[1].counter(&REQUESTS, &[("code", "404"), ("engine", "blob")]).inc();
    let snapshots: Vec<Snapshot> = columns.iter().map(Registry::snapshot).collect();
    let wanted = "\
# HELP basalt_open_connections Connections open now.
# TYPE basalt_open_connections gauge
basalt_open_connections{column=\"0\"} -1
basalt_open_connections{column=\"1\"} 0
# HELP basalt_requests_total Requests answered.
# TYPE basalt_requests_total counter
basalt_requests_total{code=\"200\",engine=\"blob\"} 7
basalt_requests_total{code=\"404\",engine=\"blob\"} 1
";
    assert_eq!(render(&snapshots), wanted);
}

#[test]
fn histograms_are_cut_at_their_bounds_and_merged() {
    let columns: Vec<Registry> = (0..2).map(Registry::new).collect();
    let latency = columns[0].histogram(&LATENCY, &[]);
    for nanoseconds in [0, 500_000, 1_000_000, 5_000_000, 2_000_000_000] {
        latency.record(nanoseconds);
    }
    columns[1].histogram(&LATENCY, &[]).record(20_000_000);
    columns[1].histogram(&SIZES, &[]).record(4096);
    let snapshots: Vec<Snapshot> = columns.iter().map(Registry::snapshot).collect();
    let wanted = "\
# HELP basalt_body_bytes Body sizes.
# TYPE basalt_body_bytes histogram
basalt_body_bytes_bucket{le=\"1024\"} 0
basalt_body_bytes_bucket{le=\"1048576\"} 1
basalt_body_bytes_bucket{le=\"+Inf\"} 1
basalt_body_bytes_sum 4096
basalt_body_bytes_count 1
# HELP basalt_latency_seconds Time to reply.
# TYPE basalt_latency_seconds histogram
basalt_latency_seconds_bucket{le=\"0.001\"} 3
basalt_latency_seconds_bucket{le=\"0.01\"} 4
basalt_latency_seconds_bucket{le=\"1\"} 5
basalt_latency_seconds_bucket{le=\"+Inf\"} 6
basalt_latency_seconds_sum 2.0265
basalt_latency_seconds_count 6
";
    assert_eq!(render(&snapshots), wanted);
}

#[test]
fn text_is_escaped() {
    static ODD: Family = Family::counter("basalt_odd_total", "One \\ two\nthree \"quoted\".");
    let registry = Registry::new(0);
    registry.counter(&ODD, &[("path", "a\"b\\c\nd")]).inc();
    let text = render(&[registry.snapshot()]);
    assert!(text.starts_with("# HELP basalt_odd_total One \\\\ two\\nthree \"quoted\".\n"));
    assert!(text.ends_with("basalt_odd_total{path=\"a\\\"b\\\\c\\nd\"} 1\n"));
}

#[test]
fn the_same_name_and_labels_are_the_same_handle() {
    let registry = Registry::new(0);
    registry.counter(&REQUESTS, &[("a", "1"), ("b", "2")]).inc();
    registry.counter(&REQUESTS, &[("b", "2"), ("a", "1")]).inc();
    let snapshot = registry.snapshot();
    assert_eq!(snapshot.samples.len(), 1);
    assert_eq!(snapshot.samples[0].value, Value::Counter(2));
}

#[test]
fn huge_values_are_kept_within_the_range() {
    let registry = Registry::new(0);
    let latency = registry.histogram(&LATENCY, &[]);
    latency.record(u64::MAX);
    latency.record(u64::MAX);
    assert_eq!(latency.count(), 2);
    assert!(latency.value_at_quantile(1.0) >= RECORDED_MAX);
    let text = render(&[registry.snapshot()]);
    assert!(text.contains("basalt_latency_seconds_bucket{le=\"1\"} 0\n"));
    assert!(text.contains("basalt_latency_seconds_sum 7200\n"));
}

#[test]
fn a_snapshot_can_cross_threads() {
    fn assert_send<T: Send>(_: &T) {}
    assert_send(&Registry::new(0).snapshot());
}

fn register(family: Family, label: &'static str) {
    let family: &'static Family = Box::leak(Box::new(family));
    let registry = Registry::new(0);
    let labels = [(label, "x")];
    match family.kind {
        Kind::Counter => drop(registry.counter(family, &labels)),
        Kind::Gauge => drop(registry.gauge(family, &labels)),
        Kind::Histogram(..) => drop(registry.histogram(family, &labels)),
    }
}

#[test]
fn bad_declarations_are_refused() {
    register(Family::counter("ok_total", "h"), "label");
    for (family, label) in [
        (Family::counter("", "h"), "l"),
        (Family::counter("9_total", "h"), "l"),
        (Family::counter("a-b_total", "h"), "l"),
        (Family::counter("requests", "h"), "l"),
        (Family::gauge("level_total", "h"), "l"),
        (Family::gauge("level_count", "h"), "l"),
        (Family::gauge("level", ""), "l"),
        (Family::gauge("level", "h"), "9"),
        (Family::gauge("level", "h"), "__name"),
        (Family::gauge("level", "h"), "column"),
        (Family::seconds("time_ms", "h", &[1.0]), "l"),
        (Family::seconds("time_seconds", "h", &[]), "l"),
        (Family::seconds("time_seconds", "h", &[2.0, 1.0]), "l"),
        (Family::seconds("time_seconds", "h", &[0.0]), "l"),
        (Family::bytes("size_bytes", "h", &[1.0]), "le"),
    ] {
        let outcome = std::panic::catch_unwind(|| register(family, label));
        assert!(outcome.is_err(), "{family:?} {label}");
    }
}
