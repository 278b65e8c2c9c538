//! Answering from slices: the head that the owner made, then the bytes that it gives, one step after the other.
//!
//! Invariant: what was sent is what the head promised, or the connection is cut.

use super::SliceService;
use super::route::Routed;
use crate::api::{Ask, Head, Opened, Refused, Step};
use crate::columns::Sitting;
use crate::state::fields::Fields;
use crate::state::fill::Why;
use crate::state::forward::Bypassed;
use crate::state::status::{RECEIVED, RECEIVED_BY_DEFAULT, Told, age, via};
use net::Exchange;
use net::exchange::Length;
use net::http1::{Multipart, ResponseHead, Status};
use runtime::io::Io;
use runtime::tier::{Digest, Object, ObjectReader};
use runtime::turns::PIECE_BYTES;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// Fields of caches between the origin and us, to which we add ourselves; and what is a note to ourselves.
const ADDED_TO: [&[u8]; 3] = [b"via", b"cache-status", RECEIVED.as_bytes()];
/// Of whatever has a body.
pub(super) const ACCEPT_RANGES: &[u8] = b"accept-ranges: bytes\r\n";
/// Fields that a 304 has of those that are stored (RFC 9110 §15.4.5).
const OF_NOT_MODIFIED: [&str; 7] =
    ["cache-control", "content-location", "date", "etag", "expires", "vary", "last-modified"];

impl<I: Io> SliceService<I> {
    pub(super) async fn answer(
        &self,
        routed: &Routed,
        ask: &Arc<Ask>,
        exchange: &mut Exchange<'_, I>,
    ) -> io::Result<()> {
        for is_last in [false, true] {
            let mut sitting = self.columns.sit(&ask.name);
            let opened = exchange.wait_for(sitting.open(ask)).await?;
            let mut head = match opened {
                Opened::Pass(why) => {
                    return Box::pin(self.pass(routed, Bypassed::NotStored(why), exchange)).await;
                }
                Opened::Refused(refused) => return self.refuse(refused, exchange).await,
                Opened::Kept(kept) => return self.send_kept(routed, &kept, exchange).await,
                Opened::Answer(head) => head,
            };
            routed.told.set(Some(head.told));
            if let Some(body) = &head.whole {
                return self.send_whole(&head, body, exchange).await;
            }
            write_head(&head, exchange);
            if head.answer.ranges.is_empty() {
                return exchange.send(&[]).await;
            }
            if head.is_whole && routed.is_plain {
                self.columns.local().note_hot(&routed.target, &ask.name);
            }
            let first = head.first.take();
            match self.send(&head, sitting, first, exchange).await? {
                None => return Ok(()),
                // The version was no more, and nobody has seen a byte of it.
                Some(Why::Changed) if !is_last && exchange.nothing_sent() => {}
                // What the origin says instead is the client's.
                Some(Why::Refused) if exchange.nothing_sent() => {
                    return Box::pin(self.pass(routed, Bypassed::NotStored(None), exchange)).await;
                }
                Some(why) => return ended(why, exchange).await,
            }
        }
        unreachable!("the last turn returns")
    }

    pub(super) async fn refuse(&self, refused: Refused, exchange: &mut Exchange<'_, I>) -> io::Result<()> {
        exchange.refuse(refused.status, refused.why).await
    }

    /// Sends all of it, or says why not.
    async fn send(
        &self,
        head: &Head,
        mut sitting: Sitting<I>,
        first: Option<Step>,
        exchange: &mut Exchange<'_, I>,
    ) -> io::Result<Option<Why>> {
        let mut frame = Frame::new(&head.answer.ranges, head.answer.multipart.as_ref());
        let (mut step, mut taken) = (first, 0);
        loop {
            let next = match step.take() {
                Some(first) => first,
                None => match exchange.wait_for(Box::pin(sitting.next(taken))).await {
                    // The client has all of it, and left before its owner said that there is no more.
                    Err(_) if frame.left() == 0 => break,
                    next => next?,
                },
            };
            taken = match next {
                Step::Done => break,
                // The version ended behind its last byte: what the head promised was sent.
                Step::Ended(_) if frame.left() == 0 => break,
                Step::Ended(why) => return Ok(Some(why)),
                step => self.send_step(step, &sitting, &mut frame, exchange).await?,
            };
            if head.is_whole {
                break;
            }
            self.let_others().await;
        }
        if frame.left() > 0 {
            return Err(io::Error::other("there is less of the object than the head promised"));
        }
        if let Some(multipart) = &head.answer.multipart {
            exchange.send(&multipart.closing).await?;
        }
        Ok(None)
    }

