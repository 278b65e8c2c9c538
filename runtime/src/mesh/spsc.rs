//! A bounded ring for one writing and one reading thread.
//!
//! Caller: [`lane`](super::lane), which keeps one ring per ordered pair of columns.
//!
//! Invariants:
//! - `head` and `tail` count messages since creation and wrap; `tail - head <= capacity` always.
//! - Slots `head..tail` are initialised and belong to the consumer, all others to the producer.
//! - Only the producer stores `tail`, only the consumer stores `head`, both with Release after they touched
//!   the slot; the other side loads with Acquire before it touches the slot.
//! - Each end works on its own copy of both indices and reads the other's line only when that copy says
//!   "full" or "empty": the uncontended path touches no foreign cache line but the slot itself.
//!
//! Both ends are `Send` and neither is `Sync` or `Clone`: that is what makes the ring single-writer, single-reader.

use std::{cell::Cell, mem::MaybeUninit};

use crate::sync::{Arc, AtomicUsize, Ordering, Padded, UnsafeCell};

/// The largest ring that can be asked for, in messages. Lanes are N x N: beyond this, memory is the problem.
pub const CAPACITY_MAX: usize = 1 << 20;

/// Publishing an index hands over the slots before it. The planted bug must be caught by loom.
const PUBLISH: Ordering =
    if cfg!(planted = "relaxed_publish") { Ordering::Relaxed } else { Ordering::Release };

struct Ring<T> {
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
    mask: usize,
    /// Next message to read. Stored by the consumer only.
    head: Padded<AtomicUsize>,
    /// Next slot to write. Stored by the producer only.
    tail: Padded<AtomicUsize>,
}

// SAFETY: a ring owns its messages, so sending the ring sends messages: T: Send suffices.
unsafe impl<T: Send> Send for Ring<T> {}
// SAFETY: two threads share a ring only as one Producer and one Consumer (neither Clone nor Sync). Every
// slot belongs to one of them at a time by the index protocol above, so no `&T` is ever shared: T: Send suffices.
unsafe impl<T: Send> Sync for Ring<T> {}

impl<T> Ring<T> {
    fn slot(&self, index: usize) -> &UnsafeCell<MaybeUninit<T>> {
        &self.slots[index & self.mask]
    }

    /// Moves the message at `index` out.
    ///
    /// # Safety
    /// The caller owns the slot, it is initialised, and the caller never reads it again before it is refilled.
    unsafe fn take(&self, index: usize) -> T {
        self.slot(index).with_mut(|slot| {
            // SAFETY: passed on to our caller: exclusive, initialised, read once.
            unsafe { (*slot).assume_init_read() }
        })
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        let tail = self.tail.0.load(Ordering::Relaxed);
        let mut head = self.head.0.load(Ordering::Relaxed);
        assert!(tail.wrapping_sub(head) <= self.slots.len(), "ring indices crossed");
        while head != tail {
            // SAFETY: both ends are gone (`&mut self`), slots head..tail are initialised, each is visited once.
            drop(unsafe { self.take(head) });
            head = head.wrapping_add(1);
        }
    }
}

/// The writing end. One thread at a time.
pub struct Producer<T> {
    ring: Arc<Ring<T>>,
    /// Our own index, as last published.
    tail: Cell<usize>,
    /// The consumer's index as last seen; it may have moved on since, never back.
    head_seen: Cell<usize>,
}

/// The reading end. One thread at a time.
pub struct Consumer<T> {
    ring: Arc<Ring<T>>,
    /// Our own index, as last published.
    head: usize,
    /// The producer's index as last seen; it may have moved on since, never back.
    tail_seen: Cell<usize>,
}

/// Makes a ring for `capacity` messages (a power of two, at most [`CAPACITY_MAX`]).
#[must_use]
pub fn ring<T: Send>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    assert!(capacity.is_power_of_two(), "ring capacity {capacity} is not a power of two");
    assert!(capacity <= CAPACITY_MAX, "ring capacity {capacity} is above {CAPACITY_MAX}");
    let ring = Arc::new(Ring {
        slots: (0..capacity).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
        mask: capacity - 1,
        head: Padded(AtomicUsize::new(0)),
        tail: Padded(AtomicUsize::new(0)),
    });
    let producer = Producer { ring: ring.clone(), tail: Cell::new(0), head_seen: Cell::new(0) };
    let consumer = Consumer { ring, head: 0, tail_seen: Cell::new(0) };
    (producer, consumer)
}

impl<T: Send> Producer<T> {
    /// How many messages the ring holds at most.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.ring.slots.len()
    }

    /// Puts `message` at the tail, or gives it back when the ring is full. Never waits, wakes nobody.
    #[inline]
    pub fn push(&self, message: T) -> Result<(), T> {
        let tail = self.tail.get();
        if tail.wrapping_sub(self.head_seen.get()) == self.capacity() {
            self.head_seen.set(self.ring.head.0.load(Ordering::Acquire));
            if tail.wrapping_sub(self.head_seen.get()) == self.capacity() {
                return Err(message);
            }
        }
        debug_assert!(tail.wrapping_sub(self.head_seen.get()) < self.capacity());
        self.ring.slot(tail).with_mut(|slot| {
            // SAFETY: tail - head < capacity, so the slot is ours: the consumer has moved out of it and published
            // that by `head`, which we loaded with Acquire. No other producer exists, and no user code runs
            // between here and the store below, so this call cannot be re-entered.
            unsafe { (*slot).write(message) };
        });
        self.tail.set(tail.wrapping_add(1));
        self.ring.tail.0.store(tail.wrapping_add(1), PUBLISH);
        Ok(())
    }
}

