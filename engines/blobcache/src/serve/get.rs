//! Answering GET and HEAD: from RAM where possible, else from disk, verified, else from where the blob came from.

use super::arriving::{Arrival, Arriving};
use super::route::Conditions;
use super::{BlobService, refuse_read};
use crate::api::{Reply, Request};
use crate::metrics::reads::{Depth, Level};
use net::Exchange;
use net::http1::conditional::{if_match_holds, if_none_match_holds, if_range_holds};
use net::http1::{Multipart, Ranges, ResponseHead, Status, parse_range};
use runtime::buffer::Buffer;
use runtime::io::Io;
use runtime::tier::{Digest, EXTENT_BYTES, Extent, Found, Object, ObjectReader, Pinned, ReadError};
use runtime::turns::{PIECE_BYTES, Turn};
use std::future::Future;
use std::io;
use std::ops::Range;
use std::pin::Pin;

const CONTENT_TYPE: &str = "application/octet-stream";
/// `"sha256:` + 64 digits + `"`.
const ETAG_BYTES: usize = 73;

fn etag(digest: &Digest) -> [u8; ETAG_BYTES] {
    let mut etag = [b'"'; ETAG_BYTES];
    etag[1..8].copy_from_slice(b"sha256:");
    etag[8..72].copy_from_slice(&digest.hex());
    etag
}

fn entity_fields<'o>(head: ResponseHead<'o>, digest: &Digest) -> ResponseHead<'o> {
    // Content never changes under its digest.
    head.header("ETag", &etag(digest))
        .fields(b"Accept-Ranges: bytes\r\nCache-Control: public, max-age=31536000, immutable\r\n")
}

impl<I: Io> BlobService<I> {
    /// The whole blob, unconditionally.
    pub(super) async fn get(&self, digest: Digest, exchange: &mut Exchange<'_, I>) -> io::Result<()> {
        let depth = Depth::default();
        let answered = self.get_whole(digest, &depth, exchange).await;
        self.count(&depth, exchange);
        answered
    }

    async fn get_whole(
        &self,
        digest: Digest,
        depth: &Depth,
        exchange: &mut Exchange<'_, I>,
    ) -> io::Result<()> {
        let held = self.columns.owner_here(&digest).and_then(|owner| owner.tier.get_held(&digest));
        let source = match held {
            Some(found) => Source::Found(found),
            None => match self.source(digest, depth, exchange).await? {
                Arrival::Source(source) => source,
                Arrival::None => return exchange.refuse(Status::NotFound, "no such blob").await,
                Arrival::Refused => return Ok(()),
            },
        };
        let size = source.size();
        whole_head(&digest, size, exchange);
        self.send_range((&digest, depth), &source, 0..size, exchange).await
    }

    /// Counts a request that was answered with bytes of a blob as the read that it was.
    fn count(&self, depth: &Depth, exchange: &Exchange<'_, I>) {
        if matches!(exchange.status(), 200 | 206) && !exchange.is_head() {
            self.columns.local().metrics.reads.count(depth);
        }
    }

    /// Counts bytes of a blob that were sent.
    pub(super) fn count_sent(&self, depth: &Depth, level: Level, bytes: u64) {
        self.columns.local().metrics.reads.sent(depth, level, bytes, self.io().now_ns());
    }

    /// The blob as it is stored, or as it comes from its origin when it is gone, damaged, or on a disk that is out.
    async fn source(
        &self,
        digest: Digest,
        depth: &Depth,
        exchange: &mut Exchange<'_, I>,
    ) -> io::Result<Arrival> {
        let failed = match self.find(digest).await {
            Ok(Some(found)) => return Ok(Arrival::Source(Source::Found(found))),
            Ok(None) => None,
            Err(e) => Some(e),
        };
        let can_come = failed.as_ref().is_none_or(|e| matches!(e, ReadError::Damaged(_) | ReadError::Out(_)));
        let arrival =
            if can_come { self.await_origin(digest, depth, exchange).await? } else { Arrival::None };
        match (arrival, failed) {
            (Arrival::None, Some(e)) => {
                refuse_read(exchange, &e).await?;
                Ok(Arrival::Refused)
            }
            (arrival, _) => Ok(arrival),
        }
    }

    pub(super) async fn find(&self, digest: Digest) -> Result<Option<Found>, ReadError> {
        match self.columns.ask(&digest, Request::Get(digest)).await {
            Ok(Reply::Found(found)) => found,
            Ok(_) => unreachable!("a get has its own reply"),
            Err(_busy) => Err(ReadError::Busy),
        }
    }