    /// Sends one step; how many bytes of the object that were.
    async fn send_step(
        &self,
        step: Step,
        sitting: &Sitting<I>,
        frame: &mut Frame<'_>,
        exchange: &mut Exchange<'_, I>,
    ) -> io::Result<u64> {
        let len = match &step {
            Step::Bytes(pieces) => pieces.iter().map(|piece| piece.len() as u64).sum(),
            Step::Pages(_, at) | Step::Pinned(_, at) => at.len() as u64,
            Step::Disk(_, _, at) => at.end - at.start,
            Step::Done | Step::Ended(_) => unreachable!("handled by the caller"),
        };
        if let Step::Disk(digest, object, at) = &step {
            let sent = Box::pin(self.send_from_disk((digest, object, at.clone()), frame, exchange)).await?;
            if sent < len {
                Box::pin(sitting.lost(*digest)).await;
            }
            return Ok(sent);
        }
        if let Some(prelude) = frame.advance(len) {
            exchange.send(prelude).await?;
        }
        self.send_held(&step, exchange).await?;
        Ok(len)
    }

    /// Sends what is in memory.
    pub(super) async fn send_held(&self, step: &Step, exchange: &mut Exchange<'_, I>) -> io::Result<()> {
        match step {
            Step::Bytes(pieces) => {
                for (at, piece) in pieces.iter().enumerate() {
                    if at > 0 {
                        self.let_others().await;
                    }
                    exchange.send(piece).await?;
                }
                Ok(())
            }
            Step::Pages(pages, at) => exchange.send_resident(pages, at.start, at.len()).await,
            Step::Pinned(pinned, at) => exchange.send_resident(&pinned.pages, at.start, at.len()).await,
            Step::Disk(..) | Step::Done | Step::Ended(_) => unreachable!("not in memory"),
        }
    }

    /// A socket takes megabytes at once: without this a thousand clients who wait for the same bytes would get theirs one after the
    /// other, the last when all before it have everything that is there.
    async fn let_others(&self) {
        self.columns.local().io.yield_now().await;
    }

    /// Sends what can be read of a stretch, verified; fewer bytes: the rest cannot be.
    async fn send_from_disk(
        &self,
        (digest, object, at): (&Digest, &Object, Range<u64>),
        frame: &mut Frame<'_>,
        exchange: &mut Exchange<'_, I>,
    ) -> io::Result<u64> {
        let owner = self.columns.local();
        let sums = object.sums.clone();
        let Ok(reader) = ObjectReader::open(&owner.io, &object.path, *digest, object.size, sums).await else {
            return Ok(0);
        };
        let mut sent = 0;
        while at.start + sent < at.end {
            // Whoever reads from disk at a time holds a buffer; the others wait.
            let mut turn = exchange.wait_for(owner.reads.take()).await?;
            let Ok((buf, part)) = reader.read(at.start + sent, at.end).await else { break };
            sent += part.len() as u64;
            let prelude = frame.advance(part.len() as u64);
            for piece in prelude.into_iter().chain(buf[part].chunks(PIECE_BYTES)) {
                turn.send(&owner.io, exchange.send(piece)).await?;
            }
        }
        Ok(sent)
    }
}

/// Before the first byte there is a status; after it the connection is cut.
async fn ended<I: Io>(why: Why, exchange: &mut Exchange<'_, I>) -> io::Result<()> {
    if !exchange.nothing_sent() {
        return Err(io::Error::other("the answer could not be completed"));
    }
    let why = match why {
        Why::Changed => "the origin has another version by now: ask again",
        Why::Failed | Why::Refused => "the origin does not give what is missing",
    };
    exchange.refuse(Status::BadGateway, why).await
}

