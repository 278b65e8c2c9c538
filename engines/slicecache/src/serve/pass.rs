//! Passing a request through to its origin and the origin's answer back, both bodies as they come.
//!
//! Invariants
//! 1. Of each body there is one buffer of [`PASSED_PIECE_BYTES`] in memory.
//! 2. A request is sent once: what cannot be repeated is not.

use super::SliceService;
use super::route::Routed;
use crate::api::Refused;
use crate::limits::{PASSED_PIECE_BYTES, SMALL_BYTES_MAX};
use crate::state::fields::Fields;
use crate::state::forward::{Bypassed, Line, of_passed_answer, of_passed_request};
use crate::state::freshness::invalidates;
use crate::state::key::Name;
use crate::state::status::{Forwarded, Told, via};
use crate::upstream::{Closed, Upstream, is_trouble, is_trouble_of};
use net::Exchange;
use net::client::{Ask, ClientError, Reply};
use net::exchange::Length;
use net::http1::{Method, ReplyLength, Status};
use runtime::io::Io;
use std::io;
use std::rc::Rc;

impl<I: Io> SliceService<I> {
    pub(super) async fn pass(
        &self,
        routed: &Routed,
        why: Bypassed,
        exchange: &mut Exchange<'_, I>,
    ) -> io::Result<()> {
        let owner = self.columns.local();
        let upstream = &owner.upstreams[routed.origin];
        // Of what goes out its length is known, or that somebody has much to say; of what comes back how large it was the last time.
        let has_little = exchange.body_length().is_some_and(|bytes| bytes <= SMALL_BYTES_MAX);
        let name = routed.key.name();
        let is_small = has_little && (exchange.is_head() || !owner.passed.borrow().was_large(&name));
        let mut turn = match exchange.wait_for(upstream.turn(is_small)).await? {
            Ok(turn) => turn,
            Err(closed) => {
                let why = match closed {
                    Closed::Busy => "too many requests wait for the origin",
                    Closed::Open => "the origin fails and is left alone for a while",
                };
                return exchange.refuse(Status::ServiceUnavailable, why).await;
            }
        };
        let answered = self.ask_origin(routed, upstream, exchange).await?;
        let is_well = match &answered {
            Ok(reply) => Some(!is_trouble(reply.head.status)),
            Err(Unpassed::ByOrigin(e)) => Some(!is_trouble_of(e)),
            // A client that spoils its body says nothing of the origin.
            Err(Unpassed::ByClient(_)) => None,
        };
        if let Some(is_well) = is_well {
            turn.on_outcome(is_well);
        }
        let reply = match answered {
            Ok(reply) => reply,
            Err(Unpassed::ByClient(refused)) => return self.refuse(refused, exchange).await,
            Err(Unpassed::ByOrigin(e)) => {
                tracing::debug!(origin = %upstream.url.without_query(), error = %e, "a request could not be passed");
                return self.refuse(refused(&e), exchange).await;
            }
        };
        if invalidates(routed.method, reply.head.status) {
            exchange.wait_for(self.columns.invalidate(routed.key.name(), routed.key.target())).await?;
        }
        self.relay(routed, (&name, why), reply, exchange).await
    }

    async fn ask_origin(
        &self,
        routed: &Routed,
        upstream: &Rc<Upstream<I>>,
        exchange: &mut Exchange<'_, I>,
    ) -> io::Result<Result<Reply<I>, Unpassed>> {
        let fields = Fields::of_pairs(routed.lines());
        let mut lines = of_passed_request(&fields);
        let (before, received) = (fields.joined("via"), exchange.protocol().trim_start_matches("HTTP/"));
        lines.push((b"Via".to_vec(), via(received, before.as_deref())));
        let url = upstream.url_of(&routed.key.target());
        let ask = Ask { method: &routed.method_name, url: &url, fields: &lines };
        match exchange.body_length() {
            Some(0) => Ok(exchange.wait_for(upstream.client.ask(&ask)).await?.map_err(Unpassed::ByOrigin)),
            length => match exchange.wait_for(upstream.client.begin(&ask, length)).await? {
                Ok(sending) => self.send_body(sending, exchange).await,
                Err(e) => Ok(Err(Unpassed::ByOrigin(e))),
            },
        }
    }

