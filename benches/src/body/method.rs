//! The ways to send a header and a body. Every method has a working set of several bodies, so that the copying ones do
//! not read the same few cache lines over and over.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::path::Path;

use super::HEADER_BYTES;
use crate::mem::Mapping;
use crate::net::{Moved, moved};
use crate::rng::Rng;
use crate::{Result, check};

/// Bytes of the pipe of [`Method::Splice`]: what an unprivileged user may ask for.
const PIPE_BYTES: usize = 1 << 20;

/// One way to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `sendmsg` of header and body from 4 KiB pages.
    Copy4k,
    /// `sendmsg` of header and body from 2 MiB pages.
    CopyHuge,
    /// `sendmsg` of header and body from a locked mapping of a file.
    CopyMapped,
    /// `MSG_ZEROCOPY` from 2 MiB pages, completions reaped.
    ZeroCopy,
    /// `send` of the header with `MSG_MORE`, then `sendfile` from the page cache.
    SendFile,
    /// The same from a memfd of 4 KiB pages.
    SendMemfd,
    /// The same from a memfd of 2 MiB pages.
    SendMemfdHuge,
    /// `splice` from the page cache through a 1 MiB pipe of the connection.
    Splice,
}

impl Method {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 8] = [
        Self::Copy4k,
        Self::CopyHuge,
        Self::CopyMapped,
        Self::ZeroCopy,
        Self::SendFile,
        Self::SendMemfd,
        Self::SendMemfdHuge,
        Self::Splice,
    ];

    /// The name in the table and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Copy4k => "sendmsg-4k",
            Self::CopyHuge => "sendmsg-huge",
            Self::CopyMapped => "sendmsg-mmap-file",
            Self::ZeroCopy => "zerocopy-huge",
            Self::SendFile => "sendfile-file",
            Self::SendMemfd => "sendfile-memfd",
            Self::SendMemfdHuge => "sendfile-memfd-huge",
            Self::Splice => "splice-file-1m-pipe",
        }
    }
}

/// The bodies of one method, in RAM.
#[derive(Debug)]
pub struct Bodies {
    method: Method,
    size: usize,
    count: usize,
    memory: Option<Mapping>,
    file: Option<File>,
}

/// One response under way on one connection.
#[derive(Debug, Default)]
pub struct Response {
    /// Which body.
    pub body: usize,
    /// Bytes of header and body that the socket has taken.
    pub sent: usize,
    pipe: Option<(File, File)>,
    in_pipe: usize,
}

impl Bodies {
    /// Builds `count` bodies of `size` bytes for `method`; a file goes into `dir` and is unlinked at once.
    pub fn new(method: Method, size: usize, count: usize, dir: &Path) -> Result<Self> {
        let len = size * count;
        let mut bodies = Self { method, size, count, memory: None, file: None };
        match method {
            Method::Copy4k => bodies.memory = Some(Mapping::anonymous(len, false)?),
            Method::CopyHuge | Method::ZeroCopy => bodies.memory = Some(Mapping::anonymous(len, true)?),
            Method::CopyMapped | Method::SendFile | Method::Splice => {
                let path = dir.join("body-path.dat");
                let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
                std::fs::remove_file(&path)?;
                fill_file(&file, len)?;
                if method == Method::CopyMapped {
                    let memory = Mapping::shared(file.as_raw_fd(), len, false)?;
                    memory.lock()?;
                    bodies.memory = Some(memory);
                }
                bodies.file = Some(file);
            }
            Method::SendMemfd | Method::SendMemfdHuge => {
                let file = memfd(len)?;
                let huge = method == Method::SendMemfdHuge;
                let mut memory = Mapping::shared(file.as_raw_fd(), len, huge)?;
                Rng::new(7).fill(memory.bytes_mut());
                bodies.file = Some(file);
                bodies.memory = Some(memory);
            }
        }
        if matches!(method, Method::Copy4k | Method::CopyHuge | Method::ZeroCopy)
            && let Some(memory) = &mut bodies.memory
        {
            Rng::new(7).fill(memory.bytes_mut());
        }
        Ok(bodies)
    }

    /// How many bodies there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Bytes of one response.
    #[must_use]
    pub fn response_bytes(&self) -> usize {
        HEADER_BYTES + self.size
    }

    /// Whether the sockets need `SO_ZEROCOPY`.
    #[must_use]
    pub fn zero_copy(&self) -> bool {
        self.method == Method::ZeroCopy
    }

    /// Sends the next part of `response`; `Bytes` counts what the socket took.
    pub fn send(&self, fd: RawFd, header: &[u8; HEADER_BYTES], response: &mut Response) -> Result<Moved> {
        match self.method {
            Method::Copy4k | Method::CopyHuge | Method::CopyMapped => self.send_copy(fd, header, response, 0),
            Method::ZeroCopy => self.send_copy(fd, header, response, libc::MSG_ZEROCOPY),
            _ if response.sent < HEADER_BYTES => send_header(fd, &header[response.sent..]),
            Method::SendFile | Method::SendMemfd | Method::SendMemfdHuge => self.send_file(fd, response),
            Method::Splice => self.send_splice(fd, response),
        }
    }

