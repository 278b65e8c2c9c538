//! What the proxy does beside answering: probes of origins, connections that are kept, deletion behind purges, and what it counts of
//! itself, compared with what the origin and the client saw.

use super::kept::{must_be_stored, purge};
use super::{MIB, get, object, proxy, word};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};
use tests::exposition::Exposition;
use tests::http::Request;
use tests::node::Node;
use tests::origin::{Fault, Object, Origin};

fn metrics(node: &Node) -> Exposition {
    let text = node.ops().call(&Request::new("GET", "/metrics")).must_be(200);
    Exposition::parse(text.text()).expect("valid")
}

/// Of all series, or of those with a label of this value.
pub(super) fn metric(node: &Node, name: &str, label: &str) -> u64 {
    let is_wanted = |labels: &tests::exposition::Labels| {
        label.is_empty() || labels.iter().any(|(_, value)| value == label)
    };
    metrics(node).sum(name, is_wanted) as u64
}

pub(super) fn within(what: &str, holds: impl Fn() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(20), "{what}");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn an_origin_that_probes_find_down_is_not_asked_until_it_is_up() {
    let origin = Origin::start();
    let other = Origin::start();
    let setup = proxy(&origin).arg("--slice-origin").arg(format!("/other={}", other.url("")));
    let setup = setup.arg("--slice-health-path").arg("/health").arg("--slice-health-interval").arg("1s");
    let setup = setup.arg("--slice-health-fails").arg("2").arg("--slice-health-passes").arg("1");
    origin.put("/health", object(1, 2));
    other.put("/health", object(1, 2));
    let node = setup.start();
    let stale =
        Object { fields: "Cache-Control: max-age=0, stale-if-error=600\r\n".into(), ..object(2, 1000) };
    origin.put("/stale", stale);
    origin.put("/a", object(3, 1000));
    origin.put("/b", object(3, 1000));
    other.put("/other/a", object(4, 1000));
    get(&node, "/stale", "").must_be(200);
    get(&node, "/a", "").must_be(200);
    assert_eq!(metric(&node, "slicecache_origin_up", ""), 2);
    origin.put("/health", object(1, 2).fault(Fault::Status(503, ""), u32::MAX));
    within("it is down", || metric(&node, "slicecache_origin_up", "") == 1);
    let asked = ["/stale", "/a", "/b"].map(|path| origin.total(path));
    let begin = Instant::now();
    get(&node, "/b", "").must_be(503);
    assert!(begin.elapsed() < Duration::from_millis(500), "nobody is asked");
    assert_eq!(word(&get(&node, "/stale", "").must_be(200)), "STALE");
    assert_eq!(word(&get(&node, "/a", "").must_be(200)), "HIT");
    node.slice().call(&Request::new("POST", "/b").body(b"x")).must_be(503);
    get(&node, "/other/a", "").must_be(200);
    assert_eq!(["/stale", "/a", "/b"].map(|path| origin.total(path)), asked);
    origin.put("/health", object(1, 2));
    within("it is up", || metric(&node, "slicecache_origin_up", "") == 2);
    get(&node, "/b", "").must_be(200);
}

#[test]
fn what_was_purged_gives_its_space_back_without_being_asked_for() {
    let origin = Origin::start();
    let mut node = proxy(&origin).start();
    let orders = [("/p/a", "/p/a"), ("/q/b", "/q/*"), ("/r/c", "/*")];
    for (path, _) in orders {
        origin.put(path, object(1, 4 * MIB));
        must_be_stored(&node, path);
    }
    let varied = object(2, 2 * MIB);
    origin.put("/v", Object { fields: format!("{}Vary: Accept\r\n", varied.fields), ..varied });
    must_be_stored(&node, "/v");
    // Nobody has used it since the start.
    node.stop();
    node = node.start_again();
    let bytes = |node: &Node| metric(node, "slicecache_entry_bytes", "") / MIB as u64;
    within("all is known", || bytes(&node) == 14);
    let mut left = 14;
    for (at, (_, order)) in orders.into_iter().enumerate() {
        purge(&node, order, &[]);
        left -= if at == 2 { 6 } else { 4 };
        within(order, || bytes(&node) == left);
    }
    assert_eq!(metric(&node, "slicecache_purge_swept_total", ""), 5, "/v has a record of its name too");
    assert_eq!(metric(&node, "slicecache_purges_total", ""), 3);
}

