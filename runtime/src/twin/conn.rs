//! Connections between simulated sockets: two pipes with a bounded number of bytes in each, which arrive late, in parts, or
//! not at all when the connection is reset. Called through the seam.
//!
//! Invariants
//! 1. Bytes of one direction arrive in order and once.
//! 2. What arrived before a reset or an end is still received first, as with TCP on Linux.

use super::faults::Fault;
use super::network::BACKLOG;
use super::world::{OUTSIDE, World};
use crate::buffer::Buffer;
use crate::io::{Conn, Hangup, Listener};
use crate::resident::Resident;
use crc32c::crc32c;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};

/// Bytes of one direction that are sent and not received: the smallest and the largest socket buffers.
const PIPE_BYTES: (u64, u64) = (16 << 10, 512 << 10);
/// As the ring's provided buffers.
const RECEIVE_BYTES: usize = 8192;
/// Time on the way.
const LATENCY_NS: (u64, u64) = (5_000, 100_000);
const SLOW_NS: (u64, u64) = (1_000_000, 1_000_000_000);

/// One direction.
#[derive(Default)]
struct Pipe {
    arrived: VecDeque<u8>,
    /// Sent and not received yet.
    held_bytes: usize,
    capacity: usize,
    last_due_ns: u64,
    /// The end has arrived.
    ended: bool,
    reset: bool,
    /// The sending side sends no more.
    shut: bool,
    /// The receiving side wants no more…
    deaf: bool,
    /// …or is not there any more.
    gone: bool,
    receiver: Option<Waker>,
    sender: Option<Waker>,
}

type SharedPipe = Rc<RefCell<Pipe>>;

impl Pipe {
    fn wake_both(&mut self) {
        self.receiver.take().into_iter().chain(self.sender.take()).for_each(Waker::wake);
    }

    fn reset(&mut self) {
        self.reset = true;
        self.wake_both();
    }
}

fn reset_error() -> io::Error {
    io::Error::from_raw_os_error(libc::ECONNRESET)
}

fn broken() -> io::Error {
    io::Error::from_raw_os_error(libc::EPIPE)
}

/// One end of a connection.
pub struct TwinConn {
    world: Rc<World>,
    incoming: SharedPipe,
    outgoing: SharedPipe,
}

/// Both ends of a new connection.
pub(super) fn pair(world: &Rc<World>) -> (TwinConn, TwinConn) {
    let pipe = || {
        let capacity = world.draw(|rng| rng.within(PIPE_BYTES.0, PIPE_BYTES.1)) as usize;
        Rc::new(RefCell::new(Pipe { capacity, ..Pipe::default() }))
    };
    let (there, back) = (pipe(), pipe());
    let end = |incoming: &SharedPipe, outgoing: &SharedPipe| TwinConn {
        world: world.clone(),
        incoming: incoming.clone(),
        outgoing: outgoing.clone(),
    };
    (end(&back, &there), end(&there, &back))
}

/// Has `arrive` happen behind everything that is on its way in this direction.
fn travel(world: &Rc<World>, pipe: &SharedPipe, arrive: impl FnOnce(&mut Pipe) + 'static) {
    let slow = world.happens(Fault::SlowNetwork);
    let (least, most) = if slow { SLOW_NS } else { LATENCY_NS };
    let takes_ns = world.draw(|rng| rng.within(least, most));
    let due_ns = (world.now_ns() + takes_ns).max(pipe.borrow().last_due_ns + 1);
    pipe.borrow_mut().last_due_ns = due_ns;
    let pipe = pipe.clone();
    world.at(due_ns, OUTSIDE, move |_| {
        let pipe = &mut *pipe.borrow_mut();
        arrive(pipe);
        if let Some(receiver) = pipe.receiver.take() {
            receiver.wake();
        }
    });
}

fn shut(world: &Rc<World>, pipe: &SharedPipe) {
    if pipe.borrow().shut {
        return;
    }
    {
        let pipe = &mut *pipe.borrow_mut();
        pipe.shut = true;
        if let Some(sender) = pipe.sender.take() {
            sender.wake();
        }
    }
    travel(world, pipe, |pipe| pipe.ended = true);
}

