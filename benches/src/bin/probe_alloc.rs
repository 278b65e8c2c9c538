//! The baseline of the buffer pool: what a fresh zeroed buffer costs when every page of it is touched.
//!
//! `probe_alloc [--core 0] [--seconds 0.5]`: one line of JSON, ns per allocate, touch and free, by size in bytes.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::hint::black_box;
use std::time::{Duration, Instant};

use benches::args::Args;
use benches::{Result, cpu, quantile};

const SIZES: [usize; 3] = [1 << 20, 4 << 20, 16 << 20];
const PAGE_BYTES: usize = 4096;

/// Median ns of allocating `size` zeroed bytes, writing one byte of each page and freeing them.
fn measure(size: usize, length: Duration) -> Result<f64> {
    let layout = Layout::from_size_align(size, PAGE_BYTES)?;
    let mut times = Vec::new();
    let start = Instant::now();
    while start.elapsed() < length || times.len() < 3 {
        let begin = Instant::now();
        // SAFETY: the layout is not empty; the block is written inside its bounds and freed with the same layout.
        unsafe {
            let block = alloc_zeroed(layout);
            if block.is_null() {
                return Err(format!("no {size} bytes").into());
            }
            for page in (0..size).step_by(PAGE_BYTES) {
                black_box(block.add(page)).write_volatile(1);
            }
            dealloc(black_box(block), layout);
        }
        times.push(begin.elapsed().as_nanos() as f64);
    }
    Ok(quantile(&mut times, 0.5))
}

fn main() -> Result<()> {
    let mut args = Args::parse(std::env::args().skip(1), &[])?;
    cpu::pin(args.get("core", 0)?)?;
    let length = Duration::from_secs_f64(args.get("seconds", 0.5)?);
    args.finish()?;
    let mut fields = Vec::new();
    for size in SIZES {
        fields.push(format!("\"{size}\":{:.0}", measure(size, length)?));
    }
    println!("{{{}}}", fields.join(","));
    Ok(())
}
