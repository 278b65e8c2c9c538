//! Clock, tasks and memory.

use super::{Place, file_in};
use runtime::io::{File, Io, Open};
use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::{Context, Waker};

pub async fn sleepers_wake_in_order<I: Io>(place: Rc<Place<I>>) {
    let io = &place.io;
    let woken = Rc::new(RefCell::new(Vec::new()));
    let begin_ns = io.now_ns();
    for ms in [60, 5, 30] {
        let (me, woken) = (io.clone(), woken.clone());
        io.spawn("sleeper", async move {
            me.sleep(ms * 1_000_000).await;
            assert!(me.now_ns() - begin_ns >= ms * 1_000_000, "woke early");
            woken.borrow_mut().push(ms);
        });
    }
    io.sleep(200_000_000).await;
    assert_eq!(*woken.borrow(), [5, 30, 60]);
    let (before_ms, now_ms) = (io.unix_ms(), {
        io.sleep(10_000_000).await;
        io.unix_ms()
    });
    assert!(now_ms >= before_ms + 9, "the calendar moves with the clock");
}

pub async fn tasks_take_turns<I: Io>(place: Rc<Place<I>>) {
    let io = &place.io;
    let turns = Rc::new(RefCell::new([0u32; 3]));
    for who in 0..3 {
        let (me, turns) = (io.clone(), turns.clone());
        io.spawn("turns", async move {
            for _ in 0..300 {
                turns.borrow_mut()[who] += 1;
                me.yield_now().await;
            }
        });
    }
    assert_eq!(*turns.borrow(), [0; 3], "a task does not run inside its spawner");
    while turns.borrow().iter().all(|&t| t < 150) {
        io.yield_now().await;
    }
    assert!(turns.borrow().iter().all(|&t| t > 20), "starved: {:?}", turns.borrow());
    assert!(io.random() != io.random());
}

pub async fn memory_runs_out_and_comes_back<I: Io>(place: Rc<Place<I>>) {
    let io = &place.io;
    for _ in 0..2 {
        let held: Vec<_> = std::iter::from_fn(|| io.buffer(1 << 20)).collect();
        assert!((16..=32).contains(&held.len()), "{} buffers of 1 MiB in 32 MiB", held.len());
        assert!(held.iter().all(|b| b.len() == 1 << 20 && (b.as_ptr() as usize).is_multiple_of(4096)));
        assert!(io.buffer(16 << 20).is_none() && io.buffer_fitting(1 << 20).is_none());
    }
    assert!(io.buffer(usize::MAX / 2).is_none(), "no such memory");
    let small = io.buffer_fitting(100).expect("memory");
    assert!((100..4096).contains(&small.capacity()));
}

/// Polls once; whether that panicked.
fn panics(future: impl Future) -> bool {
    let mut future = Box::pin(future);
    let poll = || drop(future.as_mut().poll(&mut Context::from_waker(Waker::noop())));
    catch_unwind(AssertUnwindSafe(poll)).is_err()
}

pub async fn misaligned_io_panics<I: Io>(place: Rc<Place<I>>) {
    let io = &place.io;
    let file = io.open(&file_in(&place.dir, "f"), Open::CreateDirect).await.expect("made");
    let buf = || io.buffer(8192).expect("memory");
    assert!(panics(file.write_at(buf(), 100, 0)), "a length that is no block");
    assert!(panics(file.write_at(buf(), 4096, 100)), "an offset that is no block");
    assert!(panics(file.write_sync(buf(), 100, 0)), "a length that is no block");
    assert!(panics(file.read_at(buf(), 100, 10)), "an offset that is no block");
    assert!(panics(file.write_at(buf(), 16384, 0)), "more than the buffer has");
    assert!(panics(file.read_at(buf(), 8193, 0)), "more than the buffer has");
}
