//! A full disk keeps what is asked for again: who reads much once does not push it out.

use super::{MIB, get, object, proxy, word};
use std::thread;
use std::time::{Duration, Instant};
use tests::exposition::Exposition;
use tests::http::Request;
use tests::node::Node;
use tests::origin::Origin;

const POPULAR: u64 = 8;
/// Six times the quota.
const ONCE: u64 = 96;

fn metric(node: &Node, name: &str) -> f64 {
    let text = node.ops().call(&Request::new("GET", "/metrics")).must_be(200);
    Exposition::parse(text.text()).expect("valid").sum(name, |_| true)
}

fn read(node: &Node, origin: &Origin, seed: u64) -> String {
    let (path, object) = (format!("/{seed}"), object(seed, 4 * MIB));
    origin.put(&path, object.clone());
    let reply = get(node, &path, "").must_be(200);
    assert!(reply.body == *object.body, "{path}");
    word(&reply).to_owned()
}

#[test]
fn what_is_not_asked_for_often_enough_is_not_stored() {
    let origin = Origin::start();
    let node = proxy(&origin).memory("1GiB").arg("--slice-min-uses").arg("3").start();
    let mut asked = Vec::new();
    for _ in 0..2 {
        assert_eq!(read(&node, &origin, 1), "MISS");
        asked.push(origin.total("/1"));
        // What is being stored would be there.
        thread::sleep(Duration::from_millis(300));
    }
    assert!(asked[0] > 0 && asked[1] > asked[0], "{asked:?}");
    assert!(metric(&node, "slicecache_not_admitted_total") >= 8.0, "two times four slices");
    let begin = Instant::now();
    while read(&node, &origin, 1) != "HIT" {
        assert!(begin.elapsed() < Duration::from_secs(20), "it is asked for often enough");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn what_is_read_once_does_not_push_out_what_is_popular() {
    let origin = Origin::start();
    let node = proxy(&origin).arg("--disk-quota=64MiB").memory("512MiB").start();
    for _ in 0..4 {
        (0..POPULAR).for_each(|seed| drop(read(&node, &origin, seed)));
        thread::sleep(Duration::from_millis(200));
    }
    for seed in 0..ONCE {
        read(&node, &origin, 1000 + seed);
    }
    assert!(metric(&node, "slicecache_not_admitted_total") > ONCE as f64, "the disk is full");
    let asked: u32 = (0..POPULAR).map(|seed| origin.total(&format!("/{seed}"))).sum();
    let words: Vec<String> = (0..POPULAR).map(|seed| read(&node, &origin, seed)).collect();
    let hits = words.iter().filter(|word| *word == "HIT").count();
    let asked_again = (0..POPULAR).map(|seed| origin.total(&format!("/{seed}"))).sum::<u32>() - asked;
    assert!(hits as u64 >= POPULAR / 2, "{words:?}: {asked_again} requests to the origin");
    // What is asked for again comes in, however popular the others were.
    for _ in 0..6 {
        read(&node, &origin, 5000);
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(read(&node, &origin, 5000), "HIT");
}
