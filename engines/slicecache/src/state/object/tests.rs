//! One object: the rules by name, then random events against an origin that changes.

#![expect(clippy::single_range_in_vec_init, reason = "one range is what is meant")]

use super::super::fill::Why;
use super::super::subreply::NotSliced;
use super::super::validator::Validator;
use super::*;
use proptest::prelude::*;

const S: u64 = 1 << 20;
const SLICING: Slicing =
    Slicing { slice_size: SliceSize::Fixed(S), whole_below: 0, concurrency: Concurrency::Fixed(4) };

fn version(number: u64) -> Version {
    Version { validator: Validator::Tag(format!("\"{number}\"")), size: 3 * S }
}

fn fresh(now_s: u64) -> Freshness {
    Freshness {
        response_s: now_s,
        initial_age_s: 0,
        lifetime_s: 10,
        stale_while_revalidate_s: 5,
        stale_if_error_s: 20,
        must_revalidate: false,
        no_cache: false,
    }
}

fn first() -> FirstRun {
    FirstRun::From(0..S)
}

fn of(event: impl FnOnce(&mut Vec<Act>)) -> Vec<Act> {
    let mut acts = Vec::new();
    event(&mut acts);
    acts
}

fn arrive(object: &mut Object, reader: Reader, now_s: u64) -> Vec<Act> {
    of(|acts| object.on_arrived(reader, &CacheControl::default(), first(), now_s, acts).expect("few"))
}

fn known(held: &[u64]) -> Object {
    Object::stored(SLICING, (version(1), S), fresh(100), held.iter().copied())
}

fn ask_first() -> Act {
    Act::Ask(Asked::First(first()))
}

fn revalidate() -> Act {
    Act::Ask(Asked::Revalidation(first(), version(1)))
}

#[test]
fn one_first_run_for_all_who_wait() {
    let mut object = Object::new(SLICING);
    assert_eq!(arrive(&mut object, 1, 100), [ask_first()]);
    assert_eq!(arrive(&mut object, 2, 100), []);
    object.on_left(1);
    assert_eq!(arrive(&mut object, 3, 100), []);
    let acts = of(|acts| object.on_answer(Meaning::Run(0..S, version(1)), Ok(fresh(100)), acts));
    let answer = |reader| Act::Answer(reader, Use::Fresh);
    assert_eq!(acts, [Act::Adopt(0, 0..S), answer(2), answer(3)]);
    assert_eq!(arrive(&mut object, 4, 105), [answer(4)]);
}

#[test]
fn what_was_asked_before_a_purge_is_asked_again() {
    let mut object = Object::new(SLICING);
    arrive(&mut object, 1, 100);
    let first = Act::Ask(Asked::First(FirstRun::new(None, SLICING.slice_size)));
    assert_eq!(of(|acts| object.on_outdated(acts)), [Act::DropBody, first]);
    object.on_left(1);
    assert_eq!(of(|acts| object.on_outdated(acts)), [Act::DropBody]);
    let mut object = known(&[0]);
    arrive(&mut object, 1, 116);
    let again = Act::Ask(Asked::Revalidation(FirstRun::new(None, SLICING.slice_size), version(1)));
    assert_eq!(of(|acts| object.on_outdated(acts)), [Act::DropBody, again]);
    assert!(object.fill().is_some(), "what was stored before is judged by itself");
}

#[test]
fn one_revalidation_for_all_who_wait() {
    let mut object = known(&[0, 1, 2]);
    assert_eq!(arrive(&mut object, 1, 116), [revalidate()]);
    assert_eq!(arrive(&mut object, 2, 117), []);
    let acts = of(|acts| object.on_answer(Meaning::NotModified, Ok(fresh(117)), acts));
    assert_eq!(acts, [Act::DropBody, Act::Answer(1, Use::Fresh), Act::Answer(2, Use::Fresh)]);
    assert_eq!(arrive(&mut object, 3, 120), [Act::Answer(3, Use::Fresh)]);
    let (_, _, fill) = object.fill().expect("known");
    assert_eq!(fill.counts(&[0..3 * S]), (3, 3));
}

