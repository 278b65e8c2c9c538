//! Blobs of a mount that are not stored but come from where they came before: how large they are, and their bytes as they
//! arrive. On the column that owns them. Called by `nodes` and `read`.
//!
//! Invariants
//! 1. Bytes come from the file that the fetch writes, each block checked against the sum it was written with.
//! 2. The last block of a blob is given out when all of it is verified: nobody reads a file of other content to its end.
//! 3. Nobody waits for an origin that brings nothing for [`STALL_NS`], nor who waited in vain a moment ago.
//!
//! Units: monotonic nanoseconds, bytes.

use super::data::Data;
use super::failure::Failure;
use super::nodes::Nodes;
use super::read::BUSY_NS;
use crate::api::{FetchError, FetchKey, Whence};
use crate::fetch::{Progress, Ticket, Wanted};
use crate::shard::Owner;
use crc32c::crc32c;
use runtime::io::{File, Io, Open};
use runtime::patience::before;
use runtime::tier::{BLOCK_BYTES, Digest, Keep};
use std::cell::{Cell, RefCell};
use std::io;
use std::ops::Range;
use std::path::PathBuf;

/// How long an origin may bring nothing.
pub const STALL_NS: u64 = 10_000_000_000;
/// A read that follows one that waited in vain does not wait again for so long: the kernel asks twice for a page.
const GIVEN_UP_NS: u64 = 2_000_000_000;
const BLOCK: u64 = BLOCK_BYTES as u64;

/// A blob on its way.
pub(super) struct Arriving<I: Io> {
    ticket: Ticket,
    pub size: u64,
    generation: u32,
    path: PathBuf,
    file: RefCell<Option<I::File>>,
    is_served: Cell<bool>,
    given_up_ns: Cell<Option<u64>>,
}

/// What there is of a blob that is not stored.
pub(super) enum Arrived<I: Io> {
    /// It is stored by now.
    Stored,
    /// It is on its way.
    Coming(Arriving<I>),
    /// Nobody knows where it comes from.
    Nowhere,
}

/// How a fetch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It goes on.
    NotYet,
    /// What came is the blob.
    Well,
    /// What came may be something else.
    Badly,
}

impl<I: Io> Owner<I> {
    /// Waits until a blob that is not stored is, or until it is known how large it is.
    pub(super) async fn arrive(
        &self,
        nodes: &Nodes<I>,
        digest: &Digest,
        until_ns: u64,
    ) -> Result<Arrived<I>, Failure> {
        let expires_ms = nodes.hooks.ttl_ms.map_or(0, |ttl_ms| self.io().unix_ms() + ttl_ms);
        let keep = Keep { expires_ms, evictable: true, pinned: false };
        // On the heap: a fetch asks owners in its turn, so that its future would hold itself.
        let wanted = Box::pin(self.fetches.want(FetchKey::Digest(*digest), Whence::Remembered, keep)).await;
        let ticket = match wanted {
            Wanted::Unknown => return Ok(Arrived::Nowhere),
            Wanted::Stored(_) => return Ok(Arrived::Stored),
            Wanted::Busy => return Err(Failure::io(FetchError::Busy)),
            Wanted::Coming(ticket) => ticket,
        };
        let until_ns = until_ns.min(self.io().now_ns() + STALL_NS);
        loop {
            let (seen, file, outcome) = ticket.look(|p| (p.seen(), p.file.clone(), p.outcome.clone()));
            match (outcome, file) {
                (Some(Ok(_)), _) => return Ok(Arrived::Stored),
                (Some(Err(e)), _) => return absent(&e),
                (None, Some((path, size))) => {
                    let generation = seen.generation;
                    return Ok(Arrived::Coming(Arriving::new(ticket, size, generation, path)));
                }
                (None, None) => {
                    let news = before(self.io(), until_ns, ticket.changed(seen)).await;
                    news.ok_or_else(|| Failure::io("its origin does not answer"))?;
                }
            }
        }
    }

    /// Bytes of a blob on its way, when they are there. `Ok(None)`: it is stored, or comes anew: look again.
    pub(super) async fn read_arriving(
        &self,
        nodes: &Nodes<I>,
        (node, arriving): (u64, &Arriving<I>),
        range: &Range<u64>,
        until_ns: u64,
    ) -> Result<Option<Data>, Failure> {
        loop {
            if arriving.ending() != Ending::NotYet {
                let failed = arriving.failure();
                self.settle(nodes, node).map_err(|stale| failed.clone().unwrap_or(stale))?;
                return failed.map_or(Ok(None), Err);
            }
            arriving.ticket.wants(range.clone());
            if arriving.ready() >= range.end && self.open_arriving(arriving).await? {
                // Before the first byte leaves: whoever looks for the end of the fetch sees that there is something to mend.
                nodes.set_unverified(node, true);
                arriving.is_served.set(true);
                return arriving.read(self.io(), range, until_ns).await.map(Some);
            }
            self.await_more(arriving, until_ns).await?;
        }
    }

