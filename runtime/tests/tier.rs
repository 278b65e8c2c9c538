//! The tier on the real ring: a directory with a few objects, and how columns open it. Each file shows what holds of one thing.

#[path = "tier/damage.rs"]
mod damage;
#[path = "tier/loading.rs"]
mod loading;
mod on_column;
#[path = "tier/origins.rs"]
mod origins;
#[path = "tier/packs.rs"]
mod packs;
#[path = "tier/restart.rs"]
mod restart;
#[path = "tier/scrub.rs"]
mod scrub;

use bytes::Bytes;
use on_column::on_column;
use runtime::budget::Budget;
use runtime::column::Column;
use runtime::io::{Class, Io};
use runtime::ring::RingIo;
use runtime::shards::ShardMap;
use runtime::tier::{
    DataDir, Digest, DiskPlan, Guard, Keep, Plan, RecoverError, Shard, Stored, WRITE_BYTES, recover_all,
};
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

const QUOTA: u64 = 1 << 30;

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
    let mut writer = tier.begin_object(1, None, Class::Foreground).await.expect("room");
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