fn unasked_never(now_s: u64) -> Freshness {
    Freshness { no_cache: true, ..fresh(now_s) }
}

fn validate(reader: Reader, number: u64) -> Act {
    Act::Validate(reader, Asked::Revalidation(FirstRun::new(None, SLICING.slice_size), version(number)))
}

#[test]
fn what_may_not_be_used_again_unasked_is_asked_about_by_each() {
    let expired = Freshness { lifetime_s: 0, stale_while_revalidate_s: 0, ..fresh(100) };
    for freshness in [unasked_never(100), expired] {
        let mut object = Object::new(SLICING);
        (1..6).for_each(|reader| drop(arrive(&mut object, reader, 100)));
        let acts = of(|acts| object.on_answer(Meaning::Run(0..S, version(1)), Ok(freshness), acts));
        let (answered, alone) = acts.split_at(2);
        assert_eq!(answered, [Act::Adopt(0, 0..S), Act::Answer(1, Use::Fresh)]);
        assert_eq!(alone, [2, 3, 4, 5].map(|reader| validate(reader, 1)));
        object.on_left(5);
        assert_eq!(of(|acts| object.on_validated(5, Validated::Otherwise, acts)), []);
        let acts = of(|acts| object.on_validated(2, Validated::Holds(fresh(101)), acts));
        assert_eq!(acts, [Act::Answer(2, Use::Fresh)]);
        assert_eq!(arrive(&mut object, 6, 102), [Act::Answer(6, Use::Fresh)], "a 304 made it fresh");
        assert_eq!(of(|acts| object.on_validated(3, Validated::Refused(403), acts)), [Act::Pass(3)]);
        assert_eq!(arrive(&mut object, 7, 102), [revalidate()], "it is forbidden");
        of(|acts| object.on_changed(acts));
        let acts = of(|acts| object.on_validated(4, Validated::Holds(fresh(102)), acts));
        assert_eq!(acts, [Act::Pass(4)], "it was asked about a version that is no more");
    }
    let mut kept = Object::new(SLICING);
    (1..4).for_each(|reader| drop(arrive(&mut kept, reader, 100)));
    let acts = of(|acts| kept.on_kept(unasked_never(100), acts));
    assert_eq!(acts, [Act::AnswerKept(1, Use::Fresh), Act::Pass(2), Act::Pass(3)]);
}

#[test]
fn what_may_be_used_again_for_some_is_shared_with_those() {
    let mut object = Object::new(SLICING);
    let asks = [
        CacheControl::default(),
        CacheControl { no_cache: true, ..CacheControl::default() },
        CacheControl { max_age_s: Some(0), ..CacheControl::default() },
        CacheControl { min_fresh_s: Some(60), stale_if_error_s: Some(9), ..CacheControl::default() },
    ];
    for (reader, control) in (1..).zip(&asks) {
        object.on_arrived(reader, control, first(), 100, &mut Vec::new()).expect("few");
    }
    let acts = of(|acts| object.on_answer(Meaning::Run(0..S, version(1)), Ok(fresh(100)), acts));
    let answer = |reader| Act::Answer(reader, Use::Fresh);
    assert_eq!(acts, [Act::Adopt(0, 0..S), answer(1), validate(2, 1), answer(3), validate(4, 1)]);
    assert_eq!(of(|acts| object.on_validated(2, Validated::Failed, acts)), [Act::Answer(2, Use::Stale)]);
    let acts = of(|acts| object.on_validated(4, Validated::Otherwise, acts));
    assert_eq!(acts, [Act::Pass(4)]);
}

#[test]
fn stale_while_revalidate_asks_once_and_nobody_waits() {
    let mut object = known(&[0]);
    let stale = |reader| Act::Answer(reader, Use::StaleWhileRevalidate);
    assert_eq!(arrive(&mut object, 1, 112), [stale(1), revalidate()]);
    assert_eq!(arrive(&mut object, 2, 113), [stale(2)]);
    assert_eq!(of(|acts| object.on_failed(acts)), []);
    assert_eq!(arrive(&mut object, 3, 114), [stale(3), revalidate()]);
}

