//! GET of a blob that is not stored but being fetched, or that is gone or damaged and can be fetched again: what has arrived is
//! sent while the rest comes. Called by `get`.
//!
//! Invariants
//! 1. Bytes come from the file that the fetch writes, each block checked against the sum it was written with.
//! 2. The last bytes of an answer are held back until the whole blob is verified and stored: an answer under a digest is
//!    never complete with bytes of another. Cut short before, it is the client's to ask again.

use super::fetch::refuse_fetch;
use super::get::Source;
use super::route::Lifetime;
use super::{BlobService, refuse_read};
use crate::api::{FetchError, FetchKey, Whence};
use crate::fetch::{Ticket, Wanted};
use crate::metrics::reads::{Depth, Level};
use crc32c::crc32c;
use net::Exchange;
use net::http1::Status;
use runtime::io::{File, Io, Open};
use runtime::tier::{BLOCK_BYTES, Digest, Found};
use std::io;
use std::ops::Range;
use std::path::PathBuf;

/// Read, checked and sent at a time.
const STEP_BYTES: u64 = 256 << 10;
const BLOCK: u64 = BLOCK_BYTES as u64;

/// A blob on its way.
pub(super) struct Arriving {
    ticket: Ticket,
    pub(super) size: u64,
    generation: u32,
    path: PathBuf,
}

/// What there is of a blob that is not stored.
pub(super) enum Arrival {
    /// Its bytes, now or soon.
    Source(Source),
    /// Nothing.
    None,
    /// A failure that the client was told.
    Refused,
}

/// What can be sent now.
enum Ready {
    /// Up to this byte.
    Until(u64),
    /// Nothing more, for this reason.
    Failed(FetchError),
    /// The origin's object changed: what was sent counts no more.
    Changed,
}

impl<I: Io> BlobService<I> {
    /// Waits until a blob that is not stored is, or until its bytes begin to arrive. An error: the client went away.
    pub(super) async fn await_origin(
        &self,
        digest: Digest,
        depth: &Depth,
        exchange: &mut Exchange<'_, I>,
    ) -> io::Result<Arrival> {
        let owner = self.columns.local();
        let keep = self.keep(Lifetime::default(), true);
        let wanted = owner.fetches.want(FetchKey::Digest(digest), Whence::Remembered, keep).await;
        let ticket = match wanted {
            Wanted::Unknown => return Ok(Arrival::None),
            Wanted::Stored(_) => return self.stored_meanwhile(digest, exchange).await,
            Wanted::Busy => {
                refuse_fetch(exchange, &FetchError::Busy).await?;
                return Ok(Arrival::Refused);
            }
            Wanted::Coming(ticket) => ticket,
        };
        depth.reach(Level::Origin);
        if !exchange.is_head() {
            ticket.read();
        }
        loop {
            let (seen, file, outcome) = ticket.look(|p| (p.seen(), p.file.clone(), p.outcome.clone()));
            match (outcome, file) {
                (Some(Ok(_)), _) => return self.stored_meanwhile(digest, exchange).await,
                (Some(Err(e)), _) => {
                    refuse_absent(exchange, &e).await?;
                    return Ok(Arrival::Refused);
                }
                (None, Some((path, size))) => {
                    let generation = seen.generation;
                    return Ok(Arrival::Source(Source::Arriving(Arriving {
                        ticket,
                        size,
                        generation,
                        path,
                    })));
                }
                (None, None) => exchange.wait_for(ticket.changed(seen)).await?,
            }
        }
    }

    async fn stored_meanwhile(&self, digest: Digest, exchange: &mut Exchange<'_, I>) -> io::Result<Arrival> {
        match self.find(digest).await {
            Ok(found) => Ok(found.map_or(Arrival::None, |f| Arrival::Source(Source::Found(f)))),
            Err(e) => {
                refuse_read(exchange, &e).await?;
                Ok(Arrival::Refused)
            }
        }
    }

