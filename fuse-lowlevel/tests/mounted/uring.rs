//! FUSE over io_uring. The module parameter is turned on for the test and put back.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicUsize, Ordering};

use fuse_lowlevel::device::Device;
use fuse_lowlevel::mount::mount;
use fuse_lowlevel::uring::{EntryId, Queues, Shape, decline, enabled, possible_cpus};
use io_uring::{IoUring, opcode, types};
use rustix::fs::{FlockOperation, flock};

use crate::files::*;
use crate::scene::*;

const PARAMETER: &str = "/sys/module/fuse/parameters/enable_uring";

/// The parameter as the test wants it; one test at a time, of all processes that lock it.
struct Parameter {
    before: String,
    _lock: File,
}

impl Parameter {
    fn set(value: &str) -> Parameter {
        let lock = File::open(PARAMETER).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        let before = std::fs::read_to_string(PARAMETER).unwrap();
        std::fs::write(PARAMETER, value).unwrap();
        assert_eq!(enabled(), value == "Y");
        Parameter { before, _lock: lock }
    }
}

impl Drop for Parameter {
    fn drop(&mut self) {
        std::fs::write(PARAMETER, &self.before).expect("it could be written before");
    }
}

fn shape() -> Shape {
    let queues = (0..possible_cpus().unwrap()).collect();
    Shape { queues, depth: 4, payload_bytes: WRITE_BYTES_MAX as usize }
}

fn answer(files: &Files, queues: &mut Queues, entry: EntryId) {
    let request = queues.request(entry);
    let unique = u64_at(request.header, 8);
    match files.answer(request.header, request.argument, request.payload) {
        // A held READ: answered so that the entry comes back.
        Answer::None => queues.commit(entry, &out_header(0, -libc::EIO, unique), &[]),
        Answer::Errno(errno) => queues.commit(entry, &out_header(0, -errno, unique), &[]),
        Answer::Bytes(bytes) => {
            // Half of the fixed part in the head, as an encoder would have it.
            let (fixed, body) = bytes.split_at(bytes.len() / 2);
            let head = [&out_header(bytes.len(), 0, unique)[..], fixed].concat();
            queues.commit(entry, &head, &[body]);
        }
        Answer::Data { offset, length } => {
            queues.payload_mut(entry)[..length].copy_from_slice(&files.bytes[offset..offset + length]);
            queues.commit_in_place(entry, &out_header(length, 0, unique), length);
        }
    }
}

/// As a column does: sleeps in a ring of its own, which polls the other.
fn serve_nested(files: &Files, device: &Device, served: &AtomicUsize) {
    let mut queues = Queues::new(device, &shape()).unwrap();
    queues.register().unwrap();
    let mut outer = IoUring::new(8).unwrap();
    while !queues.is_over() {
        while let Some(entry) = queues.take() {
            served.fetch_add(1, Ordering::Relaxed);
            answer(files, &mut queues, entry);
        }
        queues.submit().unwrap();
        if !queues.has_completions().unwrap() && !queues.is_over() {
            let poll =
                opcode::PollAdd::new(types::Fd(queues.as_fd().as_raw_fd()), libc::POLLIN as u32).build();
            // SAFETY: a poll points to no memory.
            unsafe { outer.submission().push(&poll) }.unwrap();
            outer.submit_and_wait(1).unwrap();
            outer.completion().for_each(drop);
        }
    }
    assert_eq!(queues.fault(), None);
}

/// As a thread does that has nothing else.
fn serve_waiting(files: &Files, device: &Device, served: &AtomicUsize) {
    let mut queues = Queues::new(device, &shape()).unwrap();
    queues.register().unwrap();
    while !queues.is_over() {
        let mut arrived = Vec::new();
        served.fetch_add(queues.reap(|entry, _| arrived.push(entry)), Ordering::Relaxed);
        arrived.into_iter().for_each(|entry| answer(files, &mut queues, entry));
        queues.wait().unwrap();
        while let Some(entry) = queues.take() {
            served.fetch_add(1, Ordering::Relaxed);
            answer(files, &mut queues, entry);
        }
        queues.submit().unwrap();
    }
    assert_eq!(queues.fault(), None);
}

