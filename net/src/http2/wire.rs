//! The bytes between hyper and the connection, in memory. hyper reads and writes at one end, the connection's task at the
//! other. Called by `http2`.
//!
//! Invariant: at most one received chunk and [`OUTGOING_BYTES_MAX`] to be sent; the memory goes with the bytes.

use hyper::rt::{Read, ReadBufCursor, Write};
use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Sent at a time, and encrypted at a time under TLS.
const OUTGOING_BYTES_MAX: usize = crate::transport::PIECE_BYTES;

#[derive(Default)]
struct State {
    incoming: Vec<u8>,
    used: usize,
    has_ended: bool,
    outgoing: Vec<u8>,
    is_closed: bool,
    /// hyper, waiting for bytes or for room.
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// The connection's task, waiting to be asked for bytes or given some.
    asked: Option<Waker>,
    given: Option<Waker>,
}

/// Clones are the same wire.
#[derive(Clone)]
pub(super) struct Wire(Rc<RefCell<State>>);

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

impl Wire {
    /// With bytes that have been received already.
    pub(super) fn new(first: &[u8]) -> Wire {
        Wire(Rc::new(RefCell::new(State { incoming: first.to_vec(), ..State::default() })))
    }

    /// hyper has nothing more to say.
    pub(super) fn close(&self) {
        let mut state = self.0.borrow_mut();
        state.is_closed = true;
        wake(&mut state.given);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.borrow().is_closed
    }

    /// What is to be sent, taken out.
    pub(super) fn take_outgoing(&self) -> Vec<u8> {
        let mut state = self.0.borrow_mut();
        wake(&mut state.writer);
        std::mem::take(&mut state.outgoing)
    }

    /// Ready when there is something to be sent, or nothing more to come.
    pub(super) fn poll_outgoing(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.borrow_mut();
        if state.is_closed || !state.outgoing.is_empty() {
            return Poll::Ready(());
        }
        state.given = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Ready when hyper waits for bytes and some may come.
    pub(super) fn poll_wanted(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.borrow_mut();
        if state.incoming.is_empty() && state.reader.is_some() && !state.has_ended {
            return Poll::Ready(());
        }
        state.asked = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Bytes from the peer; none are its end.
    pub(super) fn arrived(&self, bytes: &[u8]) {
        let mut state = self.0.borrow_mut();
        assert!(state.incoming.is_empty() && !state.has_ended, "bytes that nobody asked for");
        state.incoming.extend_from_slice(bytes);
        state.has_ended = bytes.is_empty();
        wake(&mut state.reader);
    }
}

impl Read for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.0.borrow_mut();
        let state = &mut *state;
        let there = &state.incoming[state.used..];
        if there.is_empty() {
            if state.has_ended {
                return Poll::Ready(Ok(()));
            }
            state.reader = Some(cx.waker().clone());
            wake(&mut state.asked);
            return Poll::Pending;
        }
        let count = there.len().min(buf.remaining());
        buf.put_slice(&there[..count]);
        state.used += count;
        if state.used == state.incoming.len() {
            state.incoming = Vec::new();
            state.used = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl Write for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.0.borrow_mut();
        let before = state.outgoing.len();
        if before == OUTGOING_BYTES_MAX {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        for part in parts {
            let room = OUTGOING_BYTES_MAX - state.outgoing.len();
            let count = part.len().min(room);
            state.outgoing.extend_from_slice(&part[..count]);
        }
        wake(&mut state.given);
        Poll::Ready(Ok(state.outgoing.len() - before))
    }

    /// What is written is on its way.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.close();
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::rt::ReadBuf;

    #[test]
    fn what_is_written_is_bounded_until_it_is_taken() {
        let mut wire = Wire::new(b"");
        let mut cx = Context::from_waker(Waker::noop());
        let bytes = [7; OUTGOING_BYTES_MAX];
        assert!(wire.poll_outgoing(&mut cx).is_pending());
        let parts = [io::IoSlice::new(&bytes[..100]), io::IoSlice::new(&bytes)];
        let written = Pin::new(&mut wire).poll_write_vectored(&mut cx, &parts);
        assert!(matches!(written, Poll::Ready(Ok(OUTGOING_BYTES_MAX))), "{written:?}");
        assert!(Pin::new(&mut wire).poll_write(&mut cx, b"more").is_pending());
        assert!(wire.poll_outgoing(&mut cx).is_ready());
        assert_eq!(wire.take_outgoing(), bytes);
        assert!(matches!(Pin::new(&mut wire).poll_write(&mut cx, b"more"), Poll::Ready(Ok(4))));
        wire.close();
        assert_eq!((wire.take_outgoing(), wire.is_closed()), (b"more".to_vec(), true));
    }

    #[test]
    fn bytes_are_asked_for_one_chunk_at_a_time_up_to_the_end() {
        let mut wire = Wire::new(b"first");
        let mut cx = Context::from_waker(Waker::noop());
        let read = |wire: &mut Wire, cx: &mut Context<'_>| {
            let mut bytes = [0; 3];
            let mut buf = ReadBuf::new(&mut bytes);
            let read = Pin::new(wire).poll_read(cx, buf.unfilled());
            read.map(|read| read.map(|()| buf.filled().to_vec()).expect("memory does not fail"))
        };
        assert!(wire.poll_wanted(&mut cx).is_pending(), "the first bytes are not used yet");
        assert_eq!(read(&mut wire, &mut cx), Poll::Ready(b"fir".to_vec()));
        assert_eq!(read(&mut wire, &mut cx), Poll::Ready(b"st".to_vec()));
        assert!(read(&mut wire, &mut cx).is_pending());
        assert!(wire.poll_wanted(&mut cx).is_ready());
        wire.arrived(b"x");
        assert_eq!(read(&mut wire, &mut cx), Poll::Ready(b"x".to_vec()));
        assert!(read(&mut wire, &mut cx).is_pending() && wire.poll_wanted(&mut cx).is_ready());
        wire.arrived(b"");
        assert_eq!(read(&mut wire, &mut cx), Poll::Ready(Vec::new()));
        assert!(wire.poll_wanted(&mut cx).is_pending(), "nothing follows the end");
    }
}
