//! What can be seen of the engine. One set of handles per column, summed at a scrape; units end the names.

use crate::state::status::Outcome;
use runtime::metrics::{Counter, Family, Gauge, Histogram, LATENCY_SECONDS, Registry, Snapshot};

static REQUESTS: Family =
    Family::counter("slicecache_requests_total", "Requests by how they were answered from the cache.");
static RESPONSES: Family =
    Family::counter("slicecache_http_requests_total", "Requests answered, by class of status.");
static SENT: Family = Family::counter("slicecache_http_sent_bytes_total", "Body bytes sent.");
static SECONDS: Family = Family::seconds(
    "slicecache_http_request_duration_seconds",
    "Time from the end of a request's head to the end of its answer.",
    LATENCY_SECONDS,
);
static FIRST_BYTE_SECONDS: Family = Family::seconds(
    "slicecache_http_first_byte_seconds",
    "Time from the end of a request's head to the first bytes of its answer.",
    LATENCY_SECONDS,
);
static COALESCED: Family = Family::counter(
    "slicecache_coalesced_total",
    "Requests for what another request had asked the origin for already: they waited for the same answer or slices.",
);
static EVICTIONS: Family =
    Family::counter("slicecache_evictions_total", "Slices and records deleted from disk to make room.");
static ENTRIES: Family =
    Family::gauge("slicecache_entries", "Slices and records stored, those of purges too.");
static ENTRY_BYTES: Family = Family::gauge("slicecache_entry_bytes", "Their bytes.");
static KEPT_BYTES: Family = Family::gauge(
    "slicecache_kept_bytes",
    "Memory of answers that are kept whole: errors, redirects, small objects.",
);
static ORIGIN_CONNECTED: Family =
    Family::counter("slicecache_origin_connections_total", "Connections made to origins.");
static ORIGIN_CONNECTIONS: Family =
    Family::gauge("slicecache_origin_connections", "Connections to origins, by what they do.");
static ORIGIN_REQUESTS: Family = Family::gauge(
    "slicecache_origin_requests",
    "Requests to origins that are under way, or wait for their turn.",
);
static CONNECTIONS: Family = Family::gauge("slicecache_http_connections", "Connections open now.");
static BYTES: Family = Family::counter(
    "slicecache_bytes_total",
    "Bytes given to readers, by where they were; origin: received.",
);
static SUBREQUESTS: Family =
    Family::counter("slicecache_subrequests_total", "Requests to origins for slices, tried again or not.");
static SUBREQUEST_SECONDS: Family = Family::seconds(
    "slicecache_subrequest_duration_seconds",
    "Time from a request for slices to the head of its answer.",
    LATENCY_SECONDS,
);
static RETRIES: Family =
    Family::counter("slicecache_retries_total", "Requests for slices that were tried again.");
static FAILURES: Family =
    Family::counter("slicecache_failures_total", "Questions and fetches that failed for good.");
static NOT_ADMITTED: Family = Family::counter(
    "slicecache_not_admitted_total",
    "Slices not stored: their object was not asked for often enough, or what would go for them from a full disk is more often.",
);
static PURGES: Family = Family::counter("slicecache_purges_total", "Orders to purge that were obeyed.");
static LOGGED: Family = Family::counter("slicecache_access_log_lines_total", "Lines of the access log.");
static HOT: Family = Family::counter(
    "slicecache_hot_answers_total",
    "Plain requests answered from RAM with fields that were written before.",
);
static LOG_DROPPED: Family = Family::counter(
    "slicecache_access_log_dropped_total",
    "Lines of the access log that were dropped: whoever writes them could not take more.",
);
static ORIGIN_UP: Family = Family::gauge(
    "slicecache_origin_up",
    "Whether probes say that an origin is up: 1, or down: 0; of those that are probed.",
);
static SWEPT: Family = Family::counter(
    "slicecache_purge_swept_total",
    "Objects in use by nobody whose slices were deleted since they had been purged.",
);
static OBJECTS: Family = Family::gauge("slicecache_objects", "Objects known of without a look at the disk.");

