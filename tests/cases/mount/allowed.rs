//! Who may read: whoever runs the daemon, and others only by `--fuse-allow-other`.

use std::path::Path;
use std::process::Command;

use tests::command::Finished;
use tests::fuse::{self, Mounted, name_of};
use tests::node::Setup;

use super::put;

/// Somebody else, without privileges.
const NOBODY: [&str; 5] = ["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--"];

fn as_nobody(program: &[&str], path: &Path) -> Finished {
    fuse::run(Command::new("setpriv").args(NOBODY).args(program).arg(path))
}

#[test]
fn another_user_is_refused() {
    let Some(mounted) = Mounted::start("auto") else { return };
    let digest = put(&mounted.node, 1, 100_000);
    for point in mounted.points() {
        for (program, path) in [
            (&["cat"][..], point.blob(&digest)),
            (&["ls"], point.blobs()),
            (&["ls"], point.path.clone()),
            (&["stat", "-L"], point.blob(&digest)),
        ] {
            let finished = as_nobody(program, &path);
            assert_ne!(finished.code, 0, "{program:?} {}: {}", path.display(), finished.text());
            assert!(finished.stderr.contains("Permission denied"), "{program:?}: {}", finished.stderr);
        }
        let said = fuse::tool("sha256sum", &[super::text(&point.blob(&digest))]);
        assert!(said.starts_with(name_of(&digest)), "{said}");
    }
}

#[test]
fn another_user_reads_when_that_is_allowed_and_no_more() {
    let Some(mounted) = Mounted::start_as(Setup::new().arg("--fuse-allow-other"), "auto") else { return };
    for size in [500, 100_000] {
        let digest = put(&mounted.node, size as u64, size);
        for point in mounted.points() {
            assert!(point.table()[0].contains("allow_other"), "{:?}", point.table());
            let said = as_nobody(&["sha256sum"], &point.blob(&digest)).must_succeed().text();
            assert!(said.starts_with(name_of(&digest)), "{said}");
            let listed = as_nobody(&["ls"], &point.blobs()).must_succeed().text();
            assert!(listed.contains(name_of(&digest)), "{listed}");
            for program in [&["truncate", "-s0"][..], &["rm", "-f"], &["chmod", "600"], &["touch"]] {
                let finished = as_nobody(program, &point.blob(&digest));
                assert_ne!(finished.code, 0, "{program:?} succeeds");
            }
        }
    }
}
