//! One fetch: learns size and version from the first part, receives the rest in parallel, stores it. Called by `fetch`.
//!
//! Invariants
//! 1. What is stored is one version of the origin's object: when it changes under the fetch all is received anew, once.
//! 2. Without ranges, or without a validator to tell versions apart, the body comes as one stream.

use super::PART_BYTES;
use super::part::Version;
use super::retry::{Failure, Tries};
use super::sink::Sink;
use super::watch::Watch;
use super::window::Window;
use crate::api::{FetchError, Fetched};
use crate::metrics::Metrics;
use crate::shard::Columns;
use net::client::{Client, Reply, Url};
use net::http1::{ContentRange, parse_content_range};
use runtime::io::Io;
use runtime::permits::Permits;
use runtime::tier::{Digest, Keep};
use std::cell::Cell;

/// What a fetch is to bring.
pub struct Job<'j, I: Io> {
    pub columns: &'j Columns<I>,
    pub client: &'j Client<I>,
    pub pages: &'j Permits,
    pub watch: &'j Watch,
    pub url: Url,
    pub expected: Option<Digest>,
    /// How what it brings is kept.
    pub keep: Keep,
}

/// One go at it.
pub struct Pulling<'j, I: Io> {
    pub(super) io: &'j I,
    pub(super) metrics: &'j Metrics,
    pub(super) columns: &'j Columns<I>,
    pub(super) client: &'j Client<I>,
    /// The origin has another version now.
    pub(super) has_changed: Cell<bool>,
}

/// The first answer.
enum Opened<I: Io> {
    /// The first part of many, or all of it.
    Ranged(Reply<I>, Version),
    /// The whole body.
    Whole(Reply<I>),
}

/// How a go at it failed.
enum Broken {
    /// For good, after its own retries.
    Failed(Failure),
    /// The stream broke off; it can only be had from its beginning.
    Stream(Failure),
    /// The origin's object changed.
    Changed,
}

