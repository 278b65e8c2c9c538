//! How often, and how soon, an origin that fails is asked again: as it asks for itself, and never more than its budget allows.

use super::upkeep::metric;
use super::{MIB, get, object, proxy};
use std::thread;
use std::time::{Duration, Instant};
use tests::http::{Fault as Cut, Request};
use tests::node::{self, Node};
use tests::origin::{Fault, Object, Origin};

const SECOND: Duration = Duration::from_secs(1);
/// Two test threads share two cores with other tests. A wait that nobody asked for would be 1.6 s at most, for the fourth try.
const SOON: Duration = Duration::from_millis(900);
/// Retries that an origin's budget has at the start (`RetryBudget::SAVED_MAX`), of each column.
const SAVED: u32 = 100;
const RETRIES: u32 = 3;

fn proxy_of_one_column(origin: &Origin) -> Node {
    proxy(origin).cpuset(node::cpuset(1)).arg("--slice-retries").arg(RETRIES.to_string()).start()
}

fn took<T>(act: impl FnOnce() -> T) -> (T, Duration) {
    let begin = Instant::now();
    (act(), begin.elapsed())
}

#[test]
fn an_origin_that_says_when_to_come_again_is_asked_then_and_not_before() {
    let origin = Origin::start();
    let node = proxy_of_one_column(&origin);
    let whole = object(1, 2 * MIB);
    for status in [500, 503] {
        // Its first run, and the second slice.
        let busy = whole.clone().fault(Fault::Status(status, "Retry-After: 1\r\n"), 1);
        let half = Object { becomes: Some((1, Box::new(busy.clone()))), ..whole.clone() };
        for (at, object) in [busy, half].into_iter().enumerate() {
            let path = format!("/busy{status}-{at}");
            origin.put(&path, object);
            let (reply, took) = took(|| get(&node, &path, "").must_be(200));
            assert!(reply.body == *whole.body, "{path}");
            assert!((SECOND..2 * SECOND + SOON).contains(&took), "{path} took {took:?}");
            let asked: Vec<u32> = origin.asked(&path).into_values().collect();
            assert_eq!(asked, if at == 0 { [2, 1] } else { [1, 2] }, "{path}");
        }
    }
    // Twice in a row, each time as long.
    origin.put("/twice", whole.clone().fault(Fault::Status(503, "Retry-After: 1\r\n"), 2));
    let (reply, waited) = took(|| get(&node, "/twice", "bytes=0-9").must_be(206));
    assert!(reply.body == whole.body[..10] && waited >= 2 * SECOND, "{waited:?}");
    assert_eq!(metric(&node, "slicecache_retries_total", ""), 2 * 2 + 2);
}

#[test]
fn an_origin_that_does_not_want_us_for_long_or_at_all_is_not_asked_again() {
    let origin = Origin::start();
    let node = proxy_of_one_column(&origin);
    // Longer than clients are made to wait.
    origin.put("/long", object(1, 1000).fault(Fault::Status(503, "Retry-After: 11\r\n"), 1));
    let ((), waited) = took(|| _ = get(&node, "/long", "").must_be(502));
    assert!(waited < SOON && origin.total("/long") == 1, "{waited:?}, {} times", origin.total("/long"));
    get(&node, "/long", "").must_be(200);
    // What is wrong with a request is wrong with the next one. Of an object that nobody knows the client hears it from the origin.
    let many = |times| object(2, 2 * MIB).fault(Fault::Status(429, "Retry-After: 1\r\n"), times);
    origin.put("/many", many(u32::MAX));
    let (reply, waited) = took(|| get(&node, "/many", "").must_be(429));
    assert_eq!((reply.header("retry-after"), reply.text()), (Some("1"), "sorry"));
    assert!(waited < SOON && origin.total("/many") == 2, "asked about, then passed: {waited:?}");
    let whole = object(2, 2 * MIB);
    origin.put("/half", Object { becomes: Some((1, Box::new(many(u32::MAX)))), ..whole.clone() });
    let request = Request::new("GET", "/half");
    let (cut, waited) = took(|| node.slice().try_call(&request).expect_err("its second half is not given"));
    // Once ahead of the reader, and once for it.
    let asked = origin.total("/half");
    assert!(
        matches!(cut, Cut::Cut) && waited < SOON && (2..=3).contains(&asked),
        "{cut}, {waited:?}, {asked}"
    );
    origin.put("/half", whole);
    get(&node, "/half", "").must_be(200);
    assert_eq!(metric(&node, "slicecache_retries_total", ""), 0);
}

#[test]
fn an_origin_that_always_fails_is_asked_as_often_as_its_budget_allows() {
    let origin = Origin::start();
    let node = proxy_of_one_column(&origin);
    // A 500 is that path's: nobody leaves the origin alone for it.
    let failing = object(1, 1000).fault(Fault::Status(500, ""), u32::MAX);
    origin.put("/one", failing.clone());
    get(&node, "/one", "").must_be(502);
    assert_eq!(origin.total("/one"), 1 + RETRIES);
    let paths: Vec<String> = (0..60).map(|at| format!("/fails{at}")).collect();
    paths.iter().for_each(|path| origin.put(path, failing.clone()));
    thread::scope(|scope| {
        for path in &paths {
            let node = &node;
            scope.spawn(move || get(node, path, "").must_be(502));
        }
    });
    let asked: u32 = paths.iter().map(|path| origin.total(path)).sum();
    assert_eq!(asked, 60 + SAVED - RETRIES, "one try each, and what was saved up");
    assert!(paths.iter().all(|path| (1..=1 + RETRIES).contains(&origin.total(path))));
    // A tenth of what goes well is saved up again.
    for at in 0..20 {
        let path = format!("/well{at}");
        origin.put(&path, object(2, 1000));
        get(&node, &path, "").must_be(200);
    }
    origin.put("/again", failing);
    get(&node, "/again", "").must_be(502);
    assert_eq!(origin.total("/again"), 1 + 2);
    assert_eq!(metric(&node, "slicecache_retries_total", ""), u64::from(SAVED) + 2);
}
