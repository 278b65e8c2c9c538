//! Gauges that no column can know by itself: ratios, rates and shares over all of them, computed at each scrape.
//!
//! Caller: the ops listener. Units: `_mb` and `_mbps` are 2^20 bytes, as beam-cloud blobcache has them; ratios and shares are in
//! percent, as there.

use super::RAM_BYTES;
use super::reads::{L0_HITS, L1_HITS, L2_MISSES, WINDOW_BYTES, WINDOW_SECONDS};
use runtime::metrics::{Family, Sample, Snapshot, Value};

static L0_RATIO: Family =
    Family::gauge("blobcache_l0_hit_ratio", "Reads from RAM, in percent of all reads since start.");
static L1_RATIO: Family =
    Family::gauge("blobcache_l1_hit_ratio", "Reads from disk, in percent of all reads since start.");
static L2_RATIO: Family = Family::gauge(
    "blobcache_l2_miss_ratio",
    "Reads that had to wait for an origin, in percent of all reads since start.",
);
static THROUGHPUT: Family = Family::gauge(
    "blobcache_read_throughput_mbps",
    "Bytes of blobs sent to readers, mean of the last ten seconds, in MiB/s.",
);
static MEM_MB: Family = Family::gauge("blobcache_mem_cache_usage_mb", "RAM held by blobs, in MiB.");
static MEM_PCT: Family =
    Family::gauge("blobcache_mem_cache_usage_pct", "RAM held by blobs, in percent of --memory.");
static DISK_MB: Family =
    Family::gauge("blobcache_disk_cache_usage_mb", "Disk space taken in all data directories, in MiB.");
static DISK_PCT: Family = Family::gauge(
    "blobcache_disk_cache_usage_pct",
    "Disk space taken, in percent of the quotas of all data directories.",
);

const MIB: f64 = (1 << 20) as f64;

/// What follows from the snapshots of all columns. `memory_bytes`: of the node; `disk`: bytes taken, and quotas.
pub fn computed(columns: &[Snapshot], memory_bytes: u64, disk: (u64, u64)) -> Snapshot {
    let total = |family: &Family| -> f64 {
        let samples = columns.iter().flat_map(|snapshot| &snapshot.samples);
        let values = samples.filter(|s| s.family.name() == family.name()).map(|s| match s.value {
            Value::Counter(count) => count as f64,
            Value::Gauge(level) => level as f64,
            ref other => unreachable!("{other:?} in {}", family.name()),
        });
        values.sum()
    };
    let [l0, l1, l2] = [&L0_HITS, &L1_HITS, &L2_MISSES].map(total);
    let reads = l0 + l1 + l2;
    let (ram_bytes, disk_bytes) = (total(&RAM_BYTES), disk.0 as f64);
    let values = [
        (&L0_RATIO, percent(l0, reads)),
        (&L1_RATIO, percent(l1, reads)),
        (&L2_RATIO, percent(l2, reads)),
        (&THROUGHPUT, total(&WINDOW_BYTES) / MIB / WINDOW_SECONDS as f64),
        (&MEM_MB, ram_bytes / MIB),
        (&MEM_PCT, percent(ram_bytes, memory_bytes as f64)),
        (&DISK_MB, disk_bytes / MIB),
        (&DISK_PCT, percent(disk_bytes, disk.1 as f64)),
    ];
    let sample = |(family, value)| Sample { family, labels: Vec::new(), value: Value::Computed(value) };
    Snapshot { column: 0, samples: values.map(sample).into() }
}

/// Of nothing there is no share.
fn percent(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { part / whole * 100.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::metrics::reads::{Depth, Level};
    use runtime::metrics::render;
    use runtime::tier::Stats;

    fn lines(columns: &[Snapshot]) -> Vec<String> {
        let text = render(&[computed(columns, 64 << 20, (3 << 20, 12 << 20))]);
        text.lines().filter(|l| !l.starts_with('#')).map(str::to_owned).collect()
    }

    #[test]
    fn columns_count_together_before_anything_is_divided() {
        let scrape = |column: usize, levels: &[Level]| {
            let metrics = Metrics::new(column);
            for &level in levels {
                let depth = Depth::default();
                metrics.reads.sent(&depth, level, 5 << 20, 7_000_000_000);
                metrics.reads.count(&depth);
            }
            let stats = Stats { held_bytes: 8 << 20, ..Stats::default() };
            metrics.snapshot(&stats, 0, 8_000_000_000)
        };
        let columns = [
            scrape(0, &[Level::Ram, Level::Disk, Level::Disk, Level::Disk]),
            scrape(1, &[Level::Ram, Level::Disk, Level::Origin, Level::Disk]),
        ];
        let seen = lines(&columns);
        for line in [
            "blobcache_l0_hit_ratio 25",
            "blobcache_l1_hit_ratio 62.5",
            "blobcache_l2_miss_ratio 12.5",
            "blobcache_read_throughput_mbps 4",
            "blobcache_mem_cache_usage_mb 16",
            "blobcache_mem_cache_usage_pct 25",
            "blobcache_disk_cache_usage_mb 3",
            "blobcache_disk_cache_usage_pct 25",
        ] {
            assert!(seen.iter().any(|l| l == line), "no {line}: {seen:#?}");
        }
    }

    #[test]
    fn nothing_is_no_share_of_nothing() {
        assert!(lines(&[]).contains(&"blobcache_l0_hit_ratio 0".to_owned()));
    }
}
