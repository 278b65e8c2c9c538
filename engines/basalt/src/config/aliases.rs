//! Keys that the configurations of beam-cloud blobcache and pingora-slice call otherwise, so that their values can be carried over:
//! each stands for a key of ours, in the file only, at the top or below `[server]` as there.
//!
//! An alias beside its key is an error unless both say the same. Called by `layers`.

use super::size::Bytes;

/// One alias.
#[derive(Debug)]
pub struct Alias {
    /// The name there.
    pub name: &'static str,
    /// How its value is read.
    pub read: Read,
}

/// How the value of an alias is read.
#[derive(Debug)]
pub enum Read {
    /// One value, and what it amounts to here.
    One(fn(&str) -> Result<Meaning, String>),
    /// A list, which is that of this key.
    List(&'static str),
}

/// What an alias amounts to.
#[derive(Debug, PartialEq, Eq)]
pub enum Meaning {
    /// This value of this key.
    Key(&'static str, String),
    /// These values of this key.
    List(&'static str, Vec<String>),
    /// What we do anyway; with a warning where it is not quite that.
    Fixed(Option<String>),
}

/// The table.
pub static ALIASES: [Alias; 19] = [
    one("maxCachePct", max_cache_pct),
    one("diskCacheMaxUsagePct", disk_cache_max_usage_pct),
    one("objectTtlS", object_ttl_s),
    one("pageSizeBytes", page_size_bytes),
    one("slice_size", |text| number_or_auto("slice-size", text)),
    one("max_concurrent_subrequests", |text| number_or_auto("slice-subrequests", text)),
    one("max_retries", |text| number("slice-retries", text)),
    one("cache_ttl", cache_ttl),
    one("upstream_address", |text| Ok(Meaning::Key("slice-origin", text.to_owned()))),
    Alias { name: "slice_patterns", read: Read::List("slice-patterns") },
    one("enable_cache", |text| always(text, "nothing would be cached: --slice-patterns says what is")),
    one("l1_cache_size_bytes", |text| number("memory", text)),
    one("enable_l2_cache", |text| always(text, "what is cached is on disk too: --disk-quota bounds it")),
    one("l2_cache_dir", |text| Ok(Meaning::Key("data-dir", text.to_owned()))),
    one("metrics_endpoint.enabled", |text| {
        seen(text, "metrics are served all the same, where --ops-listen says")
    }),
    one("metrics_endpoint.address", |text| Ok(Meaning::Key("ops-listen", text.to_owned()))),
    one("purge.enabled", |text| always(text, "PURGE is always answered: --token-file keeps others from it")),
    one("purge.auth_token", |_| {
        Err("tokens are in a file of their own: a line `slice TOKEN`, see --token-file".into())
    }),
    one("purge.enable_metrics", |text| seen(text, "purges are counted all the same")),
];

const fn one(name: &'static str, read: fn(&str) -> Result<Meaning, String>) -> Alias {
    Alias { name, read: Read::One(read) }
}

/// What is always so: saying otherwise would be believed.
fn always(text: &str, why: &str) -> Result<Meaning, String> {
    match text {
        "true" => Ok(Meaning::Fixed(None)),
        "false" => Err(format!("false cannot be: {why}")),
        _ => Err(format!("`{text}` is neither true nor false")),
    }
}

/// What is always so and does no harm.
fn seen(text: &str, what: &str) -> Result<Meaning, String> {
    match text {
        "true" => Ok(Meaning::Fixed(None)),
        "false" => Ok(Meaning::Fixed(Some(format!("= false is ignored: {what}")))),
        _ => Err(format!("`{text}` is neither true nor false")),
    }
}

/// The alias called `name`, alone or below `server`.
pub fn find(name: &str) -> Option<&'static Alias> {
    let name = name.strip_prefix("server.").unwrap_or(name);
    ALIASES.iter().find(|alias| alias.name == name)
}

/// Whole per cent of RAM.
fn max_cache_pct(text: &str) -> Result<Meaning, String> {
    match text.parse() {
        Ok(percent @ 1..=100u8) => Ok(Meaning::Key("memory", format!("{percent}%"))),
        Ok(0) => {
            Err("0 (disk only) cannot be: buffers for I/O come out of the same memory; 1 is the least".into())
        }
        _ => Err(format!("`{text}` is not a whole number of per cent from 1 to 100")),
    }
}

/// A fraction of the disk; rounded down to whole per cent, so that the quota never is more than was asked for.
fn disk_cache_max_usage_pct(text: &str) -> Result<Meaning, String> {
    let refusal = || format!("`{text}` is not a fraction of the disk from 0.01 to 1, such as 0.95");
    let fraction: f64 = text.parse().map_err(|_| refusal())?;
    // 0.29 is 28.999… per cent as a binary fraction: a millionth more, then down.
    let percent = (fraction * 100.0 + 1e-6).floor();
    if !(1.0..=100.0).contains(&percent) || fraction > 1.0 {
        return Err(refusal());
    }
    Ok(Meaning::Key("disk-quota", format!("{percent}%")))
}

/// The same number.
fn number(key: &'static str, text: &str) -> Result<Meaning, String> {
    match text.parse::<u64>() {
        Ok(number) => Ok(Meaning::Key(key, number.to_string())),
        Err(_) => Err(format!("`{text}` is not a whole number")),
    }
}

/// The same number, or the same word.
fn number_or_auto(key: &'static str, text: &str) -> Result<Meaning, String> {
    match text {
        "auto" => Ok(Meaning::Key(key, text.to_owned())),
        text => number(key, text).map_err(|_| format!("`{text}` is neither auto nor a whole number")),
    }
}

/// Seconds, at least 1.
fn cache_ttl(text: &str) -> Result<Meaning, String> {
    match text.parse::<u64>() {
        Ok(seconds @ 1..) => Ok(Meaning::Key("slice-ttl", format!("{seconds}s"))),
        _ => Err(format!("`{text}` is not a number of seconds from 1 on")),
    }
}

/// Seconds; 0 is never.
fn object_ttl_s(text: &str) -> Result<Meaning, String> {
    match text.parse::<u64>() {
        Ok(0) => Ok(Meaning::Key("object-ttl", "none".into())),
        Ok(seconds) => Ok(Meaning::Key("object-ttl", format!("{seconds}s"))),
        Err(_) => Err(format!("`{text}` is not a whole number of seconds")),
    }
}

/// Ours is 4 MiB (an extent of the tier, and what is fetched at once) and fixed in the format; theirs is 4 MB in the code and
/// 4 MiB in the text, which is near enough to say nothing.
fn page_size_bytes(text: &str) -> Result<Meaning, String> {
    const OURS_BYTES: u64 = runtime::tier::EXTENT_BYTES as u64;
    match text.parse::<u64>() {
        Ok(4_000_000..=OURS_BYTES) => Ok(Meaning::Fixed(None)),
        Ok(1..) => {
            let why = format!(
                "{text} is ignored: pages are {} here, whatever their number there",
                Bytes(OURS_BYTES)
            );
            Ok(Meaning::Fixed(Some(why)))
        }
        _ => Err(format!("`{text}` is not a number of bytes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, text: &str) -> Option<String> {
        let Read::One(read) = find(name).expect("an alias").read else { panic!("{name} is a list") };
        match read(text) {
            Ok(Meaning::Key(key, value)) => Some(format!("{key}={value}")),
            Ok(Meaning::List(..)) => panic!("{name} is one value"),
            Ok(Meaning::Fixed(warning)) => Some(warning.map_or("same".into(), |_| "warned".into())),
            Err(_) => None,
        }
    }

    #[test]
    fn values_are_what_they_mean_here() {
        let cases = [
            ("maxCachePct", "60", Some("memory=60%")),
            ("server.maxCachePct", "100", Some("memory=100%")),
            ("maxCachePct", "0", None),
            ("maxCachePct", "101", None),
            ("maxCachePct", "0.5", None),
            ("diskCacheMaxUsagePct", "0.95", Some("disk-quota=95%")),
            ("diskCacheMaxUsagePct", "0.29", Some("disk-quota=29%")),
            ("diskCacheMaxUsagePct", "0.999", Some("disk-quota=99%")),
            ("diskCacheMaxUsagePct", "1", Some("disk-quota=100%")),
            ("diskCacheMaxUsagePct", "95", None),
            ("diskCacheMaxUsagePct", "0", None),
            ("diskCacheMaxUsagePct", "nan", None),
            ("diskCacheMaxUsagePct", "-0.5", None),
            ("objectTtlS", "300", Some("object-ttl=300s")),
            ("objectTtlS", "0", Some("object-ttl=none")),
            ("objectTtlS", "5m", None),
            ("pageSizeBytes", "4000000", Some("same")),
            ("pageSizeBytes", "4194304", Some("same")),
            ("pageSizeBytes", "3999999", Some("warned")),
            ("pageSizeBytes", "4194305", Some("warned")),
            ("pageSizeBytes", "0", None),
            ("slice_size", "1048576", Some("slice-size=1048576")),
            ("slice_size", "auto", Some("slice-size=auto")),
            ("slice_size", "1MB", None),
            ("max_concurrent_subrequests", "8", Some("slice-subrequests=8")),
            ("max_concurrent_subrequests", "auto", Some("slice-subrequests=auto")),
            ("max_concurrent_subrequests", "many", None),
            ("max_retries", "auto", None),
            ("max_retries", "0", Some("slice-retries=0")),
            ("max_retries", "-1", None),
            ("cache_ttl", "3600", Some("slice-ttl=3600s")),
            ("cache_ttl", "0", None),
            ("upstream_address", "127.0.0.1:8081", Some("slice-origin=127.0.0.1:8081")),
            ("enable_cache", "true", Some("same")),
            ("enable_cache", "false", None),
            ("l1_cache_size_bytes", "104857600", Some("memory=104857600")),
            ("l2_cache_dir", "/var/cache/x", Some("data-dir=/var/cache/x")),
            ("enable_l2_cache", "false", None),
            ("metrics_endpoint.enabled", "false", Some("warned")),
            ("metrics_endpoint.address", "127.0.0.1:9090", Some("ops-listen=127.0.0.1:9090")),
            ("purge.enabled", "true", Some("same")),
            ("purge.enabled", "false", None),
            ("purge.enabled", "yes", None),
            ("purge.auth_token", "secret", None),
            ("purge.enable_metrics", "true", Some("same")),
        ];
        for (name, text, expected) in cases {
            assert_eq!(key(name, text).as_deref(), expected, "{name} = {text}");
        }
    }

    #[test]
    fn aliases_name_keys_of_the_table() {
        for (name, text) in [
            ("maxCachePct", "60"),
            ("diskCacheMaxUsagePct", "0.95"),
            ("objectTtlS", "300"),
            ("slice_size", "65536"),
            ("max_concurrent_subrequests", "4"),
            ("max_retries", "3"),
            ("cache_ttl", "3600"),
            ("upstream_address", "o:80"),
            ("l1_cache_size_bytes", "1"),
            ("l2_cache_dir", "d"),
            ("metrics_endpoint.address", "127.0.0.1:9090"),
        ] {
            let Read::One(read) = find(name).expect("an alias").read else { panic!("{name} is a list") };
            assert!(
                matches!(read(text), Ok(Meaning::Key(key, _)) if super::super::keys::find(key).is_some())
            );
        }
        for alias in &ALIASES {
            assert!(!matches!(alias.read, Read::List(key) if super::super::keys::find(key).is_none()));
        }
        assert!(find("memory").is_none() && find("client.maxCachePct").is_none());
    }
}
