//! What can be seen of a column's disk queue, by disk and class. Operations that need not wait are entered into the histogram of
//! waits at scrape, as waits of 0: the hot path only counts.

use crate::classes::{CLASSES, Scheduler};
use crate::io::Class;
use crate::metrics::{Counter, Family, Gauge, Histogram, Registry, Sample};

/// From the time of one small read to that of a device that hangs.
const WAIT_SECONDS: &[f64] =
    &[0.00001, 0.000025, 0.0001, 0.00025, 0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 1.0, 10.0];

static OPERATIONS: Family =
    Family::counter("basalt_io_operations_total", "Disk operations started, by class.").per_column();
static BYTES: Family =
    Family::counter("basalt_io_bytes_total", "Bytes of disk operations started, by class.").per_column();
static WAITING: Family =
    Family::gauge("basalt_io_waiting", "Disk operations that wait for their turn, by class.").per_column();
static IN_FLIGHT: Family =
    Family::gauge("basalt_io_in_flight", "Disk operations handed to the kernel, by class.").per_column();
static WAIT: Family = Family::seconds(
    "basalt_io_wait_seconds",
    "Time that disk operations waited for their turn, by class.",
    WAIT_SECONDS,
);
static OPERATIONS_MAX: Family = Family::gauge(
    "basalt_io_in_flight_max",
    "Disk operations that may be in flight, Raft syncs not counted.",
)
.per_column();
static BYTES_MAX: Family = Family::gauge(
    "basalt_io_in_flight_max_bytes",
    "Bytes of disk operations that may be in flight, Raft syncs not counted.",
)
.per_column();

struct OfClass {
    operations: Counter,
    bytes: Counter,
    waiting: Gauge,
    in_flight: Gauge,
    wait: Histogram,
}

pub(super) struct Figures {
    registry: Registry,
    classes: [OfClass; CLASSES],
    operations_max: Gauge,
    bytes_max: Gauge,
}

impl Figures {
    pub(super) fn new(disk: &str) -> Figures {
        // Samples do not carry the number: whoever collects them knows the column.
        let registry = Registry::new(0);
        let of_class = |class: Class| {
            let labels = [("class", class.name()), ("disk", disk)];
            OfClass {
                operations: registry.counter(&OPERATIONS, &labels),
                bytes: registry.counter(&BYTES, &labels),
                waiting: registry.gauge(&WAITING, &labels),
                in_flight: registry.gauge(&IN_FLIGHT, &labels),
                wait: registry.histogram(&WAIT, &labels),
            }
        };
        Figures {
            classes: Class::ALL.map(of_class),
            operations_max: registry.gauge(&OPERATIONS_MAX, &[("disk", disk)]),
            bytes_max: registry.gauge(&BYTES_MAX, &[("disk", disk)]),
            registry,
        }
    }

    #[inline]
    pub(super) fn count(&self, class: Class, bytes: u32) {
        let of_class = &self.classes[class as usize];
        of_class.operations.inc();
        of_class.bytes.add(u64::from(bytes));
    }

    /// Bytes of an operation that were not told when it started.
    pub(super) fn count_bytes(&self, class: Class, bytes: u64) {
        self.classes[class as usize].bytes.add(bytes);
    }

    pub(super) fn on_waited(&self, class: Class, waited_ns: u64) {
        self.classes[class as usize].wait.record(waited_ns);
    }

    pub(super) fn samples<T>(&self, scheduler: &Scheduler<T>) -> Vec<Sample> {
        for (class, figures) in Class::ALL.into_iter().zip(&self.classes) {
            figures.waiting.set(scheduler.waiting(class) as i64);
            figures.in_flight.set(i64::from(scheduler.in_flight(class).operations));
            let at_once = figures.operations.get().saturating_sub(figures.wait.count());
            figures.wait.record_many(0, at_once);
        }
        let max = scheduler.limits().foreground();
        self.operations_max.set(i64::from(max.operations));
        self.bytes_max.set(i64::try_from(max.bytes).unwrap_or(i64::MAX));
        self.registry.snapshot().samples
    }
}
