//! A large file, `data`, served by the rung of one's choice, to measure it: `memory DIR RUNG [MIB] [FILE]`.
//!
//! RUNG: `thread`, one blocking thread · `clone`, a cloned non-blocking device per CPU, polled · `uring`, FUSE over io_uring, one
//! thread per CPU · `splice`, one thread that splices FILE · `passthrough`, the kernel reads FILE itself. `direct` after the
//! rung (`thread,direct`) turns the page cache off. Runs until `umount DIR`.

use std::error::Error;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use fuse_lowlevel::device::{Device, Received, Sent};
use fuse_lowlevel::mount::{Options, clean_stale, mount};
use fuse_lowlevel::reply::header;
use fuse_lowlevel::splice::SplicePipe;
use fuse_lowlevel::uring::{Queues, Shape, possible_cpus};
use fuse_lowlevel::wire::ROOT_ID;
use fuse_lowlevel::wire::flags::{init, open};
use fuse_lowlevel::{
    Agreed, Answer, Attributes, Entry, Kind, Opened, Operation, Reply, Request, Wants, negotiate,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::thread::{CpuSet, sched_setaffinity};

const DATA_ID: u64 = 2;
const TIMEOUT: Duration = Duration::from_secs(5);
/// Entries per queue.
const DEPTH: u16 = 16;
/// Of a pipe, as large as one may be without CAP_SYS_RESOURCE: one page of it is the header's.
const PIPE_BYTES: usize = 1 << 20;

type Failed = Box<dyn Error + Send + Sync>;

struct Content {
    bytes: Vec<u8>,
    size_bytes: u64,
    opened: Opened,
}

fn main() -> Result<(), Failed> {
    let usage = "usage: memory DIR thread|clone|uring|splice|passthrough[,direct] [MIB] [FILE]";
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (directory, rung) = (PathBuf::from(arguments.first().ok_or(usage)?), arguments.get(1).ok_or(usage)?);
    let (rung, direct) = rung.strip_suffix(",direct").map_or((rung.as_str(), false), |rung| (rung, true));
    let mib: usize = arguments.get(2).map_or(Ok(1024), |mib| mib.parse())?;
    let file = arguments.get(3).map(File::open).transpose()?;
    if !["thread", "clone", "uring", "splice", "passthrough"].contains(&rung) {
        return Err(usage.into());
    }
    clean_stale(&directory, "memory")?;
    let (source, subtype) = ("memory".to_string(), "memory".to_string());
    let options =
        Options { read_only: false, allow_other: false, default_permissions: true, source, subtype };
    let (device, mounted) = mount(&directory, &options)?;
    let agreed = agree(&device, rung)?;
    mounted.set_read_ahead(agreed.max_request_bytes / 1024)?;
    let content = content(&device, rung, direct, mib << 20, file.as_ref())?;
    match (rung, &file) {
        ("clone", _) => on_every_cpu(|_| serve_polled(&device.clone_queue()?, &content)),
        ("uring", _) => serve_rings(&device, &content, &agreed),
        ("splice", Some(file)) => serve_spliced(&device, &content, file),
        _ => serve(&device, &content),
    }
}

fn agree(device: &Device, rung: &str) -> Result<Agreed, Failed> {
    let mut wants = Wants::default();
    match rung {
        "uring" => wants.flags_required |= init::OVER_IO_URING,
        "passthrough" => wants.flags_required |= init::PASSTHROUGH,
        // A slot of the pipe is the header's, and a reply must fit whole.
        "splice" => wants.max_request_bytes = 1 << 19,
        _ => {}
    }
    let mut buffer = vec![0; 1 << 16];
    let Received::Request(length) = device.receive(&mut buffer)? else {
        return Err("unmounted before INIT".into());
    };
    let request = Request::parse_whole(&buffer[..length])?;
    let Operation::Init(offer) = request.operation else {
        return Err("the first request is not INIT".into());
    };
    let Answer::Agreed(agreed) = negotiate(&offer, &wants)? else {
        return Err("a newer major version".into());
    };
    device.send(Reply::Init(agreed.reply()).encode(request.unique).head(), &[])?;
    Ok(agreed)
}

fn content(
    device: &Device,
    rung: &str,
    direct: bool,
    size: usize,
    file: Option<&File>,
) -> Result<Content, Failed> {
    let flags = if direct { open::DIRECT_IO } else { 0 } | open::NOFLUSH;
    let mut opened = Opened { handle: 0, flags, backing_id: 0 };
    if !["splice", "passthrough"].contains(&rung) {
        let word = |index: usize| (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_ne_bytes();
        return Ok(Content {
            bytes: (0..size / 8).flat_map(word).collect(),
            size_bytes: size as u64,
            opened,
        });
    }
    let file = file.ok_or("this rung needs a FILE")?;
    if rung == "passthrough" {
        opened = Opened { flags: open::PASSTHROUGH | open::NOFLUSH, ..opened };
        opened.backing_id = device.open_backing(file.as_fd())?.get();
    }
    Ok(Content { bytes: Vec::new(), size_bytes: file.metadata()?.len(), opened })
}

impl Content {
    fn answer<'a>(&'a self, request: &Request) -> Reply<'a> {
        match request.operation {
            Operation::Lookup { name: b"data" } => Reply::Entry(Entry {
                node: DATA_ID,
                generation: 0,
                entry_timeout: TIMEOUT,
                attribute_timeout: TIMEOUT,
                attributes: self.attributes(DATA_ID),
            }),
            Operation::Lookup { .. } => Reply::NoEntry(TIMEOUT),
            Operation::GetAttr { .. } => Reply::Attributes(self.attributes(request.node), TIMEOUT),
            Operation::Open { .. } => Reply::Opened(self.opened),
            Operation::Read(read) => {
                let begin = self.bytes.len().min(read.offset as usize);
                Reply::Data(&self.bytes[begin..self.bytes.len().min(begin + read.size_bytes as usize)])
            }
            Operation::Release(_) | Operation::Destroy => Reply::Empty,
            _ => Reply::Error(libc::ENOSYS),
        }
    }

    fn attributes(&self, node: u64) -> Attributes {
        match node {
            ROOT_ID => Attributes::new(node, Kind::Directory, 0o555, 0),
            _ => Attributes::new(node, Kind::File, 0o444, self.size_bytes),
        }
    }

    fn serve_one(&self, device: &Device, bytes: &[u8]) -> Result<(), Failed> {
        let request = Request::parse_whole(bytes)?;
        if request.operation.wants_reply() {
            let encoded = self.answer(&request).encode(request.unique);
            device.send(encoded.head(), &[encoded.body()])?;
        }
        Ok(())
    }
}

