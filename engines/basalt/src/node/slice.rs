//! The caching proxy of one column: its owner beside the blobs' in the same tier, its listener. Called by `columns`.

use super::access::Doors;
use net::client::{Client, Trust};
use net::{Door, Server};
use runtime::call::{Letter, letters};
use runtime::column::Column;
use runtime::io::Io;
use runtime::mesh::{Doorbell, Port};
use runtime::shards::ShardMap;
use runtime::tier::Shard;
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
}

/// The ends of a column for messages of this engine.
pub(super) type Letters = Port<Letter<slicecache::api::Request, slicecache::api::Reply>>;

/// Those of all columns.
pub(super) fn ports(bells: &[Arc<Doorbell>]) -> Vec<Letters> {
    letters(bells)
}

/// What the owner is made of.
pub(super) struct Parts<'p, I: Io> {
    pub column: &'p Column<I>,
    pub map: ShardMap,
    pub tier: Shard<I>,
    pub port: Letters,
    pub trust: Trust,
    pub doors: &'p Doors,
    /// Of I/O, of the column.
    pub io_bytes: u64,
    pub make_room: MakeRoom,
}

/// A column's part of the proxy.
pub(super) struct Slices<I: Io> {
    pub columns: Rc<Columns<I>>,
    pub server: Server<I, SliceService<I>>,
    pub listener: I::Listener,
}

/// Connects a column, and learns what was purged.
pub(super) fn set_up<I: Io>(plan: &SlicePlan, parts: Parts<'_, I>) -> Result<Slices<I>, String> {
    let Parts { column, map, tier, port, trust, doors, io_bytes, make_room } = parts;
    let io = &column.io;
    let room = (io_bytes, make_room);
    let client = Client::new(io, trust);
    let owner = Owner::new(io, tier, plan.config.clone(), &client, room, Metrics::new(column.index));
    let (columns, inbox) = Columns::connect(column.index, map, owner, port);
    column.add_inbox(inbox);
    let service = SliceService::new(columns.clone(), may_purge(plan, &doors.slice));
    let server = Server::behind(io, service, net::Limits::default(), &doors.slice);
    let listener = io.listen(plan.listen).map_err(|e| format!("cannot listen on {}: {e}", plan.listen))?;
    let (learning, failing) = (columns.clone(), column.clone());
    io.spawn("slice-purges", async move {
        failing.io.yield_now().await;
        if let Err(why) = learning.learn_purges().await {
            failing.fail(format!("what was purged is not known, and would come back: {why}"));
        }
    });
    Ok(Slices { columns, server, listener })
}

/// Whoever reaches a port of other machines must show who it is.
fn may_purge(plan: &SlicePlan, door: &Door) -> bool {
    plan.listen.ip().to_canonical().is_loopback() || door.tokens.is_some()
}
