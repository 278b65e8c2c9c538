//! The tier on the real ring: what was stored is there after a restart, whatever the number of columns; damage in the last
//! batch is a torn tail, damage before it an error that names file and offset.

mod on_column;

use bytes::Bytes;
use on_column::on_column;
use runtime::budget::Budget;
use runtime::column::Column;
use runtime::io::Io;
use runtime::oneshot::Oneshot;
use runtime::ring::RingIo;
use runtime::shards::ShardMap;
use runtime::tier::{
    DataDir, Digest, DiskPlan, Found, Guard, Keep, Names, Plan, RecoverError, Shard, Stored, WRITE_BYTES,
    recover_all,
};
use sha2::{Digest as _, Sha256};
use std::future::Future;
use std::io;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

const QUOTA: u64 = 1 << 30;
const PATIENCE_MS: u32 = 10_000;

fn plan(column: &Column, disks: &[DiskPlan], map: ShardMap, index: usize) -> Plan {
    let arena = column.io.arena();
    Plan {
        column: index,
        map,
        held_bytes: 64 << 20,
        prefetch: true,
        shared_pages: true,
        disks: disks.to_vec(),
        hold: Box::new(move |data| {
            let mut buffer = arena.alloc(data.len())?;
            buffer[..data.len()].copy_from_slice(data);
            Some(buffer.into_shared(data.len()))
        }),
        on_stop: Rc::new(|reason| panic!("the tier stopped: {reason}")),
    }
}

async fn disk_of(column: &Column, root: &Path, quota: u64) -> DiskPlan {
    let dir = Arc::new(DataDir::open(&column.io, root, Guard::Flock).await.expect("opens"));
    DiskPlan { dir, budget: Budget::new(quota), weight: 1, floor_bytes: 0 }
}

async fn disk(column: &Column, root: &Path) -> DiskPlan {
    disk_of(column, root, QUOTA).await
}

/// The shards of all columns, loaded.
async fn open_all(
    column: &Column,
    disks: &[DiskPlan],
    columns: usize,
) -> Result<Vec<Shard<RingIo>>, RecoverError> {
    let map = ShardMap::new(columns);
    let mut shards = Vec::new();
    for (index, part) in recover_all(&column.io, disks, map).await?.into_iter().enumerate() {
        let shard = Shard::new(column.io.clone(), plan(column, disks, map, index), part);
        shard.load_all().await.expect("what recovery accepts can be read");
        shards.push(shard);
    }
    Ok(shards)
}

async fn open_one(column: &Column, root: &Path) -> Shard<RingIo> {
    open_all(column, &[disk(column, root).await], 1).await.expect("recovers").remove(0)
}

fn bytes_of(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i as u32).wrapping_mul(2_654_435_761).to_le_bytes()[3] ^ seed).collect()
}

fn digest_of(data: &[u8]) -> Digest {
    Digest(Sha256::digest(data).into())
}

/// Stores three small blobs, each in a batch of its own, and one large; deletes the first.
async fn fill(column: Column, root: PathBuf) {
    let tier = open_one(&column, &root).await;
    for seed in 0..3 {
        let data = bytes_of(seed, 5000 + usize::from(seed));
        let stored = tier.put_packed(digest_of(&data), Bytes::from(data), Keep::default()).await;
        assert_eq!(stored.expect("stored"), Stored::New);
    }
    let large = bytes_of(9, 3_000_000);
    let mut writer = tier.begin_object(1, None).await.expect("room");
    for part in large.chunks(WRITE_BYTES) {
        let mut buf = column.io.buffer(WRITE_BYTES).expect("memory");
        buf[..part.len()].copy_from_slice(part);
        writer.write(buf, part.len()).await.expect("written");
    }
    let incoming = writer.finish().await.expect("synced");
    assert_eq!(
        tier.commit_object(digest_of(&large), incoming, Keep::default()).await.expect("named"),
        Stored::New
    );
    assert!(tier.delete(digest_of(&bytes_of(0, 5000))).await.expect("deleted"));
}