    /// RFC 9110 §13.2.2 (order of conditions), §14 (ranges).
    pub(super) async fn get_conditional(
        &self,
        digest: Digest,
        conditions: &Conditions,
        exchange: &mut Exchange<'_, I>,
    ) -> io::Result<()> {
        let depth = Depth::default();
        let answered = self.get_if(digest, conditions, &depth, exchange).await;
        self.count(&depth, exchange);
        answered
    }

    async fn get_if(
        &self,
        digest: Digest,
        conditions: &Conditions,
        depth: &Depth,
        exchange: &mut Exchange<'_, I>,
    ) -> io::Result<()> {
        let source = match self.source(digest, depth, exchange).await? {
            Arrival::Source(source) => Some(source),
            Arrival::None => None,
            Arrival::Refused => return Ok(()),
        };
        let tag = etag(&digest);
        let current = source.is_some().then_some(&tag[..]);
        if conditions.if_match.as_deref().is_some_and(|v| !if_match_holds(v, current)) {
            return exchange.refuse(Status::PreconditionFailed, "If-Match does not hold").await;
        }
        let Some(source) = source else { return exchange.refuse(Status::NotFound, "no such blob").await };
        if conditions.if_none_match.as_deref().is_some_and(|v| !if_none_match_holds(v, current)) {
            exchange.head(Status::NotModified, |head| entity_fields(head, &digest));
            return exchange.send(&[]).await;
        }
        let size = source.size();
        let applies = conditions.if_range.as_deref().is_none_or(|v| if_range_holds(v, &tag));
        let ranges = match &conditions.range {
            // RFC 9110 §14.2: Range is defined for GET only.
            Some(value) if applies && !exchange.is_head() => parse_range(value, size),
            _ => Ranges::None,
        };
        match ranges {
            Ranges::None => {
                whole_head(&digest, size, exchange);
                self.send_range((&digest, depth), &source, 0..size, exchange).await
            }
            Ranges::Unsatisfiable => {
                let body = b"{\"error\":\"no such range\"}\n";
                exchange.head(Status::RangeNotSatisfiable, |head| {
                    let head =
                        head.content_range_unsatisfied(size).header("Content-Type", b"application/json");
                    head.content_length(body.len() as u64)
                });
                exchange.send(body).await
            }
            Ranges::Single(range) => {
                exchange.head(Status::PartialContent, |head| {
                    let head = entity_fields(head, &digest).content_range(&range, size);
                    head.header("Content-Type", CONTENT_TYPE.as_bytes())
                        .content_length(range.end - range.start)
                });
                self.send_range((&digest, depth), &source, range, exchange).await
            }
            Ranges::Multi(ranges) => {
                Box::pin(self.send_multipart((&digest, depth), &source, &ranges, exchange)).await
            }
        }
    }

    async fn send_multipart(
        &self,
        (digest, depth): (&Digest, &Depth),
        source: &Source,
        ranges: &[Range<u64>],
        exchange: &mut Exchange<'_, I>,
    ) -> io::Result<()> {
        // Content that could contain the boundary would have to contain its own digest.
        let boundary: String = format!("basalt{}", String::from_utf8_lossy(&digest.hex()[..40]));
        let parts = Multipart::new(CONTENT_TYPE, &boundary, ranges, source.size());
        exchange.head(Status::PartialContent, |head| {
            let head = entity_fields(head, digest).header("Content-Type", &parts.content_type);
            head.content_length(parts.content_length)
        });
        for (prelude, range) in parts.preludes.iter().zip(ranges) {
            exchange.send(prelude).await?;
            self.send_range((digest, depth), source, range.clone(), exchange).await?;
        }
        exchange.send(&parts.closing).await
    }

    async fn send_range(
        &self,
        (digest, depth): (&Digest, &Depth),
        source: &Source,
        range: Range<u64>,
        exchange: &mut Exchange<'_, I>,
    ) -> io::Result<()> {
        let found = match source {
            Source::Found(found) => found,
            Source::Arriving(arriving) => {
                return Box::pin(self.send_arriving((digest, depth), arriving, range, exchange)).await;
            }
        };
        let Err(failed) = self.send_found((digest, depth), found, range.clone(), exchange).await else {
            return Ok(());
        };
        let e = self.note_failed(digest, failed).await?;
        let is_bad = matches!(e, ReadError::Damaged(_)) || is_missing(&e);
        if !exchange.nothing_sent() || !is_bad {
            return answer_failed(e, exchange).await;
        }
        match self.await_origin(*digest, depth, exchange).await? {
            Arrival::None => answer_failed(e, exchange).await,
            Arrival::Refused => Ok(()),
            Arrival::Source(Source::Arriving(arriving)) => {
                Box::pin(self.send_arriving((digest, depth), &arriving, range, exchange)).await
            }
            Arrival::Source(Source::Found(found)) => {
                match self.send_found((digest, depth), &found, range, exchange).await {
                    Ok(()) => Ok(()),
                    Err(again) => answer_failed(self.note_failed(digest, again).await?, exchange).await,
                }
            }
        }
    }

