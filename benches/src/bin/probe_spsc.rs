//! What two bare threads can do: the floor under the mesh.
//!
//! `probe_spsc [--cores 0,1] [--seconds 1]`: one line of JSON: spinning round trip and asleep (eventfd) round trip in
//! ns (p50 and p99), and messages per second one way through a ring of 1024 words.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use benches::args::Args;
use benches::{Result, check, cpu};
use hdrhistogram::Histogram;

const SLOTS: usize = 1024;

/// A counter alone on its pair of cache lines.
#[repr(align(128))]
#[derive(Default)]
struct Alone(AtomicUsize);

/// A ring for one producer and one consumer.
struct Ring {
    head: Alone,
    tail: Alone,
    slots: Vec<AtomicU64>,
}

/// One side of a ring: its own position and what it last saw of the other's.
struct Side<'r>(&'r Ring, usize, usize);

impl Ring {
    fn new() -> Self {
        let slots = (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        Self { head: Alone::default(), tail: Alone::default(), slots }
    }

    fn side(&self) -> Side<'_> {
        Side(self, 0, 0)
    }
}

impl Side<'_> {
    fn push(&mut self, value: u64) -> bool {
        if self.1 - self.2 == SLOTS {
            self.2 = self.0.head.0.load(Ordering::Acquire);
            if self.1 - self.2 == SLOTS {
                return false;
            }
        }
        self.0.slots[self.1 % SLOTS].store(value, Ordering::Relaxed);
        self.1 += 1;
        self.0.tail.0.store(self.1, Ordering::Release);
        true
    }

    fn pop(&mut self) -> Option<u64> {
        if self.1 == self.2 {
            self.2 = self.0.tail.0.load(Ordering::Acquire);
            if self.1 == self.2 {
                return None;
            }
        }
        let value = self.0.slots[self.1 % SLOTS].load(Ordering::Relaxed);
        self.1 += 1;
        self.0.head.0.store(self.1, Ordering::Release);
        Some(value)
    }
}

/// Round trips of one word between two spinning threads.
fn spinning(cores: (usize, usize), length: Duration) -> Result<Histogram<u64>> {
    let (there, back, stop) = (Ring::new(), Ring::new(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ = cpu::pin(cores.1);
            let (mut from, mut to) = (there.side(), back.side());
            while !stop.load(Ordering::Relaxed) {
                if let Some(value) = from.pop() {
                    to.push(value);
                }
                std::hint::spin_loop();
            }
        });
        let (mut to, mut from) = (there.side(), back.side());
        let trips = round_trips(length, |value| {
            to.push(value);
            while from.pop().is_none() {
                std::hint::spin_loop();
            }
            Ok(())
        });
        stop.store(true, Ordering::Relaxed);
        trips
    })
}

/// Round trips of an eventfd write between two threads that sleep in read.
fn asleep(cores: (usize, usize), length: Duration) -> Result<Histogram<u64>> {
    // SAFETY: eventfd takes no pointers; the descriptors live until the process ends.
    let (there, back) = unsafe { (libc::eventfd(0, libc::EFD_CLOEXEC), libc::eventfd(0, libc::EFD_CLOEXEC)) };
    check("eventfd", i64::from(there.min(back)))?;
    let ring = |fd: i32| {
        let one = 1u64;
        // SAFETY: writes eight bytes from a live word.
        check("write", unsafe { libc::write(fd, (&raw const one).cast(), 8) } as i64)
    };
    let wait = |fd: i32| {
        let mut count = 0u64;
        // SAFETY: reads eight bytes into a live word.
        check("read", unsafe { libc::read(fd, (&raw mut count).cast(), 8) } as i64)
    };
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ = cpu::pin(cores.1);
            while wait(there).is_ok() && !stop.load(Ordering::Relaxed) && ring(back).is_ok() {}
        });
        let trips = round_trips(length, |_| ring(there).and_then(|_| wait(back)).map(|_| ()));
        stop.store(true, Ordering::Relaxed);
        ring(there)?;
        trips
    })
}

fn round_trips(length: Duration, mut trip: impl FnMut(u64) -> Result<()>) -> Result<Histogram<u64>> {
    let mut times = Histogram::new(3)?;
    let start = Instant::now();
    let mut last = start;
    for value in 0.. {
        trip(value)?;
        let now = Instant::now();
        times.record((now - last).as_nanos() as u64)?;
        last = now;
        if now - start > length {
            break;
        }
    }
    Ok(times)
}

/// Messages per second one way.
fn throughput(cores: (usize, usize), length: Duration) -> f64 {
    let (ring, stop) = (Ring::new(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ = cpu::pin(cores.1);
            let mut to = ring.side();
            while !stop.load(Ordering::Relaxed) {
                if !to.push(1) {
                    std::hint::spin_loop();
                }
            }
        });
        let (mut from, mut count, start) = (ring.side(), 0u64, Instant::now());
        while !count.is_multiple_of(1024) || start.elapsed() < length {
            if from.pop().is_some() { count += 1 } else { std::hint::spin_loop() }
        }
        let rate = count as f64 / start.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        rate
    })
}

fn main() -> Result<()> {
    let mut args = Args::parse(std::env::args().skip(1), &[])?;
    let list: String = args.get("cores", "0,1".to_owned())?;
    let (first, second) = list.split_once(',').ok_or("--cores A,B")?;
    let cores = (first.parse()?, second.parse()?);
    let length = Duration::from_secs_f64(args.get("seconds", 1.0)?);
    args.finish()?;
    cpu::pin(cores.0)?;
    let (spin, sleep, rate) = (spinning(cores, length)?, asleep(cores, length)?, throughput(cores, length));
    let at = |h: &Histogram<u64>| {
        format!(r#"{{"p50":{},"p99":{}}}"#, h.value_at_quantile(0.5), h.value_at_quantile(0.99))
    };
    println!(r#"{{"spinning_ns":{},"asleep_ns":{},"messages_per_s":{rate:.0}}}"#, at(&spin), at(&sleep));
    Ok(())
}
