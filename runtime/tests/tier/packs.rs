//! Packs are reclaimed and checkpointed behind deletions, and nothing is lost by it.

use super::{bytes_of, digest_of, disk, disk_of, open_all};
use crate::on_column::on_column;
use bytes::Bytes;
use runtime::column::Column;
use runtime::io::Io;
use runtime::ring::RingIo;
use runtime::shards::ShardMap;
use runtime::tier::{Found, Keep, PutError, Shard};

const PUTS_MAX: usize = 100;
const WAIT_NS: u64 = 10_000_000;

/// Fills a directory with small packs, so that many are sealed, listed, reclaimed and checkpointed.
async fn churn(column: &Column, tier: &Shard<RingIo>, from: u32, to: u32) {
    for n in from..to {
        let data = numbered(n);
        put(column, tier, data).await;
        if n >= 400 && n % 10 != 0 {
            assert!(tier.delete(digest_of(&numbered(n - 400))).await.expect("deleted"), "{}", n - 400);
        }
    }
    column.io.yield_now().await;
}

/// As a node puts: where there is no space it is made first.
async fn put(column: &Column, tier: &Shard<RingIo>, data: Vec<u8>) {
    let (digest, data) = (digest_of(&data), Bytes::from(data));
    for _ in 0..PUTS_MAX {
        match tier.put_packed(digest, data.clone(), Keep::default()).await {
            Err(PutError::NoSpace) => {
                tier.upkeep().await;
                column.io.sleep(WAIT_NS).await;
            }
            stored => {
                stored.expect("stored");
                return;
            }
        }
    }
    panic!("there is no space, however long one waits");
}

fn numbered(n: u32) -> Vec<u8> {
    let mut data = bytes_of(n as u8, 8000 + (n % 50) as usize * 100);
    data[..4].copy_from_slice(&n.to_le_bytes());
    data
}

/// After puts `0..to`: of those 400 back and older, every one deleted but those whose successor's number ends in 0.
fn is_left(n: u32, to: u32) -> bool {
    n + 400 >= to || (n + 400).is_multiple_of(10)
}

#[test]
fn packs_are_listed_reclaimed_and_checkpointed_and_nothing_is_lost() {
    let base = tempfile::tempdir_in("/var/tmp").expect("a directory on a disk");
    let root = base.path().join("data");
    let fill_root = root.clone();
    on_column(move |column| {
        let root = fill_root.clone();
        async move {
            let disks = [disk_of(&column, &root, 24 << 20).await];
            let tier = open_all(&column, &disks, 1).await.expect("recovers").remove(0);
            for round in 0..40 {
                churn(&column, &tier, round * 100, (round + 1) * 100).await;
                tier.upkeep().await;
            }
            assert!(disks[0].budget.used() <= 24 << 20, "{} bytes", disks[0].budget.used());
        }
    });
    // 4,000 puts of 10 KB each are twice what the quota has room for: without reclaim they do not fit.
    let stored: Vec<u32> = (0..4000).filter(|&n| is_left(n, 4000)).collect();
    for columns in [1usize, 2, 3] {
        let (root, stored) = (root.clone(), stored.clone());
        on_column(move |column| {
            let (root, stored) = (root.clone(), stored.clone());
            async move {
                let disks = [disk(&column, &root).await];
                let tiers = open_all(&column, &disks, columns).await.expect("recovers");
                let listed: usize = tiers.iter().map(|t| t.list(None, 1000).len()).sum();
                assert_eq!(listed, stored.len());
                for n in stored {
                    let data = numbered(n);
                    let digest = digest_of(&data);
                    let owner = ShardMap::new(columns).owner(digest.shard());
                    let found = tiers[owner].get(&digest).await;
                    let Ok(Some(Found::Read(bytes))) = found else { panic!("{n} with {columns} columns") };
                    assert_eq!(bytes, data);
                }
                if columns == 2 {
                    for tier in &tiers {
                        tier.upkeep().await;
                        tier.close().await;
                    }
                }
            }
        });
    }
}

/// A pack dies when nothing in it is wanted, whatever its place in the journal: those before it are as whole as they were.
#[test]
fn a_pack_that_is_gone_is_no_damage_of_the_one_before_it() {
    let base = tempfile::tempdir_in("/var/tmp").expect("a directory on a disk");
    let root = base.path().join("data");
    let fill_root = root.clone();
    on_column(move |column| {
        let root = fill_root.clone();
        async move {
            let disks = [disk_of(&column, &root, 24 << 20).await];
            let tier = open_all(&column, &disks, 1).await.expect("recovers").remove(0);
            churn(&column, &tier, 0, 400).await;
        }
    });
    let names = std::fs::read_dir(&root).expect("listed").map(|e| e.expect("an entry").file_name());
    let mut packs: Vec<String> = names.filter_map(|n| n.into_string().ok()).collect();
    // As if they had not been listed in the index yet.
    for index in packs.extract_if(.., |n| !n.starts_with("pack-")).filter(|n| n.starts_with("index-")) {
        std::fs::remove_file(root.join(index)).expect("removed");
    }
    packs.sort();
    assert!(packs.len() >= 3, "{packs:?}");
    std::fs::remove_file(root.join(&packs[1])).expect("removed");
    on_column(move |column| {
        let root = root.clone();
        async move {
            let disks = [disk_of(&column, &root, 24 << 20).await];
            let tier = open_all(&column, &disks, 1).await.expect("nothing is damaged").remove(0);
            let mut found = 0;
            for n in 0..400 {
                let data = numbered(n);
                match tier.get(&digest_of(&data)).await.expect("read") {
                    Some(Found::Read(bytes)) => {
                        assert_eq!(bytes, data);
                        found += 1;
                    }
                    None => {}
                    _ => panic!("{n} is small and not in RAM"),
                }
            }
            assert!((200..390).contains(&found), "{found} of 400: those of one pack are gone");
        }
    });
}
