//! Probes of the origins: one column asks, all hear when an origin changes sides. Called by the node, once for each origin.

use crate::api::Request;
use crate::columns::Columns;
use crate::config::Probes;
use crate::state::health::{Health, is_well};
use crate::state::status::via;
use net::client::Ask;
use runtime::io::Io;
use runtime::patience::within;

const SECOND_NS: u64 = 1_000_000_000;

impl<I: Io> Columns<I> {
    /// Probes an origin, for ever. On one column.
    pub async fn watch(&self, origin: usize, probes: &Probes) {
        let owner = self.local();
        let upstream = owner.upstreams[origin].clone();
        let mut health = Health::new(probes.thresholds);
        let prefix = &owner.config.origins.iter().nth(origin).expect("one of them").prefix;
        let up = owner.metrics.origin_up(prefix, &upstream.url.without_query());
        up.set(1);
        loop {
            let begin_ns = owner.io.now_ns();
            let is_well = self.probe(origin, probes).await;
            if let Some(is_up) = health.on_probe(is_well) {
                tracing::warn!(origin = %upstream.url.without_query(), is_up, "an origin changed sides");
                up.set(i64::from(is_up));
                self.tell_health(origin, is_up).await;
            }
            let took_ns = owner.io.now_ns() - begin_ns;
            owner.io.sleep((probes.interval_s * SECOND_NS).saturating_sub(took_ns)).await;
        }
    }

    async fn tell_health(&self, origin: usize, is_up: bool) {
        for column in 0..self.count() {
            self.ask(column, Request::Health(origin, is_up)).await;
        }
    }

    /// Whether the origin answers as one that is well before the next probe is due.
    async fn probe(&self, origin: usize, probes: &Probes) -> bool {
        let owner = self.local();
        let upstream = &owner.upstreams[origin];
        let url = upstream.url_of(&probes.path);
        let line = |name: &str, value: &[u8]| (name.as_bytes().to_vec(), value.to_vec());
        let agent = concat!("basalt/", env!("CARGO_PKG_VERSION"), " (health)");
        let fields = [line("User-Agent", agent.as_bytes()), line("Via", &via("1.1", None))];
        let ask = Ask { method: "HEAD", url: &url, fields: &fields };
        let asked = within(&owner.io, probes.interval_s * SECOND_NS, upstream.client.ask(&ask));
        asked.await.is_some_and(|reply| reply.is_ok_and(|reply| is_well(reply.head.status)))
    }
}
