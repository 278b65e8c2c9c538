//! The quick start: files go in by the verbs and by curl, and come back as they were.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tests::command;
use tests::content::{self, Digest, Expected, Hasher, Rng};
use tests::http::{Conn, Request};
use tests::node::Node;

/// The digest at the start of the only line of a verb's output.
fn printed_digest(line: &str) -> Digest {
    Digest(line.split_whitespace().next().expect("a digest").to_owned())
}

#[test]
fn the_verbs_put_get_list_and_remove() {
    let node = Node::start();
    let body = content::bytes(1, 3 << 20);
    let file = node.setup.path("file");
    let copy = node.setup.path("copy");
    fs::write(&file, &body).expect("written");

    let put = node.verb("put", &[&file], &[]).must_succeed();
    let digest = printed_digest(&put.text());
    assert_eq!(digest, Digest::of(&body));
    assert!(put.stderr.is_empty(), "no bar without a terminal: {}", put.stderr);

    node.verb("get", &[Path::new(&digest.0), Path::new("-o"), &copy], &[]).must_succeed();
    assert!(fs::read(&copy).expect("the copy") == body);
    let out = node.verb("get", &[Path::new(&digest.0)], &[]).must_succeed();
    assert!(out.stdout == body, "get to standard output");

    let listed = node.verb("ls", &[], &[]).must_succeed().text();
    assert_eq!(listed.matches(&digest.0).count(), 1, "{listed}");
    node.verb("rm", &[Path::new(&digest.0)], &[]).must_succeed();
    let listed = node.verb("ls", &[], &[]).must_succeed().text();
    assert!(!listed.contains(&digest.0), "{listed}");
}

#[test]
fn verbs_fail_by_exit_code_and_one_line_that_says_why() {
    let node = Node::start();
    let nothing = Digest::of_nothing_stored();
    let copy = node.setup.path("copy");
    for (verb, args, code) in [
        ("get", vec![Path::new(&nothing.0), Path::new("-o"), &copy], 1),
        ("rm", vec![Path::new(&nothing.0)], 1),
        ("get", vec![Path::new("sha256:12")], 2),
        ("put", vec![Path::new("/no/such/file")], 1),
    ] {
        let finished = node.verb(verb, &args, &[]);
        assert_eq!(finished.code, code, "{verb} {args:?}: {}", finished.stderr);
        assert!(!finished.stderr.trim().is_empty(), "{verb} {args:?} says nothing");
        assert!(finished.stdout.is_empty(), "{verb} {args:?} wrote to standard output");
    }
    assert!(!copy.exists(), "get -o leaves no file when it fails");
}

#[test]
fn a_directory_is_put_file_by_file() {
    let node = Node::start();
    let dir = node.setup.path("tree");
    fs::create_dir_all(dir.join("a/b")).expect("made");
    let names = ["one", "a/two", "a/b/three", "a/b/empty"];
    for (at, name) in names.iter().enumerate() {
        let size = if name.ends_with("empty") { 0 } else { 100_000 << at };
        fs::write(dir.join(name), content::bytes(at as u64, size)).expect("written");
    }
    std::os::unix::fs::symlink("one", dir.join("link")).expect("linked");
    let text = node.verb("put", &[&dir], &[]).must_succeed().text();
    assert_eq!(text.lines().count(), names.len(), "regular files only: {text}");
    for name in names {
        let body = fs::read(dir.join(name)).expect("read");
        let line = text.lines().find(|line| line.ends_with(name));
        let line = line.unwrap_or_else(|| panic!("{name} is not in {text}"));
        assert!(line.starts_with(&format!("{}  ", Digest::of(&body))), "{line}");
        assert!(node.client().get(&Digest::of(&body)) == body);
    }
}

#[test]
fn standard_input_is_put() {
    let node = Node::start();
    let body = content::bytes(9, 5_000_000);
    let put = node.verb("put", &[Path::new("-")], &body).must_succeed();
    assert_eq!(printed_digest(&put.text()), Digest::of(&body));
    assert!(node.client().get(&Digest::of(&body)) == body);
    let empty = node.verb("put", &[Path::new("-")], &[]).must_succeed();
    assert_eq!(printed_digest(&empty.text()), Digest::of(b""));
}

const LARGE_SIZE_BYTES: u64 = 2 << 30;
const LARGE_SEED: u64 = 2024;

fn write_large(path: &Path) -> Digest {
    let mut file = BufWriter::new(File::create(path).expect("created"));
    let mut hasher = Hasher::default();
    let mut part = vec![0; 1 << 20];
    let mut at = 0;
    while at < LARGE_SIZE_BYTES {
        content::fill(LARGE_SEED, at, &mut part);
        hasher.update(&part);
        file.write_all(&part).expect("written");
        at += part.len() as u64;
    }
    file.flush().expect("written");
    hasher.finish()
}

/// Reads the large blob whole and by 64 ranges, and compares every byte.
fn read_large(node: &Node, digest: &Digest) {
    let mut rng = Rng::new(64);
    let mut conn = node.conn();
    for _ in 0..64 {
        let from = rng.below(LARGE_SIZE_BYTES);
        let to = (from + rng.size(1, 8 << 20) as u64).min(LARGE_SIZE_BYTES) - 1;
        read_large_range(&mut conn, digest, from, to);
    }
    let mut expected = Expected::from(LARGE_SEED, 0);
    let size = node.client().get_through(digest, &mut |part| expected.must_continue(part));
    assert_eq!(size, LARGE_SIZE_BYTES);
}

fn read_large_range(conn: &mut Conn, digest: &Digest, from: u64, to: u64) {
    let request = Request::new("GET", digest.path()).header("Range", format!("bytes={from}-{to}"));
    conn.send(&request.to_bytes()).expect("sent");
    let mut expected = Expected::from(LARGE_SEED, from);
    let reply = conn.receive_into("GET", &mut |part| expected.must_continue(part));
    let reply = reply.expect("a reply").must_be(206);
    let range = format!("bytes {from}-{to}/{LARGE_SIZE_BYTES}");
    assert_eq!(reply.header("content-range"), Some(range.as_str()));
    assert_eq!(expected.at(), to + 1);
}

#[test]
fn two_gib_go_in_and_come_back_whole_and_by_ranges_from_disk_and_from_ram() {
    let mut node = Node::start();
    let file = node.setup.path("large");
    let digest = write_large(&file);
    let url = format!("{}/blobs", node.setup.url());
    let put = command::run(
        Command::new("curl").args(["-sS", "--fail-with-body", "-T"]).arg(&file).arg(url),
        Duration::from_secs(120),
    )
    .must_succeed();
    assert!(put.text().contains(&digest.0), "{}", put.text());
    fs::remove_file(&file).expect("removed");

    node.stop();
    let node = node.start_again();
    read_large(&node, &digest);
    read_large(&node, &digest);

    let copy = node.setup.path("copy");
    let url = format!("{}{}", node.setup.url(), digest.path());
    command::run(
        Command::new("curl").args(["-sS", "--fail", url.as_str(), "-o"]).arg(&copy),
        Duration::from_secs(120),
    )
    .must_succeed();
    assert_eq!(fs::metadata(&copy).expect("the copy").len(), LARGE_SIZE_BYTES);
}
