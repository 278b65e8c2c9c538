//! The classes on the real ring: a flood from below does not take the device from what is more urgent. Latencies are compared
//! within one run, since disks differ. `BASALT_WITHOUT_CLASSES=1` lifts the limits, and both floods must then fail.

mod on_column;

use on_column::on_column;
use runtime::classes::Limits;
use runtime::column::Column;
use runtime::io::{Class, File, Io, Open};
use runtime::metrics::{Sample, Value};
use runtime::resident::Resident;
use runtime::ring::RingFile;
use runtime::tier::EXTENT_BYTES;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::rc::Rc;

const MIB: usize = 1 << 20;
const FILE_BYTES: usize = 256 * MIB;
/// Operations of 1 MiB that the flood wants in flight.
const FLOOD_DEPTH: usize = 64;
const WARM_UP_NS: u64 = 100_000_000;
/// With the queue 13 to 28, without it 115 (syncs) and 250 to 330 (reads), on virtio.
const RATIO_MAX: f64 = 60.0;
/// Latencies measured with and without a flood.
const ROUNDS: usize = 300;

fn a_directory_on_a_disk() -> tempfile::TempDir {
    let base = std::env::var_os("BASALT_TEST_DIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
    tempfile::tempdir_in(base).expect("a directory on a disk")
}

/// A file that has been written whole: reads of it reach the device, and writes change no metadata.
async fn written_file(column: &Column, path: &Path, bytes: usize) -> RingFile {
    let file = column.io.open(path, Open::CreateDirect).await.expect("created");
    let mut buf = column.io.buffer(MIB).expect("memory");
    buf[..MIB].fill(7);
    for at in (0..bytes).step_by(MIB) {
        let (written, back) = file.write_at(buf, MIB, at as u64).await;
        written.expect("written");
        buf = back;
    }
    file.sync_data().await.expect("synced");
    file
}

/// Transfers of 1 MiB, `FLOOD_DEPTH` at a time, until told to stop.
struct Flood {
    stop: Rc<Cell<bool>>,
    running: Rc<Cell<usize>>,
    done: Rc<Cell<u64>>,
}

impl Flood {
    fn start(column: &Column, file: &RingFile, writes: bool) -> Flood {
        let flood = Flood { stop: Rc::default(), running: Rc::default(), done: Rc::default() };
        for task in 0..FLOOD_DEPTH {
            let (stop, running, done) = (flood.stop.clone(), flood.running.clone(), flood.done.clone());
            let file = file.clone();
            let mut buf = column.io.buffer(MIB).expect("memory");
            running.set(running.get() + 1);
            column.io.spawn("flood", async move {
                let mut block = task;
                while !stop.get() {
                    let offset = (block * MIB % FILE_BYTES) as u64;
                    let (outcome, back) = match writes {
                        true => file.write_at(buf, MIB, offset).await,
                        false => file.read_at(buf, MIB, offset).await,
                    };
                    outcome.expect("moved");
                    buf = back;
                    block += FLOOD_DEPTH + 1;
                    done.set(done.get() + 1);
                }
                running.set(running.get() - 1);
            });
        }
        flood
    }

    async fn end(self, column: &Column) -> u64 {
        self.stop.set(true);
        while self.running.get() > 0 {
            column.io.sleep(1_000_000).await;
        }
        self.done.get()
    }
}

/// The median of `ROUNDS` latencies, one operation after the other, ns.
async fn median_ns<F: Future<Output = ()>>(column: &Column, mut operation: impl FnMut(usize) -> F) -> u64 {
    column.io.sleep(WARM_UP_NS).await;
    let mut took = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        let begin_ns = column.io.now_ns();
        operation(round).await;
        took.push(column.io.now_ns() - begin_ns);
    }
    took.sort_unstable();
    took[ROUNDS / 2]
}

/// What was measured: median latencies, and transfers of the flood meanwhile.
#[derive(Debug)]
struct Measured {
    calm_ns: u64,
    flooded_ns: u64,
    flood: u64,
}

impl Measured {
    fn must_stay_below(&self, ratio_max: f64) {
        let ratio = self.flooded_ns as f64 / self.calm_ns as f64;
        println!("{self:?}: {ratio:.1} times as long");
        assert!(self.flood > 0, "the flood is starved: {self:?}");
        assert!(ratio <= ratio_max, "{ratio:.1} times as long under a flood: {self:?}");
    }
}

fn lift_limits_if_told(column: &Column) {
    if std::env::var_os("BASALT_WITHOUT_CLASSES").is_some() {
        column.io.limit_disk(Limits::UNLIMITED);
    }
}

async fn measure_reads(column: Column, dir: PathBuf) -> Measured {
    lift_limits_if_told(&column);
    let file = written_file(&column, &dir.join("flood"), FILE_BYTES).await;
    let read = |round: usize| {
        let (file, buf) = (file.clone(), column.io.buffer(4096).expect("memory"));
        async move {
            let offset = (round * 7919 * 4096 % FILE_BYTES) as u64;
            file.read_at(buf, 4096, offset).await.0.expect("read");
        }
    };
    let calm_ns = median_ns(&column, read).await;
    let flood = Flood::start(&column, &file.classed(Class::Scrub), false);
    let flooded_ns = median_ns(&column, read).await;
    Measured { calm_ns, flooded_ns, flood: flood.end(&column).await }
}

