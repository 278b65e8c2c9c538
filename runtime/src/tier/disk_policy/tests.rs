//! `DiskPolicy` against a naive twin: a map of what is stored.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn digest(n: u8) -> Digest {
    let mut bytes = [0; 32];
    bytes[8] = n;
    Digest(bytes)
}

#[derive(Clone, Debug)]
enum Op {
    Stored(u8, u64),
    Read(u8),
    Removed(u8),
    Admits(u8, u64),
    Victims(u64, bool),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let one = prop_oneof![
        5 => (any::<u8>(), 1u64..1000).prop_map(|(n, bytes)| Op::Stored(n, bytes)),
        8 => any::<u8>().prop_map(Op::Read),
        1 => any::<u8>().prop_map(Op::Removed),
        2 => (any::<u8>(), 1u64..5000).prop_map(|(n, bytes)| Op::Admits(n, bytes)),
        2 => (1u64..5000, any::<bool>()).prop_map(|(bytes, hot)| Op::Victims(bytes, hot)),
    ];
    prop::collection::vec(one, 1..800)
}

/// The naive twin.
#[derive(Default)]
struct Twin {
    stored: BTreeMap<u8, u64>,
}

impl Twin {
    fn bytes(&self) -> u64 {
        self.stored.values().sum()
    }

    /// Takes the victims out of the twin; they must be allowed, and enough.
    fn check_victims(&mut self, victims: &[(Digest, u64)], bytes: u64) -> Result<(), TestCaseError> {
        for (victim, weight) in victims {
            let n = victim.0[8];
            prop_assert_eq!(self.stored.remove(&n), Some(*weight));
        }
        let sum: u64 = victims.iter().map(|v| v.1).sum();
        let last = victims.last().map_or(0, |v| v.1);
        prop_assert!(sum >= bytes || self.bytes() == 0, "{sum} of {bytes} while there is more");
        prop_assert!(sum - last < bytes, "one victim too many");
        Ok(())
    }
}

/// Applies one operation; what it answered, for comparison.
fn apply(policy: &mut DiskPolicy, op: &Op) -> Vec<(Digest, u64)> {
    let said = |yes: bool| vec![(digest(0), u64::from(yes))];
    match *op {
        Op::Stored(n, bytes) => policy.on_stored(&digest(n), bytes),
        Op::Read(n) => policy.on_read(&digest(n)),
        Op::Removed(n) => policy.on_removed(&digest(n)),
        Op::Admits(n, bytes) => return said(policy.admits(&digest(n), bytes, 500)),
        Op::Victims(bytes, hot) => return policy.victims(bytes, |d| hot && d.0[8] % 2 == 0),
    }
    Vec::new()
}

proptest! {
    #[test]
    fn like_its_naive_twin(ops in ops()) {
        let mut policy = DiskPolicy::new(1000, 1);
        let mut again = DiskPolicy::new(1000, 1);
        let mut twin = Twin::default();
        for op in ops {
            let answer = apply(&mut policy, &op);
            prop_assert_eq!(&answer, &apply(&mut again, &op), "the same seed, another answer");
            match op {
                Op::Stored(n, bytes) => drop(twin.stored.insert(n, bytes)),
                Op::Removed(n) => drop(twin.stored.remove(&n)),
                Op::Victims(bytes, _) => twin.check_victims(&answer, bytes)?,
                Op::Admits(_, bytes) => {
                    let must = bytes <= 500;
                    prop_assert!(answer[0].1 == 1 || !must);
                    prop_assert!(answer[0].1 == 0 || must || twin.bytes() > 0, "nothing could make room");
                }
                Op::Read(_) => {}
            }
            prop_assert_eq!(policy.bytes(), twin.bytes());
            prop_assert_eq!(policy.slots.len(), twin.stored.len());
        }
    }
}

#[test]
fn what_is_asked_for_once_does_not_push_out_what_is_asked_for_often() {
    let mut policy = DiskPolicy::new(1000, 1);
    for n in 0..10 {
        (0..3).for_each(|_| policy.on_read(&digest(n)));
        policy.on_stored(&digest(n), 100);
    }
    policy.on_read(&digest(100));
    assert!(policy.admits(&digest(100), 100, 100), "there is room");
    assert!(!policy.admits(&digest(100), 100, 99), "asked for once, the victims three times");
    (0..4).for_each(|_| policy.on_read(&digest(100)));
    assert!(policy.admits(&digest(100), 100, 0), "asked for five times");
}

#[test]
fn what_is_hot_in_ram_stays_on_disk() {
    let mut policy = DiskPolicy::new(1000, 1);
    (0..20).for_each(|n| policy.on_stored(&digest(n), 100));
    let victims = policy.victims(1000, |d| d.0[8] < 10);
    assert_eq!(victims.len(), 10);
    assert!(victims.iter().all(|(d, _)| d.0[8] >= 10), "{victims:?}");
    // When everything is hot something goes nevertheless.
    assert_eq!(policy.victims(500, |_| true).len(), 5);
}
