//! Fill: the cases that matter by name, then random events against a model that keeps bytes and counts naively.

#![expect(clippy::single_range_in_vec_init, reason = "one range is what is meant")]

use super::super::slices::SliceSize;
use super::*;
use crate::limits::{READERS_MAX, SLICE_BYTES_MIN, SLICES_MAX};
use proptest::prelude::*;
use std::time::{Duration, Instant};

const S: u64 = SLICE_BYTES_MIN;

fn fill(slices: u64, runs_max: usize) -> Fill {
    Fill::new(Slices::new(slices * S - 1, SliceSize::Fixed(S)), runs_max, [], 0)
}

/// The effects of an event.
fn of<T>(event: impl FnOnce(&mut Vec<Effect>) -> T) -> Vec<Effect> {
    let mut effects = Vec::new();
    event(&mut effects);
    effects
}

fn starts(effects: &[Effect]) -> Vec<u64> {
    let run = |effect: &Effect| match effect {
        Effect::Start(_, run) => Some(run.start / S),
        _ => None,
    };
    effects.iter().filter_map(run).collect()
}

#[test]
fn a_thousand_readers_of_one_slice_are_one_fetch() {
    let mut fill = fill(1, 4);
    let mut started = Vec::new();
    for reader in 0..1000 {
        started.extend(of(|e| fill.read(reader, vec![0..1000], e)));
        assert_eq!(fill.next(reader), Next::Wait);
    }
    assert_eq!(started, [Effect::Start(0, 0..S - 1)]);
    let woken = of(|e| fill.on_received(0, 10, e));
    assert_eq!(woken.len(), 1000);
    assert_eq!(fill.next(7), Next::Bytes(0, 0..10, Source::Memory));
    let whole = of(|e| fill.on_received(0, S - 11, e));
    assert_eq!(whole, [Effect::Store(0)]);
    assert_eq!(of(|e| fill.on_stored(0, e)), [Effect::Forget(0)]);
    assert_eq!(fill.next(7), Next::Bytes(0, 0..1000, Source::Tier));
    fill.on_taken(7, 1000, &mut Vec::new());
    assert_eq!(fill.next(7), Next::Done);
}

#[test]
fn a_reader_is_woken_when_there_is_something_for_it_and_not_before() {
    let mut fill = fill(1, 4);
    fill.read(1, vec![5..1000], &mut Vec::new()).expect("few");
    assert_eq!(fill.next(1), Next::Wait);
    assert_eq!(of(|e| fill.on_received(0, 5, e)), []);
    assert_eq!(of(|e| fill.on_received(0, 1, e)), [Effect::Wake(1)]);
    assert_eq!(fill.next(1), Next::Bytes(0, 5..6, Source::Memory));
}

#[test]
fn fetching_goes_ahead_of_a_reader_and_no_further() {
    let mut fill = fill(100, 4);
    let first = of(|e| fill.read(1, vec![10..90 * S], e));
    assert_eq!(starts(&first), [0, 1, 2, 3]);
    // Everything comes and is stored, the reader takes nothing: one slice more, and that is all of its window.
    let mut more = Vec::new();
    for slice in 0..4 {
        fill.on_received(slice, S, &mut more);
        fill.on_stored(slice, &mut more);
    }
    assert_eq!(starts(&more), [4]);
    let after = of(|e| {
        assert_eq!(fill.next(1), Next::Bytes(0, 10..S, Source::Tier));
        fill.on_taken(1, S - 10, e);
    });
    assert_eq!(starts(&after), [5]);
}

#[test]
fn who_stands_before_a_missing_slice_comes_first() {
    let mut fill = fill(100, 2);
    assert_eq!(starts(&of(|e| fill.read(1, vec![0..90 * S], e))), [0, 1]);
    fill.read(2, vec![50 * S..51 * S], &mut Vec::new()).expect("few");
    assert_eq!(starts(&of(|e| fill.on_received(0, S, e))), [50]);
}

