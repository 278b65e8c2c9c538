//! Whose turn it is at an origin with fewer connections than requests: small objects before large ones, and nobody for ever.

use super::{MIB, get, object, proxy};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};
use tests::node::cpuset;
use tests::origin::{Object, Origin};

/// Each takes its slice 160 ms: five seconds for all.
const LARGE: usize = 32;
const PAUSE: Duration = Duration::from_millis(10);
/// Clients that want small ones all the time, for as long as there are large ones.
const CROWD: usize = 2;

#[test]
fn a_small_object_overtakes_large_ones_and_holds_them_up_for_a_bounded_time() {
    let origin = Origin::start();
    let node = proxy(&origin).cpuset(cpuset(1)).arg("--slice-origin-connections").arg("1").start();
    let large = Object { pause: PAUSE, ..object(1, 6 * MIB) };
    let small = Object { pause: PAUSE, ..object(2, 10_000) };
    let (begin, is_over, smalls) = (Instant::now(), AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        // Nothing is known of them, but that they are large if they have what is asked for.
        let waiting: Vec<_> = (0..LARGE)
            .map(|at| {
                let path = format!("/large{at}");
                origin.put(&path, large.clone());
                let (node, large) = (&node, &large);
                scope.spawn(move || {
                    let reply = get(node, &path, "bytes=4194304-5242879").must_be(206);
                    assert!(reply.body == large.body[4 * MIB..5 * MIB], "{path}");
                    begin.elapsed()
                })
            })
            .collect();
        thread::sleep(Duration::from_millis(300));
        for client in 0..CROWD {
            let (node, origin, small, is_over, smalls) = (&node, &origin, &small, &is_over, &smalls);
            scope.spawn(move || {
                for at in 0.. {
                    if is_over.load(Relaxed) {
                        break;
                    }
                    let path = format!("/small{client}-{at}");
                    origin.put(&path, small.clone());
                    let asked = Instant::now();
                    assert!(get(node, &path, "").must_be(200).body == *small.body, "{path}");
                    let waited = asked.elapsed();
                    assert!(
                        waited < Duration::from_millis(1500),
                        "{path} waited {waited:?} behind large ones"
                    );
                    smalls.fetch_add(1, Relaxed);
                }
            });
        }
        let last = waiting.into_iter().map(|one| one.join().expect("no panic")).max().expect("some");
        is_over.store(true, Relaxed);
        assert!(last < Duration::from_secs(25), "large ones waited {last:?} behind small ones");
    });
    assert!(smalls.load(Relaxed) >= CROWD * 5, "{} small ones", smalls.load(Relaxed));
}

/// What is passed through is large if it was the last time.
#[test]
fn a_small_object_overtakes_large_answers_that_are_passed_through() {
    let origin = Origin::start();
    let node = proxy(&origin).cpuset(cpuset(1)).arg("--slice-origin-connections").arg("1").start();
    let fields = "Cache-Control: no-store\r\n".to_owned();
    let passed = Object { pause: PAUSE, fields, ..object(1, 2 * MIB) };
    let small = object(2, 10_000);
    for (path, is_chunked) in [("/passed", false), ("/chunked", true)] {
        origin.put(path, Object { chunked: is_chunked, ..passed.clone() });
        // It is known as one that cannot be stored from the first request on, and as a large one from the end of that.
        for _ in 0..2 {
            assert!(get(&node, path, "").must_be(200).body == *passed.body);
        }
        let is_over = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..CROWD * 8 {
                scope.spawn(|| {
                    assert!(get(&node, path, "").must_be(200).body == *passed.body);
                    is_over.fetch_add(1, Relaxed);
                });
            }
            thread::sleep(Duration::from_millis(300));
            let overtaking = format!("{path}-not");
            origin.put(&overtaking, small.clone());
            assert!(get(&node, &overtaking, "").must_be(200).body == *small.body);
            let before = is_over.load(Relaxed);
            assert!(before < CROWD * 4, "{before} large answers of {} came before it", CROWD * 8);
        });
    }
}
