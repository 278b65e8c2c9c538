//! Where nothing can be mounted `serve` does not start: one line that says where and why, and nothing is mounted.

use std::fs;
use std::path::PathBuf;

use tests::command::Finished;
use tests::fuse::{self, MountPoint, Mounted, name_of};
use tests::node::Setup;

use super::{put, text};

/// Panics unless the refusal is of the kind `codes`, in one line with this path and these words.
fn must_say(finished: &Finished, codes: &[i32], path: &str, words: &[&str]) {
    let said = &finished.stderr;
    assert!(codes.contains(&finished.code), "exit {}: {said}", finished.code);
    let lines: Vec<&str> = said.lines().filter(|line| line.contains(path)).collect();
    assert_eq!(lines.len(), 1, "one line with {path}: {said}");
    let line = lines[0].to_lowercase();
    assert!(
        words.is_empty() || words.iter().any(|word| line.contains(word)),
        "{path}, one of {words:?}: {said}"
    );
    assert!(!said.contains("panicked") && said.lines().count() <= 4, "more than a line or two: {said}");
}

fn must_refuse(path: &str, words: &[&str]) {
    for flag in ["--mount", "--mount-ro"] {
        let before = fs::read_to_string("/proc/self/mountinfo").expect("/proc").matches(path).count();
        let finished = Setup::new().arg(flag).arg(path).run_refused();
        must_say(&finished, &[1, 2, 64], path, words);
        let after = fs::read_to_string("/proc/self/mountinfo").expect("/proc").matches(path).count();
        assert_eq!(before, after, "{flag} {path}: something is mounted");
    }
}

#[test]
fn a_directory_that_is_missing_is_refused() {
    if !fuse::or_skip() {
        return;
    }
    let path = Setup::new().path("missing");
    must_refuse(text(&path), &["no such", "missing", "not exist"]);
    assert!(!path.exists(), "it was made");
}

#[test]
fn a_directory_that_is_not_empty_is_refused_and_stays_as_it_was() {
    if !fuse::or_skip() {
        return;
    }
    let point = MountPoint::new();
    let file: PathBuf = point.path.join("thesis.tex");
    fs::write(&file, "precious").expect("written");
    must_refuse(point.text(), &["empty"]);
    assert_eq!(fs::read_to_string(&file).expect("still there"), "precious");
    fs::remove_file(&file).expect("removed");
}

#[test]
fn a_file_is_refused() {
    if !fuse::or_skip() {
        return;
    }
    let setup = Setup::new();
    let file = setup.path("file");
    fs::write(&file, "a file").expect("written");
    must_refuse(text(&file), &["directory"]);
    assert_eq!(fs::read_to_string(&file).expect("still a file"), "a file");
}

#[test]
fn a_place_that_is_mounted_on_is_refused_and_goes_on() {
    let Some(mounted) = Mounted::start("auto") else { return };
    let digest = put(&mounted.node, 1, 100_000);
    for point in mounted.points() {
        must_refuse(point.text(), &["mount"]);
        let said = fuse::tool("sha256sum", &[text(&point.blob(&digest))]);
        assert!(said.starts_with(name_of(&digest)), "the first mount is disturbed: {said}");
    }
}

#[test]
fn both_mounts_in_one_place_are_refused() {
    if !fuse::or_skip() {
        return;
    }
    let point = MountPoint::new();
    let setup = Setup::new().arg("--mount").arg(point.text()).arg("--mount-ro").arg(point.text());
    must_say(&setup.run_refused(), &[1, 2, 64, 78], point.text(), &[]);
    assert!(point.table().is_empty());
}

/// One of two cannot be had: the other is not left behind.
#[test]
fn a_refused_second_mount_takes_the_first_away() {
    if !fuse::or_skip() {
        return;
    }
    let point = MountPoint::new();
    let missing = Setup::new().path("missing");
    let setup = Setup::new().arg("--mount").arg(point.text()).arg("--mount-ro").arg(text(&missing));
    must_say(&setup.run_refused(), &[1, 2, 64], text(&missing), &[]);
    point.must_become_free("refused");
}

#[test]
fn a_rung_that_does_not_exist_is_a_usage_error_that_names_those_that_do() {
    if !fuse::or_skip() {
        return;
    }
    let point = MountPoint::new();
    let finished =
        Setup::new().arg("--mount").arg(point.text()).arg("--fuse-rung").arg("ladder").run_refused();
    assert!([2, 64].contains(&finished.code), "{}: {}", finished.code, finished.stderr);
    for rung in ["auto", "passthrough", "uring", "clone", "thread"] {
        assert!(finished.stderr.contains(rung), "{rung} is not named: {}", finished.stderr);
    }
    assert!(point.table().is_empty());
}
