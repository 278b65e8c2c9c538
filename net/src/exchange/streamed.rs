//! An exchange over a stream of HTTP/2: the body comes in frames, the answer goes to hyper in pieces. Called by `exchange`, which
//! has the same for a connection of HTTP/1.1.

use super::{Body, DISCARD_BYTES_MAX, Exchange, SEND_STEP_BYTES, Wire};
use crate::http2::{PIECE_BYTES, Stream};
use runtime::buffer::Buffer;
use runtime::io::{Hangup, Io};
use runtime::patience::within;
use std::io;

/// How long the end of an answer waits for what is left of its request.
const DISCARD_WAIT_NS: u64 = 1_000_000_000;

impl<I: Io> Exchange<'_, I> {
    /// Fills `buf[from..to]` with the next bytes of the body; fewer mean that it has ended.
    pub(super) async fn read_stream(
        &mut self,
        mut buf: Buffer,
        from: usize,
        to: usize,
    ) -> (io::Result<usize>, Buffer) {
        let Wire::Stream(stream) = &mut self.wire else { unreachable!("checked by the caller") };
        let mut at = from;
        while at < to && !matches!(self.framing.body, Body::None) {
            let count = match stream.read(&mut buf[at..to]).await {
                Ok(count) => count,
                Err(e) => return (Err(e), buf),
            };
            at += count;
            match &mut self.framing.body {
                Body::Length(left) if count == 0 && *left > 0 => {
                    return (Err(io::ErrorKind::UnexpectedEof.into()), buf);
                }
                Body::Length(left) => *left = left.saturating_sub(count as u64),
                _ => {}
            }
            if count == 0 || matches!(self.framing.body, Body::Length(0)) {
                self.framing.body = Body::None;
            }
        }
        (Ok(at - from), buf)
    }

    /// Gives what is left of the head and all of `body`.
    pub(super) async fn give(&mut self, body: &[u8]) -> io::Result<()> {
        let Wire::Stream(stream) = &mut self.wire else { unreachable!("checked by the caller") };
        let (io, unread) = (self.io, &mut self.framing.body);
        if !self.out.is_empty() {
            let is_bodiless = self.framing.is_head || self.status == 304 || self.status == 204;
            if is_bodiless {
                discard(io, stream, unread).await;
            }
            stream.give_head(self.out, is_bodiless);
            self.out.clear();
        }
        for part in body.chunks(SEND_STEP_BYTES) {
            self.guard.set(self.io.now_ns() + self.limits.send_wait_ns, Hangup::Both, false);
            for piece in part.chunks(PIECE_BYTES) {
                if stream.ends_with(piece) {
                    discard(io, stream, unread).await;
                }
                stream.give(piece).await?;
            }
        }
        self.sent_bytes += body.len() as u64;
        Ok(())
    }
}

/// Takes in what the service left of a body before its answer ends, which ends the stream: the client is still told what is
/// wrong with it. Bounded as the same is on a connection of HTTP/1.1, and in time: a client may wait for the end of the answer.
async fn discard<I: Io>(io: &I, stream: &mut Stream, unread: &mut Body) {
    if matches!(std::mem::replace(unread, Body::None), Body::None) {
        return;
    }
    // Late or not: what is left then is not taken in.
    let _ = within(io, DISCARD_WAIT_NS, stream.discard(DISCARD_BYTES_MAX)).await;
}