    async fn await_more(&self, arriving: &Arriving<I>, until_ns: u64) -> Result<(), Failure> {
        let now_ns = self.io().now_ns();
        let stalled = || Failure::io("its origin brings nothing more");
        if arriving.given_up_ns.get().is_some_and(|at_ns| now_ns < at_ns + GIVEN_UP_NS) {
            return Err(stalled());
        }
        let seen = arriving.ticket.look(Progress::seen);
        let until_ns = until_ns.min(now_ns + STALL_NS);
        match before(self.io(), until_ns, arriving.ticket.changed(seen)).await {
            Some(()) => {
                arriving.given_up_ns.set(None);
                Ok(())
            }
            None => {
                arriving.given_up_ns.set(Some(self.io().now_ns()));
                Err(stalled())
            }
        }
    }

    /// Opens the file that is being written; false if it is not there just now: news follow.
    async fn open_arriving(&self, arriving: &Arriving<I>) -> Result<bool, Failure> {
        if arriving.file.borrow().is_some() {
            return Ok(true);
        }
        match self.io().open(&arriving.path, Open::ReadDirect).await {
            Ok(file) => {
                *arriving.file.borrow_mut() = Some(file);
                Ok(true)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(Failure::io(e)),
        }
    }
}

impl<I: Io> Arriving<I> {
    fn new(ticket: Ticket, size: u64, generation: u32, path: PathBuf) -> Arriving<I> {
        let (file, is_served, given_up_ns) = (RefCell::default(), Cell::new(false), Cell::new(None));
        Arriving { ticket, size, generation, path, file, is_served, given_up_ns }
    }

    /// Whether the kernel was given bytes of it.
    pub fn is_served(&self) -> bool {
        self.is_served.get()
    }

    /// How the fetch ended.
    pub fn ending(&self) -> Ending {
        self.ticket.look(|p| match &p.outcome {
            _ if p.generation != self.generation => Ending::Badly,
            None => Ending::NotYet,
            Some(Ok(_)) => Ending::Well,
            Some(Err(_)) => Ending::Badly,
        })
    }

    /// Why it brought nothing.
    fn failure(&self) -> Option<Failure> {
        self.ticket.look(|p| match &p.outcome {
            Some(Err(e)) => Some(Failure::io(e)),
            _ => None,
        })
    }

    /// Up to where bytes can be given out: whole blocks, but never the last one.
    fn ready(&self) -> u64 {
        self.ticket.look(|p| p.written.min(self.size - 1) / BLOCK * BLOCK)
    }

    /// Reads whole blocks and checks them. Waits until then for memory.
    async fn read(&self, io: &I, range: &Range<u64>, until_ns: u64) -> Result<Data, Failure> {
        let file = self.file.borrow().clone().expect("opened before");
        let start = range.start / BLOCK * BLOCK;
        let len = (range.end.next_multiple_of(BLOCK).min(self.size) - start) as usize;
        let buf = loop {
            match io.buffer(len) {
                Some(buf) => break buf,
                None if io.now_ns() < until_ns => io.sleep(BUSY_NS).await,
                None => return Err(Failure::io("no memory for a read buffer")),
            }
        };
        let (read, buf) = file.read_at(buf, len, start).await;
        read.map_err(Failure::io)?;
        let first = (start / BLOCK) as usize;
        let is_whole = self.ticket.look(|p| {
            let blocks = buf[..len].chunks(BLOCK_BYTES);
            p.generation == self.generation
                && p.sums.len() >= first + blocks.len()
                && blocks.zip(&p.sums[first..]).all(|(block, &sum)| crc32c(block) == sum)
        });
        if !is_whole {
            return Err(Failure::io("what was written is not what arrived"));
        }
        let end = (range.end - start) as usize;
        Ok(Data::Bytes(buf.into_shared(end).slice((range.start - start) as usize..)))
    }
}

/// For one who wants the digest, an origin that has something else has nothing.
fn absent<I: Io>(e: &FetchError) -> Result<Arrived<I>, Failure> {
    match e {
        FetchError::Mismatch(_) | FetchError::Origin(404 | 410) => Ok(Arrived::Nowhere),
        e => Err(Failure::io(e)),
    }
}
