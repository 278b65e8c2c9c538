//! Where the bytes of a fetch go: hashed as they come, a small blob to its owner as bytes, a larger one into a file.
//! Called by `job`.
//!
//! Invariants
//! 1. Nothing is stored before the last byte came and the digest is the one that was asked for, if one was.
//! 2. While a file is made, or the blob stored, the fetch is not abandoned: those steps are not to be dropped half done.

use super::retry::Failure;
use super::watch::Watch;
use crate::api::{FetchError, Fetched, Reply, Request};
use crate::shard::{Columns, EVICT_BYTES};
use runtime::buffer::Buffer;
use runtime::io::{Class, Io};
use runtime::tier::{Digest, Keep, ObjectWriter, PACKED_BYTES_MAX, PutError};
use sha2::{Digest as _, Sha256};

/// Hashed before others get their turn.
const STEP_BYTES: usize = 128 << 10;

pub struct Sink<'j, I: Io> {
    columns: &'j Columns<I>,
    watch: &'j Watch,
    keep: Keep,
    size: Option<u64>,
    hash: Sha256,
    total: u64,
    /// The only buffer of a small blob.
    small: Option<(Buffer, usize)>,
    writer: Option<ObjectWriter<I>>,
}

impl<'j, I: Io> Sink<'j, I> {
    pub fn new(columns: &'j Columns<I>, watch: &'j Watch, keep: Keep, size: Option<u64>) -> Self {
        Sink { columns, watch, keep, size, hash: Sha256::new(), total: 0, small: None, writer: None }
    }

    /// Takes the next bytes.
    pub async fn take(&mut self, buffer: Buffer, len: usize) -> Result<(), Failure> {
        for part in buffer[..len].chunks(STEP_BYTES) {
            self.hash.update(part);
            self.columns.local().io().yield_now().await;
        }
        self.total += len as u64;
        if self.writer.is_none() {
            if len <= PACKED_BYTES_MAX {
                assert!(self.small.is_none(), "only the last buffer of a blob is small");
                self.small = Some((buffer, len));
                return Ok(());
            }
            self.writer = Some(self.begin().await?);
        }
        let writer = self.writer.as_mut().expect("just made");
        writer.write(buffer, len).await.map_err(write_failure)?;
        let (written, sums) = writer.progress().await.map_err(write_failure)?;
        self.watch.advance(written, sums);
        Ok(())
    }

    async fn begin(&self) -> Result<ObjectWriter<I>, Failure> {
        let _hold = self.watch.hold();
        let writer = self.columns.begin_object(self.size, Class::Fill).await.map_err(write_failure)?;
        if let Some(size) = self.size {
            self.watch.begin(writer.path().to_owned(), size);
        }
        Ok(writer)
    }

    /// All bytes are in: stores them if they are what was asked for.
    pub async fn finish(self, expected: Option<Digest>) -> Result<Fetched, Failure> {
        let digest = Digest(self.hash.finalize().into());
        if expected.is_some_and(|e| e != digest) {
            return Err(Failure::for_good(FetchError::Mismatch(digest)));
        }
        let size = self.total;
        let _hold = self.watch.hold();
        let stored = match self.writer {
            None => store_packed(self.columns, digest, self.small, self.keep).await,
            Some(writer) => {
                let incoming = writer.finish().await.map_err(write_failure)?;
                self.watch.advance(size, &incoming.sums);
                self.columns.ask(&digest, Request::Commit(digest, incoming, self.keep)).await
            }
        };
        match stored {
            Ok(Reply::Stored(Ok(_))) => Ok(Fetched { digest, size }),
            Ok(Reply::Stored(Err(e))) => Err(Failure::for_good(put_error(&e))),
            Ok(_) => unreachable!("a put has its own reply"),
            Err(_) => Err(Failure::for_good(FetchError::Busy)),
        }
    }
}

async fn store_packed<I: Io>(
    columns: &Columns<I>,
    digest: Digest,
    small: Option<(Buffer, usize)>,
    keep: Keep,
) -> Result<Reply, runtime::call::CallBusy> {
    let data = small.map_or_else(bytes::Bytes::new, |(buffer, len)| buffer.into_shared(len));
    let request = || Request::PutPacked(digest, data.clone(), keep);
    let reply = columns.ask(&digest, request()).await;
    if matches!(reply, Ok(Reply::Stored(Err(PutError::NoSpace)))) && columns.evict(EVICT_BYTES).await {
        return columns.ask(&digest, request()).await;
    }
    reply
}

fn put_error(e: &PutError) -> FetchError {
    match e {
        PutError::NoSpace => FetchError::NoSpace,
        PutError::Busy => FetchError::Busy,
        PutError::Stopped(reason) => FetchError::Store(reason.clone()),
    }
}

fn write_failure(e: PutError) -> Failure {
    Failure::for_good(put_error(&e))
}