#[test]
fn a_first_run_brings_the_slices_that_lie_in_it() {
    let mut fill = fill(4, 4);
    assert_eq!(fill.adopt(&(10..3 * S + 5)), Some((0, S..3 * S)));
    assert_eq!(starts(&of(|e| fill.read(1, vec![0..4 * S - 1], e))), [0, 3]);
    assert_eq!(fill.rest(0), Some(S..3 * S));
    assert_eq!(of(|e| fill.on_received(0, S + 1, e)), [Effect::Store(1)]);
    assert_eq!(fill.rest(0), Some(2 * S + 1..3 * S));
    let mut none = super::tests::fill(4, 4);
    assert_eq!(none.adopt(&(10..2 * S - 1)), None);
    assert!(none.is_idle());
}

#[test]
fn a_failure_ends_who_waits_for_it_and_nobody_else() {
    let mut fill = fill(4, 3);
    fill.read(1, vec![0..4 * S - 1], &mut Vec::new()).expect("few");
    fill.read(2, vec![S..2 * S], &mut Vec::new()).expect("few");
    assert_eq!((fill.next(1), fill.next(2)), (Next::Wait, Next::Wait));
    let failed = of(|e| fill.on_failed(1, e));
    assert!(failed.contains(&Effect::End(2, Why::Failed)) && !failed.contains(&Effect::End(1, Why::Failed)));
    // It is not fetched ahead again, only when the reader gets there.
    assert_eq!(starts(&failed), [3]);
    fill.on_received(0, S, &mut Vec::new());
    assert_eq!(starts(&of(|e| fill.on_taken(1, S, e))), [1]);
}

#[test]
fn a_slice_that_is_lost_is_fetched_again() {
    let mut fill = Fill::new(Slices::new(2 * S, SliceSize::Fixed(S)), 4, [0, 1], 9);
    assert!(of(|e| fill.read(1, vec![5..2 * S], e)).is_empty());
    assert_eq!(fill.counts(&[5..2 * S]), (2, 2));
    assert_eq!(fill.next(1), Next::Bytes(0, 5..S, Source::Tier));
    assert_eq!(of(|e| fill.on_lost(0, e)), [Effect::Start(9, 0..S)]);
    assert_eq!((fill.next(1), fill.counts(&[0..1, S..S + 1])), (Next::Wait, (1, 2)));
}

/// What is needed of an answer, slice by slice.
fn one_by_one(fill: &Fill, parts: &[Range<u64>]) -> ((u64, u64), bool) {
    let needed: BTreeSet<u64> = parts.iter().flat_map(|part| fill.slices.holding(part)).collect();
    let slots = || needed.iter().filter_map(|slice| fill.slots.get(slice));
    let here = slots().filter(|slot| matches!(slot, Slot::Held | Slot::Whole { .. })).count();
    ((here as u64, needed.len() as u64), slots().any(|slot| matches!(slot, Slot::Coming(_))))
}

#[test]
fn an_answer_costs_the_same_whatever_slices_its_origin_claims_and_however_many_are_held() {
    let slices = Slices::new(SLICES_MAX * S, SliceSize::Fixed(S));
    let held = SLICES_MAX / 2..SLICES_MAX / 2 + (1 << 20);
    for held in [0..0, held] {
        let count = held.end - held.start;
        let mut fill = Fill::new(slices, 4, held, 0);
        fill.read(1, vec![S..slices.size], &mut Vec::new()).expect("few");
        let parts = [5..slices.size - 5, 0..1, 7 * S..slices.size];
        let ask = |_| {
            let begin = Instant::now();
            assert_eq!(fill.counts(&parts), (count, SLICES_MAX));
            assert!(fill.any_comes(&parts) && !fill.any_comes(&[0..S, 5 * S..slices.size]));
            begin.elapsed()
        };
        // Others work on this machine too.
        let took = (0..5).map(ask).min().expect("five");
        assert!(took < Duration::from_millis(5), "{took:?}");
    }
}

#[test]
fn what_the_tier_does_not_take_stays_while_it_is_needed() {
    let mut fill = fill(3, 2);
    fill.read(1, vec![0..2 * S], &mut Vec::new()).expect("few");
    let mut effects = Vec::new();
    for slice in [0, 1] {
        fill.on_received(slice, S, &mut effects);
        fill.on_not_stored(slice, &mut effects);
    }
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Forget(_))));
    assert_eq!(of(|e| fill.on_taken(1, S, e)), [Effect::Forget(0)]);
    assert_eq!(fill.next(1), Next::Bytes(1, S..2 * S, Source::Memory));
    assert_eq!(of(|e| fill.on_left(1, e)), [Effect::Forget(1)]);
    assert!(fill.is_idle());
}

