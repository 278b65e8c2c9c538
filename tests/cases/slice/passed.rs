//! What is not cached goes through: other methods with their bodies, what is private, paths that are not sliced.

use super::{MIB, get, object, proxy, word};
use std::process::Command;
use std::time::Duration;
use tests::command;
use tests::content;
use tests::http::{Request, chunked};
use tests::node::{Node, Setup};
use tests::origin::{Object, Origin};
use tests::scripted::{Asked, Scripted, answer, honest};

#[test]
fn bodies_go_through_both_ways() {
    let origin = Origin::start();
    let node = proxy(&origin).start();
    for size in [0, 1, 65_536, 3 * MIB] {
        let body = content::bytes(1, size);
        let reply = node.slice().call(&Request::new("POST", "/form?x=1").body(&body)).must_be(299);
        let expected = [b"POST /form?x=1\n", &body[..]].concat();
        assert!(reply.body == expected, "{size} bytes");
        assert_eq!(reply.header("cache-status"), Some("basalt; fwd=method; fwd-status=299"));
    }
    let mut conn = node.slice();
    let head = Request::new("PATCH", "/p").header("Transfer-Encoding", "chunked").to_bytes();
    conn.send(&[head, chunked(b"hello", 2)].concat()).expect("sent");
    let reply = conn.receive("PATCH").expect("a reply").must_be(299);
    assert!(reply.text().starts_with("PATCH /p\n"), "{}", reply.text());
}

#[test]
fn what_is_for_one_client_is_not_shared() {
    let origin = Origin::start();
    let node = proxy(&origin).start();
    origin.put("/mine", object(1, 1000));
    for at in 1..4 {
        let request = Request::new("GET", "/mine").header("Cookie", "me=1");
        let reply = node.slice().call(&request).must_be(200);
        assert_eq!((word(&reply), origin.total("/mine")), ("BYPASS", at));
    }
}

#[test]
fn an_unsafe_method_makes_what_is_stored_void() {
    let origin = Origin::start();
    let node = proxy(&origin).start();
    origin.put("/void", object(1, 1000));
    for word_of in ["MISS", "HIT"] {
        assert_eq!(word(&get(&node, "/void", "")), word_of);
    }
    node.slice().call(&Request::new("PUT", "/void").body(b"new")).must_be(299);
    assert_eq!(word(&get(&node, "/void", "")), "MISS");
}

/// Variants that were stored before a restart, too, and whichever of them is asked for first.
#[test]
fn an_unsafe_method_makes_every_variant_void() {
    let origin = Origin::start();
    let mut node = proxy(&origin).start();
    let plain = object(1, 1000);
    origin.put("/v", Object { fields: format!("{}Vary: Accept-Language\r\n", plain.fields), ..plain });
    let ask = |node: &Node, language: &str| {
        let request = Request::new("GET", "/v").header("Accept-Language", language);
        word(&node.slice().call(&request).must_be(200)).to_owned()
    };
    for _ in 0..2 {
        for language in ["de", "en", "fr"] {
            ask(&node, language);
            must_be_kept(&node, || ask(&node, language));
        }
        node.stop();
        node = node.start_again();
        assert_eq!(ask(&node, "de"), "HIT");
        node.slice().call(&Request::new("PUT", "/v").body(b"new")).must_be(299);
        for language in ["fr", "en", "de"] {
            assert_eq!(ask(&node, language), "MISS", "{language}");
            assert_eq!(ask(&node, language), "HIT", "{language}");
        }
    }
}

/// Until it is in the tier: a restart would forget it.
fn must_be_kept(node: &Node, ask: impl Fn() -> String) {
    let count = || {
        let text = node.ops().call(&Request::new("GET", "/metrics")).must_be(200);
        tests::exposition::Exposition::parse(text.text()).expect("valid").sum("blobcache_blobs", |_| true)
            as u64
    };
    let (mut before, mut stays) = (0, 0);
    while stays < 5 {
        assert_eq!(ask(), "HIT");
        std::thread::sleep(std::time::Duration::from_millis(30));
        let now = count();
        stays = if now == before && now > 0 { stays + 1 } else { 0 };
        before = now;
    }
}

