//! The access log: a line for each request, whatever became of it, in the file that has the name.

use super::{MIB, get, object, proxy};
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};
use tests::http::Request;
use tests::node::Node;
use tests::origin::Origin;

/// Lines reach the file within a fraction of a second.
fn lines(path: &Path, count: usize) -> Vec<String> {
    let begin = Instant::now();
    loop {
        let text = fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if lines.len() >= count {
            assert_eq!(lines.len(), count, "{text}");
            return lines;
        }
        assert!(begin.elapsed() < Duration::from_secs(10), "{count} lines are to be there: {text}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn logged(node: &Node, name: &str) -> u64 {
    let text = node.ops().call(&Request::new("GET", "/metrics")).must_be(200);
    tests::exposition::Exposition::parse(text.text()).expect("valid").sum(name, |_| true) as u64
}

#[test]
fn each_request_is_a_line_in_the_file_that_has_the_name() {
    let origin = Origin::start();
    // Lines of one column are in the order of its answers.
    let setup = proxy(&origin).cpuset(tests::node::cpuset(1));
    let (path, moved) = (setup.path("access.log"), setup.path("access.log.1"));
    let mut node = setup.arg("--slice-access-log").arg(path.to_str().expect("UTF-8")).start();
    origin.put("/a", object(1, 3 * MIB));
    get(&node, "/a", "bytes=0-9").must_be(206);
    get(&node, "/a", "").must_be(200);
    let odd = Request::new("GET", "/a?q=%22").header("User-Agent", "x\"y").header("Referer", "http://r/");
    node.slice().call(&odd).must_be(404);
    get(&node, "/%zz", "").must_be(400);
    let mut conn = node.slice();
    conn.send(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").expect("sent");
    conn.receive("GET").expect("a reply").must_be(400);
    let found = lines(&path, 5);
    let has = |at: usize, text: &str| assert!(found[at].contains(text), "{text} in {}", found[at]);
    found.iter().for_each(|line| assert!(line.starts_with("127.0.0.1 - - ["), "{line}"));
    has(0, "\"GET /a HTTP/1.1\" 206 10 \"-\" ");
    has(0, "\"MISS 0/1\" 0.");
    has(1, "\"GET /a HTTP/1.1\" 200 3145728 \"-\" ");
    // How many of them were here depends on how fast the first one came.
    has(1, "/3\" 0.");
    has(2, "\"GET /a?q=%22 HTTP/1.1\" 404 4 \"http://r/\" \"x\\x22y\" \"BYPASS\" ");
    has(3, "\"GET /%zz HTTP/1.1\" 400 ");
    has(4, "\"-\" 400 ");
    assert_eq!(logged(&node, "slicecache_access_log_lines_total"), 5);
    assert_eq!(logged(&node, "slicecache_access_log_dropped_total"), 0);
    for (at, reopen) in [Node::usr1, Node::hup].into_iter().enumerate() {
        fs::rename(&path, &moved).expect("moved");
        reopen(&node);
        let begin = Instant::now();
        while !path.exists() {
            assert!(begin.elapsed() < Duration::from_secs(10), "it is opened anew");
            thread::sleep(Duration::from_millis(10));
        }
        get(&node, "/a", "").must_be(200);
        assert!(lines(&path, 1)[0].contains("\"HIT 3/3\""));
        assert_eq!(lines(&moved, if at == 0 { 5 } else { 1 }).len(), if at == 0 { 5 } else { 1 });
    }
    get(&node, "/a", "").must_be(200);
    node.stop();
    assert_eq!(lines(&path, 2).len(), 2, "what was answered last is there when the node has stopped");
}

#[test]
fn lines_may_be_json_over_http2_too() {
    let origin = Origin::start();
    let setup = proxy(&origin);
    let path = setup.path("access.json");
    let setup = setup.arg("--slice-access-format").arg("json");
    let node = setup.arg("--slice-access-log").arg(path.to_str().expect("UTF-8")).start();
    origin.put("/a", object(1, 1000));
    let mut curl = node.setup.curl();
    curl.arg("--http2-prior-knowledge").arg(format!("http://{}/a", node.setup.slice));
    assert_eq!(tests::command::run(&mut curl, Duration::from_secs(30)).code, 0);
    let line: serde_json::Value = serde_json::from_str(&lines(&path, 1)[0]).expect("JSON");
    let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
    assert_eq!(
        (text("method"), text("target"), text("protocol")),
        ("GET".into(), "/a".into(), "HTTP/2.0".into())
    );
    assert_eq!((text("cache"), text("remote_addr")), ("MISS".into(), "127.0.0.1".into()));
    assert_eq!((line["status"].as_u64(), line["body_bytes_sent"].as_u64()), (Some(200), Some(1000)));
    assert_eq!((line["slices_here"].as_u64(), line["slices"].as_u64()), (Some(0), Some(1)));
    assert!(line["request_time"].as_f64().is_some_and(|seconds| seconds > 0.0), "{line}");
}

#[test]
fn a_log_that_cannot_be_opened_is_refused() {
    let origin = Origin::start();
    let refused = proxy(&origin).arg("--slice-access-log").arg("/proc/none/log").run_refused();
    assert_eq!(refused.code, 78, "{}", refused.stderr);
    assert!(refused.stderr.contains("--slice-access-log /proc/none/log"), "{}", refused.stderr);
}