    async fn send_found(
        &self,
        (digest, depth): (&Digest, &Depth),
        found: &Found,
        range: Range<u64>,
        exchange: &mut Exchange<'_, I>,
    ) -> Result<(), Failed> {
        let (level, len) = match found {
            Found::Packed(bytes) | Found::Read(bytes) => {
                let part = &bytes[range.start as usize..range.end as usize];
                exchange.send(part).await.map_err(Failed::Send)?;
                (if matches!(found, Found::Read(_)) { Level::Disk } else { Level::Ram }, part.len())
            }
            Found::Pinned(Pinned { pages, from, .. }) => {
                let len = (range.end - range.start) as usize;
                exchange
                    .send_resident(pages, from + range.start as usize, len)
                    .await
                    .map_err(Failed::Send)?;
                (Level::Ram, len)
            }
            Found::Object(object) => {
                return self.send_object((digest, depth), object, range, exchange).await;
            }
        };
        if !exchange.is_head() {
            self.count_sent(depth, level, len as u64);
        }
        Ok(())
    }

    /// Sends a stretch of an object file behind the head that was written: extent by extent, from RAM or from disk.
    async fn send_object(
        &self,
        (digest, depth): (&Digest, &Depth),
        object: &Object,
        range: Range<u64>,
        exchange: &mut Exchange<'_, I>,
    ) -> Result<(), Failed> {
        if exchange.is_head() {
            return exchange.send(&[]).await.map_err(Failed::Send);
        }
        let extent_bytes = EXTENT_BYTES as u64;
        // Opened before the first byte is sent if it may be needed later: a DELETE meanwhile does not cut us off.
        let is_one_extent = range.start / extent_bytes == (range.end - 1) / extent_bytes;
        let mut reader = None;
        if !is_one_extent {
            reader = Some(self.open(digest, object).await);
        }
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min((at / extent_bytes + 1) * extent_bytes);
            if let Some(Extent { pages, is_ahead }) = self.extent(digest, at..end, object).await {
                let from = (at % extent_bytes) as usize;
                exchange.send_resident(&pages, from, (end - at) as usize).await.map_err(Failed::Send)?;
                let level = if is_ahead { Level::Disk } else { Level::Ram };
                self.count_sent(depth, level, end - at);
            } else {
                if reader.is_none() {
                    reader = Some(self.open(digest, object).await);
                }
                let reader = reader.as_ref().expect("just opened");
                // Boxed, as all that is long on this way: a connection keeps room for the largest of its requests.
                Box::pin(self.send_from_disk(reader, at..end, depth, exchange)).await?;
            }
            at = end;
        }
        Ok(())
    }

    async fn extent(&self, digest: &Digest, read: Range<u64>, object: &Object) -> Option<Extent> {
        if let Some(owner) = self.columns.owner_here(digest) {
            return owner.tier.extent(digest, object, &read).await;
        }
        let request = Request::Extent { digest: *digest, read, object: object.clone() };
        match self.columns.ask(digest, request).await {
            Ok(Reply::Extent(extent)) => extent,
            _ => None,
        }
    }

    async fn open(&self, digest: &Digest, object: &Object) -> Result<ObjectReader<I>, ReadError> {
        let sums = object.sums.clone();
        let opened = ObjectReader::open(self.io(), &object.path, *digest, object.size, sums).await;
        opened.map_err(|e| ReadError::Io(*digest, e))
    }

    /// Reads the next buffer while the one before is sent.
    async fn send_from_disk(
        &self,
        reader: &Result<ObjectReader<I>, ReadError>,
        range: Range<u64>,
        depth: &Depth,
        exchange: &mut Exchange<'_, I>,
    ) -> Result<(), Failed> {
        let reader = match reader {
            Ok(reader) => reader,
            Err(ReadError::Io(digest, e)) => {
                return Err(Failed::Read(ReadError::Io(*digest, e.kind().into())));
            }
            Err(_) => return Err(Failed::Read(ReadError::Busy)),
        };
        let mut turn = exchange.wait_for(self.disk_reads.take()).await.map_err(Failed::Send)?;
        let mut read = reader.read(range.start, range.end).await;
        let mut at = range.start;
        loop {
            let (buf, part) = read.map_err(Failed::Read)?;
            let part_bytes = part.len() as u64;
            at += part_bytes;
            if at >= range.end {
                self.send_in_turn(&mut turn, &buf[part], exchange).await.map_err(Failed::Send)?;
                self.count_sent(depth, Level::Disk, part_bytes);
                return Ok(());
            }
            let sending = self.send_in_turn(&mut turn, &buf[part], exchange);
            let (sent, next) = both(sending, reader.read(at, range.end)).await;
            sent.map_err(Failed::Send)?;
            self.count_sent(depth, Level::Disk, part_bytes);
            read = next;
        }
    }

    pub(super) async fn send_in_turn(
        &self,
        turn: &mut Turn<'_>,
        bytes: &[u8],
        exchange: &mut Exchange<'_, I>,
    ) -> io::Result<()> {
        for piece in bytes.chunks(PIECE_BYTES) {
            turn.send(self.io(), exchange.send(piece)).await?;
        }
        Ok(())
    }

    /// What could not be read of a blob; its owner hears of damage.
    async fn note_failed(&self, digest: &Digest, failed: Failed) -> io::Result<ReadError> {
        let e = match failed {
            Failed::Send(e) => return Err(e),
            Failed::Read(e) => e,
        };
        if let ReadError::Damaged(_) = e {
            // No answer is of interest.
            let _ = self.columns.ask(digest, Request::Damaged(*digest)).await;
        }
        Ok(e)
    }
}

