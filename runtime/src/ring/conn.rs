//! Connections on the ring: multishot receive into provided buffers, direct sends, ring only when the socket is full.

use super::core::{Multi, Ring};
use crate::buffer::Buffer;
use crate::io::{Conn, Hangup};
use crate::resident::Resident;
use io_uring::opcode;
use io_uring::types::Fd;
use rustix::net::{
    RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, getpeername, recv, sendmsg, shutdown, sockopt,
};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

/// One send call moves at most this much before other tasks get their turn: about 0.2 ms of copying.
const SEND_BYTES_MAX: usize = 512 << 10;
/// sendfile moves page references, not bytes, so a call may take more.
const SENDFILE_BYTES_MAX: usize = 2 << 20;
/// Below this, copying out of the pinned pages in the same call as the header is cheaper than a second call (4 KiB on an Intel
/// Xeon, CPU a request: sendfile 7.6 us, copy 8.3: the copy writes lines that the receiver on another core has just read).
const SENDFILE_BYTES_MIN: usize = 4 << 10;
/// On a paced socket copying wins again from here on: the kernel sends what a call gave it in small bursts, one timer each, and
/// pages come in calls of 64 KiB, copies in much larger ones (CPU per MiB of 10 MiB on loopback, 100 connections, sendfile / copy:
/// bbr 1,030 / 480, cubic 240 / 385 µs; nginx, by sendfile, 390 / 147).
const PACED_SENDFILE_MAX: usize = 512 << 10;
/// Congestion controls that pace, by how their names begin.
const PACING: &str = "bbr";
/// Pieces that a packet is made of at most (MAX_SKB_FRAGS).
const PACKET_PAGES: usize = 17;
const PAGE_BYTES: usize = 4 << 10;

/// Received at once when the column's buffers are all out.
const OWN_BYTES: usize = 8 << 10;

/// A TCP connection of this column.
pub struct RingConn {
    receive: Option<Multi>,
    /// The column had no buffer left: what comes next goes into one of its own.
    is_starved: bool,
    leftover: Option<Chunk>,
    /// Once something large was sent.
    is_paced: Option<bool>,
    socket: Rc<OwnedFd>,
    ring: Rc<Ring>,
}

/// Received bytes.
pub struct Chunk {
    filled: Filled,
    from: usize,
    len: usize,
}

enum Filled {
    /// The peer has ended.
    Nothing,
    /// A provided buffer, which goes back to the kernel when this is dropped.
    Provided(Rc<Ring>, u16),
    Own(Box<[u8]>),
}

impl Chunk {
    fn end() -> Chunk {
        Chunk { filled: Filled::Nothing, from: 0, len: 0 }
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        match &self.filled {
            Filled::Provided(ring, id) => &ring.received(*id, self.len)[self.from..],
            Filled::Own(bytes) => &bytes[self.from..self.len],
            Filled::Nothing => &[],
        }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if let Filled::Provided(ring, id) = &self.filled {
            ring.give_back(*id);
        }
    }
}

impl Drop for RingConn {
    fn drop(&mut self) {
        self.receive = None;
        // A receive under way holds the socket open; this ends it whatever happens to the cancellation.
        let _ = shutdown(&*self.socket, Shutdown::Both);
    }
}

impl RingConn {
    pub(super) fn new(socket: OwnedFd, ring: Rc<Ring>) -> io::Result<RingConn> {
        // Best effort: not every stream is TCP (tests use socket pairs).
        let _ = sockopt::set_tcp_nodelay(&socket, true);
        let (receive, is_starved, leftover, is_paced) = (None, false, None, None);
        Ok(RingConn { receive, is_starved, leftover, is_paced, socket: Rc::new(socket), ring })
    }

    /// Whether sendfile is the cheaper way to send a stretch of pinned pages.
    fn may_sendfile(&mut self, len: usize) -> bool {
        // What cannot be asked (a socket that is not TCP) is not paced.
        len >= SENDFILE_BYTES_MIN
            && (len < PACED_SENDFILE_MAX || !*self.is_paced.get_or_insert_with(|| is_paced(&self.socket)))
    }

