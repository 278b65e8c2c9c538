//! What can be seen of the engine. One set of handles per column, summed at scrape; units end the names.
//!
//! Some names are those of beam-cloud blobcache, whose levels are L0: RAM, L1: disk, L2: the origin. They mean:
//!
//! - A *read* is a GET answered with bytes of a blob: 200 or 206, whole, one range or several, to the end or cut short. HEAD,
//!   304, 404, 412, 416 and failures before the first byte are none; neither is what a fetch, a PUT or the node itself reads.
//! - An *L0 hit* is a read all of whose bytes were in RAM when it asked for them.
//! - An *L1 hit* is a read of a stored blob that needed at least one byte from disk. Bytes brought into RAM ahead of a
//!   sequential reader count as from disk when that reader uses them for the first time: reading ahead makes no hits.
//! - An *L2 miss* is a read whose blob was not stored and that had to wait for its origin; who joins a fetch under way too.
//! - So reads = L0 hits + L1 hits + L2 misses, each read in one of them, and the three ratios are percent of that.
//! - *Bytes served* are content: no heads, no multipart boundaries. Each goes to the level where it was, so one read can add to
//!   both; a read that is an L2 miss adds to neither. *Bytes fetched* are body bytes received from origins, whoever asked.
//! - *Fetched ahead* is a part of 4 MiB, but for the first one, that is asked of an origin while somebody reads the blob (GET,
//!   mount; not who waits for `POST /blobs/fetch`), farther on than all that readers wanted so far. A reader wants what he comes
//!   to, not all of his range at once. It is a hit when a reader wants it while the fetch is under way; wasted when the fetch
//!   stores nothing, or begins anew, before that; and neither when the blob is stored first: it stays. A read of it is an L2 miss
//!   as any other while the blob comes: fetching ahead makes no hits of L0 or L1.
//! - *Throughput* is content sent by all reads in the last ten whole seconds, a tenth of it, in MiB/s.
//! - *Usage*: RAM that blobs hold of `--memory`; bytes reserved on disk (files, packs, journals, uploads under way) of
//!   the quotas.

mod computed;
pub mod mount;
pub mod reads;

pub use computed::computed;

use mount::{Mounts, Requests};
use reads::Reads;
use runtime::metrics::{Counter, Family, Gauge, Histogram, LATENCY_SECONDS, Registry, Snapshot};
use std::rc::Rc;

static REQUESTS: Family =
    Family::counter("blobcache_http_requests_total", "Requests answered, by class of status.");
static SENT: Family = Family::counter("blobcache_http_sent_bytes_total", "Body bytes sent.");
static RECEIVED: Family = Family::counter("blobcache_http_received_bytes_total", "Body bytes received.");
static SECONDS: Family = Family::seconds(
    "blobcache_http_request_duration_seconds",
    "Time from the end of a request's head to the end of its answer.",
    LATENCY_SECONDS,
);
static CONNECTIONS: Family = Family::gauge("blobcache_http_connections", "Connections open now.");
static BLOBS: Family = Family::gauge("blobcache_blobs", "Blobs stored.");
static BLOB_BYTES: Family = Family::gauge("blobcache_blob_bytes", "Sum of the sizes of the blobs stored.");
static UNREAD_SHARDS: Family = Family::gauge(
    "blobcache_unread_shards",
    "Shards that the start has yet to read; 0 once everything is loaded.",
);
static RAM_BYTES: Family = Family::gauge("blobcache_ram_bytes", "RAM held by blobs.");
static RAM_MAX: Family = Family::gauge("blobcache_ram_max_bytes", "RAM that blobs may hold.");
static RAM_HITS: Family =
    Family::counter("blobcache_tier_ram_hits_total", "Small blobs and extents that readers found in RAM.");
static DISK_HITS: Family = Family::counter(
    "blobcache_tier_disk_hits_total",
    "Small blobs and extents that readers did not find in RAM, or only because they were read ahead.",
);
static EVICTIONS: Family =
    Family::counter("blobcache_l0_evictions_total", "Blobs or extents dropped from RAM.");
static DAMAGED: Family = Family::counter("blobcache_damaged_total", "Checksums on disk that did not match.");
static PREFETCH_ISSUED: Family =
    Family::counter("blobcache_prefetch_issued_total", "Extents read ahead of sequential readers.");