    async fn send_body(
        &self,
        mut sending: net::client::Sending<I>,
        exchange: &mut Exchange<'_, I>,
    ) -> io::Result<Result<Reply<I>, Unpassed>> {
        let owner = self.columns.local();
        let Some(mut buf) = owner.buffer(PASSED_PIECE_BYTES).await else {
            return Err(io::ErrorKind::OutOfMemory.into());
        };
        loop {
            let (read, back) = exchange.read_body(buf, 0, PASSED_PIECE_BYTES).await;
            buf = back;
            let Ok(count) = read else {
                // The origin was not told the end: it takes nothing of it for a request.
                exchange.close_after();
                return Ok(Err(Unpassed::ByClient(match exchange.is_late() {
                    true => Refused::new(Status::RequestTimeout, "the body took too long"),
                    false => Refused::new(Status::BadRequest, "the body is malformed or cut short"),
                })));
            };
            if sending.write(&buf[..count]).await.is_err() {
                // It may have answered before it was told everything.
                exchange.close_after();
                break;
            }
            if count < PASSED_PIECE_BYTES {
                break;
            }
        }
        Ok(exchange.wait_for(sending.finish()).await?.map_err(Unpassed::ByOrigin))
    }

    async fn relay(
        &self,
        routed: &Routed,
        (name, why): (&Name, Bypassed),
        mut reply: Reply<I>,
        exchange: &mut Exchange<'_, I>,
    ) -> io::Result<()> {
        let is_bodiless = matches!(reply.head.status, 204 | 304);
        let length = match reply.head.length {
            _ if is_bodiless => Length::None,
            ReplyLength::Length(length) => Length::Known(length),
            ReplyLength::Chunked | ReplyLength::UntilClose if exchange.is_head() => Length::None,
            ReplyLength::Chunked | ReplyLength::UntilClose => Length::Unknown,
        };
        self.relay_head(routed, why, &reply, length, exchange);
        if is_bodiless || exchange.is_head() || length == Length::Known(0) {
            return exchange.send(&[]).await;
        }
        if length == Length::Unknown && !reply.has_received() {
            // Who listens to a stream wants to know that it is there.
            exchange.send(&[]).await?;
        }
        let owner = self.columns.local();
        let mut bytes = 0;
        if let Length::Known(bytes) = length {
            owner.passed.borrow_mut().note(name, bytes);
        }
        let Some(mut buf) = owner.buffer(PASSED_PIECE_BYTES).await else {
            return Err(io::ErrorKind::OutOfMemory.into());
        };
        while !reply.has_ended() {
            let (count, read, back) = exchange.wait_for(reply.read_some(buf, PASSED_PIECE_BYTES)).await?;
            buf = back;
            match length {
                Length::Unknown => {
                    bytes += count as u64;
                    // Until then, or until its end, what is known of the last one holds.
                    if bytes > SMALL_BYTES_MAX || reply.has_ended() {
                        owner.passed.borrow_mut().note(name, bytes);
                    }
                    exchange.send_piece(&buf[..count]).await?;
                }
                _ if count > 0 => exchange.send(&buf[..count]).await?,
                _ => {}
            }
            read.map_err(|e| io::Error::other(e.to_string()))?;
        }
        if length == Length::Unknown { exchange.end_pieces().await } else { Ok(()) }
    }

    fn relay_head(
        &self,
        routed: &Routed,
        why: Bypassed,
        reply: &Reply<I>,
        length: Length,
        exchange: &mut Exchange<'_, I>,
    ) {
        let fields = Fields::of_reply(&reply.head);
        let lines: Vec<Line> = of_passed_answer(&fields);
        let status = reply.head.status;
        let told = Told {
            slices_here: 0,
            slices: 0,
            is_stale: false,
            forwarded: Some(match why {
                Bypassed::Method if !matches!(routed.method, Method::Get | Method::Head) => Forwarded::Method,
                _ => Forwarded::Bypass,
            }),
            forwarded_status: Some(status),
            is_collapsed: false,
            ttl_s: None,
            is_stored: false,
            not_stored: match why {
                Bypassed::NotStored(why) => why,
                _ => None,
            },
        };
        routed.told.set(Some(told));
        self.columns.local().metrics.outcomes.count(told.outcome());
        let date = (!fields.has("date")).then(|| exchange.date().as_bytes().to_vec());
        exchange.relay_head(status, length, |mut out| {
            for (name, value) in &lines {
                out = out.line(name, value);
            }
            if let Some(date) = &date {
                out = out.header("date", date);
            }
            out.header("via", &via(reply.head.version(), fields.joined("via").as_deref()))
                .header("cache-status", &told.cache_status(fields.joined("cache-status").as_deref()))
                .header("x-cache", told.x_cache().as_bytes())
        });
    }
}

/// Whose doing it is that a request could not be passed.
enum Unpassed {
    ByClient(Refused),
    ByOrigin(ClientError),
}

/// What a client is told of a request that could not be passed.
fn refused(e: &ClientError) -> Refused {
    match e {
        ClientError::Timeout(_) => Refused::new(Status::GatewayTimeout, "the origin took too long"),
        ClientError::Connect(..) => Refused::new(Status::BadGateway, "the origin cannot be reached"),
        _ => Refused::new(Status::BadGateway, "the origin's answer broke off or cannot be used"),
    }
}