#[test]
fn stale_if_error() {
    let mut object = known(&[0]);
    arrive(&mut object, 1, 125);
    assert_eq!(of(|acts| object.on_failed(acts)), [Act::Answer(1, Use::Stale)]);
    arrive(&mut object, 2, 131);
    assert_eq!(of(|acts| object.on_failed(acts)), [Act::Fail(2)]);
    arrive(&mut object, 3, 125);
    // RFC 5861 §4 lists 500, 502, 503 and 504: an origin that says anything else does not fail.
    let refused = of(|acts| object.on_answer(Meaning::Refused(429), Ok(fresh(125)), acts));
    assert_eq!(refused, [Act::Pass(3)]);
    let mut unknown = Object::new(SLICING);
    arrive(&mut unknown, 1, 100);
    assert_eq!(of(|acts| unknown.on_failed(acts)), [Act::Fail(1)]);
}

#[test]
fn what_the_origin_forbids_is_not_served_stale_until_it_is_allowed_again() {
    let takes_anything = CacheControl {
        max_stale_s: Some(u64::MAX),
        stale_if_error_s: Some(u64::MAX),
        ..CacheControl::default()
    };
    for (status, is_forbidden) in
        [(401, true), (403, true), (407, true), (451, true), (425, false), (429, false), (501, false)]
    {
        let mut object = known(&[0]);
        arrive(&mut object, 1, 120);
        let acts = of(|acts| object.on_answer(Meaning::Refused(status), Ok(fresh(120)), acts));
        assert_eq!(acts, [Act::Pass(1)], "{status}");
        let acts = of(|acts| object.on_arrived(2, &takes_anything, first(), 120, acts).expect("few"));
        let stale = Act::Answer(2, Use::Stale);
        let expected = if is_forbidden { [revalidate()] } else { [stale] };
        assert_eq!(acts, expected, "{status}");
        if is_forbidden {
            assert_eq!(of(|acts| object.on_failed(acts)), [Act::Fail(2)], "{status}");
            arrive(&mut object, 3, 120);
            let acts = of(|acts| object.on_answer(Meaning::NotModified, Ok(fresh(120)), acts));
            assert_eq!(acts, [Act::DropBody, Act::Answer(3, Use::Fresh)], "{status}");
        }
    }
}

#[test]
fn a_new_version_ends_the_old_one_before_it_begins() {
    let mut object = known(&[0, 2]);
    arrive(&mut object, 1, 100);
    let (_, _, fill) = object.fill().expect("known");
    fill.read(1, vec![S..3 * S], &mut Vec::new()).expect("few");
    arrive(&mut object, 2, 140);
    let acts = of(|acts| object.on_answer(Meaning::Run(0..S, version(2)), Ok(fresh(140)), acts));
    let of_old = [
        Effect::Cancel(0),
        Effect::End(1, Why::Changed),
        Effect::Drop(0),
        Effect::Forget(1),
        Effect::Drop(2),
    ];
    let (ended, begun) = acts.split_at(of_old.len());
    assert_eq!(ended, of_old.map(Act::Fill));
    // Numbers of fetches go on: a late answer to one of the old version is none to one of the new.
    assert_eq!(begun, [Act::Adopt(1, 0..S), Act::Answer(2, Use::Fresh)]);
    assert_eq!(object.fill().map(|(version, ..)| version.clone()), Some(version(2)));
}

#[test]
fn a_slice_that_shows_a_change_heals_with_the_next_request() {
    let mut object = known(&[0]);
    let acts = of(|acts| object.on_changed(acts));
    assert_eq!(acts, [Act::Fill(Effect::Drop(0))]);
    assert_eq!(arrive(&mut object, 1, 100), [ask_first()]);
    let mut object = known(&[0]);
    arrive(&mut object, 1, 140);
    // Who waits for the revalidation under way goes on waiting for it.
    assert_eq!(of(|acts| object.on_changed(acts)), [Act::Fill(Effect::Drop(0))]);
    for (meaning, acts) in
        [(Meaning::NotModified, vec![Act::DropBody, ask_first()]), (Meaning::Changed, vec![ask_first()])]
    {
        assert_eq!(of(|acts| object.on_answer(meaning.clone(), Ok(fresh(140)), acts)), acts, "{meaning:?}");
    }
}