async fn measure_syncs(column: Column, dir: PathBuf) -> Measured {
    lift_limits_if_told(&column);
    let flooded = written_file(&column, &dir.join("flood"), FILE_BYTES).await;
    let log = written_file(&column, &dir.join("log"), 2 * MIB).await.classed(Class::RaftSync);
    let append = |round: usize| {
        let (log, buf) = (log.clone(), column.io.buffer(4096).expect("memory"));
        async move { log.write_sync(buf, 4096, (round % 512 * 4096) as u64).await.0.expect("synced") }
    };
    let calm_ns = median_ns(&column, append).await;
    let flood = Flood::start(&column, &flooded.classed(Class::Fill), true);
    let flooded_ns = median_ns(&column, append).await;
    Measured { calm_ns, flooded_ns, flood: flood.end(&column).await }
}

#[test]
fn a_flood_of_scrub_reads_leaves_foreground_reads_quick() {
    let dir = a_directory_on_a_disk();
    let path = dir.path().to_owned();
    on_column(move |column| measure_reads(column, path.clone())).must_stay_below(RATIO_MAX);
}

#[test]
fn a_flood_of_fill_writes_leaves_raft_syncs_quick() {
    let dir = a_directory_on_a_disk();
    let path = dir.path().to_owned();
    on_column(move |column| measure_syncs(column, path.clone())).must_stay_below(RATIO_MAX);
}

/// The ring's own proof that permits end with operations: more are dropped under way than may be in flight.
#[test]
fn operations_dropped_under_way_give_their_room_back() {
    let dir = a_directory_on_a_disk();
    let path = dir.path().join("file");
    on_column(move |column| drop_under_way(column, path.clone()));
}

/// What is pinned is read by the kernel for us: it waits for its turn and is counted as other reads are. What is in the page cache
/// is not read, and neither waits nor counts.
#[test]
fn what_is_pinned_has_a_class_like_other_reads() {
    let dir = a_directory_on_a_disk();
    let path = dir.path().join("file");
    on_column(move |column| pin_all(column, path.clone()));
}

const EXTENTS: usize = 4;

/// What is said of a class, of all disks.
fn of_class(column: &Column, name: &str, class: Class) -> u64 {
    let is_it = |s: &Sample| s.family.name() == name && s.labels.iter().any(|(_, v)| *v == class.name());
    let value = |s: Sample| match s.value {
        Value::Counter(count) => count,
        Value::Gauge(now) => u64::try_from(now).expect("not below none"),
        Value::Computed(_) | Value::Histogram(_) => unreachable!("asked for a count"),
    };
    column.io.samples().into_iter().filter(is_it).map(value).sum()
}

async fn pin_all(column: Column, path: PathBuf) {
    // Of these the fill may have 2 MiB: an extent at a time.
    column.io.limit_disk(Limits::new(8, 4 << 20));
    drop(written_file(&column, &path, EXTENTS * EXTENT_BYTES).await);
    let pinned: Rc<RefCell<Vec<Resident>>> = Rc::default();
    for extent in 0..EXTENTS {
        let (io, path, pinned) = (column.io.clone(), path.clone(), pinned.clone());
        column.io.spawn("pin", async move {
            let at = (extent * EXTENT_BYTES) as u64;
            let verify = |bytes: &[u8]| bytes.iter().all(|&byte| byte == 7);
            let pages = io.pin_resident(&path, at, EXTENT_BYTES, Class::Fill, verify).await.expect("read");
            pinned.borrow_mut().push(pages.expect("so much may be locked"));
        });
    }
    let mut most = 0;
    while pinned.borrow().len() < EXTENTS {
        most = most.max(of_class(&column, "basalt_io_in_flight", Class::Fill));
        column.io.sleep(50_000).await;
    }
    assert_eq!(most, 1, "in flight at once");
    let counted = || {
        ["basalt_io_operations_total", "basalt_io_bytes_total"]
            .map(|name| of_class(&column, name, Class::Fill))
    };
    assert_eq!(counted(), [EXTENTS as u64, (EXTENTS * EXTENT_BYTES) as u64]);
    let begin = counted();
    let again = column.io.pin_resident(&path, 0, EXTENT_BYTES, Class::Fill, |_| true).await.expect("there");
    assert!(again.is_some() && counted() == begin, "what is in memory is not read");
    assert_eq!(of_class(&column, "basalt_io_in_flight", Class::Fill), 0);
}

async fn drop_under_way(column: Column, path: PathBuf) {
    column.io.limit_disk(Limits::new(8, 4 << 20));
    let file = written_file(&column, &path, 16 * MIB).await;
    for round in 0..200 {
        let reads: Vec<_> = (0..12)
            .map(|_| {
                let buf = column.io.buffer(MIB).expect("memory");
                Box::pin(file.read_at(buf, MIB, 0))
            })
            .collect();
        let mut reads = reads;
        std::future::poll_fn(|cx| {
            // Some are in flight now, some wait, and all are dropped.
            assert!(reads.iter_mut().all(|read| read.as_mut().poll(cx).is_pending()));
            std::task::Poll::Ready(())
        })
        .await;
        if round % 2 == 0 {
            column.io.yield_now().await;
        }
        drop(reads);
        let buf = column.io.buffer(4096).expect("memory");
        let (written, _buf) = file.write_sync(buf, 4096, 0).await;
        written.expect("written");
    }
    let in_flight = |s: &Sample| s.family.name() == "basalt_io_in_flight";
    let left = |column: &Column| -> Vec<_> {
        column.io.samples().into_iter().filter(in_flight).map(|s| s.value).collect()
    };
    while left(&column).iter().any(|value| *value != Value::Gauge(0)) {
        column.io.sleep(1_000_000).await;
    }
}
