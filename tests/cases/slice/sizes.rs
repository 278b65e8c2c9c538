//! Which objects are sliced, and how: sizes by path, objects that are one slice, paths that are not sliced.

use super::kept::must_be_stored;
use super::{MIB, get, object, proxy, word};
use tests::http::Reply;
use tests::origin::Origin;

fn told(reply: &Reply) -> &str {
    reply.header("x-cache").expect("told")
}

#[test]
fn a_path_has_its_own_slice_size_and_what_is_stored_keeps_its() {
    let origin = Origin::start();
    let setup = proxy(&origin).arg("--slice-path-size").arg("/films/=4MiB,/films/short=64KiB");
    let node = setup.arg("--slice-path-size").arg("/auto/=auto").start();
    let large = object(1, 9 * MIB);
    let paths = [("/x", 9), ("/films/x", 3), ("/films/short/x", 144), ("/filmsx", 9), ("/auto/x", 10)];
    for (path, slices) in paths {
        origin.put(path, large.clone());
        let reply = get(&node, path, "bytes=0-").must_be(206);
        assert!(reply.body == *large.body, "{path}");
        assert_eq!(told(&reply), format!("MISS 0/{slices}"), "{path}");
        must_be_stored(&node, path);
    }
    assert_eq!(origin.asked("/films/x").keys().next().map(String::as_str), Some("bytes=0-4194303"));
    // Another size holds for what is fetched from then on.
    let setup = node.setup.clone().arg("--slice-path-size").arg("/=2MiB");
    let node = node.start_as(setup);
    for (path, slices) in paths {
        let reply = get(&node, path, "bytes=0-").must_be(206);
        assert!(reply.body == *large.body, "{path}");
        assert_eq!(told(&reply), format!("HIT {slices}/{slices}"), "{path}");
    }
    origin.put("/new", large.clone());
    assert_eq!(told(&get(&node, "/new", "bytes=0-").must_be(206)), "MISS 0/5");
}

#[test]
fn an_object_below_the_least_size_is_one_slice() {
    let origin = Origin::start();
    let node = proxy(&origin).arg("--slice-min-size").arg("4MiB").start();
    let (small, large) = (object(1, 4 * MIB - 1), object(2, 4 * MIB));
    for path in ["/small", "/middle"] {
        origin.put(path, small.clone());
    }
    origin.put("/large", large.clone());
    let reply = get(&node, "/small", "").must_be(200);
    assert!(reply.body == *small.body);
    assert_eq!(told(&reply), "MISS 0/1");
    assert_eq!(origin.total("/small"), 1, "all of it comes with the first answer");
    let reply = get(&node, "/middle", "bytes=2000000-2000009").must_be(206);
    assert!(reply.body == small.body[2_000_000..2_000_010]);
    assert_eq!(told(&reply), "MISS 0/1");
    let reply = get(&node, "/small", "bytes=-5").must_be(206);
    assert!(reply.body == small.body[4 * MIB - 6..]);
    assert_eq!(told(&reply), "HIT 1/1");
    let reply = get(&node, "/large", "").must_be(200);
    assert!(reply.body == *large.body);
    assert_eq!(told(&reply), "MISS 0/4");
}

#[test]
fn paths_that_a_pattern_excludes_are_passed() {
    let origin = Origin::start();
    let setup = proxy(&origin).arg("--slice-patterns").arg("^/live/");
    let node = setup.arg("--slice-patterns").arg("!\\.m3u8$").start();
    for (path, expected) in [("/live/a.ts", "HIT"), ("/live/a.m3u8", "BYPASS"), ("/b.ts", "BYPASS")] {
        origin.put(path, object(1, 1000));
        get(&node, path, "").must_be(200);
        assert_eq!(word(&get(&node, path, "")), expected, "{path}");
    }
}
