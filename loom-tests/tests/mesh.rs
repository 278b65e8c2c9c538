//! Every interleaving (within the bound on preemptions) of the ring, the doorbell and the lanes.
//!
//! Caller: `loom-tests/run`, which also plants each bug and wants the named test to fail.
#![cfg(loom)]

use loom::thread;
use loom_tests::{
    mesh::{
        doorbell::Doorbell,
        lane::{Port, mesh},
        spsc::ring,
    },
    sync::{Arc, AtomicUsize, Ordering},
};

/// A message that counts its drops and lives on the heap, so that loom sees a leak or a second drop.
struct Counted {
    value: Box<usize>,
    drops: Arc<AtomicUsize>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.drops.fetch_add(1, Ordering::Relaxed);
    }
}

fn bells(columns: usize) -> Vec<Arc<Doorbell>> {
    let bell = || Arc::new(Doorbell::new().expect("a flag cannot fail"));
    (0..columns).map(|_| bell()).collect()
}

/// The sleeper's part of the wake-up tests: true when it would sleep on its eventfd.
fn take_all_or_sleep(port: &mut Port<usize>, got: &mut Vec<usize>) -> bool {
    port.poll_inbox(8, |_, message| got.push(message));
    port.prepare_sleep()
}

#[test]
fn messages_arrive_in_order_through_a_ring_that_wraps() {
    loom::model(|| {
        let (producer, mut consumer) = ring::<Box<usize>>(2);
        let sender = thread::spawn(move || {
            for value in 0..3 {
                let mut message = Box::new(value);
                while let Err(back) = producer.push(message) {
                    message = back;
                    thread::yield_now();
                }
            }
        });
        let mut expected = 0;
        while expected < 3 {
            let count = consumer.pop_batch(2, |message| {
                assert_eq!(*message, expected, "out of order");
                expected += 1;
            });
            if count == 0 {
                thread::yield_now();
            }
        }
        assert!(consumer.is_empty());
        sender.join().unwrap();
    });
}

#[test]
fn a_full_ring_refuses_and_loses_nothing() {
    loom::model(|| {
        let (producer, mut consumer) = ring::<Box<usize>>(1);
        producer.push(Box::new(1)).expect("an empty ring");
        let sender = thread::spawn(move || match producer.push(Box::new(2)) {
            Ok(()) => true,
            Err(back) => {
                assert_eq!(*back, 2, "the refused message comes back");
                false
            }
        });
        assert_eq!(consumer.pop().as_deref(), Some(&1));
        let accepted = sender.join().unwrap();
        assert_eq!(consumer.pop().is_some(), accepted);
        assert!(consumer.is_empty());
    });
}

#[test]
fn messages_left_behind_are_dropped_once() {
    loom::model(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        let (producer, mut consumer) = ring::<Counted>(2);
        let sent = drops.clone();
        let sender = thread::spawn(move || {
            for value in 0..2 {
                let drops = sent.clone();
                let value = Box::new(value);
                assert!(producer.push(Counted { value, drops }).is_ok());
            }
        });
        if let Some(message) = consumer.pop() {
            assert_eq!(*message.value, 0, "out of order");
        }
        drop(consumer);
        sender.join().unwrap();
        assert_eq!(drops.load(Ordering::Relaxed), 2, "leaked or dropped twice");
    });
}

#[test]
fn one_sender_wakes_the_sleeper() {
    loom::model(|| {
        let bells = bells(2);
        let mut ports = mesh::<usize>(2, 2, &bells);
        let sender = ports.pop().expect("two ports");
        let mut sleeper = ports.pop().expect("two ports");
        let thread = thread::spawn(move || sender.try_send(0, 7).expect("an empty lane"));
        let mut got = Vec::new();
        let asleep = take_all_or_sleep(&mut sleeper, &mut got);
        thread.join().unwrap();
        let missed = got.is_empty() && asleep;
        assert!(!missed || bells[0].has_wake(), "lost wake-up");
        sleeper.poll_inbox(8, |_, message| got.push(message));
        assert_eq!(got, [7]);
    });
}

#[test]
fn two_senders_wake_the_sleeper() {
    loom::model(|| {
        let bells = bells(3);
        let mut ports = mesh::<usize>(3, 1, &bells);
        let second = ports.pop().expect("three ports");
        let first = ports.pop().expect("three ports");
        let mut sleeper = ports.pop().expect("three ports");
        let one = thread::spawn(move || first.try_send(0, 1).expect("an empty lane"));
        let two = thread::spawn(move || second.try_send(0, 2).expect("an empty lane"));
        let mut got = Vec::new();
        let asleep = take_all_or_sleep(&mut sleeper, &mut got);
        one.join().unwrap();
        two.join().unwrap();
        let missed = got.len() < 2 && asleep;
        assert!(!missed || bells[0].has_wake(), "lost wake-up");
        sleeper.poll_inbox(8, |_, message| got.push(message));
        got.sort_unstable();
        assert_eq!(got, [1, 2]);
    });
}

#[test]
fn at_most_one_sender_takes_a_prepared_sleep() {
    loom::model(|| {
        let bell = Arc::new(Doorbell::new().expect("a flag cannot fail"));
        bell.prepare_sleep();
        let (one, two) = (bell.clone(), bell.clone());
        let one = thread::spawn(move || usize::from(one.ring()));
        let two = thread::spawn(move || usize::from(two.ring()));
        let cancelled = usize::from(bell.cancel_sleep());
        let takers = cancelled + one.join().unwrap() + two.join().unwrap();
        assert_eq!(takers, 1, "the flag was taken {takers} times");
    });
}

#[test]
fn a_cancelled_sleep_does_not_spoil_the_next() {
    loom::model(|| {
        let bells = bells(2);
        let mut ports = mesh::<usize>(2, 2, &bells);
        let sender = ports.pop().expect("two ports");
        let mut sleeper = ports.pop().expect("two ports");
        let thread = thread::spawn(move || {
            sender.try_send(0, 1).expect("an empty lane");
            sender.try_send(0, 2).expect("room for two");
        });
        let mut got = Vec::new();
        // Prepared, then withdrawn because of some other event; a sender may have taken the flag in between.
        let _ = sleeper.prepare_sleep();
        bells[0].cancel_sleep();
        let asleep = take_all_or_sleep(&mut sleeper, &mut got);
        thread.join().unwrap();
        let missed = got.len() < 2 && asleep;
        assert!(!missed || bells[0].has_wake(), "lost wake-up");
        sleeper.poll_inbox(8, |_, message| got.push(message));
        assert_eq!(got, [1, 2]);
    });
}
