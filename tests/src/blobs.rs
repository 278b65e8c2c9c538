//! The blob interface as a client sees it: every call checks all that the interface promises about
//! the reply, and panics where a promise is broken.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::Value;

use crate::content::{Digest, Hasher};
use crate::http::{Conn, Fault, Reply, Request};

/// One page of the listing.
#[derive(Debug)]
pub struct Page {
    /// Digests and sizes in the order of the reply.
    pub blobs: Vec<(Digest, u64)>,
    /// Where the next page begins, if there is one.
    pub next: Option<Digest>,
}

/// A client of the blob interface with one connection, reopened where the server closed it.
#[derive(Debug)]
pub struct Client {
    addr: SocketAddr,
    conn: Option<Conn>,
}

impl Client {
    /// A client of the server at `addr`; connects at its first call.
    pub fn new(addr: SocketAddr) -> Self {
        Self { addr, conn: None }
    }

    /// Sends any request and reads its reply.
    pub fn try_call(&mut self, request: &Request<'_>) -> Result<Reply, Fault> {
        let conn = match &mut self.conn {
            Some(conn) => conn,
            none => none.insert(Conn::try_open(self.addr).map_err(|_| Fault::Closed)?),
        };
        let reply = conn.try_call(request);
        if reply.as_ref().map_or(true, |reply| reply.last) {
            self.conn = None;
        }
        reply
    }

    /// Sends any request and reads its reply. Panics when there is none.
    pub fn call(&mut self, request: &Request<'_>) -> Reply {
        self.try_call(request).unwrap_or_else(|fault| panic!("{request:.120?}: {fault}"))
    }

    /// Stores `body`; must be acknowledged.
    pub fn put(&mut self, body: &[u8]) -> Digest {
        let reply = self.call(&Request::new("PUT", "/blobs").body(body));
        let digest = Digest::of(body);
        must_acknowledge(&reply.must_be(201), &digest, body.len() as u64);
        digest
    }

    /// Stores `body` under its digest; must be acknowledged.
    pub fn put_named(&mut self, body: &[u8]) -> Digest {
        let digest = Digest::of(body);
        let reply = self.call(&Request::new("PUT", digest.path()).body(body));
        must_acknowledge(&reply.must_be(201), &digest, body.len() as u64);
        digest
    }

    /// Reads a blob. A 200 must have the bytes that the digest names.
    pub fn try_get(&mut self, digest: &Digest) -> Result<Reply, Fault> {
        let reply = self.try_call(&Request::new("GET", digest.path()))?;
        if reply.status == 200 {
            assert_eq!(&Digest::of(&reply.body), digest, "wrong bytes served");
        }
        Ok(reply)
    }

    /// Reads a blob that must be there and whole.
    pub fn get(&mut self, digest: &Digest) -> Vec<u8> {
        let reply = self.try_get(digest);
        let reply = reply.unwrap_or_else(|fault| panic!("GET {digest}: {fault}"));
        assert_eq!(reply.header("etag"), Some(format!("\"{digest}\"").as_str()));
        reply.must_be(200).body
    }

    /// Reads a large blob that must be there and whole, without keeping it.
    pub fn get_through(&mut self, digest: &Digest, sink: &mut dyn FnMut(&[u8])) -> u64 {
        let mut conn = Conn::open(self.addr);
        conn.send(&Request::new("GET", digest.path()).to_bytes()).expect("sent");
        let (mut hasher, mut size) = (Hasher::default(), 0);
        let reply = conn.receive_into("GET", &mut |part| {
            hasher.update(part);
            size += part.len() as u64;
            sink(part);
        });
        let reply = reply.unwrap_or_else(|fault| panic!("GET {digest}: {fault} after {size} B"));
        reply.must_be(200);
        assert_eq!(&hasher.finish(), digest, "wrong bytes served");
        size
    }

    /// Whether a blob is there: 200 or 404 to HEAD.
    pub fn has(&mut self, digest: &Digest) -> bool {
        let reply = self.call(&Request::new("HEAD", digest.path()));
        assert!([200, 404].contains(&reply.status), "{reply:?}");
        reply.status == 200
    }

    /// Deletes a blob and gives the status.
    pub fn delete(&mut self, digest: &Digest) -> u16 {
        self.call(&Request::new("DELETE", digest.path())).status
    }

    /// One page of the listing; `query` may be empty.
    pub fn page(&mut self, query: &str) -> Page {
        let reply = self.call(&Request::new("GET", format!("/blobs{query}"))).must_be(200);
        let json: Value = serde_json::from_slice(&reply.body).expect("the listing is JSON");
        let name = |value: &Value| Digest(value.as_str().expect("a digest").to_owned());
        let blobs = json["blobs"].as_array().expect("blobs is an array");
        let blobs = blobs.iter().map(|blob| {
            let size = blob["size"].as_u64().expect("size is a number");
            (name(&blob["digest"]), size)
        });
        let next = json.get("next").expect("next is there, if only null");
        Page { blobs: blobs.collect(), next: (!next.is_null()).then(|| name(next)) }
    }

    /// The whole listing. Panics unless it is in the order of the digests, without repetition.
    pub fn list(&mut self) -> BTreeMap<Digest, u64> {
        let mut all: BTreeMap<Digest, u64> = BTreeMap::new();
        let mut query = "?limit=1000".to_owned();
        loop {
            let page = self.page(&query);
            for (digest, size) in page.blobs {
                let last = all.last_key_value().map(|(last, _)| last);
                assert!(last < Some(&digest), "{digest} is out of order");
                all.insert(digest, size);
            }
            match page.next {
                Some(next) => query = format!("?limit=1000&after={next}"),
                None => return all,
            }
        }
    }
}

/// Panics unless `reply` is all that a 201 promises.
pub fn must_acknowledge(reply: &Reply, digest: &Digest, size_bytes: u64) {
    assert_eq!(reply.status, 201, "{reply:?}");
    let location = reply.header("location").expect("201 has a Location");
    assert!(location.ends_with(&digest.path()), "Location: {location}");
    let json: Value = serde_json::from_slice(&reply.body).expect("the body of 201 is JSON");
    assert_eq!(json["digest"].as_str(), Some(digest.0.as_str()));
    assert_eq!(json["size"].as_u64(), Some(size_bytes));
}
