//! Where objects came from outlives them, and ends with a delete.

use super::{bytes_of, digest_of, digests, disk, flip, open_all, segment};
use crate::on_column::on_column;
use bytes::Bytes;
use runtime::ring::RingIo;
use runtime::shards::ShardMap;
use runtime::tier::{Keep, Shard};
use std::future::Future;
use std::path::PathBuf;

const ORIGIN: &str = "http://example.org/a?b=1";

/// What is known of the origins of blobs 0..8 by any of `columns` columns over these disks; `work` is done first, on each
/// blob by its owner, and then the tier closes if it is to.
fn origins<F, Fut>(roots: &[PathBuf], columns: usize, closes: bool, work: F) -> Vec<Option<String>>
where
    F: Fn(Shard<RingIo>, Vec<u8>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let roots = roots.to_vec();
    on_column(move |column| {
        let (roots, work) = (roots.clone(), work.clone());
        async move {
            let mut disks = Vec::new();
            for root in &roots {
                disks.push(disk(&column, root).await);
            }
            let shards = open_all(&column, &disks, columns).await.expect("recovers");
            let mut known = Vec::new();
            for seed in 0..8 {
                let data = bytes_of(seed, 5000 + usize::from(seed));
                let digest = digest_of(&data);
                let owner = &shards[ShardMap::new(columns).owner(digest.shard())];
                work(owner.clone(), data).await;
                known.push(owner.origin(&digest));
            }
            for shard in shards.iter().filter(|_| closes) {
                shard.close().await;
            }
            known
        }
    })
}

#[test]
fn origins_outlive_restarts_and_their_objects_and_end_with_a_delete() {
    let base = tempfile::tempdir_in("/var/tmp").expect("a directory on a disk");
    let roots = [base.path().join("one"), base.path().join("two")];
    let (all, none) = (vec![Some(ORIGIN.to_owned()); 8], vec![None; 8]);
    let look = |_, _| async {};
    let stored = origins(&roots, 1, false, |tier, data| async move {
        let digest = digest_of(&data);
        let keep = Keep { expires_ms: 1, evictable: true, ..Keep::default() };
        tier.put_packed(digest, Bytes::from(data), keep).await.expect("stored");
        tier.remember_origin(digest, ORIGIN).await.expect("kept");
    });
    assert_eq!(stored, all);
    // From the journals; then, closed in between, from checkpoints, written by 3 columns and read by 2.
    for (columns, closes) in [(1, false), (3, true), (2, true), (3, false)] {
        assert_eq!(origins(&roots, columns, closes, look), all, "{columns} columns");
    }
    let expire = |tier: Shard<RingIo>, data: Vec<u8>| async move {
        tier.sweep_expired().await.expect("swept");
        assert!(tier.get(&digest_of(&data)).await.expect("readable").is_none() && tier.stats().objects == 0);
    };
    assert_eq!(origins(&roots, 2, false, expire), all, "what is gone is not deleted");
    for (columns, closes) in [(1, true), (3, false)] {
        assert_eq!(origins(&roots, columns, closes, look), all, "{columns} columns");
    }
    // The other disk knows as much.
    for root in &roots {
        assert_eq!(origins(std::slice::from_ref(root), 1, false, look), all);
    }
    let delete = |tier: Shard<RingIo>, data: Vec<u8>| async move {
        assert!(tier.delete(digest_of(&data)).await.expect("deleted"), "it could have come back");
        assert!(!tier.delete(digest_of(&data)).await.expect("not there"), "nothing is left to delete");
    };
    assert_eq!(origins(&roots, 3, false, delete), none);
    for (columns, closes) in [(1, false), (2, true), (1, false)] {
        assert_eq!(origins(&roots, columns, closes, look), none, "{columns} columns");
    }
}

#[test]
fn a_urls_flipped_byte_is_damage() {
    let base = tempfile::tempdir_in("/var/tmp").expect("a directory on a disk");
    let roots = [base.path().join("data")];
    origins(&roots, 1, false, |tier, data| async move {
        tier.remember_origin(digest_of(&data), ORIGIN).await.expect("kept");
    });
    let index = segment(&roots[0], "index-");
    let at = std::fs::read(&index).expect("reads").windows(ORIGIN.len()).position(|w| w == ORIGIN.as_bytes());
    flip(&index, at.expect("the URL is there"));
    let error = digests(&roots[0], 1).expect_err("corrupt");
    assert!(error.contains("data checksum") && error.contains("index-"), "{error}");
}
