//! The promises of the scheduler, held against random and against merciless loads.

use super::*;
use proptest::prelude::*;

/// Cost of the largest operation.
const COST_MAX: u64 = 1 + (OPERATION_BYTES_MAX / BYTES_PER_COST) as u64;

/// A scheduler and what it should know.
struct Model {
    scheduler: Scheduler<u64>,
    next: u64,
    queued: [VecDeque<(u64, Ticket)>; CLASSES],
    running: Vec<(Class, u32)>,
    started: [u64; CLASSES],
    /// Cost of what others have started since this class last did.
    passed: [u64; CLASSES],
}

impl Model {
    fn new(limits: Limits) -> Model {
        Model {
            scheduler: Scheduler::new(limits),
            next: 0,
            queued: Default::default(),
            running: Vec::new(),
            started: [0; CLASSES],
            passed: [0; CLASSES],
        }
    }

    fn arrive(&mut self, class: Class, bytes: u32) {
        if self.scheduler.start_now(class, bytes) {
            assert!(self.queued.iter().all(VecDeque::is_empty), "overtook what waits");
            self.on_started(class, bytes);
        } else {
            let number = self.next;
            self.next += 1;
            let ticket = self.scheduler.wait(class, bytes, WAITING_MAX, number).expect("room");
            self.queued[class as usize].push_back((number, ticket));
        }
        self.start_all();
    }

    fn on_started(&mut self, class: Class, bytes: u32) {
        self.running.push((class, bytes));
        self.started[class as usize] += 1;
        self.passed.iter_mut().for_each(|passed| *passed += cost(bytes));
        self.passed[class as usize] = 0;
        self.must_keep_bounds();
    }

    fn start_all(&mut self) {
        while let Some((class, bytes, number)) = self.scheduler.start_next() {
            let first = self.queued[class as usize].pop_front().expect("it was queued");
            assert_eq!(first.0, number, "{class:?} is out of order");
            self.on_started(class, bytes);
        }
        let raft_waits = !self.queued[0].is_empty();
        let raft_runs = self.scheduler.in_flight(Class::RaftSync).operations;
        if raft_waits && raft_runs < self.scheduler.limits().raft_operations() {
            let bytes = OPERATION_BYTES_MAX;
            assert!(self.scheduler.fits(Class::RaftSync, bytes).is_err(), "a Raft sync waits for nothing");
        }
        assert!(!self.running.is_empty() || !self.scheduler.has_waiting(), "stuck");
    }

    fn end(&mut self, at: usize) {
        let (class, bytes) = self.running.remove(at);
        self.scheduler.end(class, bytes);
        self.start_all();
    }

    fn cancel(&mut self, class: Class, at: usize) {
        let queue = &mut self.queued[class as usize];
        if let Some((number, ticket)) = queue.remove(at % queue.len().max(1)) {
            assert_eq!(self.scheduler.cancel(class, ticket), Some(number));
            assert_eq!(self.scheduler.cancel(class, ticket), None);
        }
        self.start_all();
    }

    fn must_keep_bounds(&self) {
        for (level, class) in Class::ALL.into_iter().enumerate() {
            let below = self.running.iter().filter(|(running, _)| *running >= class);
            let load = below.fold(Load::default(), |sum, (_, bytes)| Load {
                operations: sum.operations + 1,
                bytes: sum.bytes + u64::from(*bytes),
            });
            let cap = self.scheduler.limits().cap(level);
            assert!(load.operations <= cap.operations && load.bytes <= cap.bytes, "{class:?}: {load:?}");
            assert_eq!(self.scheduler.in_flight[level], load, "{class:?} is counted wrong");
            assert_eq!(self.scheduler.waiting(class), self.queued[level].len());
        }
    }
}

fn any_class() -> impl Strategy<Value = Class> {
    (0..CLASSES).prop_map(|at| Class::ALL[at])
}

/// Syncs, blocks, and the largest operations.
fn any_bytes() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(4096), 1..=OPERATION_BYTES_MAX, Just(OPERATION_BYTES_MAX)]
}

