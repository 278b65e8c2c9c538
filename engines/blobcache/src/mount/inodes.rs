//! The nodes of one connection that one column owns: node id ↔ digest, lookups counted by the kernel, opens. Pure.
//!
//! Called by `nodes`, on the column that owns the digests. A node id is `counter << 9 | small << 8 | shard`: the
//! shard says which column owns it, `small` that its blob is packed when it is stored; no id is used twice in a connection's
//! life. Content never changes under its digest, so that a stored blob's size
//! holds for as long as its node does, whatever becomes of the blob. What an origin says may be wrong: a node has one size all
//! its life, and a blob that turns out to have another one gets another node.
//!
//! Invariants
//! 1. A node is known as long as the kernel has looked it up or holds it open, and not longer (FORGET may overtake RELEASE).
//! 2. At most one node of a digest can be looked up; others of it are retired, or of another size, and only wait to be forgotten.
//! 3. There are at most `max` nodes; listings may fill one half of them, so that names can be looked up beside them.

use runtime::tier::{Digest, PACKED_BYTES_MAX};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// The first node id of a blob: those below are the tree's own.
pub const BLOB_NODE_MIN: u64 = 1 << 9;
const SMALL: u64 = 1 << 8;
/// The part of the table that listings leave free.
const LISTED_DIVISOR: usize = 2;

/// What is known of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inode {
    /// The blob.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// What the kernel has of its content may be wrong: no handle is to be opened any more.
    pub is_retired: bool,
    /// The kernel was given bytes of it that are not known to be the blob's before all of it has come.
    pub is_unverified: bool,
}

struct Slot {
    inode: Inode,
    lookups: u64,
    opens: u32,
}

/// Who wants a node counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// A LOOKUP.
    Name,
    /// A READDIRPLUS entry, which does without a node when there is none.
    Listing,
}

/// The table.
pub struct Inodes {
    by_node: HashMap<u64, Slot>,
    by_digest: HashMap<Digest, u64>,
    next: u64,
    max: usize,
    lookups: u64,
    opens: u64,
}

/// A place in each of the tables, with their byte for it.
const PLACE_BYTES: u64 = (size_of::<(u64, Slot)>() + size_of::<(Digest, u64)>() + 2) as u64;

/// The most nodes whose tables stay within so many bytes: they have a power of two of places, of which 7 in 8 are used, and
/// while they grow the half as large ones are there too.
pub fn nodes_within(bytes: u64) -> usize {
    let places = (bytes * 2 / 3 / PLACE_BYTES).max(8);
    (1 << places.ilog2()) / 8 * 7
}

/// The shard of a node id of a blob.
pub fn shard_of(node: u64) -> u8 {
    (node & 0xff) as u8
}

/// Whether the blob of a node has no file of its own, so that the kernel is never given one.
pub fn is_small(node: u64) -> bool {
    node & SMALL != 0
}

impl Inodes {
    /// Empty; at most `max` nodes.
    pub fn new(max: usize) -> Inodes {
        assert!(max >= LISTED_DIVISOR, "a table for {max} nodes");
        Inodes { by_node: HashMap::new(), by_digest: HashMap::new(), next: 1, max, lookups: 0, opens: 0 }
    }

    /// Nodes known.
    pub fn len(&self) -> usize {
        self.by_node.len()
    }

    /// Whether the kernel is to forget some: there is little room left.
    pub fn is_crowded(&self) -> bool {
        self.len() * 4 >= self.max * 3
    }

