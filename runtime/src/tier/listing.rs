//! The order of a shard's names, for as long as somebody lists it: so that a page costs what is on it, not what is in the shard.
//!
//! Called by `index`. Pure. Names that came to a shard are merged into its order when the next page is asked for, so that a listing
//! beside puts does not sort anew for each page; names that went stay in it and are passed over. An order of which most went or came is
//! made anew. A few are kept, the last used first: the next page of a listing mostly begins where the last one ended. Each takes at most
//! 64 bytes a name of one shard.

use super::digest::Digest;
use crate::planted::{self, Bug};

/// Listings at a time that do not sort anew for each page.
const ORDERS_MAX: usize = 4;

/// The names of one shard in order.
struct Order {
    shard: usize,
    names: Vec<Digest>,
    /// Not in order yet.
    came: Vec<Digest>,
}

impl Order {
    /// With the names that came in their places; some may have been there, gone meanwhile.
    fn merged(mut self) -> Order {
        if !self.came.is_empty() {
            self.came.sort_unstable();
            self.names.append(&mut self.came);
            // Two runs in order: the stable sort finds and merges them.
            self.names.sort();
            self.names.dedup();
        }
        self
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Orders(Vec<Order>);

impl Orders {
    /// A name that was not there came to `shard`.
    pub(super) fn on_new(&mut self, shard: usize, name: Digest) {
        let Some(at) = self.0.iter().position(|order| order.shard == shard) else { return };
        let order = &mut self.0[at];
        if order.came.len() >= order.names.len() {
            self.0.remove(at);
            return;
        }
        order.came.push(name);
    }

    /// The names of `shard`, of which there are `count`, after `after`; some may be gone. `names` says them in any order.
    pub(super) fn after<'n>(
        &mut self,
        shard: usize,
        after: Option<&Digest>,
        count: usize,
        names: impl Iterator<Item = &'n Digest>,
    ) -> &[Digest] {
        let place = self.0.iter().position(|order| order.shard == shard).map(|at| self.0.remove(at));
        let order = match place.filter(|order| order.names.len() <= 2 * count) {
            Some(order) => order.merged(),
            None => {
                self.0.truncate(ORDERS_MAX - 1);
                let mut names: Vec<Digest> = names.copied().collect();
                if !planted::is(Bug::ListUnsorted) {
                    names.sort_unstable();
                }
                Order { shard, names, came: Vec::new() }
            }
        };
        self.0.insert(0, order);
        let names = &self.0[0].names;
        let first = after.map_or(0, |after| names.partition_point(|name| name <= after));
        &names[first..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: u8) -> Digest {
        Digest([n; 32])
    }

    #[test]
    fn names_are_sorted_once_for_many_pages_and_a_few_listings() {
        let names: Vec<Digest> = (0..100).rev().map(name).collect();
        let looks = std::cell::Cell::new(0);
        let said = || names.iter().inspect(|_| looks.set(looks.get() + 1));
        let mut orders = Orders::default();
        for page in 0..10 {
            for shard in 0..ORDERS_MAX {
                let after = name(page * 10);
                let rest = orders.after(shard, Some(&after), 100, said());
                assert_eq!((rest.len(), rest[0]), (99 - usize::from(page) * 10, name(page * 10 + 1)));
            }
        }
        assert_eq!(looks.get(), 100 * ORDERS_MAX);
        orders.on_new(1, name(200));
        orders.on_new(1, name(150));
        orders.on_new(1, name(7));
        let rest = orders.after(1, Some(&name(98)), 102, said());
        assert_eq!(rest, [name(99), name(150), name(200)], "what came is in its place");
        assert_eq!(orders.after(1, None, 102, said()).len(), 102, "each once");
        assert_eq!(looks.get(), 100 * ORDERS_MAX, "nothing is sorted anew for it");
        (0..=102).for_each(|n| orders.on_new(1, name(n)));
        assert_eq!(orders.0.len(), ORDERS_MAX - 1, "most of it came");
        orders.after(ORDERS_MAX, None, 100, said());
        assert_eq!(orders.0.len(), ORDERS_MAX);
        assert_eq!(orders.after(ORDERS_MAX, None, 50, said()).len(), 100, "half of it went");
        assert_eq!(orders.after(ORDERS_MAX, None, 49, names[..49].iter()).len(), 49, "most of it went");
    }
}