fn serves(loop_of: fn(&Files, &Device, &AtomicUsize)) {
    let _parameter = Parameter::set("Y");
    let scene = Scene::new();
    let (device, mut mounted) = mount(&scene.directory, &options()).unwrap();
    let files = Files::new(OVER_IO_URING, 0);
    files.serve_init(&device);
    mounted.set_read_ahead(1024).unwrap();
    let served = AtomicUsize::new(0);
    std::thread::scope(|threads| {
        // FORGET and INTERRUPT come by the device.
        threads.spawn(|| files.serve(&device));
        threads.spawn(|| loop_of(&files, &device, &served));
        assert!(scene.read("data") == files.bytes);
        assert!(!finish(start("cat", [scene.file("stuck").as_os_str()])));
        assert!(!finish(start("cat", [scene.file("absent").as_os_str()])));
        mounted.unmount().unwrap();
    });
    assert!(served.load(Ordering::Relaxed) >= files.reads.load(Ordering::Relaxed) + 2, "by the rings");
    assert_eq!(files.read_bytes_max.load(Ordering::Relaxed), 1 << 20);
}

#[test]
fn a_ring_polled_by_another_ring_serves_a_file() {
    serves(serve_nested);
}

#[test]
fn a_ring_waited_for_serves_a_file() {
    serves(serve_waiting);
}

#[test]
fn without_the_parameter_registering_is_refused_and_the_device_serves() {
    let _parameter = Parameter::set("N");
    let scene = Scene::new();
    let (device, mut mounted) = mount(&scene.directory, &options()).unwrap();
    let files = Files::new(0, 0);
    files.serve_init(&device);
    assert_eq!(files.offered_flags2.load(Ordering::Relaxed) & 1 << 9, 0, "not offered");
    std::thread::scope(|threads| {
        threads.spawn(|| files.serve(&device));
        let mut queues = Queues::new(&device, &shape()).unwrap();
        assert_eq!(queues.register().unwrap_err().raw_os_error(), Some(libc::EOPNOTSUPP));
        assert!(queues.is_over(), "nothing stays with the kernel");
        assert!(scene.read("data") == files.bytes);
        mounted.unmount().unwrap();
    });
}

#[test]
fn dropping_queues_under_a_reader_ends_its_requests() {
    let _parameter = Parameter::set("Y");
    let scene = Scene::new();
    let (device, mut mounted) = mount(&scene.directory, &options()).unwrap();
    let files = Files::new(OVER_IO_URING, 0);
    files.serve_init(&device);
    let mut queues = Queues::new(&device, &shape()).unwrap();
    queues.register().unwrap();
    let client = start("cat", [scene.file("data").as_os_str()]);
    until("its first request arrives", || queues.has_completions().unwrap());
    drop(queues);
    mounted.abort().unwrap();
    assert!(!finish(client));
    mounted.unmount().unwrap();
}

/// The kernel takes the queue of one CPU and none of the others: whoever came in meanwhile is served by the device.
#[test]
fn a_connection_whose_rings_are_declined_is_served_by_the_device() {
    let _parameter = Parameter::set("Y");
    let scene = Scene::new();
    let (device, mut mounted) = mount(&scene.directory, &options()).unwrap();
    let files = Files::new(OVER_IO_URING, 0);
    files.serve_init(&device);
    let Shape { queues, .. } = shape();
    let (first, others) = queues.split_first().expect("a CPU");
    if others.is_empty() {
        return eprintln!("one CPU only: with its queue the connection has all");
    }
    let client = start("cat", [scene.file("data").as_os_str()]);
    let mut registered = Queues::new(&device, &Shape { queues: vec![*first], ..shape() }).unwrap();
    registered.register().unwrap();
    // Less than INIT agreed on.
    let small = Shape { queues: others.to_vec(), depth: 4, payload_bytes: 64 << 10 };
    let mut refused = Queues::new(&device, &small).unwrap();
    assert_eq!(refused.register().unwrap_err().raw_os_error(), Some(libc::EINVAL));
    assert!(refused.is_over(), "nothing stays with the kernel");
    decline(&device).unwrap();
    drop(registered);
    std::thread::scope(|threads| {
        threads.spawn(|| files.serve(&device));
        assert!(finish(client));
        assert!(scene.read("data") == files.bytes);
        mounted.unmount().unwrap();
    });
}

/// Nobody registers anything: who came in waits until the kernel is told that there are no rings.
#[test]
fn who_waits_for_rings_is_let_go_when_they_are_declined() {
    let _parameter = Parameter::set("Y");
    let scene = Scene::new();
    let (device, mut mounted) = mount(&scene.directory, &options()).unwrap();
    let files = Files::new(OVER_IO_URING, 0);
    files.serve_init(&device);
    let mut client = start("cat", [scene.file("data").as_os_str()]);
    std::thread::scope(|threads| {
        threads.spawn(|| files.serve(&device));
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert!(client.try_wait().unwrap().is_none(), "it does not wait for the rings");
        decline(&device).unwrap();
        assert!(finish(client));
        mounted.unmount().unwrap();
    });
}
