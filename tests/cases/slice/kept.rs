//! What is stored is served after a restart and after a kill; what is purged stays purged.

use super::{MIB, get, object, proxy, word};
use std::thread;
use std::time::{Duration, Instant};
use tests::http::Request;
use tests::node::Node;
use tests::origin::{Object, Origin};

/// Until everything of an object is in the tier: then nothing of it comes from the origin.
pub(super) fn must_be_stored(node: &Node, path: &str) {
    let begin = Instant::now();
    let blobs = |node: &Node| {
        let text = node.ops().call(&Request::new("GET", "/metrics")).must_be(200);
        tests::exposition::Exposition::parse(text.text()).expect("valid").sum("blobcache_blobs", |_| true)
            as u64
    };
    get(node, path, "").must_be(200);
    let (mut before, mut stays) = (0, 0);
    while stays < 5 {
        assert!(begin.elapsed() < Duration::from_secs(30), "it goes on storing");
        thread::sleep(Duration::from_millis(50));
        let now = blobs(node);
        stays = if now == before && now > 0 { stays + 1 } else { 0 };
        before = now;
    }
}

#[test]
fn what_is_stored_is_served_after_a_restart_and_after_a_kill() {
    let origin = Origin::start();
    let mut node = proxy(&origin).start();
    let (large, small) = (object(1, 4 * MIB + 5), object(2, 3000));
    origin.put("/large", large.clone());
    origin.put("/small", small.clone());
    must_be_stored(&node, "/small");
    must_be_stored(&node, "/large");
    let asked = (origin.total("/large"), origin.total("/small"));
    for is_killed in [false, true] {
        if is_killed {
            node.kill();
        } else {
            node.stop();
        }
        node = node.start_again();
        for (path, object) in [("/large", &large), ("/small", &small)] {
            let reply = get(&node, path, "").must_be(200);
            assert!(reply.body == *object.body, "{path}");
            assert_eq!(word(&reply), "HIT", "{path} {:?}", reply.headers);
        }
    }
    assert_eq!((origin.total("/large"), origin.total("/small")), asked);
    assert!(node.client().list().is_empty(), "slices are no blobs");
}

pub(super) fn purge(node: &Node, target: &str, fields: &[(&str, &str)]) {
    let request = Request::new("PURGE", target);
    let request = fields.iter().fold(request, |request, (name, value)| request.header(name, *value));
    node.slice().call(&request).must_be(200);
}

#[test]
fn what_is_purged_is_fetched_anew_and_stays_purged_after_a_kill() {
    let origin = Origin::start();
    let mut node = proxy(&origin).start();
    let tagged = |seed| {
        let object = object(seed, MIB + 9);
        let fields = format!("{}Surrogate-Key: films all\r\n", object.fields);
        Object { fields, etag: format!("\"{seed}\""), ..object }
    };
    let orders: [(&str, &[(&str, &str)]); 4] =
        [("/p/x", &[]), ("/p/*", &[]), ("/", &[("Surrogate-Key", "films")]), ("/*", &[])];
    for (at, (target, fields)) in orders.into_iter().enumerate() {
        let (old, new) = (tagged(at as u64 * 2), tagged(at as u64 * 2 + 1));
        origin.put("/p/x", old.clone());
        purge(&node, "/p/x", &[]);
        must_be_stored(&node, "/p/x");
        assert!(get(&node, "/p/x", "").body == *old.body, "{target}");
        origin.put("/p/x", new.clone());
        assert!(get(&node, "/p/x", "").body == *old.body, "{target}: it is fresh");
        purge(&node, target, fields);
        if at % 2 == 1 {
            node.kill();
            node = node.start_again();
        }
        assert!(get(&node, "/p/x", "").body == *new.body, "{target} {fields:?}");
    }
}

#[test]
fn what_is_purged_softly_is_asked_about_and_served() {
    let origin = Origin::start();
    let node = proxy(&origin).start();
    let object = object(7, 2 * MIB);
    origin.put("/s", object.clone());
    get(&node, "/s", "").must_be(200);
    let asked = origin.total("/s");
    purge(&node, "/s", &[("Soft-Purge", "1")]);
    assert!(get(&node, "/s", "").body == *object.body);
    assert_eq!(origin.total("/s"), asked + 1, "one question, no slice");
}

#[test]
fn a_purge_needs_the_token_and_nothing_else_does() {
    let origin = Origin::start();
    let setup = proxy(&origin);
    let tokens = setup.path("tokens");
    std::fs::write(&tokens, "blob a\nslice secret\nops b\n").expect("written");
    let node = setup.arg("--token-file").arg(tokens.to_str().expect("UTF-8")).start();
    origin.put("/t", object(1, 1000));
    get(&node, "/t", "").must_be(200);
    node.slice().call(&Request::new("PURGE", "/t")).must_be(401);
    let wrong = Request::new("PURGE", "/t").header("Authorization", "Bearer b");
    node.slice().call(&wrong).must_be(401);
    purge(&node, "/t", &[("Authorization", "Bearer secret")]);
    assert_eq!(word(&get(&node, "/t", "")), "MISS");
}

#[test]
fn answers_that_depend_on_fields_are_kept_apart() {
    let origin = Origin::start();
    let mut node = proxy(&origin).start();
    let plain = object(1, MIB + 1);
    let object = Object { fields: format!("{}Vary: Accept-Language, X-None\r\n", plain.fields), ..plain };
    origin.put("/v", object.clone());
    let ask = |node: &Node, language: &str, agent: &str| {
        let request =
            Request::new("GET", "/v").header("Accept-Language", language).header("User-Agent", agent);
        let reply = node.slice().call(&request).must_be(200);
        assert!(reply.body == *object.body);
        word(&reply).to_owned()
    };
    for (language, agent, word) in [
        ("en", "a", "MISS"),
        ("de", "a", "MISS"),
        ("en", "b", "HIT"),
        ("de", "b", "HIT"),
        ("en, de", "a", "MISS"),
    ] {
        assert_eq!(ask(&node, language, agent), word, "{language} {agent}");
    }
    must_be_stored(&node, "/v");
    node.kill();
    node = node.start_again();
    for language in ["en", "de", "en,  de"] {
        assert_eq!(ask(&node, language, "c"), "HIT", "{language}");
    }
}
