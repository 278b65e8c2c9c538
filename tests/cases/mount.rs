//! The mount: blobs as files, read by real programs. Each module is one promise; the Python programs beside them check what
//! they see by themselves and end with 0 if it is right.

mod allowed;
mod damage;
mod ended;
mod gone;
mod interrupted;
mod kills;
mod ladder;
mod life;
mod listing;
mod memory;
mod metrics;
mod model;
mod origins;
mod passthrough;
mod programs;
mod reading;
mod readonly;
mod refusals;
mod repository;
mod stuck;
mod tree;
mod user;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use tests::content::{self, Digest};
use tests::fuse::{Mounted, name_of};
use tests::node::{Node, Setup};

/// Around every boundary that a blob's size may meet: packed or a file of its own, one page or many.
const SIZES: [usize; 12] =
    [0, 1, 4095, 4096, 65_535, 65_536, 65_537, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5 << 20, 64 << 20];

/// The blob that `seed` names, stored.
fn put(node: &Node, seed: u64, size_bytes: usize) -> Digest {
    node.client().put(&content::bytes(seed, size_bytes))
}

/// A blob of each of these sizes, and where a program finds `{name: size}` as JSON.
fn put_all(node: &Node, sizes: &[usize]) -> (BTreeMap<Digest, usize>, PathBuf) {
    let one = |(seed, &size): (usize, &usize)| (put(node, seed as u64, size), size);
    let blobs: BTreeMap<_, _> = sizes.iter().enumerate().map(one).collect();
    let path = manifest(&node.setup, "manifest", &blobs);
    (blobs, path)
}

/// Writes `{name: size}` as JSON.
fn manifest(setup: &Setup, name: &str, blobs: &BTreeMap<Digest, usize>) -> PathBuf {
    let names: BTreeMap<_, _> = blobs.iter().map(|(digest, size)| (name_of(digest), size)).collect();
    let path = setup.path(name);
    fs::write(&path, serde_json::to_vec(&names).expect("JSON")).expect("written");
    path
}

/// A node with both mounts and a blob of each size.
fn with_blobs(rung: &str, sizes: &[usize]) -> Option<(Mounted, BTreeMap<Digest, usize>, PathBuf)> {
    let mounted = Mounted::start(rung)?;
    let (blobs, path) = put_all(&mounted.node, sizes);
    Some((mounted, blobs, path))
}

/// By default, and each transport by itself.
const RUNGS: [&str; 4] = ["auto", "uring", "clone", "thread"];

/// The same on every rung, side by side: a rung that cannot be had here fails it.
fn on_every_rung(hold: impl Fn(&str) + Sync) {
    std::thread::scope(|scope| RUNGS.iter().for_each(|rung| drop(scope.spawn(|| hold(rung)))));
}

/// Panics unless the requests, READs among them, came by this rung; and unless the kernel was given so many files by default, but
/// none by a transport that was asked for. To be called when both mounts were read.
fn must_have_served(mounted: &Mounted, rung: &str, large: usize) {
    let transport = if ["auto", "passthrough"].contains(&rung) { "uring" } else { rung };
    assert_eq!(metrics::rungs(&mounted.node), [transport], "requests of {rung} came otherwise");
    assert!(metrics::requests(&mounted.node, Some("read")) > 0.0, "{rung}: nothing was read");
    let [.., (_, given)] = metrics::held(&mounted.node);
    let is_right = if transport == rung { given == 0.0 } else { given >= large as f64 };
    assert!(is_right, "{rung}: the kernel was given {given} files, {large} are large");
}

/// A path as an argument.
fn text(path: &std::path::Path) -> &str {
    path.to_str().expect("UTF-8")
}
