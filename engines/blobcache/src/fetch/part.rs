//! One part of a blob: asked for as a range, checked against what the first answer said, received into buffers; asked for
//! again from the byte where it broke off. Called by `job`.
//!
//! Invariants
//! 1. No byte of another version of the object comes out: size and validator of each answer are those of the first.
//! 2. Buffers are full, but for the last one of the object.

use super::job::Pulling;
use super::retry::{Failure, Tries};
use super::window::Filled;
use crate::api::FetchError;
use net::client::{Reply, Url};
use net::http1::{ContentRange, ReplyHead, parse_content_range};
use runtime::buffer::Buffer;
use runtime::io::Io;
use runtime::tier::{PACKED_BYTES_MAX, WRITE_BYTES};
use std::ops::Range;
use std::rc::Rc;

/// How often and how long memory for a buffer is waited for: ten seconds in all.
const BUFFER_TRIES: usize = 5000;
const BUFFER_RETRY_NS: u64 = 2_000_000;

/// What tells one version of an object from the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its size.
    pub size: u64,
    /// A strong entity tag, else the date of the last change, as `If-Range` takes them.
    pub validator: Option<String>,
}

impl Version {
    /// That of an answer about an object of `size` bytes.
    pub fn of(head: &ReplyHead, size: u64) -> Version {
        let text =
            |name| head.header(name).and_then(|v| std::str::from_utf8(v).ok()).filter(|v| !v.is_empty());
        let tag = text("etag").filter(|tag| tag.starts_with('"'));
        Version { size, validator: tag.or_else(|| text("last-modified")).map(str::to_owned) }
    }
}

/// Why a part is not received any further.
pub enum Stop {
    /// As said.
    Failed(Failure),
    /// The origin has another version now.
    Changed,
}

impl<I: Io> Pulling<'_, I> {
    /// Receives `range` of `version` from `url`; `first` is an answer that is there already.
    pub async fn pull_part(
        &self,
        url: &Url,
        version: &Version,
        range: Range<u64>,
        mut first: Option<Reply<I>>,
        filled: Rc<Filled>,
    ) -> Result<(), Failure> {
        let mut tries = Tries::default();
        let mut at = range.start;
        let mut open = None;
        while at < range.end {
            let stop = match first.take() {
                Some(reply) => self.receive(reply, &mut at, range.end, &mut open, &filled).await,
                None => match self.ask(url, version, at..range.end).await {
                    Ok(reply) => self.receive(reply, &mut at, range.end, &mut open, &filled).await,
                    Err(stop) => Err(stop),
                },
            };
            match stop {
                Ok(()) => {}
                Err(Stop::Changed) => {
                    self.has_changed.set(true);
                    return Err(Failure::for_good(FetchError::Changed));
                }
                Err(Stop::Failed(failure)) => tries.again(self.io, self.metrics, failure).await?,
            }
        }
        Ok(())
    }

    async fn ask(&self, url: &Url, version: &Version, range: Range<u64>) -> Result<Reply<I>, Stop> {
        let wanted = format!("bytes={}-{}", range.start, range.end - 1);
        let mut fields = vec![("Range", wanted.as_str())];
        fields.extend(version.validator.as_deref().map(|v| ("If-Range", v)));
        self.metrics.fetch_parts.inc();
        let reply = self.client.get(url, &fields).await.map_err(|e| Stop::Failed(e.into()))?;
        match reply.head.status {
            206 => {}
            // If-Range did not hold, or the object has become shorter.
            200 | 412 | 416 => return Err(Stop::Changed),
            _ => return Err(Stop::Failed(Failure::status(&reply))),
        }
        let found = reply.head.header("content-range").and_then(parse_content_range);
        let Some(ContentRange { range: Some((start, last)), size: Some(size) }) = found else {
            return Err(wrong_range());
        };
        if Version::of(&reply.head, size) != *version {
            return Err(Stop::Changed);
        }
        let length = range.end - range.start;
        if (start, last) != (range.start, range.end - 1) || reply.length().is_some_and(|l| l != length) {
            return Err(wrong_range());
        }
        Ok(reply)
    }

    /// Receives until `end`. A buffer that is not full stays in `open` for the next answer.
    async fn receive(
        &self,
        mut reply: Reply<I>,
        at: &mut u64,
        end: u64,
        open: &mut Option<(Buffer, usize)>,
        filled: &Filled,
    ) -> Result<(), Stop> {
        while *at < end {
            let (buf, from) = match open.take() {
                Some(open) => open,
                None => (self.buffer(end - *at, filled).await.map_err(Stop::Failed)?, 0),
            };
            let to = WRITE_BYTES.min(from + usize::try_from(end - *at).unwrap_or(WRITE_BYTES));
            let (count, read, buf) = reply.read(buf, from, to).await;
            self.metrics.l2_bytes.add(count as u64);
            *at += count as u64;
            let len = from + count;
            if len == to {
                filled.push(buf, len);
            } else {
                *open = Some((buf, len));
                let short =
                    || Failure::passing(FetchError::Unusable("the origin's body is cut short".into()));
                return Err(Stop::Failed(read.err().map_or_else(short, Failure::from)));
            }
        }
        Ok(())
    }

    /// Receives a body of unknown length or without ranges to its end.
    pub async fn pull_whole(&self, mut reply: Reply<I>, filled: Rc<Filled>) -> Result<(), Failure> {
        let length = reply.length();
        while !reply.has_ended() {
            let buf = self.buffer(length.unwrap_or(WRITE_BYTES as u64), &filled).await?;
            let to = WRITE_BYTES.min(buf.capacity());
            let (count, read, buf) = reply.read(buf, 0, to).await;
            self.metrics.l2_bytes.add(count as u64);
            read?;
            if count > 0 {
                filled.push(buf, count);
            }
        }
        Ok(())
    }

    /// A buffer for what is left, when the part may fill another one. Waits a while for memory.
    async fn buffer(&self, left: u64, filled: &Filled) -> Result<Buffer, Failure> {
        filled.room().await;
        let is_small = left <= PACKED_BYTES_MAX as u64;
        for _ in 0..BUFFER_TRIES {
            let buffer = match is_small {
                true => self.io.buffer_fitting(PACKED_BYTES_MAX),
                false => self.io.buffer(left.min(WRITE_BYTES as u64) as usize),
            };
            if let Some(buffer) = buffer {
                return Ok(buffer);
            }
            self.columns.local().tier.make_room();
            self.io.sleep(BUFFER_RETRY_NS).await;
        }
        Err(Failure::for_good(FetchError::Busy))
    }
}

fn wrong_range() -> Stop {
    let error = FetchError::Unusable("the origin's Content-Range is not what was asked for".into());
    Stop::Failed(Failure::passing(error))
}