    /// Nodes that are not open, in no order; another `turn` begins elsewhere.
    pub fn unused(&self, turn: u64) -> impl Iterator<Item = (u64, Digest)> {
        // As good as random: the kernel may use those that were taken last time.
        let begin = (turn.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % self.len().max(1);
        let unused = |(&node, slot): (&u64, &Slot)| (slot.opens == 0).then_some((node, slot.inode.digest));
        self.by_node.iter().skip(begin).filter_map(unused)
    }

    /// Lookups that the kernel has yet to forget.
    pub fn lookups(&self) -> u64 {
        self.lookups
    }

    /// Handles open.
    pub fn opens(&self) -> u64 {
        self.opens
    }

    /// Counts a lookup of a blob and gives its node; `None`: the table is full. One of another size has its name no more.
    pub fn enter(&mut self, digest: Digest, size: u64, why: For) -> Option<u64> {
        if let Some(&node) = self.by_digest.get(&digest) {
            let slot = self.by_node.get_mut(&node).expect("a digest names a node that is known");
            if slot.inode.size == size {
                slot.lookups += 1;
                self.lookups += 1;
                return Some(node);
            }
        }
        let max = match why {
            For::Name => self.max,
            For::Listing => self.max / LISTED_DIVISOR,
        };
        if self.by_node.len() >= max {
            return None;
        }
        let small = if size <= PACKED_BYTES_MAX as u64 { SMALL } else { 0 };
        let node = self.next << 9 | small | u64::from(digest.shard().0);
        self.next += 1;
        let inode = Inode { digest, size, is_retired: false, is_unverified: false };
        self.by_node.insert(node, Slot { inode, lookups: 1, opens: 0 });
        self.by_digest.insert(digest, node);
        self.lookups += 1;
        Some(node)
    }

    /// A node.
    pub fn get(&self, node: u64) -> Option<Inode> {
        self.by_node.get(&node).map(|slot| slot.inode)
    }

    /// The node of a blob, if it can be looked up.
    pub fn node_of(&self, digest: &Digest) -> Option<u64> {
        self.by_digest.get(digest).copied()
    }

    /// The kernel forgets lookups; true if the node is gone with them. It never forgets more than there were; if it did,
    /// that is no reason to fail.
    pub fn forget(&mut self, node: u64, count: u64) -> bool {
        self.change(node, |slot| {
            let count = count.min(slot.lookups);
            slot.lookups -= count;
            (count, 0)
        })
    }

    /// A handle is opened; of a node that is gone none counts.
    pub fn open(&mut self, node: u64) {
        if let Some(slot) = self.by_node.get_mut(&node) {
            slot.opens += 1;
            self.opens += 1;
        }
    }

    /// A handle is released; true if the node is gone with it.
    pub fn release(&mut self, node: u64) -> bool {
        self.change(node, |slot| {
            let count = slot.opens.min(1);
            slot.opens -= count;
            (0, u64::from(count))
        })
    }

    fn change(&mut self, node: u64, change: impl FnOnce(&mut Slot) -> (u64, u64)) -> bool {
        let Entry::Occupied(mut slot) = self.by_node.entry(node) else { return false };
        let (lookups, opens) = change(slot.get_mut());
        self.lookups -= lookups;
        self.opens -= opens;
        let Slot { inode, lookups: 0, opens: 0 } = *slot.get() else { return false };
        slot.remove();
        self.unname(node, &inode.digest);
        true
    }

    /// The node is not to be looked up any more, if it can be.
    fn unname(&mut self, node: u64, digest: &Digest) {
        if self.by_digest.get(digest) == Some(&node) {
            self.by_digest.remove(digest);
        }
    }

    /// The kernel is given bytes that are not verified yet, or those that it was given are verified now.
    pub fn set_unverified(&mut self, node: u64, is_unverified: bool) {
        if let Some(slot) = self.by_node.get_mut(&node) {
            slot.inode.is_unverified = is_unverified;
        }
    }

    /// The kernel may have pages of it that are not the blob's: the next lookup gets another node.
    pub fn retire(&mut self, node: u64) {
        if let Some(slot) = self.by_node.get_mut(&node) {
            slot.inode.is_retired = true;
            let digest = slot.inode.digest;
            self.unname(node, &digest);
        }
    }

    /// The connection has ended: the kernel forgets all without saying so.
    pub fn clear(&mut self) {
        self.by_node.clear();
        self.by_digest.clear();
        (self.lookups, self.opens) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn digest(n: u8) -> Digest {
        Digest([n; 32])
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// A digest, whether it is of a listing, and a size.
        Enter(u8, bool, u64),
        /// Of the n-th node ever given.
        Forget(usize, u64),
        Open(usize),
        Release(usize),
        Retire(usize),
        Clear,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0..12u8, any::<bool>(), 7..9u64).prop_map(|(d, listing, size)| Step::Enter(d, listing, size)),
            6 => (0..20usize, 1..4u64).prop_map(|(n, count)| Step::Forget(n, count)),
            2 => (0..20usize).prop_map(Step::Open),
            2 => (0..20usize).prop_map(Step::Release),
            1 => (0..20usize).prop_map(Step::Retire),
            1 => Just(Step::Clear),
        ]
    }

    #[derive(Clone, Copy)]
    struct Node {
        digest: u8,
        size: u64,
        lookups: u64,
        opens: u64,
        is_retired: bool,
        /// A later one has its name.
        is_replaced: bool,
    }

    /// Naive: every node ever given with its counts, in a list.
    #[derive(Default)]
    struct Model {
        nodes: BTreeMap<u64, Node>,
        given: Vec<u64>,
    }

    impl Model {
        fn drop_unused(&mut self) {
            self.nodes.retain(|_, node| node.lookups + node.opens > 0);
        }
    }

    const MAX: usize = 8;

