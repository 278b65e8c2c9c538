//! Purges: numbered and written down on one column, obeyed on all, learned anew at a start. Called by `columns`.
//!
//! A purge is a small object of the tier with a name of its own, on one shard, never evicted: stored means that it is on stable
//! storage. Names are in the order of generations. When more are stored than still hold, those that hold are written first, then
//! the others deleted.

use super::Owner;
use crate::limits::DISOWNED_MAX;
use crate::live::{Live, record_digest};
use crate::log::purge::{decode, encode};
use crate::planted::{self, Bug};
use crate::state::key::Name;
use crate::state::purge::{Entry, Numbered, Purge, Verdict};
use bytes::Bytes;
use runtime::io::Io;
use runtime::shards::Shard as ShardNumber;
use runtime::tier::{Digest, Found, Keep, LIST_MAX};
use std::collections::BTreeSet;
use std::rc::Rc;

/// The shard whose owner numbers purges.
pub const PURGE_SHARD: ShardNumber = ShardNumber(0);
/// Purges that are stored and do not hold any more before they are deleted.
const SUPERSEDED_MAX: usize = 1024;
const KEEP: Keep = Keep { expires_ms: 0, evictable: false, pinned: false };

/// What is stored of purges. On the column that numbers them.
#[derive(Default)]
pub(super) struct Records {
    stored: BTreeSet<Digest>,
    is_tidying: bool,
}

/// Objects whose records are not believed until the next start: an unsafe method changed them, and the disks would not let go of
/// what they have of them.
#[derive(Default)]
pub(crate) struct Disowned {
    names: BTreeSet<Name>,
    is_all: bool,
}

impl Disowned {
    fn add(&mut self, primary: Name) {
        self.names.insert(primary);
        self.is_all |= self.names.len() > DISOWNED_MAX;
        if self.is_all {
            self.names.clear();
        }
    }

    pub(crate) fn holds(&self, primary: &Name) -> bool {
        self.is_all || self.names.contains(primary)
    }
}

/// Purges of one generation have one name each: an order, and what `Purges::orders` makes of older ones.
fn name_of(numbered: &Numbered) -> Digest {
    let mut name = [0; 32];
    name[..8].copy_from_slice(b"purge of");
    name[8..16].copy_from_slice(&numbered.generation.to_be_bytes());
    name[16] = match numbered.purge.names {
        crate::state::purge::Names::All => 0,
        _ => 1,
    };
    name[17] = u8::from(numbered.purge.is_soft);
    Digest::private(PURGE_SHARD, &name)
}

fn first_name() -> Digest {
    let mut name = [0; 32];
    name[..8].copy_from_slice(b"purge of");
    Digest::private(PURGE_SHARD, &name)
}

pub(super) fn is_name(digest: &Digest) -> bool {
    digest.is_private() && digest.shard() == PURGE_SHARD && digest.0[1..9] == *b"purge of"
}

impl<I: Io> Owner<I> {
    /// All purges that are stored, oldest first. On the column that numbers them.
    ///
    /// # Errors
    /// One cannot be read: what it purged would come back.
    pub async fn read_purges(&self) -> Result<Vec<Numbered>, String> {
        let first = first_name();
        self.tier.load(&first).await.map_err(|e| e.to_string())?;
        if planted::is(Bug::PurgesUnlearned) {
            return Ok(Vec::new());
        }
        let (mut found, mut after) = (Vec::new(), first);
        loop {
            let page = self.tier.list_all(Some(&after), LIST_MAX);
            for (digest, _) in page.iter().filter(|(digest, _)| is_name(digest)) {
                found.push(self.read_purge(digest).await?);
                self.records.borrow_mut().stored.insert(*digest);
            }
            match page.last() {
                Some((last, _)) if is_name(last) && page.len() == LIST_MAX => after = *last,
                _ => return Ok(found),
            }
        }
    }

    async fn read_purge(&self, digest: &Digest) -> Result<Numbered, String> {
        let bytes = match self.tier.get(digest).await {
            Ok(Some(Found::Packed(bytes) | Found::Read(bytes))) => bytes,
            Ok(Some(Found::Pinned(pinned))) => {
                Bytes::copy_from_slice(&pinned.pages[pinned.from..pinned.from + pinned.len])
            }
            Ok(_) => return Err(format!("{digest} is no record of a purge")),
            Err(e) => return Err(format!("a purge cannot be read: {e}")),
        };
        decode(&bytes).map_err(|e| format!("{digest}: {e}"))
    }

    /// Gives an order its number and writes it down. On the column that numbers them.
    ///
    /// # Errors
    /// It is not stored, and does not hold.
    pub async fn write_purge(&self, purge: Purge) -> Result<Numbered, String> {
        // Before that its number could be one that was given already.
        self.learning.until(|| self.knows_purges.get()).await;
        let numbered = self.purges.borrow_mut().reserve(purge);
        if !planted::is(Bug::PurgeUnwritten) {
            self.put_purge(&numbered).await?;
        }
        Ok(numbered)
    }

    async fn put_purge(&self, numbered: &Numbered) -> Result<(), String> {
        let digest = name_of(numbered);
        let put = self.tier.replace_packed(digest, encode(numbered).into(), KEEP).await;
        put.map_err(|e| e.to_string())?;
        self.records.borrow_mut().stored.insert(digest);
        Ok(())
    }

    /// Everything that can be read of purges is known. What a disk has that is out has numbers that are counts, or times before
    /// now: a number that was given twice would leave what the older purge did not hit to the newer one's order.
    pub fn on_purges_known(&self) {
        if !self.tier.knows_all() {
            self.purges.borrow_mut().skip_to(self.io.unix_ms());
        }
        self.knows_purges.set(true);
        self.learning.wake();
    }