/// Deleted or evicted meanwhile.
fn is_missing(e: &ReadError) -> bool {
    matches!(e, ReadError::Io(_, e) if e.kind() == io::ErrorKind::NotFound)
}

/// Before the first byte an error has its status; after it the connection is cut, never a wrong byte sent.
async fn answer_failed<I: Io>(e: ReadError, exchange: &mut Exchange<'_, I>) -> io::Result<()> {
    if !exchange.nothing_sent() {
        return Err(io::Error::other("the answer could not be completed"));
    }
    if is_missing(&e) {
        return exchange.refuse(Status::NotFound, "no such blob").await;
    }
    refuse_read(exchange, &e).await
}

/// Why a stretch was not sent.
enum Failed {
    Send(io::Error),
    Read(ReadError),
}

/// Where the bytes of an answer come from.
pub(super) enum Source {
    /// A stored blob.
    Found(Found),
    /// One that is being fetched.
    Arriving(Arriving),
}

impl Source {
    fn size(&self) -> u64 {
        match self {
            Source::Found(Found::Packed(bytes) | Found::Read(bytes)) => bytes.len() as u64,
            Source::Found(Found::Pinned(pinned)) => pinned.len as u64,
            Source::Found(Found::Object(object)) => object.size,
            Source::Arriving(arriving) => arriving.size,
        }
    }
}

fn whole_head<I: Io>(digest: &Digest, size: u64, exchange: &mut Exchange<'_, I>) {
    exchange.head(Status::Ok, |head| {
        entity_fields(head, digest).header("Content-Type", CONTENT_TYPE.as_bytes()).content_length(size)
    });
}

type Filled = Result<(Buffer, Range<usize>), ReadError>;

/// Runs both to their ends, in turns.
async fn both(
    send: impl Future<Output = io::Result<()>>,
    read: impl Future<Output = Filled>,
) -> (io::Result<()>, Filled) {
    let (mut send, mut read) = (std::pin::pin!(send), std::pin::pin!(read));
    let (mut sent, mut filled) = (None, None);
    std::future::poll_fn(|cx| {
        poll_into(&mut sent, send.as_mut(), cx);
        poll_into(&mut filled, read.as_mut(), cx);
        match (sent.is_some(), filled.is_some()) {
            (true, true) => std::task::Poll::Ready(()),
            _ => std::task::Poll::Pending,
        }
    })
    .await;
    (sent.expect("just seen"), filled.expect("just seen"))
}

fn poll_into<T>(
    slot: &mut Option<T>,
    future: Pin<&mut impl Future<Output = T>>,
    cx: &mut std::task::Context<'_>,
) {
    if slot.is_none()
        && let std::task::Poll::Ready(value) = future.poll(cx)
    {
        *slot = Some(value);
    }
}