#[test]
fn paths_that_no_pattern_names_are_passed() {
    let origin = Origin::start();
    let node = proxy(&origin).arg("--slice-patterns").arg("\\.mp4$").start();
    for path in ["/a.mp4", "/a.html"] {
        origin.put(path, object(1, 1000));
        get(&node, path, "").must_be(200);
    }
    assert_eq!(word(&get(&node, "/a.mp4", "")), "HIT");
    assert_eq!(word(&get(&node, "/a.html", "")), "BYPASS");
}

#[test]
fn what_may_be_forwarded_no_more_is_answered_here() {
    let origin = Scripted::start(|asked| answer(200, "", asked.head.as_bytes()));
    let node = Setup::new().origin(&origin.url()).start();
    let ask = |method: &str, hops: &str| {
        node.slice().call(&Request::new(method, format!("/{method}")).header("Max-Forwards", hops))
    };
    let reply = ask("OPTIONS", "0").must_be(200);
    assert_eq!((reply.header("allow"), reply.body.len()), (Some("GET, HEAD, OPTIONS, PURGE"), 0));
    ask("TRACE", "0").must_be(501);
    ask("OPTIONS", "many").must_be(400);
    assert_eq!(origin.asked().len(), 0, "nothing was forwarded");
    for method in ["OPTIONS", "TRACE"] {
        for (hops, left) in [("1", "0"), ("10", "9")] {
            ask(method, hops).must_be(200);
            let asked = origin.asked_for(&format!("/{method}"));
            let asked = asked.last().expect("forwarded");
            assert_eq!((asked.method(), asked.field("max-forwards")), (method, Some(left)));
        }
    }
    node.slice().call(&Request::new("OPTIONS", "/any")).must_be(200);
    assert_eq!(origin.asked_for("/any")[0].field("max-forwards"), None);
}

/// RFC 9110 §7.6.3: Via names the protocol in which a message was received.
#[test]
fn via_says_in_what_version_a_message_came() {
    let origin = Scripted::start(|asked: &Asked| {
        let answer =
            honest(asked, "\"1\"", "Cache-Control: max-age=3600\r\nVia: 1.1 before\r\n", b"what it is");
        match asked.target() {
            "/old" => [b"HTTP/1.0", &answer[8..]].concat(),
            _ => answer,
        }
    });
    let mut node = Setup::new().origin(&origin.url()).start();
    let url = |node: &Node, path: &str| format!("http://{}{path}", node.setup.slice);
    for (how, said) in [("--http2-prior-knowledge", "2.0"), ("--http1.1", "1.1"), ("--http1.0", "1.0")] {
        let fields = ["-H", "Cookie: a=b", "-H", "Via: 1.1 client"];
        let mut curl = Command::new("curl");
        let curl = curl.args(["-sS", "--max-time", "30", how]).args(fields).arg(url(&node, "/passed"));
        command::run(curl, Duration::from_secs(60)).must_succeed();
        let asked = origin.asked().pop().expect("asked");
        assert_eq!(asked.field("via"), Some(format!("1.1 client, {said} basalt").as_str()), "{how}");
    }
    for (path, said) in [("/old", "1.1 before, 1.0 basalt"), ("/new", "1.1 before, 1.1 basalt")] {
        let passed = node.slice().call(&Request::new("GET", path).header("Cookie", "a=b")).must_be(200);
        assert_eq!(passed.header("via"), Some(said), "{path}, passed");
        for state in ["MISS", "HIT", "HIT"] {
            let reply = get(&node, path, "").must_be(200);
            assert_eq!((word(&reply), reply.header("via")), (state, Some(said)), "{path}");
            assert!(reply.headers.iter().all(|(name, _)| !name.contains("received")), "{:?}", reply.headers);
        }
        super::kept::must_be_stored(&node, path);
    }
    node.stop();
    let node = node.start_again();
    assert_eq!(get(&node, "/old", "").must_be(200).header("via"), Some("1.1 before, 1.0 basalt"));
}
