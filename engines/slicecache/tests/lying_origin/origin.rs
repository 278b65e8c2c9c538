//! An origin with one object that changes, and its ways to lie. What it never does: send bytes of one version under the validator
//! of another; nobody could see that.

use super::rng::Rng;
use slicecache::state::subreply::Asked;
use slicecache::state::validator::{Validator, Version};
use std::ops::Range;

/// A head, and the bytes that follow: where they really are, and how many come before the connection breaks.
pub struct Reply {
    pub status: u16,
    pub fields: Vec<(&'static str, String)>,
    pub body: Range<u64>,
    pub version: u64,
    pub breaks_after: u64,
}

/// What it holds.
pub struct Origin {
    pub version: u64,
    pub sizes: Vec<u64>,
    pub is_honest: bool,
    /// It answers nothing but errors for a while, longer than is tried again.
    pub is_down: bool,
}

/// How it lies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lie {
    None,
    Unavailable,
    WrongRange,
    ShorterRange,
    IgnoresRange,
    IgnoresConditions,
    NoValidator,
    WeakValidator,
    Encoded,
    WrongSize,
    Forbidden,
    Gone,
    NoStore,
}

const LIES: [Lie; 12] = [
    Lie::Unavailable,
    Lie::WrongRange,
    Lie::ShorterRange,
    Lie::IgnoresRange,
    Lie::IgnoresConditions,
    Lie::NoValidator,
    Lie::WeakValidator,
    Lie::Encoded,
    Lie::WrongSize,
    Lie::Forbidden,
    Lie::Gone,
    Lie::NoStore,
];

pub fn tag(version: u64) -> String {
    format!("\"v{version}\"")
}

impl Origin {
    fn size(&self) -> u64 {
        self.sizes[self.version as usize]
    }

    /// Its object is another one from now on.
    pub fn change(&mut self, size: u64) {
        self.version += 1;
        self.sizes.push(size);
    }

    /// `None`: the connection broke before a head came.
    pub fn answer(&self, asked: &Asked, rng: &mut Rng) -> Option<Reply> {
        if self.is_down {
            return rng.once_in(2).then(|| self.plain(503));
        }
        let lies = !self.is_honest && rng.once_in(4);
        if lies && rng.once_in(5) {
            return None;
        }
        let lie = if lies { rng.pick(&LIES).expect("some") } else { Lie::None };
        let mut reply = self.reply(asked, lie);
        let length = reply.body.end - reply.body.start;
        reply.breaks_after =
            if !self.is_honest && length > 0 && rng.once_in(6) { rng.below(length) } else { length };
        Some(reply)
    }

    fn reply(&self, asked: &Asked, lie: Lie) -> Reply {
        match lie {
            Lie::Unavailable => return self.plain(503),
            Lie::Forbidden => return self.plain(403),
            Lie::Gone => return self.plain(404),
            Lie::IgnoresRange => return self.with_body(200, 0..self.size(), lie),
            _ => {}
        }
        let is_current = |version: &Version| version.validator == self.current_validator();
        let (wanted, status) = match asked {
            Asked::First(first) => (first.of_object(self.size()), None),
            Asked::Run(run, version) => {
                let status = (!is_current(version)).then_some(412);
                (Some(run.start.min(self.size())..run.end.min(self.size())), status)
            }
            Asked::Revalidation(first, version) => {
                (first.of_object(self.size()), is_current(version).then_some(304))
            }
        };
        if let Some(status) = status.filter(|_| lie != Lie::IgnoresConditions) {
            return self.plain(status);
        }
        match wanted.filter(|run| run.start < run.end) {
            Some(run) if lie == Lie::WrongRange => self.with_body(206, self.shifted(&run), lie),
            Some(run) if lie == Lie::ShorterRange => {
                self.with_body(206, run.start..run.start + (run.end - run.start).div_ceil(2), lie)
            }
            Some(run) => self.with_body(206, run, lie),
            None => {
                let mut reply = self.plain(416);
                reply.fields.push(("content-range", format!("bytes */{}", self.size())));
                reply
            }
        }
    }

    fn current_validator(&self) -> Validator {
        Validator::Tag(tag(self.version))
    }

    fn shifted(&self, run: &Range<u64>) -> Range<u64> {
        if run.start > 0 { run.start - 1..run.end - 1 } else { run.start..run.end - 1 }
    }

    fn plain(&self, status: u16) -> Reply {
        Reply { status, fields: Vec::new(), body: 0..0, version: self.version, breaks_after: 0 }
    }

    fn with_body(&self, status: u16, body: Range<u64>, lie: Lie) -> Reply {
        let control = if lie == Lie::NoStore { "no-store" } else { "max-age=5, stale-if-error=9" };
        let mut fields = vec![("cache-control", control.to_owned())];
        match lie {
            Lie::NoValidator => {}
            Lie::WeakValidator => fields.push(("etag", format!("W/{}", tag(self.version)))),
            _ => fields.push(("etag", tag(self.version))),
        }
        if lie == Lie::Encoded {
            fields.push(("content-encoding", "gzip".to_owned()));
        }
        if status == 206 && body.start < body.end {
            let size = if lie == Lie::WrongSize { self.size() + 1 } else { self.size() };
            fields.push(("content-range", format!("bytes {}-{}/{size}", body.start, body.end - 1)));
        }
        fields.push(("content-length", (body.end - body.start).to_string()));
        Reply { status, fields, body, version: self.version, breaks_after: 0 }
    }
}