fn serve(device: &Device, content: &Content) -> Result<(), Failed> {
    let mut buffer = vec![0; (1 << 20) + 4096];
    while let Received::Request(length) = device.receive(&mut buffer)? {
        content.serve_one(device, &buffer[..length])?;
    }
    Ok(())
}

fn serve_polled(device: &Device, content: &Content) -> Result<(), Failed> {
    device.set_nonblocking()?;
    let mut buffer = vec![0; (1 << 20) + 4096];
    loop {
        match device.receive(&mut buffer)? {
            Received::Request(length) => content.serve_one(device, &buffer[..length])?,
            Received::Nothing => drop(poll(&mut [PollFd::new(device, PollFlags::IN)], None)?),
            Received::Ended => return Ok(()),
        }
    }
}

fn serve_spliced(device: &Device, content: &Content, file: &File) -> Result<(), Failed> {
    let mut pipe = SplicePipe::new(PIPE_BYTES)?;
    let mut buffer = vec![0; (1 << 20) + 4096];
    while let Received::Request(length) = device.receive(&mut buffer)? {
        let request = Request::parse_whole(&buffer[..length])?;
        let Operation::Read(read) = request.operation else {
            content.serve_one(device, &buffer[..length])?;
            continue;
        };
        let size = content.size_bytes.saturating_sub(read.offset).min(u64::from(read.size_bytes)) as usize;
        let sent = pipe.send(device, &header(request.unique, size), file.as_fd(), read.offset, size)?;
        assert!(sent == Sent::Delivered || size == 0);
    }
    Ok(())
}

/// FORGET and INTERRUPT come by the device, which `serve` reads, and end with the mount as the rings do.
fn serve_rings(device: &Device, content: &Content, agreed: &Agreed) -> Result<(), Failed> {
    std::thread::scope(|threads| {
        threads.spawn(|| serve(device, content));
        on_every_cpu(|cpu| {
            let payload_bytes = agreed.max_request_bytes as usize;
            let mut queues = Queues::new(device, &Shape { queues: vec![cpu], depth: DEPTH, payload_bytes })?;
            queues.register()?;
            while !queues.is_over() {
                while let Some(entry) = queues.take() {
                    let arrived = queues.request(entry);
                    let request = Request::parse(arrived.header, arrived.argument, arrived.payload)?;
                    let encoded = content.answer(&request).encode(request.unique);
                    queues.commit(entry, encoded.head(), &[encoded.body()]);
                }
                queues.wait()?;
            }
            Ok(())
        })
    })
}

fn on_every_cpu(serve: impl Fn(u16) -> Result<(), Failed> + Sync) -> Result<(), Failed> {
    std::thread::scope(|threads| {
        let start = |cpu| {
            let serve = &serve;
            threads.spawn(move || {
                let mut cpus = CpuSet::new();
                cpus.set(usize::from(cpu));
                sched_setaffinity(None, &cpus)?;
                serve(cpu)
            })
        };
        let threads: Vec<_> = (0..possible_cpus()?).map(start).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread panicked")?)
    })
}