/// Slices that the tier did not take, in the windows of readers that take nothing, do not keep another one from getting on.
#[test]
fn slow_readers_do_not_stop_a_fast_one() {
    let mut fill = fill(100, 2);
    let mut effects = Vec::new();
    for slice in [0, 1, 2, 10, 11, 12] {
        let reads = of(|e| fill.read(100 + slice as Reader, vec![slice * S..slice * S + 9], e));
        let [Effect::Start(fetch, _)] = &reads[..] else { panic!("{reads:?}") };
        fill.on_received(*fetch, S, &mut effects);
        fill.on_not_stored(slice, &mut effects);
    }
    fill.read(1, vec![0..4 * S], &mut effects).expect("few");
    fill.read(2, vec![10 * S..14 * S], &mut effects).expect("few");
    for slice in [0, 1, 2, 10, 11, 12] {
        fill.on_left(100 + slice, &mut effects);
    }
    let reads = of(|e| fill.read(3, vec![50 * S..51 * S], e));
    let [Effect::Forget(one), Effect::Forget(other), Effect::Start(_, run)] = &reads[..] else {
        panic!("{reads:?}");
    };
    assert_eq!(((*one).min(*other), (*one).max(*other), run.start), (2, 12, 50 * S));
}

#[test]
fn the_end_of_a_version_ends_everything_of_it() {
    let mut fill = Fill::new(Slices::new(4 * S, SliceSize::Fixed(S)), 1, [3], 0);
    fill.read(1, vec![0..4 * S], &mut Vec::new()).expect("few");
    fill.read(2, vec![0..1], &mut Vec::new()).expect("few");
    fill.on_received(0, S, &mut Vec::new());
    let mut ended = of(|e| fill.end(e));
    ended.sort_by_key(|effect| format!("{effect:?}"));
    let expected = [
        Effect::Cancel(1),
        Effect::Drop(3),
        Effect::End(1, Why::Changed),
        Effect::End(2, Why::Changed),
        Effect::Forget(0),
        Effect::Forget(1),
    ];
    assert_eq!(ended, expected);
}

#[test]
fn readers_are_bounded() {
    let mut fill = fill(1, 1);
    for reader in 0..READERS_MAX as Reader {
        fill.readers.insert(reader, Reading { parts: VecDeque::new(), window: Vec::new() });
    }
    assert_eq!(fill.read(Reader::MAX, vec![0..1], &mut Vec::new()), Err(Busy));
}

/// What the world beside the fill holds: the tier, the memory, the requests, and how far each reader is.
#[derive(Default)]
struct World {
    tier: BTreeSet<u64>,
    memory: BTreeMap<u64, u64>,
    storing: BTreeSet<u64>,
    runs: BTreeMap<Fetch, Range<u64>>,
    readers: BTreeMap<Reader, VecDeque<Range<u64>>>,
    asleep: BTreeSet<Reader>,
    fetched: BTreeMap<u64, u32>,
    excused: BTreeMap<u64, u32>,
}

impl World {
    fn apply(&mut self, effects: Vec<Effect>, runs_max: usize) {
        for effect in effects {
            match effect {
                Effect::Start(fetch, run) => {
                    let slice = run.start / S;
                    assert!(
                        !self.tier.contains(&slice) && !self.memory.contains_key(&slice),
                        "{slice} twice"
                    );
                    assert!(self.runs.values().all(|other| other.end <= run.start || run.end <= other.start));
                    assert!(self.runs.insert(fetch, run).is_none() && self.runs.len() <= runs_max);
                    *self.fetched.entry(slice).or_default() += 1;
                }
                Effect::Store(slice) => assert!(self.storing.insert(slice)),
                Effect::Forget(slice) => {
                    // Without being in the tier it will have to be fetched again.
                    if self.memory.remove(&slice).is_some() && !self.tier.contains(&slice) {
                        *self.excused.entry(slice).or_default() += 1;
                    }
                    assert!(!self.storing.contains(&slice), "{slice} is forgotten while it is stored");
                }
                Effect::Wake(reader) => assert!(self.asleep.remove(&reader), "{reader} is awake"),
                Effect::End(reader, why) => {
                    assert_eq!(why, Why::Failed);
                    assert!(self.asleep.remove(&reader) && self.readers.remove(&reader).is_some());
                }
                Effect::Cancel(_) | Effect::Drop(_) => panic!("nobody ended the version"),
            }
        }
    }

