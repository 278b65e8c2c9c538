//! Reading: the bytes are right on every rung, whoever reads how, cold, warm and after a restart.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tests::content::Digest;
use tests::fuse::{self, Mounted};
use tests::node::{Setup, cpuset};

use super::{SIZES, must_have_served, put, text, with_blobs};

fn paths(mounted: &Mounted, blobs: &BTreeMap<Digest, usize>) -> Vec<PathBuf> {
    mounted.points().iter().flat_map(|point| blobs.keys().map(|digest| point.blob(digest))).collect()
}

/// Each file is named by what `sha256sum` must say of it.
fn must_have_right_sums(paths: &[PathBuf]) {
    let paths: Vec<&str> = paths.iter().map(|path| text(path)).collect();
    let said = fuse::tool("sha256sum", &paths);
    assert_eq!(said.lines().count(), paths.len());
    for (line, path) in said.lines().zip(paths) {
        assert!(path.ends_with(&line[..64]), "wrong bytes: {line}");
    }
}

fn must_read_right(rung: &str) {
    let Some((mounted, blobs, _)) = with_blobs(rung, &SIZES) else { return };
    let paths = paths(&mounted, &blobs);
    must_have_right_sums(&paths);
    must_have_right_sums(&paths);
    let mounted = mounted.restart();
    must_have_right_sums(&paths);
    let args: Vec<&str> = paths.iter().map(|path| text(path)).collect();
    fuse::must_hold(include_str!("ways.py"), &args);
    must_have_served(&mounted, rung, SIZES.iter().filter(|&&size| size > 64 << 10).count());
}

#[test]
fn every_size_is_right_by_default() {
    must_read_right("auto");
}

#[test]
fn every_size_is_right_by_passthrough() {
    must_read_right("passthrough");
}

#[test]
fn every_size_is_right_by_uring() {
    must_read_right("uring");
}

#[test]
fn every_size_is_right_by_cloned_descriptors() {
    must_read_right("clone");
}

#[test]
fn every_size_is_right_by_a_thread() {
    must_read_right("thread");
}

/// fio lays out the pattern, so that neither the bytes nor their check are ours.
fn must_satisfy_fio(rung: &str) {
    let Some(mounted) = Mounted::start(rung) else { return };
    let file = mounted.node.setup.path("pattern");
    let pattern = [
        "--name=v",
        "--bs=4k",
        "--verify=pattern",
        "--verify_pattern=%o",
        "--verify_fatal=1",
        "--verify_state_save=0",
    ];
    let name = |path: &std::path::Path| format!("--filename={}", text(path));
    let write = [name(&file), "--rw=write".into(), "--size=24m".into(), "--do_verify=0".into()];
    fuse::tool("fio", &with(&pattern, &write));
    let said = mounted.node.verb("put", &[&file], &[]).must_succeed().text();
    let digest = Digest(said.split_whitespace().next().expect("a digest").to_owned());
    for point in mounted.points() {
        let path = point.blob(&digest);
        for (engine, direct) in
            [("psync", "0"), ("psync", "1"), ("io_uring", "0"), ("io_uring", "1"), ("mmap", "0")]
        {
            let read = [
                name(&path),
                "--rw=randread".into(),
                format!("--ioengine={engine}"),
                format!("--direct={direct}"),
                "--readonly".into(),
                "--iodepth=16".into(),
                "--allow_file_create=0".into(),
            ];
            let said = fuse::tool("fio", &with(&pattern, &read));
            assert!(said.contains("err= 0"), "{rung} {engine} direct={direct}: {said}");
        }
    }
    must_have_served(&mounted, rung, 1);
}

fn with<'a>(first: &[&'a str], rest: &'a [String]) -> Vec<&'a str> {
    first.iter().copied().chain(rest.iter().map(String::as_str)).collect()
}

#[test]
fn fio_verifies_what_it_reads_at_random_by_default() {
    must_satisfy_fio("auto");
}

#[test]
fn fio_verifies_what_it_reads_at_random_by_uring() {
    must_satisfy_fio("uring");
}

#[test]
fn fio_verifies_what_it_reads_at_random_by_cloned_descriptors() {
    must_satisfy_fio("clone");
}

#[test]
fn fio_verifies_what_it_reads_at_random_by_a_thread() {
    must_satisfy_fio("thread");
}

#[test]
fn many_readers_at_once_read_right() {
    let Some((mounted, blobs, _)) = with_blobs("auto", &[700, 65_535, 65_536, 1 << 20, 9 << 20]) else {
        return;
    };
    let paths = paths(&mounted, &blobs);
    std::thread::scope(|scope| (0..12).for_each(|_| drop(scope.spawn(|| must_have_right_sums(&paths)))));
}

/// Reads past the kernel's cache, so that each is a request of its own.
const READ_OFTEN: &str = r#"
import mmap, os, sys
path, count = sys.argv[1], int(sys.argv[2])
fd, page = os.open(path, os.O_RDONLY | os.O_DIRECT), mmap.mmap(-1, 4096)
for n in range(count):
    assert os.preadv(fd, [page], n % 16 * 4096) == 4096
"#;

#[test]
fn more_requests_are_answered_than_sixteen_bits_can_count() {
    for rung in ["uring", "clone", "thread"] {
        let Some(mounted) = Mounted::start_as(Setup::new().cpuset(cpuset(1)), rung) else { return };
        let digest = put(&mounted.node, 1, 100_000);
        for point in mounted.points() {
            fuse::must_hold(READ_OFTEN, &[text(&point.blob(&digest)), "70000"]);
        }
    }
}
