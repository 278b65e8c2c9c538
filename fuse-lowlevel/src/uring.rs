//! FUSE over io_uring: requests arrive in memory shared with the kernel and are answered there.
//!
//! `Queues` is one io_uring with 128-byte SQEs, registered, used and dropped by one thread; it serves some of the connection's
//! queues (one per possible CPU), each with `depth` entries. The kernel hands a request to the queue of the CPU its caller
//! runs on and never steals: until *every* possible CPU has an entry the whole mount waits, and a thread that stalls stalls
//! its CPUs. FORGET and INTERRUPT still come by the device. The ring's descriptor may be polled by another ring: that is why
//! DEFER_TASKRUN is not set (its completions appear only when its owner enters, so a poll of it never wakes).
//!
//! An entry is *idle* until registered, then *with the kernel* until a request arrives in it, then *ours* until the commit,
//! and *over* when the connection ended. Its memory is touched only while it is ours. As an entry has at most one command
//! under way, neither ring ever overflows. Lengths in bytes.

mod command;
mod memory;
mod support;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use io_uring::{IoUring, cqueue, squeue};

use command::Iovecs;
use memory::Memory;
pub use support::{enabled, possible_cpus};

use crate::device::Device;
use crate::reply::HEADER_BYTES;
use crate::wire::READ_BUFFER_BYTES_MIN;

/// Entries of one `Queues`: more could not be told apart from a mistake in the depth.
pub const ENTRIES_MAX: usize = 4096;

const IORING_ENTER_GETEVENTS: u32 = 1;

/// What one thread serves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Queue ids, one per possible CPU; each id belongs to exactly one `Queues` of the connection.
    pub queues: Vec<u16>,
    /// Entries per queue: requests of a CPU that can be under way at once.
    pub depth: u16,
    /// Room for the data of one request or reply: at least `max_write` and `max_pages` pages as agreed in INIT.
    pub payload_bytes: usize,
}

/// One entry of one queue.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct EntryId(u32);

/// A request, still where the kernel put it.
#[derive(Clone, Copy, Debug)]
pub struct Arrived<'q> {
    /// `fuse_in_header`.
    pub header: &'q [u8],
    /// The operation's fixed part, zero-padded to 128 bytes; all zeros for an operation that has none.
    pub argument: &'q [u8],
    /// What follows it: names, data.
    pub payload: &'q [u8],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Idle,
    Kernel,
    Ours,
    Over,
}

/// One thread's ring. It may be made by another thread, until it is registered.
#[derive(Debug)]
pub struct Queues {
    ring: Ring,
    device: OwnedFd,
    memory: Memory,
    iovecs: Iovecs,
    states: Box<[State]>,
    queues: Box<[u16]>,
    depth: u16,
    /// Arrived, and not yet asked for by `take`.
    arrived: VecDeque<EntryId>,
    /// The first error of a command that is not the connection's end.
    fault: Option<i32>,
}

// SAFETY: its pointers lead into its own mapping and its own boxes, which move with it, and only its owner follows them. The
// kernel ties a command to the thread that submits it, so nothing is tied to any before `register`; who moves it after that
// gets no requests any more, and its memory stays mapped.
unsafe impl Send for Queues {}

struct Ring(IoUring<squeue::Entry128, cqueue::Entry>);

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ring({})", self.0.as_raw_fd())
    }
}

impl Queues {
    /// Makes the ring and its memory (`queues × depth × payload_bytes`, touched as it is used). Nothing is registered yet.
    pub fn new(device: &Device, shape: &Shape) -> io::Result<Queues> {
        let entries = shape.queues.len() * usize::from(shape.depth);
        assert!(entries > 0 && entries <= ENTRIES_MAX, "{entries} entries");
        assert!(shape.payload_bytes >= READ_BUFFER_BYTES_MIN, "the kernel refuses smaller payloads");
        let memory = Memory::new(entries, shape.payload_bytes)?;
        let size = u32::try_from(entries).expect("at most ENTRIES_MAX").next_power_of_two();
        let ring = IoUring::builder().setup_coop_taskrun().setup_taskrun_flag().build(size)?;
        Ok(Queues {
            ring: Ring(ring),
            device: device.as_fd().try_clone_to_owned()?,
            iovecs: Iovecs::new(&memory),
            memory,
            states: vec![State::Idle; entries].into_boxed_slice(),
            queues: shape.queues.clone().into_boxed_slice(),
            depth: shape.depth,
            arrived: VecDeque::with_capacity(entries),
            fault: None,
        })
    }

