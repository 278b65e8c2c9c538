//! Requests that wait for the same question (RFC 9111 §4, "collapse requests"): its answer is for all of them only if it may be used
//! again; else each of them has one of its own, and they ask at once, not one after the other.

use super::once::at_once;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tests::http::Request;
use tests::node::{Node, Setup};
use tests::scripted::{Asked, Scripted, answer, honest};

const CLIENTS: usize = 24;
/// What the origin takes for each answer. Clients who arrive within it wait for one question.
const ANSWER: Duration = Duration::from_millis(400);

fn node(origin: &Scripted) -> Node {
    Setup::new().origin(&origin.url()).arg("--slice-size").arg("1MiB").start()
}

/// An origin that takes its time.
fn slow(says: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static) -> Scripted {
    Scripted::start_saying(move |asked, to| {
        std::thread::sleep(ANSWER);
        to.write_all(&says(asked))
    })
}

/// What each of the clients is given, in no order.
fn crowd(node: &Node, path: &str, field: Option<(&str, &str)>) -> Vec<Vec<u8>> {
    let (bodies, begin) = (Mutex::new(Vec::new()), Instant::now());
    at_once(CLIENTS, |_| {
        let request = Request::new("GET", path);
        let request = field.into_iter().fold(request, |request, (name, value)| request.header(name, value));
        let reply = node.slice().call(&request).must_be(200);
        bodies.lock().expect("unpoisoned").push(reply.body);
    });
    let took = begin.elapsed();
    assert!(took < ANSWER * 6, "{path}: one after the other, {took:?}");
    bodies.into_inner().expect("unpoisoned")
}

#[test]
fn what_is_for_one_client_is_given_to_one() {
    let origin = slow(|asked| {
        let fields = match asked.target() {
            "/private" => "Cache-Control: private, max-age=60\r\nETag: \"1\"\r\n",
            "/no-store" => "Cache-Control: no-store\r\n",
            "/cookie" => "Cache-Control: max-age=60\r\nSet-Cookie: who=me\r\n",
            "/any" => "Cache-Control: max-age=60\r\nVary: *\r\n",
            "/no-cache" => "Cache-Control: no-cache\r\n",
            _ => "Cache-Control: max-age=0\r\n",
        };
        answer(200, fields, format!("the answer number {}", asked.before).as_bytes())
    });
    let node = node(&origin);
    for path in ["/private", "/no-store", "/cookie", "/any", "/no-cache", "/expired"] {
        let mut bodies = crowd(&node, path, None);
        bodies.sort();
        bodies.dedup();
        assert_eq!(bodies.len(), CLIENTS, "{path}: an answer was given to several");
        // The first question shows that nothing can be stored; whoever asked it may ask again.
        let asked = origin.asked_for(path).len();
        assert!((CLIENTS..=CLIENTS + 2).contains(&asked), "{path}: {asked} requests");
    }
}

#[test]
fn what_must_be_validated_is_validated_for_each() {
    let origin = slow(|asked| {
        let fields = if asked.target() == "/no-cache" { "no-cache" } else { "max-age=60" };
        honest(asked, "\"1\"", &format!("Cache-Control: {fields}\r\n"), &[7; 3000])
    });
    let node = node(&origin);
    let no_cache = ("Cache-Control", "no-cache");
    for (path, field, expected) in
        [("/no-cache", None, CLIENTS), ("/by-client", Some(no_cache), CLIENTS), ("/fresh", None, 1)]
    {
        for is_known in [false, true] {
            let before = origin.asked_for(path).len();
            assert!(crowd(&node, path, field).iter().all(|body| *body == [7; 3000]), "{path}");
            let asked = &origin.asked_for(path)[before..];
            let expected = if is_known && path == "/fresh" { 0 } else { expected };
            assert_eq!(asked.len(), expected, "{path}, known: {is_known}");
            let conditional = asked.iter().filter(|asked| asked.field("if-none-match").is_some()).count();
            assert_eq!(
                conditional,
                expected.saturating_sub(usize::from(!is_known)),
                "{path}: bodies came twice"
            );
        }
    }
}

#[test]
fn who_validates_hears_of_a_new_version() {
    let origin = slow(|asked| {
        let version = if asked.before == 0 { 1 } else { 2 };
        let etag = format!("\"{version}\"");
        honest(asked, &etag, "Cache-Control: no-cache\r\n", &[version; 3000])
    });
    let node = node(&origin);
    let bodies = crowd(&node, "/changes", None);
    assert_eq!(bodies.iter().filter(|body| **body == [1; 3000]).count(), 1, "the first one's own");
    assert_eq!(bodies.iter().filter(|body| **body == [2; 3000]).count(), CLIENTS - 1);
}