fn filled() -> (tempfile::TempDir, PathBuf) {
    let base = std::env::var_os("BASALT_TEST_DIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
    let dir = tempfile::tempdir_in(base).expect("a directory on a disk");
    let root = dir.path().join("data");
    let fill_root = root.clone();
    on_column(move |column| fill(column, fill_root.clone()));
    (dir, root)
}

fn segment(root: &Path, prefix: &str) -> PathBuf {
    let entries = std::fs::read_dir(root).expect("lists");
    let mut found: Vec<PathBuf> = entries.map(|e| e.expect("entry").path()).collect();
    found.retain(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(prefix)));
    found.sort();
    found.pop().expect("a segment")
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).expect("reads");
    bytes[at] ^= 0x10;
    std::fs::write(path, bytes).expect("writes");
}

/// Recovers and names what is there.
fn digests(root: &Path, columns: usize) -> Result<Vec<Digest>, String> {
    let root = root.to_owned();
    on_column(move |column| {
        let root = root.clone();
        async move {
            let disks = [disk(&column, &root).await];
            let shards = open_all(&column, &disks, columns).await.map_err(|e| e.to_string())?;
            let mut all: Vec<Digest> =
                shards.iter().flat_map(|s| s.list(None, 1000)).map(|(digest, _)| digest).collect();
            all.sort_unstable();
            Ok(all)
        }
    })
}

fn expected(seeds: &[u8], large: bool) -> Vec<Digest> {
    let small = seeds.iter().map(|&s| digest_of(&bytes_of(s, 5000 + usize::from(s))));
    let mut all: Vec<Digest> = small.chain(large.then(|| digest_of(&bytes_of(9, 3_000_000)))).collect();
    all.sort_unstable();
    all
}

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
fn damage_in_the_last_batch_is_a_torn_tail() {
    let (_dir, root) = filled();
    // Three batches of two sectors each: the third blob's data.
    flip(&segment(&root, "pack-"), 2 * 8192 + 3000);
    assert_eq!(digests(&root, 1), Ok(expected(&[1], true)));
    assert_eq!(digests(&root, 1), Ok(expected(&[1], true)), "and stays cut");
}

#[test]
fn damage_before_the_last_batch_is_corruption_and_is_named() {
    let (_dir, root) = filled();
    let pack = segment(&root, "pack-");
    flip(&pack, 8192 + 40);
    let error = digests(&root, 1).expect_err("corrupt");
    let name = pack.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(error.contains(&name) && error.contains("offset 8192"), "{error}");
    let again = digests(&root, 1).expect_err("still corrupt");
    assert_eq!(error, again, "nothing was changed");
}

#[test]
fn an_object_without_its_file_is_left_out_and_strange_files_go() {
    let (_dir, root) = filled();
    let names = Names::new(&root);
    let large = digest_of(&bytes_of(9, 3_000_000));
    std::fs::remove_file(names.object(&large)).expect("removed");
    let orphan = names.object(&Digest([7; 32]));
    std::fs::write(&orphan, b"orphan").expect("written");
    assert_eq!(digests(&root, 1), Ok(expected(&[1, 2], false)));
    assert!(!orphan.exists(), "a file that no record names");
    assert_eq!(digests(&root, 1), Ok(expected(&[1, 2], false)));
    assert!(!Names::sums(&names.object(&large)).exists(), "checksums of a file that is gone");
}

/// Changes a byte in the middle of an object, wherever it is on disk.
fn damage(path: &Path, data: &[u8]) {
    let middle = &data[data.len() / 2..data.len() / 2 + 64];
    let bytes = std::fs::read(path).expect("reads");
    let at = bytes.windows(middle.len()).position(|w| w == middle).expect("its bytes are in this file");
    flip(path, at);
}

fn object_file(root: &Path, data: &[u8]) -> PathBuf {
    Names::new(root).object(&digest_of(data))
}

/// What fill leaves: two packed objects and one larger.
const FILLED: u64 = 3;

