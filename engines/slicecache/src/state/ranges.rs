//! What a client's conditions and Range get, now that size and validator of the object are known (RFC 9110 §13.2.2, §14.2).
//!
//! Called once for each answer. The Range field itself, with what is refused and what is coalesced of several ranges, is read in
//! `net`, the same for blobs. Invariants of an [`Answer`]: its ranges are not empty and lie in the object, and `body_bytes` is
//! exactly what its frame and its ranges amount to.

use super::fields::Fields;
use super::validator::Representation;
use crate::planted::{self, Bug};
use net::http1::conditional::{
    if_match_holds, if_modified_since_holds, if_none_match_holds, if_range_date_holds, if_range_holds,
    if_unmodified_since_holds,
};
use net::http1::{Method, Multipart, Ranges, Status, parse_range};
use std::ops::Range;

/// What to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// 200, 206, 304, 412 or 416.
    pub status: Status,
    /// The bytes of the object to send, in order; none of a 304, 412, 416, of an empty object, or for HEAD.
    pub ranges: Vec<Range<u64>>,
    /// What stands around them if they are several.
    pub multipart: Option<Multipart>,
    /// Content-Length. For HEAD: what GET would have got.
    pub body_bytes: u64,
}

/// What an answer is made of.
pub struct Asked<'a> {
    /// GET or HEAD.
    pub method: Method,
    /// The client's.
    pub fields: &'a Fields<'a>,
    /// Of what is stored.
    pub representation: Representation<'a>,
    /// Of the whole object.
    pub size: u64,
    /// Its Content-Type, for the parts of a multipart answer.
    pub content_type: &'a str,
    /// The time, for dates with two digits.
    pub now_s: u64,
}

impl Asked<'_> {
    /// What to answer. `random` becomes the boundary of a multipart answer.
    #[must_use]
    pub fn answer(&self, random: [u64; 2]) -> Answer {
        debug_assert!(matches!(self.method, Method::Get | Method::Head));
        match self.precondition() {
            Some(status) => self.bodiless(status),
            None => self.satisfy(self.ranges(), random),
        }
    }

    /// §13.2.2: the status of a condition that does not hold.
    fn precondition(&self) -> Option<Status> {
        let Representation { etag, last_modified_s, .. } = self.representation;
        // What is stored exists, tag or not.
        let current = Some(etag.unwrap_or(b""));
        if let Some(value) = self.fields.joined("if-match") {
            if !if_match_holds(&value, current) {
                return Some(Status::PreconditionFailed);
            }
        } else if let Some((value, at_s)) = self.fields.only("if-unmodified-since").zip(last_modified_s)
            && !if_unmodified_since_holds(value, at_s, self.now_s)
        {
            return Some(Status::PreconditionFailed);
        }
        if let Some(value) = self.fields.joined("if-none-match") {
            if !if_none_match_holds(&value, current) {
                return Some(Status::NotModified);
            }
        } else if let Some((value, at_s)) = self.fields.only("if-modified-since").zip(last_modified_s)
            && !if_modified_since_holds(value, at_s, self.now_s)
        {
            return Some(Status::NotModified);
        }
        None
    }

    fn ranges(&self) -> Ranges {
        // §14.2: "A server MUST ignore a Range header field received with a request method that is unrecognized or for which
        // range handling is not defined": it is for GET alone. Two Range fields are none.
        match self.fields.only("range") {
            Some(value) if self.method == Method::Get && self.is_range_meant() => {
                parse_range(value, self.size)
            }
            _ => Ranges::None,
        }
    }

    /// §13.1.5: If-Range, a strong tag or a date that is a strong validator.
    fn is_range_meant(&self) -> bool {
        if !self.fields.has("if-range") || planted::is(Bug::IfRangeIgnored) {
            return true;
        }
        let Some(value) = self.fields.only("if-range") else { return false };
        let Representation { etag, last_modified_s, is_modified_strong } = self.representation;
        if value.contains(&b'"') {
            return etag.is_some_and(|etag| if_range_holds(value, etag));
        }
        last_modified_s.is_some_and(|at_s| is_modified_strong && if_range_date_holds(value, at_s, self.now_s))
    }

    fn satisfy(&self, ranges: Ranges, random: [u64; 2]) -> Answer {
        match ranges {
            Ranges::None => self.one(Status::Ok, 0..self.size),
            Ranges::Single(range) => self.one(Status::PartialContent, range),
            Ranges::Unsatisfiable => self.bodiless(Status::RangeNotSatisfiable),
            Ranges::Multi(ranges) => {
                let boundary = format!("{:016x}{:016x}", random[0], random[1]);
                let multipart = Multipart::new(self.content_type, &boundary, &ranges, self.size);
                let body_bytes = multipart.content_length;
                debug_assert!(multipart.preludes.len() == ranges.len() && ranges.len() > 1);
                Answer { status: Status::PartialContent, ranges, multipart: Some(multipart), body_bytes }
            }
        }
    }

    fn one(&self, status: Status, range: Range<u64>) -> Answer {
        debug_assert!(range.start <= range.end && range.end <= self.size);
        let body_bytes = range.end - range.start;
        let is_sent = self.method == Method::Get && body_bytes > 0;
        let ranges = if is_sent { Vec::from([range]) } else { Vec::new() };
        Answer { status, ranges, multipart: None, body_bytes }
    }

    fn bodiless(&self, status: Status) -> Answer {
        Answer { status, ranges: Vec::new(), multipart: None, body_bytes: 0 }
    }
}

#[cfg(test)]
mod tests;