static READERS: Family = Family::gauge("slicecache_readers", "Responses under way.");
static MEMORY_HELD: Family =
    Family::gauge("slicecache_memory_held_bytes", "Memory promised to slices that come.");
static STORES: Family =
    Family::gauge("slicecache_store_buffers", "Buffers of 1 MiB of slices on their way into the tier.");
static READS: Family = Family::gauge("slicecache_reads_running", "Responses that read from disk.");

/// What is held for requests under way: nothing of it when nobody asks for anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Responses.
    pub readers: u64,
    /// Of slices that come.
    pub memory_bytes: u64,
    /// Buffers of slices on their way into the tier.
    pub stores: u64,
    /// Buffers of responses that read from disk.
    pub reads: u64,
}

/// The handles of a column.
pub struct Metrics {
    registry: Registry,
    /// Requests.
    pub outcomes: Outcomes,
    classes: [Counter; 5],
    sent_bytes: Counter,
    seconds: Histogram,
    /// Until the first byte.
    pub first_byte_seconds: Histogram,
    /// Answered the short way.
    pub hot: Counter,
    /// Shared with another request.
    pub coalesced: Counter,
    /// Connections open.
    pub connections: Gauge,
    /// Given as they came.
    pub memory_bytes: Counter,
    /// Given from RAM.
    pub ram_bytes: Counter,
    /// Given from disk.
    pub disk_bytes: Counter,
    /// Received.
    pub origin_bytes: Counter,
    /// Requests to origins.
    pub subrequests: Counter,
    /// How long their heads took.
    pub subrequest_seconds: Histogram,
    /// Tried again.
    pub retries: Counter,
    /// Failed for good.
    pub failures: Counter,
    /// Not written.
    pub not_admitted: Counter,
    /// Purges.
    pub purges: Counter,
    /// Objects deleted behind them.
    pub swept: Counter,
    /// Lines of the access log, and those of them that were dropped.
    pub access: (Counter, Counter),
    objects: Gauge,
    held: [Gauge; 4],
    stored: Stored,
    origins: OriginPool,
}

/// What is in the tier and on the shelf.
struct Stored {
    evictions: Counter,
    entries: Gauge,
    bytes: Gauge,
    kept_bytes: Gauge,
}

/// Connections to origins.
struct OriginPool {
    connected: Counter,
    idle: Gauge,
    busy: Gauge,
    under_way: Gauge,
    waiting: Gauge,
}

/// What is counted elsewhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Objects known of.
    pub objects: usize,
    /// For requests under way.
    pub held: Held,
    /// Stored, of this engine: how many, their bytes, and how many were deleted to make room.
    pub entries: (u64, u64, u64),
    /// Of answers that are kept whole.
    pub kept_bytes: u64,
    /// Connections to origins: made, open, idle.
    pub connections: (u64, usize, usize),
    /// Requests to origins: under way, waiting.
    pub requests: (usize, usize),
}

/// Requests by outcome.
pub struct Outcomes([Counter; 5]);

impl Outcomes {
    /// Counts one.
    pub fn count(&self, outcome: Outcome) {
        let at = match outcome {
            Outcome::Hit => 0,
            Outcome::Miss => 1,
            Outcome::Partial => 2,
            Outcome::Stale => 3,
            Outcome::Bypass => 4,
        };
        self.0[at].inc();
    }
}