#[test]
fn damage_that_nobody_reads_is_found_once_and_mended_by_a_put() {
    let (_dir, root) = filled();
    on_column(move |column| {
        let root = root.clone();
        async move {
            let tier = open_one(&column, &root).await;
            let (small, large) = (bytes_of(1, 5001), bytes_of(9, 3_000_000));
            let whole = tier.verify().await;
            assert_eq!((whole.objects, whole.damaged), (FILLED, 0));
            let least = 3_000_000 + 5001 + 5002;
            assert!((least..least + 8 * 4096).contains(&whole.bytes), "{whole:?}");
            damage(&segment(&root, "pack-"), &small);
            damage(&object_file(&root, &large), &large);
            let found = tier.verify().await;
            assert_eq!((found.objects, found.damaged), (FILLED, 2));
            assert_eq!(tier.stats().damaged, 2, "it is damage like any other");
            assert!(tier.get(&digest_of(&small)).await.is_err(), "wrong bytes are not served");
            let again = tier.verify().await;
            assert_eq!((again.objects, again.damaged), (1, 0), "what is known is not found again");
            let put = tier.put_packed(digest_of(&small), Bytes::from(small.clone()), Keep::default());
            assert_eq!(put.await.expect("stored"), Stored::New, "a put mends");
            let mended = tier.verify().await;
            assert_eq!((mended.objects, mended.damaged), (2, 0));
            assert_eq!(tier.stats().scrub.passes, 4);
        }
    });
}

#[test]
fn lost_bytes_and_damaged_checksums_are_damage_and_what_was_deleted_is_not() {
    for how in ["gone", "cut", "sums flipped", "sums gone", "deleted"] {
        let (_dir, root) = filled();
        on_column(move |column| {
            let root = root.clone();
            async move {
                let tier = open_one(&column, &root).await;
                let large = bytes_of(9, 3_000_000);
                let file = object_file(&root, &large);
                let done = match how {
                    "gone" => std::fs::remove_file(&file),
                    "cut" => std::fs::File::options().write(true).open(&file).and_then(|f| f.set_len(70_000)),
                    "sums gone" => std::fs::remove_file(Names::sums(&file)),
                    "deleted" => tier.delete(digest_of(&large)).await.map(|_| ()).map_err(io::Error::other),
                    _ => {
                        flip(&Names::sums(&file), 40);
                        Ok(())
                    }
                };
                done.expect("done to the file");
                let found = tier.verify().await;
                let expected = if how == "deleted" { (FILLED - 1, 0) } else { (FILLED, 1) };
                assert_eq!((found.objects, found.damaged), expected, "{how}");
            }
        });
    }
}

#[test]
fn the_scrubber_keeps_its_rate_and_goes_on_from_pass_to_pass() {
    let (_dir, root) = filled();
    on_column(move |column| {
        let root = root.clone();
        async move {
            let tier = open_one(&column, &root).await;
            let begin_ns = column.io.now_ns();
            const RATE: u64 = 2 << 20;
            let me = tier.clone();
            column.io.spawn("scrub", async move {
                me.scrub(NonZeroU64::new(RATE).expect("a rate"), 100_000_000).await;
            });
            column.io.sleep(3_000_000_000).await;
            let read = tier.stats().scrub;
            let most = u128::from(RATE) * u128::from(column.io.now_ns() - begin_ns) / 1_000_000_000;
            assert!(u128::from(read.bytes) <= most, "{read:?} at {RATE} bytes a second: at most {most}");
            // A pass takes a second and a half: the first has ended, the second is under way.
            assert!(read.passes == 1 && read.objects >= FILLED, "{read:?}");
            assert!(u128::from(read.bytes) > most / 2, "{read:?} of {most}");
        }
    });
}

#[test]
fn an_empty_directory_has_nothing() {
    let dir = tempfile::tempdir_in("/var/tmp").expect("a directory on a disk");
    assert_eq!(digests(&dir.path().join("data"), 4), Ok(Vec::new()));
}