pub(super) fn write_head<I: Io>(head: &Head, exchange: &mut Exchange<'_, I>) {
    let stored = Fields::of_pairs(&head.lines);
    let answer = &head.answer;
    let is_full = matches!(answer.status, Status::Ok | Status::PartialContent);
    let date = exchange.date().as_bytes().to_vec();
    let length = match answer.status {
        Status::NotModified => Length::None,
        _ => Length::Known(answer.body_bytes),
    };
    exchange.relay_head(answer.status.code(), length, |mut out| {
        for (name, value) in sent_as_stored(&stored) {
            let is_kept = is_full || (answer.status == Status::NotModified && is_of_not_modified(name));
            let is_replaced = answer.multipart.is_some() && name.eq_ignore_ascii_case(b"content-type");
            if is_kept && !is_replaced {
                out = out.line(name, value);
            }
        }
        if !is_full && answer.status != Status::NotModified {
            out = out.header("date", &date);
        }
        match (answer.status, &answer.multipart, answer.ranges.as_slice()) {
            (Status::PartialContent, Some(multipart), _) => {
                out = out.header("content-type", &multipart.content_type);
            }
            (Status::PartialContent, None, [range]) => out = out.content_range(range, head.size),
            (Status::RangeNotSatisfiable, ..) => out = out.content_range_unsatisfied(head.size),
            _ => {}
        }
        let is_bodiless = answer.status == Status::NotModified;
        let out = if is_bodiless { out } else { out.fields(ACCEPT_RANGES) };
        told(&stored, head.age_s, &head.told, out)
    });
}

/// The stored fields but those to which we add.
pub(super) fn sent_as_stored<'s>(stored: &'s Fields<'s>) -> impl Iterator<Item = (&'s [u8], &'s [u8])> + 's {
    stored.lines().filter(|(name, _)| !ADDED_TO.iter().any(|added| added.eq_ignore_ascii_case(name)))
}

/// What of the cache is told, behind what caches before us told.
pub(super) fn told<'o>(
    stored: &Fields<'_>,
    age_s: u64,
    told: &Told,
    out: ResponseHead<'o>,
) -> ResponseHead<'o> {
    // RFC 9110 §7.6.3: the protocol of the message that was received.
    let received = stored.only(RECEIVED).and_then(|received| std::str::from_utf8(received).ok());
    let received = received.unwrap_or(RECEIVED_BY_DEFAULT);
    out.header("age", age(age_s).as_bytes())
        .header("via", &via(received, stored.joined("via").as_deref()))
        .header("cache-status", &told.cache_status(stored.joined("cache-status").as_deref()))
        .header("x-cache", told.x_cache().as_bytes())
}

fn is_of_not_modified(name: &[u8]) -> bool {
    OF_NOT_MODIFIED.iter().any(|kept| kept.as_bytes().eq_ignore_ascii_case(name))
}

/// How far an answer of one or several ranges is, and what stands before each of them.
pub(super) struct Frame<'a> {
    ranges: &'a [Range<u64>],
    multipart: Option<&'a Multipart>,
    /// The range that is being sent, and what is left of it; 0 before it began.
    at: usize,
    left: u64,
    sent: u64,
}

impl<'a> Frame<'a> {
    pub(super) fn new(ranges: &'a [Range<u64>], multipart: Option<&'a Multipart>) -> Frame<'a> {
        Frame { ranges, multipart, at: 0, left: 0, sent: 0 }
    }

    /// So many bytes, of one range, are about to be sent: what goes before them.
    pub(super) fn advance(&mut self, bytes: u64) -> Option<&'a [u8]> {
        let mut prelude = None;
        if self.left == 0 {
            let range = &self.ranges[self.at];
            self.left = range.end - range.start;
            prelude = self.multipart.map(|multipart| multipart.preludes[self.at].as_slice());
            self.at += 1;
        }
        assert!(bytes <= self.left, "a step beyond its range");
        self.left -= bytes;
        self.sent += bytes;
        prelude
    }

    /// Bytes that are still to be sent.
    fn left(&self) -> u64 {
        self.ranges.iter().map(|range| range.end - range.start).sum::<u64>() - self.sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_has_its_prelude_once() {
        let ranges = [0..3, 10..12];
        let multipart = Multipart::new("a/b", "B", &ranges, 20);
        let mut frame = Frame::new(&ranges, Some(&multipart));
        assert_eq!(frame.advance(2), Some(&multipart.preludes[0][..]));
        assert_eq!((frame.advance(1), frame.left()), (None, 2));
        assert_eq!((frame.advance(2), frame.left()), (Some(&multipart.preludes[1][..]), 0));
    }
}
