//! What a client says over HTTP/2 means what it means over HTTP/1.1.

use std::time::Duration;
use tests::command::{self, Finished};
use tests::node::{Node, Setup};
use tests::scripted::{Scripted, honest};

const DEADLINE: Duration = Duration::from_secs(60);
const FRESH: &str = "Cache-Control: max-age=3600\r\n";

fn start(origin: &Scripted) -> Node {
    Setup::new().origin(&origin.url()).start()
}

fn curl(node: &Node, path: &str, args: &[&str]) -> Finished {
    let url = format!("http://{}{path}", node.setup.slice);
    let told = ["--http2-prior-knowledge", "-w", " %{http_version} %header{x-cache}", &url];
    command::run(node.setup.curl().args(args).args(told), DEADLINE).must_succeed()
}

#[test]
fn a_get_with_a_body_is_between_its_client_and_the_origin() {
    let origin = Scripted::start(|asked| {
        let body = if asked.body.is_empty() { b"stored" } else { asked.body.as_slice() };
        honest(asked, "\"1\"", FRESH, body)
    });
    let node = start(&origin);
    let with_body = ["-X", "GET", "--data-binary", "mine"];
    assert_eq!(curl(&node, "/cold", &with_body).text(), "mine 2 BYPASS");
    assert_eq!(curl(&node, "/cold", &[]).text(), "stored 2 MISS 0/1");
    // Neither from what is stored, nor from what is at hand.
    for _ in 0..8 {
        curl(&node, "/cold", &[]);
    }
    assert_eq!(curl(&node, "/cold", &with_body).text(), "mine 2 BYPASS");
    let of_no_length = ["-X", "GET", "-T", "/etc/hostname", "-H", "Content-Length:"];
    assert!(curl(&node, "/cold", &of_no_length).text().ends_with("2 BYPASS"));
}

#[test]
fn crumbs_of_a_cookie_come_to_the_origin_as_one() {
    let origin = Scripted::start(|asked| honest(asked, "\"1\"", FRESH, b"well"));
    let node = start(&origin);
    curl(&node, "/a", &["-H", "Cookie: a=1", "-H", "Cookie: b=2", "-H", "Cookie: c=3"]);
    assert_eq!(origin.asked_for("/a")[0].fields("cookie"), ["a=1; b=2; c=3"]);
}
