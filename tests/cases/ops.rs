//! The ops port: health, and metrics that can be read and that move with what happens.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use tests::command;
use tests::content::{self, Digest};
use tests::exposition::{Exposition, Labels};
use tests::http::{Reply, Request};
use tests::node::Node;
use tests::skip;

fn ops(node: &Node, target: &str) -> Reply {
    node.ops().call(&Request::new("GET", target))
}

fn scrape(node: &Node) -> Exposition {
    let reply = ops(node, "/metrics").must_be(200);
    let kind = reply.header("content-type").expect("a content type");
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    Exposition::parse(reply.text()).unwrap_or_else(|why| panic!("{why}"))
}

#[test]
fn health_is_answered() {
    let node = Node::start();
    for target in ["/healthz", "/livez", "/readyz", "/readyz?verbose", "/livez?verbose"] {
        ops(&node, target).must_be(200);
    }
    let verbose = ops(&node, "/readyz?verbose");
    assert!(verbose.text().lines().count() >= 2, "one line for each check: {}", verbose.text());
    node.ops().call(&Request::new("HEAD", "/livez")).must_be(200);
}

#[test]
fn what_is_not_there_is_404_and_other_methods_405() {
    let node = Node::start();
    for target in ["/", "/metricsx", "/metrics/", "/blobs", "/healthz/x"] {
        ops(&node, target).must_be(404);
    }
    for method in ["POST", "PUT", "DELETE"] {
        node.ops().call(&Request::new(method, "/metrics").body(b"x")).must_be(405);
    }
}

#[test]
fn metrics_are_well_formed_and_tell_of_the_process() {
    let node = Node::start();
    node.client().put(&content::bytes(1, 100_000));
    let scrape = scrape(&node);
    for name in [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_open_fds",
        "process_max_fds",
        "process_start_time_seconds",
    ] {
        let family = scrape.0.get(name).unwrap_or_else(|| panic!("no {name}"));
        assert!(family.samples[0].value > 0.0, "{name} is {}", family.samples[0].value);
    }
    let resident = scrape.sum("process_resident_memory_bytes", |_| true);
    let ours = node.status_bytes("VmRSS") as f64;
    assert!((resident / ours - 1.0).abs() < 0.25, "{resident} is not {ours}");
    for (name, family) in &scrape.0 {
        assert!(!family.samples.is_empty(), "{name} has no samples");
    }
}

#[test]
fn promtool_finds_nothing_to_say_about_the_metrics() {
    if Command::new("promtool").arg("--version").output().is_err() {
        skip::told_to_skip("tools", "promtool is missing: tests/install");
        return;
    }
    let node = Node::start();
    node.client().put(b"hello");
    let text = ops(&node, "/metrics").body;
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]);
    let said = command::run_with_input(&mut promtool, &text, Duration::from_secs(20));
    // The names are blobcache's; promtool would rather have `_bytes`. It exits with 3 for advice, with 1 for errors.
    let said_of_names =
        |kind| format!("blobcache_{kind}_cache_usage_mb metric names should not contain abbreviated units");
    let allowed = [said_of_names("disk"), said_of_names("mem")];
    let output = format!("{}{}", said.text(), said.stderr);
    assert!(said.code == 3 && output.lines().eq(&allowed), "{}: {output}", said.code);
}

/// The counter of the blob interface's requests: found by its shape, since its name is no promise.
fn request_counter(scrape: &Exposition) -> String {
    let found = scrape.0.iter().find(|(name, family)| {
        let has_code = family.samples.iter().any(|s| s.labels.contains_key("code"));
        family.kind == "counter" && name.contains("blob") && name.contains("requests") && has_code
    });
    let found = found.map(|(name, _)| name.clone());
    found.unwrap_or_else(|| panic!("no counter of requests by code: {:?}", scrape.0.keys()))
}

#[test]
fn request_counters_move_by_exactly_what_was_asked() {
    let node = Node::start();
    let mut client = node.client();
    client.put(b"first");
    let before = scrape(&node);
    for seed in 0..17 {
        let digest = client.put(&content::bytes(seed, 1000));
        client.get(&digest);
        client.get(&digest);
        client.call(&Request::new("GET", Digest::of_nothing_stored().path())).must_be(404);
    }
    let name = request_counter(&before);
    // By code (201) or by class (2xx).
    let wanted = [('2', 51.0), ('4', 17.0), ('5', 0.0)];
    let begin = Instant::now();
    loop {
        let now = scrape(&node);
        let moved = |class: char| {
            let is_it = |labels: &Labels| labels.get("code").is_some_and(|c| c.starts_with(class));
            now.sum(&name, is_it) - before.sum(&name, is_it)
        };
        let seen = wanted.map(|(class, _)| (class, moved(class)));
        if seen == wanted {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(3), "{name}: {seen:?}, not {wanted:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn counters_never_go_back_between_scrapes_under_load() {
    let node = Node::start();
    thread::scope(|scope| {
        for thread in 0..4 {
            let mut client = node.client();
            scope.spawn(move || {
                for at in 0..150 {
                    let digest = client.put(&content::bytes(thread * 1000 + at, 3000));
                    client.get(&digest);
                }
            });
        }
        let mut before = scrape(&node);
        for _ in 0..15 {
            let now = scrape(&node);
            for (name, family) in &before.0 {
                if family.kind != "counter" {
                    continue;
                }
                for old in &family.samples {
                    let value = now.sum(&old.name, |labels| *labels == old.labels);
                    assert!(value >= old.value, "{name} {:?} went back", old.labels);
                }
            }
            before = now;
            thread::sleep(Duration::from_millis(20));
        }
    });
}
