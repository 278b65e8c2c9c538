//! The invariants of `fill`, all of them, from its maps. Called after each event where debug assertions are on.

use super::here::Here;
use super::{Fill, Slot};

pub fn check(fill: &Fill) {
    runs(fill);
    memory(fill);
    readers(fill);
}

/// Invariant 1.
fn runs(fill: &Fill) {
    assert!(fill.runs.len() <= fill.runs_max.max(1), "{} runs", fill.runs.len());
    let mut coming = 0;
    for (fetch, run) in &fill.runs {
        assert!(run.bytes.start <= run.at && run.at < run.bytes.end && *fetch < fill.next_fetch);
        for slice in fill.slices.holding(&(run.at..run.bytes.end)) {
            assert_eq!(fill.slots.get(&slice), Some(&Slot::Coming(*fetch)), "slice {slice}");
            coming += 1;
        }
    }
    let known = fill.slots.values().filter(|slot| matches!(slot, Slot::Coming(_))).count();
    assert_eq!(coming, known, "a slice comes that no run brings");
}

/// Invariant 4; invariant 3 is checked where a fetch begins.
fn memory(fill: &Fill) {
    let in_memory = fill.slots.iter().filter(|(_, slot)| **slot != Slot::Held).map(|(slice, _)| slice);
    assert!(in_memory.eq(fill.buffered.iter()));
    let here = fill.slots.iter().filter(|(_, slot)| matches!(slot, Slot::Held | Slot::Whole { .. }));
    assert_eq!(here.map(|(slice, _)| *slice).collect::<Here>(), fill.here);
    assert!(fill.wants.is_filed_right(|slice| !fill.slots.contains_key(&slice)));
    if let Some((0, slice)) = fill.wants.first() {
        let is_full = fill.runs.len() == fill.runs_max;
        assert!(is_full || fill.ahead() > fill.ahead_max, "slice {slice} is waited for and not fetched");
        let is_stuck = |slice| matches!(fill.slots[slice], Slot::Whole { is_storing: false });
        let ahead = fill.buffered.iter().filter(|slice| fill.wants.distance(**slice) != Some(0));
        assert!(is_full || !ahead.into_iter().any(is_stuck), "memory is full of what could go");
    }
}

fn readers(fill: &Fill) {
    let windows: usize = fill.readers.values().map(|reading| reading.window.len()).sum();
    assert_eq!(windows, fill.wants.counts());
    for (slice, reader) in &fill.waiting {
        let part = &fill.readers[reader].parts[0];
        assert_eq!(fill.slices.at(part.start), *slice);
        let has = match fill.slots.get(slice) {
            None => fill.slices.bytes(*slice).start,
            Some(Slot::Coming(fetch)) => fill.runs[fetch].at,
            Some(Slot::Whole { .. } | Slot::Held) => fill.slices.bytes(*slice).end,
        };
        assert!(has <= part.start, "reader {reader} waits for what is there");
    }
}
