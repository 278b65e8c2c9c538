//! One request and its answer between hyper, which asks for a head and then for pieces of a body, and the task that answers,
//! which gives them. Called by `service` and, through [`Stream`], by `exchange`.
//!
//! Invariants
//! 1. At most one piece waits for hyper to take it, and at most [`SENDING_MAX`] are on their way out, by the window of the client;
//!    the task waits with them.
//! 2. An answer that is not given whole is never taken for one: the stream is reset.

use bytes::{Buf, Bytes};
use http::Response;
use http_body::{Body, Frame};
use hyper::body::Incoming;
use runtime::io::Hangup;
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

/// Of a body at a time.
pub(crate) const PIECE_BYTES: usize = 32 << 10;
/// Pieces that hyper took and has not sent.
const SENDING_MAX: usize = 2;

#[derive(Default)]
struct State {
    head: Option<Response<()>>,
    piece: Option<Bytes>,
    /// Pieces that hyper has, wherever it holds them.
    sending: usize,
    /// What of the body is still to be given; `None`: as long as the task gives some.
    left: Option<u64>,
    /// The task gives nothing more…
    has_ended: bool,
    /// …and what it gave is not all.
    is_cut: bool,
    /// hyper takes nothing more: it has all, or its client does not want it or is not there.
    is_gone: bool,
    /// It took too long to receive, or to be answered.
    is_deaf: bool,
    is_late: bool,
    /// hyper, waiting for a head or a piece.
    taker: Option<Waker>,
    /// The task, waiting for bytes or for room.
    giver: Option<Waker>,
}

type Shared = Rc<RefCell<State>>;

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// Both ends of a request whose body is `body`.
pub(super) fn pair(body: Incoming) -> (Stream, Answering) {
    let state = Shared::default();
    let answering = Answering(Some(Taker(state.clone())));
    (Stream { state, body, ahead: Bytes::new() }, answering)
}

/// The task's end.
pub(crate) struct Stream {
    state: Shared,
    body: Incoming,
    /// Received and not yet used.
    ahead: Bytes,
}

impl Stream {
    /// By which the deadline sweeper ends it.
    pub(super) fn hangup(&self) -> Box<dyn Fn(Hangup)> {
        let state: Weak<_> = Rc::downgrade(&self.state);
        Box::new(move |how| {
            let Some(state) = state.upgrade() else { return };
            let state = &mut *state.borrow_mut();
            state.is_deaf = true;
            state.is_late |= how == Hangup::Both;
            wake(&mut state.giver);
        })
    }

