//! What may be stored, how long it is fresh, and what it is good for when it is not: RFC 9111 for a shared cache, and RFC 5861.
//!
//! Called with what an origin answered ([`why_not_stored`], [`Freshness::of_response`]) and with what is stored and asked for
//! ([`Freshness::good_for`]). Times in seconds since 1970, from the caller's clock.
//!
//! Stricter than the RFC where a wrong guess would hurt others: no answer with Set-Cookie is stored, and of statuses from 400
//! on only those that cannot be provoked by the form of somebody's request.

use super::cache_control::{CacheControl, DELTA_SECONDS_MAX, delta_seconds};
use super::fields::Fields;
use super::key::vary_names;
use super::purge::tags_of;
use crate::planted::{self, Bug};
use net::http1::{Method, parse_http_date};

/// §4.2.2: of the time since the last modification, the share that a guess takes for the lifetime: a tenth.
const HEURISTIC_SHARE: u64 = 10;
/// The longest guess (§4.2.2: with more than a day a cache once had to warn).
const HEURISTIC_MAX_S: u64 = 86_400;

/// What the operator says of lifetimes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// The lifetime when the origin states none; `None`: it is guessed from Last-Modified.
    pub cache_ttl_s: Option<u64>,
    /// Lifetimes by status of answers from 400 on for which the origin states none. Others of them are not stored.
    pub negative_s: Vec<(u16, u64)>,
}

/// Why an answer is not stored. The names are those of Cache-Status' `detail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotStored {
    /// §3: the method is not GET.
    Method,
    /// §3: no final status, or one that must not be kept.
    Status,
    /// §5.2.1.5 or §5.2.2.5.
    NoStore,
    /// §5.2.2.7
    Private,
    /// §3.5
    Authorization,
    /// Not in the RFC: what sets a cookie is for one client.
    SetCookie,
    /// §4.1: `*`.
    Vary,
    /// Not in the RFC: more tags than purges tell apart.
    Tags,
    /// §3, last item: nothing says that it may be reused.
    NoLifetime,
}

/// An exchange with an origin, as far as storing goes.
pub struct Exchanged<'e> {
    /// The client's method.
    pub method: Method,
    /// The client's fields.
    pub request: &'e Fields<'e>,
    /// The status of the answer; 206 stands for the object's 200.
    pub status: u16,
    /// Its fields.
    pub response: &'e Fields<'e>,
    /// When the request was sent.
    pub request_s: u64,
    /// When the head of the answer had come.
    pub response_s: u64,
}

/// RFC 9111 §3: whether the answer must not be stored, and why.
#[must_use]
pub fn why_not_stored(exchanged: &Exchanged<'_>, lifetimes: &Lifetimes) -> Option<NotStored> {
    let of_response = CacheControl::of_response(exchanged.response);
    let of_request = CacheControl::of_request(exchanged.request);
    // "if the request method is understood by the cache": an answer to HEAD has no body that could be kept.
    if exchanged.method != Method::Get {
        return Some(NotStored::Method);
    }
    if !is_kept(exchanged.status) {
        return Some(NotStored::Status);
    }
    // All statuses that are kept are understood, so must-understand (§5.2.2.3) leaves no-store without force.
    let is_ignored = planted::is(Bug::NoStoreIgnored);
    if of_request.no_store || (of_response.no_store && !of_response.must_understand && !is_ignored) {
        return Some(NotStored::NoStore);
    }
    if of_response.private {
        return Some(NotStored::Private);
    }
    // §3.5: "must-revalidate, public, and s-maxage".
    let allows_shared = of_response.must_revalidate || of_response.public || of_response.s_maxage_s.is_some();
    if exchanged.request.has("authorization") && !allows_shared {
        return Some(NotStored::Authorization);
    }
    if exchanged.response.has("set-cookie") {
        return Some(NotStored::SetCookie);
    }
    if vary_names(exchanged.response).is_none() {
        return Some(NotStored::Vary);
    }
    if tags_of(exchanged.response).is_none() {
        return Some(NotStored::Tags);
    }
    let lifetime =
        stated_lifetime_s(&of_response, exchanged).or_else(|| assumed_lifetime_s(exchanged, lifetimes));
    (lifetime.is_none() && !of_response.public).then_some(NotStored::NoLifetime)
}

/// Errors that may be kept: none that a client provokes by the form of its request.
pub const ERRORS_KEPT: [u16; 7] = [404, 410, 451, 500, 502, 503, 504];

/// Statuses whose answers are kept. 400, 405, 413, 414, 431, 501 and the like are a client's own doing: kept, they would be
/// served to clients that did nothing of the kind.
fn is_kept(status: u16) -> bool {
    matches!(status, 200 | 203 | 204 | 206 | 300..=303 | 307 | 308) || ERRORS_KEPT.contains(&status)
}