#[test]
fn connections_are_kept_as_many_and_as_long_as_is_set() {
    let origin = Origin::start();
    let setup = proxy(&origin).cpuset(tests::node::cpuset(1));
    let setup = setup.arg("--slice-origin-idle").arg("1").arg("--slice-origin-idle-time").arg("2s");
    let node = setup.arg("--slice-subrequests").arg("4").start();
    origin.put("/a", Object { pause: Duration::from_millis(2), ..object(1, 8 * MIB) });
    get(&node, "/a", "").must_be(200);
    assert!(origin.connections() > 1, "several at a time");
    within("one is kept", || metric(&node, "slicecache_origin_connections", "") == 1);
    assert_eq!(metric(&node, "slicecache_origin_connections", "idle"), 1);
    assert_eq!(metric(&node, "slicecache_origin_connections_total", ""), u64::from(origin.connections()));
    within("none is", || metric(&node, "slicecache_origin_connections", "") == 0);
}

#[test]
fn an_origin_that_hangs_is_given_up_as_soon_as_is_set() {
    let origin = Origin::start();
    let setup = proxy(&origin).arg("--slice-origin-timeout").arg("1s");
    let node = setup.arg("--slice-retries").arg("0").start();
    origin.put("/h", object(1, 1000).fault(Fault::Silent(Duration::from_secs(20)), 1));
    let begin = Instant::now();
    get(&node, "/h", "").must_be(504);
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}

/// Every number of the metrics page against what the origin counted, and what the client saw.
#[test]
fn what_is_counted_is_what_happened() {
    let origin = Origin::start();
    let node = proxy(&origin).start();
    let slow = Object { pause: Duration::from_millis(3), ..object(1, 4 * MIB) };
    origin.put("/slow", slow.clone());
    origin.put("/part", object(2, 3 * MIB));
    origin.put("/retried", object(3, 1000).fault(Fault::Status(500, ""), 2));
    origin.put("/failed", object(4, 1000).fault(Fault::Status(500, ""), 4));
    let start = Barrier::new(10);
    thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                start.wait();
                assert!(get(&node, "/slow", "").must_be(200).body == *slow.body);
            });
        }
    });
    get(&node, "/part", "bytes=0-9").must_be(206);
    // Its bytes may be there before the slice is whole: four slices and one, and two records.
    within("the first slice is stored", || metric(&node, "slicecache_entries", "") >= 4 + 1 + 2);
    must_be_stored(&node, "/part");
    assert_eq!(word(&get(&node, "/part", "").must_be(200)), "HIT");
    get(&node, "/retried", "").must_be(200);
    get(&node, "/failed", "").must_be(502);
    get(&node, "/none", "").must_be(404);
    node.slice().call(&Request::new("POST", "/x").body(b"abc")).must_be(299);
    purge(&node, "/nothing", &[]);
    let page = metrics(&node);
    let sum = |name: &str, label: &str| {
        let has = |labels: &tests::exposition::Labels| {
            label.is_empty() || labels.iter().any(|(_, value)| value == label)
        };
        page.sum(name, has) as u64
    };
    // /slow: ten, of which one asked; /part: three; /retried, /none, /x: one each. /failed was refused, and is in no class.
    let outcome = |name: &str| sum("slicecache_requests_total", name);
    assert_eq!(outcome("hit") + outcome("miss") + outcome("partial"), 14);
    assert_eq!((outcome("partial"), outcome("bypass"), outcome("stale")), (1, 2, 0));
    assert_eq!(sum("slicecache_coalesced_total", ""), 9);
    assert_eq!(
        sum("slicecache_subrequests_total", ""),
        4 + 3 + 3 + 4 + 1,
        "/none is asked about, then passed"
    );
    assert_eq!(sum("slicecache_subrequest_duration_seconds_count", ""), 15);
    assert_eq!(sum("slicecache_retries_total", ""), 2 + 3);
    assert_eq!(sum("slicecache_failures_total", ""), 1);
    assert_eq!(sum("slicecache_purges_total", ""), 1);
    let total: u32 =
        ["/slow", "/part", "/retried", "/failed", "/none"].map(|path| origin.total(path)).iter().sum();
    assert_eq!(u64::from(total), 15 + 1, "and once passed");
    assert_eq!(sum("slicecache_bytes_total", "origin"), 7 * MIB as u64 + 1000);
    let given = ["memory", "l0", "l1"].map(|from| sum("slicecache_bytes_total", from));
    assert!(given[0] >= MIB as u64, "who came first had it as it came: {given:?}");
    let given = given.iter().sum::<u64>();
    assert_eq!(given, (40 + 6) * MIB as u64 + 10 + 1000);
    let answers = 10 + 3 + 1 + 1 + 1 + 1 + 1;
    assert_eq!(sum("slicecache_http_request_duration_seconds_count", ""), answers);
    assert_eq!(sum("slicecache_http_first_byte_seconds_count", ""), answers);
    assert_eq!(sum("slicecache_http_requests_total", ""), answers);
    assert_eq!(sum("slicecache_origin_connections_total", ""), u64::from(origin.connections()));
    assert_eq!(sum("slicecache_origin_requests", ""), 0);
    // Eight slices and their three records, and one purge.
    within("all is stored", || metric(&node, "slicecache_entries", "") == 8 + 3 + 1);
    assert!(metric(&node, "slicecache_entry_bytes", "") > 7 * MIB as u64 + 1000);
    assert_eq!(metric(&node, "slicecache_evictions_total", ""), 0);
}

