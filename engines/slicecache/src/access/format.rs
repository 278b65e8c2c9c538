//! A line of the access log: `combined` as Apache and nginx write it, with what the cache did behind it, or a JSON object. Pure.
//!
//! `combined`: `peer - - [time] "request" status bytes "referer" "user agent" "cache" seconds`; the cache's word is that of
//! X-Cache. Invariant: one request is one line, whatever its client sent: bytes that could end a line or a quoted text are escaped,
//! `\xHH` in `combined`, as JSON does in `json`.

use crate::state::status::Told;
use net::http1::HttpDate;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::str::FromStr;

/// The shape of lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// As nginx's `combined`, and two more.
    #[default]
    Combined,
    /// An object a line.
    Json,
}

/// Not the name of a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an access log is combined or json")]
pub struct BadFormat;

impl FromStr for Format {
    type Err = BadFormat;

    fn from_str(name: &str) -> Result<Format, BadFormat> {
        match name {
            "combined" => Ok(Format::Combined),
            "json" => Ok(Format::Json),
            _ => Err(BadFormat),
        }
    }
}

/// What there is to say of a request.
#[derive(Clone, Copy, Debug)]
pub struct Line<'l> {
    /// Who asked.
    pub peer: Option<IpAddr>,
    /// When it was answered.
    pub unix_ms: u64,
    /// As it was sent; empty: what came was no request.
    pub method: &'l str,
    /// As it was sent.
    pub target: &'l str,
    /// `HTTP/1.1` and the like.
    pub protocol: &'l str,
    /// Of the answer; 499: there is none, since its client left.
    pub status: u16,
    /// Of its body.
    pub sent_bytes: u64,
    /// From the end of the request's head to the end of its answer.
    pub took_ns: u64,
    /// Referer.
    pub referer: &'l [u8],
    /// User-Agent.
    pub agent: &'l [u8],
    /// What the cache did; `None`: it was not asked.
    pub told: Option<Told>,
}

impl Format {
    /// Appends a line.
    pub fn write(self, line: &Line<'_>, out: &mut Vec<u8>) {
        match self {
            Format::Combined => combined(line, out),
            Format::Json => json(line, out),
        }
    }
}

fn combined(line: &Line<'_>, out: &mut Vec<u8>) {
    let peer = line.peer.map_or_else(|| "-".to_owned(), |peer| peer.to_string());
    let date = HttpDate::at(line.unix_ms / 1000);
    let (day, month, year, time) = parts(&date);
    out.extend_from_slice(format!("{peer} - - [{day}/{month}/{year}:{time} +0000] \"").as_bytes());
    match line.method {
        "" => out.push(b'-'),
        method => {
            quote(method.as_bytes(), out);
            out.push(b' ');
            quote(line.target.as_bytes(), out);
            out.extend_from_slice(format!(" {}", line.protocol).as_bytes());
        }
    }
    out.extend_from_slice(format!("\" {} {} \"", line.status, line.sent_bytes).as_bytes());
    quote(or_dash(line.referer), out);
    out.extend_from_slice(b"\" \"");
    quote(or_dash(line.agent), out);
    let word = line.told.map_or_else(|| "-".to_owned(), |told| told.x_cache());
    out.extend_from_slice(format!("\" \"{word}\" {}\n", seconds(line.took_ns)).as_bytes());
}

fn or_dash(text: &[u8]) -> &[u8] {
    if text.is_empty() { b"-" } else { text }
}

/// As nginx escapes: what is no printable ASCII, quotes, backslashes.
fn quote(text: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        match byte {
            b'"' | b'\\' | 0..=0x1f | 0x7f.. => out.extend_from_slice(format!("\\x{byte:02X}").as_bytes()),
            byte => out.push(byte),
        }
    }
}

