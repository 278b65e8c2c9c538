//! Answering PURGE: 200 once the orders are on stable storage and hold on every column. The log has a line of what was purged, and one of
//! what was not.

use super::SliceService;
use crate::columns::Columns;
use crate::limits::PURGE_LOGGED_BYTES_MAX;
use crate::state::purge::{Purge, listed};
use net::Exchange;
use net::http1::Status;
use runtime::io::Io;
use runtime::oneshot::Oneshot;
use std::io;
use std::net::IpAddr;

impl<I: Io> SliceService<I> {
    pub(super) async fn purge(&self, purges: &[Purge], exchange: &mut Exchange<'_, I>) -> io::Result<()> {
        let (done, outcome) = Oneshot::new();
        let (columns, orders, peer) = (self.columns.clone(), purges.to_vec(), exchange.peer());
        // A task of its own: what a client orders that goes away is done as a whole all the same, and logged.
        self.columns.local().spawn("slice-purges", async move {
            done.set(purge_all(&columns, &orders, peer).await);
        });
        match exchange.wait_for(outcome).await? {
            Ok(()) => exchange.answer(Status::Ok, "application/json", b"{\"purged\":true}\n").await,
            Err(why) => exchange.refuse(Status::ServiceUnavailable, &why).await,
        }
    }
}

/// One order after the other, until one cannot be written down.
async fn purge_all<I: Io>(
    columns: &Columns<I>,
    orders: &[Purge],
    peer: Option<IpAddr>,
) -> Result<(), String> {
    let (mut held, mut failed) = (0, None);
    for order in orders {
        if let Err(why) = columns.purge(order.clone()).await {
            failed = Some(why);
            break;
        }
        columns.local().metrics.purges.inc();
        held += 1;
    }
    let (purged, left) = orders.split_at(held);
    let (is_soft, peer) = (orders.iter().any(|order| order.is_soft), peer.map(tracing::field::display));
    if !purged.is_empty() {
        tracing::info!(names = %listed(purged, PURGE_LOGGED_BYTES_MAX), is_soft, peer, "purged");
    }
    let Some(why) = failed else { return Ok(()) };
    tracing::error!(names = %listed(left, PURGE_LOGGED_BYTES_MAX), is_soft, peer, %why, "not purged");
    Err(refusal(&why, held, orders.len()))
}

/// What a client is told of orders of which the first ones hold.
fn refusal(why: &str, held: usize, all: usize) -> String {
    match held {
        0 => format!("nothing was purged: {why}"),
        _ => format!("of {all} orders {held} hold, the others do not: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_told_how_many_of_its_orders_hold() {
        assert_eq!(refusal("full", 0, 3), "nothing was purged: full");
        assert_eq!(refusal("full", 2, 3), "of 3 orders 2 hold, the others do not: full");
    }
}
