//! HTTP caching (RFC 9111, 9110, 5861) row by row, through us and through Varnish side by side. Each difference is in the table with
//! its reason; one that is not, or that is no more, fails. The rows, and how they are written: `rfc9111.txt`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tests::http::{Conn, Reply, Request};
use tests::node::Setup;
use tests::scripted::{Asked, Scripted, answer, honest};
use tests::varnish::Varnish;

const TABLE: &str = include_str!("rfc9111.txt");
/// Rows that run at a time: some wait.
const AT_ONCE: usize = 4;
/// What a cache does behind its answer is done by then.
const SETTLED: Duration = Duration::from_millis(150);
/// Behind what tells bodies apart, so that there are ranges.
const FILLER: &str = "..........";

/// A behaviour.
#[derive(Default)]
struct Row {
    name: &'static str,
    /// What the origin answers, in this order; the last again and again.
    origin: Vec<Vec<&'static str>>,
    asks: Vec<Vec<&'static str>>,
    ours: &'static str,
    varnish: &'static str,
    why: &'static str,
}

fn rows() -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for line in TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[') {
            rows.push(Row { name: name.strip_suffix(']').expect("a bracket"), ..Row::default() });
            continue;
        }
        let (key, value) = line.split_once(": ").unwrap_or_else(|| panic!("{line}"));
        let row = rows.last_mut().expect("a name comes first");
        let words = || value.split(" & ").map(str::trim).collect();
        match key {
            "origin" => row.origin.push(words()),
            "ask" => row.asks.push(words()),
            "ours" => row.ours = value,
            "varnish" => row.varnish = value,
            "why" => row.why = value,
            _ => panic!("{line}"),
        }
    }
    rows
}

/// `@+60`: in a minute, as HTTP writes it.
fn dated(field: &str) -> String {
    let Some((name, seconds)) = field.split_once('@') else { return field.to_owned() };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let at = now.checked_add_signed(seconds.parse().expect("seconds")).expect("a time");
    format!("{name}{}", http_date(at))
}

/// RFC 9110 §5.6.7, by Howard Hinnant's `civil_from_days`.
fn http_date(at_s: u64) -> String {
    let (days, of_day) = (at_s / 86_400, at_s % 86_400);
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, year) = if month < 10 { (month + 2, year) } else { (month - 10, year + 1) };
    let names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let week = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][(days % 7) as usize];
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let year = year + era * 400;
    format!("{week}, {day:02} {} {year} {hour:02}:{minute:02}:{second:02} GMT", names[month as usize])
}

/// What the origin says the `count`th time, counted from 1.
fn say(row: &Row, count: usize, asked: &Asked) -> Vec<u8> {
    let words = &row.origin[(count - 1).min(row.origin.len() - 1)];
    let (mut tag, mut status, mut fields) = (format!("{count}"), 200, String::new());
    let mut etag = None;
    for word in words {
        match word.split_once('=') {
            Some(("tag", value)) => value.clone_into(&mut tag),
            Some(("etag", value)) => etag = Some(value.to_owned()),
            Some(("pause", value)) => {
                thread::sleep(Duration::from_millis(value.parse().expect("milliseconds")));
            }
            Some(("status", value)) => status = value.parse().expect("a status"),
            _ if *word == "plain" => {}
            _ => write!(fields, "{}\r\n", dated(word)).expect("into a string"),
        }
    }
    let etag = etag.unwrap_or_else(|| format!("\"{tag}\""));
    let etag = if etag == "none" { String::new() } else { etag };
    let body = format!("{tag}{FILLER}");
    let modified = words.iter().find_map(|word| word.strip_prefix("Last-Modified: "));
    match status {
        200 if modified.is_some() && asked.field("if-modified-since") == modified => {
            format!("HTTP/1.1 304 X\r\n{fields}\r\n").into_bytes()
        }
        200 => honest(asked, &etag, &fields, body.as_bytes()),
        _ => answer(status, &fields, body.as_bytes()),
    }
}

/// The row that a target names.
fn number(target: &str) -> Option<usize> {
    target.strip_prefix("/row")?.split(['/', '?']).next()?.parse().ok()
}

fn origin() -> Scripted {
    let (rows, counts) = (rows(), Mutex::new(BTreeMap::new()));
    Scripted::start(move |asked| {
        let Some(at) = number(asked.target()) else { return answer(200, "", b"ready") };
        let count = {
            let mut counts = counts.lock().expect("unpoisoned");
            let count = counts.entry(at).or_insert(0);
            *count += 1;
            *count
        };
        say(&rows[at], count, asked)
    })
}

