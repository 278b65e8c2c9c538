//! What random runs meet once in some hundreds, played until it happens: each scene with as many seeds as it needs to be met.

use super::ask::{Ask, Wanted};
use super::client::Pace;
use super::objects::{KINDS, Object};
use super::origin;
use super::run::{SLICE_BYTES, slice_plan, start};
use super::settled::fetched_once;
use super::workload::Worker;
use super::world::{Calm, Names, World};
use crate::boot;
use runtime::io::Io;
use runtime::twin::{Fault, FaultPlan, Node, Rng, Twin, TwinIo};
use std::future::Future;
use std::rc::Rc;

/// Of each scene: the origin pauses as a scene needs it in one of eight.
const SEEDS: u64 = 60;
const LIMIT_NS: u64 = 3600 * 1_000_000_000;
const MS: u64 = 1_000_000;

/// A node with a proxy and, behind it, objects of these kinds, all of so many slices and a bit.
struct Stage {
    twin: Twin,
    world: Rc<World>,
    node: Node,
}

impl Stage {
    fn new(seed: u64, calm: Calm, kinds: &[usize], slices: u64) -> Stage {
        let (slice_bytes, mut rng) = (SLICE_BYTES[0], Rng::new(seed));
        let mut twin = Twin::new(seed, 1 << 30, FaultPlan::none());
        let objects = kinds.iter().enumerate();
        let objects = objects
            .map(|(at, kind)| Object::of_size(at, KINDS[*kind], slices * slice_bytes + 5, &mut rng))
            .collect();
        let world = World::new(twin.watch(), slice_bytes, calm, objects);
        origin::serve(&twin.outside(), &world, seed);
        let plan = slice_plan(slice_bytes, &mut rng);
        let node = start(&mut twin, &world, (1, 1, 512 << 20), &plan).expect("it starts");
        Stage { twin, world, node }
    }

    fn play<F: Future<Output = ()> + 'static>(&self, scene: impl FnOnce(TwinIo, Rc<World>) -> F) {
        self.twin.run(LIMIT_NS, scene(self.twin.outside(), self.world.clone()));
    }

    /// What was broken, if anything was.
    fn end(self) -> Result<Rc<World>, String> {
        self.world.is_up.set(false);
        boot::stop(&self.twin, self.node);
        self.twin.run_until(LIMIT_NS, || self.world.running.get() == 0);
        let broken = self.world.broken.borrow().clone();
        broken.map_or(Ok(self.world), Err)
    }
}

fn worker(io: &TwinIo, world: &Rc<World>) -> Worker {
    Worker::new(io, world, Rng::new(1))
}

/// Asks for a whole object beside what else goes on.
fn ask_beside(io: &TwinIo, world: &Rc<World>, object: usize) {
    let mut worker = worker(io, world);
    world.running.set(world.running.get() + 1);
    let world = world.clone();
    io.spawn("client", async move {
        worker.ask(&Ask::whole(object), Pace::Quick).await;
        world.running.set(world.running.get() - 1);
    });
}

async fn all_answered(io: &TwinIo, world: &World) {
    while world.running.get() > 0 {
        io.sleep(MS).await;
    }
}

/// The origin takes its time. Behind a soft purge of what it was asked for somebody joins those who wait; then that is purged again.
async fn purged_twice(io: TwinIo, world: Rc<World>) {
    ask_beside(&io, &world, 0);
    io.sleep(50 * MS).await;
    let mut purger = worker(&io, &world);
    let head = |soft: u8| format!("PURGE /x/0 HTTP/1.1\r\nHost: twin\r\nSoft-Purge: {soft}\r\n\r\n");
    assert!(purger.order(&head(1), &[], Names::Object(0), (true, None)).await);
    ask_beside(&io, &world, 0);
    io.sleep(20 * MS).await;
    assert!(purger.order(&head(0), &[], Names::Object(0), (false, None)).await);
    all_answered(&io, &world).await;
}

#[test]
fn who_comes_behind_a_purge_is_not_answered_with_what_was_asked_before_it() {
    for seed in 0..SEEDS {
        let stage = Stage::new(seed, Calm::None, &[1], 0);
        stage.play(purged_twice);
        assert_eq!(stage.end().err(), None, "seed {seed}");
    }
}

