//! The listing: pages in the order of the digests, whoever owns the blobs.

use std::collections::BTreeMap;

use tests::content::{self, Digest};
use tests::http::Request;
use tests::node::{self, Node, Setup};

fn with_blobs(columns: usize, count: u64) -> (Node, BTreeMap<Digest, u64>) {
    let node = Setup::new().cpuset(node::cpuset(columns)).start();
    let mut client = node.client();
    let one = |seed| {
        let body = content::bytes(seed, 10 + seed as usize * 7);
        (client.put(&body), body.len() as u64)
    };
    let blobs = (0..count).map(one).collect();
    (node, blobs)
}

fn must_page_in_order(columns: usize) {
    let (node, blobs) = with_blobs(columns, 150);
    let mut client = node.client();
    assert_eq!(client.list(), blobs);
    for limit in [1, 2, 7, 149, 150, 151, 1000] {
        let mut listed = Vec::new();
        let mut after = String::new();
        loop {
            let page = client.page(&format!("?limit={limit}{after}"));
            assert!(page.blobs.len() <= limit, "limit={limit}");
            listed.extend(page.blobs);
            let Some(next) = page.next else { break };
            assert_eq!(Some(&next), listed.last().map(|(digest, _)| digest), "limit={limit}");
            after = format!("&after={next}");
            assert!(listed.len() <= blobs.len(), "limit={limit} does not end");
        }
        let expected: Vec<_> = blobs.clone().into_iter().collect();
        assert_eq!(listed, expected, "limit={limit}");
    }
    let last = blobs.last_key_value().expect("blobs").0;
    let page = client.page(&format!("?after={last}"));
    assert!(page.blobs.is_empty() && page.next.is_none());
}

#[test]
fn one_column_lists_in_order() {
    must_page_in_order(1);
}

#[test]
fn two_columns_list_in_order() {
    must_page_in_order(2);
}

#[test]
fn an_empty_store_lists_nothing() {
    let node = Node::start();
    let page = node.client().page("");
    assert!(page.blobs.is_empty() && page.next.is_none());
}

#[test]
fn after_need_not_be_stored() {
    let (node, blobs) = with_blobs(2, 50);
    let between = Digest(format!("sha256:80{}", "0".repeat(62)));
    let page = node.client().page(&format!("?limit=1000&after={between}"));
    let expected: Vec<_> = blobs.into_iter().filter(|(digest, _)| *digest > between).collect();
    assert_eq!(page.blobs, expected);
}

#[test]
fn bad_values_are_400() {
    let (node, _) = with_blobs(1, 1);
    let mut client = node.client();
    let upper = format!("after=sha256:{}", "AB".repeat(32));
    for query in [
        "limit=0",
        "limit=1001",
        "limit=abc",
        "limit=-1",
        "limit=",
        "limit=1.5",
        "limit=+1",
        "limit=99999999999999999999",
        "after=garbage",
        "after=",
        "after=sha256:12",
        upper.as_str(),
        "limit=1&after=x",
    ] {
        let reply = client.call(&Request::new("GET", format!("/blobs?{query}")));
        assert_eq!(reply.status, 400, "{query}");
    }
}

#[test]
fn the_listing_follows_put_and_delete() {
    let (node, mut blobs) = with_blobs(2, 20);
    let mut client = node.client();
    let gone: Vec<_> = blobs.keys().step_by(3).cloned().collect();
    for digest in gone {
        assert_eq!(client.delete(&digest), 204);
        blobs.remove(&digest);
    }
    assert_eq!(client.list(), blobs);
    let body = content::bytes(99, 100_000);
    blobs.insert(client.put(&body), 100_000);
    assert_eq!(client.list(), blobs);
}