/// Fills a directory with small packs, so that many are sealed, listed, reclaimed and checkpointed.
async fn churn(column: &Column, tier: &Shard<RingIo>, from: u32, to: u32) {
    for n in from..to {
        let data = numbered(n);
        tier.put_packed(digest_of(&data), Bytes::from(data), Keep::default()).await.expect("stored");
        if n >= 400 && n % 10 != 0 {
            assert!(tier.delete(digest_of(&numbered(n - 400))).await.expect("deleted"), "{}", n - 400);
        }
    }
    column.io.yield_now().await;
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

/// A client that goes away while its request reads a shard leaves it to others.
#[test]
fn a_shard_whose_reader_gave_up_is_read_by_who_asks_next() {
    let (_dir, root) = filled();
    on_column(move |column| {
        let root = root.clone();
        async move {
            let (disks, map) = ([disk(&column, &root).await], ShardMap::new(1));
            let part = recover_all(&column.io, &disks, map).await.expect("recovers").remove(0);
            let tier = Shard::new(column.io.clone(), plan(&column, &disks, map, 0), part);
            let digest = digest_of(&bytes_of(1, 5001));
            {
                let mut gives_up = std::pin::pin!(tier.load(&digest));
                let cx = &mut Context::from_waker(Waker::noop());
                assert!(gives_up.as_mut().poll(cx).is_pending(), "it reads the disk");
            }
            let (done, loaded) = Oneshot::new();
            let loads = tier.clone();
            column.io.spawn("loads", async move { done.set(loads.load_all().await.is_ok()) });
            for _ in 0..PATIENCE_MS {
                if tier.is_ready() {
                    break;
                }
                column.io.sleep(1_000_000).await;
            }
            assert!(tier.is_ready(), "it is never read");
            assert!(loaded.await);
            assert!(tier.get(&digest).await.expect("readable").is_some());
        }
    });
}

/// The files of a shard that cannot be read are left alone, whoever asks for it how often; nobody waits for it.
#[test]
fn a_checkpoint_that_cannot_be_read_costs_no_file_and_keeps_nobody_waiting() {
    let (_dir, root) = filled();
    let large = digest_of(&bytes_of(9, 3_000_000));
    let close = root.clone();
    on_column(move |column| {
        let root = close.clone();
        async move {
            let tier = open_one(&column, &root).await;
            assert!(
                tier.delete(digest_of(&bytes_of(1, 5001))).await.expect("deleted"),
                "there is news to write down"
            );
            tier.close().await;
        }
    });
    let checkpoint = segment(&root, "checkpoint-");
    let at = std::fs::read(&checkpoint).expect("reads").windows(32).position(|w| w == large.0);
    flip(&checkpoint, at.expect("it is listed"));
    on_column(move |column| {
        let root = root.clone();
        async move {
            let disks = [disk(&column, &root).await];
            let (stopped, map) = (Arc::new(Mutex::new(Vec::new())), ShardMap::new(2));
            let mut columns = Vec::new();
            for (index, part) in
                recover_all(&column.io, &disks, map).await.expect("recovers").into_iter().enumerate()
            {
                let reasons = stopped.clone();
                let on_stop = Rc::new(move |reason| reasons.lock().expect("not poisoned").push(reason));
                let plan = Plan { on_stop, ..plan(&column, &disks, map, index) };
                columns.push(Shard::new(column.io.clone(), plan, part));
            }
            let owner = map.owner(large.shard());
            let (damaged, whole) = (&columns[owner], &columns[1 - owner]);
            let mut first = std::pin::pin!(damaged.load(&large));
            assert!(
                first.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending(),
                "it reads the disk"
            );
            assert!(damaged.load(&large).await.is_err() && first.await.is_err());
            assert!(damaged.load(&large).await.is_err(), "it is not read again");
            assert!(damaged.load_all().await.is_err());
            whole.load_all().await.expect("its part is whole");
            assert!(whole.ready().await.is_err() && damaged.ready().await.is_err());
            let stopped = stopped.lock().expect("not poisoned");
            assert!(stopped.len() == 1 && stopped[0].contains("checkpoint-"), "said once: {stopped:?}");
            let file = disks[0].dir.names().object(&large);
            assert!(file.exists() && Names::sums(&file).exists(), "{} is gone", file.display());
        }
    });
}
