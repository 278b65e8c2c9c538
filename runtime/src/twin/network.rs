//! Who listens where. Called by `io.rs` and `conn.rs`.

use super::conn::TwinConn;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::task::Waker;

/// Connections that wait to be accepted by one listener.
pub(super) const BACKLOG: usize = 4096;

#[derive(Default)]
pub(super) struct Waiting {
    pub(super) conns: VecDeque<TwinConn>,
    pub(super) acceptor: Option<Waker>,
}

/// All listeners; those of one address share it.
#[derive(Default)]
pub(super) struct Network {
    by_addr: BTreeMap<SocketAddr, Vec<u64>>,
    pub(super) listeners: BTreeMap<u64, Waiting>,
    next: u64,
}

impl Network {
    pub(super) fn listen(&mut self, addr: SocketAddr) -> u64 {
        self.next += 1;
        self.by_addr.entry(addr).or_default().push(self.next);
        self.listeners.insert(self.next, Waiting::default());
        self.next
    }

    /// Stops listening; who waited is given back.
    pub(super) fn close(&mut self, addr: SocketAddr, id: u64) -> VecDeque<TwinConn> {
        if let Some(ids) = self.by_addr.get_mut(&addr) {
            ids.retain(|&i| i != id);
        }
        self.listeners.remove(&id).map(|w| w.conns).unwrap_or_default()
    }

    /// The listeners of an address.
    pub(super) fn at(&self, addr: SocketAddr) -> &[u64] {
        self.by_addr.get(&addr).map_or(&[], Vec::as_slice)
    }
}
