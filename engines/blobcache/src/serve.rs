//! Blob HTTP: heads become [`route::Routed`] values, each kind of request has its file.
//!
//! | request | answer |
//! |---|---|
//! | `PUT /blobs` | 201, `Location`, `{"digest","size"}` |
//! | `PUT /blobs/sha256:<hex>` | the same; 422 if the body is another |
//! | `PUT …?ttl=7d&durability=none&pin=true` | gone after that time; may be dropped from disk to make room; not dropped all the same |
//! | `GET`/`HEAD /blobs/sha256:<hex>` | 200, 206, 304, 404, 412, 416 (RFC 9110 §13, §14) |
//! | `DELETE /blobs/sha256:<hex>` | 204, 404 |
//! | `POST /blobs/fetch` `{"url":…,"digest":…?}` | as PUT, the body coming from there; 404, 422, 502, 504; `durability=none` if not said |
//! | `GET /blobs?after=&limit=` | 200, a page |

mod arriving;
mod fetch;
mod get;
mod list;
mod put;
mod route;

pub use list::render as render_page;
pub use route::parse_ttl_ms;

use crate::limits::Limits;
use crate::shard::Columns;
use net::http1::{Head, Status};
use net::{Exchange, Refusal, Service};
use route::{Lifetime, Routed};
use runtime::io::Io;
use runtime::permits::Permits;
use runtime::tier::{Digest, Keep, PutError, ReadError};
use runtime::turns::Turns;
use std::io;
use std::rc::Rc;

/// The blob HTTP service of one column.
pub struct BlobService<I: Io> {
    columns: Rc<Columns<I>>,
    uploads: Permits,
    disk_reads: Turns,
    ttl_ms: Option<u64>,
}

impl<I: Io> BlobService<I> {
    /// The service of a column.
    pub fn new(columns: Rc<Columns<I>>, limits: &Limits) -> BlobService<I> {
        let uploads = Permits::new(limits.uploads_max);
        let disk_reads = Turns::new(limits.disk_reads_max, limits.slow_reads_max);
        BlobService { columns, uploads, disk_reads, ttl_ms: None }
    }

    /// Keeps blobs this long that are put without a time of their own.
    pub fn with_ttl_ms(mut self, ttl_ms: Option<u64>) -> BlobService<I> {
        self.ttl_ms = ttl_ms;
        self
    }

    fn io(&self) -> &I {
        self.columns.local().io()
    }

    /// How a body is kept; `evictable`: when nothing is said of that.
    fn keep(&self, lifetime: Lifetime, evictable: bool) -> Keep {
        let ttl_ms = lifetime.ttl_ms.or(self.ttl_ms);
        let expires_ms = ttl_ms.map_or(0, |ttl_ms| self.io().unix_ms() + ttl_ms);
        let evictable = lifetime.evictable.unwrap_or(evictable);
        Keep { expires_ms, evictable, pinned: lifetime.pinned }
    }

    async fn delete(&self, digest: Digest, exchange: &mut Exchange<'_, I>) -> io::Result<()> {
        match self.columns.ask(&digest, crate::api::Request::Delete(digest)).await {
            Ok(crate::api::Reply::Deleted(Ok(true))) => exchange.answer(Status::NoContent, "", &[]).await,
            Ok(crate::api::Reply::Deleted(Ok(false))) => {
                exchange.refuse(Status::NotFound, "no such blob").await
            }
            Ok(crate::api::Reply::Deleted(Err(e))) => refuse_put(exchange, &e).await,
            Ok(_) => unreachable!("a delete has its own reply"),
            Err(busy) => exchange.refuse(Status::ServiceUnavailable, &busy.to_string()).await,
        }
    }
}

impl<I: Io> Service<I> for BlobService<I> {
    type Request = Routed;

    fn route(&self, head: &Head<'_>) -> Result<Routed, Refusal> {
        route::route(head)
    }

    async fn respond(&self, request: Routed, exchange: &mut Exchange<'_, I>) -> io::Result<()> {
        match request {
            Routed::Get(digest, None) => self.get(digest, exchange).await,
            Routed::Get(digest, Some(conditions)) => {
                self.get_conditional(digest, &conditions, exchange).await
            }
            Routed::Put(expected, lifetime) => self.put(expected, lifetime, exchange).await,
            Routed::Delete(digest) => self.delete(digest, exchange).await,
            Routed::Fetch(lifetime) => self.fetch(lifetime, exchange).await,
            Routed::List(after, limit) => self.list(after, limit, exchange).await,
        }
    }

    fn on_answered(&self, status: u16, sent_bytes: u64, received_bytes: u64, took_ns: u64) {
        self.columns.local().metrics.on_answered(status, sent_bytes, received_bytes, took_ns);
    }

    fn on_connection(&self, change: i64) {
        self.columns.local().metrics.connections.add(change);
    }
}

async fn refuse_put<I: Io>(exchange: &mut Exchange<'_, I>, e: &PutError) -> io::Result<()> {
    let status = match e {
        PutError::NoSpace => Status::InsufficientStorage,
        PutError::Busy | PutError::Stopped(_) => Status::ServiceUnavailable,
    };
    exchange.refuse(status, &e.to_string()).await
}

async fn refuse_read<I: Io>(exchange: &mut Exchange<'_, I>, e: &ReadError) -> io::Result<()> {
    let status = match e {
        ReadError::Busy | ReadError::Out(_) => Status::ServiceUnavailable,
        ReadError::Damaged(_) | ReadError::Io(..) => Status::InternalServerError,
    };
    exchange.refuse(status, &e.to_string()).await
}
