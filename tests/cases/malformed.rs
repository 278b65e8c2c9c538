//! HTTP that is wrong: the right 4xx or a close, nothing stored, and the server serves on.
//!
//! The rows are in `malformed.txt`. RFC 9112 leaves some of them to the server; where a lenient
//! reading lets two parties disagree about where a message ends, only refusal is right here.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use tests::content::Digest;
use tests::http::{Conn, Fault, Request};
use tests::node::Node;

const TABLE: &str = include_str!("malformed.txt");

/// Replies after which the connection may go on: the request was understood.
const UNDERSTOOD: [u16; 4] = [404, 405, 413, 507];

/// Bytes that must not be served.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    pub(crate) statuses: Vec<u16>,
    /// Whether a close without a reply is as good.
    or_close: bool,
    /// Whether the connection may go on: what is wrong is not HTTP.
    pub(crate) may_stay: bool,
}

/// The rows of a section of the table.
pub(crate) fn rows(section: &str) -> Vec<Row> {
    let heading = format!("[{section}]");
    let lines = TABLE.lines().skip_while(|line| *line != heading).skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    let rows: Vec<Row> = lines.filter(|line| !line.is_empty()).map(parse_row).collect();
    assert!(rows.len() > 10, "{section}");
    rows
}

fn parse_row(line: &'static str) -> Row {
    let mut columns = line.splitn(3, " | ");
    let mut column = || columns.next().expect("three columns");
    let (statuses, name, bytes) = (column(), column(), column());
    let words: Vec<&str> = statuses.split(' ').collect();
    Row {
        name,
        bytes: unescape(bytes),
        statuses: words.iter().filter_map(|word| word.parse().ok()).collect(),
        or_close: words.contains(&"close"),
        may_stay: words.contains(&"open"),
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        rest = &rest[first.len_utf8()..];
        match first {
            '{' => {
                let (inner, after) = rest.split_once('}').expect("a closing brace");
                out.extend(expand(inner));
                rest = after;
            }
            '\\' => {
                let (byte, length) = escape(rest);
                out.push(byte);
                rest = &rest[length..];
            }
            other => out.extend(other.to_string().into_bytes()),
        }
    }
    out
}

fn escape(rest: &str) -> (u8, usize) {
    match rest.as_bytes()[0] {
        b'r' => (b'\r', 1),
        b'n' => (b'\n', 1),
        b't' => (b'\t', 1),
        b'x' => (u8::from_str_radix(&rest[1..3], 16).expect("two digits"), 3),
        other => panic!("\\{other}"),
    }
}

fn expand(name: &str) -> Vec<u8> {
    let text = match name {
        "PUT" => r"PUT /blobs HTTP/1.1\r\nHost: h\r\n",
        "GET" => r"GET /blobs HTTP/1.1\r\nHost: h\r\n",
        "CHUNKED" => r"{PUT}Transfer-Encoding: chunked{END}",
        "END" => r"\r\n\r\n",
        "SMUGGLED" => r"{PUT}Content-Length: 3{END}bad",
        repeat => {
            let (count, text) = repeat.split_once('*').expect("a count");
            return unescape(text).repeat(count.parse().expect("a count"));
        }
    };
    unescape(text)
}

/// Sends a row, all of it at once, and says what is wrong with what came back.
pub(crate) fn try_row(addr: SocketAddr, row: &Row) -> Result<(), String> {
    let mut conn = Conn::open(addr);
    conn.set_patience(Duration::from_secs(10));
    // A server may close before it has read all.
    conn.send(&row.bytes).ok();
    match conn.receive("GET") {
        Ok(reply) if !row.statuses.contains(&reply.status) => {
            return Err(format!("answered {}, not {:?}", reply.status, row.statuses));
        }
        Ok(reply) if !reply.last && (row.may_stay || UNDERSTOOD.contains(&reply.status)) => {
            return Ok(());
        }
        Ok(_) => {}
        Err(Fault::Closed) if row.or_close => {}
        Err(fault) => return Err(format!("{fault}, not {:?}", row.statuses)),
    }
    // Where a message was malformed nobody knows where the next begins.
    if conn.is_closed_within(Duration::from_secs(10)) { Ok(()) } else { Err("left open".into()) }
}

fn must_refuse(section: &str) {
    let rows = rows(section);
    let node = Node::start();
    let mut wrong = Vec::new();
    for row in &rows {
        if let Err(why) = try_row(node.setup.blob, row) {
            wrong.push(format!("{}: {why}", row.name));
        }
        let listed = node.client().page("");
        if !listed.blobs.is_empty() {
            wrong.push(format!("{}: a blob was stored", row.name));
            node.client().delete(&listed.blobs[0].0);
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

#[test]
fn ambiguous_framing_is_refused() {
    must_refuse("framing");
}

#[test]
fn malformed_chunks_are_refused() {
    must_refuse("chunks");
}

#[test]
fn malformed_heads_are_refused() {
    must_refuse("heads");
}

#[test]
fn malformed_request_lines_are_refused() {
    must_refuse("lines");
}

#[test]
fn the_ops_port_refuses_malformed_requests_too() {
    let node = Node::start();
    let rows = ["framing", "heads", "lines"].map(rows);
    let mut wrong = Vec::new();
    for row in rows.into_iter().flatten() {
        let mut conn = Conn::open(node.setup.ops);
        conn.set_patience(Duration::from_secs(10));
        conn.send(&row.bytes).ok();
        match conn.receive("GET") {
            Ok(reply) if (400..506).contains(&reply.status) => {}
            Err(Fault::Closed) => {}
            other => wrong.push(format!("{}: {:?}", row.name, other.map(|r| r.status))),
        }
        node.ops().call(&Request::new("GET", "/livez")).must_be(200);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn truncated_requests_store_nothing() {
    let node = Node::start();
    let whole = unescape(r"{PUT}Content-Length: 5{END}hello");
    let chunked = unescape(r"{CHUNKED}5\r\nhello\r\n0\r\n\r\n");
    // A size that is correct and never reached.
    let endless = unescape(r"{CHUNKED}ffffffffffffffff\r\nhello\r\n0\r\n\r\n");
    thread::scope(|scope| {
        for whole in [whole, chunked, endless] {
            let node = &node;
            scope.spawn(move || {
                for cut in 0..whole.len() {
                    let mut conn = node.conn();
                    conn.send(&whole[..cut]).expect("sent");
                    conn.finish_sending();
                    match conn.receive("PUT") {
                        Ok(reply) => assert_eq!(reply.status, 400, "cut at {cut}"),
                        Err(Fault::Closed) => {}
                        Err(fault) => panic!("cut at {cut}: {fault}"),
                    }
                }
            });
        }
    });
    assert!(!node.client().has(&Digest::of(b"hello")));
    assert!(node.client().list().is_empty());
}
