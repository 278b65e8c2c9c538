//! The memory budget holds, whoever uses the mounts how: a node in a small cgroup, on every transport of ours.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tests::cgroup::MemoryCgroup;
use tests::content::{self, Digest};
use tests::fuse::{self, Client, Mounted, name_of};
use tests::node::{Node, Setup};

use super::listing::store;
use super::text;

const BUDGET_BYTES: u64 = 256 << 20;
/// Beside the budget: code, stacks, sockets, the index of all blobs, the names that the kernel holds (at most an eighth of the
/// budget for each mount), and the least of a page cache.
const LIMIT_BYTES: u64 = BUDGET_BYTES + (192 << 20);
/// Read through each of the two mounts: together ten times the budget and more.
const READ_BYTES: u64 = 5 * BUDGET_BYTES;
/// Of those, from large files to such that are just not packed.
const SIZES: [usize; 5] = [200 << 20, 64 << 20, 5 << 20, 1 << 20, 70_000];
/// More files than a column keeps open for a mount, and as many packed ones.
const OPEN_EACH: u64 = 2500;
const OPEN_SIZES: [usize; 2] = [66_000, 5000];
const LISTED: u64 = 200_000;
const LISTED_BYTES: usize = 24;
/// A seed that no other blob has.
const LISTED_SEED: u64 = 1 << 32;
const OPEN_SEED: u64 = 1 << 33;
const DEADLINE: Duration = Duration::from_secs(180);

/// What is stored before the first mount is used.
struct Blobs {
    large: Vec<Digest>,
    /// A file with the names of those that are opened all at once.
    open: PathBuf,
    count: usize,
}

fn put_all(node: &Node) -> Blobs {
    let (mut large, mut total) = (Vec::new(), 0);
    while total < READ_BYTES {
        let (seed, size) = (large.len() as u64, SIZES[large.len() % SIZES.len()]);
        large.push(node.client().put(&content::bytes(seed, size)));
        total += size as u64;
    }
    let mut open = BTreeSet::new();
    for (n, size) in (0..).zip(OPEN_SIZES) {
        let begin = OPEN_SEED + n * OPEN_EACH;
        open.extend(store(node, begin..begin + OPEN_EACH, size));
    }
    let listed = store(node, LISTED_SEED..LISTED_SEED + LISTED, LISTED_BYTES);
    let path = node.setup.path("open");
    fs::write(&path, open.iter().map(name_of).collect::<Vec<_>>().join("\n")).expect("written");
    Blobs { count: large.len() + open.len() + listed.len(), large, open: path }
}

/// Clients outside of the group, so that what the kernel keeps for them is not the node's.
fn must_read_and_list(mounted: &Mounted, blobs: &Blobs) {
    let trees = mounted.points().map(|point| point.blobs());
    let trees = trees.each_ref().map(|tree| text(tree));
    for point in mounted.points() {
        let paths: Vec<_> = blobs.large.iter().map(|digest| point.blob(digest)).collect();
        let paths: Vec<&str> = paths.iter().map(|path| text(path)).collect();
        let mut command = Command::new("sha256sum");
        command.args(&paths);
        let said = must_end_well(command);
        let right = said.lines().zip(&paths).filter(|(line, path)| path.ends_with(&line[..64])).count();
        assert_eq!(right, paths.len(), "{said}");
    }
    let many_open = [&[text(&blobs.open)], &trees[..]].concat();
    let said = must_end_well(fuse::python(include_str!("many_open.py"), &many_open));
    assert_eq!(said.trim(), format!("{} open", 4 * OPEN_EACH));
    let said = must_end_well(fuse::python(include_str!("count.py"), &trees));
    assert_eq!(said.trim(), format!("{0}\n{0}", blobs.count));
}

fn must_end_well(mut command: Command) -> String {
    let finished = Client::spawn(&mut command).finish(DEADLINE);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    finished.text()
}

#[test]
fn ten_times_the_budget_is_read_through_both_mounts_within_the_limit() {
    if !fuse::or_skip() {
        return;
    }
    let Some(group) = MemoryCgroup::or_skip(LIMIT_BYTES) else { return };
    let setup = Setup::new().memory("256MiB").by(&["sh", "-c", &group.entry(), "sh"]);
    let mut blobs = None;
    for rung in ["uring", "clone", "thread"] {
        let Some(mut mounted) = Mounted::start_as(setup.clone(), rung) else { return };
        let blobs = blobs.get_or_insert_with(|| put_all(&mounted.node));
        must_read_and_list(&mounted, blobs);
        group.must_have_held(&mounted.node, rung);
        mounted.node.stop();
    }
}

/// Looks at every name in the directories of the arguments; one that cannot be is an error. Prints how many.
const STAT_ALL: &str = r#"
import os, sys
for directory in sys.argv[1:]:
    names = os.listdir(directory)
    print(sum(os.stat(os.path.join(directory, name)).st_size == 24 for name in names))
"#;

/// With so little memory a mount knows about 57,000 names: the kernel has to forget some, and is to be told.
#[test]
fn more_names_are_used_than_may_be_known() {
    const NAMES: u64 = 80_000;
    let setup = Setup::new().memory("128MiB");
    let mut stored = None;
    for rung in ["uring", "clone"] {
        let Some(mut mounted) = Mounted::start_as(setup.clone(), rung) else { return };
        stored.get_or_insert_with(|| store(&mounted.node, LISTED_SEED..LISTED_SEED + NAMES, LISTED_BYTES));
        let trees = mounted.points().map(|point| point.blobs());
        let args = [text(&trees[0]), text(&trees[1]), text(&trees[0])];
        let said = must_end_well(fuse::python(STAT_ALL, &args));
        assert_eq!(said, format!("{NAMES}\n").repeat(3), "{rung}");
        mounted.node.stop();
    }
}