    fn apply(table: &mut Inodes, model: &mut Model, step: &Step) {
        let nth = |model: &Model, n: usize| {
            (!model.given.is_empty()).then(|| model.given[model.given.len() - 1 - n % model.given.len()])
        };
        match *step {
            Step::Enter(digest, listing, size) => {
                let is_named = |n: &Node| n.digest == digest && !n.is_retired && !n.is_replaced;
                let known =
                    model.nodes.iter().find(|(_, n)| is_named(n) && n.size == size).map(|(&node, _)| node);
                let most = if listing { MAX / 2 } else { MAX };
                let why = if listing { For::Listing } else { For::Name };
                let got = table.enter(Digest([digest; 32]), size, why);
                match known {
                    Some(node) => assert_eq!(got, Some(node)),
                    None => assert_eq!(got.is_some(), model.nodes.len() < most),
                }
                if let Some(node) = got {
                    if known.is_none() {
                        assert!(!model.given.contains(&node), "node {node} is used twice");
                        assert!(node >= BLOB_NODE_MIN && shard_of(node) == digest);
                        model.given.push(node);
                        model.nodes.values_mut().filter(|n| is_named(n)).for_each(|n| n.is_replaced = true);
                    }
                    let (lookups, opens, is_retired, is_replaced) = (0, 0, false, false);
                    let new = Node { digest, size, lookups, opens, is_retired, is_replaced };
                    model.nodes.entry(node).or_insert(new).lookups += 1;
                }
            }
            Step::Forget(n, count) => {
                let Some(node) = nth(model, n) else { return };
                let before = model.nodes.len();
                if let Some(known) = model.nodes.get_mut(&node) {
                    known.lookups -= count.min(known.lookups);
                }
                model.drop_unused();
                assert_eq!(table.forget(node, count), model.nodes.len() < before);
            }
            Step::Open(n) => {
                let Some(node) = nth(model, n).filter(|node| model.nodes.contains_key(node)) else { return };
                table.open(node);
                model.nodes.get_mut(&node).expect("just seen").opens += 1;
            }
            Step::Release(n) => {
                let Some(node) = nth(model, n) else { return };
                let before = model.nodes.len();
                if let Some(known) = model.nodes.get_mut(&node) {
                    known.opens -= known.opens.min(1);
                }
                model.drop_unused();
                assert_eq!(table.release(node), model.nodes.len() < before);
            }
            Step::Retire(n) => {
                let Some(node) = nth(model, n) else { return };
                table.retire(node);
                if let Some(known) = model.nodes.get_mut(&node) {
                    known.is_retired = true;
                }
            }
            Step::Clear => {
                table.clear();
                model.nodes.clear();
            }
        }
    }

    fn assert_equal(table: &Inodes, model: &Model) {
        assert_eq!(table.len(), model.nodes.len());
        assert_eq!(table.lookups(), model.nodes.values().map(|n| n.lookups).sum::<u64>());
        assert_eq!(table.opens(), model.nodes.values().map(|n| n.opens).sum::<u64>());
        for node in &model.given {
            let expected = model.nodes.get(node).map(|n| Inode {
                digest: digest(n.digest),
                size: n.size,
                is_retired: n.is_retired,
                is_unverified: false,
            });
            assert_eq!(table.get(*node), expected);
            let is_named = model.nodes.get(node).is_some_and(|n| !n.is_retired && !n.is_replaced);
            let named = model.nodes.get(node).and_then(|n| table.node_of(&digest(n.digest)));
            assert_eq!(named == Some(*node), is_named);
        }
    }

    proptest! {
        #[test]
        fn is_what_a_naive_table_is(steps in proptest::collection::vec(step(), 0..200)) {
            let (mut table, mut model) = (Inodes::new(MAX), Model::default());
            for step in &steps {
                apply(&mut table, &mut model, step);
                assert_equal(&table, &model);
            }
        }
    }

    #[test]
    fn tables_of_as_many_as_fit_do_not_grow_again() {
        for mib in [1, 8, 30] {
            let most = nodes_within(mib << 20);
            let table = Inodes::new(most);
            let mut by_node = table.by_node;
            by_node.reserve(most);
            let places = by_node.capacity().next_power_of_two() as u64;
            assert_eq!(by_node.capacity(), most, "all of them are used");
            assert!(places * PLACE_BYTES * 3 / 2 <= mib << 20 && places * PLACE_BYTES * 3 > mib << 20);
        }
        assert_eq!(nodes_within(0), 7);
    }

    #[test]
    fn every_node_that_is_not_open_has_its_turn() {
        let mut table = Inodes::new(8);
        let nodes: Vec<u64> = (0..6).map(|d| table.enter(digest(d), 7, For::Name).expect("room")).collect();
        assert!(table.is_crowded());
        table.open(nodes[2]);
        let first = |turn| table.unused(turn).next();
        let seen: std::collections::BTreeSet<u64> =
            (0..100).filter_map(first).map(|(node, _)| node).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [&nodes[..2], &nodes[3..]].concat());
        table.forget(nodes[0], 1);
        assert!(!table.is_crowded());
    }

    #[test]
    fn counts_come_back_to_zero() {
        let mut table = Inodes::new(1000);
        let nodes: Vec<u64> = (0..100).map(|d| table.enter(digest(d), 7, For::Name).expect("room")).collect();
        nodes.iter().for_each(|&node| {
            table.enter(table.get(node).expect("known").digest, 7, For::Listing);
            table.open(node);
        });
        assert_eq!((table.len(), table.lookups(), table.opens()), (100, 200, 100));
        for &node in &nodes {
            assert!(!table.forget(node, 2), "still open");
            assert!(table.release(node));
        }
        assert_eq!((table.len(), table.lookups(), table.opens()), (0, 0, 0));
        assert!(!table.forget(nodes[0], 1) && !table.release(nodes[0]), "a node that is gone stays gone");
    }
}