static PREFETCH_BYTES: Family = Family::counter("blobcache_prefetch_bytes_total", "Their bytes.");
static PREFETCH_HITS: Family =
    Family::counter("blobcache_prefetch_hits_total", "Extents read ahead that a reader used.");
static PREFETCH_WASTED: Family =
    Family::counter("blobcache_prefetch_wasted_total", "Extents read ahead and dropped unused.");
static SCRUB_BYTES: Family =
    Family::counter("blobcache_scrub_bytes_total", "Bytes read to look for damage in what nobody reads.");
static SCRUB_OBJECTS: Family =
    Family::counter("blobcache_scrub_objects_total", "Blobs looked at for damage.");
static SCRUB_DAMAGED: Family =
    Family::counter("blobcache_scrub_damaged_total", "Of these, blobs found damaged.");
static SCRUB_PASSES: Family =
    Family::counter("blobcache_scrub_passes_total", "Times that all blobs of a column were looked at.")
        .per_column();
static SCRUB_SECONDS: Family = Family::gauge(
    "blobcache_scrub_last_pass_seconds",
    "How long the last time took, rounded up; 0: none ended.",
)
.per_column();
static L2_BYTES: Family =
    Family::counter("blobcache_l2_bytes_fetched_total", "Body bytes received from origins.");
static FETCHES: Family = Family::counter("blobcache_fetches_total", "Fetches from origins begun.");
static FETCH_JOINED: Family =
    Family::counter("blobcache_fetch_joined_total", "Requests that joined a fetch under way.");
static FETCH_PARTS: Family =
    Family::counter("blobcache_fetch_parts_total", "Parts that fetches asked origins for.");
static FETCH_AHEAD_ISSUED: Family = Family::counter(
    "blobcache_fetch_ahead_issued_total",
    "Parts that fetches asked origins for ahead of those who read the blob while it came.",
);
static FETCH_AHEAD_HITS: Family = Family::counter(
    "blobcache_fetch_ahead_hits_total",
    "Of these, parts that a reader came to while the fetch was under way.",
);
static FETCH_AHEAD_WASTED: Family = Family::counter(
    "blobcache_fetch_ahead_wasted_total",
    "Of these, parts that no reader came to of fetches that stored nothing.",
);
static FETCH_RETRIES: Family =
    Family::counter("blobcache_fetch_retries_total", "Parts asked for again after a failure.");
static FETCH_FAILURES: Family =
    Family::counter("blobcache_fetch_failures_total", "Fetches that brought no blob.");
static REFETCHES: Family =
    Family::counter("blobcache_refetches_total", "Fetches of blobs that had been evicted.");
static STALLS: Family = Family::counter("basalt_stalls_total", "Task polls of 10 ms or more.").per_column();

/// Parts that fetches asked for ahead of readers. A clone is the same counters.
#[derive(Clone, Default)]
pub struct FetchAhead {
    pub(crate) issued: Counter,
    pub(crate) hits: Counter,
    pub(crate) wasted: Counter,
}

/// The handles of one column.
pub struct Metrics {
    registry: Rc<Registry>,
    requests: [Counter; 5],
    sent: Counter,
    received: Counter,
    seconds: Histogram,
    pub(crate) connections: Gauge,
    blobs: Gauge,
    blob_bytes: Gauge,
    unread_shards: Gauge,
    ram_bytes: Gauge,
    ram_max: Gauge,
    ram_hits: Counter,
    disk_hits: Counter,
    evictions: Counter,
    damaged: Counter,
    /// Issued, bytes, hits, wasted.
    prefetch: [Counter; 4],
    /// Bytes, objects, damaged, passes.
    scrub: [Counter; 4],
    scrub_seconds: Gauge,
    stalls: Counter,
    /// Reads by level.
    pub reads: Reads,
    /// What mounts read of this column's blobs.
    pub mount: Mounts,
    pub(crate) l2_bytes: Counter,
    pub(crate) fetches: Counter,
    pub(crate) fetch_joined: Counter,
    pub(crate) fetch_parts: Counter,
    pub(crate) fetch_ahead: FetchAhead,
    pub(crate) fetch_retries: Counter,
    pub(crate) fetch_failures: Counter,
    pub(crate) refetches: Counter,
}

