//! The classic rungs and passthrough: what is read through the mount is what the file holds.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fuse_lowlevel::device::{Device, Received, Sent};
use fuse_lowlevel::mount::mount;
use rustix::event::{PollFd, PollFlags, poll};

use crate::files::*;
use crate::scene::*;

#[test]
fn a_plain_thread_serves_a_file() {
    let scene = Scene::new();
    let (device, mut mounted) = mount(&scene.directory, &options()).unwrap();
    let files = Files::new(0, 0);
    std::thread::scope(|threads| {
        threads.spawn(|| files.serve(&device));
        assert!(scene.read("data") == files.bytes);
        mounted.unmount().unwrap();
    });
    assert!(!scene.is_mounted());
    assert!(files.reads.load(Ordering::Relaxed) > 1);
}

/// After INIT only the clone is read, so that every byte is known to come by it.
#[test]
fn a_clone_that_is_polled_serves_a_file() {
    let scene = Scene::new();
    let (device, mut mounted) = mount(&scene.directory, &options()).unwrap();
    let files = Files::new(0, 0);
    files.serve_init(&device);
    let clone = device.clone_queue().unwrap();
    clone.set_nonblocking().unwrap();
    let mut buffer = vec![0; WRITE_BYTES_MAX as usize + 4096];
    assert_eq!(clone.receive(&mut buffer).unwrap(), Received::Nothing);
    std::thread::scope(|threads| {
        threads.spawn(|| serve_polled(&files, &clone));
        assert!(scene.read("data") == files.bytes);
        mounted.unmount().unwrap();
    });
    assert_eq!(device.receive(&mut buffer).unwrap(), Received::Ended, "of the connection, not of one queue");
}

fn serve_polled(files: &Files, device: &Device) {
    let mut buffer = vec![0; WRITE_BYTES_MAX as usize + 4096];
    loop {
        poll(&mut [PollFd::new(device, PollFlags::IN)], None).unwrap();
        match device.receive(&mut buffer).unwrap() {
            Received::Request(length) => drop(files.serve_one(device, &buffer[..length])),
            Received::Nothing => {}
            Received::Ended => return,
        }
    }
}

#[test]
fn passthrough_gives_the_bytes_of_the_backing_file() {
    let scene = Scene::new();
    let other: Vec<u8> = pattern().iter().map(|byte| !byte).collect();
    std::fs::write(scene.beside("backing"), &other).unwrap();
    let (device, mut mounted) = mount(&scene.directory, &options()).unwrap();
    let mut files = Files::new(PASSTHROUGH, FOPEN_PASSTHROUGH);
    files.serve_init(&device);
    let backing = std::fs::File::open(scene.beside("backing")).unwrap();
    let id = device.open_backing(backing.as_fd()).unwrap();
    drop(backing);
    files.backing = Some(id);
    std::thread::scope(|threads| {
        threads.spawn(|| files.serve(&device));
        assert!(scene.read("data") == other, "not the bytes the daemon would have given");
        assert_eq!(files.reads.load(Ordering::Relaxed), 0);
        device.close_backing(id).unwrap();
        assert_eq!(device.close_backing(id).unwrap_err().raw_os_error(), Some(libc::ENOENT));
        mounted.unmount().unwrap();
    });
}

#[test]
fn a_file_on_a_stacked_or_foreign_thing_is_no_backing() {
    let scene = Scene::new();
    let (device, mut mounted) = mount(&scene.directory, &options()).unwrap();
    let files = Files::new(PASSTHROUGH, FOPEN_PASSTHROUGH);
    files.serve_init(&device);
    let (pipe, _write) = rustix::pipe::pipe().unwrap();
    assert!(device.open_backing(pipe.as_fd()).is_err());
    mounted.unmount().unwrap();
}

#[test]
fn a_reply_nobody_asked_for_is_told_apart() {
    let scene = Scene::new();
    let (device, mut mounted) = mount(&scene.directory, &options()).unwrap();
    let files = Files::new(0, 0);
    files.serve_init(&device);
    assert_eq!(device.send(&out_header(0, 0, 0x1234_5678), &[]).unwrap(), Sent::Unknown);
    let wrong_length = out_header(83, 0, 2);
    assert_eq!(device.send(&wrong_length, &[]).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    mounted.unmount().unwrap();
    assert_eq!(device.send(&out_header(0, 0, 2), &[]).unwrap(), Sent::Unknown);
}

#[test]
#[should_panic(expected = "is refused by the kernel")]
fn a_buffer_the_kernel_would_refuse_is_a_mistake() {
    let _ = Device::open().unwrap().receive(&mut [0; 4096]);
}

#[test]
fn a_read_only_mount_refuses_writers_by_itself() {
    let scene = Scene::new();
    let options = fuse_lowlevel::mount::Options { read_only: true, ..options() };
    let (device, mut mounted) = mount(&scene.directory, &options).unwrap();
    let files = Files::new(0, 0);
    std::thread::scope(|threads| {
        threads.spawn(|| files.serve(&device));
        let client = start("touch", [scene.file("data").as_os_str()]);
        assert!(!finish(client));
        std::thread::sleep(Duration::from_millis(1));
        assert!(scene.read("data") == files.bytes);
        mounted.unmount().unwrap();
    });
}
