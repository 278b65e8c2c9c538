//! The Prometheus text format, read as strictly as its description allows (version 0.0.4).
//!
//! Each family has HELP and TYPE once, before its samples, which stand together; no series comes
//! twice; histograms are cumulative, end at `+Inf` and agree with their count.

use std::collections::{BTreeMap, BTreeSet};

/// The labels of a sample.
pub type Labels = BTreeMap<String, String>;

/// One line with a value.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The name as written, with `_bucket` and such.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// Its value.
    pub value: f64,
}

/// One metric with all its series.
#[derive(Debug, Default)]
pub struct Family {
    /// counter, gauge, histogram, summary or untyped.
    pub kind: String,
    /// Its samples in their order.
    pub samples: Vec<Sample>,
}

/// A scrape.
#[derive(Debug, Default)]
pub struct Exposition(pub BTreeMap<String, Family>);

impl Exposition {
    /// Reads a scrape; the error says which line is wrong and why.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.ends_with('\n') {
            return Err("the last line has no end".into());
        }
        let mut reader = Reader::default();
        for (at, line) in text.lines().enumerate() {
            reader.line(line).map_err(|why| format!("line {}: {why}: {line}", at + 1))?;
        }
        for (name, family) in &reader.families {
            family.check(name).map_err(|why| format!("{name}: {why}"))?;
        }
        Ok(Self(reader.families))
    }

    /// The sum over all series with this name whose labels `wanted` accepts.
    pub fn sum(&self, name: &str, wanted: impl Fn(&Labels) -> bool) -> f64 {
        let samples = self.0.values().flat_map(|family| &family.samples);
        let ours = samples.filter(|s| s.name == name && wanted(&s.labels));
        ours.map(|s| s.value).sum()
    }
}

#[derive(Default)]
struct Reader {
    families: BTreeMap<String, Family>,
    helped: BTreeSet<String>,
    /// The family whose lines we are in.
    current: String,
    seen: BTreeSet<String>,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let name = rest.split(' ').next().unwrap_or_default();
            check_name(name, true)?;
            return once(self.helped.insert(name.to_owned()), "HELP twice");
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            return self.kind(rest);
        }
        if line.starts_with('#') || line.is_empty() {
            return Err("neither a sample nor HELP or TYPE".into());
        }
        let sample = parse_sample(line)?;
        let key = format!("{}{:?}", sample.name, sample.labels);
        once(self.seen.insert(key), "the same series twice")?;
        let family = self.families.get_mut(&self.current).ok_or("a sample without TYPE")?;
        let suffix = sample.name.strip_prefix(&self.current);
        let suffixes: &[&str] = match family.kind.as_str() {
            "histogram" => &["_bucket", "_sum", "_count"],
            "summary" => &["", "_sum", "_count"],
            _ => &[""],
        };
        if !suffix.is_some_and(|suffix| suffixes.contains(&suffix)) {
            return Err(format!("not of the family {} it stands in", self.current));
        }
        family.samples.push(sample);
        Ok(())
    }

    fn kind(&mut self, rest: &str) -> Result<(), String> {
        let (name, kind) = rest.split_once(' ').ok_or("TYPE without a type")?;
        check_name(name, true)?;
        if !["counter", "gauge", "histogram", "summary", "untyped"].contains(&kind) {
            return Err("an unknown type".into());
        }
        once(self.helped.contains(name), "TYPE without HELP before it")?;
        name.clone_into(&mut self.current);
        let family = Family { kind: kind.to_owned(), samples: Vec::new() };
        once(self.families.insert(name.to_owned(), family).is_none(), "TYPE twice")
    }
}

impl Family {
    fn check(&self, name: &str) -> Result<(), String> {
        let is_counter = self.kind == "counter";
        once(!is_counter || name.ends_with("_total"), "a counter not named _total")?;
        if is_counter {
            let valid = self.samples.iter().all(|s| s.value >= 0.0);
            return once(valid, "a counter that is negative or NaN");
        }
        if self.kind == "histogram" {
            return self.check_histogram(name);
        }
        Ok(())
    }

