//! A git repository whose objects are in the mount.

use tests::fuse::{self, Mounted};

use super::{must_have_served, on_every_rung, text};

const SCRIPT: &str = include_str!("repository.sh");

fn script(args: &[&str]) -> String {
    fuse::tool("bash", &[&["-c", SCRIPT, "repository.sh"], args].concat())
}

#[test]
fn a_repository_whose_objects_are_links_into_the_mount_is_whole() {
    on_every_rung(|rung| {
        let Some(mounted) = Mounted::start(rung) else { return };
        for (at, point) in mounted.points().into_iter().enumerate() {
            let dir = mounted.node.setup.path(&format!("repository{at}"));
            let files = script(&["make", text(&dir)]);
            assert!(files.lines().count() >= 9, "packs, their indexes and loose objects: {files}");
            mounted.node.verb("put", &[&dir.join("bare.git")], &[]).must_succeed();
            script(&["link", text(&dir), text(&point.blobs())]);
            script(&["check", text(&dir)]);
            script(&["check", text(&dir)]);
        }
        // The packs, at least.
        must_have_served(&mounted, rung, 2);
    });
}
