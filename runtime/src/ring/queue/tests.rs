//! The waiting itself, without a device: futures polled and dropped by hand.

use super::*;
use crate::classes::OPERATION_BYTES_MAX;
use crate::metrics::Value;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

const OPERATIONS: u32 = 8;

fn queue() -> Rc<DiskQueue> {
    let queue = DiskQueue::new("d");
    queue.set_limits(Limits::new(OPERATIONS, 4 << 20));
    queue
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn at_once(queue: &Rc<DiskQueue>, class: Class, bytes: u32) -> Permit {
    match poll(pin!(queue.start(class, bytes, 100))) {
        Poll::Ready(permit) => permit.expect("room"),
        Poll::Pending => panic!("{class:?} waits"),
    }
}

/// All that the foreground may have.
fn full(queue: &Rc<DiskQueue>) -> Vec<Permit> {
    (0..OPERATIONS).map(|_| at_once(queue, Class::Foreground, 4096)).collect()
}

#[test]
fn a_permit_that_ends_starts_the_next_in_line() {
    let queue = queue();
    let mut held = full(&queue);
    let mut first = pin!(queue.start(Class::Foreground, 4096, 100));
    let mut second = pin!(queue.start(Class::Foreground, 4096, 100));
    assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
    held.pop();
    assert!(poll(second.as_mut()).is_pending(), "overtook the first");
    assert!(matches!(poll(first.as_mut()), Poll::Ready(Ok(_))));
}

#[test]
fn a_future_dropped_while_it_waits_leaves_the_queue() {
    let queue = queue();
    let held = full(&queue);
    let mut first = Box::pin(queue.start(Class::Foreground, 4096, 100));
    let mut second = pin!(queue.start(Class::Foreground, 4096, 100));
    assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
    drop(first);
    assert_eq!(queue.scheduler.borrow().waiting(Class::Foreground), 1);
    drop(held);
    assert!(matches!(poll(second.as_mut()), Poll::Ready(Ok(_))));
    assert_eq!(queue.scheduler.borrow().in_flight(Class::Foreground).operations, 0);
}

#[test]
fn one_that_leaves_lets_those_behind_it_start() {
    let queue = queue();
    // A MiB less a block is left: the first in line does not fit, the second does.
    let bytes = OPERATION_BYTES_MAX;
    let _held: Vec<_> = [bytes, bytes, bytes, 4096].map(|b| at_once(&queue, Class::Foreground, b)).into();
    let mut first = Box::pin(queue.start(Class::Foreground, bytes, 100));
    let mut second = pin!(queue.start(Class::Foreground, 4096, 100));
    assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
    drop(first);
    assert!(matches!(poll(second.as_mut()), Poll::Ready(Ok(_))));
}

#[test]
fn a_permit_given_to_a_future_that_is_gone_goes_on_to_the_next() {
    let queue = queue();
    let mut held = full(&queue);
    let mut first = Box::pin(queue.start(Class::Foreground, 4096, 100));
    let mut second = pin!(queue.start(Class::Foreground, 4096, 100));
    assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
    held.pop();
    drop(first);
    assert!(matches!(poll(second.as_mut()), Poll::Ready(Ok(_))));
}

#[test]
fn a_full_queue_refuses_and_counts_nothing() {
    let queue = queue();
    let held = full(&queue);
    let mut first = pin!(queue.start(Class::Foreground, 4096, 1));
    assert!(poll(first.as_mut()).is_pending());
    match poll(pin!(queue.start(Class::Foreground, 4096, 1))) {
        Poll::Ready(Err(e)) => assert_eq!(e.kind(), io::ErrorKind::ResourceBusy),
        _ => panic!("more wait than may"),
    }
    // A write has more room.
    assert!(poll(pin!(queue.start(Class::Foreground, 4096, 2))).is_pending());
    drop(held);
    assert!(matches!(poll(first.as_mut()), Poll::Ready(Ok(_))));
}

#[test]
fn figures_tell_operations_bytes_and_waits_by_class() {
    let queue = queue();
    let held = full(&queue);
    let mut waits = pin!(queue.start(Class::Scrub, 8192, 100));
    assert!(poll(waits.as_mut()).is_pending());
    let value = |name: &str, class: &str| {
        let of_class = |s: &Sample| s.labels.iter().any(|(_, v)| v == class);
        let sample = queue.samples().into_iter().find(|s| s.family.name() == name && of_class(s));
        sample.expect("registered").value
    };
    assert_eq!(value("basalt_io_operations_total", "foreground"), Value::Counter(u64::from(OPERATIONS)));
    assert_eq!(value("basalt_io_in_flight", "foreground"), Value::Gauge(i64::from(OPERATIONS)));
    assert_eq!(value("basalt_io_waiting", "scrub"), Value::Gauge(1));
    assert_eq!(value("basalt_io_operations_total", "scrub"), Value::Counter(0));
    std::thread::sleep(std::time::Duration::from_millis(2));
    drop(held);
    assert!(poll(waits.as_mut()).is_ready());
    assert_eq!(value("basalt_io_bytes_total", "scrub"), Value::Counter(8192));
    for (class, count, waited) in [("scrub", 1, true), ("foreground", u64::from(OPERATIONS), false)] {
        let Value::Histogram(waits) = value("basalt_io_wait_seconds", class) else { panic!("no histogram") };
        assert_eq!((waits.count, waits.sum >= 2_000_000), (count, waited), "{class}");
    }
}

#[test]
fn a_long_one_counts_with_all_its_bytes_and_holds_what_its_class_may_have() {
    let queue = queue();
    let long = || queue.start_long(Class::Fill, 4 << 20, 100);
    let Poll::Ready(first) = poll(pin!(long())) else { panic!("waits for nothing") };
    let mut second = pin!(long());
    assert!(poll(second.as_mut()).is_pending(), "two at once");
    let counted = queue.samples().into_iter().find_map(|s| {
        let is_it = s.family.name() == "basalt_io_bytes_total" && s.labels.iter().any(|(_, v)| v == "fill");
        is_it.then_some(s.value)
    });
    assert_eq!(counted, Some(Value::Counter(4 << 20)));
    assert_eq!(queue.scheduler.borrow().in_flight(Class::Fill).bytes, 2 << 20);
    drop(first);
    assert!(poll(second.as_mut()).is_ready());
}

#[test]
fn each_device_has_a_queue_and_files_elsewhere_share_one() {
    let queues = DiskQueues::new();
    let limits = |operations| Limits::new(operations, 4 << 20);
    let in_flight_max = |queues: &DiskQueues| -> Vec<(String, Value)> {
        let samples = queues.samples().into_iter().filter(|s| s.family.name() == "basalt_io_in_flight_max");
        samples.map(|s| (s.labels[0].1.to_string(), s.value)).collect()
    };
    queues.limit_elsewhere(limits(8));
    assert_eq!(in_flight_max(&queues), [("any".into(), Value::Gauge(8))]);
    queues.add_device(&["/a".into(), "/b".into()], limits(9));
    queues.add_device(&["/a/in".into()], limits(10));
    assert_eq!(in_flight_max(&queues), [("/a".into(), Value::Gauge(9)), ("/a/in".into(), Value::Gauge(10))]);
    let of = |path: &str| queues.of(path.as_ref());
    let (first, inner, elsewhere) = (of("/a/pack-1"), of("/a/in/pack-1"), of("/abc/pack-1"));
    assert!(Rc::ptr_eq(&first, &of("/b/objects/00/e3")), "one device");
    assert!(
        Rc::ptr_eq(&elsewhere, &of("/c")) && !Rc::ptr_eq(&elsewhere, &first) && !Rc::ptr_eq(&first, &inner)
    );
    let _full: Vec<_> = (0..9).map(|_| at_once(&first, Class::Foreground, 4096)).collect();
    assert!(poll(pin!(first.start(Class::Foreground, 4096, 100))).is_pending());
    drop((at_once(&inner, Class::Foreground, 4096), at_once(&elsewhere, Class::Foreground, 4096)));
}