impl Metrics {
    /// Registers the handles of column `column`.
    pub fn new(column: usize) -> Metrics {
        let registry = Rc::new(Registry::new(column as u32));
        let class = |name| registry.counter(&REQUESTS, &[("code", name)]);
        Metrics {
            requests: [class("1xx"), class("2xx"), class("3xx"), class("4xx"), class("5xx")],
            sent: registry.counter(&SENT, &[]),
            received: registry.counter(&RECEIVED, &[]),
            seconds: registry.histogram(&SECONDS, &[]),
            connections: registry.gauge(&CONNECTIONS, &[]),
            blobs: registry.gauge(&BLOBS, &[]),
            blob_bytes: registry.gauge(&BLOB_BYTES, &[]),
            unread_shards: registry.gauge(&UNREAD_SHARDS, &[]),
            ram_bytes: registry.gauge(&RAM_BYTES, &[]),
            ram_max: registry.gauge(&RAM_MAX, &[]),
            ram_hits: registry.counter(&RAM_HITS, &[]),
            disk_hits: registry.counter(&DISK_HITS, &[]),
            evictions: registry.counter(&EVICTIONS, &[]),
            damaged: registry.counter(&DAMAGED, &[]),
            prefetch: [&PREFETCH_ISSUED, &PREFETCH_BYTES, &PREFETCH_HITS, &PREFETCH_WASTED]
                .map(|family| registry.counter(family, &[])),
            scrub: [&SCRUB_BYTES, &SCRUB_OBJECTS, &SCRUB_DAMAGED, &SCRUB_PASSES]
                .map(|family| registry.counter(family, &[])),
            scrub_seconds: registry.gauge(&SCRUB_SECONDS, &[]),
            stalls: registry.counter(&STALLS, &[]),
            reads: Reads::new(&registry),
            mount: Mounts::default(),
            l2_bytes: registry.counter(&L2_BYTES, &[]),
            fetches: registry.counter(&FETCHES, &[]),
            fetch_joined: registry.counter(&FETCH_JOINED, &[]),
            fetch_parts: registry.counter(&FETCH_PARTS, &[]),
            fetch_ahead: FetchAhead {
                issued: registry.counter(&FETCH_AHEAD_ISSUED, &[]),
                hits: registry.counter(&FETCH_AHEAD_HITS, &[]),
                wasted: registry.counter(&FETCH_AHEAD_WASTED, &[]),
            },
            fetch_retries: registry.counter(&FETCH_RETRIES, &[]),
            fetch_failures: registry.counter(&FETCH_FAILURES, &[]),
            refetches: registry.counter(&REFETCHES, &[]),
            registry,
        }
    }

    /// There is a mount whose requests come by this rung.
    pub fn requests(&self, rung: &'static str) -> Requests {
        self.mount.register(&self.registry);
        Requests::new(self.registry.clone(), rung)
    }

    /// Counts an answered request.
    pub fn on_answered(&self, status: u16, sent_bytes: u64, received_bytes: u64, took_ns: u64) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        self.requests[class].inc();
        self.sent.add(sent_bytes);
        self.received.add(received_bytes);
        self.seconds.record(took_ns);
    }

    /// Takes over what the tier counts.
    pub fn snapshot(&self, stats: &runtime::tier::Stats, stalls: u64, now_ns: u64) -> Snapshot {
        let raise = |counter: &Counter, to: u64| counter.add(to - counter.get());
        raise(&self.ram_hits, stats.ram_hits);
        raise(&self.disk_hits, stats.disk_hits);
        raise(&self.evictions, stats.evictions);
        raise(&self.damaged, stats.damaged);
        raise(&self.stalls, stalls);
        let ahead = &stats.prefetch;
        let ahead = [ahead.issued, ahead.bytes, ahead.hits, ahead.wasted];
        self.prefetch.iter().zip(ahead).for_each(|(counter, to)| raise(counter, to));
        let scrub = &stats.scrub;
        let scrubbed = [scrub.bytes, scrub.objects, scrub.damaged, scrub.passes];
        self.scrub.iter().zip(scrubbed).for_each(|(counter, to)| raise(counter, to));
        self.scrub_seconds.set(scrub.pass_ns.div_ceil(1_000_000_000) as i64);
        self.blobs.set(stats.objects as i64);
        self.blob_bytes.set(stats.object_bytes as i64);
        self.unread_shards.set(stats.unread_shards as i64);
        self.ram_bytes.set(stats.held_bytes as i64);
        self.ram_max.set(stats.held_bytes_max as i64);
        self.reads.refresh(now_ns);
        self.registry.snapshot()
    }
}
