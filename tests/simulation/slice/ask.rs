//! What a client asks, and what the naive answer to its Range is.

use super::objects::{Object, VARIANTS};
use super::reply::CLIENTS_FIELD;
use runtime::twin::Rng;
use std::ops::Range;

/// More than lies between ranges that are sent as one.
const GAP_BYTES: u64 = 100;

/// A Range field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    All,
    From(u64),
    Between(u64, u64),
    Last(u64),
    /// In order and apart.
    Several(Vec<(u64, u64)>),
    /// No range at all, so it means nothing.
    Odd(&'static str),
}

impl Wanted {
    fn random(size: u64, rng: &mut Rng) -> Wanted {
        let at = rng.below(size + size / 8 + 1);
        let length = 1 + rng.below(size / 2 + 1);
        match rng.below(12) {
            0..=3 => Wanted::All,
            4 => Wanted::From(at),
            5 | 6 => Wanted::Between(at, at + length),
            7 => Wanted::Between(at, at),
            8 => Wanted::Last(length),
            9 => Wanted::Odd(["items=0-5", "bytes=9-2", "bytes=a-b"][rng.below(3) as usize]),
            _ => {
                let mut from = rng.below(size / 2 + 1);
                let parts = (0..rng.within(2, 3)).map(|_| {
                    let to = from + rng.below(size / 3 + 1);
                    let part = (from, to);
                    from = to + GAP_BYTES + rng.below(size / 3 + 1);
                    part
                });
                Wanted::Several(parts.collect())
            }
        }
    }

    fn field(&self) -> Option<String> {
        Some(match self {
            Wanted::All => return None,
            Wanted::From(from) => format!("bytes={from}-"),
            Wanted::Between(from, to) => format!("bytes={from}-{to}"),
            Wanted::Last(count) => format!("bytes=-{count}"),
            Wanted::Several(parts) => {
                let parts: Vec<String> = parts.iter().map(|(from, to)| format!("{from}-{to}")).collect();
                format!("bytes={}", parts.join(", "))
            }
            Wanted::Odd(text) => (*text).to_owned(),
        })
    }

    /// What an object of a size has of it; `None`: all of it, whatever is asked.
    pub fn of_size(&self, size: u64) -> Option<Vec<Range<u64>>> {
        let cut = |(from, to): (u64, u64)| from..size.min(to);
        let parts: Vec<(u64, u64)> = match self {
            Wanted::All | Wanted::Odd(_) => return None,
            Wanted::From(from) => Vec::from([(*from, size)]),
            Wanted::Between(from, to) => Vec::from([(*from, to + 1)]),
            Wanted::Last(count) => Vec::from([(size.saturating_sub(*count), size)]),
            Wanted::Several(parts) => parts.iter().map(|(from, to)| (*from, to + 1)).collect(),
        };
        Some(parts.into_iter().map(cut).filter(|part| part.start < part.end).collect())
    }
}

/// A request.
#[derive(Clone, Debug)]
pub struct Ask {
    pub object: usize,
    pub is_head: bool,
    pub wanted: Wanted,
    /// Versions whose tags or dates are sent along.
    pub if_range: Option<usize>,
    pub if_none_match: Option<usize>,
    pub no_cache: bool,
    pub accept: Option<&'static str>,
}

impl Ask {
    /// A whole object.
    pub fn whole(object: usize) -> Ask {
        Ask {
            object,
            is_head: false,
            wanted: Wanted::All,
            if_range: None,
            if_none_match: None,
            no_cache: false,
            accept: None,
        }
    }

    pub fn random(object: &Object, rng: &mut Rng) -> Ask {
        let size = object.versions[object.current()].size();
        let wanted = Wanted::random(size, rng);
        let known = |rng: &mut Rng| rng.below(object.versions.len() as u64) as usize;
        let has_names = !object.validators(0).is_empty();
        let if_range = (wanted != Wanted::All && has_names && rng.below(4) == 0).then(|| known(rng));
        let if_none_match = (has_names && rng.below(10) == 0).then(|| known(rng));
        let accept = object.kind.varies.then(|| VARIANTS[rng.below(VARIANTS.len() as u64) as usize]);
        let (is_head, no_cache) = (rng.below(12) == 0, rng.below(12) == 0);
        Ask { object: object.number, is_head, wanted, if_range, if_none_match, no_cache, accept }
    }

    /// The head of the request.
    pub fn head(&self, object: &Object) -> String {
        let method = if self.is_head { "HEAD" } else { "GET" };
        let mut head = format!("{method} {} HTTP/1.1\r\nHost: twin\r\n{CLIENTS_FIELD}: 1\r\n", object.path());
        let mut line = |name: &str, value: &str| head.push_str(&format!("{name}: {value}\r\n"));
        if let Some(range) = self.wanted.field() {
            line("Range", &range);
        }
        let validator = |version: usize| object.validators(version).remove(0);
        if let Some(version) = self.if_range {
            line("If-Range", &validator(version).1);
        }
        if let Some(version) = self.if_none_match {
            let (name, value) = validator(version);
            line(if name == "ETag" { "If-None-Match" } else { "If-Modified-Since" }, &value);
        }
        if self.no_cache {
            line("Cache-Control", "no-cache");
        }
        if let Some(accept) = self.accept {
            line("Accept", accept);
        }
        head.push_str("\r\n");
        head
    }
}
