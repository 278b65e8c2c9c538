//! The caching proxy in front of origins that behave and that do not: whatever happens, what a client gets is what the origin has, or
//! an error, or a cut connection.

mod access;
mod admission;
mod answers;
mod breaker;
mod clients;
mod collapsed;
mod hostile;
mod hot;
mod http2;
mod kept;
mod killed;
mod lies;
mod memory;
mod nginx;
mod once;
mod origins;
mod passed;
mod poison;
mod random;
mod retries;
mod rfc9111;
mod secure;
mod sizes;
mod status;
mod streams;
mod stuck;
mod surplus;
mod turns;
mod upkeep;
mod whole;

use tests::content;
use tests::http::{Reply, Request};
use tests::node::{Node, Setup};
use tests::origin::{Object, Origin};

const MIB: usize = 1 << 20;

/// An object that stays fresh.
fn object(seed: u64, size: usize) -> Object {
    Object { fields: "Cache-Control: max-age=3600\r\n".to_owned(), ..Object::new(content::bytes(seed, size)) }
}

/// A proxy with slices of 1 MiB.
fn proxy(origin: &Origin) -> Setup {
    Setup::new().origin(&origin.url("")).arg("--slice-size").arg("1MiB")
}

fn get(node: &Node, path: &str, range: &str) -> Reply {
    let request = Request::new("GET", path);
    let request = if range.is_empty() { request } else { request.header("Range", range) };
    node.slice().call(&request)
}

/// What of several counts there is of `X-Cache`, such as `HIT`.
fn word(reply: &Reply) -> &str {
    reply.header("x-cache").expect("told").split(' ').next().expect("a word")
}
