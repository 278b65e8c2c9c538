//! The caching proxy of one column: its owner beside the blobs' in the same tier, its listener. Called by `columns`.

use super::columns::NodePlan;
use net::client::Client;
use net::{Door, Server};
use runtime::call::{Letter, letters};
use runtime::column::Column;
use runtime::io::Io;
use runtime::mesh::{Doorbell, Port};
use runtime::tier::Shard;
use slicecache::access::{self, AccessLog};
use slicecache::config::Config;
use slicecache::metrics::Metrics;
use slicecache::shard::MakeRoom;
use slicecache::{Columns, Owner, SliceService};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

/// What every column is told.
#[derive(Clone)]
pub struct SlicePlan {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What it does.
    pub config: Config,
    /// Its access log, if there is one.
    pub access: Option<access::Plan>,
}

/// The ends of a column for messages of this engine.
pub(super) type Letters = Port<Letter<slicecache::api::Request, slicecache::api::Reply>>;

/// Those of all columns.
pub(super) fn ports(bells: &[Arc<Doorbell>]) -> Vec<Letters> {
    letters(bells)
}

/// A column's part of the proxy.
pub(super) struct Slices<I: Io> {
    pub columns: Rc<Columns<I>>,
    pub server: Server<I, SliceService<I>>,
    pub listener: I::Listener,
    pub access: Option<Rc<AccessLog<I>>>,
}

/// Connects a column, and learns what was purged; `None`: it does not run. `io_bytes`: for buffers, of the column.
pub(super) fn set_up<I: Io>(
    column: &Column<I>,
    node: &NodePlan,
    (tier, io_bytes): (Shard<I>, u64),
    port: Letters,
    blobs: &Rc<blobcache::Columns<I>>,
) -> Result<Option<Slices<I>>, String> {
    let Some(plan) = &node.slice else { return Ok(None) };
    let (io, blobs) = (&column.io, blobs.clone());
    // What may go is the tier's, whoever stored it.
    let make_room: MakeRoom = Box::new(move |bytes| {
        let blobs = blobs.clone();
        Box::pin(async move { blobs.evict(bytes).await })
    });
    let limits = plan.config.upstreams.limits(plan.config.origins.iter().count());
    let client = Client::with_limits(io, node.trust.clone(), limits);
    let metrics = Metrics::new(column.index);
    let access = plan.access.clone().map(|plan| AccessLog::new(io, plan, metrics.access.clone()));
    let owner = Owner::new(io, tier, plan.config.clone(), &client, (io_bytes, make_room), metrics);
    let (columns, inbox) = Columns::connect(column.index, node.map, owner, port);
    column.add_inbox(inbox);
    let service = SliceService::new(columns.clone(), may_purge(plan, &node.doors.slice), access.clone());
    let server = Server::behind(io, service, net::Limits::default(), &node.doors.slice);
    let listener = io.listen(plan.listen).map_err(|e| format!("cannot listen on {}: {e}", plan.listen))?;
    let (learning, failing) = (columns.clone(), column.clone());
    io.spawn("slice-purges", async move {
        failing.io.yield_now().await;
        if let Err(why) = learning.learn_purges().await {
            failing.fail(format!("what was purged is not known, and would come back: {why}"));
        }
    });
    if column.index == 0
        && let Some(probes) = &plan.config.probes
    {
        for origin in 0..plan.config.origins.iter().count() {
            let (me, columns, probes) = (column.clone(), columns.clone(), probes.clone());
            io.spawn("slice-health", async move {
                me.io.yield_now().await;
                futures_lite::future::or(me.stopped(), columns.watch(origin, &probes)).await;
            });
        }
    }
    Ok(Some(Slices { columns, server, listener, access }))
}

/// Whoever reaches a port of other machines must show who it is.
fn may_purge(plan: &SlicePlan, door: &Door) -> bool {
    plan.listen.ip().to_canonical().is_loopback() || door.tokens.is_some()
}
