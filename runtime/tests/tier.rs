//! The tier on the real ring: what was stored is there after a restart, whatever the number of columns; damage in the last
//! batch is a torn tail, damage before it an error that names file and offset.

use bytes::Bytes;
use runtime::budget::Budget;
use runtime::column::{Body, Column, Plan as Columns, start};
use runtime::io::Io;
use runtime::mesh::Doorbell;
use runtime::shards::ShardMap;
use runtime::tier::{
    DataDir, Digest, Found, Keep, Names, ObjectWriter, Plan, RecoverError, Recovered, Shard, Stored,
    WRITE_BYTES, recover,
};
use sha2::{Digest as _, Sha256};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

const QUOTA: u64 = 1 << 30;

/// Runs a future on a column of its own and gives back what it returns.
fn on_column<T, F, Fut>(work: F) -> T
where
    T: Send + 'static,
    F: Fn(Column) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = T> + 'static,
{
    let result = Arc::new(Mutex::new(None));
    let give = result.clone();
    let plan = Columns { cpus: vec![0], arena_bytes: 128 << 20, spin_ns: 0 };
    let bell = Arc::new(Doorbell::new().expect("eventfd"));
    let columns = start(&plan, vec![bell], move |column| {
        let (give, work) = (give.clone(), work.clone());
        async move {
            let value = work(column).await;
            *give.lock().expect("only writer") = Some(value);
            Ok(Box::pin(async {}) as Body)
        }
    });
    columns.expect("the column starts").join();
    result.lock().expect("the column has ended").take().expect("a result")
}

fn shard(column: &Column, dir: &DataDir, recovered: Recovered) -> Shard<runtime::ring::RingIo> {
    let arena = column.io.arena();
    let plan = Plan {
        column: 0,
        columns: 1,
        held_bytes: 64 << 20,
        prefetch: true,
        budget: Budget::new(QUOTA),
        hold: Box::new(move |data| {
            let mut buffer = arena.alloc(data.len())?;
            buffer[..data.len()].copy_from_slice(data);
            Some(buffer.into_shared(data.len()))
        }),
        on_stop: Rc::new(|reason| panic!("the log stopped: {reason}")),
    };
    Shard::new(column.io.clone(), dir, plan, recovered)
}

fn bytes_of(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i as u32).wrapping_mul(2_654_435_761).to_le_bytes()[3] ^ seed).collect()
}

fn digest_of(data: &[u8]) -> Digest {
    Digest(Sha256::digest(data).into())
}

async fn recovered(column: &Column, dir: &DataDir, columns: usize) -> Result<Vec<Recovered>, RecoverError> {
    recover(&column.io, dir.names(), ShardMap::new(columns), &Budget::new(QUOTA)).await
}

/// Stores three small blobs, each in a batch of its own, and one large; deletes the first.
async fn fill(column: Column, root: PathBuf) {
    let dir = DataDir::open(&root).expect("opens");
    let found = recovered(&column, &dir, 1).await.expect("recovers").remove(0);
    let tier = shard(&column, &dir, found);
    for seed in 0..3 {
        let data = bytes_of(seed, 5000 + usize::from(seed));
        let stored = tier.put_packed(digest_of(&data), Bytes::from(data), Keep::default()).await;
        assert_eq!(stored.expect("stored"), Stored::New);
    }
    let large = bytes_of(9, 3_000_000);
    let path = tier.names().incoming(0, 1);
    let mut writer = ObjectWriter::create(&column.io, &path, tier.budget(), None).await.expect("room");
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
            let dir = DataDir::open(&root).expect("opens");
            let parts = recovered(&column, &dir, columns).await.map_err(|e| e.to_string())?;
            let mut all: Vec<Digest> = parts.iter().flat_map(|p| p.entries.iter().map(|e| e.0)).collect();
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
            let dir = DataDir::open(&root).expect("opens");
            let found = recovered(&column, &dir, 1).await.expect("recovers").remove(0);
            let tier = shard(&column, &dir, found);
            let data = bytes_of(2, 5002);
            for _ in 0..2 {
                let Ok(Some(Found::Packed(bytes))) = tier.get(&digest_of(&data)).await else {
                    panic!("packed")
                };
                assert_eq!(bytes, data);
            }
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
                let dir = DataDir::open(&root).expect("opens");
                let found = recovered(&column, &dir, 1).await.expect("recovers").remove(0);
                let tier = shard(&column, &dir, found);
                let soon = Keep { expires_ms: column.io.unix_ms() + 30, evictable: false };
                let evictable = Keep { expires_ms: 0, evictable: true };
                for (seed, keep) in [(1, soon), (2, evictable), (3, evictable), (4, Keep::default())] {
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
    assert_eq!(left, expected(&[3, 4], false));
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

#[test]
fn an_empty_directory_has_nothing() {
    let dir = tempfile::tempdir_in("/var/tmp").expect("a directory on a disk");
    assert_eq!(digests(&dir.path().join("data"), 4), Ok(Vec::new()));
}