/// §4.2.2 and §3: statuses that may be reused without the origin's word (RFC 9110 §15.1), of those that are kept.
fn is_heuristic(status: u16) -> bool {
    matches!(status, 200 | 203 | 204 | 206 | 300 | 301 | 308)
}

/// §4.2.1, for a shared cache.
fn stated_lifetime_s(control: &CacheControl, exchanged: &Exchanged<'_>) -> Option<u64> {
    let of_control = control.s_maxage_s.or(control.max_age_s);
    of_control.or_else(|| {
        // §5.3: "invalid date formats, especially including the value "0", as representing a time in the past".
        let expires = exchanged.response.joined("expires")?;
        let expires_s = parse_http_date(&expires, exchanged.response_s).unwrap_or(0);
        Some(expires_s.saturating_sub(date_s(exchanged)))
    })
}

/// The lifetime when the origin states none.
fn assumed_lifetime_s(exchanged: &Exchanged<'_>, lifetimes: &Lifetimes) -> Option<u64> {
    if exchanged.status >= 400 {
        let of_status = lifetimes.negative_s.iter().find(|(status, _)| *status == exchanged.status);
        return of_status.map(|(_, lifetime_s)| *lifetime_s);
    }
    if !is_heuristic(exchanged.status) {
        return None;
    }
    lifetimes.cache_ttl_s.or_else(|| {
        let modified = exchanged.response.only("last-modified")?;
        let modified_s = parse_http_date(modified, exchanged.response_s)?;
        Some((date_s(exchanged).saturating_sub(modified_s) / HEURISTIC_SHARE).min(HEURISTIC_MAX_S))
    })
}

/// RFC 9110 §6.6.1: a recipient without a Date takes the time of receipt.
fn date_s(exchanged: &Exchanged<'_>) -> u64 {
    let date = exchanged.response.only("date");
    date.and_then(|value| parse_http_date(value, exchanged.response_s)).unwrap_or(exchanged.response_s)
}

/// How fresh a stored answer is; kept beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// When the head of the answer, or of the 304 that refreshed it, had come.
    pub response_s: u64,
    /// §4.2.3 `corrected_initial_age`.
    pub initial_age_s: u64,
    /// §4.2.1
    pub lifetime_s: u64,
    /// RFC 5861 §3
    pub stale_while_revalidate_s: u64,
    /// RFC 5861 §4
    pub stale_if_error_s: u64,
    /// §4.2.4: never stale: must-revalidate, proxy-revalidate, or s-maxage with nothing said of staleness.
    pub must_revalidate: bool,
    /// §5.2.2.4: never without asking.
    pub no_cache: bool,
}

/// What a stored answer is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// To be served.
    Fresh,
    /// To be served, though it is stale, as the client said it would take it (§5.2.1.2).
    Stale,
    /// To be served, while it is revalidated for later requests (RFC 5861 §3).
    StaleWhileRevalidate,
    /// To be revalidated first; when the origin fails it may (RFC 5861 §4) or may not be served.
    Revalidate {
        /// It may.
        if_error: bool,
    },
    /// 504: the client wants no request to the origin (§5.2.1.7).
    OnlyIfCached,
}

impl Freshness {
    /// Of an answer that may be stored. A 304 (§4.3.4) is judged with the status and the fields of what it refreshes, its own
    /// among them.
    ///
    /// # Errors
    /// Why it must not be stored.
    pub fn if_stored(exchanged: &Exchanged<'_>, lifetimes: &Lifetimes) -> Result<Freshness, NotStored> {
        match why_not_stored(exchanged, lifetimes) {
            Some(why) => Err(why),
            None => Ok(Freshness::of_response(exchanged, lifetimes)),
        }
    }

    /// Of an answer that [`why_not_stored`] lets pass.
    #[must_use]
    pub fn of_response(exchanged: &Exchanged<'_>, lifetimes: &Lifetimes) -> Freshness {
        let control = CacheControl::of_response(exchanged.response);
        let stated_s = stated_lifetime_s(&control, exchanged);
        let lifetime_s = stated_s.or_else(|| assumed_lifetime_s(exchanged, lifetimes)).unwrap_or(0);
        let says_stale = control.stale_while_revalidate_s.is_some() || control.stale_if_error_s.is_some();
        Freshness {
            response_s: exchanged.response_s,
            initial_age_s: initial_age_s(exchanged),
            lifetime_s: lifetime_s.min(DELTA_SECONDS_MAX),
            stale_while_revalidate_s: control.stale_while_revalidate_s.unwrap_or(0),
            stale_if_error_s: control.stale_if_error_s.unwrap_or(0),
            // §5.2.2.10: s-maxage means proxy-revalidate. An origin that allows staleness in the same field means that.
            must_revalidate: control.must_revalidate || (control.s_maxage_s.is_some() && !says_stale),
            no_cache: control.no_cache,
        }
    }

