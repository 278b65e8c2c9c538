//! Taking possession of a data directory, on the real ring: held once, and left untouched when it is not ours.

mod on_column;

use on_column::on_column;
use runtime::tier::{DataDir, DataDirError, Guard};

#[test]
fn a_directory_is_held_once_and_reopens() {
    let base = tempfile::tempdir_in("/var/tmp").expect("a directory on a disk");
    let root = base.path().join("new").join("data");
    on_column(move |column| {
        let root = root.clone();
        async move {
            let first = DataDir::open(&column.io, &root, Guard::Flock).await.expect("fresh");
            let second = DataDir::open(&column.io, &root, Guard::Flock).await;
            assert!(matches!(second, Err(DataDirError::InUse(_))));
            drop(first);
            DataDir::open(&column.io, &root, Guard::Flock).await.expect("reopens");
        }
    });
}

#[test]
fn figures_of_the_device_may_be_there_first() {
    let dir = tempfile::tempdir_in("/var/tmp").expect("a directory on a disk");
    std::fs::write(dir.path().join("device.toml"), "version = 1\n").expect("write");
    let root = dir.path().to_owned();
    let opened = on_column(move |column| {
        let root = root.clone();
        async move { DataDir::open(&column.io, &root, Guard::Flock).await }
    });
    assert!(opened.expect("opens").names().device().exists());
}

#[test]
fn directories_newer_foreign_or_damaged_are_left_untouched() {
    let unsummed = "basalt-tier 2\nshards 256\nseed 00000007\n";
    let missummed = format!("{unsummed}crc32c 00000000\n");
    for (file, text, newer) in [
        ("FORMAT", "basalt-tier 7\nshards 256\n", true),
        ("FORMAT", "?", false),
        ("FORMAT", unsummed, false),
        ("FORMAT", &missummed, false),
        ("notes.txt", "", false),
    ] {
        let dir = tempfile::tempdir_in("/var/tmp").expect("a directory on a disk");
        std::fs::write(dir.path().join(file), text).expect("write");
        let root = dir.path().to_owned();
        let refused = on_column(move |column| {
            let root = root.clone();
            async move { DataDir::open(&column.io, &root, Guard::Flock).await.map(|_| ()) }
        });
        let refused = refused.expect_err("refused");
        assert_eq!(matches!(refused, DataDirError::Newer(_, 7)), newer, "{refused}");
        assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 1, "{file} {text:?} was touched");
    }
}