    fn check_histogram(&self, name: &str) -> Result<(), String> {
        let mut series: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
        let mut counts = BTreeMap::new();
        for sample in &self.samples {
            let mut labels = sample.labels.clone();
            let le = labels.remove("le");
            let key = format!("{labels:?}");
            match &sample.name[name.len()..] {
                "_bucket" => {
                    let bound = le.as_deref().and_then(|le| parse_number(le).ok());
                    let bound = bound.ok_or("a bucket without le")?;
                    series.entry(key).or_default().push((bound, sample.value));
                }
                "_count" => drop(counts.insert(key, sample.value)),
                _ => {}
            }
        }
        for (key, buckets) in &series {
            let rising = buckets.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 <= w[1].1);
            once(rising, "buckets that do not rise")?;
            let last = buckets.last().copied().unwrap_or_default();
            let whole = last.0 == f64::INFINITY && counts.get(key) == Some(&last.1);
            once(whole, "no +Inf bucket, or it is not the count")?;
        }
        once(series.len() == counts.len(), "a histogram without buckets or count")
    }
}

fn once(holds: bool, why: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why.to_owned()) }
}

fn check_name(name: &str, colon: bool) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colon && c == ':');
    let begins = name.chars().next().is_some_and(|c| !c.is_ascii_digit());
    once(begins && name.chars().all(legal), "an illegal name")
}

fn parse_number(text: &str) -> Result<f64, String> {
    match text {
        "+Inf" => Ok(f64::INFINITY),
        "-Inf" => Ok(f64::NEG_INFINITY),
        "NaN" => Ok(f64::NAN),
        _ if text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b)) => {
            text.parse().map_err(|_| format!("{text} is no number"))
        }
        _ => Err(format!("{text} is no number")),
    }
}

fn parse_sample(line: &str) -> Result<Sample, String> {
    let at = line.find(['{', ' ']).ok_or("no value")?;
    let name = &line[..at];
    check_name(name, true)?;
    let (labels, rest) = match line[at..].strip_prefix('{') {
        Some(rest) => parse_labels(rest)?,
        None => (Labels::new(), &line[at..]),
    };
    let value = rest.strip_prefix(' ').ok_or("no space before the value")?;
    let (value, time) = value.split_once(' ').unwrap_or((value, "0"));
    time.parse::<i64>().map_err(|_| "a timestamp that is no number")?;
    Ok(Sample { name: name.to_owned(), labels, value: parse_number(value)? })
}

fn parse_labels(mut rest: &str) -> Result<(Labels, &str), String> {
    let mut labels = Labels::new();
    loop {
        if let Some(rest) = rest.strip_prefix('}') {
            return Ok((labels, rest));
        }
        let (name, quoted) = rest.split_once("=\"").ok_or("a label without value")?;
        check_name(name, false)?;
        let mut value = String::new();
        let mut chars = quoted.char_indices();
        let end = loop {
            match chars.next().ok_or("a label without end")? {
                (at, '"') => break at,
                (_, '\\') => match chars.next() {
                    Some((_, c @ ('\\' | '"'))) => value.push(c),
                    Some((_, 'n')) => value.push('\n'),
                    _ => return Err("an unknown escape".into()),
                },
                (_, c) => value.push(c),
            }
        };
        once(labels.insert(name.to_owned(), value).is_none(), "a label twice")?;
        rest = &quoted[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# HELP a_total Things.\n# TYPE a_total counter\na_total{x=\"1\\n\"} 3\n\
        a_total{x=\"2\"} 4 1700000000\n# HELP h H\n# TYPE h histogram\nh_bucket{le=\"0.5\"} 1\n\
        h_bucket{le=\"+Inf\"} 2\nh_sum 3.5\nh_count 2\n";

    #[test]
    fn a_good_scrape_is_read() {
        let scrape = Exposition::parse(GOOD).unwrap();
        assert_eq!(scrape.sum("a_total", |_| true), 7.0);
        assert_eq!(scrape.sum("a_total", |l| l["x"] == "2"), 4.0);
    }

    #[test]
    fn bad_scrapes_are_refused() {
        for (good, bad) in [
            ("a_total{x=\"2\"} 4 1700000000", "a_total{x=\"1\\n\"} 4"),
            ("a_total{x=\"2\"} 4", "b_total{x=\"2\"} 4"),
            ("a_total{x=\"2\"} 4", "a_total{x=\"2\"}  4"),
            ("# HELP h H\n", ""),
            ("TYPE h histogram", "TYPE h histo"),
            ("{le=\"+Inf\"} 2", "{le=\"+Inf\"} 3"),
            ("{le=\"+Inf\"} 2", "{le=\"1\"} 2"),
            ("{le=\"0.5\"} 1", "{le=\"0.5\"} 5"),
            ("3.5", "3,5"),
            ("a_total", "a"),
            ("h_count 2\n", "h_count 2"),
        ] {
            let text = GOOD.replace(good, bad);
            assert!(Exposition::parse(&text).is_err(), "{good} -> {bad}");
        }
    }
}
