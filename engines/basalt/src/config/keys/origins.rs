//! The keys under the heading `Origins` of the help: where the caching proxy and `fetch` get things, and for how long they are
//! kept. Called by `keys`.

use super::values::{file, one, parse_time_ms};
use super::{Key, Kind};
use crate::config::slice;

const HEADING: &str = "Origins";

/// In the order in which help and `config show` list them.
pub(super) const KEYS: &[Key] = &[
    Key {
        name: "slice-origin",
        value_name: "[/PREFIX=]URL",
        kind: Kind::Paths,
        default: "none",
        help: "Cache in slices what this server has; repeatable",
        heading: HEADING,
        set: |settings, values| {
            settings.slice.origins = slice::parse_origins(values)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-preset",
        value_name: "NAME",
        kind: Kind::Text,
        default: "none",
        help: "What slice-size, slice-subrequests, slice-retries and slice-ttl are if not said: high-throughput, low-memory or balanced",
        heading: HEADING,
        set: |settings, values| {
            settings.slice.preset = slice::parse_preset(one(values)?)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-size",
        value_name: "SIZE|auto",
        kind: Kind::Size,
        default: "preset",
        help: "The size of slices; auto follows from the object's, as does the preset none",
        heading: HEADING,
        set: |settings, values| {
            settings.slice.size = slice::parse_size(one(values)?)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-path-size",
        value_name: "/PREFIX=SIZE|auto,...",
        kind: Kind::Names,
        default: "none",
        help: "The size of slices below a prefix of the path, where it is another one, such as /films/=4MiB; repeatable",
        heading: HEADING,
        set: |settings, values| {
            settings.slice.path_sizes = slice::parse_path_sizes(values)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-min-size",
        value_name: "SIZE|none",
        kind: Kind::Size,
        default: "none",
        help: "Keep objects below this size, 10MiB at most, as one slice",
        heading: HEADING,
        set: |settings, values| {
            settings.slice.min_bytes = slice::parse_min_size(one(values)?)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-subrequests",
        value_name: "COUNT|auto",
        kind: Kind::Text,
        default: "preset",
        help: "The most slices of one object that are fetched at a time, up to 8; 4 without a preset",
        heading: HEADING,
        set: |settings, values| {
            settings.slice.subrequests = slice::parse_subrequests(one(values)?)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-bandwidth",
        value_name: "MBPS",
        kind: Kind::Text,
        default: "1000",
        help: "Of the way to the origin, in Mb/s, for --slice-subrequests auto",
        heading: HEADING,
        set: |settings, values| {
            settings.slice.bandwidth_mbps = slice::parse_count(one(values)?)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-clients",
        value_name: "COUNT",
        kind: Kind::Text,
        default: "32",
        help: "Clients of each core that are expected at a time, for --slice-subrequests auto",
        heading: HEADING,
        set: |settings, values| {
            settings.slice.clients = slice::parse_count(one(values)?)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-origin-connections",
        value_name: "COUNT",
        kind: Kind::Text,
        default: "256",
        help: "The most requests to one origin that a core has under way; others wait, small objects before large ones",
        heading: HEADING,
        set: |settings, values| {
            settings.slice.upstreams.connections_max = slice::parse_count(one(values)?)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-origin-idle",
        value_name: "COUNT",
        kind: Kind::Text,
        default: "10",
        help: "The most connections to one origin that each core keeps while they are idle",
        heading: HEADING,
        set: |settings, values| {
            settings.slice.upstreams.idle_max = slice::parse_count(one(values)?)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-origin-idle-time",
        value_name: "TIME",
        kind: Kind::Text,
        default: "90s",
        help: "How long an idle connection to an origin is kept",
        heading: HEADING,
        set: |settings, values| {
            settings.slice.upstreams.idle_s = parse_time_ms(one(values)?)? / 1000;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-origin-timeout",
        value_name: "TIME",
        kind: Kind::Text,
        default: "30s",
        help: "How long an origin may take to connect, to answer, and for each 64 KiB of a body",
        heading: HEADING,
        set: |settings, values| {
            settings.slice.upstreams.timeout_s = parse_time_ms(one(values)?)? / 1000;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-health-path",
        value_name: "PATH",
        kind: Kind::Text,
        default: "none",
        help: "Probe every origin by HEAD of this path; one that is down is not asked, and what is stale is served as allowed",
        heading: HEADING,
        set: |settings, values| {
            settings.slice.health_path = slice::parse_health_path(one(values)?)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-health-interval",
        value_name: "TIME",
        kind: Kind::Text,
        default: "5s",
        help: "How often; an answer that takes longer is a failure",
        heading: HEADING,
        set: |settings, values| {
            settings.slice.health_interval_s = parse_time_ms(one(values)?)? / 1000;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-health-fails",
        value_name: "COUNT",
        kind: Kind::Text,
        default: "3",
        help: "Failures in a row (no answer, or a status that is none of 2xx and 3xx) after which an origin is down",
        heading: HEADING,
        set: |settings, values| {
            settings.slice.health.fails = slice::parse_count(one(values)?)?.try_into().unwrap_or(u32::MAX);
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-health-passes",
        value_name: "COUNT",
        kind: Kind::Text,
        default: "2",
        help: "Successes in a row after which it is up again",
        heading: HEADING,
        set: |settings, values| {
            settings.slice.health.passes = slice::parse_count(one(values)?)?.try_into().unwrap_or(u32::MAX);
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-retries",
        value_name: "COUNT",
        kind: Kind::Text,
        default: "preset",
        help: "How often a failed fetch is tried again, up to 10; 3 without a preset",
        heading: HEADING,
        set: |settings, values| {
            settings.slice.retries = slice::parse_number(one(values)?)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-ttl",
        value_name: "TIME|none",
        kind: Kind::Text,
        default: "preset",
        help: "How long an answer is fresh whose origin does not say, such as 90s; none: a tenth of its age, 1d at most; 1h without a preset",
        heading: HEADING,
        set: |settings, values| {
            let text = one(values)?;
            settings.slice.ttl_s = match text {
                slice::OF_PRESET => None,
                "none" => Some(None),
                text => Some(Some(parse_time_ms(text)? / 1000)),
            };
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-negative-ttl",
        value_name: "STATUS=TIME,...",
        kind: Kind::Names,
        default: "none",
        help: "How long errors are kept whose origin does not say, such as 404=10s,503=2s; of 404, 410, 451, 500, 502, 503, 504",
        heading: HEADING,
        set: |settings, values| {
            let seconds = |text: &str| parse_time_ms(text).map(|ms| ms / 1000);
            settings.slice.negative_s = slice::parse_negative(values, seconds)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-min-uses",
        value_name: "COUNT",
        kind: Kind::Text,
        default: "1",
        help: "Store what is fetched of an object from this request for it on; where memory is short (below 256 MiB a core) all is",
        heading: HEADING,
        set: |settings, values| {
            settings.slice.uses_min = slice::parse_count(one(values)?)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-patterns",
        value_name: "REGEX",
        kind: Kind::Paths,
        default: "all",
        help: "Slice only paths in which one of these regular expressions is found, and none of those with a ! before them",
        heading: HEADING,
        set: |settings, values| {
            settings.slice.patterns = slice::parse_patterns(values)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-access-log",
        value_name: "FILE|-",
        kind: Kind::Text,
        default: "none",
        help: "Write a line for each request to the caching proxy; - is standard output; HUP or USR1 opens the file anew",
        heading: HEADING,
        set: |settings, values| {
            settings.slice.access_log = slice::parse_access_log(one(values)?)?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "slice-access-format",
        value_name: "FORMAT",
        kind: Kind::Text,
        default: "combined",
        help: "The shape of its lines: combined (with the cache's word and seconds behind) or json",
        heading: HEADING,
        set: |settings, values| {
            let format = one(values)?.parse();
            settings.slice.access_format =
                format.map_err(|e: slicecache::access::BadFormat| e.to_string())?;
            Ok(())
        },
        understood: None,
    },
    Key {
        name: "origin-ca",
        value_name: "FILE",
        kind: Kind::Text,
        default: "none",
        help: "Certificate authorities for https origins beside the system's, in PEM",
        heading: HEADING,
        set: |settings, values| {
            settings.origin_ca = file(one(values)?);
            Ok(())
        },
        understood: None,
    },
];
