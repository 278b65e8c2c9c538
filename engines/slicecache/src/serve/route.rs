//! What a head asks for, free of the connection's memory. Pure.

use crate::api::Ask;
use crate::config::Config;
use crate::state::cache_control::CacheControl;
use crate::state::fields::Fields;
use crate::state::forward::{Bypassed, Line, why_bypassed};
use crate::state::hops::Hops;
use crate::state::key::CacheKey;
use crate::state::plain::plain;
use crate::state::purge::{Purge, purges_of};
use crate::state::status::Told;
use net::Refusal;
use net::http1::{Head, Method, Status};
use std::cell::Cell;
use std::sync::Arc;

/// A request.
#[derive(Debug)]
pub struct Routed {
    /// What it wants.
    pub want: Want,
    /// Of the object.
    pub key: CacheKey,
    /// Which of the origins has it.
    pub origin: usize,
    /// Method and fields as the client sent them, for the origin.
    pub method_name: String,
    /// GET, HEAD or another.
    pub method: Method,
    /// As the client sent it, for the access log.
    pub target: String,
    /// What the client was told of the cache, for the access log.
    pub told: Cell<Option<Told>>,
    /// It wishes nothing but what it names.
    pub is_plain: bool,
    /// The fields, if `want` does not have them.
    lines: Vec<Line>,
}

/// What a request wants.
#[derive(Debug)]
pub enum Want {
    /// An object that may be sliced.
    Slices(Arc<Ask>),
    /// The origin's own answer.
    Pass(Bypassed),
    /// That things are forgotten.
    Purge(Vec<Purge>),
    /// To be told what can be done here: an OPTIONS that goes no further.
    Options,
    /// To be told that it is not taken.
    Refuse(Refusal),
}

impl Routed {
    /// A request that is not taken, to be answered and noted all the same.
    pub fn refused(head: &Head<'_>, refusal: Refusal) -> Routed {
        let key = CacheKey { origin: String::new(), path: "/".to_owned(), query: None };
        Routed::new(head, Want::Refuse(refusal), key, 0, lines_of(head))
    }

    fn new(head: &Head<'_>, want: Want, key: CacheKey, origin: usize, lines: Vec<Line>) -> Routed {
        Routed {
            want,
            key,
            origin,
            method_name: head.method_name.to_owned(),
            method: head.method,
            target: head.target.to_owned(),
            told: Cell::new(None),
            is_plain: plain(head).is_some(),
            lines,
        }
    }

    /// The client's fields.
    pub fn lines(&self) -> &[Line] {
        match &self.want {
            Want::Slices(ask) => &ask.lines,
            _ => &self.lines,
        }
    }
}

fn lines_of(head: &Head<'_>) -> Vec<Line> {
    head.headers().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}