/// An answer in a word: status unless it is 200, what bytes of the whole, which body, and what is to be shown.
fn told(reply: &Reply, words: &[&str]) -> String {
    let mut told = if reply.status == 200 { String::new() } else { reply.status.to_string() };
    if let Some(range) = reply.header("content-range").filter(|_| reply.status == 206) {
        write!(told, "({})", range.trim_start_matches("bytes ")).expect("into a string");
    }
    // A cache's own words for an error are nobody's business.
    let body = std::str::from_utf8(&reply.body).unwrap_or_default().trim_end_matches('.');
    let is_origins = reply.status < 300 || body.len() < 10 && !body.is_empty();
    if is_origins && reply.status != 304 {
        told.push_str(if told.is_empty() { "" } else { ":" });
        told.push_str(if body.is_empty() { "-" } else { body });
    }
    for name in words.iter().filter_map(|word| word.strip_prefix("show=")) {
        let value = match name {
            // To tens of seconds: it grows meanwhile.
            "age" => {
                let age = reply.header("age").and_then(|age| age.parse::<u64>().ok());
                age.map(|age| (age / 10 * 10).to_string())
            }
            name => reply.header(name).map(str::to_owned),
        };
        write!(told, "[{}]", value.as_deref().unwrap_or("none")).expect("into a string");
    }
    told
}

/// What a cache makes of a row: its answers, and how often it asked the origin.
fn observe(cache: SocketAddr, origin: &Scripted, at: usize, row: &Row) -> String {
    let mut observed = String::new();
    for ask in &row.asks {
        if let Some(ms) = ask[0].strip_prefix("wait ") {
            thread::sleep(Duration::from_millis(ms.parse().expect("milliseconds")));
            continue;
        }
        let (method, suffix) = ask[0].split_once(' ').unwrap_or((ask[0], ""));
        let request = Request::new(method, format!("/row{at}{suffix}"));
        let request = if matches!(method, "GET" | "HEAD") { request } else { request.body(b"x") };
        let fields = ask[1..].iter().filter_map(|word| word.split_once(": "));
        let request = fields.fold(request, |request, (name, value)| request.header(name, dated(value)));
        let reply = Conn::open(cache).call(&request);
        write!(observed, "{} ", told(&reply, ask)).expect("into a string");
    }
    thread::sleep(SETTLED);
    let asked = origin.asked().into_iter().filter(|asked| number(asked.target()) == Some(at)).count();
    write!(observed, "/{asked}").expect("into a string");
    observed
}

/// All rows through one cache.
fn observe_all(cache: SocketAddr, origin: &Scripted, rows: &[Row]) -> Vec<String> {
    let observed = Mutex::new(vec![String::new(); rows.len()]);
    thread::scope(|scope| {
        for worker in 0..AT_ONCE {
            let observed = &observed;
            scope.spawn(move || {
                for (at, row) in rows.iter().enumerate().skip(worker).step_by(AT_ONCE) {
                    let told = observe(cache, origin, at, row);
                    observed.lock().expect("unpoisoned")[at] = told;
                }
            });
        }
    });
    observed.into_inner().expect("unpoisoned")
}

#[test]
fn every_row_is_as_the_table_says_and_so_is_varnish() {
    let rows = rows();
    assert!(rows.len() >= 60, "{} rows", rows.len());
    let (for_us, for_varnish) = (origin(), origin());
    let setup = Setup::new().origin(&for_us.url()).arg("--slice-retries").arg("0");
    let node = setup.start();
    let varnish = Varnish::start(&setup.path("varnish"), for_varnish.addr);
    let (ours, theirs) = thread::scope(|scope| {
        let ours = scope.spawn(|| observe_all(node.setup.slice, &for_us, &rows));
        let theirs = observe_all(varnish.addr, &for_varnish, &rows);
        (ours.join().expect("rows"), theirs)
    });
    let mut wrong = Vec::new();
    for (row, (ours, theirs)) in rows.iter().zip(ours.iter().zip(&theirs)) {
        let expected = if row.varnish == "=" { row.ours } else { row.varnish };
        let is_explained = (row.varnish != "=" && row.varnish != row.ours) != row.why.is_empty();
        if ours != row.ours || theirs != expected || !is_explained {
            wrong.push(format!(
                "[{}]\nours: {ours}\nvarnish: {theirs}\n(listed: {} and {})",
                row.name, row.ours, row.varnish
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n\n{}", wrong.len(), rows.len(), wrong.join("\n\n"));
}