#[derive(Clone, Debug)]
enum Event {
    Arrive(Class, u32),
    End(usize),
    Cancel(Class, usize),
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (any_class(), any_bytes()).prop_map(|(class, bytes)| Event::Arrive(class, bytes)),
        3 => any::<usize>().prop_map(Event::End),
        1 => (any_class(), any::<usize>()).prop_map(|(class, at)| Event::Cancel(class, at)),
    ]
}

proptest! {
    #[test]
    fn bounds_and_order_hold_and_nothing_is_forgotten(
        events in proptest::collection::vec(any_event(), 1..400),
        operations in OPERATIONS..64u32,
        mib in 4..32u64,
    ) {
        let mut model = Model::new(Limits::new(operations, mib << 20));
        for event in events {
            match event {
                Event::Arrive(class, bytes) => model.arrive(class, bytes),
                Event::End(at) if !model.running.is_empty() => model.end(at % model.running.len()),
                Event::End(_) => {}
                Event::Cancel(class, at) => model.cancel(class, at),
            }
        }
        while !model.running.is_empty() {
            model.end(0);
        }
        prop_assert!(!model.scheduler.has_waiting());
        prop_assert!(model.queued.iter().all(VecDeque::is_empty));
        prop_assert_eq!(model.scheduler.in_flight, [Load::default(); CLASSES]);
    }

    /// All classes have more to do than the device takes, in operations of any size, completed in any order.
    #[test]
    fn no_class_waits_longer_than_its_turn(
        sizes in proptest::collection::vec(any_bytes(), 64),
        ends in proptest::collection::vec(any::<usize>(), 64),
        raft in any::<bool>(),
    ) {
        let limits = Limits::new(16, 16 << 20);
        let mut model = Model::new(limits);
        let mut size = sizes.iter().cycle();
        let flooding = &Class::ALL[usize::from(!raft)..];
        for step in 0..3000 {
            for &class in flooding {
                while model.scheduler.waiting(class) < 2 {
                    model.arrive(class, *size.next().expect("endless"));
                }
            }
            // The oldest completes soon: a device starves nobody either.
            let at = if step % 3 == 0 { 0 } else { ends[step % ends.len()] % model.running.len() };
            model.end(at);
            for class in Class::that_take_turns() {
                // Its turn, what runs of its own while its cap is met, and one turn of everyone.
                let running = u64::from(limits.cap(0).operations) * 3;
                let bound = (TURNS[class as usize] + running + CLASSES as u64) * COST_MAX;
                let passed = model.passed[class as usize];
                prop_assert!(passed <= bound, "{:?} waits while {} starts of {}", class, passed, bound);
            }
        }
        prop_assert!(model.started[1] > 0 && flooding.iter().all(|&class| model.started[class as usize] > 10));
    }
}

const OPERATIONS: u32 = 8;

/// Runs a flood of `classes` in operations of 4 KiB; how many of each started.
fn flood(classes: &[Class], rounds: usize) -> [u64; CLASSES] {
    let mut model = Model::new(Limits::new(32, 32 << 20));
    for _ in 0..rounds {
        for &class in classes {
            while model.scheduler.waiting(class) < 2 {
                model.arrive(class, 4096);
            }
        }
        model.end(0);
    }
    model.started
}

#[test]
fn under_a_flood_of_all_the_foreground_has_most_and_the_rest_their_share() {
    let [_, foreground, tsdb, fill, compaction, scrub] = flood(&Class::ALL[1..], 10_000);
    let all = (foreground + tsdb + fill + compaction + scrub) as f64;
    let share = |started: u64| started as f64 / all;
    assert!(share(foreground) > 0.5, "{foreground} of {all}");
    for (started, turns) in [(tsdb, 4.0), (fill, 8.0), (compaction, 16.0), (scrub, 32.0)] {
        let due = 1.0 / (turns + 1.0);
        assert!((0.8..=1.3).contains(&(share(started) / due)), "{started} of {all}, due {due}");
    }
}

#[test]
fn raft_syncs_do_not_stop_the_rest() {
    let started = flood(&Class::ALL, 10_000);
    assert!(started.iter().all(|&count| count > 100), "{started:?}");
}

