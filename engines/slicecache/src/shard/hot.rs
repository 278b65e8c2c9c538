//! Answers to plain requests of which RAM has all bytes: found by the target as the client spells it, with fields that are written
//! once a second. Called by `serve` for each plain request, before anything of it is copied.
//!
//! Nothing is decided here. An entry only remembers what follows from its target and from what is stored: the object's name, and how
//! the fields read. Whether that is still the answer its state is asked each time, as [`Owner::open`] would; where it is not, or is
//! more than one stretch of RAM, the request goes the long way.

use super::Owner;
use crate::api::Step;
use crate::limits::{HOT_FIELDS_BYTES_MAX, HOT_MAX, HOT_TARGET_BYTES_MAX};
use crate::state::cache_control::CacheControl;
use crate::state::forward::Line;
use crate::state::freshness::{Freshness, Use};
use crate::state::key::Name;
use crate::state::plain::Plain;
use crate::state::status::Told;
use hashbrown::HashMap;
use net::http1::{Ranges, parse_range};
use runtime::io::Io;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

/// One slice, from RAM.
const TOLD: Told = Told {
    slices_here: 1,
    slices: 1,
    is_stale: false,
    forwarded: None,
    forwarded_status: None,
    is_collapsed: false,
    is_stored: false,
    ttl_s: None,
    not_stored: None,
};

/// What is remembered.
#[derive(Default)]
pub(super) struct Hot {
    entries: HashMap<Box<str>, Entry>,
    /// When it was last full and begun anew.
    begun_s: u64,
}

struct Entry {
    name: Name,
    written: Option<Written>,
}

/// Fields as they read in one second.
struct Written {
    of: (Arc<Vec<Line>>, Freshness),
    at_s: u64,
    fields: Rc<[u8]>,
}

impl Written {
    fn is_of(&self, lines: &Arc<Vec<Line>>, freshness: &Freshness, now_s: u64) -> bool {
        self.at_s == now_s && Arc::ptr_eq(&self.of.0, lines) && self.of.1 == *freshness
    }
}

/// An answer: 200, or 206 if there is a range.
pub struct HotAnswer {
    /// All its fields but Content-Range and Content-Length, each with its CRLF.
    pub fields: Rc<[u8]>,
    /// What the request asks for.
    pub range: Option<Range<u64>>,
    /// Of the whole object.
    pub size: u64,
    /// The bytes.
    pub step: Step,
}

impl<I: Io> Owner<I> {
    /// The answer to a plain request. `write` makes the fields from those stored, the age in seconds and what is told of the cache;
    /// `None`: the long way.
    pub fn hot(
        &self,
        plain: &Plain<'_>,
        write: impl FnOnce(&[Line], u64, &Told) -> Vec<u8>,
    ) -> Option<HotAnswer> {
        let hot = &mut *self.hot.borrow_mut();
        let entry = hot.entries.get_mut(plain.target)?;
        // An answer that depends on the client's fields has another name.
        if !self.varies.borrow().get(&entry.name)?.is_empty() {
            return None;
        }
        let live = self.objects.borrow().get(&entry.name)?.clone();
        let state = &mut *live.state.borrow_mut();
        let lines = &state.known.as_ref()?.lines;
        let (version, freshness, _) = state.object.fill()?;
        let (size, now_s) = (version.size, self.now_s());
        if !entry.written.as_ref().is_some_and(|written| written.is_of(lines, freshness, now_s)) {
            if freshness.good_for(&CacheControl::default(), now_s) != Use::Fresh {
                return None;
            }
            let told = Told { ttl_s: Some(freshness.ttl_s(now_s)), ..TOLD };
            let fields = write(lines, freshness.age_s(now_s), &told);
            if fields.len() > HOT_FIELDS_BYTES_MAX {
                return None;
            }
            let of = (lines.clone(), *freshness);
            entry.written = Some(Written { of, at_s: now_s, fields: fields.into() });
        }
        let fields = entry.written.as_ref()?.fields.clone();
        let range = match plain.range.map(|value| parse_range(value, size)) {
            None => None,
            Some(Ranges::Single(range)) => Some(range),
            Some(_) => return None,
        };
        let all = range.clone().unwrap_or(0..size);
        let step = if all.is_empty() { return None } else { self.all_now(&live, state, &[all])? };
        self.uses_total.set(self.uses_total.get() + 1);
        live.used.set(self.uses_total.get());
        self.metrics.outcomes.count(TOLD.outcome());
        self.metrics.hot.inc();
        Some(HotAnswer { fields, range, size, step })
    }

    /// A plain request for `target`, which names `name`, was answered from one stretch of RAM: the next one may be hot.
    pub fn note_hot(&self, target: &str, name: &Name) {
        // Of another column, or a variant: it would never be found.
        if !self.objects.borrow().contains_key(name) {
            return;
        }
        let (hot, now_s) = (&mut *self.hot.borrow_mut(), self.now_s());
        if hot.entries.len() >= HOT_MAX && !hot.entries.contains_key(target) {
            // At most so many are written a second, however many are asked for.
            if hot.begun_s == now_s {
                return;
            }
            hot.entries.clear();
            hot.begun_s = now_s;
        }
        if target.len() <= HOT_TARGET_BYTES_MAX {
            hot.entries.entry(target.into()).or_insert(Entry { name: *name, written: None });
        }
    }
}
