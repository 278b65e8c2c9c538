//! What origin, clients and judge share: objects, what the origin was asked and sent, what was purged, the first broken promise.

use super::lies::{LIES, Lie};
use super::objects::Object;
use runtime::twin::Watch;
use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;

/// A request as the origin saw it, and its answer.
#[derive(Clone, Debug)]
pub struct Logged {
    /// When its head had come.
    pub at_ns: u64,
    /// The same, by the calendar.
    pub at_s: u64,
    /// In which its connection began.
    pub boot: u64,
    pub object: usize,
    pub variant: usize,
    /// A client's own, passed on, not one of the cache.
    pub is_passed: bool,
    pub status: u16,
    pub lie: Lie,
    /// The version that the answer says holds.
    pub vouched: Option<usize>,
    /// The version of the bytes, and those of them that were sent.
    pub version: usize,
    pub sent: Range<u64>,
    /// Those that were to be sent.
    pub meant: Range<u64>,
}

/// What a purge names.
#[derive(Clone, Debug)]
pub enum Names {
    Object(usize),
    Prefix(usize),
    Group(usize),
    All,
}

impl Names {
    pub fn hits(&self, object: &Object) -> bool {
        match self {
            Names::Object(number) => *number == object.number,
            Names::Prefix(half) => *half == object.number % 2,
            Names::Group(third) => *third == object.number % 3,
            Names::All => true,
        }
    }
}

/// A purge that was answered, or an unsafe request that was.
#[derive(Clone, Debug)]
pub struct Purged {
    pub names: Names,
    pub is_soft: bool,
    /// The boot beyond which it need not hold: an unsafe method invalidates as well as the disks let it (RFC 9111 §4.4).
    pub until: Option<u64>,
    pub asked_ns: u64,
    pub answered_ns: u64,
}

/// What happened, so that a run that shows nothing is seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub whole: u64,
    pub hits: u64,
    pub partial: u64,
    pub misses: u64,
    pub stale: u64,
    pub passed: u64,
    pub ranges: u64,
    pub multiparts: u64,
    pub not_modified: u64,
    pub unsatisfied: u64,
    pub cut: u64,
    pub left: u64,
    pub refused: u64,
    pub purges: u64,
    pub versions: u64,
    pub lies: Vec<u64>,
}

impl Seen {
    /// Names and counts.
    pub fn counts(&self) -> Vec<(String, u64)> {
        let own = [
            ("whole", self.whole),
            ("hit", self.hits),
            ("partial", self.partial),
            ("miss", self.misses),
            ("stale", self.stale),
            ("passed", self.passed),
            ("206", self.ranges),
            ("multipart", self.multiparts),
            ("304", self.not_modified),
            ("416", self.unsatisfied),
            ("cut", self.cut),
            ("left", self.left),
            ("refused", self.refused),
            ("purges", self.purges),
            ("versions", self.versions),
        ];
        let own = own.into_iter().map(|(name, count)| (name.to_owned(), count));
        own.chain(LIES.iter().zip(&self.lies).map(|(lie, count)| (format!("{lie:?}"), *count))).collect()
    }

    pub fn add(&mut self, other: &Seen) {
        self.whole += other.whole;
        self.hits += other.hits;
        self.partial += other.partial;
        self.misses += other.misses;
        self.stale += other.stale;
        self.passed += other.passed;
        self.ranges += other.ranges;
        self.multiparts += other.multiparts;
        self.not_modified += other.not_modified;
        self.unsatisfied += other.unsatisfied;
        self.cut += other.cut;
        self.left += other.left;
        self.refused += other.refused;
        self.purges += other.purges;
        self.versions += other.versions;
        self.lies.resize(LIES.len(), 0);
        self.lies.iter_mut().zip(&other.lies).for_each(|(sum, count)| *sum += count);
    }
}

/// How much may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Calm {
    /// Nothing changes and nothing fails: every answer is whole, every slice is fetched once.
    Still,
    /// Objects change and are purged: who reads one that has changed may be cut off.
    Changing,
    /// Anything.
    None,
}

/// See the head of this file.
pub struct World {
    pub watch: Watch,
    pub slice_bytes: u64,
    pub calm: Cell<Calm>,
    /// What is deleted may come back with the next boot.
    pub disks_fail: Cell<bool>,
    /// Of a million answers so many are lies.
    pub lies_ppm: Cell<u32>,
    /// Lies to be told first, in this order.
    pub script: RefCell<Vec<Lie>>,
    pub objects: RefCell<Vec<Object>>,
    pub log: RefCell<Vec<Logged>>,
    pub purged: RefCell<Vec<Purged>>,
    pub boot: Cell<u64>,
    /// The node runs, and nobody has told it to stop.
    pub is_up: Cell<bool>,
    pub stop: Cell<bool>,
    pub running: Cell<usize>,
    pub operations: Cell<u64>,
    pub broken: RefCell<Option<String>>,
    pub seen: RefCell<Seen>,
}

impl World {
    pub fn new(watch: Watch, slice_bytes: u64, calm: Calm, objects: Vec<Object>) -> Rc<World> {
        let seen = Seen { lies: vec![0; LIES.len()], ..Seen::default() };
        Rc::new(World {
            watch,
            slice_bytes,
            calm: Cell::new(calm),
            disks_fail: Cell::new(false),
            lies_ppm: Cell::new(0),
            script: RefCell::default(),
            objects: RefCell::new(objects),
            log: RefCell::default(),
            purged: RefCell::default(),
            boot: Cell::new(0),
            is_up: Cell::new(false),
            stop: Cell::new(false),
            running: Cell::new(0),
            operations: Cell::new(0),
            broken: RefCell::default(),
            seen: RefCell::new(seen),
        })
    }

    pub fn is_broken(&self) -> bool {
        self.broken.borrow().is_some()
    }

    /// Notes the first promise that was broken.
    pub fn violate(&self, what: String) {
        self.broken.borrow_mut().get_or_insert(what);
    }

    /// The calendar, in seconds.
    pub fn now_s(&self) -> u64 {
        self.watch.unix_ms() / 1000
    }

    /// The last that happened to an object, for who has to understand a violation.
    pub fn history(&self, object: usize) -> String {
        let log = self.log.borrow();
        let lines: Vec<String> = log
            .iter()
            .filter(|logged| logged.object == object)
            .map(|l| {
                let Logged { at_ns, boot, status, lie, vouched, version, sent, meant, variant, .. } = l;
                let passed = if l.is_passed { "passed" } else { "" };
                format!(
                    "\n    boot {boot} {at_ns}: {status} {lie:?} vouched {vouched:?} version {version}.{variant} sent {sent:?} of {meant:?} {passed}"
                )
            })
            .collect();
        let objects = self.objects.borrow();
        let purged = self.purged.borrow();
        let purged = purged.iter().filter(|purged| purged.names.hits(&objects[object]));
        let purges: String = purged
            .map(|p| {
                format!("\n    purged {:?} soft {} {}..{}", p.names, p.is_soft, p.asked_ns, p.answered_ns)
            })
            .collect();
        let kind = objects[object].kind;
        let sizes: Vec<u64> = objects[object].versions.iter().map(super::objects::Version::size).collect();
        format!("\n    {kind:?} sizes {sizes:?}{}{purges}", lines[lines.len().saturating_sub(20)..].concat())
    }
}
