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
    "Slices not written to a full disk: what would have gone for them is asked for more often.",
);
static PURGES: Family = Family::counter("slicecache_purges_total", "Orders to purge that were obeyed.");
static OBJECTS: Family = Family::gauge("slicecache_objects", "Objects known of without a look at the disk.");

static READERS: Family = Family::gauge("slicecache_readers", "Responses under way.");
static MEMORY_HELD: Family =
    Family::gauge("slicecache_memory_held_bytes", "Memory promised to slices that come.");
static STORES: Family = Family::gauge("slicecache_stores_running", "Slices being put into the tier.");
static READS: Family = Family::gauge("slicecache_reads_running", "Responses that read from disk.");
static ORIGIN_REQUESTS: Family =
    Family::gauge("slicecache_origin_requests_running", "Requests to origins under way.");

/// What is held for requests under way: nothing of it when nobody asks for anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Responses.
    pub readers: u64,
    /// Of slices that come.
    pub memory_bytes: u64,
    /// Slices on their way into the tier.
    pub stores: u64,
    /// Buffers of responses that read from disk.
    pub reads: u64,
    /// Requests to origins.
    pub origin_requests: u64,
}

/// The handles of a column.
pub struct Metrics {
    registry: Registry,
    /// Requests.
    pub outcomes: Outcomes,
    classes: [Counter; 5],
    sent_bytes: Counter,
    seconds: Histogram,
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
    objects: Gauge,
    held: [Gauge; 5],
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
            objects: registry.gauge(&OBJECTS, &[]),
            held: [&READERS, &MEMORY_HELD, &STORES, &READS, &ORIGIN_REQUESTS]
                .map(|family| registry.gauge(family, &[])),
            registry,
        }
    }

    /// Counts a request that was answered.
    pub fn on_answered(&self, status: u16, sent_bytes: u64, took_ns: u64) {
        if let Some(class) = usize::from(status / 100).checked_sub(1).and_then(|at| self.classes.get(at)) {
            class.inc();
        }
        self.sent_bytes.add(sent_bytes);
        self.seconds.record(took_ns);
    }

    /// Notes what is held now.
    pub fn set_held(&self, held: &Held) {
        let Held { readers, memory_bytes, stores, reads, origin_requests } = *held;
        for (gauge, value) in self.held.iter().zip([readers, memory_bytes, stores, reads, origin_requests]) {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
    }

    /// What there is to see.
    #[must_use]
    pub fn snapshot(&self, objects: usize) -> Snapshot {
        self.objects.set(i64::try_from(objects).unwrap_or(i64::MAX));
        self.registry.snapshot()
    }
}
