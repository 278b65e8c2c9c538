//! The client of the body path: asks, discards the response in the kernel, asks again. Runs until the server closes.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;

use super::{HEADER_BYTES, REQUEST_BYTES};
use crate::net::{Moved, Poll, connect, discard, receive};
use crate::{Result, check};

/// Reads `size`-byte bodies over `conns` connections. With `copy` the bytes are copied out, as most clients do.
pub fn run(address: SocketAddr, conns: usize, size: usize, copy: bool) -> Result<()> {
    let poll = Poll::new()?;
    let streams: Vec<TcpStream> = (0..conns).map(|_| connect(address)).collect::<Result<_>>()?;
    let mut left = vec![HEADER_BYTES + size; conns];
    let mut buffer = vec![0u8; 256 << 10];
    for (index, stream) in streams.iter().enumerate() {
        poll.watch(stream.as_raw_fd(), libc::EPOLLIN, index, false)?;
        ask(stream)?;
    }
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; 64];
    loop {
        for event in poll.wait(&mut events, -1)? {
            let index = event.u64 as usize;
            let fd = streams[index].as_raw_fd();
            let want = left[index];
            let moved = if copy {
                let len = want.min(buffer.len());
                receive(fd, &mut buffer[..len])?
            } else {
                discard(fd, want.min(4 << 20))?
            };
            match moved {
                Moved::Later => {}
                Moved::Closed => return Ok(()),
                Moved::Bytes(n) if n < want => left[index] -= n,
                Moved::Bytes(_) => {
                    left[index] = HEADER_BYTES + size;
                    ask(&streams[index])?;
                }
            }
        }
    }
}

fn ask(stream: &TcpStream) -> Result<()> {
    let request = [b'?'; REQUEST_BYTES];
    // SAFETY: the kernel reads the request and keeps no pointer to it.
    let sent =
        unsafe { libc::send(stream.as_raw_fd(), request.as_ptr().cast(), request.len(), libc::MSG_NOSIGNAL) };
    let closed = sent < 0
        && matches!(std::io::Error::last_os_error().raw_os_error(), Some(libc::EPIPE | libc::ECONNRESET));
    if closed { Ok(()) } else { check("send a request", sent as i64).map(|_| ()) }
}