    /// Gives every entry to the kernel. Only after the reply to INIT, which must have agreed to OVER_IO_URING. On `Err` the
    /// connection can be served by the device if [`Queues::is_over`], so that no queue of these will ever be served by a ring:
    /// [`decline`], and drop all `Queues` of the connection. Otherwise it must be aborted.
    pub fn register(&mut self) -> io::Result<()> {
        for index in 0..self.states.len() {
            assert!(self.states[index] == State::Idle, "registered once");
            let sqe =
                command::register(self.device_number(), index, self.queue_of(index), self.iovecs.of(index));
            self.push(&sqe);
            self.states[index] = State::Kernel;
        }
        if let Err(error) = self.submit() {
            // What the kernel has not read stays ours.
            let unread = self.ring.0.submission().len();
            let first = self.states.len() - unread;
            self.states[first..].fill(State::Over);
            return Err(error);
        }
        let mut refused = None;
        while let Some((entry, result)) = self.complete() {
            match result {
                0 => self.arrived.push_back(entry),
                errno => refused = Some(errno),
            }
        }
        match refused {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => Ok(()),
        }
    }

    /// The next request that arrived, now ours until committed. Enters the kernel never: `submit` or `wait` does.
    pub fn take(&mut self) -> Option<EntryId> {
        if let Some(entry) = self.arrived.pop_front() {
            return Some(entry);
        }
        while let Some((entry, result)) = self.complete() {
            if result == 0 {
                return Some(entry);
            }
            if result != libc::ENOTCONN {
                self.fault.get_or_insert(result);
            }
        }
        None
    }

    /// Calls `each` with every request that arrived; how many there were.
    pub fn reap(&mut self, mut each: impl FnMut(EntryId, Arrived<'_>)) -> usize {
        let mut count = 0;
        while let Some(entry) = self.take() {
            each(entry, self.request(entry));
            count += 1;
        }
        count
    }

    /// How many queues it serves.
    pub fn count(&self) -> usize {
        self.queues.len()
    }

    /// The place in `Shape::queues` of an entry's queue.
    pub fn queue(&self, entry: EntryId) -> usize {
        entry.0 as usize / usize::from(self.depth)
    }

    /// The request in an entry that is ours.
    pub fn request(&self, entry: EntryId) -> Arrived<'_> {
        let index = self.ours(entry);
        let header = self.memory.header(index);
        let payload_bytes = command::payload_length(header).min(self.memory.payload_bytes());
        Arrived {
            header: &header[..command::IN_HEADER_BYTES],
            argument: &header[command::ARGUMENT],
            payload: &self.memory.payload(index)[..payload_bytes],
        }
    }

    /// The payload of an entry that is ours, for data to be put where they will be sent from (`commit_in_place`). The
    /// request's own payload is overwritten.
    pub fn payload_mut(&mut self, entry: EntryId) -> &mut [u8] {
        let index = self.ours(entry);
        self.memory.payload_mut(index)
    }

    /// Answers: `head` begins with `fuse_out_header`; what follows it and the parts of `body` are copied into the payload.
    /// Goes to the kernel with the next `submit`.
    pub fn commit(&mut self, entry: EntryId, head: &[u8], body: &[&[u8]]) {
        let index = self.ours(entry);
        let (out_header, fixed) = head.split_at(HEADER_BYTES);
        let payload = self.memory.payload_mut(index);
        let mut end = 0;
        for part in std::iter::once(&fixed).chain(body) {
            payload[end..end + part.len()].copy_from_slice(part);
            end += part.len();
        }
        self.commit_in_place(entry, out_header, end);
    }

    /// Answers with the first `length` bytes of the payload as they are.
    pub fn commit_in_place(&mut self, entry: EntryId, out_header: &[u8], length: usize) {
        let index = self.ours(entry);
        assert!(out_header.len() == HEADER_BYTES && length <= self.memory.payload_bytes());
        let header = self.memory.header_mut(index);
        header[..HEADER_BYTES].copy_from_slice(out_header);
        command::set_payload_length(header, length);
        let commit_id = command::commit_id(header);
        let sqe = command::commit(self.device_number(), index, self.queue_of(index), commit_id);
        self.push(&sqe);
        self.states[index] = State::Kernel;
    }

