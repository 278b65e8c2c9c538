//! Replies spliced from a file: whole, at any offset, and with nothing left in the pipe after a failure.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};

use fuse_lowlevel::device::{Device, Received, Sent};
use fuse_lowlevel::mount::mount;
use fuse_lowlevel::splice::{SpliceError, SplicePipe};

use crate::files::*;
use crate::scene::*;

const SHORT_BYTES: usize = 7;

/// Serves READs by splice, and by writev what the pipe has no room for.
fn serve_spliced(files: &Files, device: &Device, source: &File, short: &File, spliced: &AtomicUsize) {
    let mut pipe = SplicePipe::new(1 << 20).unwrap();
    let mut buffer = vec![0; WRITE_BYTES_MAX as usize + 4096];
    while let Received::Request(length) = device.receive(&mut buffer).unwrap() {
        let (header, argument) = buffer[..length].split_at(40);
        if u32_at(header, 4) != 15 {
            files.serve_one(device, &buffer[..length]);
            continue;
        }
        let Answer::Data { offset, length } = files.answer(header, argument, &[]) else {
            panic!("a READ has data")
        };
        let head = out_header(length, 0, u64_at(header, 8));
        if length > SHORT_BYTES {
            // A file that turns out shorter than thought: nothing reaches the reader, nothing stays in the pipe.
            let short = pipe.send(device, &head, short.as_fd(), 0, length.min(8192));
            assert!(matches!(short, Err(SpliceError::Short { had_bytes: SHORT_BYTES })), "{short:?}");
        }
        match pipe.send(device, &head, source.as_fd(), offset as u64, length) {
            Ok(Sent::Delivered) => drop(spliced.fetch_add(1, Ordering::Relaxed)),
            Ok(Sent::Unknown) => {}
            Err(SpliceError::TooLong) => {
                device.send(&head, &[&files.bytes[offset..offset + length]]).unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn spliced_reads_are_right(open_flags: u32, client: &[&str]) -> usize {
    let scene = Scene::new();
    let files = Files::new(0, open_flags);
    std::fs::write(scene.beside("source"), &files.bytes).unwrap();
    std::fs::write(scene.beside("short"), vec![0xee; SHORT_BYTES]).unwrap();
    let (source, short) =
        (File::open(scene.beside("source")).unwrap(), File::open(scene.beside("short")).unwrap());
    let spliced = AtomicUsize::new(0);
    let (device, mut mounted) = mount(&scene.directory, &options()).unwrap();
    std::thread::scope(|threads| {
        threads.spawn(|| serve_spliced(&files, &device, &source, &short, &spliced));
        let (from, to) = (scene.file("data"), scene.beside("copy"));
        let (from, to) = (format!("if={}", from.display()), format!("of={}", to.display()));
        let arguments = client.iter().copied().chain([from.as_str(), to.as_str()]);
        assert!(finish(start("dd", arguments.map(str::as_ref))));
        mounted.unmount().unwrap();
    });
    assert!(std::fs::read(scene.beside("copy")).unwrap() == files.bytes);
    spliced.into_inner()
}

#[test]
fn pages_of_a_file_are_read_through_the_page_cache() {
    assert!(spliced_reads_are_right(0, &["bs=1M", "status=none"]) > 10);
}

#[test]
fn odd_offsets_and_lengths_are_read_directly() {
    assert!(spliced_reads_are_right(FOPEN_DIRECT_IO, &["bs=77777", "status=none"]) > 10);
}

#[test]
fn what_the_pipe_has_no_room_for_goes_another_way() {
    let spliced = spliced_reads_are_right(FOPEN_DIRECT_IO, &["bs=1M", "status=none"]);
    assert!((1..=2).contains(&spliced), "only the rest and the end fit: {spliced}");
}
