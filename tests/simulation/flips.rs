//! One byte of a data directory changes, of any file of any kind: afterwards the node serves right bytes or says clearly that it
//! cannot, never wrong bytes, and never panics. What is lost is what was in that byte, and nothing else (`harm`).

use crate::boot;
use crate::harm::{Harm, Harms};
use crate::model::{Blob, Model};
use crate::random::number;
use crate::script::{Op, begun, blobs, copy_of, look_at_all, machine, perform, shared, while_running};
use runtime::twin::{Image, Twin};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Bytes of each kind of file when it is no soak.
const BYTES_OF_KIND: u64 = 300;
const SECTOR_BYTES: u64 = 4096;

/// What came of a changed byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Came {
    Nothing,
    Refused,
    Unreadable,
    /// The last that was said of a blob.
    Lost,
}

/// A disk that has every kind of file on it, and what was acknowledged.
struct Scene {
    image: Image,
    blobs: Rc<Vec<Vec<Blob>>>,
    model: Model,
}

impl Scene {
    fn play() -> Scene {
        let blobs = blobs();
        let begin = begun(&blobs);
        let mut twin = Twin::resume(2, &begin.0);
        let shared = shared(&twin, &blobs, begin.1, true);
        let mut node = boot::start(&mut twin, machine(1)).expect("starts");
        let ops =
            vec![Op::PutSmall, Op::Upkeep, Op::PutLarge, Op::PutBriefForGood, Op::DeleteSmall, Op::PutSmall];
        while_running(&twin, &mut node, perform(twin.outside(), shared.clone(), ops), &mut |_| ());
        node.kill();
        let model = copy_of(&shared.model);
        Scene { image: twin.image(), blobs, model }
    }

    /// Every byte that was written, by kind of file.
    fn places(&self) -> BTreeMap<&'static str, Vec<(PathBuf, u64)>> {
        let mut places: BTreeMap<&str, Vec<(PathBuf, u64)>> = BTreeMap::new();
        for (path, size, sectors) in self.image.files() {
            let all = sectors.iter().flat_map(|at| *at..(at + SECTOR_BYTES).min(size));
            places.entry(kind(&path)).or_default().extend(all.map(|at| (path.clone(), at)));
        }
        assert_eq!(places.len(), 6, "{:?}", places.keys());
        places
    }

    /// Changes a byte, starts a node and looks at every blob.
    fn change(&self, path: &Path, (at, mask): (u64, u8), harm: &Harm) -> Result<Came, String> {
        let mut image = self.image.clone();
        assert!(image.flip_bits(path, at, mask), "{} has no byte {at}", path.display());
        let mut twin = Twin::resume(3, &image);
        let mut model = self.model.clone();
        model.unreadable = Some(BTreeSet::new());
        harm.unclaimed.iter().for_each(|&number| model.forgive(number));
        let shared = shared(&twin, &self.blobs, model, false);
        let stopped = match boot::start(&mut twin, machine(1)) {
            Ok(node) => look_at_all(&twin, node, &shared),
            Err(why) => Some(why),
        };
        let model = copy_of(&shared.model);
        match (model.violation, stopped) {
            (Some(violation), _) => Err(violation),
            (None, Some(why)) if harm.refused && names(&why, path) => Ok(Came::Refused),
            (None, Some(why)) => Err(format!("stops: {why}")),
            (None, None) => {
                let unreadable = model.unreadable.unwrap_or_default();
                if model.failures != unreadable.len() as u64
                    || !unreadable.iter().all(|n| harm.damaged == Some(*n))
                {
                    return Err(format!("{} failures, and {unreadable:?} cannot be read", model.failures));
                }
                let is_lost = harm.unclaimed.iter().any(|number| model.missing.contains(number));
                Ok(match (unreadable.is_empty(), is_lost) {
                    (false, _) => Came::Unreadable,
                    (true, true) => Came::Lost,
                    (true, false) => Came::Nothing,
                })
            }
        }
    }
}

/// Whether a message says which file it is.
fn names(why: &str, path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).expect("names are text");
    // A version that is not ours is that of the directory.
    why.contains(name) || name == "FORMAT" && why.contains("/data1 has format")
}

fn kind(path: &Path) -> &'static str {
    let name = path.file_name().and_then(|name| name.to_str()).expect("names are text");
    let kinds = ["FORMAT", "pack-", "index-", "checkpoint-", ".sums"];
    kinds.into_iter().find(|kind| name.contains(kind)).unwrap_or("object")
}

/// What is done to a byte. One hex digit is another by one bit, and not by two, which make it something that is none.
fn masks(kind: &str) -> &'static [u8] {
    if kind == "FORMAT" { &[1, 2, 4, 8, 16, 32, 64, 128] } else { &[0x41] }
}

/// The changes after which something is broken, and what came of the others.
fn broken_by(scene: &Scene, kinds: &[&str]) -> (Vec<String>, BTreeSet<(&'static str, Came)>) {
    let soak = number("BASALT_SEEDS").is_some();
    let harms = Harms::new(&scene.image, &scene.blobs[0]);
    let (mut broken, mut seen) = (Vec::new(), BTreeSet::new());
    for (kind, places) in scene.places().into_iter().filter(|(kind, _)| kinds.contains(kind)) {
        // Its first bytes, which say what it is, and others here and there.
        let step = if soak { 1 } else { (places.len() as u64 / BYTES_OF_KIND).max(1) as usize | 1 };
        let first = if soak { 0 } else { 64.min(places.len()) };
        let chosen = places[..first].iter().chain(places[first..].iter().step_by(step));
        let mut counts: BTreeMap<Came, u64> = BTreeMap::new();
        for ((path, at), mask) in chosen.flat_map(|place| masks(kind).iter().map(move |&mask| (place, mask)))
        {
            let harm = harms.of(path, *at);
            let came = catch_unwind(AssertUnwindSafe(|| scene.change(path, (*at, mask), &harm)));
            match came.unwrap_or_else(|_| Err("panicked".to_owned())) {
                Ok(came) => *counts.entry(came).or_default() += 1,
                Err(why) => {
                    broken.push(format!("{} byte {at} by {mask:#x}: {why} ({harm:?})", path.display()))
                }
            }
        }
        println!("{kind:<12} bytes changed, one at a time: {counts:?}");
        seen.extend(counts.keys().map(|came| (kind, *came)));
    }
    (broken, seen)
}

/// What is broken when a byte of an index changes.
pub fn broken_index() -> Option<String> {
    broken_by(&Scene::play(), &["index-"]).0.into_iter().next()
}

#[test]
fn any_one_byte_may_change() {
    std::panic::set_hook(Box::new(|_| ()));
    let kinds = ["FORMAT", "pack-", "index-", "checkpoint-", ".sums", "object"];
    let (broken, seen) = broken_by(&Scene::play(), &kinds);
    let _ = std::panic::take_hook();
    assert!(broken.is_empty(), "{} of them, first: {:?}", broken.len(), &broken[..broken.len().min(5)]);
    for wanted in [
        ("FORMAT", Came::Refused),
        ("checkpoint-", Came::Refused),
        ("index-", Came::Refused),
        ("pack-", Came::Lost),
        ("pack-", Came::Unreadable),
        ("object", Came::Unreadable),
        (".sums", Came::Unreadable),
    ] {
        assert!(seen.contains(&wanted), "{wanted:?} did not happen");
    }
}
