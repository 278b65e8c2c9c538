//! The order of a shard's names, for as long as somebody lists it: so that a page costs what is on it, not what is in the shard.
//!
//! Called by `index`. Pure. Names that came to a shard make its order void; names that went stay in it and are passed over, until they
//! are most of it. A few orders are kept, the last used first: the next page of a listing mostly begins where the last one ended.
//! Each takes 32 bytes a name of one shard.

use super::digest::Digest;
use crate::planted::{self, Bug};

/// Listings at a time that do not sort anew for each page.
const ORDERS_MAX: usize = 4;

/// The names of one shard in order.
struct Order {
    shard: usize,
    names: Vec<Digest>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Orders(Vec<Order>);

impl Orders {
    /// A name that was not there came to `shard`.
    pub(super) fn on_new(&mut self, shard: usize) {
        self.0.retain(|order| order.shard != shard);
    }

    /// The names of `shard`, of which there are `count`, after `after`; some may be gone. `names` says them in any order.
    pub(super) fn after<'n>(
        &mut self,
        shard: usize,
        after: Option<&Digest>,
        count: usize,
        names: impl Iterator<Item = &'n Digest>,
    ) -> &[Digest] {
        let is_of_use = |order: &Order| order.shard == shard && order.names.len() <= 2 * count;
        let order = match self.0.iter().position(is_of_use) {
            Some(at) => self.0.remove(at),
            None => {
                self.on_new(shard);
                self.0.truncate(ORDERS_MAX - 1);
                let mut names: Vec<Digest> = names.copied().collect();
                if !planted::is(Bug::ListUnsorted) {
                    names.sort_unstable();
                }
                Order { shard, names }
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
        orders.on_new(1);
        (0..ORDERS_MAX).for_each(|shard| assert_eq!(orders.after(shard, None, 100, said()).len(), 100));
        assert_eq!(looks.get(), 100 * (ORDERS_MAX + 1), "only what changed is sorted anew");
        orders.after(ORDERS_MAX, None, 100, said());
        assert_eq!(orders.0.len(), ORDERS_MAX);
        assert_eq!(orders.after(ORDERS_MAX, None, 50, said()).len(), 100, "half of it went");
        assert_eq!(orders.after(ORDERS_MAX, None, 49, names[..49].iter()).len(), 49, "most of it went");
    }
}
