//! Each key of the caching proxy by each way in which it can be said: it sets what it names, and nothing else.

use super::flags::ServeFlags;
use super::keys::{self, KEYS};
use super::slice::Slice;
use super::{Settings, resolve};
use crate::machine::MemoryCeiling;
use crate::node::access_log::Target;
use clap::{Args, Command, FromArgMatches};
use slicecache::access::Format;
use slicecache::config::{PathSizes, Preset, Upstreams};
use slicecache::state::health::Thresholds;
use slicecache::state::slices::SliceSize;
use std::path::Path;

/// A key, a value that is not its default, and what that makes of what is set.
type Row = (&'static str, &'static str, fn(&mut Slice));

const ROWS: [Row; 30] = [
    ("slice-listen", "127.0.0.1:81", |slice| slice.listen.set_port(81)),
    ("slice-origin", "/a=http://o", |slice| slice.origins = vec!["/a=http://o".to_owned()]),
    ("slice-preset", "low-memory", |slice| slice.preset = Some(Preset::LowMemory)),
    ("slice-size", "1MiB", |slice| slice.size = Some(Some(1 << 20))),
    ("slice-size", "auto", |slice| slice.size = Some(None)),
    ("slice-path-size", "/a/=1MiB,/b=auto", |slice| {
        let sizes = [("/a".to_owned(), Some(1 << 20)), ("/b".to_owned(), None)];
        slice.path_sizes = PathSizes::new(sizes).expect("two");
    }),
    ("slice-path-size", "/=64KiB", |slice| {
        slice.path_sizes = PathSizes::new([("/".to_owned(), Some(64 << 10))]).expect("one");
    }),
    ("slice-min-size", "1MiB", |slice| slice.min_bytes = 1 << 20),
    ("slice-subrequests", "7", |slice| slice.subrequests = Some(Some(7))),
    ("slice-subrequests", "auto", |slice| slice.subrequests = Some(None)),
    ("slice-bandwidth", "42", |slice| slice.bandwidth_mbps = 42),
    ("slice-clients", "50", |slice| slice.clients = 50),
    ("slice-origin-connections", "9", |slice| slice.upstreams.connections_max = 9),
    ("slice-origin-idle", "11", |slice| slice.upstreams.idle_max = 11),
    ("slice-origin-idle-time", "2m", |slice| slice.upstreams.idle_s = 120),
    ("slice-origin-timeout", "7s", |slice| slice.upstreams.timeout_s = 7),
    ("slice-health-path", "/h", |slice| slice.health_path = Some("/h".to_owned())),
    ("slice-health-interval", "8s", |slice| slice.health_interval_s = 8),
    ("slice-health-fails", "12", |slice| slice.health.fails = 12),
    ("slice-health-passes", "13", |slice| slice.health.passes = 13),
    ("slice-retries", "6", |slice| slice.retries = Some(6)),
    ("slice-ttl", "2h", |slice| slice.ttl_s = Some(Some(7200))),
    ("slice-ttl", "none", |slice| slice.ttl_s = Some(None)),
    ("slice-negative-ttl", "404=10s,503=2s", |slice| slice.negative_s = vec![(404, 10), (503, 2)]),
    ("slice-min-uses", "3", |slice| slice.uses_min = 3),
    ("slice-patterns", "mp4$", |slice| slice.patterns = vec!["mp4$".to_owned()]),
    ("slice-patterns", "!m3u8$", |slice| slice.patterns = vec!["!m3u8$".to_owned()]),
    ("slice-access-log", "-", |slice| slice.access_log = Some(Target::Stdout)),
    ("slice-access-log", "/log", |slice| slice.access_log = Some(Target::File("/log".into()))),
    ("slice-access-format", "json", |slice| slice.access_format = Format::Json),
];

fn settings(file: &str, env: &[(String, String)], args: &[&str]) -> Settings {
    let command = ServeFlags::augment_args(Command::new("serve"));
    let matches = command.try_get_matches_from([&["serve"], args].concat()).expect("flags");
    let flags = ServeFlags::from_arg_matches(&matches).expect("flags");
    let ceiling = MemoryCeiling { ram_bytes: 16 << 30, cgroup_bytes: None };
    resolve(Some((Path::new("b.toml"), file)), env, &flags, ceiling).expect("valid").settings
}

#[test]
fn each_key_sets_what_it_names_by_flag_file_and_environment() {
    let defaults = settings("", &[], &[]);
    for (name, value, change) in ROWS {
        let mut expected = defaults.clone();
        change(&mut expected.slice);
        assert_ne!(expected, defaults, "{name} = {value} is the default");
        let env = [(keys::find(name).expect("a key").env(), value.to_owned())];
        assert_eq!(settings("", &[], &[&format!("--{name}"), value]), expected, "--{name} {value}");
        assert_eq!(settings(&format!("{name} = \"{value}\""), &[], &[]), expected, "{name} = {value}");
        assert_eq!(settings("", &env, &[]), expected, "{env:?}");
    }
    for key in KEYS.iter().filter(|key| key.name.starts_with("slice-")) {
        assert!(ROWS.iter().any(|(name, ..)| *name == key.name), "{} is not among them", key.name);
    }
}

#[test]
fn the_defaults_are_those_that_are_promised() {
    let upstreams = Upstreams { connections_max: 256, idle_max: 10, idle_s: 90, timeout_s: 30 };
    let slice = Slice {
        bandwidth_mbps: 1000,
        clients: 32,
        health_interval_s: 5,
        health: Thresholds { fails: 3, passes: 2 },
        upstreams,
        uses_min: 1,
        ..Slice::at("127.0.0.1:8080".parse().expect("an address"))
    };
    assert_eq!(settings("", &[], &[]).slice, slice);
    assert_eq!(Upstreams::default(), upstreams, "what the engine does by itself");
}

/// What is set is what the engine runs with.
#[test]
fn the_engine_is_told() {
    let args = ["--slice-origin", "http://o", "--slice-origin-connections", "9", "--slice-origin-idle", "11"];
    let times = ["--slice-origin-idle-time", "2m", "--slice-origin-timeout", "7s", "--slice-min-uses", "3"];
    let probes = ["--slice-health-path", "/h", "--slice-health-interval", "8s", "--slice-health-fails", "12"];
    let sizes = ["--slice-path-size", "/a=1MiB", "--slice-path-size", "/b=2MiB", "--slice-min-size", "3MiB"];
    let slice = settings("", &[], &[&args[..], &times, &probes, &sizes].concat()).slice;
    let config = slice.config().expect("sound").expect("there is an origin");
    let upstreams = Upstreams { connections_max: 9, idle_max: 11, idle_s: 120, timeout_s: 7 };
    assert_eq!((config.upstreams, config.uses_min), (upstreams, 3));
    let of_path = |path| (config.slicing(path).slice_size, config.slicing(path).whole_below);
    assert_eq!(of_path("/a/x"), (SliceSize::Fixed(1 << 20), 3 << 20));
    assert_eq!([of_path("/b").0, of_path("/c").0], [SliceSize::Fixed(2 << 20), SliceSize::Auto]);
    let probes = config.probes.expect("they are probed");
    assert_eq!((probes.path.as_str(), probes.interval_s, probes.thresholds.fails), ("/h", 8, 12));
    let limits = config.upstreams.limits(100);
    let waits_ns = [limits.connect_wait_ns, limits.head_wait_ns, limits.body_wait_ns];
    assert_eq!((waits_ns, limits.idle_wait_ns), ([7_000_000_000; 3], 120_000_000_000));
    assert_eq!((limits.idle_per_host_max, limits.idle_max), (11, 1100));
}