    /// Lets a reader take up to `most` bytes, and checks that they are the next ones and that they are there.
    fn take(&mut self, fill: &mut Fill, reader: Reader, most: u64, runs_max: usize) {
        let parts = self.readers.get_mut(&reader).expect("a reader");
        match fill.next(reader) {
            Next::Done => {
                assert!(parts.is_empty());
                self.readers.remove(&reader);
                self.apply(of(|e| fill.on_left(reader, e)), runs_max);
            }
            Next::Wait => {
                self.asleep.insert(reader);
            }
            Next::Bytes(slice, range, source) => {
                let part = parts.front_mut().expect("more to read");
                assert!(range.start == part.start && range.end <= part.end && range.start < range.end);
                assert!(range.start / S == slice && (range.end - 1) / S == slice);
                match source {
                    Source::Tier => assert!(self.tier.contains(&slice)),
                    Source::Memory => assert!(range.end <= slice * S + self.memory[&slice]),
                }
                let bytes = most.clamp(1, range.end - range.start);
                part.start += bytes;
                if part.start == part.end {
                    parts.pop_front();
                }
                self.apply(of(|e| fill.on_taken(reader, bytes, e)), runs_max);
            }
        }
    }

    fn receive(&mut self, fill: &mut Fill, fetch: Fetch, most: u64, runs_max: usize) {
        let run = self.runs.get_mut(&fetch).expect("a run");
        let bytes = most.clamp(1, run.end - run.start);
        let end = run.start + bytes;
        while run.start < end {
            let slice = run.start / S;
            let stop = end.min((slice + 1) * S);
            *self.memory.entry(slice).or_default() += stop - run.start;
            run.start = stop;
        }
        if run.is_empty() {
            self.runs.remove(&fetch);
        }
        self.apply(of(|e| fill.on_received(fetch, bytes, e)), runs_max);
    }

    fn store(&mut self, fill: &mut Fill, slice: u64, is_taken: bool, runs_max: usize) {
        self.storing.remove(&slice);
        if is_taken {
            self.tier.insert(slice);
            self.apply(of(|e| fill.on_stored(slice, e)), runs_max);
        } else {
            self.apply(of(|e| fill.on_not_stored(slice, e)), runs_max);
        }
    }

    fn fail(&mut self, fill: &mut Fill, fetch: Fetch, runs_max: usize) {
        let run = self.runs.remove(&fetch).expect("a run");
        for slice in run.start / S..run.end.div_ceil(S) {
            // Forgetting what came of it excuses it once more; that is no more than once for each failure.
            *self.excused.entry(slice).or_default() += 1;
        }
        self.apply(of(|e| fill.on_failed(fetch, e)), runs_max);
    }

    fn lose(&mut self, fill: &mut Fill, slice: u64, runs_max: usize) {
        self.tier.remove(&slice);
        *self.excused.entry(slice).or_default() += 1;
        self.apply(of(|e| fill.on_lost(slice, e)), runs_max);
    }

