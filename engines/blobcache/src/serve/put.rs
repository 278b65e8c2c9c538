//! Storing a body: hashed while it comes in; small ones go to the owner as bytes, larger ones as a synced file.

use super::route::Lifetime;
use super::{BlobService, refuse_put};
use crate::api::{Reply, Request};
use crate::shard::EVICT_BYTES;
use net::Exchange;
use net::http1::Status;
use runtime::buffer::Buffer;
use runtime::io::{Class, Io};
use runtime::tier::{Digest, Keep, ObjectWriter, PACKED_BYTES_MAX, PutError, WRITE_BYTES};
use sha2::{Digest as _, Sha256};
use std::io;

/// Hashed at a time before others get their turn: about 0.2 ms.
const HASH_BYTES: usize = 256 << 10;
/// For its turn to be received an upload waits this long, not counting its body.
const UPLOAD_WAIT_NS: u64 = 60_000_000_000;
/// How often and how long memory for a buffer is waited for: ten seconds in all.
const BUFFER_TRIES: usize = 5000;
const BUFFER_RETRY_NS: u64 = 2_000_000;

/// What is asked of a put.
#[derive(Clone, Copy)]
struct Wanted {
    /// The digest that was named.
    expected: Option<Digest>,
    keep: Keep,
}

/// A body that did not come whole: who is to blame decides the answer.
enum BodyError {
    /// The client: malformed, cut short, too slow. The connection is lost for further requests.
    Client(io::Error),
    Store(PutError),
    /// No buffer.
    Busy,
}

impl<I: Io> BlobService<I> {
    pub(super) async fn put(
        &self,
        expected: Option<Digest>,
        lifetime: Lifetime,
        exchange: &mut Exchange<'_, I>,
    ) -> io::Result<()> {
        let wanted = Wanted { expected, keep: self.keep(lifetime, false) };
        match exchange.body_length() {
            Some(length) if length <= PACKED_BYTES_MAX as u64 => {
                self.put_small(length as usize, wanted, exchange).await
            }
            length => self.put_large(length, wanted, exchange).await,
        }
    }

    async fn put_small(
        &self,
        length: usize,
        wanted: Wanted,
        exchange: &mut Exchange<'_, I>,
    ) -> io::Result<()> {
        let Some(buf) = self.small_buffer(exchange.io(), length).await else {
            return refuse_body(exchange, BodyError::Busy).await;
        };
        let (read, buf) = exchange.read_body(buf, 0, length).await;
        if let Err(e) = read {
            return refuse_body(exchange, BodyError::Client(e)).await;
        }
        self.store_packed(buf, length, wanted, exchange).await
    }

    /// Takes a buffer, and waits a while when memory is short: blobs leave RAM and others finish.
    async fn buffer(&self, io: &I, take: impl Fn(&I) -> Option<Buffer>) -> Option<Buffer> {
        for _ in 0..BUFFER_TRIES {
            if let Some(buf) = take(io) {
                return Some(buf);
            }
            self.columns.local().tier.make_room();
            io.sleep(BUFFER_RETRY_NS).await;
        }
        None
    }

    /// A buffer for a whole small body.
    async fn small_buffer(&self, io: &I, length: usize) -> Option<Buffer> {
        self.buffer(io, |io| io.buffer_fitting(length)).await
    }

    async fn store_packed(
        &self,
        buf: Buffer,
        length: usize,
        wanted: Wanted,
        exchange: &mut Exchange<'_, I>,
    ) -> io::Result<()> {
        let digest = Digest(Sha256::digest(&buf[..length]).into());
        if wanted.expected.is_some_and(|e| e != digest) {
            return refuse_mismatch(exchange, &digest).await;
        }
        let data = buf.into_shared(length);
        let request = || Request::PutPacked(digest, data.clone(), wanted.keep);
        let mut reply = self.columns.ask(&digest, request()).await;
        if matches!(reply, Ok(Reply::Stored(Err(PutError::NoSpace)))) && self.columns.evict(EVICT_BYTES).await
        {
            reply = self.columns.ask(&digest, request()).await;
        }
        answer_stored(reply, &digest, length as u64, exchange).await
    }

    async fn put_large(
        &self,
        length: Option<u64>,
        wanted: Wanted,
        exchange: &mut Exchange<'_, I>,
    ) -> io::Result<()> {
        exchange.may_wait(UPLOAD_WAIT_NS);
        let Some(_permit) = self.uploads.acquire().await else {
            return refuse_body(exchange, BodyError::Busy).await;
        };
        let Some(first) = self.upload_buffer(exchange.io(), length).await else {
            return refuse_body(exchange, BodyError::Busy).await;
        };
        if length.is_some() {
            return self.put_object(length, (first, 0), wanted, exchange).await;
        }
        // Of unknown length: it may turn out small.
        let (read, first) = exchange.read_body(first, 0, WRITE_BYTES).await;
        match read {
            Ok(count) if count <= PACKED_BYTES_MAX => {
                let Some(mut fitting) = self.small_buffer(exchange.io(), count).await else {
                    return refuse_body(exchange, BodyError::Busy).await;
                };
                fitting[..count].copy_from_slice(&first[..count]);
                drop(first);
                self.store_packed(fitting, count, wanted, exchange).await
            }
            Ok(count) => self.put_object(None, (first, count), wanted, exchange).await,
            Err(e) => refuse_body(exchange, BodyError::Client(e)).await,
        }
    }

