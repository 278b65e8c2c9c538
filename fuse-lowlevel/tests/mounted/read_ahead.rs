//! How much one cached READ asks for.

use std::sync::atomic::Ordering;

use fuse_lowlevel::mount::mount;

use crate::files::*;
use crate::scene::*;

fn largest_read(read_ahead_kib: Option<u32>) -> usize {
    let scene = Scene::new();
    let (device, mut mounted) = mount(&scene.directory, &options()).unwrap();
    let files = Files::new(0, 0);
    files.serve_init(&device);
    if let Some(kib) = read_ahead_kib {
        mounted.set_read_ahead(kib).unwrap();
    }
    std::thread::scope(|threads| {
        threads.spawn(|| files.serve(&device));
        assert!(scene.read("data") == files.bytes);
        mounted.unmount().unwrap();
    });
    files.read_bytes_max.load(Ordering::Relaxed)
}

#[test]
fn read_ahead_is_what_makes_cached_reads_large() {
    // The kernel's own 128 KiB, now and then two of them in one request.
    assert!(largest_read(None) <= 256 << 10);
    assert_eq!(largest_read(Some(1024)), 1 << 20);
}