impl Metrics {
    /// Those of a column.
    #[must_use]
    pub fn new(column: usize) -> Metrics {
        let registry = Registry::new(column as u32);
        let outcome = |name| registry.counter(&REQUESTS, &[("outcome", name)]);
        let class = |name| registry.counter(&RESPONSES, &[("class", name)]);
        let bytes = |from| registry.counter(&BYTES, &[("from", from)]);
        Metrics {
            outcomes: Outcomes(["hit", "miss", "partial", "stale", "bypass"].map(outcome)),
            classes: ["1xx", "2xx", "3xx", "4xx", "5xx"].map(class),
            sent_bytes: registry.counter(&SENT, &[]),
            seconds: registry.histogram(&SECONDS, &[]),
            first_byte_seconds: registry.histogram(&FIRST_BYTE_SECONDS, &[]),
            hot: registry.counter(&HOT, &[]),
            coalesced: registry.counter(&COALESCED, &[]),
            connections: registry.gauge(&CONNECTIONS, &[]),
            memory_bytes: bytes("memory"),
            ram_bytes: bytes("l0"),
            disk_bytes: bytes("l1"),
            origin_bytes: bytes("origin"),
            subrequests: registry.counter(&SUBREQUESTS, &[]),
            subrequest_seconds: registry.histogram(&SUBREQUEST_SECONDS, &[]),
            retries: registry.counter(&RETRIES, &[]),
            failures: registry.counter(&FAILURES, &[]),
            not_admitted: registry.counter(&NOT_ADMITTED, &[]),
            purges: registry.counter(&PURGES, &[]),
            swept: registry.counter(&SWEPT, &[]),
            access: (registry.counter(&LOGGED, &[]), registry.counter(&LOG_DROPPED, &[])),
            objects: registry.gauge(&OBJECTS, &[]),
            held: [&READERS, &MEMORY_HELD, &STORES, &READS].map(|family| registry.gauge(family, &[])),
            stored: Stored {
                evictions: registry.counter(&EVICTIONS, &[]),
                entries: registry.gauge(&ENTRIES, &[]),
                bytes: registry.gauge(&ENTRY_BYTES, &[]),
                kept_bytes: registry.gauge(&KEPT_BYTES, &[]),
            },
            origins: OriginPool {
                connected: registry.counter(&ORIGIN_CONNECTED, &[]),
                idle: registry.gauge(&ORIGIN_CONNECTIONS, &[("state", "idle")]),
                busy: registry.gauge(&ORIGIN_CONNECTIONS, &[("state", "busy")]),
                under_way: registry.gauge(&ORIGIN_REQUESTS, &[("state", "under_way")]),
                waiting: registry.gauge(&ORIGIN_REQUESTS, &[("state", "waiting")]),
            },
            registry,
        }
    }

    /// Of an origin that is probed; on the column that does.
    #[must_use]
    pub fn origin_up(&self, prefix: &str, origin: &str) -> Gauge {
        self.registry.gauge(&ORIGIN_UP, &[("origin", origin), ("prefix", prefix)])
    }

    /// Counts a request that was answered.
    pub fn on_answered(&self, status: u16, sent_bytes: u64, took_ns: u64) {
        if let Some(class) = usize::from(status / 100).checked_sub(1).and_then(|at| self.classes.get(at)) {
            class.inc();
        }
        self.sent_bytes.add(sent_bytes);
        self.seconds.record(took_ns);
    }

    /// What there is to see.
    #[must_use]
    pub fn snapshot(&self, seen: &Seen) -> Snapshot {
        let set = |gauge: &Gauge, level: u64| gauge.set(i64::try_from(level).unwrap_or(i64::MAX));
        let raise = |counter: &Counter, to: u64| counter.add(to - counter.get());
        set(&self.objects, seen.objects as u64);
        let Held { readers, memory_bytes, stores, reads } = seen.held;
        self.held
            .iter()
            .zip([readers, memory_bytes, stores, reads])
            .for_each(|(gauge, level)| set(gauge, level));
        let (entries, bytes, evictions) = seen.entries;
        raise(&self.stored.evictions, evictions);
        set(&self.stored.entries, entries);
        set(&self.stored.bytes, bytes);
        set(&self.stored.kept_bytes, seen.kept_bytes);
        let (connected, open, idle) = seen.connections;
        raise(&self.origins.connected, connected);
        set(&self.origins.idle, idle as u64);
        set(&self.origins.busy, open.saturating_sub(idle) as u64);
        let (under_way, waiting) = seen.requests;
        set(&self.origins.under_way, under_way as u64);
        set(&self.origins.waiting, waiting as u64);
        self.registry.snapshot()
    }
}
