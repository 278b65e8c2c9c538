//! Requests made to leave something for others: fields that no key has, methods in disguise, errors on purpose. The next client's
//! answer is as if they had never come.

use super::word;
use tests::http::{Reply, Request};
use tests::node::{Node, Setup};
use tests::scripted::{Asked, Scripted, answer, honest};

const FRESH: &str = "Cache-Control: max-age=3600\r\n";

/// What the papers on cache poisoning send: hosts, schemes, paths, methods, clients in disguise.
const UNKEYED: [(&str, &str); 24] = [
    ("X-Forwarded-Host", "evil.example"),
    ("X-Forwarded-Server", "evil.example"),
    ("X-Host", "evil.example"),
    ("Forwarded", "host=evil.example"),
    ("X-Forwarded-Scheme", "nothttps"),
    ("X-Forwarded-Proto", "http"),
    ("X-Forwarded-Port", "1337"),
    ("X-Forwarded-Prefix", "//evil.example"),
    ("X-Forwarded-For", "127.0.0.1"),
    ("X-Original-URL", "/admin"),
    ("X-Rewrite-URL", "/admin"),
    ("X-HTTP-Method-Override", "DELETE"),
    ("X-HTTP-Method", "POST"),
    ("X-Method-Override", "PUT"),
    ("X-HTTP-DestinationURL", "http://evil.example/"),
    ("X-Middleware-Subrequest", "x"),
    ("X-Nextjs-Data", "1"),
    ("RSC", "1"),
    ("Accept-Encoding", "br, gzip"),
    ("User-Agent", "Mozilla/5.0 evil"),
    ("Referer", "http://evil.example/"),
    ("X-WAF-Trigger", "../../etc/passwd"),
    ("Content-Type", "text/evil"),
    ("Max-Forwards", "0"),
];

fn start(origin: &Scripted) -> Node {
    Setup::new().origin(&origin.url()).start()
}

fn get(node: &Node, path: &str, fields: &[(&str, &str)]) -> Reply {
    let request = Request::new("GET", path);
    node.slice().call(&fields.iter().fold(request, |request, (name, value)| request.header(name, *value)))
}

/// An application that believes everything it is told: what it says has all fields of the request in it.
fn gullible(asked: &Asked) -> Vec<u8> {
    let evil = |name: &str| asked.fields(name).join(",");
    let told: Vec<String> = UNKEYED.iter().map(|(name, _)| evil(name)).collect();
    let method = ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"].map(evil).concat();
    let body = format!("{} {method} for {} by {}", asked.method(), told.join(";"), evil("Host"));
    honest(asked, "\"1\"", FRESH, body.as_bytes())
}

#[test]
fn fields_that_no_key_has_change_nothing() {
    let origin = Scripted::start(gullible);
    let node = start(&origin);
    let clean = get(&node, "/clean", &[]).must_be(200).body;
    for (at, field) in UNKEYED.into_iter().enumerate() {
        let path = format!("/f{at}");
        // Cold: whoever comes first decides what is stored.
        assert_eq!(get(&node, &path, &[field]).must_be(200).body, clean, "{field:?}");
        let next = get(&node, &path, &[]).must_be(200);
        assert_eq!((word(&next), &next.body), ("HIT", &clean), "{field:?}");
        assert_eq!(origin.asked_for(&path).len(), 1, "{field:?}");
    }
    get(&node, "/all", &UNKEYED).must_be(200);
    let asked = &origin.asked_for("/all")[0];
    for (name, value) in UNKEYED {
        let sent = asked.fields(name);
        assert!(!sent.contains(&value), "{name}: {sent:?}");
    }
    // Whatever host a client asks for, the origin is asked as the operator has named it.
    let mut conn = node.slice();
    conn.send(b"GET /host HTTP/1.1\r\nHost: evil.example\r\n\r\n").expect("sent");
    assert_eq!(conn.receive("GET").expect("a reply").must_be(200).body, clean);
    assert_eq!(origin.asked_for("/host")[0].field("host"), Some(origin.addr.to_string().as_str()));
}

#[test]
fn an_error_that_one_client_provokes_is_not_the_next_ones() {
    let origin = Scripted::start(|asked| {
        if asked.head.len() > 4000 || asked.head.contains("evil") || asked.head.contains('\u{fffd}') {
            return answer(400, FRESH, b"bad");
        }
        honest(asked, "\"1\"", FRESH, b"well")
    });
    let node = start(&origin);
    let long = "x".repeat(12_000);
    let provoking: [(&str, &[(&str, &str)]); 8] = [
        ("oversized field", &[("X-Oversized", long.as_str())]),
        ("meta character", &[("X-Meta", "evil")]),
        ("no such range", &[("Range", "bytes=999999-")]),
        ("condition", &[("If-Match", "\"evil\"")]),
        ("unmodified", &[("If-Unmodified-Since", "Thu, 01 Jan 1970 00:00:01 GMT")]),
        ("expectation", &[("Expect", "evil")]),
        ("upgrade", &[("Connection", "Upgrade"), ("Upgrade", "evil")]),
        ("cookie", &[("Cookie", "evil=1")]),
    ];
    for (at, (name, fields)) in provoking.into_iter().enumerate() {
        let path = format!("/p{at}");
        // Whatever it is answered itself.
        get(&node, &path, fields);
        let next = get(&node, &path, &[]).must_be(200);
        assert_eq!(next.body, b"well", "{name}");
        assert_eq!(word(&get(&node, &path, &[])), "HIT", "{name}");
    }
    // A GET that has a body is between its client and the origin.
    let fat = Request::new("GET", "/fat").body(b"evil=1");
    assert_eq!(word(&node.slice().call(&fat)), "BYPASS");
    assert_eq!(word(&get(&node, "/fat", &[])), "MISS");
    assert!(origin.asked_for("/p0").iter().all(|asked| asked.head.len() < 1000));
}