#[test]
fn what_cannot_be_sliced_is_passed_through() {
    let table = [
        Meaning::Relay,
        Meaning::AskWhole(NotSliced::Encoded),
        Meaning::Whole { version: None, is_same: false },
    ];
    for meaning in table {
        let mut object = Object::new(SLICING);
        arrive(&mut object, 1, 100);
        arrive(&mut object, 2, 100);
        let acts = of(|acts| object.on_answer(meaning.clone(), Ok(fresh(100)), acts));
        assert_eq!(acts, [Act::Pass(1), Act::Pass(2)], "{meaning:?}");
        assert_eq!(arrive(&mut object, 3, 100), [ask_first()], "{meaning:?}");
    }
    let mut huge = Object::new(SLICING);
    arrive(&mut huge, 1, 100);
    let version = Version { size: (SLICES_MAX + 1) * S, ..version(1) };
    let acts = of(|acts| huge.on_answer(Meaning::Run(0..S, version), Ok(fresh(100)), acts));
    assert_eq!(acts, [Act::DropBody, Act::Pass(1)]);
}

/// An origin that answers If-Match with 412 whatever it has would otherwise cut every response at its second slice, for ever.
#[test]
fn an_origin_that_denies_what_it_has_is_asked_without_conditions() {
    for (number, sends) in [(1, false), (2, true)] {
        let mut object = known(&[0]);
        object.on_changed(&mut Vec::new());
        arrive(&mut object, 1, 100);
        assert!(object.sends_preconditions());
        object.on_answer(Meaning::Run(0..S, version(number)), Ok(fresh(100)), &mut Vec::new());
        assert_eq!(object.sends_preconditions(), sends, "{number}");
    }
}

#[test]
fn what_must_not_be_stored_is_not_shared() {
    let same = || Meaning::Whole { version: Some(version(1)), is_same: true };
    for meaning in [Meaning::Run(0..S, version(2)), Meaning::NotModified, same()] {
        let mut object = known(&[0]);
        arrive(&mut object, 1, 140);
        arrive(&mut object, 2, 140);
        let acts = of(|acts| object.on_answer(meaning.clone(), Err(NotStored::Private), acts));
        let expected = [Act::DropBody, Act::Fill(Effect::Drop(0)), Act::Pass(1), Act::Pass(2)];
        assert_eq!(acts, expected, "{meaning:?}");
        assert_eq!(arrive(&mut object, 3, 140), [ask_first()], "{meaning:?}");
    }
}

#[test]
fn who_asks_beyond_the_end_learns_the_size_by_a_second_question() {
    let mut object = Object::new(SLICING);
    arrive(&mut object, 1, 100);
    let acts = of(|acts| object.on_answer(Meaning::Beyond(7), Ok(fresh(100)), acts));
    assert_eq!(acts, [Act::Ask(Asked::First(FirstRun::Last(S)))]);
    let small = Version { size: 7, ..version(1) };
    let acts = of(|acts| object.on_answer(Meaning::Run(0..7, small), Ok(fresh(100)), acts));
    assert_eq!(acts, [Act::Adopt(0, 0..7), Act::Answer(1, Use::Fresh)]);
}

#[test]
fn an_object_below_the_size_for_that_is_one_slice() {
    let slicing = Slicing { whole_below: 3 * S, ..SLICING };
    for (size, count) in [(3 * S - 1, 1), (3 * S, 3)] {
        let mut object = Object::new(slicing);
        assert_eq!(object.first_run(Some(b"bytes=5-")), FirstRun::From(0..3 * S));
        assert_eq!(object.first_run(Some(b"bytes=1048576-")), FirstRun::From(S..2 * S));
        let first = object.first_run(None);
        object.on_arrived(1, &CacheControl::default(), first, 100, &mut Vec::new()).expect("few");
        let version = Version { size, ..version(1) };
        let acts = of(|acts| object.on_answer(Meaning::Run(0..size, version), Ok(fresh(100)), acts));
        assert_eq!(acts, [Act::Adopt(0, 0..size), Act::Answer(1, Use::Fresh)], "it comes at once");
        let (_, _, fill) = object.fill().expect("known");
        assert_eq!(fill.slices().count(), count);
    }
    assert_eq!(Slicing { whole_below: 5, ..SLICING }.first_run(None), first(), "a slice at least");
}

