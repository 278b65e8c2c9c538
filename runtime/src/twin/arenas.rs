//! Memory for simulated columns: real arenas, which live as long as the process, used again by one boot after the other.
//!
//! Invariant: an arena comes back only when every buffer of it has: what a node's end leaves behind is a leak, and panics.

use crate::buffer::Arena;
use std::cell::RefCell;

thread_local! {
    /// Arenas without an owner, by their length.
    static SPARE: RefCell<Vec<(usize, Arena)>> = const { RefCell::new(Vec::new()) };
}

/// An arena of `len` bytes with nothing in use.
pub(super) fn take(len: usize) -> Arena {
    let spare = SPARE.with_borrow_mut(|spare| {
        let at = spare.iter().position(|(l, _)| *l == len)?;
        Some(spare.swap_remove(at).1)
    });
    spare.unwrap_or_else(|| Arena::new(len).expect("address space for an arena"))
}

/// Gives back an arena whose owner has ended.
pub(super) fn give_back(len: usize, arena: Arena) {
    let left = arena.reset();
    assert_eq!(left, 0, "a node that has ended still holds buffers in {left} bytes of its memory");
    SPARE.with_borrow_mut(|spare| spare.push((len, arena)));
}