/// Whoever knows a path that fails, or of which the origin tells nonsense, must not get the origin left alone.
#[test]
fn what_one_path_answers_says_nothing_of_others() {
    let origin = Scripted::start(|asked| match asked.target() {
        "/broken" => answer(500, "", b"broken"),
        "/odd" => answer(206, "ETag: \"1\"\r\nContent-Range: bytes 7-9/10\r\n", b"odd"),
        _ => honest(asked, "\"1\"", FRESH, b"well"),
    });
    let node = Setup::new().origin(&origin.url()).arg("--slice-retries").arg("0").start();
    for (method, path) in [("GET", "/broken"), ("POST", "/broken"), ("GET", "/odd")] {
        for at in 0..40 {
            let reply = node.slice().call(&Request::new(method, path).header("X-At", at.to_string()));
            assert!(reply.status >= 500 && reply.status != 503, "{method} {path}: {}", reply.status);
        }
        for at in 0..8 {
            let well = format!("/well{}{at}", path.trim_start_matches('/'));
            assert_eq!(
                get(&node, &format!("{well}{method}"), &[]).must_be(200).body,
                b"well",
                "{method} {path}"
            );
        }
    }
}

#[test]
fn another_method_is_no_get_and_leaves_nothing() {
    let origin = Scripted::start(gullible);
    let node = start(&origin);
    for (at, method) in ["POST", "PUT", "OPTIONS", "REPORT", "X-GET"].into_iter().enumerate() {
        let path = format!("/m{at}");
        let reply = node.slice().call(&Request::new(method, path.as_str()).body(b"evil"));
        assert!(reply.must_be(200).text().starts_with(method));
        let next = get(&node, &path, &[]).must_be(200);
        assert_eq!(word(&next), "MISS", "{method}");
        assert!(next.text().starts_with("GET "), "{method}: {}", next.text());
    }
    // HEAD is answered from what GET gets, the other way round never.
    node.slice().call(&Request::new("HEAD", "/head")).must_be(200);
    assert!(get(&node, "/head", &[]).must_be(200).text().starts_with("GET "));
    assert!(origin.asked_for("/head").iter().all(|asked| asked.method() == "GET"));
}

#[test]
fn targets_that_an_origin_could_take_for_another_have_keys_of_their_own() {
    let origin = Scripted::start(|asked| honest(asked, "\"1\"", FRESH, asked.target().as_bytes()));
    let node = start(&origin);
    for target in [
        "/a/..%2fb",
        "/a%2fb",
        "/a//b",
        "/a;b=c",
        "/a%3Fb",
        "/a%23b",
        "/a%0d%0aX-Evil:%201",
        "/a%00",
        "/a%20b",
        "/a.css",
        "/a?",
        "/a?b",
        "/a?b&",
        "/a?B",
        "/a?utm_source=evil",
        "/A",
        "/a/",
        "/a",
    ] {
        for _ in 0..2 {
            let reply = get(&node, target, &[]).must_be(200);
            assert!(reply.text().eq_ignore_ascii_case(target), "{target} got {}", reply.text());
            assert_eq!(reply.header("x-evil"), None);
        }
        let asked = origin.asked();
        let alike = asked.iter().filter(|asked| asked.target().eq_ignore_ascii_case(target)).count();
        assert!(alike <= 2, "{target}: {alike}");
    }
    // Two spellings of one path are one, and the origin is asked for the one that is stored.
    for target in ["/x/../y", "/./y", "/%79"] {
        assert_eq!(get(&node, target, &[]).must_be(200).text(), "/y", "{target}");
    }
    assert_eq!(origin.asked_for("/y").len(), 1);
}

/// What an answer says of itself is believed by the RFC's rules alone.
#[test]
fn what_is_of_one_client_is_kept_for_nobody() {
    let origin = Scripted::start(|asked| {
        let fields = match asked.target() {
            "/private" => "Cache-Control: private, max-age=60\r\n",
            "/no-store" => "Cache-Control: no-store\r\n",
            "/cookie" => "Cache-Control: max-age=60\r\nSet-Cookie: a=b\r\n",
            "/vary" => "Cache-Control: max-age=60\r\nVary: *\r\n",
            "/malformed" => "Cache-Control: max-age=60; \"private\r\n",
            _ => FRESH,
        };
        honest(asked, &format!("\"{}\"", asked.before), fields, format!("for {}", asked.before).as_bytes())
    });
    let node = start(&origin);
    for path in ["/private", "/no-store", "/cookie", "/vary", "/malformed"] {
        let bodies: Vec<_> = (0..3).map(|_| get(&node, path, &[]).must_be(200).body).collect();
        assert!(bodies[0] != bodies[1] && bodies[1] != bodies[2], "{path}: {bodies:?}");
    }
    for field in [("Authorization", "Basic YTpi"), ("Cookie", "session=1")] {
        let first = get(&node, "/mine", &[field]).must_be(200).body;
        let second = get(&node, "/mine", &[]).must_be(200).body;
        assert!(first != second, "{field:?}");
        node.slice().call(&Request::new("PURGE", "/mine")).must_be(200);
    }
}
