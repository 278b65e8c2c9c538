//! The free lists of an arena: slabs of equal pieces, by size class. Pure bookkeeping over offsets; touches no memory.
//! Called by `arena.rs` on the home column only.
//!
//! A *chunk* is 16 MiB of the mapping; a *slab* is a chunk (or a 1 MiB piece) cut into equal pieces of one class.

use super::cold::Cold;
use std::ops::Range;

/// Bytes of a chunk, and of the largest class.
pub const CHUNK_BYTES: usize = 16 << 20;
const BLOCK_BYTES: usize = 1 << 20;

/// Piece sizes. Up to 512 KiB they are cut from 1 MiB blocks, above from chunks. Steps of at most 1.5× bound the waste.
pub const CLASS_BYTES: [usize; 26] = [
    64,
    128,
    192,
    256,
    384,
    512,
    768,
    1024,
    1536,
    2048,
    3072,
    4096,
    6144,
    8192,
    12288,
    16384,
    24576,
    32768,
    49152,
    65536,
    131_072,
    262_144,
    524_288,
    BLOCK_BYTES,
    4 << 20,
    CHUNK_BYTES,
];
const BLOCK_CLASS: usize = 23;

/// Where a piece is: enough to free it in constant time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Offset in the mapping.
    pub offset: usize,
    /// Slab number.
    pub slab: u32,
    /// Piece number in its slab.
    pub index: u16,
}

struct Slab {
    base: usize,
    class: u8,
    used: u16,
    fresh: u16,
    free: Vec<u16>,
    partial_at: u32,
    parent: Option<Piece>,
}

#[derive(Default)]
struct Class {
    /// Slabs with room, the last one used first.
    partial: Vec<u32>,
}

/// All free lists of one arena.
pub struct Slabs {
    classes: [Class; CLASS_BYTES.len()],
    slabs: Vec<Slab>,
    unused_slabs: Vec<u32>,
    /// Free chunks whose pages are still ours.
    free_chunks: Vec<u32>,
    /// Free chunks whose pages the kernel has back.
    clean_chunks: Vec<u32>,
    /// Chunks whose pages are never given back: the kernel holds them for I/O.
    kept_chunks: Vec<u32>,
    fresh_chunk: u32,
    /// Chunks there are, and how many may be in use now.
    chunks: u32,
    chunks_max: u32,
    chunks_used: u32,
    cold: Cold,
    /// To be fetched before it is written.
    ahead: Option<Range<usize>>,
}

/// The smallest class that holds `len` bytes; `None` above the largest.
pub fn class_of(len: usize) -> Option<usize> {
    let class = CLASS_BYTES.partition_point(|&size| size < len);
    (class < CLASS_BYTES.len()).then_some(class)
}

/// Bytes of memory that a closely fitting buffer of `len` bytes takes.
pub fn footprint_bytes(len: usize) -> usize {
    class_of(len).map_or(len, |class| CLASS_BYTES[class])
}

/// The smallest class for I/O: block-aligned pieces only.
pub fn aligned_class_of(len: usize) -> Option<usize> {
    let rounded = len.max(4096).checked_next_power_of_two()?;
    let class = class_of(rounded)?;
    debug_assert_eq!(CLASS_BYTES[class] % 4096, 0, "class {class} breaks O_DIRECT alignment");
    Some(class)
}

fn pieces_in(class: usize) -> u16 {
    let slab = if class < BLOCK_CLASS { BLOCK_BYTES } else { CHUNK_BYTES };
    (slab / CLASS_BYTES[class]) as u16
}

impl Slabs {
    /// Free lists over a mapping of `len` bytes, a multiple of the chunk size.
    pub fn new(len: usize) -> Slabs {
        assert!(len.is_multiple_of(CHUNK_BYTES) && len > 0, "arena of {len} bytes is not whole chunks");
        Slabs {
            classes: Default::default(),
            slabs: Vec::new(),
            unused_slabs: Vec::new(),
            free_chunks: Vec::new(),
            clean_chunks: Vec::new(),
            kept_chunks: Vec::new(),
            fresh_chunk: 0,
            chunks: (len / CHUNK_BYTES) as u32,
            chunks_max: (len / CHUNK_BYTES) as u32,
            chunks_used: 0,
            cold: Cold::new(len),
            ahead: None,
        }
    }

    /// Bytes of chunks that hold at least one piece.
    pub fn used_bytes(&self) -> usize {
        self.chunks_used as usize * CHUNK_BYTES
    }