#[test]
fn a_raft_sync_starts_at_once_under_a_flood_of_everything_else() {
    let mut model = Model::new(Limits::new(32, 32 << 20));
    for class in &Class::ALL[1..] {
        (0..100).for_each(|_| model.arrive(*class, OPERATION_BYTES_MAX));
    }
    model.arrive(Class::RaftSync, 4096);
    assert_eq!(model.scheduler.in_flight(Class::RaftSync).operations, 1);
    assert_eq!(model.started[0], 1);
}

#[test]
fn a_large_operation_whose_turn_it_is_is_not_overtaken_by_small_ones() {
    let mut model = Model::new(Limits::new(8, 4 << 20));
    (0..4).for_each(|_| model.arrive(Class::Foreground, OPERATION_BYTES_MAX));
    model.arrive(Class::Foreground, OPERATION_BYTES_MAX);
    model.arrive(Class::Foreground, 4096);
    model.arrive(Class::Scrub, 4096);
    assert_eq!((model.running.len(), model.scheduler.waiting(Class::Foreground)), (4, 2));
    model.end(0);
    assert_eq!(model.running.last(), Some(&(Class::Foreground, OPERATION_BYTES_MAX)));
}

#[test]
fn a_long_operation_takes_what_its_class_may_have_and_no_more() {
    let mut model = Model::new(Limits::new(8, 4 << 20));
    let most = model.scheduler.bytes_max(Class::Fill);
    assert_eq!(most, 2 << 20);
    (0..2).for_each(|_| model.arrive(Class::Fill, most));
    (0..3).for_each(|_| model.arrive(Class::Foreground, OPERATION_BYTES_MAX));
    let running = |model: &Model, class| model.scheduler.in_flight(class).operations;
    assert_eq!((running(&model, Class::Fill), running(&model, Class::Foreground)), (1, 2));
    model.end(0);
    model.end(0);
    assert_eq!((running(&model, Class::Fill), running(&model, Class::Foreground)), (1, 2));
}

#[test]
fn what_waits_with_more_than_new_limits_allow_starts_all_the_same() {
    let mut scheduler = Scheduler::new(Limits::new(8, 16 << 20));
    let most = scheduler.bytes_max(Class::Fill);
    assert!(scheduler.start_now(Class::Fill, most));
    assert!(scheduler.wait(Class::Fill, most, 10, ()).is_ok());
    scheduler.set_limits(Limits::new(8, 4 << 20));
    assert_eq!(scheduler.start_next(), None);
    scheduler.end(Class::Fill, most);
    assert_eq!(scheduler.start_next(), Some((Class::Fill, 2 << 20, ())));
}

#[test]
fn the_queue_is_bounded() {
    let mut scheduler = Scheduler::new(Limits::default());
    for at in 0..3 {
        assert_eq!(scheduler.wait(Class::Fill, 0, 3, at).is_ok(), at < 3);
    }
    assert_eq!(scheduler.wait(Class::Fill, 0, 3, 3), Err(3));
    assert!(scheduler.wait(Class::Scrub, 0, 3, 4).is_ok(), "each class has its own room");
}

#[test]
fn caps_nest_whatever_the_share() {
    for (operations, bytes, columns) in [(1, 1, 1), (8, 1 << 20, 64), (1000, 1 << 30, 3), (128, 64 << 20, 2)]
    {
        let limits = Limits::share(operations, bytes, columns);
        let caps: Vec<Load> = (0..CLASSES).map(|level| limits.cap(level)).collect();
        assert!(caps.is_sorted_by(|a, b| a.operations >= b.operations && a.bytes >= b.bytes), "{caps:?}");
        assert!(caps[0].operations >= caps[1].operations + 2, "{caps:?}");
        assert!(caps.iter().all(|cap| cap.operations > 0 && cap.bytes >= u64::from(OPERATION_BYTES_MAX)));
        assert!(u64::from(limits.foreground().operations) * columns as u64 >= u64::from(operations));
    }
}
