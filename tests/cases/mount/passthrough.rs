//! Which files the kernel is given: a question of the file system of each data directory.

use std::fs;
use std::path::{Path, PathBuf};

use tests::disk;
use tests::fuse::{self, MountPoint, Mounted, name_of};
use tests::node::Setup;

use super::{metrics, put, text};

const BLOBS: u64 = 24;

/// A directory on a file system in layers, of which the kernel takes no file. Dropping it unmounts.
struct Layered(PathBuf);

impl Layered {
    fn new(setup: &Setup) -> Self {
        let [lower, upper, work, merged] = ["lower", "upper", "work", "merged"].map(|name| {
            let path = setup.path(name);
            fs::create_dir(&path).expect("made");
            path
        });
        let layers = format!("lowerdir={},upperdir={},workdir={}", text(&lower), text(&upper), text(&work));
        fuse::tool("mount", &["-t", "overlay", "overlay", "-o", &layers, text(&merged)]);
        Self(merged)
    }
}

impl Drop for Layered {
    fn drop(&mut self) {
        if let Err(error) = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH) {
            eprintln!("{} stays mounted: {error}", self.0.display());
        }
    }
}

fn objects(dir: &Path) -> usize {
    disk::files(&dir.join("objects")).iter().filter(|path| path.extension().is_none()).count()
}

/// Whether the daemon is asked for the bytes of what is read.
fn must_be_given_what_lies_in(given: &Path, other: &Path, mounted: &Mounted) {
    let digests: Vec<_> = (0..BLOBS).map(|seed| put(&mounted.node, seed, 300_000)).collect();
    let mut served = 0;
    for digest in &digests {
        let before = metrics::requests(&mounted.node, Some("read"));
        let said = fuse::tool("sha256sum", &[text(&mounted.rw.blob(digest))]);
        assert!(said.starts_with(name_of(digest)), "wrong bytes: {said}");
        served += usize::from(metrics::requests(&mounted.node, Some("read")) > before);
    }
    assert_eq!(objects(given) + objects(other), digests.len());
    assert!(objects(given) > 0 && objects(other) > 0, "all lie in one directory: this shows nothing");
    assert_eq!(served, objects(other), "blobs that the daemon was asked for");
    let [.., (_, backing_ids)] = metrics::held(&mounted.node);
    assert_eq!(backing_ids, objects(given) as f64, "files that the kernel was given");
}

#[test]
fn files_are_given_of_those_directories_that_they_can_be_given_of() {
    if !fuse::or_skip() {
        return;
    }
    for is_first in [true, false] {
        let setup = Setup::new();
        let (layered, plain) = (Layered::new(&setup), setup.path("plain"));
        let dirs = [layered.0.clone(), plain.clone()];
        let [first, second] = if is_first {
            dirs
        } else {
            let [a, b] = dirs;
            [b, a]
        };
        let setup = setup.data(first).arg("--data-dir").arg(text(&second));
        let Some(mounted) = Mounted::start_as(setup.clone(), "auto") else { return };
        let log = mounted.node.stderr();
        let said = format!("passthrough of {}: ", layered.0.display());
        let is_said = |line: &&str| line.contains("passthrough=true") && line.contains(&said);
        assert_eq!(log.lines().filter(is_said).count(), 1, "{log}");
        must_be_given_what_lies_in(&plain, &layered.0, &mounted);
        drop(mounted);

        let point = MountPoint::new();
        let setup = setup.arg("--mount").arg(point.text()).arg("--fuse-rung").arg("passthrough");
        let refused = setup.run_refused();
        assert!(refused.code == 1 && refused.stderr.contains(&said), "{}", refused.stderr);
    }
}
