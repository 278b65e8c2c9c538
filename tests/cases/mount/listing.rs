//! Listing many: complete, without doubles, also while blobs come and go.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tests::content::{self, Digest};
use tests::fuse::{self, Client, Mounted, name_of};
use tests::http::Request;
use tests::node::Node;

use super::text;

/// More than fit into any one page of a listing; a multiple of none.
const MANY: u64 = 50_003;
const CONNECTIONS: usize = 32;
const SIZE_BYTES: usize = 24;
/// Python's listing of so many, and the kernel's cache of their names, take some seconds for each mount.
const LISTING_DEADLINE: Duration = Duration::from_secs(60);

/// Stores the blobs of these seeds, over many connections so that they share syncs.
pub fn store(node: &Node, seeds: std::ops::Range<u64>, size_bytes: usize) -> BTreeSet<Digest> {
    let (next, stored) = (AtomicU64::new(seeds.start), Mutex::new(BTreeSet::new()));
    thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                let mut client = node.client();
                let mut own = Vec::new();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let body = content::bytes(seed, size_bytes);
                    client.call(&Request::new("PUT", "/blobs?durability=none").body(&body)).must_be(201);
                    own.push(Digest::of(&body));
                }
                stored.lock().expect("no panic").extend(own);
            });
        }
    });
    stored.into_inner().expect("no panic")
}

fn write_names<'a>(node: &Node, file: &str, digests: impl Iterator<Item = &'a Digest>) -> PathBuf {
    let names: Vec<&str> = digests.map(name_of).collect();
    let path = node.setup.path(file);
    fs::write(&path, names.join("\n")).expect("written");
    path
}

/// Puts and deletes until told to stop; what there is at the end is any of them.
fn churn(node: &Node, others: &[Digest], until: impl Fn() -> bool) -> u64 {
    let (mut client, mut count) = (node.client(), 0);
    while !until() {
        for (seed, digest) in (MANY..).zip(others) {
            if client.has(digest) {
                assert_eq!(client.delete(digest), 204);
            } else {
                client.put(&content::bytes(seed, SIZE_BYTES));
            }
            count += 1;
        }
    }
    count
}

#[test]
fn fifty_thousand_are_listed_once_each_while_others_come_and_go() {
    let Some(mounted) = Mounted::start("auto") else { return };
    let node = &mounted.node;
    let stay = store(node, 0..MANY, SIZE_BYTES);
    assert_eq!(stay.len() as u64, MANY);
    let stay = write_names(node, "stay", stay.iter());
    let none = write_names(node, "none", [].iter());
    let list = |tree: PathBuf, others: &PathBuf, rounds, stop: &PathBuf| {
        let args = [text(&tree), text(&stay), text(others), rounds, text(stop)].map(str::to_owned);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        Client::spawn(&mut fuse::python(include_str!("listing.py"), &args))
    };
    for point in mounted.points() {
        let finished = list(point.blobs(), &none, "2", &none).finish(LISTING_DEADLINE);
        assert_eq!(finished.code, 0, "{}", finished.stderr);
        let listed = fuse::tool("find", &[text(&point.blobs()), "-type", "f"]);
        assert_eq!(listed.lines().count() as u64, MANY, "find in {}", point.text());
    }

    let others: Vec<_> = (MANY..MANY + 500).map(|s| Digest::of(&content::bytes(s, SIZE_BYTES))).collect();
    let come_and_go = write_names(node, "come-and-go", others.iter());
    let stop = node.setup.path("stop");
    let listers: Vec<_> =
        mounted.points().map(|p| list(p.blobs(), &come_and_go, "2", &stop)).into_iter().collect();
    let listers = Mutex::new(listers);
    let begin = std::time::Instant::now();
    let is_over = || {
        let past = begin.elapsed() > Duration::from_secs(4);
        past || listers.lock().expect("no panic").iter_mut().all(Client::has_ended)
    };
    assert!(churn(node, &others, is_over) >= 500, "too little came and went");
    fs::write(&stop, "").expect("written");
    for lister in listers.into_inner().expect("no panic") {
        let finished = lister.finish(LISTING_DEADLINE);
        assert_eq!(finished.code, 0, "{}", finished.stderr);
    }
}

#[test]
fn a_position_in_a_listing_can_be_gone_back_to() {
    let Some(mounted) = Mounted::start("auto") else { return };
    let count = store(&mounted.node, 0..3000, SIZE_BYTES).len();
    for point in mounted.points() {
        let tree = point.blobs();
        let said = fuse::must_hold(include_str!("seekdir.py"), &[text(&tree)]);
        let listed: usize = said.trim().parse().expect("a count");
        assert!((count..=count + 2).contains(&listed), "{listed} entries");
    }
}

#[test]
fn a_listing_is_the_same_after_a_restart() {
    let Some(mounted) = Mounted::start("auto") else { return };
    let digests: BTreeSet<_> = (0..700).map(|seed| super::put(&mounted.node, seed, 40)).collect();
    let listing = |mounted: &Mounted| {
        let lists = mounted.points().map(|point| {
            let said = fuse::tool("ls", &["-1", text(&point.blobs())]);
            said.lines().map(|name| Digest(format!("sha256:{name}"))).collect::<BTreeSet<_>>()
        });
        assert!(lists[0] == lists[1], "the mounts differ");
        lists.into_iter().next().expect("two")
    };
    assert!(listing(&mounted) == digests);
    assert!(listing(&mounted.restart()) == digests);
}
