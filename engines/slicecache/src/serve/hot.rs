//! Plain requests for what RAM has: answered with fields that were written before, without a look at anything else.

use super::SliceService;
use super::answer::{ACCEPT_RANGES, sent_as_stored, told};
use crate::shard::HotAnswer;
use crate::state::fields::Fields;
use crate::state::forward::Line;
use crate::state::plain::plain;
use crate::state::status::Told;
use net::Exchange;
use net::exchange::Length;
use net::http1::{Head, ResponseHead, Status};
use runtime::io::Io;
use std::io;

impl<I: Io> SliceService<I> {
    /// The answer to a head, if it is at hand. Its owner decides now: what is purged after that came after this request.
    pub(super) fn hot(&self, head: &Head<'_>) -> Option<HotAnswer> {
        // A line of the access log needs more of the request.
        if self.access.is_some() {
            return None;
        }
        self.columns.local().hot(&plain(head)?, write)
    }

    pub(super) async fn send_hot(&self, hot: HotAnswer, exchange: &mut Exchange<'_, I>) -> io::Result<()> {
        let (status, bytes) = match &hot.range {
            None => (Status::Ok, hot.size),
            Some(range) => (Status::PartialContent, range.end - range.start),
        };
        exchange.relay_head(status.code(), Length::Known(bytes), |out| {
            let out = out.fields(&hot.fields);
            match &hot.range {
                Some(range) => out.content_range(range, hot.size),
                None => out,
            }
        });
        self.send_held(&hot.step, exchange).await
    }
}

/// As `write_head` of `answer` does it for a 200 or a 206 with one range.
fn write(stored: &[Line], age_s: u64, is_told: &Told) -> Vec<u8> {
    let (stored, mut text) = (Fields::of_pairs(stored), Vec::new());
    let mut out = ResponseHead::lines_only(&mut text, Status::Ok);
    for (name, value) in sent_as_stored(&stored) {
        out = out.line(name, value);
    }
    let _ = told(&stored, age_s, is_told, out.fields(ACCEPT_RANGES));
    text
}