    /// Takes a piece of a class.
    pub fn alloc(&mut self, class: usize) -> Option<Piece> {
        let id = match self.classes[class].partial.last() {
            Some(&id) => id,
            None => self.add_slab(class)?,
        };
        let slab = &mut self.slabs[id as usize];
        debug_assert_eq!(usize::from(slab.class), class);
        let given_back = slab.free.pop();
        let index = given_back.unwrap_or_else(|| {
            slab.fresh += 1;
            slab.fresh - 1
        });
        slab.used += 1;
        let (base, offset) = (slab.base, slab.base + usize::from(index) * CLASS_BYTES[class]);
        if slab.used == pieces_in(class) {
            let last = self.classes[class].partial.pop();
            assert_eq!(last, Some(id), "the slab in use is the last partial one");
        }
        // Smaller ones are cut from pieces of that class.
        if given_back.is_none() && class >= BLOCK_CLASS {
            self.ahead = self.cold.ahead(offset..offset + CLASS_BYTES[class], base + CHUNK_BYTES);
        }
        Some(Piece { offset, slab: id, index })
    }

    /// Bytes of the mapping that are written soon, and for the first time.
    pub fn take_ahead(&mut self) -> Option<Range<usize>> {
        self.ahead.take()
    }

    /// Gives a piece back.
    pub fn free(&mut self, piece: Piece) {
        let slab = &mut self.slabs[piece.slab as usize];
        let class = usize::from(slab.class);
        assert!(slab.used > 0 && piece.index < slab.fresh, "freed a piece that is not out: {piece:?}");
        let was_full = slab.used == pieces_in(class);
        slab.free.push(piece.index);
        slab.used -= 1;
        let empty = slab.used == 0;
        let partial = &mut self.classes[class].partial;
        if was_full {
            slab.partial_at = partial.len() as u32;
            partial.push(piece.slab);
        }
        // One empty slab a class stays, or a single get and put would cut and join a chunk each time.
        if empty && partial.len() > 1 {
            self.remove_slab(piece.slab);
        }
    }

    /// Joins the empty slabs that `free` kept, so that other classes can have their memory. True if any was.
    pub fn trim(&mut self) -> bool {
        let mut any = false;
        for class in 0..CLASS_BYTES.len() {
            let empty =
                self.classes[class].partial.iter().find(|&&id| self.slabs[id as usize].used == 0).copied();
            if let Some(id) = empty {
                self.remove_slab(id);
                any = true;
            }
        }
        any
    }

    /// Bytes whose pages we hold, in use or not.
    pub fn touched_bytes(&self) -> usize {
        (self.chunks_used as usize + self.free_chunks.len()) * CHUNK_BYTES
    }

    /// Sets how many bytes of chunks may be in use from now on (those in use stay).
    pub fn set_max_bytes(&mut self, bytes: usize) {
        self.chunks_max = self.chunks.min((bytes / CHUNK_BYTES) as u32);
    }

    /// Offsets of the free chunks whose pages we hold: the caller gives those pages back.
    pub fn clean_free_chunks(&mut self) -> Vec<usize> {
        let free = std::mem::take(&mut self.free_chunks);
        let kept = |chunk: &u32| self.kept_chunks.contains(chunk);
        let (kept, chunks): (Vec<u32>, Vec<u32>) = free.into_iter().partition(kept);
        self.free_chunks = kept;
        self.clean_chunks.extend(&chunks);
        let offsets: Vec<usize> = chunks.into_iter().map(|c| c as usize * CHUNK_BYTES).collect();
        offsets.iter().for_each(|&offset| self.cold.on_given_back(offset..offset + CHUNK_BYTES));
        offsets
    }

    /// From now on the pages of the chunk that holds `piece` stay. Returns the chunk's number.
    pub fn keep_chunk_of(&mut self, piece: Piece) -> usize {
        let chunk = piece.offset / CHUNK_BYTES;
        if !self.kept_chunks.contains(&(chunk as u32)) {
            self.kept_chunks.push(chunk as u32);
        }
        chunk
    }

    fn take_chunk(&mut self) -> Option<u32> {
        if self.chunks_used >= self.chunks_max {
            return None;
        }
        let fresh = || {
            assert!(self.fresh_chunk < self.chunks, "fewer chunks in use than there are, and none free");
            self.fresh_chunk += 1;
            self.fresh_chunk - 1
        };
        let chunk = self.free_chunks.pop().or_else(|| self.clean_chunks.pop()).unwrap_or_else(fresh);
        self.chunks_used += 1;
        Some(chunk)
    }