impl<T: Send> Consumer<T> {
    /// How many messages the ring holds at most.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.ring.slots.len()
    }

    /// Whether nothing was there to pop at the moment of asking. Always looks at the producer's index
    /// unless messages are already known: fit for the check between `prepare_sleep` and sleep.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.available(1) == 0
    }

    /// Takes the oldest message.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        let mut message = None;
        self.pop_batch(1, |m| message = Some(m));
        message
    }

    /// Hands at most `budget` messages to `f`, oldest first, and returns how many. The slots become free for
    /// the producer together at the end, so `f` must not wait for this ring to have room.
    #[inline]
    pub fn pop_batch(&mut self, budget: usize, mut f: impl FnMut(T)) -> usize {
        let count = self.available(budget).min(budget);
        if count == 0 {
            return 0;
        }
        let end = self.head.wrapping_add(count);
        let batch = Batch { consumer: self };
        while batch.consumer.head != end {
            let index = batch.consumer.head;
            batch.consumer.head = index.wrapping_add(1);
            // SAFETY: index < tail_seen, loaded with Acquire: the message is complete and ours. `head` has moved
            // past it already, so it is taken once even if `f` panics.
            let message = unsafe { batch.consumer.ring.take(index) };
            f(message);
        }
        count
    }

    /// Messages that can be taken now; asks the producer's line only when fewer than `wanted` are known.
    #[inline]
    fn available(&self, wanted: usize) -> usize {
        if self.tail_seen.get().wrapping_sub(self.head) < wanted {
            self.tail_seen.set(self.ring.tail.0.load(Ordering::Acquire));
        }
        let available = self.tail_seen.get().wrapping_sub(self.head);
        debug_assert!(available <= self.capacity());
        available
    }
}

/// Publishes the consumer's progress when the batch ends, also by unwinding.
struct Batch<'a, T> {
    consumer: &'a mut Consumer<T>,
}

impl<T> Drop for Batch<'_, T> {
    fn drop(&mut self) {
        let consumer = &*self.consumer;
        consumer.ring.head.0.store(consumer.head, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::{collections::VecDeque, panic, rc::Rc, sync::Arc, thread};

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Push(u8),
        Pop,
        PopBatch(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => (1u8..6).prop_map(Step::Push),
            2 => Just(Step::Pop),
            1 => (0usize..6).prop_map(Step::PopBatch),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn behaves_like_a_bounded_queue(exponent in 0u32..4, steps in steps()) {
            let capacity = 1usize << exponent;
            let (producer, mut consumer) = ring::<Box<u64>>(capacity);
            let mut model = VecDeque::new();
            let mut next = 0u64;
            for step in steps {
                match step {
                    Step::Push(times) => for _ in 0..times {
                        let accepted = producer.push(Box::new(next)).is_ok();
                        prop_assert_eq!(accepted, model.len() < capacity);
                        if accepted { model.push_back(next); }
                        next += 1;
                    },
                    Step::Pop => prop_assert_eq!(consumer.pop().map(|m| *m), model.pop_front()),
                    Step::PopBatch(budget) => {
                        let mut got = Vec::new();
                        let count = consumer.pop_batch(budget, |m| got.push(*m));
                        let wanted: Vec<u64> = model.drain(..model.len().min(budget)).collect();
                        prop_assert_eq!(count, wanted.len());
                        prop_assert_eq!(got, wanted);
                    }
                }
                prop_assert_eq!(consumer.is_empty(), model.is_empty());
            }
        }
    }

    #[test]
    fn crosses_threads_in_order() {
        const MESSAGES: u64 = 200_000;
        let (producer, mut consumer) = ring::<u64>(64);
        let sender = thread::spawn(move || {
            for message in 0..MESSAGES {
                while producer.push(message).is_err() {
                    thread::yield_now();
                }
            }
        });
        let mut expected = 0;
        while expected < MESSAGES {
            let before = expected;
            consumer.pop_batch(16, |m| {
                assert_eq!(m, expected);
                expected += 1;
            });
            if expected == before {
                thread::yield_now();
            }
        }
        sender.join().expect("the sender does not panic");
        assert!(consumer.is_empty());
    }

    #[test]
    fn what_is_left_is_dropped_once() {
        let witness = Arc::new(());
        let (producer, mut consumer) = ring(4);
        for _ in 0..4 {
            assert!(producer.push(witness.clone()).is_ok());
        }
        assert!(producer.push(witness.clone()).is_err());
        drop(consumer.pop());
        assert!(producer.push(witness.clone()).is_ok());
        assert_eq!(Arc::strong_count(&witness), 5);
        drop(consumer);
        assert_eq!(Arc::strong_count(&witness), 5);
        drop(producer);
        assert_eq!(Arc::strong_count(&witness), 1);
    }

    #[test]
    fn a_panicking_reader_loses_only_its_message() {
        let (producer, mut consumer) = ring::<u32>(4);
        for message in 0..4 {
            producer.push(message).expect("there is room for four");
        }
        let seen = Rc::new(Cell::new(0));
        let outcome = panic::catch_unwind(panic::AssertUnwindSafe(|| {
            consumer.pop_batch(4, |m| {
                seen.set(seen.get() + 1);
                assert_ne!(m, 1, "planted");
            })
        }));
        assert!(outcome.is_err());
        assert_eq!(seen.get(), 2);
        assert_eq!(consumer.pop(), Some(2));
        assert_eq!(producer.push(4), Ok(()));
    }

    #[test]
    #[should_panic(expected = "not a power of two")]
    fn odd_capacity_is_refused() {
        let _ = ring::<u8>(3);
    }
}