impl<I: Io> Job<'_, I> {
    /// Runs to the end; dropped while nothing holds the watch, it stores nothing and leaves nothing.
    pub async fn run(&self) -> Result<Fetched, FetchError> {
        let (io, metrics) = (self.columns.local().io(), &self.columns.local().metrics);
        let mut tries = Tries::default();
        let mut changed = false;
        loop {
            let pulling = Pulling {
                io,
                metrics,
                columns: self.columns,
                client: self.client,
                has_changed: Cell::new(false),
            };
            let failure = match self.pull(&pulling, &mut tries).await {
                Ok(fetched) => return Ok(fetched),
                Err(Broken::Changed) if changed => return Err(FetchError::Changed),
                Err(Broken::Changed) => {
                    changed = true;
                    self.watch.restart();
                    continue;
                }
                Err(Broken::Failed(failure)) => return Err(failure.error),
                Err(Broken::Stream(failure)) => failure,
            };
            tries.again(io, metrics, failure).await.map_err(|f| f.error)?;
            self.watch.restart();
        }
    }

    async fn pull(&self, pulling: &Pulling<'_, I>, tries: &mut Tries) -> Result<Fetched, Broken> {
        match self.open(pulling, tries).await.map_err(Broken::Failed)? {
            Opened::Ranged(reply, version) => self.pull_parts(pulling, reply, version).await,
            Opened::Whole(reply) => self.pull_stream(pulling, reply).await,
        }
    }

    /// Asks for the first part, and for all of it where parts are of no use.
    async fn open(&self, pulling: &Pulling<'_, I>, tries: &mut Tries) -> Result<Opened<I>, Failure> {
        let first = format!("bytes=0-{}", PART_BYTES - 1);
        let mut in_parts = true;
        loop {
            let range = [("Range", first.as_str())];
            pulling.metrics.fetch_parts.inc();
            let asked = self.client.get(&self.url, if in_parts { &range } else { &[] }).await;
            let failure = match asked {
                Err(e) => e.into(),
                Ok(reply) => {
                    self.log_redirect(&reply);
                    match reply.head.status {
                        200 => return Ok(Opened::Whole(reply)),
                        206 if in_parts => match self.first_part(&reply) {
                            First::Parts(version) => return Ok(Opened::Ranged(reply, version)),
                            First::Unusable(failure) => failure,
                            First::Stream => {
                                in_parts = false;
                                continue;
                            }
                        },
                        // An empty object has no byte 0.
                        416 if in_parts => {
                            in_parts = false;
                            continue;
                        }
                        206 => Failure::for_good(FetchError::Origin(206)),
                        _ => Failure::status(&reply),
                    }
                }
            };
            tries.again(pulling.io, pulling.metrics, failure).await?;
        }
    }

    fn first_part(&self, reply: &Reply<I>) -> First {
        let found = reply.head.header("content-range").and_then(parse_content_range);
        match found {
            Some(ContentRange { range: Some((0, last)), size: Some(size) })
                if last == size.min(PART_BYTES) - 1 && reply.length().is_none_or(|l| l == last + 1) =>
            {
                let version = Version::of(&reply.head, size);
                // The digest tells a mixture too.
                let is_safe = version.validator.is_some() || self.expected.is_some();
                if size <= PART_BYTES || is_safe { First::Parts(version) } else { First::Stream }
            }
            Some(ContentRange { range: Some((0, _)), size: None }) => First::Stream,
            _ => First::Unusable(Failure::passing(FetchError::Unusable(
                "the origin's Content-Range is not what was asked for".into(),
            ))),
        }
    }

    fn log_redirect(&self, reply: &Reply<I>) {
        if reply.url != self.url {
            tracing::info!(
                url = %self.url.without_query(),
                target = %reply.url.without_query(),
                "the origin redirects"
            );
        }
    }

    async fn pull_parts(
        &self,
        pulling: &Pulling<'_, I>,
        reply: Reply<I>,
        version: Version,
    ) -> Result<Fetched, Broken> {
        let broken = |failure| match pulling.has_changed.get() {
            true => Broken::Changed,
            false => Broken::Failed(failure),
        };
        let (size, url, version) = (version.size, reply.url.clone(), &version);
        let url = &url;
        let mut sink = Sink::new(self.columns, self.watch, self.keep, Some(size));
        let mut window = Window::default();
        let mut next = size.min(PART_BYTES);
        let range = 0..next;
        window.begin(None, |filled| pulling.pull_part(url, version, range, Some(reply), filled));
        loop {
            while next < size && window.has_room() {
                let page = self.pages.try_acquire();
                if page.is_none() && !window.is_empty() {
                    break;
                }
                let range = next..size.min(next + PART_BYTES);
                next = range.end;
                self.watch.on_asked(range.start);
                window.begin(page, |filled| pulling.pull_part(url, version, range, None, filled));
            }
            match window.next().await.map_err(broken)? {
                Some((buffer, len)) => {
                    window.beside(sink.take(buffer, len)).await.map_err(broken)?.map_err(Broken::Failed)?;
                }
                None if next == size && window.is_empty() => break,
                None => {}
            }
        }
        sink.finish(self.expected).await.map_err(Broken::Failed)
    }

    async fn pull_stream(&self, pulling: &Pulling<'_, I>, reply: Reply<I>) -> Result<Fetched, Broken> {
        let mut sink = Sink::new(self.columns, self.watch, self.keep, reply.length());
        let mut window = Window::default();
        window.begin(None, |filled| pulling.pull_whole(reply, filled));
        while !window.is_empty() {
            if let Some((buffer, len)) = window.next().await.map_err(Broken::Stream)? {
                let taken = window.beside(sink.take(buffer, len)).await.map_err(Broken::Stream)?;
                taken.map_err(Broken::Failed)?;
            }
        }
        sink.finish(self.expected).await.map_err(Broken::Failed)
    }
}

/// What the first part's answer is good for.
enum First {
    Parts(Version),
    Stream,
    Unusable(Failure),
}