#[test]
fn what_is_purged_is_logged_with_its_names() {
    let origin = Origin::start();
    let node = proxy(&origin).start();
    let many: Vec<String> = (0..64).map(|at| format!("{at:04}-{}", "x".repeat(100))).collect();
    purge(&node, "/any", &[("Surrogate-Key", "films shows"), ("Soft-Purge", "1")]);
    purge(&node, "/films/*", &[]);
    purge(&node, "/any", &[("Cache-Tag", &many.join(","))]);
    within("all are logged", || node.stderr().lines().filter(|line| line.contains("purged")).count() == 3);
    let log = node.stderr();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("purged")).collect();
    assert!(lines[0].contains("films") && lines[0].contains("shows") && lines[0].contains("true"), "{log}");
    assert!(lines[1].contains("/films/") && lines[1].contains("prefix"), "{log}");
    // Who does not wait for the answer has ordered it all the same.
    for at in 0..20 {
        let tags = format!("left{at} behind");
        let request = Request::new("PURGE", "/").header("Surrogate-Key", tags);
        node.slice().send(&request.to_bytes()).expect("sent");
    }
    within("those are logged too", || {
        node.stderr().lines().filter(|line| line.contains("behind")).count() == 20
    });
    assert!(lines[2].contains("0000-x") && lines[2].contains("more") && lines[2].len() < 1500, "{log}");
}

/// Each kind of bytes against what a client got: from disk after a restart, from RAM when it is warm.
#[test]
fn where_bytes_were_is_counted_where_they_were() {
    let origin = Origin::start();
    let node = proxy(&origin).start();
    let paths = [("/small", 1000), ("/large", 3 * MIB + 11)];
    for (seed, (path, size)) in (1..).zip(paths) {
        origin.put(path, object(seed, size));
        must_be_stored(&node, path);
    }
    let asked = paths.map(|(path, _)| origin.total(path));
    // Nothing reads ahead: what is in RAM was read before.
    let setup = node.setup.clone().arg("--prefetch").arg("off");
    let node = node.start_as(setup);
    let given = || ["memory", "l0", "l1"].map(|from| metric(&node, "slicecache_bytes_total", from));
    let get_all = |path: &str| {
        let before = given();
        let got = get(&node, path, "").must_be(200).body.len() as u64;
        let after = given();
        (got, [0, 1, 2].map(|from| after[from] - before[from]))
    };
    for (path, size) in paths {
        let size = size as u64;
        assert_eq!(get_all(path), (size, [0, 0, size]), "{path} comes from disk");
    }
    let begin = Instant::now();
    while get_all("/small") != (1000, [0, 1000, 0]) {
        assert!(begin.elapsed() < Duration::from_secs(20), "it is warm: {:?}", get_all("/small"));
    }
    assert_eq!(get_all("/small"), (1000, [0, 1000, 0]));
    assert_eq!(paths.map(|(path, _)| origin.total(path)), asked, "nothing comes from the origin");
}

#[test]
fn what_makes_room_is_counted() {
    let origin = Origin::start();
    let node = proxy(&origin).arg("--disk-quota").arg("24MiB").start();
    // What the full disk has no place for the first time it has when it is asked for again.
    for at in (0..12).chain(0..12) {
        let path = format!("/e{at}");
        origin.put(&path, object(at, 4 * MIB));
        assert_eq!(get(&node, &path, "").must_be(200).body.len(), 4 * MIB);
    }
    within("something had to go", || metric(&node, "slicecache_evictions_total", "") > 0);
    assert!(metric(&node, "slicecache_entry_bytes", "") <= 24 * MIB as u64);
}

#[test]
fn caches_before_us_are_told_of_too() {
    let origin = Origin::start();
    let node = proxy(&origin).start();
    let plain = object(1, 1000);
    let before = "Via: 1.1 near\r\nCache-Status: near; hit; ttl=5\r\nX-Cache: HIT from near\r\n";
    origin.put("/c", Object { fields: format!("{}{before}", plain.fields), ..plain });
    for expected in [
        "near; hit; ttl=5, basalt; fwd=uri-miss; fwd-status=206; stored; ttl=",
        "near; hit; ttl=5, basalt; hit; ttl=",
    ] {
        let reply = get(&node, "/c", "").must_be(200);
        assert_eq!(reply.header("via"), Some("1.1 near, 1.1 basalt"));
        let told = reply.header("cache-status").expect("told");
        assert!(told.starts_with(expected), "{told}");
        assert!(reply.header("x-cache").is_some_and(|word| word.ends_with("/1")), "{:?}", reply.headers);
    }
}
