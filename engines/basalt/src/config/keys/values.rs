//! How the text of a value is read, for keys of several headings; what is wrong with it is said in words. Called by the tables.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;

use crate::config::size::parse_size_bytes;
use crate::config::{DataDir, Verify};
use net::tls::PAIRS_MAX;
use runtime::tier::DISKS_MAX;

pub(super) fn one(values: &[String]) -> Result<&str, String> {
    match values {
        [value] => Ok(value),
        _ => Err("one value is expected".to_owned()),
    }
}

pub(super) fn parse_data_dirs(values: &[String]) -> Result<Vec<DataDir>, String> {
    let dirs: Vec<DataDir> = values.iter().map(|v| parse_data_dir(v)).collect::<Result<_, _>>()?;
    if dirs.is_empty() || dirs.len() > DISKS_MAX {
        return Err(format!("{} data directories: from 1 to {DISKS_MAX} are possible", dirs.len()));
    }
    for (at, dir) in dirs.iter().enumerate() {
        if dirs[..at].iter().any(|before| before.path == dir.path) {
            return Err(format!("{} is named twice", dir.path.display()));
        }
    }
    Ok(dirs)
}

/// `DIR` or `DIR=WEIGHT`. A `=` that no whole number follows is part of the path.
fn parse_data_dir(value: &str) -> Result<DataDir, String> {
    let (dir, weight) = match value.rsplit_once('=') {
        Some((dir, weight)) if weight.bytes().all(|b| b.is_ascii_digit()) => (dir, weight),
        _ => (value, "1"),
    };
    if dir.is_empty() {
        return Err(format!("`{value}` names no directory"));
    }
    match weight.parse::<u32>() {
        Ok(weight @ 1..) => Ok(DataDir { path: PathBuf::from(dir), weight }),
        _ => Err(format!("the weight in `{value}` is not a number from 1 on")),
    }
}

pub(super) fn parse_ttl(text: &str) -> Result<Option<u64>, String> {
    match text {
        "none" => Ok(None),
        text => match blobcache::serve::parse_ttl_ms(text) {
            Some(ttl_ms) => Ok(Some(ttl_ms)),
            None => Err(format!("`{text}` is neither none nor a number of s, m, h or d, such as 90s or 7d")),
        },
    }
}

pub(super) fn parse_time_ms(text: &str) -> Result<u64, String> {
    blobcache::serve::parse_ttl_ms(text)
        .ok_or_else(|| format!("`{text}` is not a number of s, m, h or d, such as 90s or 7d"))
}

pub(super) fn parse_rate(text: &str) -> Result<Option<NonZeroU64>, String> {
    if text == "0" {
        return Ok(None);
    }
    parse_size_bytes(text).map(NonZeroU64::new)
}

pub(super) fn files(values: &[String]) -> Result<Vec<PathBuf>, String> {
    let files: Vec<PathBuf> = values.iter().filter_map(|text| file(text)).collect();
    if files.len() > PAIRS_MAX {
        return Err(format!("{} files: at most {PAIRS_MAX} are possible", files.len()));
    }
    Ok(files)
}

pub(super) fn file(text: &str) -> Option<PathBuf> {
    (text != "none").then(|| PathBuf::from(text))
}

pub(super) fn directory(text: &str) -> Option<PathBuf> {
    (text != "none").then(|| PathBuf::from(text))
}

pub(super) fn parse_verify(values: &[String]) -> Result<Verify, String> {
    let mut verify = Verify::default();
    for value in values {
        match value.as_str() {
            "read" => {}
            "start" => verify.at_start = true,
            "strict" => verify.is_strict = true,
            _ => return Err(format!("`{value}` is none of read, start, strict")),
        }
    }
    Ok(verify)
}

pub(super) fn parse_addr(text: &str) -> Result<SocketAddr, String> {
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    numeric
        .parse()
        .map_err(|_| format!("`{text}` is not an address and port such as 127.0.0.1:9000 or [::1]:9000"))
}

