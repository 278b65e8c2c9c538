//! The last close of an unlinked file frees its blocks, which takes the file system a while: not on the column.

mod on_column;

use on_column::on_column;
use runtime::io::{Io, Open};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

/// Stretches of a page with holes between them: each is freed by itself.
const STRETCHES: u64 = 20_000;
const PAGE_BYTES: u64 = 4 << 10;

/// A file in many pieces, already without a name when it comes back.
fn write(path: &Path) -> File {
    let file = File::create_new(path).expect("created");
    for at in 0..STRETCHES {
        file.write_all_at(&[1; PAGE_BYTES as usize], at * 2 * PAGE_BYTES).expect("written");
    }
    file.sync_all().expect("synced");
    file
}

/// Of this thread.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("schedstat");
    let ns = text.split(' ').next().and_then(|ns| ns.parse().ok()).expect("nanoseconds on a CPU");
    Duration::from_nanos(ns)
}

#[test]
fn blocks_are_freed_off_the_column() {
    let (on_column, by_hand) = on_column(|column| async move {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("a");
        drop(write(&path));
        let file = column.io.open(&path, Open::ReadDirect).await.expect("opened");
        std::fs::remove_file(&path).expect("unlinked");
        let begin = cpu();
        drop(file);
        // By then it is freed, wherever that happens.
        column.io.sleep(500_000_000).await;
        let on_column = cpu() - begin;
        let file = write(&path);
        std::fs::remove_file(&path).expect("unlinked");
        let begin = cpu();
        drop(file);
        (on_column, cpu() - begin)
    });
    assert!(on_column * 3 < by_hand, "{on_column:?} on the column, {by_hand:?} by a close of its own");
}
