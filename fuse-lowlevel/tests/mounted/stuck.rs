//! A daemon that does not answer, and readers that do not leave.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fuse_lowlevel::device::Sent;
use fuse_lowlevel::mount::mount;

use crate::files::*;
use crate::scene::*;

#[test]
fn abort_releases_a_stuck_reader() {
    let scene = Scene::new();
    let (device, mut mounted) = mount(&scene.directory, &options()).unwrap();
    let files = Files::new(0, 0);
    std::thread::scope(|threads| {
        threads.spawn(|| files.serve(&device));
        let client = start("cat", [scene.file("stuck").as_os_str()]);
        until("the READ arrives", || !files.held.lock().unwrap().is_empty());
        let begin = Instant::now();
        mounted.abort().unwrap();
        assert!(!finish(client), "its read failed");
        assert!(begin.elapsed() < Duration::from_secs(5));
        let unique = files.held.lock().unwrap()[0];
        assert_eq!(device.send(&out_header(0, 0, unique), &[]).unwrap(), Sent::Unknown);
        mounted.unmount().unwrap();
    });
    assert!(!scene.is_mounted());
}

#[test]
fn unmounting_leaves_a_reader_its_open_file() {
    let scene = Scene::new();
    let (device, mut mounted) = mount(&scene.directory, &options()).unwrap();
    let files = Files::new(0, 0);
    std::thread::scope(|threads| {
        threads.spawn(|| files.serve(&device));
        let script = r#"exec 3<"$1"; echo open; read -r go; cat <&3 >"$2""#;
        let mut client = Command::new("sh")
            .args(["-c", script, "sh"])
            .args([scene.file("data"), scene.beside("copy")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = [0; 5];
        client.stdout.take().unwrap().read_exact(&mut said).unwrap();
        mounted.unmount().unwrap();
        assert!(!scene.is_mounted());
        mounted.unmount().expect("again does nothing");
        // Its input ends here, which sets it going.
        drop(client.stdin.take());
        assert!(finish(client));
    });
    assert!(std::fs::read(scene.beside("copy")).unwrap() == files.bytes);
}

#[test]
fn dropping_what_is_mounted_unmounts() {
    let scene = Scene::new();
    let (device, mounted) = mount(&scene.directory, &options()).unwrap();
    assert!(scene.is_mounted());
    assert_eq!(mounted.directory(), scene.directory);
    drop(mounted);
    assert!(!scene.is_mounted());
    drop(device);
}