    /// §4.2.3 `current_age`; what Age says.
    #[must_use]
    pub fn age_s(&self, now_s: u64) -> u64 {
        let resident_s = now_s.saturating_sub(self.response_s);
        self.initial_age_s.saturating_add(resident_s).min(DELTA_SECONDS_MAX)
    }

    /// Seconds for which it is still fresh, negative when it is stale; what `ttl` of Cache-Status says.
    #[must_use]
    pub fn ttl_s(&self, now_s: u64) -> i64 {
        let signed = |seconds: u64| i64::try_from(seconds).expect("at most DELTA_SECONDS_MAX");
        signed(self.lifetime_s) - signed(self.age_s(now_s))
    }

    /// As if its lifetime was over: after a soft purge.
    #[must_use]
    pub fn expired(self) -> Freshness {
        let lifetime_s = if planted::is(Bug::SoftPurgeIgnored) { self.lifetime_s } else { 0 };
        Freshness { lifetime_s, ..self }
    }

    /// To be asked about before it is served to anybody: the origin forbids it.
    #[must_use]
    pub fn forbidden(self) -> Freshness {
        Freshness { lifetime_s: 0, must_revalidate: true, ..self }
    }

    /// Whether there is a moment after now at which it could be served before the origin was asked, to some request at least, or in
    /// place of an error.
    #[must_use]
    pub fn may_be_served_unasked(&self) -> bool {
        let stale_s = self.stale_while_revalidate_s.max(self.stale_if_error_s);
        let stale_s = if self.must_revalidate { 0 } else { stale_s };
        !self.no_cache && self.initial_age_s < self.lifetime_s.saturating_add(stale_s)
    }

    /// §4, §5.2.1: what it is good for at `now_s`, for a request with `control`.
    #[must_use]
    pub fn good_for(&self, control: &CacheControl, now_s: u64) -> Use {
        let age_s = if planted::is(Bug::FreshnessIgnored) { 0 } else { self.age_s(now_s) };
        // §4.2: fresh as long as `freshness_lifetime > current_age`.
        let stale_s = (age_s >= self.lifetime_s).then(|| age_s - self.lifetime_s);
        let is_refused = self.no_cache || control.no_cache || !self.suits(control, age_s);
        let may_be_stale = !self.must_revalidate && !self.no_cache;
        let answer = match stale_s {
            None if !is_refused => Use::Fresh,
            Some(stale_s)
                if may_be_stale && !is_refused && control.max_stale_s.is_some_and(|s| stale_s <= s) =>
            {
                Use::Stale
            }
            Some(stale_s) if may_be_stale && !is_refused && stale_s < self.stale_while_revalidate_s => {
                Use::StaleWhileRevalidate
            }
            _ => {
                let stale_s = stale_s.unwrap_or(0);
                let allowed_s = self.stale_if_error_s.max(control.stale_if_error_s.unwrap_or(0));
                Use::Revalidate { if_error: may_be_stale && stale_s < allowed_s }
            }
        };
        match answer {
            Use::Revalidate { .. } if control.only_if_cached => Use::OnlyIfCached,
            // "While it is revalidated" is a request to the origin too.
            Use::StaleWhileRevalidate if control.only_if_cached => Use::Stale,
            answer => answer,
        }
    }

    /// §5.2.1.1 max-age and §5.2.1.3 min-fresh of a request. A max-stale beside a max-age lengthens it.
    fn suits(&self, control: &CacheControl, age_s: u64) -> bool {
        let age_max_s = control.max_age_s.map(|s| s.saturating_add(control.max_stale_s.unwrap_or(0)));
        let is_young = age_max_s.is_none_or(|max_s| age_s <= max_s);
        let stays_fresh =
            control.min_fresh_s.is_none_or(|fresh_s| age_s.saturating_add(fresh_s) < self.lifetime_s);
        is_young && stays_fresh
    }
}

/// §4.2.3: `max(apparent_age, age_value + response_delay)`.
fn initial_age_s(exchanged: &Exchanged<'_>) -> u64 {
    let apparent_s = exchanged.response_s.saturating_sub(date_s(exchanged));
    // §5.1: of several the first one counts; what is no number is ignored.
    let age = exchanged.response.all("age").next();
    let age = age.map(|value| value.split(|&b| b == b',').next().unwrap_or_default().trim_ascii());
    let age_s = age.and_then(delta_seconds).unwrap_or(0);
    let delay_s = exchanged.response_s.saturating_sub(exchanged.request_s);
    apparent_s.max(age_s.saturating_add(delay_s)).min(DELTA_SECONDS_MAX)
}

/// §4.4: whether an answer to this method says that what is stored for its target no longer holds.
#[must_use]
pub fn invalidates(method: Method, status: u16) -> bool {
    let is_safe = matches!(method, Method::Get | Method::Head | Method::Options);
    !is_safe && (200..400).contains(&status)
}

#[cfg(test)]
mod tests;
