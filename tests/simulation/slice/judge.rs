//! Whether an answer may be what it is: a naive look at what the origin had and sent.
//!
//! | rule | broken when |
//! |---|---|
//! | one version | a byte is not that version's at that place |
//! | the right answer | status, ranges, lengths or conditions are not those of that version and this request |
//! | fresh | the origin has not vouched for the version within the time for which that is good |
//! | purged is gone | no request of after the purge vouched for it; or, after a hard one, it did not bring the bytes again |
//! | calm | something fails where nothing can |
//!
//! Times of the origin are those at which requests came there: what the cache counts from is never later.

use super::ask::{Ask, Wanted};
use super::client::{Answer, End};
use super::objects::Object;
use super::parts::{Part, parts};
use super::world::{Calm, Logged, Seen, World};
use std::ops::Range;

/// Who joins a question that is under way is answered with what the origin said a moment before.
const JOINED_NS: u64 = 4_000_000_000;

/// When a request began: monotonic, and by the calendar in seconds.
pub type Begin = (u64, u64);

/// Notes what is wrong with an answer, if anything is. `is_down`: the node was not there all the time.
pub fn judge(world: &World, ask: &Ask, answer: Option<&Answer>, begin: Begin, is_down: bool) {
    let objects = world.objects.borrow();
    let object = &objects[ask.object];
    let verdict = match answer {
        Some(answer) => Case { world, object, ask, answer, begin, is_down }.judge(),
        None if is_down => Ok(()),
        None => calm(world, object, "no answer at all"),
    };
    drop(objects);
    if let Err(why) = verdict {
        let answered =
            answer.map(|a| format!("{} {:?} {:?}, {} bytes", a.status, a.end, a.fields, a.body.len()));
        let history = world.history(ask.object);
        world.violate(format!("{why}: {ask:?} begun at {begin:?} got {answered:?}{history}"));
    }
}

/// Something failed: that must be possible.
fn calm(world: &World, object: &Object, what: &str) -> Result<(), String> {
    match world.calm.get() {
        Calm::None => Ok(()),
        Calm::Changing if object.versions.len() > 1 => Ok(()),
        _ => Err(format!("{what} where nothing can go wrong")),
    }
}

struct Case<'c> {
    world: &'c World,
    object: &'c Object,
    ask: &'c Ask,
    answer: &'c Answer,
    begin: Begin,
    is_down: bool,
}

