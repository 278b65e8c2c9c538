//! What is known of the disk: measured once, read at every start, shown; a file that cannot be used is passed over.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tests::command::{self, Finished};
use tests::content::{self, Digest};
use tests::exposition::Exposition;
use tests::http::Request;
use tests::node::{self, Node, Setup};
use tests::origin::{Object, Origin};

const CLASSES: [&str; 6] = ["raft_sync", "foreground", "tsdb_sync", "fill", "compaction", "scrub"];
const MEASURE_DEADLINE: Duration = Duration::from_secs(150);
const UPKEEP_DEADLINE: Duration = Duration::from_secs(30);

fn basalt(args: &[&str], data: &Path) -> Finished {
    let mut command = Command::new(node::binary());
    node::without_our_settings(&mut command);
    command::run(command.args(args).env("BASALT_DATA_DIR", data), MEASURE_DEADLINE)
}

fn scrape(node: &Node) -> Exposition {
    let reply = node.ops().call(&Request::new("GET", "/metrics")).must_be(200);
    Exposition::parse(reply.text()).unwrap_or_else(|why| panic!("{why}"))
}

/// Operations and bytes that the first column may have in flight.
fn in_flight_max(node: &Node) -> (u64, u64) {
    let scrape = scrape(node);
    let of_first =
        |name: &str| scrape.sum(name, |labels| labels.get("column").is_some_and(|c| c == "0")) as u64;
    (of_first("basalt_io_in_flight_max"), of_first("basalt_io_in_flight_max_bytes"))
}

/// The line of the log that tells what is in flight, and by what.
fn said_of_the_disk(node: &Node) -> String {
    let stderr = node.stderr();
    let lines: Vec<&str> = stderr.lines().filter(|line| line.contains("operations=")).collect();
    assert_eq!(lines.len(), 1, "one line: {stderr}");
    lines[0].to_owned()
}

fn doctor(data: &Path) -> String {
    let text = basalt(&["doctor"], data).text();
    let line = text.lines().find(|line| line.contains("device figures"));
    line.unwrap_or_else(|| panic!("no line of the device: {text}")).to_owned()
}

#[test]
fn a_measured_device_is_saved_read_and_shown() {
    let setup = Setup::new().cpuset(node::cpuset(1));
    assert!(doctor(&setup.data).starts_with("degraded"), "before it is measured");
    let arguments = ["bench", "disk", "--save", "--seconds", "1", "--file-size", "256MiB", "-o", "json"];
    let measured = basalt(&arguments, &setup.data).must_succeed();
    let figures = measured.text();
    let number = |key: &str| -> u64 {
        let (_, rest) =
            figures.split_once(&format!("\"{key}\":")).unwrap_or_else(|| panic!("no {key}: {figures}"));
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().expect("a number")
    };
    let (operations, bytes) = (number("operations"), number("bytes"));
    let file = fs::read_to_string(setup.data.join("device.toml")).expect("saved");
    assert!(file.contains(&format!("operations = {operations}\n")), "{file}");
    assert_eq!(
        fs::read_dir(setup.data.join("incoming")).expect("listed").count(),
        0,
        "the load's file is gone"
    );
    let line = doctor(&setup.data);
    assert!(line.starts_with("ok") && line.contains(&format!("{operations} operations")), "{line}");

    let mut node = setup.start();
    // A column has at least this much, whatever was measured.
    assert_eq!(in_flight_max(&node), (operations.max(8), bytes.max(4 << 20)));
    assert!(said_of_the_disk(&node).contains("as measured"));
    let busy = basalt(&arguments, &setup.data);
    assert!(busy.code == 1 && busy.stderr.contains("in use"), "measured beside a node: {}", busy.stderr);
    node.stop();

    let second = setup.path("second");
    fs::create_dir(&second).expect("made");
    fs::rename(setup.data.join("device.toml"), second.join("device.toml")).expect("moved");
    fs::remove_file(setup.path("stderr")).expect("a fresh log");
    let setup = setup.arg("--data-dir").arg(second.to_str().expect("UTF-8"));
    let mut node = setup.start();
    assert_eq!(
        in_flight_max(&node),
        (operations.max(8), bytes.max(4 << 20)),
        "two directories of one device"
    );
    assert!(said_of_the_disk(&node).contains("as measured"));
    node.stop();
}

