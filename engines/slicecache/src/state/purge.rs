//! What was purged: by target, prefix, tag, or all; hard (gone) or soft (to be asked about first).
//!
//! Called for each PURGE, and for each stored entry before it is used. A purge is a rule with a number, its *generation*; an entry
//! bears the generation in which its fetch began, and a rule holds for the entries of generations before its own. So a purge costs
//! the same whatever it hits, what is still being fetched when it comes is hit too, and what is on disk needs no visit.
//!
//! Path of a purge: [`Purges::reserve`] gives it a generation → its record (`log`) is made durable → [`Purges::apply`] on every
//! column → the reply. Entries get the new generation only from `apply` on, so an order that a crash loses was neither
//! answered nor seen, and its number may be given again.
//!
//! Invariants
//! 1. An entry that a rule hit is hit for ever: rules that are given up are replaced by one that hits more.
//! 2. At most [`PURGE_RULES_MAX`] rules.

use super::fields::Fields;
use super::key::CacheKey;
use crate::limits::{PURGE_NAME_BYTES_MAX, PURGE_RULES_MAX, TAGS_MAX};
use std::collections::BTreeMap;

/// Counts purges.
pub type Generation = u64;

/// What a purge names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Names {
    /// Everything.
    All,
    /// One target: path and query, normalised.
    Target(String),
    /// All targets that begin so.
    Prefix(String),
    /// Everything that bears the tag.
    Tag(String),
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purge {
    /// What.
    pub names: Names,
    /// What it names need not go, but be asked about before it is served.
    pub is_soft: bool,
}

/// An order with its generation: what is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// Its generation.
    pub generation: Generation,
    /// The order.
    pub purge: Purge,
}

/// An order that is none: 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPurge {
    /// The path is malformed.
    #[error("the path has a % without two hexadecimal digits")]
    Path,
    /// Too long, or too many tags.
    #[error(
        "a purge names at most {TAGS_MAX} tags, each text, and nothing longer than {PURGE_NAME_BYTES_MAX} bytes"
    )]
    TooMuch,
    /// A tag, prefix or flag that is no text.
    #[error("a field of the purge is malformed")]
    Field,
}

/// What the fields of `PURGE path?query` order. `Surrogate-Key` (between spaces) and `Cache-Tag` (between commas) name tags;
/// `X-Purge-All: true` or the path `/*` everything; `X-Purge-Pattern: /prefix` or a path that ends in `*` a prefix; anything else the
/// target. `Soft-Purge: 1` makes it soft.
///
/// # Errors
/// What is wrong with it.
pub fn purges_of(path: &str, query: Option<&str>, fields: &Fields<'_>) -> Result<Vec<Purge>, BadPurge> {
    let is_soft = flag(fields, "soft-purge")?;
    let purge = |names| Purge { names, is_soft };
    let tags = tags_of(fields).ok_or(BadPurge::TooMuch)?;
    if !tags.is_empty() {
        return Ok(tags.into_iter().map(|tag| purge(Names::Tag(tag))).collect());
    }
    if flag(fields, "x-purge-all")? {
        return Ok(Vec::from([purge(Names::All)]));
    }
    let pattern = fields.joined("x-purge-pattern");
    let pattern =
        pattern.as_deref().map(|p| std::str::from_utf8(p).map_err(|_| BadPurge::Field)).transpose()?;
    let prefix = pattern.or_else(|| path.strip_suffix('*').filter(|_| query.is_none()));
    let names = match prefix.map(|prefix| prefix.strip_suffix('*').unwrap_or(prefix)) {
        Some("" | "/") => Names::All,
        Some(prefix) if prefix.starts_with('/') => Names::Prefix(normalised(prefix, None)?),
        Some(_) => return Err(BadPurge::Field),
        None => Names::Target(normalised(path, query)?),
    };
    if let Names::Prefix(text) | Names::Target(text) = &names
        && text.len() > PURGE_NAME_BYTES_MAX
    {
        return Err(BadPurge::TooMuch);
    }
    Ok(Vec::from([purge(names)]))
}

/// What orders name, on one line of at most `bytes_max` bytes; of what has no place there is the number, of what is too long the
/// beginning.
#[must_use]
pub fn listed(orders: &[Purge], bytes_max: usize) -> String {
    // For ` …` and the number of those that are left out.
    let room = bytes_max.saturating_sub(32);
    let mut text = String::new();
    for (at, order) in orders.iter().enumerate() {
        // Quoted, with escapes for all that could end a line or speak to a terminal.
        let name = match &order.names {
            Names::All => "everything".to_owned(),
            Names::Target(target) => format!("path {target:?}"),
            Names::Prefix(prefix) => format!("prefix {prefix:?}"),
            Names::Tag(tag) => format!("tag {tag:?}"),
        };
        let comma = if text.is_empty() { "" } else { ", " };
        if text.len() + comma.len() + name.len() <= room {
            text.extend([comma, &name]);
            continue;
        }
        if text.is_empty() {
            text.extend(name.chars().scan(0, |sum, c| {
                *sum += c.len_utf8();
                (*sum <= room).then_some(c)
            }));
            text.push_str(" …");
        }
        let left = orders.len() - at - usize::from(at == 0);
        return if left == 0 { text } else { format!("{text} and {left} more") };
    }
    text
}

fn flag(fields: &Fields<'_>, name: &str) -> Result<bool, BadPurge> {
    match fields.joined(name).as_deref() {
        None | Some(b"0" | b"false") => Ok(false),
        Some(b"1" | b"true") => Ok(true),
        Some(_) => Err(BadPurge::Field),
    }
}

fn normalised(path: &str, query: Option<&str>) -> Result<String, BadPurge> {
    CacheKey::new("", path, query).map(|key| key.target()).map_err(|_| BadPurge::Path)
}