#[test]
fn only_if_cached_asks_nobody() {
    let control = CacheControl { only_if_cached: true, ..CacheControl::default() };
    for (mut object, now_s) in [(Object::new(SLICING), 100), (known(&[]), 130)] {
        let acts = of(|acts| object.on_arrived(1, &control, first(), now_s, acts).expect("few"));
        assert_eq!(acts, [Act::RefuseOnlyIfCached(1)]);
    }
}

#[test]
fn a_soft_purge_asks_before_it_serves() {
    let mut object = known(&[0]);
    object.on_soft_purge();
    let stale = Act::Answer(1, Use::StaleWhileRevalidate);
    assert_eq!(arrive(&mut object, 1, 101), [stale, revalidate()]);
    object.on_answer(Meaning::NotModified, Ok(fresh(101)), &mut Vec::new());
    assert_eq!(arrive(&mut object, 2, 102), [Act::Answer(2, Use::Fresh)]);
}

#[test]
fn those_who_wait_are_bounded() {
    let mut object = Object::new(SLICING);
    object.is_asking = true;
    let waiting = |reader| Waiting { reader, if_error: false, control: CacheControl::default() };
    object.waiting = (1..READERS_MAX as Reader).map(waiting).collect();
    object.alone.insert(0, Alone { if_error: false, epoch: 0 });
    let arrived = object.on_arrived(Reader::MAX, &CacheControl::default(), first(), 100, &mut Vec::new());
    assert_eq!(arrived, Err(Busy));
}

proptest! {
    /// Whatever the origin does: everybody who arrives is told something exactly once, one question is under way at most, and an
    /// answer is given from the newest version that the origin made known.
    #[test]
    fn everybody_is_told_something(steps in prop::collection::vec((0..13_u8, 0..8_u64), 1..80)) {
        let mut object = Object::new(SLICING);
        let (mut now_s, mut number, mut asked) = (100, 1, None);
        let (mut untold, mut alone) = (Vec::new(), Vec::new());
        for (reader, (what, after_s)) in (0..).zip(steps) {
            now_s += after_s;
            let acts = match (what, asked.is_some()) {
                (9..=11, _) if !alone.is_empty() => {
                    let said = [Validated::Holds(fresh(now_s)), Validated::Otherwise, Validated::Failed];
                    let reader = alone.remove(0);
                    of(|acts| object.on_validated(reader, said[usize::from(what) - 9], acts))
                }
                (9..=11, _) => Vec::new(),
                (12, true) => {
                    number += 1;
                    let acts = of(|acts| object.on_answer(Meaning::Run(0..S, version(number)), Ok(unasked_never(now_s)), acts));
                    let answers = acts.iter().filter(|act| matches!(act, Act::Answer(..))).count();
                    prop_assert_eq!(answers, untold.len().saturating_sub(alone.len()).min(1), "one alone is answered");
                    acts
                }
                (0..=3, _) | (_, false) => {
                    untold.push(reader);
                    arrive(&mut object, reader, now_s)
                }
                (4, true) => of(|acts| object.on_failed(acts)),
                (5, true) => {
                    number += 1;
                    of(|acts| object.on_answer(Meaning::Run(0..S, version(number)), Ok(fresh(now_s)), acts))
                }
                (6, true) if matches!(asked, Some(Asked::Revalidation(..))) => {
                    of(|acts| object.on_answer(Meaning::NotModified, Ok(fresh(now_s)), acts))
                }
                (7, true) if matches!(asked, Some(Asked::Revalidation(..))) => {
                    of(|acts| object.on_answer(Meaning::Changed, Ok(fresh(now_s)), acts))
                }
                (8, true) => of(|acts| object.on_changed(acts)),
                _ => of(|acts| object.on_answer(Meaning::Relay, Ok(fresh(now_s)), acts)),
            };
            if !matches!(what, 0..=3 | 8..=11) {
                asked = None;
            }
            for act in acts {
                match act {
                    Act::Validate(reader, _) => alone.push(reader),
                    Act::Ask(what) => prop_assert!(asked.replace(what).is_none(), "two questions"),
                    Act::Answer(reader, _) | Act::Pass(reader) | Act::Fail(reader) => {
                        let at = untold.iter().position(|other| *other == reader);
                        untold.remove(at.expect("somebody who waits"));
                        if let Act::Answer(..) = act {
                            prop_assert_eq!(&object.known.as_ref().expect("known").version, &version(number));
                        }
                    }
                    Act::AnswerKept(..) | Act::RefuseOnlyIfCached(_) => prop_assert!(false, "nobody asked for that"),
                    Act::Adopt(..) | Act::DropBody | Act::Fill(_) => {}
                }
            }
            let waits_alone = untold.iter().all(|reader| alone.contains(reader));
            prop_assert!(waits_alone || asked.is_some(), "somebody waits for nothing");
        }
    }
}

