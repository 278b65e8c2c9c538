//! A process killed while it serves: what it leaves is recognised and cleaned, what lives is left alone.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use fuse_lowlevel::mount::{Stale, StaleError, clean_stale, mount, table, unmount_after};

use crate::files::*;
use crate::scene::*;

const DIRECTORY: &str = "FUSE_LOWLEVEL_TEST_DIRECTORY";

/// Not a test of its own: the process that the others kill.
#[test]
#[ignore = "run by the other tests as a process of its own"]
fn serve_until_killed() {
    let directory = std::env::var_os(DIRECTORY).expect("set by the test that starts us");
    let (device, _mounted) = mount(Path::new(&directory), &options()).unwrap();
    println!("\nmounted");
    Files::new(0, 0).serve(&device);
}

fn start_server(scene: &Scene) -> Child {
    start_server_with_lifeline(scene).0
}

/// Its output ends when it does.
fn start_server_with_lifeline(scene: &Scene) -> (Child, BufReader<ChildStdout>) {
    let mut server = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::serve_until_killed", "--ignored", "--nocapture"])
        .env(DIRECTORY, &scene.directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(server.stdout.take().unwrap());
    let up = output.by_ref().lines().map_while(Result::ok).any(|line| line == "mounted");
    assert!(up, "the server did not come up");
    (server, output)
}

#[test]
fn a_keeper_unmounts_after_a_kill() {
    let scene = Scene::new();
    let (mut server, lifeline) = start_server_with_lifeline(&scene);
    let number = table::on(&scene.directory).unwrap().pop().expect("mounted").device;
    let mounts = [(number, scene.directory.clone())];
    std::thread::scope(|threads| {
        let keeper = threads.spawn(|| unmount_after(lifeline, &mounts));
        assert!(scene.read("data") == pattern());
        assert!(scene.is_mounted() && !keeper.is_finished());
        server.kill().unwrap();
        assert_eq!(keeper.join().unwrap().unwrap(), 1);
        server.wait().unwrap();
    });
    assert!(!scene.is_mounted());
    assert_eq!(unmount_after(&b""[..], &mounts).unwrap(), 0, "nothing is left");
}

#[test]
fn a_killed_server_leaves_a_mount_that_is_cleaned() {
    let scene = Scene::new();
    let subtype = options().subtype;
    assert_eq!(clean_stale(&scene.directory, &subtype).unwrap(), Stale { removed: 0 });
    let mut server = start_server(&scene);
    assert!(scene.read("data") == pattern());
    assert!(matches!(clean_stale(&scene.directory, &subtype), Err(StaleError::Live(_))));
    let stuck = start("cat", [scene.file("stuck").as_os_str()]);
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(!finish(stuck), "its reader is released");
    assert!(scene.is_mounted(), "a kill leaves the mount");
    assert_eq!(clean_stale(&scene.directory, "another").unwrap(), Stale { removed: 0 });
    assert!(scene.is_mounted(), "not ours by its type");
    assert_eq!(clean_stale(&scene.directory, &subtype).unwrap(), Stale { removed: 1 });
    assert!(!scene.is_mounted());
    let (_device, _mounted) = mount(&scene.directory, &options()).unwrap();
}

#[test]
fn dead_mounts_on_each_other_are_all_cleaned() {
    let scene = Scene::new();
    let (first, outer) = mount(&scene.directory, &options()).unwrap();
    let (second, inner) = mount(&scene.directory, &options()).unwrap();
    assert_ne!(outer.device_number(), inner.device_number());
    drop((first, second));
    let removed = clean_stale(&scene.directory, &options().subtype).unwrap().removed;
    assert_eq!(removed, 2);
    assert!(!scene.is_mounted());
    drop((outer, inner));
}

#[test]
fn a_silent_server_is_not_waited_for_and_not_cleaned() {
    let scene = Scene::new();
    // INIT is never answered.
    let (_device, mut mounted) = mount(&scene.directory, &options()).unwrap();
    assert!(matches!(clean_stale(&scene.directory, &options().subtype), Err(StaleError::Silent(_))));
    assert!(scene.is_mounted());
    mounted.abort().unwrap();
    mounted.unmount().unwrap();
}
