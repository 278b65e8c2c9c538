//! One byte of a data directory changes, of any file of any kind: afterwards the node serves right bytes or says clearly that it
//! cannot, never wrong bytes, and never panics.

use crate::boot;
use crate::random::number;
use crate::script::{Op, begun, blobs, copy_of, look_at, machine, perform, shared, while_running};
use runtime::twin::Twin;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Bytes of each kind of file when it is no soak.
const BYTES_OF_KIND: u64 = 300;
const SECTOR_BYTES: u64 = 4096;

fn kind(name: &str) -> &str {
    let kinds = ["FORMAT", "pack-", "index-", "checkpoint-", ".sums"];
    kinds.into_iter().find(|kind| name.contains(kind)).unwrap_or("object")
}

/// What is done to a byte. One hex digit is another by one bit, and not by two, which make it something that is none.
fn masks(kind: &str) -> &'static [u8] {
    if kind == "FORMAT" { &[1, 2, 4, 8, 16, 32, 64, 128] } else { &[0x41] }
}

#[test]
fn any_one_byte_may_change() {
    let soak = number("BASALT_SEEDS").is_some();
    let blobs = blobs();
    let begin = begun(&blobs);
    let mut twin = Twin::resume(2, &begin.0);
    let shared = shared(&twin, &blobs, begin.1, true);
    let mut node = boot::start(&mut twin, machine(1)).expect("starts");
    let ops =
        vec![Op::PutSmall, Op::Upkeep, Op::PutLarge, Op::PutBriefForGood, Op::DeleteSmall, Op::PutSmall];
    while_running(&twin, &mut node, perform(twin.outside(), shared.clone(), ops), &mut |_| ());
    node.kill();
    let mut model = copy_of(&shared.model);
    // A changed byte in what no claim covers is a torn tail: what was there is gone.
    model.may_lose = true;
    let image = twin.image();
    let mut bytes: BTreeMap<&str, Vec<(std::path::PathBuf, u64)>> = BTreeMap::new();
    let files = image.files();
    for (path, size, sectors) in &files {
        let name = path.file_name().and_then(|n| n.to_str()).expect("names are text");
        let all = sectors.iter().flat_map(|at| *at..(at + SECTOR_BYTES).min(*size));
        bytes.entry(kind(name)).or_default().extend(all.map(|at| (path.clone(), at)));
    }
    assert_eq!(bytes.len(), 6, "{:?}", bytes.keys());
    std::panic::set_hook(Box::new(|_| ()));
    let mut broken = Vec::new();
    for (kind, places) in &bytes {
        // Its first bytes, which say what it is, and others here and there.
        let step = if soak { 1 } else { (places.len() as u64 / BYTES_OF_KIND).max(1) as usize | 1 };
        let first = if soak { 0 } else { 64.min(places.len()) };
        let chosen = places[..first].iter().chain(places[first..].iter().step_by(step));
        let mut count = 0;
        for ((path, at), mask) in chosen.flat_map(|place| masks(kind).iter().map(move |mask| (place, mask))) {
            let mut flipped = image.clone();
            assert!(flipped.flip_bits(path, *at, *mask), "{} has no byte {at}", path.display());
            count += 1;
            let looked = catch_unwind(AssertUnwindSafe(|| look_at(&flipped, &blobs, &model, machine(1))));
            match looked {
                Ok(Ok(())) => {}
                Ok(Err(why)) => broken.push(format!("{} byte {at} by {mask:#x}: {why}", path.display())),
                Err(_) => broken.push(format!("{} byte {at} by {mask:#x}: panicked", path.display())),
            }
        }
        println!("{kind:<12} {count:>6} changes, one at a time");
    }
    let _ = std::panic::take_hook();
    assert!(broken.is_empty(), "{} of them, first: {:?}", broken.len(), &broken[..broken.len().min(5)]);
}