    /// Sends a stretch behind the head that was written, as its bytes arrive.
    pub(super) async fn send_arriving(
        &self,
        (digest, depth): (&Digest, &Depth),
        arriving: &Arriving,
        range: Range<u64>,
        exchange: &mut Exchange<'_, I>,
    ) -> io::Result<()> {
        if exchange.is_head() {
            return exchange.send(&[]).await;
        }
        let mut file = None;
        let mut at = range.start;
        while at < range.end {
            let (seen, ready) = arriving.ready(range.end);
            let until = match ready {
                Ready::Until(until) => until,
                Ready::Failed(e) if exchange.nothing_sent() => return refuse_absent(exchange, &e).await,
                Ready::Changed if exchange.nothing_sent() => {
                    let what = "the origin's content changed while it was fetched: ask again";
                    return exchange.refuse(Status::ServiceUnavailable, what).await;
                }
                Ready::Failed(_) | Ready::Changed => {
                    return Err(io::Error::other("the fetch did not bring the blob"));
                }
            };
            // As it comes to it: a whole GET is no wish for the last byte at once.
            arriving.ticket.wants(at..range.end.min(at + STEP_BYTES));
            if until <= at {
                exchange.wait_for(arriving.ticket.changed(seen)).await?;
                continue;
            }
            if file.is_none() {
                file = self.open_arriving(digest, arriving).await?;
            }
            let Some(file) = &file else {
                exchange.wait_for(arriving.ticket.changed(seen)).await?;
                continue;
            };
            let sent_bytes = self.send_step(file, arriving, at..until, exchange).await?;
            self.count_sent(depth, Level::Origin, sent_bytes);
            at += sent_bytes;
        }
        Ok(())
    }

    /// The file that is being written, or the blob's own once it is stored; `None` when it is neither just now: news follow.
    async fn open_arriving(&self, digest: &Digest, arriving: &Arriving) -> io::Result<Option<I::File>> {
        let is_stored = arriving.ticket.look(|p| matches!(p.outcome, Some(Ok(_))));
        if !is_stored {
            return match self.io().open(&arriving.path, Open::ReadDirect).await {
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
                opened => opened.map(Some),
            };
        }
        match self.find(*digest).await {
            Ok(Some(Found::Object(object))) => self.io().open(&object.path, Open::ReadDirect).await.map(Some),
            _ => Err(io::Error::other("the blob is gone already")),
        }
    }

    /// Reads whole blocks, checks them, sends what was asked for of them.
    async fn send_step(
        &self,
        file: &I::File,
        arriving: &Arriving,
        wanted: Range<u64>,
        exchange: &mut Exchange<'_, I>,
    ) -> io::Result<u64> {
        let start = wanted.start / BLOCK * BLOCK;
        let end = wanted.end.min(start + STEP_BYTES);
        let len = (end.next_multiple_of(BLOCK).min(arriving.size) - start) as usize;
        let mut turn = exchange.wait_for(self.disk_reads.take()).await?;
        let buf = self.io().buffer(len).ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        let (read, buf) = file.read_at(buf, len, start).await;
        read?;
        let first = (start / BLOCK) as usize;
        let is_whole = arriving.ticket.look(|p| {
            let blocks = buf[..len].chunks(BLOCK_BYTES);
            p.generation == arriving.generation
                && p.sums.len() >= first + blocks.len()
                && blocks.zip(&p.sums[first..]).all(|(block, &sum)| crc32c(block) == sum)
        });
        if !is_whole {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "what was written is not what arrived"));
        }
        let bytes = &buf[(wanted.start - start) as usize..(end - start) as usize];
        self.send_in_turn(&mut turn, bytes, exchange).await?;
        Ok(end - wanted.start)
    }
}

impl Arriving {
    /// How far an answer that ends at `end` can be sent.
    fn ready(&self, end: u64) -> (crate::fetch::Seen, Ready) {
        self.ticket.look(|p| {
            let ready = match &p.outcome {
                _ if p.generation != self.generation => Ready::Changed,
                Some(Ok(_)) => Ready::Until(end),
                Some(Err(e)) => Ready::Failed(e.clone()),
                // Whole blocks, and never the last byte.
                None => Ready::Until(p.written.min(end - 1) / BLOCK * BLOCK),
            };
            (p.seen(), ready)
        })
    }
}

/// For one who wants the digest, an origin that has something else has nothing.
async fn refuse_absent<I: Io>(exchange: &mut Exchange<'_, I>, e: &FetchError) -> io::Result<()> {
    match e {
        FetchError::Mismatch(_) => {
            exchange.refuse(Status::NotFound, &format!("no such blob any more: {e}")).await
        }
        e => refuse_fetch(exchange, e).await,
    }
}
