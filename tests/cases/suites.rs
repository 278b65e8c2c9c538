//! `bench blob --suite`: every suite runs, tells what it measured, and leaves nothing behind.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tests::command::{self, Finished};
use tests::node::{self, Node};

const DEADLINE: Duration = Duration::from_secs(120);

fn suite(node: &Node, name: &str, more: &[&str]) -> Finished {
    let mut command = Command::new(node::binary());
    command.args(["bench", "blob", "--suite", name, "--seconds", "1", "-o", "json"]);
    command.args(["--target", &node.setup.blob.to_string(), "--ops", &node.setup.ops.to_string()]).args(more);
    node::without_our_settings(&mut command);
    command::run(&mut command, DEADLINE)
}

/// The lines of JSON of a suite that must run.
fn cases(node: &Node, name: &str, more: &[&str]) -> Vec<Value> {
    let text = suite(node, name, more).must_succeed().text();
    let cases: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for case in &cases {
        let number = |key: &str| case[key].as_f64().unwrap_or_else(|| panic!("{name}: no {key}: {case}"));
        assert!(number("operations") >= 1.0 && number("mb_per_second") > 0.0, "{case}");
        assert!(number("ram_hits") + number("disk_hits") >= 1.0, "the server counted nothing: {case}");
    }
    assert!(node.client().list().is_empty(), "{name} left blobs behind");
    cases
}

#[test]
fn every_suite_measures_and_leaves_nothing_behind() {
    let node = Node::start();
    for (name, more, count) in [
        ("sequential", &["--sizes", "1MiB,3MiB"][..], 2),
        ("random", &["--blobs", "2", "--sizes", "2MiB"], 1),
        ("small", &["--blobs", "50"], 1),
        ("fanout", &["--blobs", "60", "--sizes", "5KiB,70000"], 2),
        ("tiers", &["--blobs", "20"], 2),
        ("prefetch", &["--blobs", "1", "--sizes", "10MiB"], 1),
        ("zipf", &["--blobs", "100"], 1),
    ] {
        let cases = cases(&node, name, more);
        assert_eq!(cases.len(), count, "{name}");
        for case in &cases {
            println!("{case}");
        }
    }
}

#[test]
fn without_a_target_prefetch_is_compared_on_two_nodes_of_its_own() {
    let dir = tempfile::tempdir().expect("a directory");
    let bench = |more: &[&str]| {
        let mut command = Command::new(node::binary());
        command.args(["bench", "blob", "-o", "json", "--blobs", "2", "--sizes", "24MiB", "--dir"]);
        command.arg(dir.path()).args(more);
        node::without_our_settings(&mut command);
        command::run(&mut command, DEADLINE)
    };
    let text = bench(&["--suite", "prefetch"]).must_succeed().text();
    let cases: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let [off, on] = &cases[..] else { panic!("two cases: {text}") };
    println!("{off}\n{on}");
    let number = |case: &Value, key: &str| case[key].as_f64().unwrap_or_else(|| panic!("no {key}: {case}"));
    for (case, state) in [(off, "prefetch off"), (on, "prefetch on")] {
        assert!(case["case"].as_str().is_some_and(|name| name.ends_with(state)), "{case}");
        assert_eq!(case["operations"], 48, "every part of both blobs, once: {case}");
    }
    let (rate_off, rate_on) = (number(off, "mb_per_second"), number(on, "mb_per_second"));
    let ratio = number(on, "ratio_to_prefetch_off");
    assert!(rate_off > 0.0 && (ratio / (rate_on / rate_off) - 1.0).abs() < 1e-6, "{off} {on}");
    assert_eq!(number(off, "extents_read_ahead"), 0.0, "{off}");
    assert!(number(on, "extents_read_ahead") >= 4.0, "{on}");
    // 4 MiB each.
    assert!(number(off, "disk_hits") >= 12.0, "an extent came from elsewhere than the disk: {off}");
    for refused in [&["--suite", "prefetch", "--ops", "127.0.0.1:1"][..], &["--suite", "tiers"], &[]] {
        assert_eq!(bench(refused).code, 2, "{refused:?}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).expect("is there").count(), 0, "something was left behind");
}

#[test]
fn what_was_just_put_comes_from_disk_first_and_from_ram_again() {
    let node = Node::start();
    let cases = cases(&node, "tiers", &["--blobs", "100", "--sizes", "20KiB"]);
    let ratio = |case: &Value| case["ram_hit_ratio"].as_f64().expect("a number");
    assert_eq!(cases[0]["operations"], 100, "each once");
    assert!(ratio(&cases[0]) < 0.1 && ratio(&cases[1]) > 0.9, "{cases:?}");
}

#[test]
fn a_page_of_a_suite_has_a_drawing_of_each_case() {
    let node = Node::start();
    let path = node.setup.path("page.html");
    suite(&node, "fanout", &["--blobs", "20", "--report", path.to_str().expect("UTF-8")]).must_succeed();
    let page = std::fs::read_to_string(path).expect("was written");
    assert_eq!(page.matches("<polyline").count(), 2);
}

#[test]
fn what_does_not_go_together_is_a_usage_error() {
    let node = Node::start();
    for more in [&["--size", "4KiB"][..], &["--rate", "5"], &["--sizes", "0"], &["--method", "put"]] {
        assert_eq!(suite(&node, "small", more).code, 2, "{more:?}");
    }
    assert_eq!(suite(&node, "nonsense", &[]).code, 2);
}

#[test]
fn a_proxy_of_its_own_is_loaded_hot_and_cold_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().expect("a directory");
    let bench = |more: &[&str]| {
        let mut command = Command::new(node::binary());
        command.args(["bench", "slice", "--seconds", "1", "--objects", "2", "--connections", "4"]);
        command.args(["-o", "json", "--dir"]).arg(dir.path()).args(more);
        node::without_our_settings(&mut command);
        command::run(&mut command, DEADLINE)
    };
    for more in [&["--sizes", "1KiB,3MiB"][..], &["--sizes", "3MiB", "--range", "64KiB"], &["--cold"]] {
        let text = bench(more).must_succeed().text();
        let case: Value = serde_json::from_str(text.trim_end()).expect("one line of JSON");
        let number = |key: &str| case[key].as_f64().unwrap_or_else(|| panic!("{more:?}: no {key}: {case}"));
        assert!(number("operations") >= 1.0 && number("mb_per_second") > 0.0, "{case}");
        assert!(number("first_byte_p50_us") > 0.0 && number("server_cpu_us_per_operation") > 0.0, "{case}");
        println!("{case}");
    }
    assert_eq!(bench(&["--sizes", "1KiB", "--range", "64KiB"]).code, 2, "a range beyond its object");
    assert_eq!(bench(&["--path", "/x"]).code, 2, "a path, and nobody to ask");
    assert_eq!(std::fs::read_dir(dir.path()).expect("is there").count(), 0, "something was left behind");
}
