//! What was stored is there after a restart, whatever the number of columns, and what was to go is gone.

use super::{bytes_of, digest_of, digests, expected, filled, open_one};
use crate::on_column::on_column;
use bytes::Bytes;
use runtime::io::Io;
use runtime::tier::{Found, Keep, Stored};

#[test]
fn everything_is_there_after_a_restart_with_any_number_of_columns() {
    let (_dir, root) = filled();
    for columns in [1, 3, 2, 64] {
        assert_eq!(digests(&root, columns), Ok(expected(&[1, 2], true)), "{columns} columns");
    }
}

#[test]
fn objects_read_back_whole() {
    let (_dir, root) = filled();
    on_column(move |column| {
        let root = root.clone();
        async move {
            let tier = open_one(&column, &root).await;
            let data = bytes_of(2, 5002);
            let Ok(Some(Found::Read(bytes))) = tier.get(&digest_of(&data)).await else { panic!("read") };
            assert_eq!(bytes, data);
            let Ok(Some(Found::Packed(bytes))) = tier.get(&digest_of(&data)).await else { panic!("held") };
            assert_eq!(bytes, data);
            let stats = tier.stats();
            assert_eq!((stats.disk_hits, stats.ram_hits), (1, 1), "the second read is from RAM");
            let large = bytes_of(9, 3_000_000);
            let Ok(Some(Found::Object(object))) = tier.get(&digest_of(&large)).await else {
                panic!("object")
            };
            assert_eq!(
                std::fs::read(&object.path).expect("reads"),
                large,
                "the file is the bytes and nothing else"
            );
        }
    });
}

#[test]
fn what_expires_or_may_be_evicted_goes_and_the_rest_stays() {
    let base = tempfile::tempdir_in("/var/tmp").expect("a directory on a disk");
    let root = base.path().join("data");
    let left = {
        let root = root.clone();
        on_column(move |column| {
            let root = root.clone();
            async move {
                let tier = open_one(&column, &root).await;
                let soon = Keep { expires_ms: column.io.unix_ms() + 30, ..Keep::default() };
                let evictable = Keep { evictable: true, ..Keep::default() };
                let pinned = Keep { pinned: true, ..evictable };
                for (seed, keep) in
                    [(1, soon), (2, evictable), (3, evictable), (4, Keep::default()), (5, pinned)]
                {
                    let data = bytes_of(seed, 5000 + usize::from(seed));
                    let stored = tier.put_packed(digest_of(&data), Bytes::from(data), keep).await;
                    assert_eq!(stored.expect("stored"), Stored::New);
                }
                // Stored again for good: no longer evictable.
                let data = bytes_of(3, 5003);
                tier.put_packed(digest_of(&data), Bytes::from(data), Keep::default()).await.expect("kept");
                column.io.sleep(50_000_000).await;
                assert_eq!(
                    tier.get(&digest_of(&bytes_of(1, 5001))).await.map(|f| f.is_none()).ok(),
                    Some(true)
                );
                tier.sweep_expired().await.expect("swept");
                assert_eq!(tier.evict_from_disk(u64::MAX).await.expect("evicted"), 5002);
                tier.list(None, 10).into_iter().map(|(d, _)| d).collect::<Vec<_>>()
            }
        })
    };
    assert_eq!(left, expected(&[3, 4, 5], false));
    assert_eq!(digests(&root, 1), Ok(left), "and after a restart");
}

#[test]
fn an_empty_directory_has_nothing() {
    let dir = tempfile::tempdir_in("/var/tmp").expect("a directory on a disk");
    assert_eq!(digests(&dir.path().join("data"), 4), Ok(Vec::new()));
}