    async fn next_chunk(&mut self) -> io::Result<Option<Chunk>> {
        let Some(receive) = &mut self.receive else {
            return Ok(None);
        };
        let Some(cqe) = receive.next().await else {
            self.receive = None;
            return Ok(None);
        };
        match cqe.result() {
            Ok(0) => Ok(Some(Chunk::end())),
            Ok(len) => {
                let id = cqe.buffer().expect("a filled receive names its buffer");
                Ok(Some(Chunk { filled: Filled::Provided(self.ring.clone(), id), from: 0, len }))
            }
            // Cancelled by `recv_into`, which takes over, or because more had come than was taken.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOBUFS | libc::ECANCELED)) => {
                self.receive = None;
                self.is_starved = e.raw_os_error() == Some(libc::ENOBUFS);
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    /// Waits without a buffer, then receives into one of its own.
    async fn receive_own(&self) -> io::Result<Chunk> {
        loop {
            self.poll(libc::POLLIN).await?;
            let mut bytes = vec![0; OWN_BYTES].into_boxed_slice();
            match recv(&*self.socket, &mut bytes[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Ok(Chunk::end()),
                Ok((len, _)) => return Ok(Chunk { filled: Filled::Own(bytes), from: 0, len }),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Ends the multishot receive; what it had received comes out first.
    async fn stop_receiving(&mut self) -> io::Result<Option<Chunk>> {
        if let Some(receive) = &self.receive {
            receive.cancel();
        }
        while self.receive.is_some() {
            if let Some(chunk) = self.next_chunk().await? {
                return Ok(Some(chunk));
            }
        }
        Ok(None)
    }

    async fn writable(&self) -> io::Result<()> {
        self.poll(libc::POLLOUT).await
    }

    async fn poll(&self, events: libc::c_short) -> io::Result<()> {
        let entry = opcode::PollAdd::new(Fd(self.socket.as_raw_fd()), events as u32).build();
        let (cqe, _socket) = self.ring.op(entry, self.socket.clone()).await;
        cqe.result().map(drop)
    }

    /// Sends what fits now; waits only when nothing does.
    async fn send_some(&self, head: &[u8], body: &[u8], flags: SendFlags) -> io::Result<usize> {
        let body = &body[..body.len().min(SEND_BYTES_MAX)];
        loop {
            let parts = [IoSlice::new(head), IoSlice::new(body)];
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL | flags;
            match sendmsg(&*self.socket, &parts, &mut SendAncillaryBuffer::default(), flags) {
                Ok(n) => return Ok(n),
                Err(rustix::io::Errno::AGAIN) => self.writable().await?,
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    async fn send_all(&self, mut head: &[u8], mut body: &[u8], flags: SendFlags) -> io::Result<()> {
        loop {
            let sent = self.send_some(head, body, flags).await?;
            let of_head = sent.min(head.len());
            head = &head[of_head..];
            body = &body[sent - of_head..];
            if head.is_empty() && body.is_empty() {
                return Ok(());
            }
            glommio::yield_if_needed().await;
        }
    }
}

fn is_paced(socket: &OwnedFd) -> bool {
    sockopt::tcp_congestion(socket).is_ok_and(|name| name.starts_with(PACING))
}

/// Whether a head goes out in one packet with the stretch behind it. Otherwise it goes first, by itself: the end of a stretch that
/// is cut in two waits for a timer on a paced socket (CPU of a request for 64 KiB that lie askew on their pages, bbr: 72 / 22 µs).
fn fits_with_head(from: usize, len: usize) -> bool {
    (from % PAGE_BYTES + len).div_ceil(PAGE_BYTES) < PACKET_PAGES
}

impl Conn for RingConn {
    type Chunk = Chunk;

    async fn recv(&mut self) -> io::Result<Chunk> {
        if let Some(chunk) = self.leftover.take() {
            return Ok(chunk);
        }
        loop {
            if std::mem::take(&mut self.is_starved) {
                return self.receive_own().await;
            }
            if self.receive.is_none() {
                self.receive = Some(self.ring.receive(self.socket.as_raw_fd()));
            }
            if let Some(chunk) = self.next_chunk().await? {
                return Ok(chunk);
            }
        }
    }

    async fn recv_into(&mut self, mut buf: Buffer, from: usize, to: usize) -> (io::Result<usize>, Buffer) {
        assert!(from < to && to <= buf.capacity(), "receive into {from}..{to} of {}", buf.capacity());
        let mut done = from;
        while self.leftover.is_some() || self.receive.is_some() {
            let next = match self.leftover.take() {
                Some(chunk) => Ok(Some(chunk)),
                None => self.stop_receiving().await,
            };
            let mut chunk = match next {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(e) => return (Err(e), buf),
            };
            let bytes = chunk.as_ref();
            if bytes.is_empty() {
                return (Ok(done - from), buf);
            }
            let take = bytes.len().min(to - done);
            buf[done..done + take].copy_from_slice(&bytes[..take]);
            done += take;
            chunk.from += take;
            if chunk.from < chunk.len {
                self.leftover = Some(chunk);
            }
            if done == to {
                return (Ok(to - from), buf);
            }
        }
        while done < to {
            let at = buf[done..to].as_mut_ptr();
            let entry = opcode::Recv::new(Fd(self.socket.as_raw_fd()), at, (to - done) as u32)
                .flags(libc::MSG_WAITALL)
                .build();
            let (cqe, (back, _socket)) = self.ring.op(entry, (buf, self.socket.clone())).await;
            buf = back;
            match cqe.result() {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return (Err(e), buf),
            }
        }
        (Ok(done - from), buf)
    }

    async fn send(&mut self, head: &[u8], body: &[u8]) -> io::Result<()> {
        self.send_all(head, body, SendFlags::empty()).await
    }

    async fn send_resident(
        &mut self,
        head: &[u8],
        pages: &Resident,
        from: usize,
        len: usize,
    ) -> io::Result<()> {
        if !self.may_sendfile(len) {
            return self.send_all(head, &pages[from..from + len], SendFlags::empty()).await;
        }
        if !head.is_empty() {
            let flags = if fits_with_head(from, len) { SendFlags::MORE } else { SendFlags::empty() };
            self.send_all(head, &[], flags).await?;
        }
        let mut done = 0;
        while done < len {
            let count = (len - done).min(SENDFILE_BYTES_MAX);
            // The pages are pinned: this cannot wait on a disk.
            match pages.sendfile(&self.socket, from + done, count) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    done += n;
                    glommio::yield_if_needed().await;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn is_quiet(&mut self) -> bool {
        if self.leftover.is_some() {
            return false;
        }
        let mut byte = [0; 1];
        let seen = recv(&*self.socket, &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        if !matches!(seen, Err(rustix::io::Errno::AGAIN)) {
            return false;
        }
        // What a receive under way had taken out of the socket before the call has completed by its end.
        self.receive.as_ref().is_none_or(|receive| {
            self.ring.look();
            !receive.has_next()
        })
    }

    fn end_sending(&mut self) {
        let _ = shutdown(&*self.socket, Shutdown::Write);
    }

    fn peer(&self) -> Option<SocketAddr> {
        let peer = getpeername(&*self.socket).ok().flatten()?;
        SocketAddr::try_from(peer).ok()
    }

    fn hangup(&self) -> Box<dyn Fn(Hangup)> {
        let socket = Rc::downgrade(&self.socket);
        Box::new(move |how| {
            if let Some(socket) = socket.upgrade() {
                let how = match how {
                    Hangup::Receive => Shutdown::Read,
                    Hangup::Both => Shutdown::Both,
                };
                let _ = shutdown(&*socket, how);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_goes_with_what_fits_beside_it() {
        let most = (PACKET_PAGES - 1) * PAGE_BYTES;
        assert!(
            fits_with_head(0, most) && fits_with_head(100, most - 100) && fits_with_head(PAGE_BYTES, most)
        );
        assert!(!fits_with_head(0, most + 1) && !fits_with_head(100, most - 99));
    }
}