/// The tags of a response, or those that a purge names. `None`: more or longer ones than are kept, or one that is no text; such a
/// response is not stored, since a purge could miss it.
#[must_use]
pub fn tags_of(fields: &Fields<'_>) -> Option<Vec<String>> {
    let by_space = fields.all("surrogate-key").flat_map(|value| value.split(|b| b" \t".contains(b)));
    let by_comma = fields.all("cache-tag").flat_map(|value| value.split(|&b| b == b','));
    let mut tags = Vec::new();
    for tag in by_space.chain(by_comma).map(<[u8]>::trim_ascii).filter(|tag| !tag.is_empty()) {
        if tags.len() == TAGS_MAX || tag.len() > PURGE_NAME_BYTES_MAX {
            return None;
        }
        tags.push(std::str::from_utf8(tag).ok()?.to_owned());
    }
    tags.sort_unstable();
    tags.dedup();
    Some(tags)
}

/// What is to become of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing.
    Keep,
    /// It is to be asked about before it is served.
    Soft,
    /// It is not served any more.
    Gone,
}

/// An entry, as far as purges see it.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'e> {
    /// Of the time when its fetch began.
    pub generation: Generation,
    /// Path and query, normalised.
    pub target: &'e str,
    /// See [`tags_of`].
    pub tags: &'e [String],
}

/// Entries of generations before these are hit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Rule {
    hard: Generation,
    soft: Generation,
}

impl Rule {
    fn verdict(&self, generation: Generation) -> Verdict {
        match generation {
            generation if generation < self.hard => Verdict::Gone,
            generation if generation < self.soft => Verdict::Soft,
            _ => Verdict::Keep,
        }
    }

    fn newest(&self) -> Generation {
        self.hard.max(self.soft)
    }
}

/// All that was purged, as one column knows it.
#[derive(Clone, Debug, Default)]
pub struct Purges {
    applied: Generation,
    reserved: Generation,
    rules: BTreeMap<Names, Rule>,
    /// How many rules for prefixes there are of each length.
    prefix_lengths: BTreeMap<usize, usize>,
}

impl Purges {
    /// Nothing was purged.
    #[must_use]
    pub fn new() -> Purges {
        Purges::default()
    }

    /// The generation of a fetch that begins now.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.applied
    }

    /// Gives an order its number; on the one column that numbers them.
    pub fn reserve(&mut self, purge: Purge) -> Numbered {
        self.reserved = self.reserved.max(self.applied) + 1;
        Numbered { generation: self.reserved, purge }
    }

    /// Orders that nobody can read now have numbers below `generation`: those that are given from now on are not.
    pub fn skip_to(&mut self, generation: Generation) {
        self.reserved = self.reserved.max(generation);
    }

    /// An order holds from now on: its record is durable. Again is as once, and order does not matter.
    pub fn apply(&mut self, numbered: &Numbered) {
        let Numbered { generation, purge } = numbered;
        self.applied = self.applied.max(*generation);
        let is_new = !self.rules.contains_key(&purge.names);
        let rule = self.rules.entry(purge.names.clone()).or_default();
        let place = if purge.is_soft { &mut rule.soft } else { &mut rule.hard };
        *place = (*place).max(*generation);
        if let (Names::Prefix(prefix), true) = (&purge.names, is_new) {
            *self.prefix_lengths.entry(prefix.len()).or_default() += 1;
        }
        if self.rules.len() > PURGE_RULES_MAX {
            self.fold();
        }
        debug_assert!(self.rules.len() <= PURGE_RULES_MAX);
    }

    /// What is to become of an entry.
    #[must_use]
    pub fn verdict(&self, entry: &Entry<'_>) -> Verdict {
        if entry.generation >= self.applied {
            return Verdict::Keep;
        }
        let verdict = |names: &Names| {
            self.rules.get(names).map_or(Verdict::Keep, |rule| rule.verdict(entry.generation))
        };
        let of_prefix = |(length, _): (&usize, &usize)| {
            let prefix = entry.target.get(..*length)?;
            Some(verdict(&Names::Prefix(prefix.to_owned())))
        };
        let of_tags = entry.tags.iter().map(|tag| verdict(&Names::Tag(tag.clone())));
        let of_prefixes = self.prefix_lengths.iter().filter_map(of_prefix);
        let of_target = [verdict(&Names::All), verdict(&Names::Target(entry.target.to_owned()))];
        of_target.into_iter().chain(of_tags).chain(of_prefixes).max().unwrap_or(Verdict::Keep)
    }

    /// All that holds, as orders: for a checkpoint.
    pub fn orders(&self) -> impl Iterator<Item = Numbered> + '_ {
        let order = |names: &Names, generation: Generation, is_soft: bool| {
            let purge = Purge { names: names.clone(), is_soft };
            (generation > 0).then_some(Numbered { generation, purge })
        };
        self.rules.iter().flat_map(move |(names, rule)| {
            [order(names, rule.hard, false), order(names, rule.soft, true)].into_iter().flatten()
        })
    }

    /// The older half of the rules becomes one: everything before the newest of them is gone.
    fn fold(&mut self) {
        let mut generations: Vec<Generation> = self.rules.values().map(Rule::newest).collect();
        generations.sort_unstable();
        let newest = generations[generations.len() / 2];
        self.rules.retain(|names, rule| *names == Names::All || rule.newest() > newest);
        let all = self.rules.entry(Names::All).or_default();
        all.hard = all.hard.max(newest);
        self.prefix_lengths.clear();
        for names in self.rules.keys() {
            if let Names::Prefix(prefix) = names {
                *self.prefix_lengths.entry(prefix.len()).or_default() += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests;
