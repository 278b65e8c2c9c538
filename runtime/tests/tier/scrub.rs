//! What nobody reads is read to look for damage: it is found once, and no faster than the rate allows.

use super::{bytes_of, digest_of, filled, flip, open_one, segment};
use crate::on_column::on_column;
use bytes::Bytes;
use runtime::io::Io;
use runtime::tier::{Keep, Names, Stored};
use std::io;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

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
