//! What clients are answered: whole objects, ranges of every kind, conditions; from the origin first, then without it.

use super::{MIB, get, object, proxy, word};
use tests::http::Request;
use tests::origin::Origin;

#[test]
fn objects_of_every_size_come_as_they_are_and_once() {
    let origin = Origin::start();
    let node = proxy(&origin).start();
    for (at, size) in
        [1, 1000, 65_535, 65_536, 65_537, MIB - 1, MIB, MIB + 1, 5 * MIB + 7].into_iter().enumerate()
    {
        let (path, object) = (format!("/o{at}"), object(at as u64, size));
        origin.put(&path, object.clone());
        let first = get(&node, &path, "").must_be(200);
        assert!(first.body == *object.body, "{size} bytes, cold");
        assert_eq!((word(&first), first.header("etag")), ("MISS", Some("\"v1\"")));
        let asked = origin.total(&path);
        assert_eq!(asked as usize, size.div_ceil(MIB), "a request for each slice");
        let again = get(&node, &path, "").must_be(200);
        assert!(again.body == *object.body, "{size} bytes, hot");
        assert_eq!((word(&again), origin.total(&path)), ("HIT", asked));
        assert!(
            again.header("age").is_some() && again.header("via") == Some("1.1 basalt"),
            "{:?}",
            again.headers
        );
        assert_eq!(again.header("cache-status").map(|s| s.starts_with("basalt; hit; ttl=")), Some(true));
    }
}

#[test]
fn an_empty_object_is_served() {
    let origin = Origin::start();
    let node = proxy(&origin).start();
    origin.put("/empty", object(1, 0));
    assert!(get(&node, "/empty", "").must_be(200).body.is_empty());
}

#[test]
fn every_kind_of_range_is_served_from_slices() {
    let origin = Origin::start();
    let node = proxy(&origin).start();
    let object = object(3, 3 * MIB + 100);
    let (body, size) = (object.body.clone(), 3 * MIB + 100);
    for (at, (range, from, to)) in [
        ("bytes=0-0", 0, 1),
        ("bytes=1048575-1048576", MIB - 1, MIB + 1),
        ("bytes=2000000-", 2_000_000, size),
        ("bytes=-1", size - 1, size),
        ("bytes=-2000000", size - 2_000_000, size),
        ("bytes=-99999999", 0, size),
        ("bytes=3145728-3145827", 3 * MIB, size),
        ("bytes=3145827-99999999", size - 1, size),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/r{at}");
        origin.put(&path, object.clone());
        for state in ["cold", "hot"] {
            let reply = get(&node, &path, range).must_be(206);
            assert!(reply.body == body[from..to], "{range} {state}");
            let said = format!("bytes {from}-{}/{size}", to - 1);
            assert_eq!(reply.header("content-range"), Some(said.as_str()), "{range} {state}");
        }
        let worst = origin.asked(&path).into_iter().max_by_key(|(_, count)| *count).expect("asked");
        assert_eq!(worst.1, 1, "{range}: {worst:?} was fetched again");
    }
    origin.put("/none", object.clone());
    let reply = get(&node, "/none", "bytes=9999999-").must_be(416);
    assert_eq!(reply.header("content-range"), Some("bytes */3145828"));
}

#[test]
fn several_ranges_are_parts() {
    let origin = Origin::start();
    let node = proxy(&origin).start();
    let object = object(4, 3 * MIB);
    origin.put("/m", object.clone());
    for _ in 0..2 {
        let reply = get(&node, "/m", "bytes=0-9,1500000-1500019,-5").must_be(206);
        let kind = reply.header("content-type").expect("it has parts").to_owned();
        let boundary = kind.strip_prefix("multipart/byteranges; boundary=").expect("parts");
        let text = reply.body;
        let ranges = [0..10, 1_500_000..1_500_020, 3 * MIB - 5..3 * MIB];
        let mut expected = Vec::new();
        for (at, range) in ranges.into_iter().enumerate() {
            let start = if at == 0 { "--" } else { "\r\n--" };
            let said = format!("content-range: bytes {}-{}/{}", range.start, range.end - 1, 3 * MIB);
            let kind = "content-type: application/octet-stream";
            expected.extend(format!("{start}{boundary}\r\n{kind}\r\n{said}\r\n\r\n").into_bytes());
            expected.extend(&object.body[range]);
        }
        expected.extend(format!("\r\n--{boundary}--\r\n").into_bytes());
        assert!(text == expected, "{}", String::from_utf8_lossy(&text[..200]));
    }
}

#[test]
fn conditions_and_head_are_answered_from_what_is_stored() {
    let origin = Origin::start();
    let node = proxy(&origin).start();
    origin.put("/c", object(5, MIB));
    let call = |method: &str, fields: &[(&str, &str)]| {
        let request = Request::new(method, "/c");
        node.slice().call(&fields.iter().fold(request, |request, (name, value)| request.header(name, *value)))
    };
    let head = call("HEAD", &[]).must_be(200);
    assert_eq!(head.header("content-length"), Some("1048576"));
    let reply = call("GET", &[("If-None-Match", "\"v1\"")]).must_be(304);
    assert_eq!((reply.header("etag"), reply.header("content-length")), (Some("\"v1\""), None));
    call("GET", &[("If-Match", "\"v2\"")]).must_be(412);
    let whole = call("GET", &[("Range", "bytes=0-1"), ("If-Range", "\"v2\"")]).must_be(200);
    assert_eq!(whole.body.len(), MIB);
    call("GET", &[("Range", "bytes=0-1"), ("If-Range", "\"v1\"")]).must_be(206);
    assert_eq!(origin.total("/c"), 1);
    call("GET", &[("Cache-Control", "no-cache")]).must_be(200);
    assert_eq!(origin.total("/c"), 2, "it is asked about");
}
