//! What must hold when nothing goes wrong any more: everything heals, nothing is left over; and, where nothing ever went wrong,
//! every slice was fetched once. Called by `run` and `lies`.

use super::client::{Client, Pace};
use super::objects::Validated;
use super::workload::look_at_all;
use super::world::World;
use crate::boot;
use runtime::io::Io;
use runtime::twin::{Twin, TwinIo};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Simulated time that all of it may take.
const LIMIT_NS: u64 = 3600 * 1_000_000_000;
/// The longest that anything goes on for nobody: an origin that hangs, waits between tries, an origin that is left alone.
const QUIET_NS: u64 = 300_000_000_000;
const LOOK_NS: u64 = 1_000_000_000;
/// Tries until an object is served whole.
const HEALING_TRIES: usize = 3;

/// Nothing goes wrong from now on: what is under way comes to its end, everything is served whole and as it is, and nothing is left.
pub fn settle(twin: &Twin, world: &Rc<World>) {
    let io = twin.outside();
    let shared = world.clone();
    twin.run(LIMIT_NS, async move {
        let Err(left) = quiet(&io).await else {
            look_at_all(io.clone(), shared.clone(), HEALING_TRIES).await;
            if let Err(left) = quiet(&io).await {
                shared.violate(format!("left over when all were served: {left:?}"));
            }
            return;
        };
        shared.violate(format!("left over when nobody asks any more: {left:?}"));
    });
}

/// Gauges that are back at zero when nobody asks for anything.
const HELD: [&str; 5] = [
    "slicecache_readers",
    "slicecache_memory_held_bytes",
    "slicecache_store_buffers",
    "slicecache_reads_running",
    "slicecache_origin_requests{",
];

/// Waits until nothing is held. What still is, when that does not come.
async fn quiet(io: &TwinIo) -> Result<(), BTreeMap<String, i64>> {
    let due_ns = io.now_ns() + QUIET_NS;
    loop {
        let mut client = Client::at(io, boot::ops_addr());
        let answer = client.call("GET /metrics HTTP/1.1\r\nHost: twin\r\n\r\n", &[], Pace::Quick).await;
        let text = String::from_utf8(answer.expect("an answer").body).expect("text");
        let mut held: BTreeMap<String, i64> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some(name) = HELD.iter().find(|name| line.starts_with(**name)) else { continue };
            let value = line.rsplit(' ').next().and_then(|value| value.parse::<i64>().ok());
            *held.entry((*name).to_owned()).or_default() += value.expect("a number");
        }
        assert_eq!(held.len(), HELD.len(), "gauges are missing: {held:?}");
        if held.values().all(|value| *value == 0) {
            return Ok(());
        }
        if io.now_ns() > due_ns {
            return Err(held);
        }
        io.sleep(LOOK_NS).await;
    }
}

/// Where nothing changed or failed no slice was fetched twice in a boot.
pub fn fetched_once(world: &World) -> Result<(), String> {
    let (log, objects) = (world.log.borrow(), world.objects.borrow());
    let mut fetched: BTreeMap<(u64, usize, u64), u64> = BTreeMap::new();
    for logged in log.iter().filter(|logged| !logged.is_passed) {
        let kind = objects[logged.object].kind;
        if kind.varies || !kind.is_shared || kind.validated == Validated::Not {
            continue;
        }
        let size = objects[logged.object].versions[0].size();
        for slice in 0..size.div_ceil(world.slice_bytes) {
            let bytes = slice * world.slice_bytes..size.min((slice + 1) * world.slice_bytes);
            if logged.meant.start <= bytes.start && bytes.end <= logged.meant.end {
                let count = fetched.entry((logged.boot, logged.object, slice)).or_default();
                *count += 1;
                if *count > 1 {
                    let history = world.history(logged.object);
                    return Err(format!(
                        "slice {slice} of object {} was fetched twice{history}",
                        logged.object
                    ));
                }
            }
        }
    }
    Ok(())
}