    fn add_slab(&mut self, class: usize) -> Option<u32> {
        let (base, parent) = if class < BLOCK_CLASS {
            let block = self.alloc(BLOCK_CLASS)?;
            (block.offset, Some(block))
        } else {
            (self.take_chunk()? as usize * CHUNK_BYTES, None)
        };
        let partial_at = self.classes[class].partial.len() as u32;
        let slab = Slab { base, class: class as u8, used: 0, fresh: 0, free: Vec::new(), partial_at, parent };
        let id = match self.unused_slabs.pop() {
            Some(id) => {
                let free = std::mem::take(&mut self.slabs[id as usize].free);
                self.slabs[id as usize] = Slab { free, ..slab };
                self.slabs[id as usize].free.clear();
                id
            }
            None => {
                self.slabs.push(slab);
                (self.slabs.len() - 1) as u32
            }
        };
        self.classes[class].partial.push(id);
        Some(id)
    }

    fn remove_slab(&mut self, id: u32) {
        let slab = &self.slabs[id as usize];
        assert_eq!(slab.used, 0, "removed a slab with {} pieces out", slab.used);
        let (class, at, base, parent) =
            (usize::from(slab.class), slab.partial_at as usize, slab.base, slab.parent);
        let partial = &mut self.classes[class].partial;
        assert_eq!(partial[at], id, "partial list lost a slab");
        partial.swap_remove(at);
        if let Some(&moved) = partial.get(at) {
            self.slabs[moved as usize].partial_at = at as u32;
        }
        self.unused_slabs.push(id);
        match parent {
            Some(block) => self.free(block),
            None => {
                self.chunks_used -= 1;
                self.free_chunks.push((base / CHUNK_BYTES) as u32);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn classes_are_sorted_and_io_classes_aligned() {
        assert!(CLASS_BYTES.is_sorted());
        assert_eq!(CLASS_BYTES[BLOCK_CLASS], BLOCK_BYTES);
        for len in [1, 4096, 4097, 65536, 1 << 20, (1 << 20) + 1, 16 << 20] {
            let class = aligned_class_of(len).expect("has a class");
            assert!(CLASS_BYTES[class] >= len && CLASS_BYTES[class].is_multiple_of(4096));
        }
        assert_eq!(class_of(CHUNK_BYTES + 1), None);
    }

    #[test]
    fn everything_freed_can_be_one_large_buffer_again() {
        let mut slabs = Slabs::new(CHUNK_BYTES);
        let small: Vec<Piece> = std::iter::from_fn(|| slabs.alloc(0)).collect();
        assert_eq!(small.len(), CHUNK_BYTES / 64, "the whole chunk is usable");
        assert!(slabs.alloc(CLASS_BYTES.len() - 1).is_none());
        small.into_iter().for_each(|p| slabs.free(p));
        slabs.trim();
        assert!(slabs.alloc(CLASS_BYTES.len() - 1).is_some());
    }

    #[test]
    fn kept_chunks_are_not_given_back() {
        let mut slabs = Slabs::new(4 * CHUNK_BYTES);
        let large = CLASS_BYTES.len() - 1;
        let (kept, other) = (slabs.alloc(large), slabs.alloc(large));
        let (kept, other) = (kept.expect("room"), other.expect("room"));
        assert_eq!(slabs.keep_chunk_of(kept), kept.offset / CHUNK_BYTES);
        slabs.free(kept);
        slabs.free(other);
        slabs.trim();
        slabs.trim();
        assert_eq!(slabs.clean_free_chunks(), [other.offset]);
        assert_eq!(slabs.touched_bytes(), CHUNK_BYTES);
    }

    proptest! {
        /// Against the obvious model: pieces out never overlap and stay inside the mapping.
        #[test]
        fn pieces_never_overlap(ops in prop::collection::vec((0usize..CLASS_BYTES.len(), any::<u16>()), 1..400)) {
            let mut slabs = Slabs::new(4 * CHUNK_BYTES);
            let mut out: Vec<(usize, Piece)> = Vec::new();
            for (class, pick) in ops {
                if pick % 3 == 0 && !out.is_empty() {
                    let (_, piece) = out.swap_remove(usize::from(pick) % out.len());
                    slabs.free(piece);
                    continue;
                }
                let Some(piece) = slabs.alloc(class) else { continue };
                let (from, to) = (piece.offset, piece.offset + CLASS_BYTES[class]);
                prop_assert!(to <= 4 * CHUNK_BYTES);
                for &(other, p) in &out {
                    prop_assert!(to <= p.offset || p.offset + CLASS_BYTES[other] <= from);
                }
                out.push((class, piece));
            }
            out.into_iter().for_each(|(_, p)| slabs.free(p));
            slabs.trim();
            slabs.trim();
            prop_assert_eq!(slabs.used_bytes(), 0);
        }
    }
}
