//! Origins that lie, break off or change: an error or a cut connection, never a wrong byte, and the next request heals.

use super::{MIB, get, object, proxy};
use std::time::Duration;
use tests::http::{Fault as Cut, Request};
use tests::origin::{Fault, Object, Origin};

#[test]
fn what_passes_is_tried_again_and_nobody_notices() {
    let origin = Origin::start();
    let node = proxy(&origin).start();
    let faults = [
        Fault::Status(503, ""),
        Fault::Status(500, "Retry-After: 0\r\n"),
        Fault::Reset,
        Fault::Short,
        Fault::WrongRange,
        Fault::Raw("HTTP/1.1 206 Partial\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
    ];
    for (at, fault) in faults.into_iter().enumerate() {
        let path = format!("/f{at}");
        let good = object(at as u64, 3 * MIB + 11);
        origin.put(&path, good.clone().fault(fault.clone(), 2));
        let reply = get(&node, &path, "").must_be(200);
        assert!(reply.body == *good.body, "{fault:?}");
        assert!(get(&node, &path, "bytes=2000000-").body == good.body[2_000_000..], "{fault:?}");
    }
}

#[test]
fn what_stays_wrong_is_an_error_and_heals() {
    let origin = Origin::start();
    let node = proxy(&origin).start();
    for (at, fault) in
        [Fault::Status(503, ""), Fault::WrongRange, Fault::Raw("nonsense\r\n\r\n")].into_iter().enumerate()
    {
        let path = format!("/w{at}");
        let good = object(at as u64, 2 * MIB);
        // One try and three more.
        origin.put(&path, good.clone().fault(fault.clone(), 4));
        get(&node, &path, "").must_be(502);
        assert!(get(&node, &path, "").must_be(200).body == *good.body, "{fault:?}");
    }
}

#[test]
fn an_object_that_changes_is_never_mixed() {
    let origin = Origin::start();
    let node = proxy(&origin).start();
    let new = Object { etag: "\"v2\"".to_owned(), ..object(2, 6 * MIB) };
    // After two slices of the old one every further one is of the new.
    let old = object(1, 8 * MIB);
    let changing = Object { becomes: Some((2, Box::new(new.clone()))), ..old.clone() };
    origin.put("/change", changing);
    let mut conn = node.slice();
    let mut got = Vec::new();
    conn.send(&Request::new("GET", "/change").to_bytes()).expect("sent");
    match conn.receive_into("GET", &mut |part| got.extend_from_slice(part)) {
        Err(Cut::Cut) => assert!(old.body.starts_with(&got), "{} bytes", got.len()),
        // Before the first byte was sent it is asked for again.
        Ok(reply) => assert!(reply.status == 502 || got == *new.body, "{} bytes", got.len()),
        other => panic!("{other:?}"),
    }
    let healed = get(&node, "/change", "").must_be(200);
    assert!(healed.body == *new.body && healed.header("etag") == Some("\"v2\""));
}

#[test]
fn a_stale_object_that_changed_is_replaced() {
    let origin = Origin::start();
    let node = proxy(&origin).start();
    let fields = "Cache-Control: max-age=0, must-revalidate\r\n".to_owned();
    let old = Object { fields: fields.clone(), ..object(1, 2 * MIB) };
    let new = Object { fields, etag: "\"v2\"".to_owned(), ..object(2, MIB) };
    origin.put("/stale", old.clone());
    for _ in 0..2 {
        assert!(get(&node, "/stale", "").must_be(200).body == *old.body);
    }
    origin.put("/stale", new.clone());
    for _ in 0..2 {
        assert!(get(&node, "/stale", "").must_be(200).body == *new.body);
    }
}

#[test]
fn without_ranges_it_is_whole_or_passed() {
    let origin = Origin::start();
    let node = proxy(&origin).start();
    for (path, chunked, word) in [("/plain", false, "MISS 0/1"), ("/chunked", true, "BYPASS")] {
        let whole = Object { ranges: false, chunked, ..object(1, 3 * MIB) };
        origin.put(path, whole.clone());
        let reply = get(&node, path, "").must_be(200);
        assert!(reply.body == *whole.body && reply.header("x-cache") == Some(word), "{path}");
    }
}

#[test]
fn errors_and_redirects_are_the_origins_own() {
    let origin = Origin::start();
    let node = proxy(&origin).start();
    assert_eq!(get(&node, "/nothing", "").must_be(404).body, b"none");
    origin.put("/moved", object(1, 10).fault(Fault::Status(302, "Location: /there\r\n"), u32::MAX));
    let reply = get(&node, "/moved", "").must_be(302);
    assert_eq!(reply.header("location"), Some("/there"));
}

#[test]
fn a_body_that_breaks_off_is_cut_when_nothing_more_can_be_had() {
    let origin = Origin::start();
    let node = proxy(&origin).arg("--slice-retries").arg("0").start();
    let good = object(9, 2 * MIB);
    origin.put("/cut", Object { pause: Duration::from_millis(1), ..good.clone() }.fault(Fault::Reset, 1));
    let mut conn = node.slice();
    let mut got = Vec::new();
    conn.send(&Request::new("GET", "/cut").to_bytes()).expect("sent");
    let outcome = conn.receive_into("GET", &mut |part| got.extend_from_slice(part));
    // Who was still being sent what had come may have found it fetched anew.
    match outcome {
        Err(Cut::Cut) => assert!(got.len() < good.body.len() && good.body.starts_with(&got)),
        Ok(reply) => assert!(reply.status == 502 || got == *good.body, "{} bytes", got.len()),
        other => panic!("{other:?}"),
    }
    assert!(get(&node, "/cut", "").must_be(200).body == *good.body);
}

#[test]
fn what_the_origin_says_instead_of_a_slice_is_the_clients() {
    let origin = Origin::start();
    let node = proxy(&origin).start();
    for status in [401, 403, 407, 425, 429, 451, 511] {
        let path = format!("/r{status}");
        let good = object(status.into(), 3 * MIB);
        origin.put(&path, good.clone());
        get(&node, &path, "bytes=0-9").must_be(206);
        let fields = "WWW-Authenticate: Basic realm=\"r\"\r\nRetry-After: 7\r\n";
        origin.put(&path, good.clone().fault(Fault::Status(status, fields), u32::MAX));
        let reply = get(&node, &path, "bytes=2097152-").must_be(status);
        let said = ["www-authenticate", "retry-after"].map(|name| reply.header(name));
        assert_eq!(said, [Some("Basic realm=\"r\""), Some("7")], "{status}");
        origin.put(&path, good.clone());
        assert!(get(&node, &path, "").must_be(200).body == *good.body, "{status}");
    }
}