    fn send_copy(&self, fd: RawFd, header: &[u8], response: &Response, flags: i32) -> Result<Moved> {
        let Some(memory) = &self.memory else {
            return Err("this method has no memory".into());
        };
        let done = response.sent.saturating_sub(HEADER_BYTES);
        let head = &header[response.sent.min(HEADER_BYTES)..];
        let start = response.body * self.size + done;
        let mut body = &memory.bytes()[start..(response.body + 1) * self.size];
        if flags != 0 {
            body = &body[..body.len().min(1 << 20)];
        }
        let mut parts = [slice_vec(head), slice_vec(body)];
        let first = usize::from(head.is_empty());
        // SAFETY: a zeroed msghdr is valid; the vectors point into slices that outlive the call (with MSG_ZEROCOPY
        // the pages are never written again before the run ends).
        let returned = unsafe {
            let mut message: libc::msghdr = std::mem::zeroed();
            message.msg_iov = parts[first..].as_mut_ptr();
            message.msg_iovlen = parts.len() - first;
            libc::sendmsg(fd, &raw const message, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT | flags)
        };
        if returned < 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::ENOBUFS) {
            return Ok(Moved::Later);
        }
        moved("sendmsg", returned)
    }

    fn send_file(&self, fd: RawFd, response: &Response) -> Result<Moved> {
        let Some(file) = &self.file else {
            return Err("this method has no file".into());
        };
        let done = response.sent - HEADER_BYTES;
        let mut offset = (response.body * self.size + done) as libc::off_t;
        // SAFETY: both descriptors are open and the offset outlives the call.
        let returned = unsafe { libc::sendfile(fd, file.as_raw_fd(), &raw mut offset, self.size - done) };
        moved("sendfile", returned)
    }

    fn send_splice(&self, fd: RawFd, response: &mut Response) -> Result<Moved> {
        let Some(file) = &self.file else {
            return Err("this method has no file".into());
        };
        if response.pipe.is_none() {
            response.pipe = Some(wide_pipe()?);
        }
        let Some((out, into)) = &response.pipe else {
            return Err("no pipe".into());
        };
        let filled = response.sent - HEADER_BYTES + response.in_pipe;
        if response.in_pipe == 0 {
            let mut offset = (response.body * self.size + filled) as libc::loff_t;
            let want = (self.size - filled).min(PIPE_BYTES);
            // SAFETY: descriptors are open, the offset outlives the call.
            let returned = unsafe {
                let null = std::ptr::null_mut();
                libc::splice(
                    file.as_raw_fd(),
                    &raw mut offset,
                    into.as_raw_fd(),
                    null,
                    want,
                    libc::SPLICE_F_NONBLOCK,
                )
            };
            response.in_pipe = check("splice from the file", returned as i64)? as usize;
        }
        let more =
            if response.sent - HEADER_BYTES + response.in_pipe < self.size { libc::SPLICE_F_MORE } else { 0 };
        // SAFETY: descriptors are open, no offsets are passed.
        let returned = unsafe {
            let null = std::ptr::null_mut();
            let flags = libc::SPLICE_F_NONBLOCK | more;
            libc::splice(out.as_raw_fd(), null, fd, null, response.in_pipe, flags)
        };
        let moved = moved("splice to the socket", returned)?;
        if let Moved::Bytes(n) = moved {
            response.in_pipe -= n;
        }
        Ok(moved)
    }
}

fn send_header(fd: RawFd, rest: &[u8]) -> Result<Moved> {
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT | libc::MSG_MORE;
    // SAFETY: the kernel copies the header before it returns.
    let returned = unsafe { libc::send(fd, rest.as_ptr().cast(), rest.len(), flags) };
    moved("send the header", returned)
}

fn slice_vec(bytes: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
}

fn wide_pipe() -> Result<(File, File)> {
    let mut fds = [0; 2];
    // SAFETY: the kernel writes two descriptors, which are owned from here on.
    unsafe {
        check("pipe2", i64::from(libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK)))?;
        check("F_SETPIPE_SZ", i64::from(libc::fcntl(fds[0], libc::F_SETPIPE_SZ, PIPE_BYTES)))?;
        Ok((File::from_raw_fd(fds[0]), File::from_raw_fd(fds[1])))
    }
}

fn memfd(len: usize) -> Result<File> {
    // SAFETY: the name is a constant C string; the descriptor is owned from here on.
    let file = unsafe {
        let fd = check("memfd_create", i64::from(libc::memfd_create(c"bodies".as_ptr(), libc::MFD_CLOEXEC)))?;
        File::from_raw_fd(fd as RawFd)
    };
    file.set_len(len as u64)?;
    Ok(file)
}

fn fill_file(file: &File, len: usize) -> Result<()> {
    use std::os::unix::fs::FileExt;
    let mut rng = Rng::new(7);
    let mut block = vec![0u8; 1 << 20];
    let mut at = 0;
    while at < len {
        let part = block.len().min(len - at);
        rng.fill(&mut block[..part]);
        file.write_all_at(&block[..part], at as u64)?;
        at += part;
    }
    Ok(file.sync_data()?)
}
