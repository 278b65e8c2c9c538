//! The whole state, driven as a loop that waits would drive it, against an origin that lies and changes: no client ever gets a
//! byte of another version or another place, no slice comes twice at a time, and once the origin is honest everybody is served.
//!
//! Bytes are symbols: where the origin took them from, and of which version. A run is one seed; `BASALT_SEED=n` repeats it alone.

mod client;
mod origin;
mod rng;
mod world;

use world::World;

const SEEDS: u64 = 5000;
const STEPS: u64 = 400;

#[test]
fn no_client_gets_a_byte_of_another_version() {
    let one = std::env::var("BASALT_SEED").ok().map(|text| text.parse().expect("BASALT_SEED is a number"));
    let mut seen = world::Seen::default();
    for seed in one.map_or(0..SEEDS, |seed: u64| seed..seed + 1) {
        let told = Told(seed);
        let mut world = World::new(seed);
        (0..STEPS).for_each(|_| world.step());
        world.settle();
        seen.add(&world.seen);
        drop(told);
    }
    // A simulation in which nothing happens shows nothing.
    if one.is_none() {
        seen.assert_rich(SEEDS);
    }
}

struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("BASALT_SEED={} repeats it", self.0);
        }
    }
}
