//! Fetches that nobody waits for any more, given up at any point: neither a byte of the budget nor a file is left of them.

use crate::client::Client;
use crate::{boot, origin};
use runtime::budget::Budget;
use runtime::io::{Conn, Io};
use runtime::twin::{FaultPlan, Rng, Twin, TwinIo};
use std::path::Path;
use tests::content::{self, Digest};

const ABANDONED: usize = 200;
const DISK_BYTES: u64 = 3 << 30;
const QUOTA_BYTES: u64 = 1 << 30;
const LIMIT_NS: u64 = 4 * 3600 * 1_000_000_000;
/// Longer than a fetch goes on for nobody.
const SETTLED_NS: u64 = 5_000_000_000;

/// What the disk holds beside the journals: bytes of the budget, files.
async fn left(io: &TwinIo, budget: &Budget) -> (u64, Vec<String>) {
    let list = async |dir: String| io.list_dir(Path::new(&dir)).await.expect("listed");
    let is_journal =
        |name: &str| ["pack-", "index-", "checkpoint-", "spare-"].iter().any(|p| name.starts_with(p));
    let root = list("/data1".to_owned()).await;
    let journals: u64 = root.iter().filter(|(name, _)| is_journal(name)).map(|(_, bytes)| bytes).sum();
    let mut files = list("/data1/incoming".to_owned()).await;
    for shard in 0..=255 {
        files.extend(list(format!("/data1/objects/{shard:02x}")).await);
    }
    (budget.used() - journals, files.into_iter().map(|(name, _)| name).collect())
}

/// Fetches whole, and tells how long that takes.
async fn fetch(io: &TwinIo, order: &str) -> u64 {
    let begin_ns = io.now_ns();
    let fields = format!("Content-Length: {}\r\n", order.len());
    let reply = Client::new(io.clone()).call("POST /blobs/fetch", &fields, order.as_bytes()).await;
    assert_eq!(reply.expect("an answer").status, 201);
    io.now_ns() - begin_ns
}

async fn delete(io: &TwinIo, digest: &Digest) -> u16 {
    let line = format!("DELETE {}", digest.path());
    Client::new(io.clone()).call(&line, "", b"").await.expect("an answer").status
}

/// Asks, and hangs up after `ns`.
async fn abandon(io: &TwinIo, order: &str, ns: u64) {
    let mut conn = io.connect(boot::blob_addr()).await.expect("connected");
    let head = format!("POST /blobs/fetch HTTP/1.1\r\nHost: twin\r\nContent-Length: {}\r\n\r\n", order.len());
    conn.send(head.as_bytes(), order.as_bytes()).await.expect("sent");
    io.sleep(ns).await;
}

/// How many of the abandoned fetches were stored all the same, their last byte having come.
async fn work(io: TwinIo, budget: Budget, (seed, size, pause_ns): (u64, usize, u64)) -> usize {
    let body = content::bytes(seed, size);
    let digest = Digest::of(&body);
    let order = format!("{{\"url\":\"{}\"}}", origin::url());
    origin::serve(&io, body, pause_ns);
    let mut rng = Rng::new(seed);
    let takes_ns = fetch(&io, &order).await;
    assert_eq!(delete(&io, &digest).await, 204);
    io.sleep(SETTLED_NS).await;
    let before = left(&io, &budget).await;
    assert_eq!(before.1, [""; 0]);
    let mut stored = 0;
    for _ in 0..ABANDONED {
        abandon(&io, &order, rng.below(takes_ns + takes_ns / 4)).await;
        io.sleep(SETTLED_NS).await;
        stored += usize::from(delete(&io, &digest).await == 204);
    }
    io.sleep(SETTLED_NS).await;
    assert_eq!(left(&io, &budget).await, before, "{ABANDONED} abandoned fetches of {size} bytes");
    stored
}

#[test]
fn fetches_abandoned_anywhere_leave_neither_budget_nor_files() {
    // From a quick origin most are given up while they are stored, from a slow one while they are received.
    let quick = [(1, 3_000_000, 0), (2, 9_000_000, 0), (3, 70_000, 0)];
    let slow = [(4, 3_000_000, 500_000), (5, 9_000_000, 1_000_000)];
    let mut gone = 0;
    for (seed, size, pause_ns) in quick.into_iter().chain(slow) {
        let columns = 1 + seed as usize % 2;
        let mut twin = Twin::new(seed, DISK_BYTES, FaultPlan::none());
        let budget = Budget::new(QUOTA_BYTES);
        let node =
            boot::start_on(&mut twin, columns, std::slice::from_ref(&budget), &mut |_| ()).expect("starts");
        let io = twin.outside();
        let stored = twin.run(LIMIT_NS, work(io, budget, (seed, size, pause_ns)));
        gone += ABANDONED - stored;
        println!("{size} bytes: {stored} of {ABANDONED} were stored all the same");
        boot::stop(&twin, node);
    }
    assert!(gone >= ABANDONED, "{gone} of them were given up before their last byte came");
}
