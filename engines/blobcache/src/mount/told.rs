//! Handles that another column opened without asking, and tells of: which of them the owner has heard of. Pure.
//!
//! Called by `nodes`, on the column that owns the digests. Small files are opened where they are asked for, since the mode is
//! known (the kernel is never given them) and an answer of the owner would cost the reader two wake-ups. That a handle is open
//! and that it is released may be told by two columns, and so come in any order.
//!
//! Invariant: a handle counts from when both its opening has been heard of and its release has not; of one that was heard of
//! twice nothing is kept.

use std::collections::HashSet;

/// Of one connection.
#[derive(Default)]
pub struct Told {
    open: HashSet<u64>,
    /// Released before their opening was heard of.
    early: HashSet<u64>,
}

impl Told {
    /// A handle is open; true if it counts.
    pub fn open(&mut self, handle: u64) -> bool {
        !self.early.remove(&handle) && self.open.insert(handle)
    }

    /// A handle is released; true if it counted.
    pub fn release(&mut self, handle: u64) -> bool {
        let counted = self.open.remove(&handle);
        if !counted {
            self.early.insert(handle);
        }
        counted
    }

    /// The connection has ended.
    pub fn clear(&mut self) {
        self.open.clear();
        self.early.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the order, a handle is counted as often as it is given back, and nothing is left.
        #[test]
        fn in_any_order_everything_cancels_out(order in Just((0..40u64).collect::<Vec<_>>()).prop_shuffle()) {
            let (mut told, mut counted) = (Told::default(), 0i32);
            for event in order {
                let handle = event / 2;
                if event % 2 == 0 {
                    counted += i32::from(told.open(handle));
                } else {
                    counted -= i32::from(told.release(handle));
                }
                prop_assert!(counted >= 0);
                prop_assert_eq!(counted as usize, told.open.len());
            }
            prop_assert_eq!(counted, 0);
            prop_assert!(told.open.is_empty() && told.early.is_empty());
        }
    }
}