/// Understands a head, or says what is wrong with it.
pub fn route(head: &Head<'_>, config: &Config, may_purge: bool) -> Result<Routed, Refusal> {
    let fields = Fields::of_request(head);
    let key = CacheKey::new("", head.path, head.query);
    let key =
        key.map_err(|_| Refusal::new(Status::BadRequest, "the path has a % without two hexadecimal digits"))?;
    let routed = |want, key, origin, lines| Ok(Routed::new(head, want, key, origin, lines));
    if head.method == Method::Purge {
        if !may_purge {
            let why = "PURGE needs a token where others than this machine can ask: give a token file";
            return Err(Refusal::new(Status::Forbidden, why));
        }
        let bad = |_| Refusal::new(Status::BadRequest, "the purge is malformed, or names too much");
        let purges = purges_of(head.path, head.query, &fields).map_err(bad)?;
        return routed(Want::Purge(purges), key, 0, lines_of(head));
    }
    let found = config.origins.of_path(&key.path);
    let found =
        found.and_then(|found| Some((config.origins.iter().position(|other| other == found)?, found)));
    let Some((origin, found)) = found else {
        return Err(Refusal::new(Status::NotFound, "no origin has this path"));
    };
    let key = CacheKey { origin: format!("{}://{}", found.url.scheme(), found.url.authority()), ..key };
    let control = CacheControl::of_request(&fields);
    let mut lines = lines_of(head);
    if head.method == Method::Options || head.method_name == "TRACE" {
        let hops = Hops::of(&fields);
        match hops {
            Hops::None if head.method == Method::Options => return routed(Want::Options, key, origin, lines),
            Hops::None => return Err(Refusal::new(Status::NotImplemented, "TRACE is not answered here")),
            Hops::Malformed => return Err(Refusal::new(Status::BadRequest, "Max-Forwards is one number")),
            Hops::Any | Hops::Left(_) => hops.count(&mut lines),
        }
    }
    match why_bypassed(head.method, head.body, &fields, &control, config.patterns.hold(&key.path)) {
        Some(why) => routed(Want::Pass(why), key, origin, lines),
        None => {
            let (name, method) = (key.name(), head.method);
            let ask = Ask { key: key.clone(), name, origin, method, lines };
            routed(Want::Slices(Arc::new(ask)), key, origin, Vec::new())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Origins, Patterns};
    use net::http1::{Parsed, parse_head};

    fn routed(line: &str, fields: &str) -> Result<Routed, u16> {
        let text = format!("{line} HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        let mut config = Config::new(Origins::new(["/a=http://a:81", "/b=https://b"]).expect("two"));
        config.patterns = Patterns::new(&["\\.mp4$"]).expect("one");
        match parse_head(text.as_bytes()) {
            Ok(Parsed::Complete(head)) => {
                route(&head, &config, !fields.contains("X-Far")).map_err(|r| r.status.code())
            }
            _ => panic!("not a head: {text}"),
        }
    }

    #[test]
    fn requests_are_understood() {
        let Ok(Routed { want: Want::Slices(ask), key, .. }) =
            routed("HEAD /a/../b/x%2emp4?q", "Range: bytes=0-1\r\n")
        else {
            panic!("it may be sliced")
        };
        assert_eq!((key.origin.as_str(), key.target().as_str()), ("https://b", "/b/x.mp4?q"));
        assert_eq!((ask.name, ask.method, ask.lines.len()), (key.name(), Method::Head, 2));
        let Ok(passed) = routed("PATCH /a/x.mp4", "Content-Length: 2\r\n") else { panic!("passed") };
        assert!(matches!(passed.want, Want::Pass(Bypassed::Method)) && passed.method_name == "PATCH");
        assert_eq!(passed.lines().len(), 2);
        assert!(matches!(routed("GET /a/x", "").map(|r| r.want), Ok(Want::Pass(Bypassed::Pattern))));
        assert!(
            matches!(routed("PURGE /a/x", "").map(|r| r.want), Ok(Want::Purge(purges)) if purges.len() == 1)
        );
    }

    #[test]
    fn what_goes_no_further_is_answered_here() {
        let options = routed("OPTIONS /a/x", "Max-Forwards: 0\r\n").map(|r| r.want);
        assert!(matches!(options, Ok(Want::Options)), "{options:?}");
        for line in ["OPTIONS /a/x", "TRACE /a/x"] {
            let Ok(passed) = routed(line, "Max-Forwards: 7\r\n") else { panic!("{line} is passed") };
            assert!(matches!(passed.want, Want::Pass(Bypassed::Method)), "{line}");
            assert_eq!(passed.lines()[1].1, b"6", "{line}");
        }
        // Of other methods it says nothing.
        let get = routed("POST /a/x", "Max-Forwards: 0\r\nContent-Length: 0\r\n");
        assert!(get.is_ok_and(|get| get.lines()[1].1 == b"0"));
    }

    #[test]
    fn the_rest_is_refused() {
        for (line, fields, status) in [
            ("GET /c", "", 404),
            ("GET /a/%zz", "", 400),
            ("PURGE /a", "X-Far: 1\r\n", 403),
            ("TRACE /a", "Max-Forwards: 0\r\n", 501),
            ("OPTIONS /a", "Max-Forwards: one\r\n", 400),
        ] {
            assert_eq!(routed(line, fields).err(), Some(status), "{line}");
        }
    }
}