#[test]
fn an_object_without_ranges_is_one_slice() {
    let mut object = Object::new(SLICING);
    arrive(&mut object, 1, 100);
    let whole = |size| Meaning::Whole { version: Some(Version { size, ..version(1) }), is_same: false };
    let acts = of(|acts| object.on_answer(whole(WHOLE_BYTES_MAX), Ok(fresh(100)), acts));
    assert_eq!(acts, [Act::Adopt(0, 0..WHOLE_BYTES_MAX), Act::Answer(1, Use::Fresh)]);
    assert_eq!(object.fill().map(|(_, _, fill)| fill.slices().count()), Some(1));
    let mut empty = Object::new(SLICING);
    arrive(&mut empty, 1, 100);
    let acts = of(|acts| empty.on_answer(Meaning::Beyond(0), Ok(fresh(100)), acts));
    assert_eq!(acts, [Act::Ask(Asked::First(FirstRun::Whole))]);
    let acts = of(|acts| empty.on_answer(whole(0), Ok(fresh(100)), acts));
    assert_eq!(acts, [Act::DropBody, Act::Answer(1, Use::Fresh)]);
    for (meaning, freshness) in
        [(whole(WHOLE_BYTES_MAX + 1), Ok(fresh(100))), (whole(7), Err(NotStored::NoStore))]
    {
        let mut passed = Object::new(SLICING);
        arrive(&mut passed, 1, 100);
        assert_eq!(of(|acts| passed.on_answer(meaning.clone(), freshness, acts)), [Act::Pass(1)]);
    }
}

#[test]
fn what_is_kept_answers_as_long_as_it_is_fresh_and_goes_when_there_is_more() {
    let mut object = Object::new(SLICING);
    for reader in 1..3 {
        arrive(&mut object, reader, 100);
    }
    let acts = of(|acts| object.on_kept(fresh(100), acts));
    assert_eq!(acts, [1, 2].map(|reader| Act::AnswerKept(reader, Use::Fresh)));
    assert_eq!(arrive(&mut object, 3, 101), [Act::AnswerKept(3, Use::Fresh)]);
    object.on_soft_purge();
    assert_eq!(arrive(&mut object, 4, 140), [ask_first()]);
    let acts = of(|acts| object.on_answer(Meaning::Run(0..S, version(1)), Ok(fresh(140)), acts));
    assert_eq!(acts, [Act::Adopt(0, 0..S), Act::Answer(4, Use::Fresh)]);
    assert!(object.kept().is_none());
    // A version goes when an answer takes its place.
    let mut object = known(&[0]);
    arrive(&mut object, 1, 140);
    let acts = of(|acts| object.on_answer(Meaning::Changed, Ok(fresh(140)), acts));
    assert_eq!(acts, [Act::Fill(Effect::Drop(0)), ask_first()]);
    assert_eq!(of(|acts| object.on_kept(fresh(140), acts)), [Act::AnswerKept(1, Use::Fresh)]);
}
