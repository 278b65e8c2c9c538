//! What an origin's answer to a request for a run means. Decided here in one function, before a byte of its body is stored or
//! sent: from status, Content-Range, validator, coding and length.
//!
//! Called with every head that an origin sends. Invariant: [`Meaning::Run`] names exactly the bytes that were asked for, of exactly
//! the version that was asked for.

use super::fields::Fields;
use super::retry::Fault;
use super::slices::FirstRun;
use super::validator::{Representation, Validator, Version};
use crate::limits::KEPT_BYTES_MAX;
use crate::planted::{self, Bug};
use net::http1::parse_content_range;
use std::ops::Range;

/// What was asked of the origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A first run, of whatever version there is.
    First(FirstRun),
    /// A run of a version: slices of it are held, or under way.
    Run(Range<u64>, Version),
    /// Whether the version still holds; the run comes along if another one does.
    Revalidation(FirstRun, Version),
}

impl Asked {
    fn version(&self) -> Option<&Version> {
        match self {
            Asked::First(_) => None,
            Asked::Run(_, version) | Asked::Revalidation(_, version) => Some(version),
        }
    }
}

/// The head of an answer.
pub struct Replied<'r> {
    /// Status code.
    pub status: u16,
    /// Fields.
    pub fields: &'r Fields<'r>,
    /// Content-Length, unless the body is framed otherwise.
    pub length: Option<u64>,
    /// When it came.
    pub now_s: u64,
}

/// Why an object is passed through instead of sliced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSliced {
    /// Its bytes are a transformation (Content-Encoding), which may be another one the next time.
    Encoded,
    /// Nothing tells its versions apart.
    NoValidator,
    /// Nobody says how large it is.
    NoSize,
}

/// What an answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// These bytes follow, of this version. To a first run: what the object has of it. To a revalidation: there is a new version.
    Run(Range<u64>, Version),
    /// The whole object follows: the origin knows no ranges, or the answer is not to be sliced. To pass on, and to store whole if
    /// that is allowed.
    Whole {
        /// Its version, if it has one and its size is known.
        version: Option<Version>,
        /// It is the version that was asked for.
        is_same: bool,
    },
    /// To be asked for anew, without Range: what came is a part of something that cannot be sliced.
    AskWhole(NotSliced),
    /// The version still holds.
    NotModified,
    /// The object is there and has nothing of the first run: this is its size.
    Beyond(u64),
    /// The version that was asked for is no more. All that was stored of it goes; what there is now is to be asked for anew.
    Changed,
    /// The answer is for the client: a redirect, an error, or anything else that is no object of which parts are stored.
    Relay,
    /// The origin refuses this request, which says nothing of the version: it is not tried again, and its clients are given the
    /// origin's own answer.
    Refused(u16),
    /// It may go better another time.
    Retry(Fault),
}

/// Whether an answer that means this may be kept whole in memory, if it is small: it is no object of which parts are stored, and its
/// bytes are no transformation; nor is it a stream of events, which is for who listens to it. `length`: if its head says it.
#[must_use]
pub fn may_keep(meaning: &Meaning, fields: &Fields<'_>, length: Option<u64>) -> bool {
    let is_small = length.is_none_or(|length| length <= KEPT_BYTES_MAX as u64);
    let is_whole = matches!(meaning, Meaning::Relay | Meaning::Whole { version: None, is_same: false });
    is_small && is_whole && !is_encoded(fields) && !is_stream(fields)
}

/// HTML §9.2, server-sent events: what follows may come at any time, or never end.
fn is_stream(fields: &Fields<'_>) -> bool {
    const TYPE: &[u8] = b"text/event-stream";
    fields.all("content-type").any(|value| {
        value.split(|&b| b == b';').next().is_some_and(|kind| kind.trim_ascii().eq_ignore_ascii_case(TYPE))
    })
}

/// What `replied` means to who asked for `asked`.
#[must_use]
pub fn meaning(asked: &Asked, replied: &Replied<'_>) -> Meaning {
    let known = asked.version();
    match replied.status {
        // Nobody asked for a part.
        206 if *asked == Asked::First(FirstRun::Whole) => Meaning::Retry(Fault::WrongRange),
        206 => partial(asked, replied),
        200 => whole(known, replied),
        304 if matches!(asked, Asked::Revalidation(..)) => not_modified(known, replied),
        // Nobody asked.
        304 => Meaning::Retry(Fault::Malformed),
        // §13.1.1: If-Match or If-Unmodified-Since did not hold.
        412 if known.is_some() => Meaning::Changed,
        416 => unsatisfied(asked, replied),
        status if is_failure(status) => {
            Meaning::Retry(Fault::Status { status, retry_after_s: retry_after_s(replied) })
        }
        _ if matches!(asked, Asked::First(_)) => Meaning::Relay,
        // The origin is up and will not give it now: the version may be as it was.
        401 | 403 | 407 | 408 | 425 | 429 | 431 | 451 | 501 | 505..=599 => Meaning::Refused(replied.status),
        // Gone, moved, or something else.
        _ => Meaning::Changed,
    }
}

/// RFC 5861 §4: an origin that fails, for which what is stale may stand in. Any other error is an answer (RFC 9111 §4.3.3).
fn is_failure(status: u16) -> bool {
    matches!(status, 500 | 502..=504)
}