    /// A purge holds from now on.
    pub fn apply(&self, numbered: &Numbered) {
        self.purges.borrow_mut().apply(numbered);
        let all: Vec<Rc<Live<I>>> = self.objects.borrow().values().cloned().collect();
        for live in all {
            match self.verdict(&live) {
                Verdict::Keep => {}
                Verdict::Soft => live.state.borrow_mut().object.on_soft_purge(),
                Verdict::Gone => {
                    self.forget(&live);
                    self.varies.borrow_mut().remove(&live.primary);
                    let (me, digest) = (self.me(), record_digest(&live.primary, &live.name.get()));
                    self.spawn("slice-drop", async move { _ = me.delete(digest).await });
                    self.maybe_release(&live);
                }
            }
        }
        self.maybe_tidy();
        if !numbered.purge.is_soft && self.knows_purges.get() {
            self.sweep_behind(&numbered.purge.names);
        }
    }

    /// Of one whose record is being looked for: what was found is judged then.
    fn verdict(&self, live: &Live<I>) -> Verdict {
        let state = live.state.borrow();
        let target = live.key.target();
        let (generation, tags) = match (&state.known, &state.kept) {
            (Some(known), _) => (known.generation, known.tags.as_slice()),
            (None, Some(kept)) => (kept.generation, kept.tags.as_slice()),
            (None, None) if live.is_loaded.get() => (state.asked.generation, [].as_slice()),
            (None, None) => return Verdict::Keep,
        };
        self.purges.borrow().verdict(&Entry { generation, target: &target, tags })
    }

    /// What an unsafe method changed is not served any more (RFC 9111 §4.4). Whether there may be more of it in the tier: a record
    /// that could not be deleted, or variants under names that follow from fields that nobody has sent since the start.
    pub async fn invalidate(&self, primary: &Name) -> bool {
        if planted::is(Bug::InvalidationSkipped) {
            return false;
        }
        let known = self.varies.borrow().get(primary).map(|vary| !vary.is_empty());
        let has_variants = match known {
            Some(has) => has,
            None => self.read_record(primary, primary).await.is_some_and(|entry| !entry.vary.is_empty()),
        };
        let mut all_deleted = true;
        // Once more for those that found a record while it was being deleted.
        for _ in 0..2 {
            let of_it = self.forget_all_of(primary);
            all_deleted &= self.delete(record_digest(primary, primary)).await;
            for live in &of_it {
                all_deleted &= self.delete(record_digest(primary, &live.name.get())).await;
                self.maybe_release(live);
            }
        }
        has_variants || !all_deleted
    }

    /// Nobody new finds what there is of an object and its variants.
    fn forget_all_of(&self, primary: &Name) -> Vec<Rc<Live<I>>> {
        self.varies.borrow_mut().remove(primary);
        let of_it: Vec<Rc<Live<I>>> =
            self.objects.borrow().values().filter(|live| live.primary == *primary).cloned().collect();
        of_it.iter().for_each(|live| self.forget(live));
        of_it
    }

    /// What is stored of an object no longer holds, and could be neither deleted nor purged: it counts as missing as long as this
    /// node runs.
    pub fn disown(&self, primary: &Name) {
        self.disowned.borrow_mut().add(*primary);
        for live in self.forget_all_of(primary) {
            self.maybe_release(&live);
        }
    }

    fn maybe_tidy(&self) {
        let holding = self.purges.borrow().orders().count();
        let records = &mut *self.records.borrow_mut();
        if records.is_tidying || records.stored.len() <= holding + SUPERSEDED_MAX {
            return;
        }
        records.is_tidying = true;
        let me = self.me();
        self.spawn("purge-tidy", async move {
            me.tidy().await;
            me.records.borrow_mut().is_tidying = false;
        });
    }

    /// Writes what holds, then deletes what does not.
    async fn tidy(&self) {
        let orders: Vec<Numbered> = self.purges.borrow().orders().collect();
        let holding: BTreeSet<Digest> = orders.iter().map(name_of).collect();
        for order in &orders {
            let is_stored = self.records.borrow().stored.contains(&name_of(order));
            if !is_stored && let Err(error) = self.put_purge(order).await {
                tracing::warn!(%error, "purges that hold no more stay stored");
                return;
            }
        }
        let newest = orders.iter().map(|order| order.generation).max().unwrap_or(0);
        let stored: Vec<Digest> = self.records.borrow().stored.iter().copied().collect();
        for digest in stored {
            let generation = u64::from_be_bytes(digest.0[9..17].try_into().expect("eight bytes"));
            // One that was written meanwhile holds.
            if generation <= newest && !holding.contains(&digest) {
                self.delete(digest).await;
                self.records.borrow_mut().stored.remove(&digest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_disowned_is_never_believed_again() {
        let name = |n: usize| -> Name {
            let mut name = [0; 32];
            name[..8].copy_from_slice(&n.to_le_bytes());
            name
        };
        let mut disowned = Disowned::default();
        (0..DISOWNED_MAX).for_each(|n| disowned.add(name(n)));
        assert!(disowned.holds(&name(0)) && !disowned.holds(&name(DISOWNED_MAX)));
        disowned.add(name(DISOWNED_MAX));
        assert!((0..=DISOWNED_MAX + 1).all(|n| disowned.holds(&name(n))), "more than is kept apart: all");
        assert!(disowned.names.is_empty());
    }
}