    /// Copies what comes next of the body into `to`; 0 at its end.
    pub(crate) async fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.ahead.is_empty() {
            match self.next().await? {
                Some(data) => self.ahead = data,
                None => return Ok(0),
            }
        }
        let count = self.ahead.len().min(to.len());
        self.ahead.copy_to_slice(&mut to[..count]);
        Ok(count)
    }

    /// Reads what is left of the body and at most `most` bytes of it.
    pub(crate) async fn discard(&mut self, mut most: u64) {
        // What is wrong with it is hyper's to tell.
        while let Ok(Some(data)) = self.next().await {
            most = most.saturating_sub(data.len() as u64);
            if most == 0 {
                return;
            }
        }
    }

    /// Whether the answer is whole with this piece.
    pub(crate) fn ends_with(&self, piece: &[u8]) -> bool {
        self.state.borrow().left == Some(piece.len() as u64)
    }

    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let (state, body) = (&self.state, &mut self.body);
        poll_fn(|cx| {
            {
                let state = &mut *state.borrow_mut();
                if state.is_deaf || state.is_late {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                state.giver = Some(cx.waker().clone());
            }
            loop {
                return match Pin::new(&mut *body).poll_frame(cx) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(None) if body.is_end_stream() => Poll::Ready(Ok(None)),
                    // A reset without an error (RFC 9113 §8.1): hyper says no more of it than that nothing comes.
                    Poll::Ready(None) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                    Poll::Ready(Some(Err(e))) => Poll::Ready(Err(io::Error::other(e))),
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(data) => Poll::Ready(Ok(Some(data))),
                        // Trailers are read over.
                        Err(_) => continue,
                    },
                };
            }
        })
        .await
    }

    /// Gives the head of the answer, which `ResponseHead` wrote; a bodiless answer is whole with it.
    pub(crate) fn give_head(&mut self, head: &[u8], is_bodiless: bool) {
        let (response, length) = super::head::response(head);
        let state = &mut *self.state.borrow_mut();
        assert!(state.head.is_none(), "an answer with two heads");
        state.left = if is_bodiless { Some(0) } else { length };
        state.head = Some(response);
        wake(&mut state.taker);
    }

    /// Gives a piece of the body once there is room for it.
    pub(crate) async fn give(&mut self, piece: &[u8]) -> io::Result<()> {
        assert!((1..=PIECE_BYTES).contains(&piece.len()), "a piece of {} bytes", piece.len());
        self.room().await?;
        let state = &mut *self.state.borrow_mut();
        if let Some(left) = &mut state.left {
            *left = left.checked_sub(piece.len() as u64).expect("no more than the head promised");
        }
        state.piece = Some(Bytes::copy_from_slice(piece));
        wake(&mut state.taker);
        Ok(())
    }

    async fn room(&self) -> io::Result<()> {
        poll_fn(|cx| {
            let state = &mut *self.state.borrow_mut();
            if state.is_gone {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            if state.is_late {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            if state.piece.is_none() && state.sending < SENDING_MAX {
                return Poll::Ready(Ok(()));
            }
            state.giver = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Waits until nothing of what was given is left, sent or not wanted any more; false if that takes too long.
    pub(super) async fn sent(&self) -> bool {
        poll_fn(|cx| {
            let state = &mut *self.state.borrow_mut();
            if state.sending == 0 && (state.piece.is_none() || state.is_cut) {
                return Poll::Ready(true);
            }
            if state.is_late {
                return Poll::Ready(false);
            }
            state.giver = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Waits until nobody wants the answer any more.
    pub(crate) async fn gone(&self) -> io::Error {
        poll_fn(|cx| {
            let state = &mut *self.state.borrow_mut();
            if state.is_gone || state.is_late {
                return Poll::Ready(io::ErrorKind::ConnectionAborted.into());
            }
            state.giver = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// The answer is not whole and will not be.
    pub(super) fn cut(&self) {
        let state = &mut *self.state.borrow_mut();
        (state.is_cut, state.has_ended) = (true, true);
        state.piece = None;
        wake(&mut state.taker);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let state = &mut *self.state.borrow_mut();
        state.has_ended = true;
        state.is_cut |= state.left.is_some_and(|left| left > 0);
        wake(&mut state.taker);
    }
}

/// hyper's end; its drop says that nothing more is wanted.
struct Taker(Shared);

impl Drop for Taker {
    fn drop(&mut self) {
        let state = &mut *self.0.borrow_mut();
        state.is_gone = true;
        state.piece = None;
        wake(&mut state.giver);
    }
}

/// The head of the answer, awaited.
pub(super) struct Answering(Option<Taker>);

impl Future for Answering {
    type Output = io::Result<Response<Answer>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let taker = self.0.take().expect("polled until ready");
        let head = {
            let state = &mut *taker.0.borrow_mut();
            match state.head.take() {
                Some(head) => Some(head),
                None if state.has_ended => return Poll::Ready(Err(io::Error::other("there is no answer"))),
                None => {
                    state.taker = Some(cx.waker().clone());
                    None
                }
            }
        };
        match head {
            Some(head) => Poll::Ready(Ok(head.map(|()| Answer(taker)))),
            None => {
                self.0 = Some(taker);
                Poll::Pending
            }
        }
    }
}

/// A piece as hyper holds it: until it is sent, or not wanted any more.
pub(super) struct Piece {
    bytes: Bytes,
    state: Shared,
}

impl Piece {
    fn new(bytes: Bytes, state: &Shared) -> Piece {
        state.borrow_mut().sending += 1;
        Piece { bytes, state: state.clone() }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let state = &mut *self.state.borrow_mut();
        state.sending -= 1;
        wake(&mut state.giver);
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}

/// The body of the answer, taken piece by piece.
pub(super) struct Answer(Taker);

impl Body for Answer {
    type Data = Piece;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, io::Error>>> {
        let shared = &self.0.0;
        let given = shared.borrow_mut().piece.take();
        if let Some(piece) = given {
            let piece = Piece::new(piece, shared);
            wake(&mut shared.borrow_mut().giver);
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let state = &mut *shared.borrow_mut();
        if state.left == Some(0) || (state.has_ended && !state.is_cut) {
            return Poll::Ready(None);
        }
        if state.has_ended {
            return Poll::Ready(Some(Err(io::Error::other("the answer is cut short"))));
        }
        state.taker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        let state = self.0.0.borrow();
        state.left == Some(0) && state.piece.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream without hyper: what the task gives is looked at directly.
    fn taker_of(state: State) -> (Shared, Answer) {
        let shared: Shared = Rc::new(RefCell::new(state));
        (shared.clone(), Answer(Taker(shared)))
    }

    fn next(answer: &mut Answer) -> Poll<Option<Result<Frame<Piece>, io::Error>>> {
        Pin::new(answer).poll_frame(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_body_that_is_cut_is_an_error_and_a_whole_one_ends() {
        for (left, is_cut) in [(Some(3), true), (None, true)] {
            let (_, mut answer) = taker_of(State { left, has_ended: true, is_cut, ..State::default() });
            assert!(matches!(next(&mut answer), Poll::Ready(Some(Err(_)))));
        }
        for left in [Some(0), None] {
            let (state, mut answer) = taker_of(State { left, has_ended: true, ..State::default() });
            state.borrow_mut().piece = Some(Bytes::from_static(b"abc"));
            assert!(!answer.is_end_stream());
            assert!(matches!(next(&mut answer), Poll::Ready(Some(Ok(frame))) if frame.is_data()));
            assert!(matches!(next(&mut answer), Poll::Ready(None)));
        }
        let (_, mut answer) = taker_of(State { left: Some(3), ..State::default() });
        assert!(next(&mut answer).is_pending() && !answer.is_end_stream());
    }

    #[test]
    fn a_piece_counts_until_it_is_let_go_of() {
        let (state, mut answer) =
            taker_of(State { piece: Some(Bytes::from_static(b"abc")), ..State::default() });
        let Poll::Ready(Some(Ok(frame))) = next(&mut answer) else { panic!("a piece") };
        let mut piece = frame.into_data().unwrap_or_else(|_| panic!("data"));
        drop(answer);
        piece.advance(3);
        assert_eq!((state.borrow().sending, piece.remaining()), (1, 0));
        drop(piece);
        assert_eq!(state.borrow().sending, 0);
    }

    #[test]
    fn who_takes_no_more_is_told_of() {
        let (state, answer) = taker_of(State { piece: Some(Bytes::from_static(b"a")), ..State::default() });
        drop(answer);
        let state = state.borrow();
        assert!(state.is_gone && state.piece.is_none());
    }
}
