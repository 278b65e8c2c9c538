//! The buffer pool against the allocator: getting and putting back 1, 4 and 16 MiB of a column's arena, beside allocating
//! a zeroed vector of that size and touching it. `zeroed` is memory that the allocator kept and clears again; `fresh` is
//! pages from the kernel each time, as in a process whose large blocks are mapped: allocate-and-zero in the full sense.
//!
//! `cargo bench -p benches --bench pool`. Before timing, gets and puts are counted by the global allocator: there must be
//! none of its calls.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use criterion::{Criterion, criterion_group};
use runtime::buffer::Arena;

const SIZES_BYTES: [usize; 3] = [1 << 20, 4 << 20, 16 << 20];
const PAGE_BYTES: usize = 4096;
const COUNTED_GETS: usize = 100_000;

/// The system's allocator, counted.
struct Counting;

static CALLS: AtomicU64 = AtomicU64::new(0);

// SAFETY: passes every call on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: our caller's promise is the one asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: our caller's promise is the one asked for.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: our caller's promise is the one asked for.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn get_and_put(arena: Arena, bytes: usize) {
    let buffer = arena.alloc_aligned(black_box(bytes));
    black_box(buffer.expect("the arena has room for one").as_ptr());
}

fn assert_no_allocation(arena: Arena, bytes: usize) {
    get_and_put(arena, bytes); // the first makes the free lists
    let before = CALLS.load(Ordering::Relaxed);
    (0..COUNTED_GETS).for_each(|_| get_and_put(arena, bytes));
    let calls = CALLS.load(Ordering::Relaxed) - before;
    assert_eq!(calls, 0, "{COUNTED_GETS} gets of {bytes} bytes called the allocator");
}

fn allocate_and_zero(bytes: usize) {
    let mut fresh = vec![0u8; black_box(bytes)];
    for page in fresh.chunks_mut(PAGE_BYTES) {
        page[0] = black_box(1);
    }
    black_box(fresh.as_ptr());
}

/// Whether the allocator keeps the pages of freed blocks or maps and unmaps each; glibc otherwise learns one or the other.
fn keep_freed_pages(keep: bool) {
    let from_bytes = if keep { i32::MAX } else { 1 << 17 };
    for policy in [libc::M_MMAP_THRESHOLD, libc::M_TRIM_THRESHOLD] {
        // SAFETY: takes two integers and changes only the allocator's policy.
        let changed = unsafe { libc::mallopt(policy, from_bytes) };
        assert_eq!(changed, 1, "mallopt refused {from_bytes}");
    }
}

fn pools(criterion: &mut Criterion) {
    let arena = Arena::new(64 << 20).expect("64 MiB can be mapped");
    for bytes in SIZES_BYTES {
        assert_no_allocation(arena, bytes);
        let mib = bytes >> 20;
        let mut group = criterion.benchmark_group(format!("{mib}MiB"));
        group.bench_function("pool", |b| b.iter(|| get_and_put(arena, bytes)));
        group.sample_size(20);
        keep_freed_pages(true);
        group.bench_function("zeroed", |b| b.iter(|| allocate_and_zero(bytes)));
        keep_freed_pages(false);
        group.bench_function("fresh", |b| b.iter(|| allocate_and_zero(bytes)));
        group.finish();
    }
}

criterion_group!(benches, pools);

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
}
