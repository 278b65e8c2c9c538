//! Mounting as a user who is not root, by `fusermount3`.

use std::path::Path;
use std::process::{Command, Stdio};

use fuse_lowlevel::mount::{mount, table};

use crate::files::*;
use crate::scene::*;

const DIRECTORY: &str = "FUSE_LOWLEVEL_TEST_USER_DIRECTORY";
const NOBODY: u32 = 65534;

/// In a name space of mounts of its own, where `/dev/fuse` is open to users, as it is on most machines.
const AS_NOBODY: &str = r#"mknod -m 666 "$1" c 10 229; mount --bind "$1" /dev/fuse
exec setpriv --reuid 65534 --regid 65534 --clear-groups "$2" --exact helper::mount_as_a_user --ignored"#;

/// Not a test of its own: mounts, reads, unmounts, as nobody.
#[test]
#[ignore = "run by the other test as a process of its own, under another user"]
fn mount_as_a_user() {
    let directory = std::env::var_os(DIRECTORY).expect("set by the test that starts us");
    let directory = Path::new(&directory);
    let (device, mut mounted) = mount(directory, &options()).unwrap();
    let files = Files::new(0, 0);
    let same = std::thread::scope(|threads| {
        threads.spawn(|| files.serve(&device));
        let client = Command::new("cat").arg(directory.join("data")).output().unwrap();
        mounted.unmount().unwrap();
        client.stdout == files.bytes
    });
    assert!(same);
    assert!(table::on(directory).unwrap().is_empty(), "unmounted");
}

#[test]
fn a_user_mounts_with_the_help_of_fusermount3() {
    if std::env::var("BASALT_SKIP").is_ok_and(|names| names.split(',').any(|name| name == "fusermount3")) {
        return;
    }
    let version = Command::new("fusermount3").arg("-V").stdout(Stdio::null()).status();
    version.expect("fusermount3 (package fuse3) is installed, or BASALT_SKIP names it");
    let scene = Scene::new();
    for path in [scene.directory.as_path(), scene.directory.parent().unwrap()] {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let client = Command::new("unshare")
        .args(["--mount", "sh", "-ec", AS_NOBODY, "sh"])
        .arg(scene.beside("device"))
        .arg(std::env::current_exe().unwrap())
        .env(DIRECTORY, &scene.directory)
        .spawn()
        .unwrap();
    assert!(finish(client));
    assert!(!scene.is_mounted());
}
