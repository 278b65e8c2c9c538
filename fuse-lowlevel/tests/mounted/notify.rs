//! Notifications: pages pushed into the cache, and what is dropped from it.

use std::sync::atomic::Ordering;

use fuse_lowlevel::device::Sent;
use fuse_lowlevel::mount::mount;
use fuse_lowlevel::notify;

use crate::files::*;
use crate::scene::*;

#[test]
fn pruned_nodes_are_looked_up_again_and_those_in_use_stay() {
    let scene = Scene::new();
    let (device, mut mounted) = mount(&scene.directory, &options()).unwrap();
    let files = Files::new(0, 0);
    std::thread::scope(|threads| {
        threads.spawn(|| files.serve(&device));
        assert!(scene.read("data") == files.bytes);
        let lookups = files.lookups.load(Ordering::Relaxed);
        assert!(scene.read("data") == files.bytes);
        assert_eq!(files.lookups.load(Ordering::Relaxed), lookups, "the name is believed");
        match device.send(&notify::prune(&[DATA, 987_654]), &[]) {
            // Before 7.45.
            Err(error) if error.raw_os_error() == Some(22) => {}
            sent => {
                assert_eq!(sent.unwrap(), Sent::Delivered);
                assert!(scene.read("data") == files.bytes);
                assert_eq!(files.lookups.load(Ordering::Relaxed), lookups + 1);
            }
        }
        mounted.unmount().unwrap();
    });
}

#[test]
fn pushed_pages_are_read_without_a_request_until_dropped() {
    let scene = Scene::new();
    let (device, mut mounted) = mount(&scene.directory, &options()).unwrap();
    let mut files = Files::new(0, FOPEN_KEEP_CACHE);
    files.bytes.truncate(4096);
    let pushed = vec![0xab; 4096];
    std::thread::scope(|threads| {
        threads.spawn(|| files.serve(&device));
        assert_eq!(
            device.send(&notify::inval_inode(DATA, 0, 0), &[]).unwrap(),
            Sent::Unknown,
            "not looked up yet"
        );
        assert!(scene.read("data") == files.bytes);
        let reads = files.reads.load(Ordering::Relaxed);
        assert_eq!(device.send(&notify::store(DATA, 0, 4096), &[&pushed]).unwrap(), Sent::Delivered);
        assert!(scene.read("data") == pushed);
        assert_eq!(files.reads.load(Ordering::Relaxed), reads, "no READ");
        assert_eq!(device.send(&notify::inval_inode(DATA, 0, 0), &[]).unwrap(), Sent::Delivered);
        assert!(scene.read("data") == files.bytes);
        assert!(files.reads.load(Ordering::Relaxed) > reads);
        let lookups = files.lookups.load(Ordering::Relaxed);
        assert_eq!(device.send(&notify::inval_entry(1, b"data"), &[]).unwrap(), Sent::Delivered);
        assert!(scene.read("data") == files.bytes);
        assert_eq!(files.lookups.load(Ordering::Relaxed), lookups + 1);
        mounted.unmount().unwrap();
    });
}
