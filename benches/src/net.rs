//! Loopback sockets and epoll for single-threaded programs.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::{Result, check};

/// Connects to `address`, non-blocking and without Nagle's delay.
pub fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).map_err(|e| format!("connect to {address}: {e}"))?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// Connects to `address` for plain blocking reads and writes, each bounded to 10 s.
pub fn connect_blocking(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).map_err(|e| format!("connect to {address}: {e}"))?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(std::time::Duration::from_secs(10)))?;
    Ok(stream)
}

/// Accepts one connection, non-blocking and without Nagle's delay.
pub fn accept(listener: &TcpListener) -> Result<TcpStream> {
    let (stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// An epoll set whose events carry an index of the caller.
#[derive(Debug)]
pub struct Poll(OwnedFd);

impl Poll {
    /// An empty set.
    pub fn new() -> Result<Self> {
        // SAFETY: epoll_create1 takes no pointers; the fd is checked and owned from here on.
        let fd = check("epoll_create1", i64::from(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) }))?;
        // SAFETY: the fd is open and nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }))
    }

    /// Watches `fd` for `events` (level-triggered unless they hold `EPOLLET`), replacing what was watched before.
    pub fn watch(&self, fd: RawFd, events: i32, index: usize, replace: bool) -> Result<()> {
        let mut event = libc::epoll_event { events: events as u32, u64: index as u64 };
        let operation = if replace { libc::EPOLL_CTL_MOD } else { libc::EPOLL_CTL_ADD };
        // SAFETY: the kernel copies the event before it returns.
        let returned = unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, fd, &raw mut event) };
        check("epoll_ctl", i64::from(returned)).map(|_| ())
    }

    /// Waits at most `timeout_ms` and returns the ready part of `events`.
    pub fn wait<'e>(
        &self,
        events: &'e mut [libc::epoll_event],
        timeout_ms: i32,
    ) -> Result<&'e [libc::epoll_event]> {
        // SAFETY: the kernel writes at most `events.len()` entries.
        let ready = unsafe {
            libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), events.len() as i32, timeout_ms)
        };
        if ready < 0 && std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted {
            return Ok(&events[..0]);
        }
        let ready = check("epoll_wait", i64::from(ready))?;
        Ok(&events[..ready as usize])
    }
}

/// What a non-blocking transfer came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// So many bytes, at least one.
    Bytes(usize),
    /// The other side closed.
    Closed,
    /// Nothing now; wait for readiness.
    Later,
}

/// Reads the result of a transfer system call.
pub fn moved(what: &str, returned: isize) -> Result<Moved> {
    match returned {
        0 => Ok(Moved::Closed),
        n if n > 0 => Ok(Moved::Bytes(n as usize)),
        _ => {
            let error = std::io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EAGAIN | libc::EINTR) => Ok(Moved::Later),
                Some(libc::EPIPE | libc::ECONNRESET) => Ok(Moved::Closed),
                _ => Err(format!("{what}: {error}").into()),
            }
        }
    }
}

/// Receives into `buffer`.
pub fn receive(fd: RawFd, buffer: &mut [u8]) -> Result<Moved> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes.
    let returned = unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    moved("recv", returned)
}

/// Takes up to `len` bytes off the socket without copying them.
pub fn discard(fd: RawFd, len: usize) -> Result<Moved> {
    // SAFETY: with MSG_TRUNC a TCP socket discards and touches no memory of ours.
    let returned = unsafe { libc::recv(fd, std::ptr::null_mut(), len, libc::MSG_TRUNC) };
    moved("recv MSG_TRUNC", returned)
}