/// A purge of what is nowhere, and the time in which what is stored is looked through for it: records are in memory then.
async fn look_through(io: TwinIo, world: Rc<World>) {
    let mut worker = worker(&io, &world);
    worker.ask(&Ask::whole(0), Pace::Quick).await;
    for _ in 0..3 {
        let head = "PURGE /elsewhere/* HTTP/1.1\r\nHost: twin\r\n\r\n";
        assert!(worker.order(head, &[], Names::Object(9), (false, None)).await);
        io.sleep(1000 * MS).await;
    }
}

async fn post_and_ask(io: TwinIo, world: Rc<World>) {
    let mut worker = worker(&io, &world);
    let head = "PURGE /elsewhere HTTP/1.1\r\nHost: twin\r\n\r\n";
    assert!(!worker.order(head, &[], Names::Object(9), (false, None)).await, "the disk takes nothing more");
    assert!(worker.post(0).await);
    worker.ask(&Ask::whole(0), Pace::Quick).await;
}

#[test]
fn what_an_unsafe_method_changed_is_not_served_where_the_disk_takes_nothing_more() {
    // The second kind has variants, whose records nobody may know the names of.
    for kind in [1, 6] {
        let stage = Stage::new(1, Calm::None, &[kind], 3);
        stage.world.disks_fail.set(true);
        stage.play(look_through);
        stage.twin.set_faults(FaultPlan::none().with(Fault::NoSpace, 1_000_000));
        stage.play(post_and_ask);
        assert_eq!(stage.end().err(), None, "{:?}", KINDS[kind]);
    }
}

async fn two_at_once(io: TwinIo, world: Rc<World>) {
    let first = Ask::whole(0);
    let mut worker = worker(&io, &world);
    ask_beside(&io, &world, 0);
    worker.ask(&first, Pace::Quick).await;
    all_answered(&io, &world).await;
}

#[test]
fn who_come_first_at_the_same_time_have_it_fetched_once() {
    for seed in 0..SEEDS {
        let stage = Stage::new(seed, Calm::Still, &[1], 0);
        stage.twin.set_faults(FaultPlan::none().with(Fault::SlowTask, 100_000));
        stage.play(two_at_once);
        let done = stage.end().and_then(|world| fetched_once(&world));
        assert_eq!(done.err(), None, "seed {seed}");
    }
}

/// A client that has all it asked for goes on over the same connection, also if the version ends as its last byte leaves.
async fn ends_behind_the_last_byte(io: TwinIo, world: Rc<World>) {
    let mut worker = worker(&io, &world);
    worker.ask(&Ask::whole(0), Pace::Quick).await;
    io.sleep(1000 * MS).await;
    worker.change(0);
    // Stale, and served while it is asked about.
    world.watch.advance_calendar(4000);
    worker.ask(&Ask { wanted: Wanted::Between(7, 7), ..Ask::whole(0) }, Pace::Quick).await;
    worker.ask(&Ask::whole(1), Pace::Quick).await;
}

#[test]
fn a_version_that_ends_behind_the_last_byte_cuts_nobody_off() {
    for seed in 0..SEEDS {
        let stage = Stage::new(seed, Calm::Changing, &[4, 1], 3);
        stage.play(ends_behind_the_last_byte);
        assert_eq!(stage.end().err(), None, "seed {seed}");
    }
}

async fn asks_twice(io: TwinIo, world: Rc<World>) {
    let mut worker = worker(&io, &world);
    worker.ask(&Ask::whole(0), Pace::Quick).await;
    world.operations.set(1);
    worker.ask(&Ask::whole(0), Pace::Quick).await;
    world.running.set(0);
}

#[test]
fn a_node_that_stops_blames_nobody_whose_head_comes_in_pieces() {
    for seed in 0..SEEDS * 8 {
        let stage = Stage::new(seed, Calm::None, &[1], 0);
        stage.twin.set_faults(FaultPlan::none().with(Fault::ShortSend, 500_000));
        let (io, world) = (stage.twin.outside(), stage.world.clone());
        world.running.set(1);
        io.spawn("client", asks_twice(io.clone(), world.clone()));
        stage.twin.run_until(LIMIT_NS, || world.operations.get() > 0);
        // Before the head comes, in the middle of it, behind it.
        (0..seed % 10).for_each(|_| _ = stage.twin.step());
        assert_eq!(stage.end().err(), None, "seed {seed}");
    }
}