impl Case<'_> {
    fn judge(&self) -> Result<(), String> {
        self.count();
        if self.answer.end == End::Cut && !self.is_down {
            calm(self.world, self.object, "cut off")?;
        }
        match self.answer.status {
            200 | 206 => self.with_body(),
            304 => self.not_modified(),
            416 => self.unsatisfiable(),
            302 | 403 | 404 | 500 | 502 | 503 | 504 => calm(self.world, self.object, "refused"),
            status => Err(format!("status {status}")),
        }
    }

    fn count(&self) {
        let seen: &mut Seen = &mut self.world.seen.borrow_mut();
        let cache = self.answer.field("x-cache").unwrap_or("");
        let kinds = [
            ("HIT", &mut seen.hits),
            ("MISS", &mut seen.misses),
            ("PARTIAL", &mut seen.partial),
            ("STALE", &mut seen.stale),
            ("BYPASS", &mut seen.passed),
        ];
        for (word, count) in kinds {
            *count += u64::from(cache.starts_with(word));
        }
        let is_multipart = self.answer.field("content-type").is_some_and(|v| v.starts_with("multipart"));
        seen.multiparts += u64::from(is_multipart);
        match self.answer.status {
            200 => {}
            206 => seen.ranges += 1,
            304 => seen.not_modified += 1,
            416 => seen.unsatisfied += 1,
            _ => seen.refused += 1,
        }
        match self.answer.end {
            End::Whole => seen.whole += 1,
            End::Cut => seen.cut += 1,
            End::Left => seen.left += 1,
        }
    }

    /// The version that the answer names.
    fn version(&self) -> Result<usize, String> {
        let version = self.answer.number("x-version").ok_or("nobody knows of which version this is")?;
        let version = usize::try_from(version).expect("few versions");
        if version >= self.object.versions.len() {
            return Err(format!("there never was a version {version}"));
        }
        for (name, value) in self.object.validators(version) {
            let said = self.answer.field(&name.to_ascii_lowercase());
            // A lie may leave it out, or make it weak.
            if said.is_some_and(|said| said != value && said != format!("W/{value}")) {
                return Err(format!("{name} of another version than {version}"));
            }
        }
        let variant = self.answer.number("x-variant").unwrap_or(0) as usize;
        if variant != self.variant() {
            return Err(format!("variant {variant}"));
        }
        Ok(version)
    }

    fn variant(&self) -> usize {
        self.object.variant(self.ask.accept)
    }

    fn with_body(&self) -> Result<(), String> {
        let version = self.version()?;
        let whole = &self.object.versions[version];
        let bytes = &whole.bytes[self.variant()];
        let parts = parts(self.answer)?;
        for part in &parts {
            let (from, to) = (part.from as usize, part.from as usize + part.bytes.len());
            if bytes.get(from..to) != Some(part.bytes) {
                return Err(format!("bytes {from}..{to} are not those of version {version}"));
            }
        }
        self.is_what_was_asked(version, &parts)?;
        self.is_good_now(version)?;
        self.was_brought(version, &parts)
    }

    /// Status, ranges and lengths are what this request gets of that version.
    fn is_what_was_asked(&self, version: usize, parts: &[Part<'_>]) -> Result<(), String> {
        let (ask, answer) = (self.ask, self.answer);
        let sizes = &self.object.versions[version].sizes_said;
        let is_whole = answer.end == End::Whole;
        let got: Vec<Range<u64>> = parts.iter().map(|p| p.from..p.from + p.bytes.len() as u64).collect();
        if answer.status == 206 && (ask.is_head || matches!(ask.wanted, Wanted::All | Wanted::Odd(_))) {
            return Err("206 to who asked for no range".to_owned());
        }
        if answer.is_passed() {
            return Ok(());
        }
        let said = answer.field("etag").or(answer.field("last-modified"));
        // What the origin left out cannot be compared.
        if said.is_some() && self.object.is_had(ask.if_none_match, version) {
            return Err("the client has that version".to_owned());
        }
        let length = answer.number("content-length").ok_or("no Content-Length")?;
        // A weak tag is no condition for ranges.
        let is_strong = said.is_some_and(|said| !said.starts_with("W/"));
        let is_meant = ask.if_range.is_none_or(|wanted| wanted == version && is_strong) && !ask.is_head;
        let is_right = sizes.iter().any(|&size| match ask.wanted.of_size(size).filter(|_| is_meant) {
            None => answer.status == 200 && length == size,
            Some(_) if answer.status == 200 => false,
            Some(wanted) if is_whole => got == wanted,
            // As far as it came.
            Some(wanted) => got.iter().zip(&wanted).all(|(got, wanted)| got.start == wanted.start),
        });
        if is_right { Ok(()) } else { Err(format!("{got:?} of {length} in sizes {sizes:?}")) }
    }

    /// When the origin last vouched for a version.
    fn vouched(&self, version: usize) -> Option<Logged> {
        let (object, variant) = (self.ask.object, self.variant());
        let log = self.world.log.borrow();
        let is_it = |l: &&Logged| l.object == object && l.variant == variant && l.vouched == Some(version);
        log.iter().filter(is_it).max_by_key(|logged| logged.at_ns).cloned()
    }

    /// The newest purge that was over when the request began, of those that are hard, or of all.
    fn purged_ns(&self, is_soft_too: bool) -> u64 {
        let purged = self.world.purged.borrow();
        let counts = purged.iter().filter(|purged| {
            (is_soft_too || !purged.is_soft)
                && purged.until.is_none_or(|boot| boot == self.world.boot.get())
                && purged.answered_ns <= self.begin.0
                && purged.names.hits(self.object)
        });
        counts.map(|purged| purged.asked_ns).max().unwrap_or(0)
    }

    fn is_good_now(&self, version: usize) -> Result<(), String> {
        let (begin_ns, begin_s) = self.begin;
        let kind = self.object.kind;
        let vouched = self.vouched(version).ok_or("the origin never said that this holds")?;
        let is_joined = vouched.at_ns + JOINED_NS >= begin_ns;
        let is_young = match kind.fresh_s + kind.stale_s {
            _ if !kind.is_shared => vouched.at_ns >= begin_ns,
            good_s => is_joined || vouched.at_s + good_s > begin_s,
        };
        if !is_young {
            return Err(format!("stale: vouched for at {} s, {} ns", vouched.at_s, vouched.at_ns));
        }
        if self.ask.no_cache && !is_joined && kind.stale_s == 0 {
            return Err("no-cache, and the origin was not asked".to_owned());
        }
        // What was purged softly is stale, and may be served where what is stale may be.
        if vouched.at_ns < self.purged_ns(kind.stale_s == 0) {
            return Err(format!("it was purged, and last vouched for at {} ns", vouched.at_ns));
        }
        Ok(())
    }

    /// Every byte was brought after the last hard purge.
    fn was_brought(&self, version: usize, parts: &[Part<'_>]) -> Result<(), String> {
        let purged_ns = self.purged_ns(false);
        let log = self.world.log.borrow();
        let mut brought: Vec<Range<u64>> = log
            .iter()
            .filter(|l| l.object == self.ask.object && l.variant == self.variant() && l.version == version)
            .filter(|l| l.at_ns >= purged_ns && l.sent.start < l.sent.end)
            .map(|l| l.sent.clone())
            .collect();
        brought.sort_unstable_by_key(|range| range.start);
        for part in parts {
            let (mut at, end) = (part.from, part.from + part.bytes.len() as u64);
            for range in &brought {
                if range.start <= at {
                    at = at.max(range.end);
                }
            }
            if at < end {
                return Err(format!("byte {at} was purged at {purged_ns} ns and never brought again"));
            }
        }
        Ok(())
    }

    fn not_modified(&self) -> Result<(), String> {
        if self.answer.is_passed() {
            return calm_or_asked(self.world, self.ask.if_none_match.is_some());
        }
        // A 304 has few fields: the validator among them.
        let said = self.answer.field("etag").or(self.answer.field("last-modified"));
        let said = said.map(|said| said.strip_prefix("W/").unwrap_or(said));
        let version = said.and_then(|said| self.object.version_of(said)).ok_or("a 304 of no version")?;
        if !self.object.is_had(self.ask.if_none_match, version) {
            return Err(format!("304, and it does not have version {version}"));
        }
        self.is_good_now(version)
    }

    fn unsatisfiable(&self) -> Result<(), String> {
        let said = self.answer.field("content-range").and_then(|v| v.strip_prefix("bytes */")?.parse().ok());
        let size: u64 = said.ok_or("a 416 says how much there is")?;
        let is_right = self.ask.wanted.of_size(size).is_some_and(|parts| parts.is_empty());
        if !is_right && !self.answer.is_passed() {
            return Err(format!("416 with a size of {size}"));
        }
        let of_size = (0..self.object.versions.len())
            .filter(|version| self.object.versions[*version].sizes_said.contains(&size));
        let verdicts: Vec<Result<(), String>> = of_size.map(|version| self.is_good_now(version)).collect();
        match verdicts.iter().any(Result::is_ok) {
            true => Ok(()),
            false => Err(format!("416 with a size of {size}: {verdicts:?}")),
        }
    }
}

/// A 304 of the origin's own.
fn calm_or_asked(world: &World, is_asked: bool) -> Result<(), String> {
    match world.calm.get() {
        Calm::None => Ok(()),
        _ if is_asked => Ok(()),
        _ => Err("304 to who did not ask for it".to_owned()),
    }
}