pub(super) fn parse_switch(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("`{text}` is neither true nor false")),
    }
}

pub(super) fn parse_on_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("`{text}` is neither on nor off")),
    }
}

/// `LEVEL` or `PART=LEVEL`, with commas between. Checked here, because the subscriber would read a
/// mistyped level as the name of a part.
pub(super) fn parse_log_level(text: &str) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    for directive in text.split(',') {
        let (part, level) = directive.split_once('=').unwrap_or(("all", directive));
        if !LEVELS.contains(&level) {
            return Err(format!("`{level}` is none of {}", LEVELS.join(", ")));
        }
        let is_path = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        if part.is_empty() || !part.chars().all(is_path) {
            return Err(format!("`{part}` is not the name of a part such as runtime or blobcache"));
        }
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data_dirs(values: &[&str]) -> Result<Vec<(String, u32)>, String> {
        let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        let dirs = parse_data_dirs(&values)?;
        Ok(dirs.into_iter().map(|d| (d.path.display().to_string(), d.weight)).collect())
    }

    #[test]
    fn a_data_directory_may_carry_a_weight() {
        let dir = |path: &str, weight| (path.to_owned(), weight);
        assert_eq!(data_dirs(&["/a"]), Ok(vec![dir("/a", 1)]));
        assert_eq!(data_dirs(&["/a=2", "/b"]), Ok(vec![dir("/a", 2), dir("/b", 1)]));
        assert_eq!(data_dirs(&["/a=b"]), Ok(vec![dir("/a=b", 1)]));
        for refused in [&["/a=0"][..], &["=1"], &[""], &["/a="], &["/a", "/a=2"], &[]] {
            assert!(data_dirs(refused).is_err(), "{refused:?}");
        }
        let many: Vec<String> = (0..=DISKS_MAX).map(|n| format!("/{n}")).collect();
        assert!(parse_data_dirs(&many).is_err(), "more than {DISKS_MAX}");
    }

    #[test]
    fn what_is_verified_adds_up() {
        let verify = |words: &[&str]| parse_verify(&words.iter().map(|&w| w.to_owned()).collect::<Vec<_>>());
        assert_eq!(verify(&["read"]), Ok(Verify::default()));
        assert_eq!(verify(&["start"]), Ok(Verify { at_start: true, is_strict: false }));
        assert_eq!(verify(&["strict", "start"]), Ok(Verify { at_start: true, is_strict: true }));
        assert!(verify(&["on"]).is_err() && verify(&[""]).is_err());
    }

    #[test]
    fn a_rate_of_nothing_is_no_rate() {
        assert_eq!(parse_rate("0"), Ok(None));
        assert_eq!(parse_rate("1MiB"), Ok(NonZeroU64::new(1 << 20)));
        assert!(parse_rate("50%").is_err() && parse_rate("off").is_err());
        assert_eq!(parse_time_ms("1h"), Ok(3_600_000));
        assert!(parse_time_ms("none").is_err() && parse_time_ms("").is_err());
    }

    #[test]
    fn addresses_switches_and_levels_are_checked() {
        assert!(parse_addr("localhost:9000").is_ok_and(|addr| addr.ip().is_loopback()));
        assert!(parse_addr("[::1]:9000").is_ok() && parse_addr(":9000").is_err());
        assert_eq!([parse_switch("1"), parse_switch("false")], [Ok(true), Ok(false)]);
        assert!(parse_switch("maybe").is_err());
        assert_eq!([parse_on_off("on"), parse_on_off("off")], [Ok(true), Ok(false)]);
        assert!(parse_on_off("true").is_err());
        assert_eq!([parse_ttl("none"), parse_ttl("2m")], [Ok(None), Ok(Some(120_000))]);
        assert!(parse_ttl("").is_err() && parse_ttl("0s").is_err() && parse_ttl("1y").is_err());
        assert!(parse_log_level("info,runtime::ring=debug").is_ok());
        assert!(parse_log_level("inof").is_err() && parse_log_level("run time=info").is_err());
    }
}
