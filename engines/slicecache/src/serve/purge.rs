//! Answering PURGE: 200 once the order is on stable storage and holds on every column. The log has a line of what it named.

use super::SliceService;
use crate::limits::PURGE_LOGGED_BYTES_MAX;
use crate::state::purge::{Purge, listed};
use net::Exchange;
use net::http1::Status;
use runtime::io::Io;
use std::io;

impl<I: Io> SliceService<I> {
    pub(super) async fn purge(&self, purges: &[Purge], exchange: &mut Exchange<'_, I>) -> io::Result<()> {
        for purge in purges {
            if let Err(why) = exchange.wait_for(self.columns.purge(purge.clone())).await? {
                tracing::error!(%why, "nothing was purged");
                return exchange.refuse(Status::ServiceUnavailable, &why).await;
            }
            self.columns.local().metrics.purges.inc();
        }
        let is_soft = purges.iter().any(|purge| purge.is_soft);
        let names = listed(purges, PURGE_LOGGED_BYTES_MAX);
        let peer = exchange.peer().map(tracing::field::display);
        tracing::info!(%names, is_soft, peer, "purged");
        exchange.answer(Status::Ok, "application/json", b"{\"purged\":true}\n").await
    }
}
