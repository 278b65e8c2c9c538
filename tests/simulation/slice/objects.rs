//! What the origin has: objects, each with all versions that it ever had, and how long an answer about it may be used.
//!
//! Called by `origin`, which serves the newest version, and by `judge`, which knows them all.

use net::http1::HttpDate;
use runtime::twin::Rng;
use std::collections::BTreeSet;
use std::rc::Rc;
use tests::content;

/// What the node is told to take for the lifetime when the origin states none.
pub const CACHE_TTL_S: u64 = 8;
/// Of the greatest object, in slices.
const SLICES_MAX: u64 = 5;
/// The Last-Modified of the first version: long before the world begins.
const MODIFIED_S: u64 = 1_700_000_000;
/// What Accept may be, of objects that depend on it.
pub const VARIANTS: [&str; 2] = ["text/a", "text/b"];

/// What tells two versions apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validated {
    ByTag,
    ByDate,
    /// Nothing does: it is never shared.
    Not,
}

/// How an object may be cached.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    pub validated: Validated,
    pub control: Option<&'static str>,
    /// How long an answer about it is good without asking, in seconds.
    pub fresh_s: u64,
    /// How long after that it may be served, under conditions.
    pub stale_s: u64,
    /// Its answers may be given to others than who asked.
    pub is_shared: bool,
    /// Its bytes depend on Accept.
    pub varies: bool,
}

const TAGGED: Kind = Kind {
    validated: Validated::ByTag,
    control: None,
    fresh_s: CACHE_TTL_S,
    stale_s: 0,
    is_shared: true,
    varies: false,
};

/// All kinds.
pub const KINDS: [Kind; 10] = [
    TAGGED,
    Kind { control: Some("max-age=30"), fresh_s: 30, ..TAGGED },
    Kind { control: Some("max-age=4, must-revalidate"), fresh_s: 4, ..TAGGED },
    Kind { control: Some("max-age=3, stale-if-error=9"), fresh_s: 3, stale_s: 9, ..TAGGED },
    Kind { control: Some("max-age=2, stale-while-revalidate=6"), fresh_s: 2, stale_s: 6, ..TAGGED },
    Kind { validated: Validated::ByDate, control: Some("max-age=5"), fresh_s: 5, ..TAGGED },
    Kind { control: Some("max-age=6"), fresh_s: 6, varies: true, ..TAGGED },
    Kind { control: Some("no-cache"), fresh_s: 0, ..TAGGED },
    Kind { control: Some("no-store"), fresh_s: 0, is_shared: false, ..TAGGED },
    Kind { validated: Validated::Not, control: Some("max-age=5"), fresh_s: 5, ..TAGGED },
];

/// What an object was from one change to the next.
#[derive(Debug)]
pub struct Version {
    /// One for each variant, all of one size.
    pub bytes: Vec<Rc<Vec<u8>>>,
    /// What the origin ever said that the size is: more than one when it lies.
    pub sizes_said: BTreeSet<u64>,
}

impl Version {
    pub fn size(&self) -> u64 {
        self.bytes[0].len() as u64
    }
}

/// See the head of this file.
#[derive(Debug)]
pub struct Object {
    pub number: usize,
    pub kind: Kind,
    /// All of them; the last one holds.
    pub versions: Vec<Version>,
}

impl Object {
    pub fn new(number: usize, kind: Kind, slice_bytes: u64, rng: &mut Rng) -> Object {
        Object::of_size(number, kind, size(slice_bytes, rng), rng)
    }

    pub fn of_size(number: usize, kind: Kind, size: u64, rng: &mut Rng) -> Object {
        let mut object = Object { number, kind, versions: Vec::new() };
        object.push(size, rng);
        object
    }

    fn push(&mut self, size: u64, rng: &mut Rng) {
        let variants = if self.kind.varies { VARIANTS.len() } else { 1 };
        let bytes = (0..variants).map(|_| Rc::new(content::bytes(rng.any(), size as usize))).collect();
        self.versions.push(Version { bytes, sizes_said: BTreeSet::from([size]) });
    }

    /// From now on it is another one, of the same size as often as not.
    pub fn change(&mut self, slice_bytes: u64, rng: &mut Rng) {
        let same = self.versions[self.versions.len() - 1].size();
        let size = if rng.below(2) == 0 { same } else { size(slice_bytes, rng) };
        self.push(size, rng);
    }

    /// The number of the version that holds.
    pub fn current(&self) -> usize {
        self.versions.len() - 1
    }

    /// Two groups of paths.
    pub fn path(&self) -> String {
        format!("{}{}", prefix(self.number % 2), self.number)
    }

    /// A tag for purges; each has two or three objects.
    pub fn group(&self) -> String {
        group(self.number % 3)
    }

    pub fn variant(&self, accept: Option<&str>) -> usize {
        let at = VARIANTS.iter().position(|variant| Some(*variant) == accept);
        if self.kind.varies { at.unwrap_or(0) } else { 0 }
    }

    /// The fields by which a version is known.
    pub fn validators(&self, version: usize) -> Vec<(&'static str, String)> {
        match self.kind.validated {
            Validated::ByTag => Vec::from([("ETag", tag(version))]),
            Validated::ByDate => Vec::from([("Last-Modified", modified(version))]),
            Validated::Not => Vec::new(),
        }
    }

    /// Whether who has `had` needs nothing of `version`: a date says that of all that is no newer.
    pub fn is_had(&self, had: Option<usize>, version: usize) -> bool {
        match self.kind.validated {
            Validated::ByDate => had.is_some_and(|had| had >= version),
            _ => had == Some(version),
        }
    }

    /// The version that a tag or a date names.
    pub fn version_of(&self, validator: &str) -> Option<usize> {
        (0..self.versions.len()).find(|version| match self.kind.validated {
            Validated::ByTag => tag(*version) == validator,
            Validated::ByDate => modified(*version) == validator,
            Validated::Not => false,
        })
    }
}

pub fn prefix(half: usize) -> &'static str {
    ["/x/", "/y/"][half]
}

pub fn group(third: usize) -> String {
    format!("group-{third}")
}

fn tag(version: usize) -> String {
    format!("\"v{version}\"")
}

fn modified(version: usize) -> String {
    date(MODIFIED_S + 100 * version as u64)
}

/// As HTTP writes it.
pub fn date(unix_s: u64) -> String {
    String::from_utf8_lossy(HttpDate::at(unix_s).as_bytes()).into_owned()
}

/// On both sides of where slices begin and end, and anywhere between.
fn size(slice_bytes: u64, rng: &mut Rng) -> u64 {
    let slices = rng.within(1, SLICES_MAX - 1);
    match rng.below(16) {
        0 => 0,
        1 => rng.within(1, 300),
        2 => slices * slice_bytes - 1,
        3 => slices * slice_bytes,
        4 => slices * slice_bytes + 1,
        _ => rng.within(1, SLICES_MAX * slice_bytes),
    }
}
