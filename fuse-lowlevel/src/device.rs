//! A queue of one connection: an open `/dev/fuse`, from which requests are read and to which replies are written.
//!
//! Called by the thread that serves the queue; `send` of a notification by any thread that serves no queue. The bytes are
//! not looked at. Invariants: close-on-exec always (a child that inherits the descriptor keeps a dead connection alive);
//! a buffer is never shorter than the kernel accepts, which would be EINVAL for every request.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::reply::HEADER_BYTES;
use crate::wire::READ_BUFFER_BYTES_MIN;

/// Buffers of one reply: its head and what the body is made of. Replies of more parts are put together by the caller.
pub const BODY_PARTS_MAX: usize = 15;

const FUSE_DEV_IOC_CLONE: libc::c_ulong = 0x8004_E500;
const FUSE_DEV_IOC_BACKING_OPEN: libc::c_ulong = 0x4010_E501;
const FUSE_DEV_IOC_BACKING_CLOSE: libc::c_ulong = 0x4004_E502;

/// `struct fuse_backing_map`.
#[repr(C)]
struct BackingMap {
    fd: i32,
    flags: u32,
    padding: u64,
}

/// One open `/dev/fuse`: the connection's first, or a clone with a processing list of its own.
#[derive(Debug)]
pub struct Device {
    fd: OwnedFd,
}

/// What a read of the device gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// A request of so many bytes is in the buffer.
    Request(usize),
    /// Nothing is there now (only of a non-blocking device): wait until it is readable.
    Nothing,
    /// The connection is over: unmounted or aborted. Nothing more will come and no FORGET was sent for what is looked up.
    Ended,
}

/// What became of a reply or a notification.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// The kernel took it.
    Delivered,
    /// The kernel no longer knows the request (interrupted, aborted), or the inode of the notification: normal.
    Unknown,
}

/// A file registered for passthrough. Belongs to the connection, not to the descriptor that registered it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BackingId(i32);

impl BackingId {
    /// One that `open_backing` gave, from its number.
    pub fn from_open(id: i32) -> BackingId {
        assert!(id > 0, "{id} is no backing id");
        BackingId(id)
    }

    /// As `fuse_open_out.backing_id` wants it.
    pub fn get(self) -> i32 {
        self.0
    }
}

impl Device {
    /// Opens `/dev/fuse`; without a mount it belongs to no connection yet.
    pub fn open() -> io::Result<Device> {
        let fd = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Device { fd })
    }

    /// A second queue of the same connection: requests are taken from one list, replies are kept apart per queue, so a
    /// reply must go to the queue the request was read from.
    pub fn clone_queue(&self) -> io::Result<Device> {
        let clone = Device::open()?;
        let source = self.fd.as_raw_fd();
        // SAFETY: the ioctl reads one u32, which outlives the call; both descriptors are open.
        let failed = unsafe { libc::ioctl(clone.fd.as_raw_fd(), FUSE_DEV_IOC_CLONE, &raw const source) };
        if failed < 0 { Err(io::Error::last_os_error()) } else { Ok(clone) }
    }

    /// From now on `receive` says `Nothing` instead of waiting. Needed before the device is polled by a ring: the kernel
    /// heeds only O_NONBLOCK here, and a thread that sleeps in the device while it drives a ring holds its own replies back.
    pub fn set_nonblocking(&self) -> io::Result<()> {
        let flags = rustix::fs::fcntl_getfl(&self.fd)?;
        Ok(rustix::fs::fcntl_setfl(&self.fd, flags | OFlags::NONBLOCK)?)
    }

    /// Reads one request. Requests that vanished while they were read are passed over.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        assert!(
            buffer.len() >= READ_BUFFER_BYTES_MIN,
            "a buffer of {} bytes is refused by the kernel",
            buffer.len()
        );
        loop {
            match rustix::io::read(&self.fd, &mut *buffer) {
                Ok(length) => return Ok(Received::Request(length)),
                Err(Errno::AGAIN) => return Ok(Received::Nothing),
                Err(Errno::INTR | Errno::NOENT) => {}
                // ECONNABORTED stands for ENODEV where FUSE_ABORT_ERROR was agreed on.
                Err(Errno::NODEV | Errno::CONNABORTED) => return Ok(Received::Ended),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Writes one reply or notification: `head` begins with `fuse_out_header`, whose length covers head and body.
    pub fn send(&self, head: &[u8], body: &[&[u8]]) -> io::Result<Sent> {
        assert!(head.len() >= HEADER_BYTES, "a reply begins with its header");
        assert!(body.len() <= BODY_PARTS_MAX, "{} parts of a body", body.len());
        let mut parts = [IoSlice::new(&[]); 1 + BODY_PARTS_MAX];
        parts[0] = IoSlice::new(head);
        for (part, bytes) in parts[1..].iter_mut().zip(body) {
            *part = IoSlice::new(bytes);
        }
        loop {
            match rustix::io::writev(&self.fd, &parts[..1 + body.len()]) {
                Ok(_) => return Ok(Sent::Delivered),
                Err(Errno::INTR) => {}
                Err(Errno::NOENT | Errno::NODEV | Errno::CONNABORTED) => return Ok(Sent::Unknown),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Registers a file for passthrough: 2–3 µs, so ids are kept per file. Needs CAP_SYS_ADMIN (EPERM) and a file system
    /// that is not stacked itself (ELOOP). The kernel holds a reference of its own: `file` may be closed afterwards.
    pub fn open_backing(&self, file: BorrowedFd<'_>) -> io::Result<BackingId> {
        let map = BackingMap { fd: file.as_raw_fd(), flags: 0, padding: 0 };
        // SAFETY: the ioctl reads one `fuse_backing_map`, laid out as the kernel's and alive during the call.
        let id = unsafe { libc::ioctl(self.fd.as_raw_fd(), FUSE_DEV_IOC_BACKING_OPEN, &raw const map) };
        if id <= 0 { Err(io::Error::last_os_error()) } else { Ok(BackingId(id)) }
    }

    /// Gives an id back. Files that are open through it keep working.
    pub fn close_backing(&self, id: BackingId) -> io::Result<()> {
        // SAFETY: the ioctl reads one u32, which outlives the call.
        let failed = unsafe { libc::ioctl(self.fd.as_raw_fd(), FUSE_DEV_IOC_BACKING_CLOSE, &raw const id.0) };
        if failed < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl From<OwnedFd> for Device {
    /// A descriptor that `fusermount3` or another process opened and mounted.
    fn from(fd: OwnedFd) -> Device {
        Device { fd }
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