impl Drop for TwinConn {
    fn drop(&mut self) {
        let unread = {
            let incoming = &mut *self.incoming.borrow_mut();
            incoming.gone = true;
            incoming.wake_both();
            !incoming.arrived.is_empty()
        };
        if unread {
            // Closing with bytes unread resets the connection (RFC 1122 §4.2.2.13).
            self.outgoing.borrow_mut().reset();
        } else {
            shut(&self.world, &self.outgoing);
        }
    }
}

impl TwinConn {
    /// Resets the connection, as a peer does that wants no more of it.
    pub fn reset(&self) {
        self.reset_now();
    }

    /// Both directions fail from now on.
    fn reset_now(&self) {
        self.incoming.borrow_mut().reset();
        self.outgoing.borrow_mut().reset();
    }

    /// Waits for bytes or the end, then takes at most `most` bytes.
    async fn receive(&mut self, most: usize) -> io::Result<Vec<u8>> {
        if self.world.happens(Fault::Reset) {
            self.reset_now();
        }
        let (world, incoming) = (&self.world, &self.incoming);
        poll_fn(|cx| {
            let pipe = &mut *incoming.borrow_mut();
            if pipe.arrived.is_empty() {
                if pipe.reset {
                    return Poll::Ready(Err(reset_error()));
                }
                if pipe.ended || pipe.deaf {
                    return Poll::Ready(Ok(Vec::new()));
                }
                pipe.receiver = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let mut n = most.min(pipe.arrived.len());
            if n > 1 && world.happens(Fault::ShortReceive) {
                n = world.draw(|rng| rng.within(1, n as u64 - 1)) as usize;
            }
            let (front, back) = pipe.arrived.as_slices();
            let bytes = [&front[..n.min(front.len())], &back[..n.saturating_sub(front.len())]].concat();
            pipe.arrived.drain(..n);
            pipe.held_bytes -= n;
            if let Some(sender) = pipe.sender.take() {
                sender.wake();
            }
            world.note("receive", &[n as u64, u64::from(crc32c(&bytes))]);
            Poll::Ready(Ok(bytes))
        })
        .await
    }

    /// Sends what fits of `bytes`; waits only when nothing does.
    async fn send_some(&self, bytes: &[u8]) -> io::Result<usize> {
        if self.world.happens(Fault::Reset) {
            self.reset_now();
        }
        let room = poll_fn(|cx| {
            let pipe = &mut *self.outgoing.borrow_mut();
            if pipe.reset || pipe.shut {
                return Poll::Ready(Err(broken()));
            }
            if pipe.gone {
                // Nobody is there: the answer to this is a reset.
                pipe.reset();
                self.incoming.borrow_mut().reset();
                return Poll::Ready(Err(broken()));
            }
            match pipe.capacity - pipe.held_bytes {
                0 => {
                    pipe.sender = Some(cx.waker().clone());
                    Poll::Pending
                }
                room => Poll::Ready(Ok(room)),
            }
        });
        let mut n = room.await?.min(bytes.len());
        if n > 1 && self.world.happens(Fault::ShortSend) {
            n = self.world.draw(|rng| rng.within(1, n as u64 - 1)) as usize;
        }
        let part = bytes[..n].to_vec();
        self.world.note("send", &[n as u64, u64::from(crc32c(&part))]);
        self.outgoing.borrow_mut().held_bytes += n;
        travel(&self.world, &self.outgoing, move |pipe| pipe.arrived.extend(part));
        Ok(n)
    }

    async fn send_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let sent = self.send_some(bytes).await?;
            bytes = &bytes[sent..];
        }
        Ok(())
    }
}

impl Conn for TwinConn {
    type Chunk = Vec<u8>;

    async fn recv(&mut self) -> io::Result<Vec<u8>> {
        self.receive(RECEIVE_BYTES).await
    }