    /// A buffer for what is left of a body, at most one write.
    async fn upload_buffer(&self, io: &I, left: Option<u64>) -> Option<Buffer> {
        let want = left.map_or(WRITE_BYTES, |left| left.min(WRITE_BYTES as u64) as usize);
        self.buffer(io, |io| io.buffer(want)).await
    }

    async fn put_object(
        &self,
        length: Option<u64>,
        first: (Buffer, usize),
        wanted: Wanted,
        exchange: &mut Exchange<'_, I>,
    ) -> io::Result<()> {
        let writer = match self.columns.begin_object(length, Class::Foreground).await {
            Ok(writer) => writer,
            Err(e) => return refuse_body(exchange, BodyError::Store(e)).await,
        };
        let (writer, digest) = match self.receive(writer, first, exchange).await {
            Ok(received) => received,
            Err(e) => return refuse_body(exchange, e).await,
        };
        if wanted.expected.is_some_and(|e| e != digest) {
            return refuse_mismatch(exchange, &digest).await;
        }
        let incoming = match writer.finish().await {
            Ok(incoming) => incoming,
            Err(e) => return refuse_body(exchange, BodyError::Store(e)).await,
        };
        let size = incoming.size;
        let reply = self.columns.ask(&digest, Request::Commit(digest, incoming, wanted.keep)).await;
        answer_stored(reply, &digest, size, exchange).await
    }

    /// Reads the rest of the body into the file and hashes it on the way.
    async fn receive(
        &self,
        mut writer: ObjectWriter<I>,
        (mut buf, mut filled): (Buffer, usize),
        exchange: &mut Exchange<'_, I>,
    ) -> Result<(ObjectWriter<I>, Digest), BodyError> {
        let mut hash = Sha256::new();
        loop {
            let end = WRITE_BYTES.min(buf.capacity());
            let mut ended = false;
            if filled < end {
                let (read, back) = exchange.read_body(buf, filled, end).await;
                buf = back;
                filled += read.map_err(BodyError::Client)?;
                ended = filled < end;
            }
            for part in buf[..filled].chunks(HASH_BYTES) {
                hash.update(part);
                exchange.io().yield_now().await;
            }
            if filled > 0 {
                writer.write(buf, filled).await.map_err(BodyError::Store)?;
            }
            if ended || exchange.body_length() == Some(0) {
                return Ok((writer, Digest(hash.finalize().into())));
            }
            buf = self.upload_buffer(exchange.io(), exchange.body_length()).await.ok_or(BodyError::Busy)?;
            filled = 0;
        }
    }
}

async fn answer_stored<I: Io>(
    reply: Result<Reply, runtime::call::CallBusy>,
    digest: &Digest,
    size: u64,
    exchange: &mut Exchange<'_, I>,
) -> io::Result<()> {
    match reply {
        Ok(Reply::Stored(Ok(_))) => answer_created(exchange, digest, size).await,
        Ok(Reply::Stored(Err(e))) => refuse_put(exchange, &e).await,
        Ok(_) => unreachable!("a put has its own reply"),
        Err(busy) => exchange.refuse(Status::ServiceUnavailable, &busy.to_string()).await,
    }
}

/// 201: it is on stable storage.
pub(super) async fn answer_created<I: Io>(
    exchange: &mut Exchange<'_, I>,
    digest: &Digest,
    size: u64,
) -> io::Result<()> {
    let body = format!("{{\"digest\":\"{digest}\",\"size\":{size}}}\n");
    let location = format!("/blobs/{digest}");
    exchange.head(Status::Created, |head| {
        let head = head.header("Location", location.as_bytes()).header("Content-Type", b"application/json");
        head.content_length(body.len() as u64)
    });
    exchange.send(body.as_bytes()).await
}

async fn refuse_mismatch<I: Io>(exchange: &mut Exchange<'_, I>, digest: &Digest) -> io::Result<()> {
    exchange.refuse(Status::UnprocessableContent, &format!("the body is {digest}")).await
}

async fn refuse_body<I: Io>(exchange: &mut Exchange<'_, I>, e: BodyError) -> io::Result<()> {
    match e {
        BodyError::Busy => {
            exchange.refuse(Status::ServiceUnavailable, "no memory for another upload now").await
        }
        BodyError::Store(e) => refuse_put(exchange, &e).await,
        BodyError::Client(e) => {
            exchange.close_after();
            let late = exchange.is_late();
            let status = if late { Status::RequestTimeout } else { Status::BadRequest };
            let what = if late {
                "the body took too long".to_owned()
            } else {
                format!("the body is malformed or cut short: {e}")
            };
            exchange.refuse(status, &what).await
        }
    }
}
