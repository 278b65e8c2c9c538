//! The page: a table of figures and latency against the share of operations, both axes logarithmic, drawn as SVG.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 80.0;
const BOTTOM: f64 = 40.0;
/// The last share shown: one operation in a million.
const TAIL_DECADES: f64 = 6.0;
const STEPS_PER_DECADE: usize = 20;

/// Latency in µs by the share of operations that took longer: 1, 0.9 … 0.000001.
pub fn curve(latency: &Histogram<u64>) -> Vec<(f64, f64)> {
    if latency.is_empty() {
        return Vec::new();
    }
    let steps = TAIL_DECADES as usize * STEPS_PER_DECADE;
    let shares = (0..=steps).map(|step| 10f64.powf(-(step as f64) / STEPS_PER_DECADE as f64));
    shares
        .filter(|share| share * latency.len() as f64 >= 1.0)
        .map(|share| (share, latency.value_at_quantile(1.0 - share) as f64 / 1e3))
        .collect()
}

/// The whole page.
pub fn render(title: &str, sections: &[String]) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n<style>\
         body{{font:14px/1.5 system-ui,sans-serif;margin:2em;max-width:760px}}\
         td{{padding:0 1.5em 0 0}}td+td{{text-align:right;font-variant-numeric:tabular-nums}}\
         text{{font:11px system-ui,sans-serif;fill:#555}}line{{stroke:#ddd}}\
         polyline{{fill:none;stroke:#06c;stroke-width:2}}</style></head><body>\n{}</body></html>\n",
        sections.concat()
    )
}

/// The part of the page that one load has.
pub fn section(title: &str, rows: &[(String, String)], curve: &[(f64, f64)]) -> String {
    let mut out = format!("<h1>{}</h1>\n<table>\n", escape(title));
    for (name, value) in rows {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "<tr><td>{}</td><td>{}</td></tr>", escape(name), escape(value));
    }
    out.push_str("</table>\n<h2>Latency by share of operations</h2>\n");
    out.push_str(&draw(curve));
    out
}

fn draw(curve: &[(f64, f64)]) -> String {
    let largest = curve.iter().map(|point| point.1).fold(1.0, f64::max);
    let smallest = curve.iter().map(|point| point.1).fold(largest, f64::min);
    let (low, high) = (smallest.max(0.001).log10().floor(), largest.log10().ceil().max(1.0));
    let decades = (high - low).max(1.0);
    let x = |share: f64| LEFT + -share.log10() / TAIL_DECADES * (WIDTH - LEFT - 10.0);
    let y = |us: f64| {
        let height = HEIGHT - BOTTOM - 10.0;
        HEIGHT - BOTTOM - (us.max(0.001).log10() - low) / decades * height
    };
    let mut out = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\">\n");
    for decade in 0..=TAIL_DECADES as i32 {
        let at = x(10f64.powi(-decade));
        let label = match decade {
            0 => "0 %".to_owned(),
            n => format!("{:.*} %", (n - 2).max(0) as usize, 100.0 - 100.0 * 10f64.powi(-n)),
        };
        let base = HEIGHT - BOTTOM;
        let _ = writeln!(
            out,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"10\" y2=\"{base}\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
            base + 18.0
        );
    }
    for step in 0..=decades as i32 {
        let us = 10f64.powf(low + f64::from(step));
        let at = y(us);
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{us} µs</text>",
            WIDTH - 10.0,
            LEFT - 6.0,
            at + 4.0
        );
    }
    let points: Vec<String> =
        curve.iter().map(|&(share, us)| format!("{:.1},{:.1}", x(share), y(us))).collect();
    let _ = writeln!(out, "<polyline points=\"{}\"/>\n</svg>", points.join(" "));
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_rises_and_ends_where_operations_end() {
        let mut latency = Histogram::<u64>::new_with_max(1_000_000_000, 3).expect("a histogram");
        (1..=1000u64).for_each(|n| latency.saturating_record(n * 1000));
        let curve = curve(&latency);
        assert!(curve.is_sorted_by(|a, b| a.1 <= b.1 && a.0 > b.0));
        let last = curve.last().expect("a point");
        assert!(last.0 >= 0.000_999 && last.1 >= 990.0, "{last:?}");
    }

    #[test]
    fn points_stay_inside_the_drawing() {
        let svg = draw(&[(1.0, 0.2), (0.5, 3.0), (0.000_001, 45_000.0)]);
        let points = svg.split("points=\"").nth(1).and_then(|rest| rest.split('"').next());
        let points = points.expect("a line").split([' ', ',']);
        let numbers: Vec<f64> = points.map(|n| n.parse().expect("a number")).collect();
        assert!(numbers.iter().all(|&n| (0.0..=WIDTH).contains(&n)), "{numbers:?}");
    }
}
