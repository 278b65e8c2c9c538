//! Which huge pages of a mapping have no memory behind them yet, and which are to get theirs before they are written. Pure
//! bookkeeping; called by `slab.rs`, obeyed by `warmer.rs`.
//!
//! The kernel clears a huge page at its first write: 0.1 ms of a column's time where the machine has the memory at hand, up to
//! 10 ms where a hypervisor must find it first. So what is about to be written has its pages fetched by another thread.

use std::ops::Range;

/// The size of a huge page.
pub const HUGE_PAGE_BYTES: usize = 2 << 20;
/// How far behind what is being written pages are fetched: what a connection receives in a few milliseconds.
const AHEAD_BYTES: usize = 2 * HUGE_PAGE_BYTES;

/// The pages of a mapping.
pub struct Cold {
    /// One bit a page: it has memory, or soon will.
    warm: Vec<u64>,
    pages: usize,
}

impl Cold {
    /// A mapping of which nothing was touched.
    pub fn new(len: usize) -> Cold {
        let pages = len / HUGE_PAGE_BYTES;
        Cold { warm: vec![0; pages.div_ceil(64)], pages }
    }

    /// `written` is handed out for the first time: the bytes whose pages should be fetched now. Not its own first page, which its
    /// writer comes to before anybody else could; nothing beyond `end`, and nothing twice.
    pub fn ahead(&mut self, written: Range<usize>, end: usize) -> Option<Range<usize>> {
        let first = written.start / HUGE_PAGE_BYTES;
        self.mark(first);
        let last = (written.end + AHEAD_BYTES).min(end).div_ceil(HUGE_PAGE_BYTES).min(self.pages);
        let cold: Vec<usize> = (first + 1..last).filter(|&page| self.mark(page)).collect();
        // What lies between two cold pages and is warm costs a look.
        let (from, to) = (cold.first()?, cold.last()?);
        Some(from * HUGE_PAGE_BYTES..(to + 1) * HUGE_PAGE_BYTES)
    }

    /// The kernel has the pages back.
    pub fn on_given_back(&mut self, range: Range<usize>) {
        for page in range.start / HUGE_PAGE_BYTES..range.end / HUGE_PAGE_BYTES {
            self.warm[page / 64] &= !(1 << (page % 64));
        }
    }

    /// Whether it was cold.
    fn mark(&mut self, page: usize) -> bool {
        let (word, bit) = (&mut self.warm[page / 64], 1 << (page % 64));
        let was_cold = *word & bit == 0;
        *word |= bit;
        was_cold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = HUGE_PAGE_BYTES;

    #[test]
    fn each_page_is_fetched_once_and_before_it_is_written() {
        let mut cold = Cold::new(16 * PAGE);
        assert_eq!(cold.ahead(0..PAGE / 2, 8 * PAGE), Some(PAGE..3 * PAGE));
        assert_eq!(cold.ahead(PAGE / 2..PAGE, 8 * PAGE), None);
        assert_eq!(cold.ahead(PAGE..3 * PAGE / 2, 8 * PAGE), Some(3 * PAGE..4 * PAGE));
        // All of what is handed out, but its first page.
        assert_eq!(cold.ahead(4 * PAGE..7 * PAGE, 8 * PAGE), Some(5 * PAGE..8 * PAGE));
        assert_eq!(cold.ahead(7 * PAGE..8 * PAGE, 8 * PAGE), None, "the end");
        cold.on_given_back(0..8 * PAGE);
        assert_eq!(cold.ahead(6 * PAGE..7 * PAGE, 8 * PAGE), Some(7 * PAGE..8 * PAGE));
        assert_eq!(cold.ahead(15 * PAGE..16 * PAGE, usize::MAX), None, "the mapping ends");
    }
}
