//! What Cache-Status says (RFC 9211): why the origin was asked, and what became of its answer.

use super::{get, object, proxy};
use tests::http::Request;
use tests::node::{Node, Setup};
use tests::origin::{Fault, Object, Origin};
use tests::scripted::{Scripted, answer, honest};

fn told(node: &Node, path: &str) -> String {
    get(node, path, "").header("cache-status").expect("told").to_owned()
}

fn begins(told: &str, expected: &str) {
    assert!(told.starts_with(expected), "{told} is not {expected}…");
}

#[test]
fn what_is_stale_or_not_asked_for_often_enough_is_not_said_to_be_stored() {
    let origin = Origin::start();
    let node = proxy(&origin).arg("--slice-retries").arg("0").start();
    let fields = "Cache-Control: max-age=0, stale-if-error=600\r\n".to_owned();
    let stale = Object { fields, ..object(1, 1000) };
    origin.put("/stale", stale.clone());
    begins(&told(&node, "/stale"), "basalt; fwd=uri-miss; fwd-status=206; stored; ttl=");
    begins(&told(&node, "/stale"), "basalt; fwd=stale; fwd-status=304; stored; ttl=");
    // Of another version: a 304 would come before the fault.
    let failing = Object { etag: "\"2\"".to_owned(), ..stale };
    origin.put("/stale", failing.fault(Fault::Status(503, ""), u32::MAX));
    begins(&told(&node, "/stale"), "basalt; fwd=stale; ttl=");
    drop(node);
    let node = proxy(&origin).arg("--slice-min-uses").arg("2").start();
    origin.put("/twice", object(2, 1000));
    begins(&told(&node, "/twice"), "basalt; fwd=uri-miss; fwd-status=206; ttl=");
    // Its head is here, its bytes are not.
    begins(&told(&node, "/twice"), "basalt; fwd=partial; stored; ttl=");
}

#[test]
fn another_variant_is_a_miss_of_its_own() {
    let origin = Origin::start();
    let node = proxy(&origin).start();
    let plain = object(1, 1000);
    origin.put("/v", Object { fields: format!("{}Vary: Accept\r\n", plain.fields), ..plain });
    let told = |accept: &str| {
        let reply = node.slice().call(&Request::new("GET", "/v").header("Accept", accept)).must_be(200);
        reply.header("cache-status").expect("told").to_owned()
    };
    begins(&told("text/a"), "basalt; fwd=uri-miss; fwd-status=206; stored; ttl=");
    begins(&told("text/a"), "basalt; hit; ttl=");
    begins(&told("text/b"), "basalt; fwd=vary-miss; fwd-status=206; stored; ttl=");
    begins(&told("text/b"), "basalt; hit; ttl=");
    node.slice().call(&Request::new("PURGE", "/v")).must_be(200);
    begins(&told("text/a"), "basalt; fwd=uri-miss; fwd-status=206; stored; ttl=");
    begins(&told("text/b"), "basalt; fwd=vary-miss; fwd-status=206; stored; ttl=");
}

#[test]
fn what_may_not_be_stored_is_told_with_the_reason() {
    let origin = Origin::start();
    let node = proxy(&origin).start();
    for (at, (fields, detail)) in [
        ("Cache-Control: private\r\n", "PRIVATE"),
        ("Cache-Control: no-store\r\n", "NO-STORE"),
        ("Cache-Control: max-age=60\r\nSet-Cookie: a=1\r\n", "SET-COOKIE"),
        ("Cache-Control: max-age=60\r\nVary: *\r\n", "VARY"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/{at}");
        origin.put(&path, Object { fields: fields.to_owned(), ..object(1, 1000) });
        for _ in 0..2 {
            assert_eq!(told(&node, &path), format!("basalt; fwd=bypass; fwd-status=200; detail={detail}"));
        }
    }
    assert_eq!(told(&node, "/nothing"), "basalt; fwd=bypass; fwd-status=404; detail=NO-LIFETIME");
}

#[test]
fn a_lifetime_is_guessed_where_the_operator_sets_none() {
    let origin = Scripted::start(|asked| match asked.target() {
        "/dated" => honest(asked, "\"1\"", "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n", b"well"),
        _ => honest(asked, "\"1\"", "", b"well"),
    });
    let node = Setup::new().origin(&origin.url()).arg("--slice-ttl").arg("none").start();
    // A tenth of decades is more than a day.
    begins(&told(&node, "/dated"), "basalt; fwd=uri-miss; fwd-status=206; stored; ttl=86400");
    assert_eq!(told(&node, "/plain"), "basalt; fwd=bypass; fwd-status=200; detail=NO-LIFETIME");
    let node = Setup::new().origin(&origin.url()).start();
    begins(&told(&node, "/dated"), "basalt; fwd=uri-miss; fwd-status=206; stored; ttl=3600");
}

/// That an answer came as HTTP/1.0 is noted beside its fields, for Via.
#[test]
fn a_note_to_ourselves_is_shown_to_nobody() {
    let origin = Scripted::start(|asked| {
        let fields = "Cache-Control: max-age=60\r\n";
        let reply = match asked.target() {
            "/kept" => answer(200, fields, &[5; 3000]),
            _ => honest(asked, "\"1\"", fields, &[5; 3000]),
        };
        [b"HTTP/1.0", &reply[8..]].concat()
    });
    let node = Setup::new().origin(&origin.url()).start();
    // The first ones until it is hot.
    let forms = [
        [("GET", "", 200); 4],
        [
            ("HEAD", "", 200),
            ("GET", "bytes=0-9", 206),
            ("GET", "bytes=0-9,200-209", 206),
            ("GET", "bytes=9000-", 416),
        ],
    ]
    .concat();
    for path in ["/sliced", "/kept"] {
        for (method, range, status) in &forms {
            let request = Request::new(method, path);
            let request = if range.is_empty() { request } else { request.header("Range", *range) };
            let reply = node.slice().call(&request).must_be(*status);
            assert_eq!(reply.header("via"), Some("1.0 basalt"), "{path} {method} {range}");
            let names: Vec<&str> = reply.headers.iter().map(|(name, _)| name.as_str()).collect();
            assert!(
                names.iter().all(|name| !name.contains("received")),
                "{path} {method} {range}: {names:?}"
            );
        }
    }
}
