//! What the origin answers: status, fields and bytes, rightly or as a lie has it. Called by `origin`.

use super::lies::Lie;
use super::objects::Object;
use runtime::twin::Rng;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

/// A client's own requests carry it; those of the cache must not.
pub const CLIENTS_FIELD: &str = "x-client";

/// A request, fields in lower case.
pub struct Request {
    pub method: String,
    pub path: String,
    fields: BTreeMap<String, String>,
}

impl Request {
    pub fn parse(head: &str) -> Request {
        let mut lines = head.split("\r\n");
        let mut words = lines.next().expect("a request line").split(' ');
        let mut word = || words.next().expect("three words").to_owned();
        let (method, path) = (word(), word());
        let fields = lines.filter_map(|line| line.split_once(':'));
        let fields = fields.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
        Request { method, path, fields: fields.collect() }
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }
}

/// How the end of a body is told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Length,
    Chunked,
    UntilClose,
}

/// An answer.
pub struct Reply {
    pub status: u16,
    pub fields: Vec<(&'static str, String)>,
    pub version: usize,
    /// Of the whole version, and what of it is sent.
    pub body: Rc<Vec<u8>>,
    pub part: Range<u64>,
    pub framing: Framing,
    /// The version that the answer says holds.
    pub vouched: Option<usize>,
}

/// The answer about an object.
pub fn reply(object: &mut Object, variant: usize, request: &Request, lie: Lie, rng: &mut Rng) -> Reply {
    let version = object.current();
    let body = object.versions[version].bytes[variant].clone();
    let plain = |status, vouched| Reply {
        status,
        fields: Vec::new(),
        version,
        body: body.clone(),
        part: 0..0,
        framing: Framing::Length,
        vouched,
    };
    match lie {
        Lie::Unavailable | Lie::NotNow => {
            let wait_s = if lie == Lie::NotNow { "60" } else { "1" };
            let mut reply = plain(503, None);
            reply.fields.push(("Retry-After", wait_s.to_owned()));
            return reply;
        }
        Lie::Fails => return plain(500, None),
        Lie::Gone => return plain(404, None),
        Lie::Forbidden => return plain(403, None),
        Lie::Redirects => {
            let mut reply = plain(302, None);
            reply.fields.push(("Location", "/x/elsewhere".to_owned()));
            return reply;
        }
        _ => {}
    }
    if request.method == "POST" {
        return plain(200, None);
    }
    if let Some(reply) = not_modified(object, request, lie, &plain) {
        return reply;
    }
    let ignores = matches!(lie, Lie::IgnoresConditions | Lie::ChangesAndIgnores);
    if !ignores && has_failed(object, request) {
        return plain(412, None);
    }
    let size = body.len() as u64;
    let size_said = if lie == Lie::WrongSize { size + 1 } else { size };
    object.versions[version].sizes_said.insert(size_said);
    let range = range_of(object, request).filter(|_| lie != Lie::WholeForRange);
    let (status, part) = match range.map(|range| of_size(range, size)) {
        None => (200, 0..size),
        Some(None) => (416, 0..0),
        Some(Some(part)) => (206, bend(part, size, lie, rng)),
    };
    let mut reply = Reply { part: part.clone(), ..plain(status, Some(version)) };
    match status {
        206 => {
            let range = format!("bytes {}-{}/{size_said}", part.start, part.end - 1);
            reply.fields.push(("Content-Range", range));
        }
        416 => reply.fields.push(("Content-Range", format!("bytes */{size_said}"))),
        _ => {}
    }
    describe(object, &mut reply, lie);
    reply
}

/// The fields of what is sent, and how its end is told.
fn describe(object: &Object, reply: &mut Reply, lie: Lie) {
    reply.fields.push(("X-Version", reply.version.to_string()));
    for (name, value) in object.validators(reply.version) {
        match lie {
            Lie::NoValidator => {}
            Lie::WeakValidator if name == "ETag" => reply.fields.push((name, format!("W/{value}"))),
            _ => reply.fields.push((name, value)),
        }
    }
    if lie == Lie::Encoded {
        reply.fields.push(("Content-Encoding", "gzip".to_owned()));
    }
    reply.framing = match lie {
        Lie::Chunked if reply.status != 416 => Framing::Chunked,
        Lie::UntilClose if reply.status != 416 => Framing::UntilClose,
        _ => Framing::Length,
    };
}

/// Whether the object is the one that is asked about, said rightly or wrongly.
fn not_modified(
    object: &Object,
    request: &Request,
    lie: Lie,
    plain: &dyn Fn(u16, Option<usize>) -> Reply,
) -> Option<Reply> {
    let asked = request.field("if-none-match").or(request.field("if-modified-since"));
    let asked_version = asked.and_then(|asked| object.version_of(asked));
    let current = object.current();
    match lie {
        Lie::UnaskedNotModified => {
            let mut reply = plain(304, Some(current));
            reply.fields = object.validators(current);
            reply.fields.push(("X-Version", current.to_string()));
            Some(reply)
        }
        // Without a word of which version that is: it is the one that was asked about.
        Lie::BlindNotModified => Some(plain(304, asked_version)),
        Lie::ForeignNotModified => {
            let mut reply = plain(304, None);
            reply.fields.push(("ETag", "\"none that ever was\"".to_owned()));
            Some(reply)
        }
        Lie::IgnoresConditions | Lie::ChangesAndIgnores => None,
        _ if asked_version == Some(current) => {
            let mut reply = plain(304, Some(current));
            reply.fields = object.validators(current);
            reply.fields.push(("X-Version", current.to_string()));
            Some(reply)
        }
        _ => None,
    }
}

fn has_failed(object: &Object, request: &Request) -> bool {
    let asked = request.field("if-match").or(request.field("if-unmodified-since"));
    asked.is_some_and(|asked| object.version_of(asked) != Some(object.current()))
}

/// The range asked for: of several parts none is heeded. `(from, to)`, or the last so many.
fn range_of(object: &Object, request: &Request) -> Option<(Option<u64>, Option<u64>)> {
    let is_meant =
        request.field("if-range").is_none_or(|asked| object.version_of(asked) == Some(object.current()));
    let text = request.field("range").filter(|_| is_meant && request.method == "GET")?;
    let (from, to) = text.strip_prefix("bytes=")?.split_once('-').filter(|_| !text.contains(','))?;
    let number = |text: &str| text.parse::<u64>().ok();
    let (from, to) = (number(from), number(to));
    let means_something = to.is_none_or(|to| from.is_none_or(|from| from <= to));
    (means_something && from.or(to).is_some()).then_some((from, to))
}

fn of_size((from, to): (Option<u64>, Option<u64>), size: u64) -> Option<Range<u64>> {
    let part = match (from, to) {
        (Some(from), to) => from..to.map_or(size, |to| size.min(to + 1)),
        (None, last) => size.saturating_sub(last.expect("a suffix has a length"))..size,
    };
    (part.start < part.end).then_some(part)
}

/// Another range than the one asked for, labelled as what it is.
fn bend(part: Range<u64>, size: u64, lie: Lie, rng: &mut Rng) -> Range<u64> {
    match lie {
        Lie::Shifted if part.start > 0 => part.start - 1..part.end - 1,
        Lie::Shifted if part.end < size => part.start + 1..part.end + 1,
        Lie::Half => part.start..part.start + (part.end - part.start).div_ceil(2),
        Lie::Elsewhere => {
            let from = rng.below(size);
            from..size.min(from + (part.end - part.start))
        }
        _ => part,
    }
}

/// The bytes of its head.
pub fn head_of(reply: &Reply, is_head: bool) -> String {
    let mut text = format!("HTTP/1.1 {} said\r\n", reply.status);
    for (name, value) in &reply.fields {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    match reply.framing {
        _ if reply.status == 304 => {}
        Framing::Length if is_head => text.push_str(&format!("Content-Length: {}\r\n", reply.body.len())),
        Framing::Length => {
            text.push_str(&format!("Content-Length: {}\r\n", reply.part.end - reply.part.start));
        }
        Framing::Chunked => text.push_str("Transfer-Encoding: chunked\r\n"),
        Framing::UntilClose => text.push_str("Connection: close\r\n"),
    }
    text.push_str("\r\n");
    text
}