fn json(line: &Line<'_>, out: &mut Vec<u8>) {
    let mut text = format!("{{\"time\":\"{}\"", rfc3339(line.unix_ms));
    if let Some(peer) = line.peer {
        let _ = write!(text, ",\"remote_addr\":\"{peer}\"");
    }
    let texts: [(&str, &[u8]); 4] = [
        ("method", line.method.as_bytes()),
        ("target", line.target.as_bytes()),
        ("referer", line.referer),
        ("user_agent", line.agent),
    ];
    for (name, value) in texts.into_iter().filter(|(_, value)| !value.is_empty()) {
        let _ = write!(text, ",\"{name}\":\"");
        escape(&String::from_utf8_lossy(value), &mut text);
        text.push('"');
    }
    if !line.method.is_empty() {
        let _ = write!(text, ",\"protocol\":\"{}\"", line.protocol);
    }
    let (status, bytes, took) = (line.status, line.sent_bytes, seconds(line.took_ns));
    let _ = write!(text, ",\"status\":{status},\"body_bytes_sent\":{bytes},\"request_time\":{took}");
    if let Some(told) = line.told {
        let x_cache = told.x_cache();
        let word = x_cache.split(' ').next().unwrap_or_default();
        let (here, slices) = (told.slices_here, told.slices);
        let _ = write!(text, ",\"cache\":\"{word}\",\"slices_here\":{here},\"slices\":{slices}");
        let _ = write!(text, ",\"collapsed\":{}", told.is_collapsed);
    }
    text.push_str("}\n");
    out.extend_from_slice(text.as_bytes());
}

fn escape(value: &str, out: &mut String) {
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
}

/// With microseconds.
fn seconds(ns: u64) -> String {
    format!("{}.{:06}", ns / 1_000_000_000, ns / 1000 % 1_000_000)
}

/// Day, month by name, year, time of day.
fn parts(date: &HttpDate) -> (&str, &str, &str, &str) {
    let text = std::str::from_utf8(date.as_bytes()).expect("a date is ASCII");
    (&text[5..7], &text[8..11], &text[12..16], &text[17..25])
}

fn rfc3339(unix_ms: u64) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let date = HttpDate::at(unix_ms / 1000);
    let (day, month, year, time) = parts(&date);
    let month = 1 + MONTHS.iter().position(|name| *name == month).expect("a month");
    format!("{year}-{month:02}-{day}T{time}.{:03}Z", unix_ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::status::Forwarded;

    const TOLD: Told = Told {
        slices_here: 1,
        slices: 3,
        is_stale: false,
        forwarded: Some(Forwarded::Partial),
        forwarded_status: Some(206),
        is_collapsed: true,
        ttl_s: Some(5),
        is_stored: true,
        not_stored: None,
    };

    fn line() -> Line<'static> {
        Line {
            peer: Some(IpAddr::from([127, 0, 0, 1])),
            unix_ms: 784_111_777_042,
            method: "GET",
            target: "/a?b=\"",
            protocol: "HTTP/1.1",
            status: 206,
            sent_bytes: 1000,
            took_ns: 1_234_567_890,
            referer: b"",
            agent: "curl\\ \u{fc}\n".as_bytes(),
            told: Some(TOLD),
        }
    }

    fn written(format: Format, line: &Line<'_>) -> String {
        let mut out = Vec::new();
        format.write(line, &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_request_is_one_line() {
        assert_eq!(
            written(Format::Combined, &line()),
            "127.0.0.1 - - [06/Nov/1994:08:49:37 +0000] \"GET /a?b=\\x22 HTTP/1.1\" 206 1000 \"-\" \
             \"curl\\x5C \\xC3\\xBC\\x0A\" \"PARTIAL 1/3\" 1.234567\n"
        );
        assert_eq!(
            written(Format::Json, &line()),
            "{\"time\":\"1994-11-06T08:49:37.042Z\",\"remote_addr\":\"127.0.0.1\",\"method\":\"GET\",\
             \"target\":\"/a?b=\\\"\",\"user_agent\":\"curl\\\\ \u{fc}\\u000a\",\"protocol\":\"HTTP/1.1\",\
             \"status\":206,\"body_bytes_sent\":1000,\"request_time\":1.234567,\"cache\":\"PARTIAL\",\
             \"slices_here\":1,\"slices\":3,\"collapsed\":true}\n"
        );
    }

    #[test]
    fn what_was_no_request_is_a_line_too() {
        let none = Line { method: "", target: "", told: None, peer: None, agent: b"", status: 400, ..line() };
        let text = written(Format::Combined, &none);
        assert!(
            text.starts_with("- - - [") && text.contains("] \"-\" 400 1000 \"-\" \"-\" \"-\" 1.2"),
            "{text}"
        );
        let text = written(Format::Json, &none);
        assert!(
            !text.contains("method") && !text.contains("cache") && text.contains("\"status\":400"),
            "{text}"
        );
    }

    #[test]
    fn formats_have_names() {
        assert_eq!("json".parse(), Ok(Format::Json));
        assert_eq!("combined".parse(), Ok(Format::Combined));
        assert_eq!("xml".parse::<Format>(), Err(BadFormat));
    }
}