    async fn recv_into(&mut self, mut buf: Buffer, from: usize, to: usize) -> (io::Result<usize>, Buffer) {
        assert!(from < to && to <= buf.capacity(), "receive into {from}..{to} of {}", buf.capacity());
        let mut done = from;
        while done < to {
            match self.receive(to - done).await {
                Ok(bytes) if bytes.is_empty() => break,
                Ok(bytes) => {
                    buf[done..done + bytes.len()].copy_from_slice(&bytes);
                    done += bytes.len();
                }
                Err(e) => return (Err(e), buf),
            }
        }
        (Ok(done - from), buf)
    }

    async fn send(&mut self, head: &[u8], body: &[u8]) -> io::Result<()> {
        self.send_all(head).await?;
        self.send_all(body).await
    }

    async fn send_resident(
        &mut self,
        head: &[u8],
        pages: &Resident,
        from: usize,
        len: usize,
    ) -> io::Result<()> {
        self.send(head, &pages[from..from + len]).await
    }

    fn is_quiet(&mut self) -> bool {
        let (incoming, outgoing) = (self.incoming.borrow(), self.outgoing.borrow());
        let is_over = incoming.ended || incoming.reset || incoming.deaf || outgoing.reset || outgoing.shut;
        incoming.arrived.is_empty() && !is_over
    }

    fn end_sending(&mut self) {
        shut(&self.world, &self.outgoing);
    }

    fn hangup(&self) -> Box<dyn Fn(Hangup)> {
        let world = Rc::downgrade(&self.world);
        let (incoming, outgoing) = (Rc::downgrade(&self.incoming), Rc::downgrade(&self.outgoing));
        Box::new(move |how| {
            let pipes = (incoming.upgrade(), outgoing.upgrade(), Weak::upgrade(&world));
            let (Some(incoming), Some(outgoing), Some(world)) = pipes else { return };
            if incoming.borrow().gone {
                return;
            }
            {
                let pipe = &mut *incoming.borrow_mut();
                pipe.deaf = true;
                if let Some(receiver) = pipe.receiver.take() {
                    receiver.wake();
                }
            }
            if how == Hangup::Both {
                shut(&world, &outgoing);
            }
        })
    }
}

/// A simulated listening socket.
pub struct TwinListener {
    world: Rc<World>,
    addr: SocketAddr,
    id: u64,
}

impl TwinListener {
    pub(super) fn new(world: &Rc<World>, addr: SocketAddr) -> TwinListener {
        let id = world.network.borrow_mut().listen(addr);
        TwinListener { world: world.clone(), addr, id }
    }
}

impl Drop for TwinListener {
    fn drop(&mut self) {
        let waiting = self.world.network.borrow_mut().close(self.addr, self.id);
        waiting.iter().for_each(TwinConn::reset_now);
    }
}

impl Listener for TwinListener {
    type Conn = TwinConn;

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }

    async fn accept(&mut self) -> io::Result<TwinConn> {
        if self.world.happens(Fault::AcceptError) {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        poll_fn(|cx| {
            let network = &mut *self.world.network.borrow_mut();
            let waiting = network.listeners.get_mut(&self.id).expect("open until dropped");
            match waiting.conns.pop_front() {
                Some(conn) => Poll::Ready(Ok(conn)),
                None => {
                    waiting.acceptor = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

/// A connection to whoever of those that listen on `addr` the seed picks.
pub(super) fn connect(world: &Rc<World>, addr: SocketAddr) -> io::Result<TwinConn> {
    let refused = || io::Error::from_raw_os_error(libc::ECONNREFUSED);
    let ids = world.network.borrow().at(addr).to_vec();
    if ids.is_empty() {
        return Err(refused());
    }
    let id = ids[world.draw(|rng| rng.below(ids.len() as u64)) as usize];
    let (near, far) = pair(world);
    let network = &mut *world.network.borrow_mut();
    let waiting = network.listeners.get_mut(&id).expect("just listed");
    if waiting.conns.len() >= BACKLOG {
        return Err(refused());
    }
    waiting.conns.push_back(far);
    if let Some(acceptor) = waiting.acceptor.take() {
        acceptor.wake();
    }
    Ok(near)
}