    /// Everything comes, is stored and read: nobody is left behind.
    fn finish(&mut self, fill: &mut Fill, runs_max: usize) {
        for _ in 0..100_000 {
            let reader = self.readers.keys().copied().find(|reader| !self.asleep.contains(reader));
            if let Some(reader) = reader {
                self.take(fill, reader, u64::MAX, runs_max);
            } else if let Some(slice) = self.storing.first().copied() {
                self.store(fill, slice, true, runs_max);
            } else if let Some(fetch) = self.runs.keys().next().copied() {
                self.receive(fill, fetch, u64::MAX, runs_max);
            } else {
                break;
            }
        }
        assert!(self.readers.is_empty() && self.storing.is_empty(), "somebody waits for ever");
        assert!(fill.is_idle() && self.memory.is_empty() && self.runs.is_empty());
        for (slice, count) in &self.fetched {
            let excused = self.excused.get(slice).copied().unwrap_or(0);
            assert!(*count <= 1 + excused, "slice {slice} was fetched {count} times");
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Read(Vec<(u16, u16)>),
    Take(prop::sample::Index, u64),
    Receive(prop::sample::Index, u64),
    Store(prop::sample::Index, bool),
    Fail(prop::sample::Index),
    Lose(prop::sample::Index),
    Leave(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    let bytes = || prop_oneof![1..200_u64, 1..2 * S, Just(u64::MAX)];
    prop_oneof![
        3 => prop::collection::vec(any::<(u16, u16)>(), 1..4).prop_map(Step::Read),
        8 => (index(), bytes()).prop_map(|(at, bytes)| Step::Take(at, bytes)),
        6 => (index(), bytes()).prop_map(|(at, bytes)| Step::Receive(at, bytes)),
        4 => (index(), prop::bool::weighted(0.7)).prop_map(|(at, is_taken)| Step::Store(at, is_taken)),
        1 => index().prop_map(Step::Fail),
        1 => index().prop_map(Step::Lose),
        1 => index().prop_map(Step::Leave),
    ]
}

fn pick<T: Copy>(from: impl Iterator<Item = T>, at: prop::sample::Index) -> Option<T> {
    let all: Vec<T> = from.collect();
    (!all.is_empty()).then(|| all[at.index(all.len())])
}

fn play(fill: &mut Fill, world: &mut World, steps: Vec<Step>, size: u64, runs_max: usize) {
    for (reader, step) in (0..).zip(steps) {
        match step {
            Step::Read(ends) => {
                let part = |(a, b): (u16, u16)| {
                    let at = |n: u16| u64::from(n) * size / (u64::from(u16::MAX) + 1);
                    at(a).min(at(b))..at(a).max(at(b)) + 1
                };
                let parts: Vec<Range<u64>> = ends.into_iter().map(part).collect();
                assert_eq!((fill.counts(&parts), fill.any_comes(&parts)), one_by_one(fill, &parts));
                world.readers.insert(reader, parts.clone().into());
                world.apply(of(|e| fill.read(reader, parts, e).expect("few")), runs_max);
            }
            Step::Take(at, bytes) => {
                let awake = world.readers.keys().copied().filter(|reader| !world.asleep.contains(reader));
                if let Some(reader) = pick(awake, at) {
                    world.take(fill, reader, bytes, runs_max);
                }
            }
            Step::Receive(at, bytes) => {
                if let Some(fetch) = pick(world.runs.keys().copied(), at) {
                    world.receive(fill, fetch, bytes, runs_max);
                }
            }
            Step::Store(at, is_taken) => {
                if let Some(slice) = pick(world.storing.iter().copied(), at) {
                    world.store(fill, slice, is_taken, runs_max);
                }
            }
            Step::Fail(at) => {
                if let Some(fetch) = pick(world.runs.keys().copied(), at) {
                    world.fail(fill, fetch, runs_max);
                }
            }
            Step::Lose(at) => {
                if let Some(slice) = pick(world.tier.iter().copied(), at) {
                    world.lose(fill, slice, runs_max);
                }
            }
            Step::Leave(at) => {
                if let Some(reader) = pick(world.readers.keys().copied(), at) {
                    world.readers.remove(&reader);
                    world.asleep.remove(&reader);
                    world.apply(of(|e| fill.on_left(reader, e)), runs_max);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn random_events_equal_the_model(
        steps in prop::collection::vec(step(), 0..150),
        size in S..20 * S,
        runs_max in 1..9_usize,
        first in prop::option::of((any::<u16>(), any::<u16>())),
    ) {
        let slices = Slices::new(size, SliceSize::Fixed(S));
        let mut fill = Fill::new(slices, runs_max, [], 0);
        let mut world = World::default();
        if let Some((a, b)) = first {
            let at = |n: u16| u64::from(n) * size / (u64::from(u16::MAX) + 1);
            if let Some((fetch, run)) = fill.adopt(&(at(a).min(at(b))..at(a).max(at(b)) + 1)) {
                for slice in slices.holding(&run) {
                    world.fetched.insert(slice, 1);
                }
                world.runs.insert(fetch, run);
            }
        }
        play(&mut fill, &mut world, steps, size, runs_max);
        world.finish(&mut fill, runs_max);
    }
}
