//! A data directory does not know how many columns wrote it.

use tests::blobs::Client;
use tests::content::{self, Digest, Rng};
use tests::node::{self, Node, Setup};
use tests::skip;

const COUNT: u64 = 120;

fn body(seed: u64) -> Vec<u8> {
    content::bytes(seed, Rng::new(seed).size(13, 600_000))
}

fn must_have(client: &mut Client, seeds: u64) {
    for seed in 0..seeds {
        let body = body(seed);
        assert!(client.get(&Digest::of(&body)) == body, "seed {seed}");
    }
    assert_eq!(client.list().len() as u64, seeds);
}

fn open_with(node: Node, columns: usize) -> Node {
    let setup = node.setup.clone().cpuset(node::cpuset(columns));
    node.start_as(setup)
}

fn must_open_with_any_columns(stop: impl Fn(&mut Node)) {
    if node::cpus().len() < 2 && skip::told_to_skip("cpus", "one CPU only") {
        return;
    }
    let mut node = Setup::new().cpuset(node::cpuset(1)).start();
    let mut seeds = 0;
    for columns in [2, 1, 2, 2, 1] {
        for seed in seeds..seeds + COUNT {
            node.client().put(&body(seed));
        }
        seeds += COUNT;
        stop(&mut node);
        node = open_with(node, columns);
        must_have(&mut node.client(), seeds);
    }
    let gone = body(0);
    assert_eq!(node.client().delete(&Digest::of(&gone)), 204);
    stop(&mut node);
    let node = open_with(node, 2);
    assert!(!node.client().has(&Digest::of(&gone)));
}

#[test]
fn after_term_another_number_of_columns_opens_it() {
    must_open_with_any_columns(Node::stop);
}

#[test]
fn after_kill_9_another_number_of_columns_opens_it() {
    must_open_with_any_columns(Node::kill);
}
