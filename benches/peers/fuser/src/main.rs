//! A peer of `benches/run mount`: the files of one directory, held in memory, shown by `fuser`.
//!
//! `fuser-peer MOUNT DIR default|tuned`. `default` is what the crate does by itself; `tuned` what a fair user would add: pages
//! kept over opens, requests of up to 1 MiB, two threads with a device each. Prints `ready` once it is mounted; then each line
//! on its standard input is answered by a line with the requests since it was mounted, FORGETs apart, and the end of its input unmounts.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, Request,
};

/// As ours.
const TTL: Duration = Duration::from_secs(5);
const REQUEST_BYTES: u32 = 1 << 20;
const THREADS: usize = 2;
const MAX_BACKGROUND: u16 = 512;
const BLOCK_BYTES: u32 = 4096;
/// Node of the first file; that of the root is 1.
const FILE_FIRST: u64 = 2;

struct Memory {
    is_tuned: bool,
    since: SystemTime,
    nodes: HashMap<OsString, u64>,
    files: Vec<Vec<u8>>,
    requests: Arc<AtomicU64>,
}

impl Memory {
    fn load(directory: &str, is_tuned: bool, requests: Arc<AtomicU64>) -> std::io::Result<Memory> {
        let (mut nodes, mut files) = (HashMap::new(), Vec::new());
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            nodes.insert(entry.file_name(), FILE_FIRST + files.len() as u64);
            files.push(std::fs::read(entry.path())?);
        }
        Ok(Memory { is_tuned, since: SystemTime::now(), nodes, files, requests })
    }

    fn count(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    fn file(&self, node: INodeNo) -> Option<&[u8]> {
        let index = u64::from(node).checked_sub(FILE_FIRST)?;
        self.files.get(index as usize).map(Vec::as_slice)
    }

    fn attributes(&self, node: INodeNo) -> Option<FileAttr> {
        let is_root = node == INodeNo::ROOT;
        let size = if is_root { 0 } else { self.file(node)?.len() as u64 };
        let (kind, perm) =
            if is_root { (FileType::Directory, 0o555) } else { (FileType::RegularFile, 0o444) };
        let time = self.since;
        Some(FileAttr {
            ino: node,
            size,
            blocks: size.div_ceil(512),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: BLOCK_BYTES,
            flags: 0,
        })
    }
}

impl Filesystem for Memory {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        if self.is_tuned {
            // A value that is refused comes with the nearest that is not.
            let _ = config.set_max_write(REQUEST_BYTES).or_else(|nearest| config.set_max_write(nearest));
            let _ =
                config.set_max_readahead(REQUEST_BYTES).or_else(|nearest| config.set_max_readahead(nearest));
            let _ = config.set_max_background(MAX_BACKGROUND);
            let _ = config.add_capabilities(InitFlags::FUSE_PARALLEL_DIROPS);
        }
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.count();
        let node = (parent == INodeNo::ROOT).then(|| self.nodes.get(name)).flatten();
        match node.and_then(|node| self.attributes(INodeNo(*node))) {
            Some(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, node: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.count();
        match self.attributes(node) {
            Some(attributes) => reply.attr(&TTL, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.count();
        let kept = if self.is_tuned { FopenFlags::FOPEN_KEEP_CACHE } else { FopenFlags::empty() };
        reply.opened(FileHandle(0), kept);
    }

    fn read(
        &self,
        _: &Request,
        node: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.count();
        let Some(bytes) = self.file(node) else { return reply.error(Errno::ENOENT) };
        let from = bytes.len().min(offset as usize);
        let to = bytes.len().min(from + size as usize);
        reply.data(&bytes[from..to]);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        self.count();
        // What the crate answers by itself; the kernel asks once.
        reply.error(Errno::ENOSYS);
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.count();
        reply.ok();
    }

    fn readdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: u64, reply: ReplyDirectory) {
        self.count();
        // Nobody who measures lists.
        reply.ok();
    }
}

fn main() -> std::io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [mount, directory, how @ ("default" | "tuned")] =
        args.iter().map(String::as_str).collect::<Vec<_>>()[..]
    else {
        eprintln!("usage: fuser-peer MOUNT DIR default|tuned");
        std::process::exit(2);
    };
    let is_tuned = how == "tuned";
    let requests = Arc::new(AtomicU64::new(0));
    let memory = Memory::load(directory, is_tuned, requests.clone())?;
    let mut config = Config::default();
    config.mount_options =
        vec![MountOption::FSName("fuser-peer".to_owned()), MountOption::DefaultPermissions];
    if is_tuned {
        (config.n_threads, config.clone_fd) = (Some(THREADS), true);
    }
    let session = fuser::spawn_mount(memory, mount, &config)?;
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        line?;
        println!("{}", requests.load(Ordering::Relaxed));
        std::io::stdout().flush()?;
    }
    session.umount_and_join()
}