/// Whether a refusal is about the object: the origin forbids it.
#[must_use]
pub fn forbids(status: u16) -> bool {
    matches!(status, 401 | 403 | 407 | 451)
}

fn partial(asked: &Asked, replied: &Replied<'_>) -> Meaning {
    let known = asked.version();
    let not_sliced = |why| if known.is_some() { Meaning::Changed } else { Meaning::AskWhole(why) };
    if is_encoded(replied.fields) {
        return not_sliced(NotSliced::Encoded);
    }
    // Several parts were not asked for: they have no Content-Range of their own (§15.3.7.2).
    let content_range = replied.fields.only("content-range").and_then(parse_content_range);
    let Some((first, last)) = content_range.and_then(|content_range| content_range.range) else {
        return Meaning::Retry(Fault::WrongRange);
    };
    let Some(size) = content_range.and_then(|content_range| content_range.size) else {
        return not_sliced(NotSliced::NoSize);
    };
    let Some(validator) = Representation::of(replied.fields, replied.now_s).validator() else {
        return not_sliced(NotSliced::NoValidator);
    };
    let size = if planted::is(Bug::PartialForWhole) && known.is_none() { last + 1 } else { size };
    let (run, version) = (first..last + 1, Version { validator, size });
    let expected = match asked {
        Asked::Run(_, wanted) if version != *wanted && !planted::is(Bug::ValidatorUncompared) => {
            return Meaning::Changed;
        }
        Asked::Run(wanted, _) => Some(wanted.clone()),
        Asked::First(wanted) | Asked::Revalidation(wanted, _) => wanted.of_object(size),
    };
    if expected.as_ref() != Some(&run) && !planted::is(Bug::ContentRangeUnchecked) {
        return Meaning::Retry(Fault::WrongRange);
    }
    if replied.length.is_some_and(|length| length != run.end - run.start) {
        return Meaning::Retry(Fault::Short);
    }
    match asked {
        // It took no notice of the condition; the version is the same.
        Asked::Revalidation(_, wanted) if version == *wanted => Meaning::NotModified,
        _ => Meaning::Run(run, version),
    }
}

fn whole(known: Option<&Version>, replied: &Replied<'_>) -> Meaning {
    let validator = Representation::of(replied.fields, replied.now_s).validator();
    let version = validator
        .filter(|_| !is_encoded(replied.fields))
        .and_then(|validator| Some(Version { validator, size: replied.length? }));
    match known {
        Some(known) if version.as_ref() != Some(known) => Meaning::Changed,
        known => Meaning::Whole { version, is_same: known.is_some() },
    }
}

/// RFC 9111 §4.3.4: a 304 refreshes what has the validator that it names. One that names none is about what was asked.
fn not_modified(known: Option<&Version>, replied: &Replied<'_>) -> Meaning {
    let said = Representation::of(replied.fields, replied.now_s);
    let names_another = match known.map(|known| &known.validator) {
        _ if planted::is(Bug::ForeignNotModified) => false,
        Some(Validator::Tag(tag) | Validator::Modified { weak_tag: Some(tag), .. })
            if replied.fields.has("etag") =>
        {
            said.etag.is_none_or(|etag| opaque(etag) != opaque(tag.as_bytes()))
        }
        Some(Validator::Modified { weak_tag: None, .. }) if replied.fields.has("etag") => true,
        Some(Validator::Modified { modified_s, .. }) => {
            said.last_modified_s.is_some_and(|said_s| said_s != *modified_s)
        }
        Some(Validator::Tag(_)) | None => false,
    };
    if names_another { Meaning::Changed } else { Meaning::NotModified }
}

/// A tag without the mark of a weak one: an origin may weaken it on the way (RFC 9110 §8.8.3.2, weak comparison).
fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

fn unsatisfied(asked: &Asked, replied: &Replied<'_>) -> Meaning {
    let content_range = replied.fields.only("content-range").and_then(parse_content_range);
    let size = content_range.filter(|said| said.range.is_none()).and_then(|said| said.size);
    match asked {
        // The run lies in an object of that size: it contradicts itself.
        Asked::Run(_, wanted) if size == Some(wanted.size) => Meaning::Retry(Fault::WrongRange),
        Asked::Run(..) => Meaning::Changed,
        // Nobody asked for a part.
        Asked::First(FirstRun::Whole) => Meaning::Relay,
        Asked::First(first) => match size {
            Some(size) if first.of_object(size).is_none() => Meaning::Beyond(size),
            Some(_) => Meaning::Retry(Fault::WrongRange),
            None => Meaning::AskWhole(NotSliced::NoSize),
        },
        // Whatever there is now: not what is stored, or there would be a 304 or the run.
        Asked::Revalidation(..) => Meaning::Changed,
    }
}

/// Whether the bytes of the body are a transformation of the object's.
fn is_encoded(fields: &Fields<'_>) -> bool {
    fields.all("content-encoding").any(|value| !value.is_empty() && !value.eq_ignore_ascii_case(b"identity"))
}

/// RFC 9110 §10.2.3: seconds, or a date.
fn retry_after_s(replied: &Replied<'_>) -> Option<u64> {
    let value = replied.fields.only("retry-after")?;
    let seconds = super::cache_control::delta_seconds(value);
    seconds.or_else(|| {
        let at_s = net::http1::parse_http_date(value, replied.now_s)?;
        Some(at_s.saturating_sub(replied.now_s))
    })
}

#[cfg(test)]
mod tests;
