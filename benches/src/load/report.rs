//! One line of JSON for one run. Keys carry their unit; a figure that was not measured is `null`.

use hdrhistogram::Histogram;

use super::engine::Outcome;

const MIB: f64 = 1_048_576.0;

/// The line.
#[must_use]
pub fn json(outcome: &Outcome) -> String {
    let mib = outcome.bytes as f64 / MIB;
    let per_mib = |seconds: Option<f64>| number(seconds.map(|s| s * 1e6 / mib));
    let softirq = outcome.core.map(|c| c.softirq);
    let process = outcome.server_seconds;
    let core = match outcome.core {
        None => "null".to_owned(),
        Some(c) => format!(
            r#"{{"user_s":{:.3},"system_s":{:.3},"irq_s":{:.3},"softirq_s":{:.3},"steal_s":{:.3},"idle_s":{:.3}}}"#,
            c.user, c.system, c.irq, c.softirq, c.steal, c.idle
        ),
    };
    let fields = [
        ("requests", outcome.requests.to_string()),
        ("errors", outcome.errors.to_string()),
        ("first_error", text(outcome.first_failure.as_deref())),
        ("bytes", outcome.bytes.to_string()),
        ("seconds", number(Some(outcome.seconds))),
        ("requests_per_s", number(Some(outcome.requests as f64 / outcome.seconds))),
        ("mb_per_s", number(Some(outcome.bytes as f64 / outcome.seconds / 1e6))),
        ("latency_us", spread(&outcome.latency)),
        ("ttfb_us", spread(&outcome.first_byte)),
        ("generator_cpu_s", number(Some(outcome.generator_seconds))),
        ("server_cpu_s", number(process)),
        ("server_core", core),
        ("requests_per_cpu_s", number(process.map(|s| outcome.requests as f64 / s))),
        ("cpu_us_per_mib", per_mib(process.zip(softirq).map(|(p, s)| p + s))),
        ("process_cpu_us_per_mib", per_mib(process)),
        ("core_us_per_mib", per_mib(outcome.core.map(|c| c.busy()))),
    ];
    let body: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", body.join(","))
}

fn spread(histogram: &Histogram<u64>) -> String {
    let at = |q: f64| histogram.value_at_quantile(q) as f64 / 1e3;
    let max = histogram.max() as f64 / 1e3;
    format!(
        r#"{{"p50":{:.1},"p90":{:.1},"p95":{:.1},"p99":{:.1},"max":{max:.1}}}"#,
        at(0.5),
        at(0.9),
        at(0.95),
        at(0.99)
    )
}

fn number(value: Option<f64>) -> String {
    match value {
        Some(v) if v.is_finite() => format!("{v:.4}"),
        _ => "null".to_owned(),
    }
}

fn text(value: Option<&str>) -> String {
    value.map_or_else(|| "null".to_owned(), |v| format!("\"{}\"", v.replace(['"', '\\'], "'")))
}
