//! The tree: names, attributes, extended attributes, statfs, lseek; and that names follow PUT and DELETE.

use std::thread;
use std::time::{Duration, Instant};

use tests::content::{self, Digest};
use tests::fuse::{self, Client, Mounted};

use super::{put, text, with_blobs};

/// A name that was looked up may be remembered as absent for 2 s, as present for 5 s.
const APPEARS_DEADLINE: Duration = Duration::from_secs(3);
const VANISHES_DEADLINE: Duration = Duration::from_secs(6);

fn must_show_all(rung: &str) {
    let Some((mounted, _, manifest)) = with_blobs(rung, &super::SIZES[..11]) else { return };
    for point in mounted.points() {
        fuse::must_hold(include_str!("tree.py"), &[point.text(), text(&manifest)]);
    }
}

#[test]
fn names_and_attributes_are_right_by_default() {
    must_show_all("auto");
}

#[test]
fn names_and_attributes_are_right_by_uring() {
    must_show_all("uring");
}

#[test]
fn names_and_attributes_are_right_by_cloned_descriptors() {
    must_show_all("clone");
}

#[test]
fn names_and_attributes_are_right_by_a_thread() {
    must_show_all("thread");
}

#[test]
fn an_empty_node_shows_empty_directories() {
    let Some(mounted) = Mounted::start("auto") else { return };
    for point in mounted.points() {
        assert_eq!(fuse::tool("ls", &["-A", text(&point.blobs())]), "");
        assert_eq!(fuse::tool("find", &[point.text(), "-type", "f"]), "");
    }
}

#[test]
fn getfattr_and_df_read_what_they_need() {
    let Some((mounted, blobs, _)) = with_blobs("auto", &[5, 100_000]) else { return };
    for (point, digest) in mounted.points().into_iter().flat_map(|p| blobs.keys().map(move |d| (p, d))) {
        let args =
            ["--only-values", "-n", "user.basalt.digest", text(&point.blob(digest))].map(str::to_owned);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        assert_eq!(fuse::tool("getfattr", &args), digest.0);
        let said = fuse::tool("df", &["--output=fstype", point.text()]);
        assert!(said.contains("fuse"), "{said}");
    }
}

/// Polls by `stat` until the name is there, or is not.
fn must_become(mounted: &Mounted, digest: &Digest, is_there: bool, deadline: Duration) {
    let begin = Instant::now();
    for point in mounted.points() {
        let looks = || {
            let path = point.blob(digest);
            let finished = fuse::run(std::process::Command::new("stat").arg(path));
            let is_absent = finished.stderr.contains("No such file");
            assert!(finished.code == 0 || is_absent, "{}", finished.stderr);
            finished.code == 0
        };
        while looks() != is_there {
            assert!(begin.elapsed() < deadline, "{}: there: {is_there}, not in {deadline:?}", point.text());
            thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn names_follow_put_and_delete() {
    let Some(mounted) = Mounted::start("auto") else { return };
    for size in [1000, 300_000] {
        let digest = Digest::of(&content::bytes(9, size));
        must_become(&mounted, &digest, false, Duration::from_secs(1));
        assert_eq!(put(&mounted.node, 9, size), digest);
        must_become(&mounted, &digest, true, APPEARS_DEADLINE);
        assert_eq!(mounted.node.client().delete(&digest), 204);
        must_become(&mounted, &digest, false, VANISHES_DEADLINE);
        assert_eq!(put(&mounted.node, 9, size), digest);
        must_become(&mounted, &digest, true, APPEARS_DEADLINE);
    }
}

/// Longer than any timeout of the kernel's: attributes were asked for again.
const HOLD: &str = r#"
import hashlib, os, sys, time
files = [open(path, "rb", buffering=0) for path in sys.argv[1:]]
before = [os.fstat(file.fileno()) for file in files]
for _ in range(13):
    time.sleep(0.5)
    for path, file, then in zip(sys.argv[1:], files, before):
        for now in (os.fstat(file.fileno()), os.stat(path)):
            assert (now.st_ino, now.st_dev, now.st_size) == (then.st_ino, then.st_dev, then.st_size), path
for path, file in zip(sys.argv[1:], files):
    assert hashlib.sha256(file.read()).hexdigest() == os.path.basename(path), path
"#;

#[test]
fn inode_numbers_stay_while_a_file_is_open() {
    let Some((mounted, blobs, _)) = with_blobs("auto", &[0, 1000, 65_536, 3 << 20]) else { return };
    let paths: Vec<_> = mounted.points().iter().flat_map(|p| blobs.keys().map(|d| p.blob(d))).collect();
    let paths: Vec<&str> = paths.iter().map(|path| text(path)).collect();
    let holder = Client::spawn(&mut fuse::python(HOLD, &paths));
    // Others come and go, and the kernel is told to forget what it can.
    for path in &paths {
        fuse::tool("stat", &[path]);
    }
    let finished = holder.finish(Duration::from_secs(30));
    assert_eq!(finished.code, 0, "{}", finished.stderr);
}
