//! However many ask, each slice is fetched once.

use super::{MIB, get, object, proxy};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;
use tests::http::Request;
use tests::origin::{Object, Origin};

pub(super) fn at_once(count: usize, ask: impl Fn(usize) + Sync) {
    let start = Barrier::new(count);
    thread::scope(|scope| {
        for at in 0..count {
            let (start, ask) = (&start, &ask);
            scope.spawn(move || {
                start.wait();
                ask(at);
            });
        }
    });
}

#[test]
fn a_crowd_on_a_cold_object_costs_one_fetch_a_slice() {
    let origin = Origin::start();
    let node = proxy(&origin).start();
    let cold = Object { pause: Duration::from_millis(1), ..object(1, 10 * MIB) };
    origin.put("/crowd", cold.clone());
    at_once(1000, |_| {
        let reply = get(&node, "/crowd", "").must_be(200);
        assert!(reply.body == *cold.body);
    });
    let asked = origin.asked("/crowd");
    assert_eq!((asked.len(), asked.values().max()), (10, Some(&1)), "{asked:?}");
}

#[test]
fn a_crowd_on_a_cold_range_costs_one_fetch() {
    let origin = Origin::start();
    let node = proxy(&origin).start();
    let cold = Object { pause: Duration::from_millis(20), ..object(2, 10 * MIB) };
    origin.put("/range", cold.clone());
    at_once(100, |_| {
        let reply = get(&node, "/range", "bytes=5300000-5365535").must_be(206);
        assert!(reply.body == cold.body[5_300_000..5_365_536]);
    });
    assert_eq!(
        origin.asked("/range").into_iter().collect::<Vec<_>>(),
        [("bytes=5242880-6291455".to_owned(), 1)]
    );
}

#[test]
fn readers_in_different_places_of_a_cold_object_share_what_comes() {
    let origin = Origin::start();
    let node = proxy(&origin).start();
    let cold = Object { pause: Duration::from_millis(2), ..object(3, 16 * MIB) };
    origin.put("/far", cold.clone());
    at_once(16, |at| {
        let from = at * MIB + 17;
        let reply = get(&node, "/far", &format!("bytes={from}-")).must_be(206);
        assert!(reply.body == cold.body[from..]);
    });
    let asked = origin.asked("/far");
    assert_eq!((asked.len(), asked.values().max()), (16, Some(&1)), "{asked:?}");
}

#[test]
fn who_leaves_takes_nothing_from_the_others() {
    let origin = Origin::start();
    let node = proxy(&origin).start();
    let cold = Object { pause: Duration::from_millis(3), ..object(4, 12 * MIB) };
    origin.put("/left", cold.clone());
    at_once(40, |at| {
        if at % 2 == 0 {
            assert!(get(&node, "/left", "").must_be(200).body == *cold.body);
            return;
        }
        let mut conn = node.slice();
        conn.send(&Request::new("GET", "/left").to_bytes()).expect("sent");
        if at % 4 == 1 {
            conn.receive_some(at * 10_000).expect("something comes");
        }
    });
    let asked = origin.asked("/left");
    assert_eq!((asked.len(), asked.values().max()), (12, Some(&1)), "{asked:?}");
}
