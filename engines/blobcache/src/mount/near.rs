//! Pages that this column was given for a read of late, whoever owns the blob: reads at random nearby are answered from them,
//! without a message to the owner and without its look into the tier. Pure; `P` leads to the pages and does not keep them.
//!
//! Called by `mount`, with the reply to every read (`note`) and before the owner is asked (`find`). Each extent of a node has
//! one place; the later one stays.
//!
//! Invariants
//! 1. Nothing is kept in RAM by this: what the owner gives up, be it evicted, deleted or damaged, cannot be had here either.
//! 2. The owner is asked again after [`NEAR_NS`], so that it sees what is hot, and keeps that.
//! 3. A read that begins where the last one of its extent ended goes to the owner, which reads ahead of who reads in sequence;
//!    so does one larger than [`NEAR_BYTES_MAX`], of which the way is the smaller part.
//! 4. What is answered was verified, whatever becomes of the node within [`NEAR_NS`].
//! 5. Only whole answers: a read beyond the pages goes to the owner, who knows where the blob ends.
//!
//! Units: bytes, monotonic nanoseconds.

use runtime::tier::EXTENT_BYTES;
use std::ops::Range;

/// Extents known: those of 4 GiB.
const PLACES: usize = 1024;
/// For how long the owner is not asked again.
const NEAR_NS: u64 = 50_000_000;
/// The largest read.
const NEAR_BYTES_MAX: u64 = 64 << 10;
const EXTENT: u64 = EXTENT_BYTES as u64;

struct Place<P> {
    node: u64,
    extent: u64,
    until_ns: u64,
    /// Behind the last read, in the blob.
    end: u64,
    pages: P,
    /// Of the pages.
    length: usize,
}

/// What was read of late.
pub struct Near<P> {
    places: Vec<Option<Place<P>>>,
}

impl<P> Default for Near<P> {
    fn default() -> Near<P> {
        Near { places: Vec::new() }
    }
}

impl<P> Near<P> {
    /// Pages that have the bytes, and where in them these are.
    pub fn find(&mut self, node: u64, offset: u64, size: u64, now_ns: u64) -> Option<(&P, Range<usize>)> {
        let extent = offset / EXTENT;
        let place = self.places.get_mut(place_of(node, extent))?.as_mut()?;
        let is_random = offset != place.end && (1..=NEAR_BYTES_MAX).contains(&size);
        if (place.node, place.extent) != (node, extent) || !is_random || now_ns >= place.until_ns {
            return None;
        }
        let range = within(offset, size as usize);
        if range.end > place.length {
            return None;
        }
        place.end = offset + size;
        Some((&place.pages, range))
    }

    /// The owner answered a read of so many bytes at `offset` from these pages of its extent, `length` bytes of them.
    pub fn note(&mut self, node: u64, offset: u64, size: usize, (pages, length): (P, usize), now_ns: u64) {
        let extent = offset / EXTENT;
        assert!(within(offset, size).end <= length, "{size} bytes at {offset} of {length}");
        if self.places.is_empty() {
            self.places.resize_with(PLACES, || None);
        }
        let (until_ns, end) = (now_ns + NEAR_NS, offset + size as u64);
        self.places[place_of(node, extent)] = Some(Place { node, extent, until_ns, end, pages, length });
    }

    /// The connection has ended.
    pub fn clear(&mut self) {
        self.places.clear();
    }
}

/// Where in its extent.
fn within(offset: u64, size: usize) -> Range<usize> {
    let from = (offset % EXTENT) as usize;
    from..from + size
}

/// Extents of one node lie side by side.
fn place_of(node: u64, extent: u64) -> usize {
    let begin = node.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    (begin.wrapping_add(extent) % PLACES as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: u64 = 7 << 9;
    const SIZE: u64 = 4096;

    /// After a read at the start of the node's second extent, of which all but the last byte is there.
    fn near() -> Near<&'static str> {
        let mut near = Near::default();
        near.note(NODE, EXTENT, SIZE as usize, ("pages", EXTENT_BYTES - 1), 0);
        near
    }

    #[test]
    fn reads_at_random_are_found_for_a_while() {
        let mut near = near();
        for (at, now_ns) in [(3 * SIZE, 1), (0, 2), (9 * SIZE, NEAR_NS - 1)] {
            let range = at as usize..(at + SIZE) as usize;
            assert_eq!(near.find(NODE, EXTENT + at, SIZE, now_ns), Some((&"pages", range)));
        }
        assert_eq!(near.find(NODE, EXTENT, SIZE, NEAR_NS), None, "the owner is to hear of it");
        near.note(NODE, EXTENT, SIZE as usize, ("again", EXTENT_BYTES), NEAR_NS);
        assert!(near.find(NODE, EXTENT, SIZE, NEAR_NS).is_some_and(|(&pages, _)| pages == "again"));
        near.clear();
        assert_eq!(near.find(NODE, EXTENT, SIZE, NEAR_NS), None);
    }

    #[test]
    fn reads_in_sequence_and_large_ones_go_to_the_owner() {
        let mut near = near();
        assert_eq!(near.find(NODE, EXTENT + SIZE, SIZE, 1), None, "behind the one that was noted");
        assert!(near.find(NODE, EXTENT + 5 * SIZE, SIZE, 1).is_some());
        assert_eq!(near.find(NODE, EXTENT + 6 * SIZE, SIZE, 1), None, "behind the one that was found");
        assert!(near.find(NODE, EXTENT, NEAR_BYTES_MAX, 1).is_some());
        assert_eq!(near.find(NODE, EXTENT, NEAR_BYTES_MAX + 1, 1), None);
        assert_eq!(near.find(NODE, EXTENT, 0, 1), None);
    }

    #[test]
    fn what_is_elsewhere_is_not_found() {
        let mut near = near();
        assert!(near.find(NODE, 2 * EXTENT - SIZE - 1, SIZE, 1).is_some());
        assert_eq!(near.find(NODE, 2 * EXTENT - SIZE, SIZE, 1), None, "a byte beyond the pages");
        assert_eq!(near.find(NODE, 0, SIZE, 1), None, "another extent");
        assert_eq!(near.find(NODE + (1 << 9), EXTENT, SIZE, 1), None, "another node");
        // One that shares the place: the later one stays.
        let shared = EXTENT + PLACES as u64 * EXTENT;
        near.note(NODE, shared, SIZE as usize, ("other", EXTENT_BYTES), 1);
        assert_eq!(near.find(NODE, EXTENT, SIZE, 1), None);
        assert!(near.find(NODE, shared, SIZE, 1).is_some());
    }
}
