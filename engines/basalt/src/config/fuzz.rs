//! The configuration's parsers under mutation: whatever a file or variable says is taken or refused, and what is taken can be
//! said again. See `mutation`.

use super::layers::{Layers, stack};
use super::size::{Amount, parse_size_bytes};
use super::{Settings, file};
use crate::config::flags::ServeFlags;
use crate::config::keys::{Key, Kind};
use blobcache::serve::parse_ttl_ms;
use mutation::fuzz;
use std::path::Path;

const FILES: [&str; 4] = [
    "cpuset = \"0-3,8\"\nmemory = \"25%\"\ndisk-quota = 1073741824\ninsecure = true\nprefetch = \"off\"\n",
    "data-dir = [\"/a=2\", \"/b\"]\nblob-listen = \"127.0.0.1:9000\"\nobject-ttl = \"7d\"\n",
    "engines = \"blob\"\nlog-level = \"info,runtime=debug\"\nlog-format = 'json'\ndisk-free-min = 0x2000000\n",
    "[server]\nmaxCachePct = 60\ndiskCacheMaxUsagePct = 0.95\nobjectTtlS = 300\npageSizeBytes = 4194304\n",
];

fn texts(golden: &[&str]) -> Vec<Vec<u8>> {
    golden.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// A key and its values as a file has them.
fn line(key: &Key, values: &[String]) -> String {
    let value = match key.kind {
        Kind::Switch => values[0].clone(),
        Kind::Names | Kind::Paths => toml::Value::from(values.to_vec()).to_string(),
        Kind::Text | Kind::Size => toml::Value::from(values[0].as_str()).to_string(),
    };
    format!("{} = {value}\n", key.name)
}

fn read(text: &str) -> Option<(Settings, Layers)> {
    let (mut faults, mut warnings) = (Vec::new(), Vec::new());
    let flags = ServeFlags { config: None, values: Vec::new() };
    let file = (Path::new("b.toml"), text);
    let understood = stack(Some(file), &[], &flags, &mut faults, &mut warnings);
    faults.iter().for_each(|fault| assert!(!fault.to_string().is_empty()));
    faults.is_empty().then_some(understood)
}

#[test]
fn files() {
    let kinds = [Kind::Text, Kind::Size, Kind::Switch, Kind::Names, Kind::Paths];
    let decode = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        for assignment in file::parse(&text).unwrap_or_default() {
            assert!((1..=text.lines().count()).contains(&assignment.line), "{assignment:?} of {text}");
            kinds.iter().for_each(|&kind| drop(assignment.values(kind)));
            drop(assignment.scalar());
        }
        let Some((settings, layers)) = read(&text) else { return false };
        // What won in each key says the same once more.
        let lines: Vec<String> = layers.iter().map(|(key, layer)| line(key, &layer.values)).collect();
        let again = lines.concat();
        let (same, _) = read(&again).unwrap_or_else(|| panic!("refused: {again}"));
        assert_eq!(same, settings, "{again}");
        true
    };
    fuzz("configuration file", &texts(&FILES), |_| {}, decode);
}

#[test]
fn sizes() {
    let golden = texts(&["4096", "7B", "1.5GiB", "4 gib", "2Ti", "25%", "100 %", "0.000000001T"]);
    let decode = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        let Ok(amount) = Amount::parse(&text) else { return false };
        assert!(!amount.to_string().is_empty());
        match amount {
            Amount::Bytes(bytes) => assert_eq!(parse_size_bytes(&bytes.to_string()), Ok(bytes)),
            Amount::Percent(percent) => assert_eq!(Amount::parse(&format!("{percent}%")), Ok(amount)),
        }
        assert!(amount.of(u64::MAX) > 0);
        true
    };
    fuzz("size", &golden, |_| {}, decode);
}

#[test]
fn times_to_live() {
    let decode = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        let Some(ttl_ms) = parse_ttl_ms(&text) else { return false };
        assert_eq!(parse_ttl_ms(&format!("{}s", ttl_ms / 1000)), Some(ttl_ms));
        true
    };
    fuzz("time to live", &texts(&["90", "90s", "15m", "12h", "7d"]), |_| {}, decode);
}
