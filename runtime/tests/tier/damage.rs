//! Damage in the last batch is a torn tail, damage before it an error that names file and offset. A file that no record names
//! goes, and so does a record whose file is gone.

use super::{bytes_of, digest_of, digests, expected, filled, flip, segment};
use runtime::tier::parts::format_text;
use runtime::tier::{Digest, Names};
use std::fs;

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

/// Numbers go on behind the highest that is found.
#[test]
fn a_segment_with_the_last_number_is_refused_and_named() {
    let (_dir, root) = filled();
    for name in ["pack-4294967295", "spare-pack-4294967295", "index-4294967290", "checkpoint-4294967295"] {
        let path = root.join(name);
        fs::write(&path, []).expect("written");
        let error = digests(&root, 1).expect_err("there is no next number");
        assert!(error.contains(name), "{error}");
        assert!(path.exists(), "nothing was changed");
        fs::remove_file(path).expect("removed");
    }
    assert_eq!(digests(&root, 1), Ok(expected(&[1, 2], true)));
}

/// Under another seed nothing in the journals would hold, all of it be a torn tail, and so be removed.
#[test]
fn a_format_of_another_directory_is_refused_and_nothing_is_removed() {
    let (_dir, root) = filled();
    let format = Names::new(&root).format();
    let kept = fs::read(&format).expect("read");
    let listed = || fs::read_dir(&root).expect("lists").count();
    let before = listed();
    fs::write(&format, format_text(0x0bad_f00d)).expect("written");
    let error = digests(&root, 1).expect_err("of another directory");
    assert!(error.contains("FORMAT"), "{error}");
    assert_eq!(listed(), before, "nothing was removed");
    fs::write(&format, kept).expect("written");
    assert_eq!(digests(&root, 1), Ok(expected(&[1, 2], true)));
}
