//! Sending an answer that is kept whole in memory: its own status, fields and body; of a 200, ranges too.

use super::SliceService;
use super::answer::{Frame, told, write_head};
use super::route::Routed;
use crate::api::{Head, Kept};
use crate::state::fields::Fields;
use bytes::Bytes;
use net::Exchange;
use net::exchange::Length;
use runtime::io::Io;
use std::io;

impl<I: Io> SliceService<I> {
    /// Of a 200: its ranges of a body that is here.
    pub(super) async fn send_whole(
        &self,
        head: &Head,
        body: &Bytes,
        exchange: &mut Exchange<'_, I>,
    ) -> io::Result<()> {
        write_head(head, exchange);
        if head.answer.ranges.is_empty() {
            return exchange.send(&[]).await;
        }
        let mut frame = Frame::new(&head.answer.ranges, head.answer.multipart.as_ref());
        for range in &head.answer.ranges {
            if let Some(prelude) = frame.advance(range.end - range.start) {
                exchange.send(prelude).await?;
            }
            let (from, to) = (range.start as usize, range.end as usize);
            exchange.send(&body[from..to]).await?;
        }
        match &head.answer.multipart {
            Some(multipart) => exchange.send(&multipart.closing).await,
            None => Ok(()),
        }
    }

    /// Of any other status.
    pub(super) async fn send_kept(
        &self,
        routed: &Routed,
        kept: &Kept,
        exchange: &mut Exchange<'_, I>,
    ) -> io::Result<()> {
        routed.told.set(Some(kept.told));
        let stored = Fields::of_pairs(&kept.lines);
        let length = if kept.status == 204 { Length::None } else { Length::Known(kept.body.len() as u64) };
        exchange.relay_head(kept.status, length, |mut out| {
            for (name, value) in super::answer::sent_as_stored(&stored) {
                out = out.line(name, value);
            }
            told(&stored, kept.age_s, &kept.told, out)
        });
        exchange.send(&kept.body).await
    }
}