#[test]
fn a_device_file_is_divided_over_the_columns_and_a_bad_one_ignored_with_one_line() {
    let setup = Setup::new().cpuset(node::cpuset(1));
    let mut node = setup.start();
    let defaults = in_flight_max(&node);
    assert!(said_of_the_disk(&node).contains("defaults"));
    node.stop();
    for (text, why) in [
        ("version = 9\n", "version 9"),
        ("version = 1\noperations = 0\n", "missing"),
        ("nothing of ours\n", ""),
    ] {
        fs::write(setup.data.join("device.toml"), text).expect("written");
        fs::remove_file(setup.path("stderr")).expect("a fresh log");
        let mut node = setup.start();
        let line = said_of_the_disk(&node);
        assert!(line.to_lowercase().contains("warn"), "{line}");
        assert!(line.contains("ignored") && line.contains("device.toml") && line.contains(why), "{line}");
        assert_eq!(in_flight_max(&node), defaults, "{text}");
        node.client().put(b"it works all the same");
        node.stop();
        let line = doctor(&setup.data);
        assert!(line.starts_with("degraded") && line.contains("ignored"), "{line}");
    }
}

#[test]
fn disk_operations_are_counted_by_class() {
    let node = Node::start();
    let before = scrape(&node);
    let body = content::bytes(1, 3 << 20);
    node.client().put(&body);
    let after = scrape(&node);
    for class in CLASSES {
        let of_class = |labels: &tests::exposition::Labels| labels.get("class").is_some_and(|c| c == class);
        let moved = |name: &str| after.sum(name, of_class) - before.sum(name, of_class);
        let is_ours = class == "foreground";
        assert_eq!(moved("basalt_io_operations_total") > 0.0, is_ours, "{class}");
        assert_eq!(moved("basalt_io_bytes_total") >= body.len() as f64, is_ours, "{class}");
        assert_eq!(after.sum("basalt_io_waiting", of_class), 0.0, "{class}");
        let waits = |labels: &tests::exposition::Labels| of_class(labels) && !labels.contains_key("le");
        assert_eq!(after.sum("basalt_io_wait_seconds_count", waits) > 0.0, is_ours, "{class}");
    }
}

/// What is brought into RAM, and what an origin gave and can give again.
#[test]
fn filling_the_cache_is_counted_as_that() {
    let (node, origin) = (Node::start(), Origin::start());
    let filled = || {
        let of_class = |labels: &tests::exposition::Labels| labels.get("class").is_some_and(|c| c == "fill");
        scrape(&node).sum("basalt_io_bytes_total", of_class)
    };
    let body = content::bytes(1, 3 << 20);
    let mut client = node.client();
    client.put(&body);
    assert_eq!(filled(), 0.0, "a client waits for what it puts");
    assert!(client.get(&Digest::of(&body)) == body);
    let until = Instant::now() + UPKEEP_DEADLINE;
    while filled() < body.len() as f64 {
        assert!(Instant::now() < until, "not brought into RAM, or not as a fill");
        std::thread::sleep(Duration::from_millis(20));
    }
    let (before, fetched) = (filled(), content::bytes(2, 5 << 20));
    origin.put("/fetched", Object::new(fetched.clone()));
    let order = format!("{{\"url\":\"{}\"}}", origin.url("/fetched"));
    client.call(&Request::new("POST", "/blobs/fetch").body(order.as_bytes())).must_be(201);
    assert!(filled() - before >= fetched.len() as f64, "{before} before, {} now", filled());
}

/// A full pack is listed in the index, for which it is read.
#[test]
fn upkeep_is_counted_as_compaction() {
    let node = Setup::new().arg("--disk-quota").arg("64MiB").start();
    let mut client = node.client();
    for seed in 0..96 {
        client.put(&content::bytes(seed, 48 << 10));
    }
    let of_class =
        |labels: &tests::exposition::Labels| labels.get("class").is_some_and(|c| c == "compaction");
    let until = Instant::now() + UPKEEP_DEADLINE;
    while scrape(&node).sum("basalt_io_bytes_total", of_class) == 0.0 {
        assert!(Instant::now() < until, "packs are not listed, or not as compaction");
        std::thread::sleep(Duration::from_millis(100));
    }
}
