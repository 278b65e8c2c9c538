//! An answer with a body taken apart: which bytes it says it has. Called by `judge`.

use super::client::Answer;
use std::ops::Range;

/// A stretch of a version, as an answer labels it.
pub struct Part<'a> {
    pub from: u64,
    pub bytes: &'a [u8],
}

/// The answer taken apart as far as it came.
pub fn parts(answer: &Answer) -> Result<Vec<Part<'_>>, String> {
    let body = &answer.body[..];
    if answer.status == 200 {
        return Ok(Vec::from([Part { from: 0, bytes: body }]));
    }
    let boundary = answer.field("content-type").and_then(|v| v.split_once("boundary="));
    match (answer.field("content-range"), boundary) {
        (Some(range), None) => {
            let (range, _) = parse_range(range).ok_or_else(|| format!("Content-Range {range}"))?;
            if body.len() as u64 > range.end - range.start {
                return Err("more than its Content-Range".to_owned());
            }
            Ok(Vec::from([Part { from: range.start, bytes: body }]))
        }
        (None, Some((_, boundary))) => parse_multipart(body, boundary.trim_matches('"')),
        _ => Err("a 206 has Content-Range or parts".to_owned()),
    }
}

/// `bytes 1-2/3`: the range, the size.
fn parse_range(value: &str) -> Option<(Range<u64>, u64)> {
    let (range, size) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (from, to) = range.split_once('-')?;
    Some((from.parse().ok()?..to.parse::<u64>().ok()? + 1, size.parse().ok()?))
}

/// The parts of a multipart body, as far as it came.
fn parse_multipart<'b>(body: &'b [u8], boundary: &str) -> Result<Vec<Part<'b>>, String> {
    let (delimiter, mut rest, mut parts) = (format!("--{boundary}"), body, Vec::new());
    loop {
        let trimmed = rest.strip_prefix(b"\r\n").unwrap_or(rest);
        let Some(after) = trimmed.strip_prefix(delimiter.as_bytes()) else {
            let is_cut = delimiter.as_bytes().starts_with(trimmed);
            return if is_cut { Ok(parts) } else { Err("no boundary where one must be".to_owned()) };
        };
        let Some(head_end) =
            after.windows(4).position(|w| w == b"\r\n\r\n").filter(|_| !after.starts_with(b"--"))
        else {
            return Ok(parts);
        };
        let head = String::from_utf8_lossy(&after[..head_end]).to_ascii_lowercase();
        let range = head.lines().find_map(|line| parse_range(line.strip_prefix("content-range:")?.trim()));
        let (range, _) = range.ok_or_else(|| format!("a part without a range: {head}"))?;
        let bytes = &after[head_end + 4..];
        let bytes = &bytes[..bytes.len().min((range.end - range.start) as usize)];
        parts.push(Part { from: range.start, bytes });
        rest = &after[head_end + 4 + bytes.len()..];
    }
}
