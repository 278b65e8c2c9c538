//! The floor under a durable PUT: receives the bytes, hashes, writes O_DIRECT, syncs, answers 201.
//!
//! `probe_put --listen IP:PORT --file F [--core 0] [--file-bytes N]`. Bodies up to 1 MiB that are
//! whole in one lap form a batch: one write, one fdatasync, all answers. A longer body is written in
//! chunks of 1 MiB, some under way while the next is received, and synced once at its end.
#![allow(unsafe_code)]

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use benches::net::{Moved, Poll, accept, receive};
use benches::{Result, args::Args, check, cpu, mem::Mapping};
use io_uring::{IoUring, opcode, types::Fd};
use sha2::{Digest, Sha256};

const BLOCK: usize = 4096;
const CHUNK: usize = 1 << 20;
/// Chunks of one connection: one is received while the other is written.
const CHUNKS: usize = 2;

/// A connection and its body: the head in the first block of `memory`, then the chunks.
struct Sender {
    stream: TcpStream,
    memory: Mapping,
    head: usize,
    body: usize,
    got: usize,
    hash: Sha256,
}

/// The file, written round and round over blocks that exist already.
struct Log {
    file: File,
    ring: IoUring,
    len: u64,
    at: u64,
    under_way: bool,
}

impl Log {
    fn open(path: &str, len: u64) -> Result<Self> {
        let file = benches::overwritable(path, len)?;
        Ok(Self { file, ring: IoUring::new(4)?, len, at: 0, under_way: false })
    }

    fn place(&mut self, len: usize) -> u64 {
        self.at = if self.at + len as u64 > self.len { 0 } else { self.at } + len as u64;
        self.at - len as u64
    }

    /// Starts the write of a chunk when the one before is on the disk.
    fn start(&mut self, chunk: &[u8]) -> Result<()> {
        self.wait()?;
        let (len, at) = (chunk.len() as u32, self.place(chunk.len()));
        let write = opcode::Write::new(Fd(self.file.as_raw_fd()), chunk.as_ptr(), len).offset(at);
        // SAFETY: the chunk lies in a sender's mapping and is written again only after the next `wait`.
        unsafe { self.ring.submission().push(&write.build().user_data(u64::from(len)))? };
        self.under_way = self.ring.submit()? == 1;
        Ok(())
    }

    fn wait(&mut self) -> Result<()> {
        if std::mem::take(&mut self.under_way) {
            self.ring.submit_and_wait(1)?;
            let done = self.ring.completion().next().ok_or("no completion")?;
            assert_eq!(done.result() as u64, done.user_data(), "write");
        }
        Ok(())
    }

    fn commit(&mut self, batch: &[libc::iovec]) -> Result<()> {
        self.wait()?;
        if !batch.is_empty() {
            let (fd, count) = (self.file.as_raw_fd(), batch.len() as i32);
            let len: usize = batch.iter().map(|part| part.iov_len).sum();
            let at = self.place(len) as i64;
            // SAFETY: every part lies in a mapping of a living sender.
            let written = unsafe { libc::pwritev(fd, batch.as_ptr(), count, at) };
            assert_eq!(check("pwritev", written as i64)?, len as i64, "short write");
        }
        Ok(self.file.sync_data()?)
    }
}

impl Sender {
    /// Reads what is there; true when the body is whole, an error when the client is gone.
    fn read(&mut self, log: &mut Log) -> Result<bool> {
        while self.body == 0 || self.got < self.body {
            let at = BLOCK + self.got % (CHUNK * CHUNKS);
            let room = CHUNK - self.got % CHUNK;
            let to = if self.body == 0 { self.head..BLOCK } else { at..at + room };
            let n = match receive(self.stream.as_raw_fd(), &mut self.memory.bytes_mut()[to])? {
                Moved::Bytes(n) => n,
                Moved::Later => return Ok(false),
                Moved::Closed => return Err("closed".into()),
            };
            self.got += if self.body == 0 { self.parse_head(n)? } else { n };
            if self.got > 0 && (self.got == self.body || self.got.is_multiple_of(CHUNK)) {
                let from = (self.got - 1) / CHUNK * CHUNK;
                let at = BLOCK + from % (CHUNK * CHUNKS);
                let chunk = &self.memory.bytes()[at..at + self.got - from];
                self.hash.update(chunk);
                if self.body > CHUNK {
                    let padded = at + chunk.len().next_multiple_of(BLOCK);
                    log.start(&self.memory.bytes()[at..padded])?;
                }
            }
        }
        Ok(true)
    }

    /// Takes `n` more bytes of head; returns how many of them are body, once the head is whole.
    fn parse_head(&mut self, n: usize) -> Result<usize> {
        self.head += n;
        let bytes = &self.memory.bytes()[..self.head];
        let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else { return Ok(0) };
        let text = String::from_utf8_lossy(&bytes[..end]);
        let length = text.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        self.body = length.ok_or("no Content-Length")?.parse()?;
        self.memory.bytes_mut().copy_within(end + 4..self.head, BLOCK);
        Ok(self.head - end - 4)
    }

    fn answer(&mut self) -> Result<()> {
        let (high, low) = self.hash.finalize_reset().split::<sha2::digest::consts::U16>();
        let [high, low] = [high, low].map(|half| u128::from_be_bytes(half.into()));
        let place = format!("Location: /blobs/sha256:{high:032x}{low:032x}\r\nContent-Length: 0\r\n\r\n");
        let text = format!("HTTP/1.1 201 Created\r\n{place}");
        (self.head, self.body, self.got) = (0, 0, 0);
        Ok(std::io::Write::write_all(&mut self.stream, text.as_bytes())?)
    }
}

fn main() -> Result<()> {
    let mut args = Args::parse(std::env::args().skip(1), &[])?;
    cpu::pin(args.get("core", 0)?)?;
    let mut log = Log::open(&args.must::<String>("file")?, args.get("file-bytes", 4 << 30)?)?;
    // Only now: who can connect must not pay for the file's first blocks.
    let listener = TcpListener::bind(args.must::<String>("listen")?)?;
    let poll = Poll::new()?;
    poll.watch(listener.as_raw_fd(), libc::EPOLLIN, usize::MAX, false)?;
    let mut senders: Vec<Option<Sender>> = Vec::new();
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; 256];
    loop {
        let (mut whole, mut batch) = (Vec::new(), Vec::new());
        for event in poll.wait(&mut events, -1)? {
            let index = event.u64 as usize;
            if index == usize::MAX {
                let stream = accept(&listener)?;
                poll.watch(stream.as_raw_fd(), libc::EPOLLIN, senders.len(), false)?;
                let memory = Mapping::anonymous(BLOCK + CHUNK * CHUNKS, true)?;
                senders.push(Some(Sender { stream, memory, head: 0, body: 0, got: 0, hash: Sha256::new() }));
            } else if let Some(sender) = &mut senders[index] {
                match sender.read(&mut log) {
                    Ok(true) if sender.body <= CHUNK => {
                        let iov_len = sender.body.next_multiple_of(BLOCK);
                        let iov_base = sender.memory.as_ptr().wrapping_add(BLOCK).cast();
                        batch.push(libc::iovec { iov_base, iov_len });
                        whole.push(index);
                    }
                    Ok(true) => whole.push(index),
                    Ok(false) => {}
                    Err(_) => senders[index] = None,
                }
            }
        }
        if !whole.is_empty() {
            log.commit(&batch)?;
        }
        for index in whole {
            if senders[index].as_mut().is_some_and(|sender| sender.answer().is_err()) {
                senders[index] = None;
            }
        }
    }
}