    /// Hands over what is queued and lets the kernel deliver what has arrived. Never waits.
    pub fn submit(&mut self) -> io::Result<()> {
        loop {
            let queued = self.ring.0.submission().len();
            let queued = u32::try_from(queued).expect("at most ENTRIES_MAX");
            // SAFETY: no argument is passed, and the iovecs queued by `register` live as long as `self`.
            let entered = unsafe {
                self.ring.0.submitter().enter::<libc::sigset_t>(queued, 0, IORING_ENTER_GETEVENTS, None)
            };
            match entered {
                // Submission stops early at a command the kernel cannot even read; the rest goes with the next turn.
                Ok(_) if self.ring.0.submission().is_empty() => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// As `submit`, and waits until something has arrived or ended: for a thread that has no other ring. A signal ends it.
    pub fn wait(&mut self) -> io::Result<()> {
        if !self.arrived.is_empty() {
            return self.submit();
        }
        match self.ring.0.submit_and_wait(1) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether `take` would give or learn something. Where the kernel says that it holds work back for us, asks for it.
    pub fn has_completions(&mut self) -> io::Result<bool> {
        if !self.arrived.is_empty() || !self.ring.0.completion().is_empty() {
            return Ok(true);
        }
        if self.ring.0.submission().taskrun() {
            self.submit()?;
        }
        Ok(!self.ring.0.completion().is_empty())
    }

    /// Whether the kernel holds no entry just now: then dropping gives the memory back. So it is after the connection's end and
    /// the commit of what was ours; but also whenever every entry has a request that is not answered yet.
    pub fn is_over(&self) -> bool {
        !self.states.contains(&State::Kernel)
    }

    /// Whether the connection has ended for every entry: nothing will arrive any more, and nothing of ours can be committed.
    pub fn has_ended(&self) -> bool {
        self.states.iter().all(|&state| state == State::Over)
    }

    /// The errno of the first command that failed otherwise than by the connection's end. Its entry is lost.
    pub fn fault(&self) -> Option<i32> {
        self.fault
    }

    /// Takes one completion: the entry, and 0 for a request or the errno that ended it.
    fn complete(&mut self) -> Option<(EntryId, i32)> {
        let done = self.ring.0.completion().next()?;
        let index = usize::try_from(done.user_data()).expect("an index we gave");
        assert!(
            self.states[index] == State::Kernel,
            "entry {index} completed while {:?}",
            self.states[index]
        );
        let result = done.result();
        assert!(result <= 0, "a command of FUSE ends with 0 or an error, not {result}");
        self.states[index] = if result == 0 { State::Ours } else { State::Over };
        Some((EntryId(u32::try_from(index).expect("at most ENTRIES_MAX")), -result))
    }

    fn push(&mut self, sqe: &squeue::Entry128) {
        // SAFETY: the addresses in the SQE are those of `iovecs` and `memory`, which live until the kernel is done with them.
        unsafe { self.ring.0.submission().push(sqe) }.expect("a slot for every entry, one command per entry");
    }

    fn ours(&self, entry: EntryId) -> usize {
        let index = entry.0 as usize;
        assert!(self.states[index] == State::Ours, "entry {index} is {:?}", self.states[index]);
        index
    }

    fn queue_of(&self, index: usize) -> u16 {
        self.queues[index / usize::from(self.depth)]
    }

    fn device_number(&self) -> RawFd {
        self.device.as_raw_fd()
    }
}

/// Tells the kernel that a connection will have no rings after all, though INIT agreed to them: its requests, those that wait for
/// the rings too, come by the device. Only while a queue is not registered; and none may be any more.
pub fn decline(device: &Device) -> io::Result<()> {
    // A queue that cannot be registered is how the kernel is told.
    let refused = command::register(device.as_fd().as_raw_fd(), 0, u16::MAX, 0);
    let mut ring: IoUring<squeue::Entry128, cqueue::Entry> = IoUring::builder().build(1)?;
    // SAFETY: the command points to no memory; the kernel looks at the number of the queue first.
    unsafe { ring.submission().push(&refused) }.expect("the ring has room for one");
    ring.submit()?;
    match ring.completion().next() {
        Some(done) if done.result() < 0 => Ok(()),
        _ => Err(io::Error::other("the kernel took a queue that is none")),
    }
}

impl AsFd for Queues {
    /// The ring's descriptor: readable when `take` has something, to be polled by another ring.
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring is open as long as `self`, which the result borrows.
        unsafe { BorrowedFd::borrow_raw(self.ring.0.as_raw_fd()) }
    }
}

impl Drop for Queues {
    fn drop(&mut self) {
        if !self.is_over() {
            // The kernel may still copy a request into an entry on this thread's next entry: rather lose the memory.
            self.memory.leak();
        }
    }
}
