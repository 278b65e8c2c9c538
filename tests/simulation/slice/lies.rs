//! The ways in which an origin's answer goes wrong; each alone, at every place of a short script.

use super::ask::{Ask, Wanted};
use super::client::Pace;
use super::objects::{KINDS, Object};
use super::origin;
use super::run::{SLICE_BYTES, slice_plan, start};
use super::settled::settle;
use super::workload::Worker;
use super::world::{Calm, World};
use crate::boot;
use runtime::io::Io;
use runtime::twin::{FaultPlan, Rng, Twin, TwinIo};
use std::rc::Rc;

/// A lie, or another thing that an origin may do and that nobody likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    None,
    /// The range asked for, moved by a byte, and labelled so.
    Shifted,
    /// Its first half.
    Half,
    /// Any other.
    Elsewhere,
    /// Content-Range tells a byte more than there is.
    WrongSize,
    /// 200 to a Range.
    WholeForRange,
    /// The connection ends in the middle of the body.
    ShortBody,
    /// It is reset there.
    BreaksOff,
    /// No answer.
    Hangs,
    /// The body stops in the middle.
    HangsInBody,
    /// 503, Retry-After: 1.
    Unavailable,
    /// 503, Retry-After: 60.
    NotNow,
    /// 500.
    Fails,
    /// 304, whatever was asked.
    UnaskedNotModified,
    /// 304, and of which version is not said.
    BlindNotModified,
    /// 304 with a tag that no version has.
    ForeignNotModified,
    /// 302.
    Redirects,
    /// 404.
    Gone,
    /// 403.
    Forbidden,
    /// If-Match and the like are not looked at.
    IgnoresConditions,
    /// No ETag, no Last-Modified.
    NoValidator,
    /// The tag is weak.
    WeakValidator,
    /// Content-Encoding: gzip.
    Encoded,
    /// Cache-Control: no-store, this once.
    NoStore,
    /// Chunked, which is no lie.
    Chunked,
    /// The end of the connection is that of the body, which is none either.
    UntilClose,
    /// More bytes than were announced.
    LongBody,
    /// And they are an answer, to whoever takes them for one. They come with the last byte: nobody could tell later ones from the
    /// answer to the next request.
    Forges,
    /// Not HTTP.
    Garbage,
    /// The object changes before it is answered.
    Changes,
    /// And If-Match is not looked at.
    ChangesAndIgnores,
}

/// All of them but [`Lie::Forges`], which a network that parts what was sent at once makes one that cannot be seen through.
pub const LIES: [Lie; 29] = [
    Lie::Shifted,
    Lie::Half,
    Lie::Elsewhere,
    Lie::WrongSize,
    Lie::WholeForRange,
    Lie::ShortBody,
    Lie::BreaksOff,
    Lie::Hangs,
    Lie::HangsInBody,
    Lie::Unavailable,
    Lie::NotNow,
    Lie::Fails,
    Lie::UnaskedNotModified,
    Lie::BlindNotModified,
    Lie::ForeignNotModified,
    Lie::Redirects,
    Lie::Gone,
    Lie::Forbidden,
    Lie::IgnoresConditions,
    Lie::NoValidator,
    Lie::WeakValidator,
    Lie::Encoded,
    Lie::NoStore,
    Lie::Chunked,
    Lie::UntilClose,
    Lie::LongBody,
    Lie::Garbage,
    Lie::Changes,
    Lie::ChangesAndIgnores,
];

/// Answers of the origin from which on a lie is told: the first one, one of a slice, one of a revalidation.
const PLACES: usize = 5;
/// Objects that are told apart by tags and by dates, that depend on fields, that are asked about each time.
const TOLD_OF: [usize; 4] = [1, 5, 6, 7];
const LIMIT_NS: u64 = 3600 * 1_000_000_000;
/// Longer than anything is good for.
const STALE_MS: u64 = 60_000;

/// One lie, told in the place of the origin's `place`-th answer: whoever asks gets what is right or nothing, and the cache heals.
fn tell(lie: Lie, place: usize, kind: usize) -> Result<(), String> {
    let seed = (place * KINDS.len() + kind) as u64;
    let (slice_bytes, mut rng) = (SLICE_BYTES[0], Rng::new(seed));
    let mut twin = Twin::new(seed, 1 << 30, FaultPlan::none());
    let object = Object::of_size(0, KINDS[kind], 3 * slice_bytes + 5, &mut rng);
    let world = World::new(twin.watch(), slice_bytes, Calm::None, Vec::from([object]));
    world.script.borrow_mut().resize(place, Lie::None);
    world.script.borrow_mut().push(lie);
    origin::serve(&twin.outside(), &world, seed);
    let node = start(&mut twin, &world, (1, 1, 512 << 20), &slice_plan(slice_bytes, &mut rng))?;
    twin.run(LIMIT_NS, ask_thrice(twin.outside(), world.clone()));
    world.script.borrow_mut().clear();
    settle(&twin, &world);
    boot::stop(&twin, node);
    world.broken.borrow().clone().map_or(Ok(()), Err)
}

/// The whole object, its end, and the whole when what is stored is stale.
async fn ask_thrice(io: TwinIo, world: Rc<World>) {
    let mut worker = Worker::new(&io, &world, Rng::new(1));
    worker.ask(&Ask::whole(0), Pace::Quick).await;
    worker.ask(&Ask { wanted: Wanted::Last(9), ..Ask::whole(0) }, Pace::Quick).await;
    world.watch.advance_calendar(STALE_MS);
    // Whoever left the origin alone asks it again.
    io.sleep(STALE_MS * 1_000_000).await;
    worker.ask(&Ask::whole(0), Pace::Quick).await;
}

#[test]
fn no_lie_makes_a_wrong_byte_and_the_cache_heals() {
    for lie in LIES.into_iter().chain([Lie::Forges]) {
        for place in 0..PLACES {
            for kind in TOLD_OF {
                let told = tell(lie, place, kind);
                let why = told.err().unwrap_or_default();
                assert!(why.is_empty(), "{lie:?} in place of answer {place} about {:?}: {why}", KINDS[kind]);
            }
        }
    }
}
