//! What was purged and is in use by nobody is looked for in the tier and deleted, behind the answer to the purge: until then it takes
//! room, but is not served. Called after each order that makes something gone. What a crash leaves goes when the disk is full.
//!
//! Invariants
//! 1. One sweep of all of a column is under way at a time; an order that comes meanwhile has another one begin. Sweeps take at most a
//!    tenth of the time.
//! 2. Only a record under the name of its own object has slices deleted: bytes of an object that look like one have not.

use super::Owner;
use super::purges::is_name;
use crate::limits::{ENTRY_BYTES_MAX, LOOKED_AT_ONCE};
use crate::live::{Live, record_digest, shard_of};
use crate::log::entry::Entry;
use crate::state::key::{CacheKey, Name};
use crate::state::purge::{self, Names, Verdict};
use crate::state::slices::Slices;
use runtime::io::Io;
use runtime::tier::{Digest, LIST_MAX};
use std::rc::Rc;

/// Orders that come together are obeyed by one sweep.
const GATHER_NS: u64 = 500_000_000;

/// Whether a sweep is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sweeping {
    #[default]
    No,
    Yes,
    /// And something was purged since it began.
    Again,
}

impl<I: Io> Owner<I> {
    /// Something is gone: one object, or whatever bears a tag or lies below a prefix.
    pub(super) fn sweep_behind(&self, names: &Names) {
        match names {
            Names::Target(target) => {
                self.spawn("slice-sweep", self.me().sweep_target(target.clone()));
            }
            Names::All | Names::Prefix(_) | Names::Tag(_) => self.sweep_all(),
        }
    }

    async fn sweep_target(self: Rc<Self>, target: String) {
        if self.tier.ready().await.is_err() {
            return;
        }
        let Some(primary) = self.primary_of_target(&target) else { return };
        let digest = record_digest(&primary, &primary);
        // It may be another column's.
        if self.tier.size(&digest).is_none() {
            return;
        }
        let is_one_of_several = self.read_entry(&digest).await.is_some_and(|entry| !entry.vary.is_empty());
        self.sweep_one(&digest).await;
        if is_one_of_several {
            self.sweep_all();
        }
    }

    fn sweep_all(&self) {
        let before = self.sweeping.get();
        self.sweeping.set(if before == Sweeping::No { Sweeping::Yes } else { Sweeping::Again });
        if before != Sweeping::No {
            return;
        }
        let me = self.me();
        self.spawn("slice-sweep", async move {
            let mut rest_ns = GATHER_NS;
            loop {
                me.io.sleep(rest_ns).await;
                me.sweeping.set(Sweeping::Yes);
                let begin_ns = me.io.now_ns();
                me.sweep().await;
                rest_ns = GATHER_NS.max((me.io.now_ns() - begin_ns) * 9);
                if me.sweeping.get() == Sweeping::Yes {
                    return me.sweeping.set(Sweeping::No);
                }
            }
        });
    }

    async fn sweep(&self) {
        // What a disk that is out has comes back with it, and is judged when it is asked for.
        if self.tier.ready().await.is_err() {
            return;
        }
        let mut after: Option<Digest> = None;
        loop {
            let page = self.tier.list_all(after.as_ref(), LIST_MAX);
            let may_be_record = |(digest, size): &&(Digest, u64)| {
                digest.is_private() && !is_name(digest) && *size <= ENTRY_BYTES_MAX as u64
            };
            for (at, (digest, _)) in page.iter().filter(may_be_record).enumerate() {
                self.sweep_one(digest).await;
                if at as u64 % LOOKED_AT_ONCE == LOOKED_AT_ONCE - 1 {
                    self.io.yield_now().await;
                }
            }
            match page.last() {
                Some((last, _)) if page.len() == LIST_MAX => after = Some(*last),
                _ => return,
            }
            self.io.yield_now().await;
        }
    }

    /// Deletes a record that was purged, and its slices.
    async fn sweep_one(&self, digest: &Digest) {
        let Some(entry) = self.read_entry(digest).await else { return };
        let Some(primary) = self.primary_of(digest, &entry) else { return };
        let judged = purge::Entry { generation: entry.generation, target: &entry.target, tags: &entry.tags };
        if self.purges.borrow().verdict(&judged) != Verdict::Gone {
            return;
        }
        self.delete(*digest).await;
        self.metrics.swept.inc();
        let slices = Slices { size: entry.version.size, slice_bytes: entry.slice_bytes };
        self.delete_version(primary, entry.number, 0..slices.count()).await;
        // Somebody may have written down a newer version meanwhile.
        let is_its = |live: &&Rc<Live<I>>| record_digest(&live.primary, &live.name.get()) == *digest;
        let name = self.objects.borrow().values().find(is_its).map(|live| live.name.get());
        if let Some(name) = name {
            self.rewrite_record(&name);
        }
    }

    /// The name of the object that a record is of. `None`: no origin has it any more, or it is no record of it.
    fn primary_of(&self, digest: &Digest, entry: &Entry) -> Option<Name> {
        let primary = self.primary_of_target(&entry.target)?;
        let is_plain = *digest == record_digest(&primary, &primary);
        let is_variant = !entry.vary.is_empty() && digest.shard() == shard_of(&primary);
        (is_plain || is_variant).then_some(primary)
    }

    fn primary_of_target(&self, target: &str) -> Option<Name> {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let url = &self.config.origins.of_path(path)?.url;
        let origin = format!("{}://{}", url.scheme(), url.authority());
        Some(CacheKey::new(&origin, path, query).ok()?.name())
    }
}
